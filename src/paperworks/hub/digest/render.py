"""A mail from its view model: headers, a text part, an HTML part. No query and no clock here.

The text part is written from the same model by a template of its own; it is not the HTML with its tags taken off.
HTML: tables and inline styles for mail programs that know nothing else, a style sheet for those that switch to dark. No picture,
no script, no address but the hub's own and no link that counts who presses it.
"""

from __future__ import annotations

import binascii
import re
import textwrap
import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import cache, lru_cache
from pathlib import Path
from urllib.parse import quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from paperworks.config import Settings
from paperworks.errors import InputError
from paperworks.hub.digest import addresses
from paperworks.hub.text import first_sentences, tex_to_unicode
from paperworks.hub.views import DigestView, PaperCard

TEMPLATES = Path(__file__).parent / "templates"
EXCERPT = 420  # characters
TITLE = 300
SHORT = 160  # a name, a reason, a heading
AUTHORS = 3
MAX_HTML = 100_000  # bytes; longer mails are cut by the largest mail provider
# Headers on one line each: some signers fold long ones in a way that breaks their own signature.
WIRE = SMTP.clone(max_line_length=900)
VERDICT_WORDS = (("reproduced", "reproduced"), ("partly", "partly"), ("refuted", "refuted"))
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class PaperLine:
    """A paper as a mail shows it: plain Unicode, ready to be escaped."""

    title: str
    url: str
    authors: str
    excerpt: str
    heat: str
    runs_here: bool
    use: str
    verdicts: str
    similar_url: str
    code_url: str
    method_url: str
    number: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    papers: tuple[PaperLine, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """A rendered mail body."""

    subject: str
    text: str
    html: str


def paper_line(card: PaperCard, base_url: str) -> PaperLine:
    """What a mail says of a paper. Cheap to ask again: the text work is remembered."""
    title, excerpt = _words_of(card.title, card.abstract)
    names = [_cut(one_line(author.name), SHORT) for author in card.authors]
    authors = ", ".join(names[:AUTHORS]) + (f" and {len(names) - AUTHORS} more" if len(names) > AUTHORS else "")
    url = f"{base_url}/paper/{quote(card.ref, safe='/:.')}"
    runs_here = card.state == "runs-here"
    return PaperLine(
        title=title,
        url=url,
        authors=authors,
        excerpt=excerpt,
        heat=_cut(capital(one_line(card.heat.sentence)), SHORT) if card.heat else "",
        runs_here=runs_here,
        use=_cut(one_line(card.use), SHORT) if runs_here else "",
        verdicts=_verdicts(card) if runs_here else "",
        similar_url=f"{url}/similar",
        code_url=card.code_url if card.code_url and _is_web(card.code_url) and not runs_here else "",
        method_url=f"{url}/method" if runs_here else "",
    )


def sections_of(view: DigestView) -> tuple[Section, ...]:
    """The sections of a mail, papers numbered through."""
    number = 0
    made = []
    for section in view.sections:
        lines = []
        for card, reason in zip(section.cards, section.reasons, strict=True):
            number += 1
            said = _cut(capital(one_line(reason)), SHORT)
            if said == section.title:  # the heading has said it
                said = ""
            lines.append(replace(paper_line(card, view.base_url), number=number, reason=said))
        made.append(Section(_cut(one_line(tex_to_unicode(section.title)), SHORT), tuple(lines)))
    return tuple(made)


def render(view: DigestView) -> Parts:
    """Text and HTML of a digest. The HTML stays under 100 KB: if it does not, excerpts are shortened until it does."""
    sections = sections_of(view)
    context = {"view": view, "lead": _lead(sections)}
    text = _template("digest.txt").render(sections=sections, **context)
    html = _template("digest.html").render(sections=sections, **context)
    keep = EXCERPT
    while len(html.encode()) > MAX_HTML and keep > 20:
        keep //= 2
        sections = tuple(
            replace(section, papers=tuple(_shortened(line, keep) for line in section.papers)) for section in sections
        )
        html = _template("digest.html").render(sections=sections, **context)
    return Parts(view.subject, tidy(text), html)


def render_confirmation(hub_name: str, wish: str, confirm_url: str, never_url: str, days: int) -> Parts:
    """The mail that asks whether a subscription is wanted."""
    context = {"hub_name": hub_name, "wish": capital(one_line(wish)), "confirm_url": confirm_url}
    context |= {"never_url": never_url, "days": str(days)}
    text = _template("confirm.txt").render(context)
    html = _template("confirm.html").render(context)
    return Parts("Please confirm: papers by mail", tidy(text), html)


def message(
    settings: Settings,
    parts: Parts,
    recipient: str,
    message_id: str,
    at: datetime,
    *,
    unsubscribe_url: str = "",
    ticket: str = "",
) -> EmailMessage:
    """The whole mail. With `unsubscribe_url` it is a list mail with all the headers of one, without it a personal one.

    Raises InputError when the sender in the settings is not a mail address.
    """
    mail = EmailMessage(policy=SMTP)
    sender_name, sender = sender_of(settings)
    mail["From"] = Address(sender_name, addr_spec=sender)
    mail["To"] = Address(addr_spec=recipient)
    mail["Subject"] = header_text(parts.subject)
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = message_id
    mail["Auto-Submitted"] = "auto-generated"
    if unsubscribe_url:
        mail["List-Id"] = f"<{list_id(settings)}>"
        by_mail = f"<mailto:{sender}?subject=unsubscribe%20{quote(ticket)}>"
        if one_click(unsubscribe_url):
            mail["List-Unsubscribe"] = f"<{unsubscribe_url}>, {by_mail}"
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        else:
            mail["List-Unsubscribe"] = by_mail
        mail["Precedence"] = "bulk"
    mail["MIME-Version"] = "1.0"
    mail["Content-Type"] = "multipart/alternative"
    mail.set_boundary(f"=_{message_id.strip('<>').partition('@')[0][:48]}")  # so that the same mail has the same bytes
    mail.attach(_part(parts.text, "plain"))
    mail.attach(_part(parts.html, "html"))
    return mail


def _part(text: str, subtype: str) -> EmailMessage:
    """What `set_content(..., cte="quoted-printable")` makes, by the C encoder: a mail has sixty kilobytes of it."""
    part = EmailMessage(policy=SMTP)
    part["Content-Type"] = f'text/{subtype}; charset="utf-8"'
    part["Content-Transfer-Encoding"] = "quoted-printable"
    part.set_payload(binascii.b2a_qp(text.encode("utf-8", "replace"), istext=True).decode("ascii"))
    return part


def wire_bytes(mail: EmailMessage) -> bytes:
    """The mail as it is handed over: CRLF, each header on one line."""
    return mail.as_bytes(policy=WIRE)


def sender_of(settings: Settings) -> tuple[str, str]:
    """Name and address of the setting `mail.sender`. Raises InputError for what is not one address."""
    name, bracket, rest = settings.mail.sender.rpartition("<")
    try:
        address = addresses.normalise(rest.removesuffix(">") if bracket else settings.mail.sender)
    except InputError as error:
        raise InputError(
            f"mail.sender must be like 'paperworks <papers@example.org>', got {settings.mail.sender!r}: {error}"
        ) from error
    return header_text(name.strip(' "')), address


def host_of(base_url: str) -> str:
    """The host of the hub as it may stand in a Message-ID or a List-Id.

    >>> host_of("https://papers.example.org/hub"), host_of("http://127.0.0.1:8000")
    ('papers.example.org', 'paperworks.localhost')
    """
    host = (urlsplit(base_url).hostname or "").encode("idna").decode("ascii")
    is_name = re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", host) and not re.fullmatch(r"[0-9.]+", host)
    return host if is_name else "paperworks.localhost"


def list_id(settings: Settings) -> str:
    """What `List-Id` names: the setting `mail.list_id`, else `paperworks.HOST`."""
    given = re.sub(r"[^A-Za-z0-9.-]", "", settings.mail.list_id)
    host = host_of(settings.base_url)
    return given or (host if host.startswith("paperworks.") else f"paperworks.{host}")


def one_click(url: str) -> bool:
    """Whether a mail program may post to that address: https, as RFC 8058 asks, or a hub on one's own machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in _LOOPBACK


@lru_cache(maxsize=16384)
def one_line(text: str) -> str:
    """Text that cannot leave its line: controls, line separators and marks of direction become spaces.

    >>> one_line("a\\r\\nBcc: b\\u2028c")
    'a Bcc: b c'
    """
    kept = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign for sign in text)
    return " ".join(re.sub("[\u202a-\u202e\u2066-\u2069]", "", kept).split())


def header_text(text: str) -> str:
    """Text as it may stand in a header: on one line, and without anything that reads as an encoded word.

    The standard library decodes encoded words when a header is set, line breaks in them included, and would write them out.

    >>> header_text("=?utf-8?q?a=0D=0ABcc:_b?= c")
    '= ?utf-8?q?a=0D=0ABcc:_b?= c'
    """
    return one_line(text).replace("=?", "= ?")


def capital(text: str) -> str:
    """
    >>> capital("new in cs.LG")
    'New in cs.LG'
    """
    return text[:1].upper() + text[1:]


def tidy(text: str) -> str:
    """A text part with no more than one empty line in a row and none at its ends."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"


@lru_cache(maxsize=16384)
def filled(text: str, indent: int = 0, width: int = 72) -> str:
    """Text in lines of at most `width`; words longer than that (addresses) stay whole."""
    lines = textwrap.wrap(text, width - indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(" " * indent + line for line in lines)


@lru_cache(maxsize=4096)
def _words_of(title: str, abstract: str) -> tuple[str, str]:
    said = one_line(tex_to_unicode(abstract))
    return _cut(one_line(tex_to_unicode(title)) or "Untitled", TITLE), _cut(first_sentences(said, 2), EXCERPT)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    kept = text[: most - 1]
    at_word = kept.rpartition(" ")[0]
    return (at_word if len(at_word) > most // 2 else kept).rstrip(" ,;:.") + "…"


def _shortened(line: PaperLine, keep: int) -> PaperLine:
    return replace(
        line, excerpt=_cut(line.excerpt, keep), authors=_cut(line.authors, keep), title=_cut(line.title, max(keep, 100))
    )


def _verdicts(card: PaperCard) -> str:
    """
    >>> from types import SimpleNamespace
    >>> _verdicts(SimpleNamespace(verdicts=("reproduced", "reproduced", "not-measured")))
    '2 of 3 claims reproduced here'
    """
    n = len(card.verdicts)
    counts = {words: sum(verdict == name for verdict in card.verdicts) for name, words in VERDICT_WORDS}
    said = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    if not n or not said:
        return ""
    first, *rest = said.split(", ")
    number, word = first.split(" ", 1)
    return ", ".join([f"{number} of {n} {'claim' if n == 1 else 'claims'} {word}", *rest]) + " here"


def _lead(sections: tuple[Section, ...]) -> str:
    """What mail programs show beside the subject: the first titles."""
    titles = [line.title for section in sections for line in section.papers]
    return _cut(" · ".join(titles[:3]), 180)


def _is_web(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


@cache
def _environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["filled"] = filled
    return env


def _template(name: str) -> Template:
    return _environment().get_template(name)

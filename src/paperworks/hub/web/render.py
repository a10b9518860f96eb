"""From view models to HTML: the one Jinja environment, its filters, and `page`.

Templates hold no query and no arithmetic, and cannot switch escaping off (a test greps for it). The three things that reach a page
as HTML are made here and cleaned by nh3 or built by us: mathematics, a paper's own README, and marked matches.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import nh3
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from paperworks.hub import text as hub_text
from paperworks.hub.views import PaperCard, Verdict
from paperworks.hub.web import timing
from paperworks.progress import duration

HERE = Path(__file__).parent
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "theme"
VERDICT_WORDS: dict[str, str] = {
    "reproduced": "Reproduced",
    "partly": "Partly",
    "refuted": "Refuted",
    "not-measured": "Not measured",
}
STATE_WORDS: dict[str, str] = {
    "runs-here": "Runs here",
    "method-to-come": "Method to come",
    "code-elsewhere": "Code elsewhere",
    "paper-only": "Paper only",
}
README_TAGS = {
    *(
        "p",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "pre",
        "code",
        "em",
        "strong",
        "a",
        "blockquote",
        "hr",
        "br",
    ),
    *("table", "thead", "tbody", "tr", "th", "td", "del", "sub", "sup"),
}


def ref_path(ref: str) -> str:
    """A paper's ref as it stands in an address; the slash of old arXiv ids and of DOIs stays."""
    return quote(ref, safe="/:.")


def address(path: str, **parameters: object) -> str:
    """A path with a query string; parameters that are None or empty are left out."""
    given = {key: value for key, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def tex(text: str) -> Markup:
    """Formulas as MathML, everything else escaped (see `hub.text.tex_to_mathml_html`)."""
    return Markup(hub_text.tex_to_mathml_html(text))


_FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)


def marked(text: str, marks: tuple[tuple[int, int], ...]) -> Markup:
    """`text` with the spans in `marks` in <mark>; a span that touches a formula is left unmarked."""
    formulas = [match.span() for match in _FORMULA.finditer(text)]
    parts: list[Markup] = []
    at = 0
    for start, end in sorted(marks):
        if start < at or not start < end <= len(text) or any(a < end and start < b for a, b in formulas):
            continue
        parts += [tex(text[at:start]), Markup("<mark>{}</mark>").format(text[start:end])]
        at = end
    parts.append(tex(text[at:]))
    return Markup("").join(parts)


@lru_cache(maxsize=64)
def readme(text: str) -> Markup:
    """A README of one of our papers as HTML: its first heading dropped (the page has one), the others one level down."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = reader.parse(text)
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    made = reader.renderer.render(tokens, reader.options, {})
    clean = nh3.clean(
        made,
        tags=README_TAGS,
        attributes={"a": {"href"}, "code": {"class"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer",
    )
    return Markup(clean.replace("<pre>", '<pre tabindex="0">'))


def first_sentences(text: str, n: int = 2) -> str:
    return hub_text.first_sentences(text, n)


def day(text: str | None) -> str:
    """A day or a moment as people write it: '21 August 2026'."""
    if not text:
        return ""
    try:
        moment = date.fromisoformat(text[:10])
    except ValueError:
        return text
    return f"{moment.day} {moment:%B %Y}"


def weekday(text: str) -> str:
    try:
        moment = date.fromisoformat(text[:10])
    except ValueError:
        return text
    return f"{moment:%A} {moment.day} {moment:%B %Y}"


def moment(text: str | None) -> str:
    """A UTC moment: '21 August 2026, 07:04 UTC'."""
    return f"{day(text)}, {text[11:16]} UTC" if text and len(text) > 15 else day(text)


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, one: str, many: str = "") -> str:
    """'1 paper', '2,310 papers'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def number(value: float | None) -> str:
    """A figure for people: four digits, no exponent where it can be avoided."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def minutes(value: float | None) -> str:
    """Expected duration: 'about 3 min 20 s'."""
    return "" if value is None else f"about {duration(value * 60)}"


def seconds(value: float | None) -> str:
    return "" if value is None else duration(value)


def authors_line(card: PaperCard, most: int = 3) -> dict[str, Any]:
    """The first authors and how many more; one more name is shown rather than 'and 1 more'."""
    shown = card.authors if len(card.authors) <= most + 1 else card.authors[:most]
    return {"shown": shown, "more": len(card.authors) - len(shown)}


def tally(verdicts: tuple[Verdict, ...]) -> str:
    """Verdicts in words: '3 reproduced, 1 partly'."""
    counts = [
        (verdicts.count(name), VERDICT_WORDS[name].lower())
        for name in ("reproduced", "partly", "refuted", "not-measured")
    ]
    return ", ".join(f"{n} {word}" for n, word in counts if n)


@cache
def environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        auto_reload=False,
    )
    env.filters.update(
        {
            "tex": tex,
            "plain_tex": hub_text.tex_to_unicode,
            "readme": readme,
            "first_sentences": first_sentences,
            "day": day,
            "weekday": weekday,
            "moment": moment,
            "count": count,
            "plural": plural,
            "number": number,
            "minutes": minutes,
            "seconds": seconds,
            "authors_line": authors_line,
            "tally": tally,
            "ref_path": ref_path,
            "path_part": lambda text: quote(text, safe=""),
        }
    )
    env.globals.update(
        address=address, marked=marked, verdict_words=VERDICT_WORDS, state_words=STATE_WORDS, asset=asset, themes=THEMES
    )
    return env


@lru_cache(maxsize=16)
def asset(name: str) -> str:
    """Address of a static file with a hash of its content, so that it may be kept for a year."""
    import hashlib

    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def theme_of(request: Request) -> str:
    theme = request.cookies.get(THEME_COOKIE, "auto")
    return theme if theme in THEMES else "auto"


def page(request: Request, template: str, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """Render a template over the frame that all pages share."""
    hub = request.app.state.hub
    now: datetime = hub.now().astimezone(UTC)
    with timing.span("render"):
        body = (
            environment()
            .get_template(template)
            .render(
                request_path=request.url.path,
                request_address=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
                hub_name=hub.settings.hub_name,
                theme=theme_of(request),
                today=now.strftime("%Y-%m-%d"),
                **context,
            )
        )
    response = HTMLResponse(body, status_code)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Vary"] = "Cookie"
    return response


__all__ = ["address", "environment", "escape", "page", "ref_path", "tex"]

"""The written mail: headers nobody can inject into, a text part that is text, an HTML part that is safe, small and quiet."""

from __future__ import annotations

import re
from email.headerregistry import Address
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from paperworks.config import load
from paperworks.errors import InputError
from paperworks.hub.digest import render
from paperworks.hub.digest.compose import heading
from paperworks.hub.views import AuthorView, DigestSection, DigestView, HeatView, PaperCard

from .town import NOON, Town, part, read

XSS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "'; alert(1); '",
    "{{ 7*7 }}{% for x in y %}",
    "</title><script>alert(1)</script>",
    "<a href='javascript:alert(1)'>x</a>",
    r"$\href{javascript:alert(1)}{x}$",
    "<style>@import url(//evil.example)</style>",
    "]]><!--",
    "&#60;script&#62;",
    "\u202egnp.exe",
)
INJECTIONS = (
    "a\r\nBcc: all@example.org",
    "a\nBcc: all@example.org",
    "a\rBcc: all@example.org",
    "a\r\n\r\n<html>",
    "=?utf-8?q?a=0D=0ABcc:_all@example.org?=",
    "=?utf-8?b?YQ0KQmNjOiBhbGxAZXhhbXBsZS5vcmc=?=",
    "a\u2028Bcc: x",
    "a\x0bBcc: x\x0c\x85Bcc: y\x00",
)
text = st.text(max_size=200) | st.sampled_from(XSS + INJECTIONS)


def card(i: int = 1, **more: object) -> PaperCard:
    facts: dict[str, object] = {
        "id": i,
        "ref": f"2608.{10000 + i}",
        "title": f"Paper {i}",
        "authors": (AuthorView(name="Ada Writer", key="ada writer"),),
        "abstract": "One. Two. Three.",
        "published": "2026-08-20",
        "announced": "2026-08-21",
        "first_seen": "2026-08-21T05:00:00Z",
        "categories": ("cs.LG",),
        "state": "paper-only",
        "slug": None,
    }
    return PaperCard(**(facts | more))  # type: ignore[arg-type]


def view(*cards: PaperCard, title: str = "New in cs.LG", reason: str = "new in cs.LG", **more: object) -> DigestView:
    facts: dict[str, object] = {
        "subject": "7 papers · Friday 21 August",
        "date": "2026-08-21",
        "hub_name": "paperworks",
        "base_url": "https://papers.example.org",
        "sections": (DigestSection(title=title, cards=cards, reasons=(reason,) * len(cards)),),
        "unsubscribe_url": "https://papers.example.org/u/TICKET",
        "manage_url": "https://papers.example.org/u/TICKET",
        "count": len(cards),
    }
    return DigestView(**(facts | more))  # type: ignore[arg-type]


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


ALLOWED = frozenset(
    ("html", "head", "meta", "title", "style", "body", "div", "table", "tr", "td", "h2", "h3", "p", "a", "b", "br")
)


def check_html(html: str, base: str = "https://papers.example.org") -> None:
    for tag, attributes in Tags(html).tags:
        assert tag in ALLOWED, tag
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "background")]
        if "href" in attributes:
            assert str(attributes["href"]).startswith((base, "https://example.org/code")), attributes
        assert "url(" not in str(attributes.get("style", ""))
    assert html.count("<style>") == 1
    assert not re.search(r"url\(|@import", html.partition("<style>")[2].partition("</style>")[0])


@settings_of_hypothesis(deadline=None)
@given(text, text, text, text)
def test_text_from_outside_stays_text(title: str, abstract: str, name: str, reason: str) -> None:
    made = render.render(
        view(
            card(title=title, abstract=abstract, authors=(AuthorView(name=name, key="k"),)), title=reason, reason=reason
        )
    )
    check_html(made.html)
    for line in made.text.splitlines():
        assert len(line) <= 72 or " " not in line.strip() or "http" in line, line


@pytest.mark.parametrize("evil", XSS)
def test_no_script_gets_through_any_field_of_a_paper(evil: str) -> None:
    nasty = card(
        title=evil, abstract=evil, authors=(AuthorView(name=evil, key="k"),), state="runs-here", slug="x", use=evil,
        heat=HeatView(heat=1, readers=1, outside=0, age_hours=1, sentence=evil), code_url=evil, ref=evil,
    )  # fmt: skip
    made = render.render(view(nasty, title=heading("query", {"query": evil}), reason=evil, note=evil, hub_name=evil))
    check_html(made.html)
    assert "<script" not in made.html
    assert "49" not in made.text, "templates are not run twice"


@pytest.mark.parametrize("evil", INJECTIONS)
def test_no_header_can_be_injected(tmp_path: Path, evil: str) -> None:
    settings = load(
        tmp_path, mail={"sender": f"{evil} <hub@example.org>", "list_id": evil}, base_url="https://papers.example.org"
    )
    for wrong in (f"hub@example.org {evil}", f"hub <hub@example.org{evil}>", evil):
        with pytest.raises(InputError):
            render.sender_of(load(tmp_path, mail={"sender": wrong}))
    made = render.render(view(card(title=evil), subject=f"1 paper {evil}", hub_name=evil))
    mail = render.message(
        settings, made, "ada@example.org", "<1.2026-08-21@papers.example.org>", NOON,
        unsubscribe_url="https://papers.example.org/u/T", ticket="T",
    )  # fmt: skip
    path = tmp_path / "x.eml"
    path.write_bytes(render.wire_bytes(mail))
    back = read(path)
    assert back["Bcc"] is None
    assert len(back.get_all("To")) == 1
    assert [address.addr_spec for address in back["To"].addresses] == ["ada@example.org"]
    assert [address.addr_spec for address in back["From"].addresses] == ["hub@example.org"]
    assert back.get_content_type() == "multipart/alternative"
    assert sorted(back.keys()) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "List-Id", "List-Unsubscribe",
         "List-Unsubscribe-Post", "Precedence", "MIME-Version", "Content-Type"]
    )  # fmt: skip


@settings_of_hypothesis(deadline=None)
@given(text, text)
def test_any_subject_and_hub_name_gives_a_mail_of_its_own_headers(subject: str, hub_name: str) -> None:
    settings = load(Path("/nonexistent"), mail={"sender": "hub@example.org"})
    parts = render.Parts(subject, "text\n", "<p>html</p>")
    raw = render.wire_bytes(render.message(settings, parts, "ada@example.org", "<1@h>", NOON))
    head = raw.partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    assert names == [
        b"From",
        b"To",
        b"Subject",
        b"Date",
        b"Message-ID",
        b"Auto-Submitted",
        b"MIME-Version",
        b"Content-Type",
    ]
    assert b"\n" not in head.replace(b"\r\n", b"")


def test_headers_of_a_digest(town: Town) -> None:
    town.hub.settings.base_url = "https://papers.example.org"
    town.arrive()
    town.join()
    town.at("2026-08-22 07:00")
    town.beat()
    path = town.mails("digest")[0]
    mail = read(path)
    assert mail["Subject"] == "1 paper · Saturday 22 August"
    assert mail["List-Id"] == "<paperworks.papers.example.org>"
    ticket = re.search(r"/u/(\S+)", part(mail, "plain"))
    assert ticket
    assert mail["List-Unsubscribe"].startswith(
        f"<https://papers.example.org/u/{ticket[1]}>, <mailto:paperworks@localhost?"
    )
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert (mail["Auto-Submitted"], mail["Precedence"]) == ("auto-generated", "bulk")
    assert mail["Message-ID"].endswith(".2026-08-22@papers.example.org>")
    assert path.parent.name == "2026-08-22"
    raw = path.read_bytes()
    assert re.search(rb"\r\nList-Unsubscribe: <https[^\r\n]+>\r\n", raw), "on one line, for signers that fold badly"
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert max(len(line) for line in raw.split(b"\r\n\r\n", 1)[1].split(b"\r\n")) <= 78
    confirmation = read(town.mails("confirm")[0])
    assert confirmation["List-Unsubscribe"] is None
    assert "/never/" in part(confirmation, "plain")
    assert "/never/" in part(confirmation, "html")


def test_one_click_needs_https_or_ones_own_machine() -> None:
    assert render.one_click("https://papers.example.org/u/T")
    assert render.one_click("http://127.0.0.1:8000/u/T")
    assert not render.one_click("http://papers.example.org/u/T")


def test_the_text_part_is_written_not_stripped() -> None:
    made = render.render(
        view(
            card(
                title=r"Pruning with $\ell_1$ on $\mathbb{R}^n$ when a < b",
                abstract=r"A loss of $x^2$ & more. Two. Three.",
            )
        )
    )
    assert not re.search(r"</?[a-z]|&[a-z]+;|&#", made.text)
    assert "1. Pruning with ℓ₁ on ℝⁿ when a < b" in made.text
    assert "A loss of x² & more. Two." in made.text
    assert "Three" not in made.text
    assert "https://papers.example.org/paper/2608.10001\n" in made.text


def test_twenty_long_papers_stay_under_a_hundred_kilobytes() -> None:
    long = "Ünïcödé <&> words " * 300
    cards = [
        card(i, title=long, abstract=long, authors=tuple(AuthorView(name=long[:200], key=str(k)) for k in range(50)),
             state="runs-here", slug="x", use=long, ref="doi:10.1000/" + "x" * 200,
             heat=HeatView(heat=1, readers=1, outside=0, age_hours=1, sentence="heat 1.0: 1 reader here, 3 h old"))
        for i in range(20)
    ]  # fmt: skip
    made = render.render(view(*cards, reason=long))
    assert len(made.html.encode()) < render.MAX_HTML
    assert made.html.count("<h3") == 20
    usual = render.render(view(*(card(i, abstract="A sentence of some length about things. " * 20) for i in range(20))))
    assert len(usual.html.encode()) < 45_000


def test_runnable_papers_say_so_with_their_verdicts() -> None:
    runnable = card(
        state="runs-here", slug="iss", use="Squeeze images.", verdicts=("reproduced", "refuted", "not-measured")
    )
    made = render.render(
        view(runnable, card(2, code_url="https://example.org/code/1"), card(3, code_url="javascript:x"))
    )
    assert "Runs here: Squeeze images. (1 of 3 claims reproduced, 1 refuted here)" in made.text
    assert "https://papers.example.org/paper/2608.10001/method" in made.html
    assert "https://example.org/code/1" in made.html
    assert "javascript" not in made.html


def test_an_author_list_is_cut_at_three() -> None:
    many = card(authors=tuple(AuthorView(name=f"A{i}", key=str(i)) for i in range(8)))
    assert render.paper_line(many, "http://h").authors == "A0, A1, A2 and 5 more"


def test_a_sender_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mail\.sender"):
        render.sender_of(load(tmp_path, mail={"sender": "nobody"}))


def test_templates_never_switch_escaping_off() -> None:
    for path in render.TEMPLATES.iterdir():
        words = path.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape|http://|https://|<img", words), path.name


def test_the_same_mail_has_the_same_bytes(tmp_path: Path) -> None:
    settings = load(tmp_path)
    made = render.render(view(card()))
    raw = [render.wire_bytes(render.message(settings, made, "a@example.org", "<1.d@h>", NOON)) for _ in range(2)]
    assert raw[0] == raw[1]


def test_addresses_with_odd_signs_survive_the_header(tmp_path: Path) -> None:
    mail = render.message(
        load(tmp_path), render.Parts("s", "t\n", "h"), "o'hara+x{y}@xn--bcher-kva.example", "<1@h>", NOON
    )
    assert mail["To"].addresses == (Address(addr_spec="o'hara+x{y}@xn--bcher-kva.example"),)

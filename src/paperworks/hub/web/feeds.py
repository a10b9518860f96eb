"""Feeds out: Atom and JSON Feed of every list, from the same view models as the pages.

An entry's id names the paper, not its address here, so it stays the same when the hub moves. Feeds carry an ETag and the time of their
newest entry; an unchanged one costs nothing. Fifty entries at most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Literal
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError
from paperworks.hub.hub import Hub
from paperworks.hub.service import claims as claims_service
from paperworks.hub.service import papers as papers_service
from paperworks.hub.service import search as search_service
from paperworks.hub.service import votes as votes_service
from paperworks.hub.text import first_sentences, tex_to_unicode
from paperworks.hub.views import ClaimRow, PaperCard, Window
from paperworks.hub.web.api.answers import conditional
from paperworks.hub.web.asking import HubOf

router = APIRouter(prefix="/feed")

MOST = 50
AUTHORITY = "tag:paperworks.readthedocs.io,2026:"  # a name of the project's own, as RFC 4151 asks
MEDIA_TYPES = {"atom": "application/atom+xml; charset=utf-8", "json": "application/feed+json; charset=utf-8"}
ADDRESSES = (  # with {kind} atom or json
    ("Trending today, this week or this month", "/feed/trending.{kind}?window=week"),
    ("Any search, newest first", "/feed/q.{kind}?q={query}"),
    ("A category", "/feed/category/{code}.{kind}"),
    ("An author", "/feed/author/{key}.{kind}"),
    ("The papers of the latest day", "/feed/day.{kind}"),
    ("Changes of verdicts", "/feed/claims.{kind}"),
)
WINDOW_WORDS: dict[Window, str] = {"day": "today", "week": "this week", "month": "this month"}
VERDICT_WORDS = {
    "reproduced": "Reproduced",
    "partly": "Partly reproduced",
    "refuted": "Refuted",
    "not-measured": "Not measured",
}

Kind = Annotated[Literal["atom", "json"], InPath()]


@dataclass(frozen=True, slots=True)
class Entry:
    id: str
    title: str
    url: str
    updated: str  # 'YYYY-MM-DDTHH:MM:SSZ'
    published: str
    text: str
    authors: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    elsewhere: str | None = None  # the paper's own page


@dataclass(frozen=True, slots=True)
class Feed:
    id: str
    title: str
    home: str
    entries: tuple[Entry, ...] = field(default=())

    @property
    def updated(self) -> str:
        """The newest entry; a feed without any is as old as it can be, so that its ETag stays."""
        return max((entry.updated for entry in self.entries), default="1970-01-01T00:00:00Z")


@router.get("/trending.{kind}")
def trending(request: Request, hub: HubOf, kind: Kind, window: Annotated[Window, Query()] = "week") -> Response:
    cards = votes_service.trending(hub, window, limit=MOST)
    # without a time: votes change the order, and no paper in it is newer for that
    return _papers(
        request,
        hub,
        kind,
        f"trending/{window}",
        f"Trending {WINDOW_WORDS[window]}",
        f"/?window={window}",
        cards,
        dated=False,
    )


@router.get("/q.{kind}")
def query(request: Request, hub: HubOf, kind: Kind, q: Annotated[str, Query(max_length=2000)] = "") -> Response:
    """Newest first, and what holds the words: by meaning alone everything matches a little. The query may say otherwise."""
    asked = set(re.findall(r"(?:^|\s)(sort|mode):", q))
    found = search_service.search(
        hub,
        q,
        sort=None if "sort" in asked else "new",
        mode=None if "mode" in asked or not q.strip() else "words",
        size=MOST,
    )
    title = f"Papers: {found.canonical}" if found.canonical else "New papers"
    return _papers(
        request, hub, kind, f"q/{quote(found.canonical, safe='')}", title, f"/papers?{urlencode({'q': q})}", found.cards
    )


@router.get("/category/{code}.{kind}")
def category(request: Request, hub: HubOf, kind: Kind, code: Annotated[str, InPath(max_length=32)]) -> Response:
    found = papers_service.category_page(hub, code)
    return _papers(request, hub, kind, f"category/{code}", found.title, f"/category/{quote(code)}", found.cards)


@router.get("/author/{key}.{kind}")
def author(request: Request, hub: HubOf, kind: Kind, key: Annotated[str, InPath(max_length=400)]) -> Response:
    found = papers_service.author_page(hub, key)
    return _papers(
        request, hub, kind, f"author/{quote(key, safe='')}", found.title, f"/author/{quote(key)}", found.cards
    )


@router.get("/day.{kind}")
def latest_day(request: Request, hub: HubOf, kind: Kind) -> Response:
    found = papers_service.day_page(hub, None)
    return _papers(request, hub, kind, "day", "Papers of the latest day", "/day", found.cards)


@router.get("/day/{day}.{kind}")
def day(
    request: Request, hub: HubOf, kind: Kind, day: Annotated[str, InPath(pattern=r"^\d{4}-\d{2}-\d{2}$")]
) -> Response:
    found = papers_service.day_page(hub, day)
    return _papers(request, hub, kind, f"day/{found.day}", f"Papers of {found.day}", f"/day/{found.day}", found.cards)


@router.get("/claims.{kind}")
def claims(
    request: Request, hub: HubOf, kind: Kind, slug: Annotated[str | None, Query(max_length=80)] = None
) -> Response:
    """An entry for each measurement that stands: a new one, with a new verdict or the same, is a new entry."""
    rows = sorted(
        (row for row in claims_service.claim_rows(hub, slug) if row.measured_at),
        key=lambda row: str(row.measured_at),
        reverse=True,
    )
    base = _base(hub)
    title = f"Claims of {tex_to_unicode(rows[0].paper_title)}" if slug and rows else "Claims, as measured here"
    feed = Feed(
        f"{AUTHORITY}claims{f'/{slug}' if slug else ''}",
        f"{title} · {hub.settings.hub_name}",
        f"{base}/claims",
        tuple(_claim_entry(base, row) for row in rows[:MOST]),
    )
    return _answer(request, hub, kind, feed)


def _papers(
    request: Request,
    hub: Hub,
    kind: str,
    name: str,
    title: str,
    path: str,
    cards: Iterable[PaperCard],
    *,
    dated: bool = True,
) -> Response:
    base = _base(hub)
    entries = tuple(_paper_entry(base, card) for card in list(cards)[:MOST])
    return _answer(
        request,
        hub,
        kind,
        Feed(f"{AUTHORITY}{name}", f"{tex_to_unicode(title)} · {hub.settings.hub_name}", base + path, entries),
        dated,
    )


def _base(hub: Hub) -> str:
    return hub.settings.base_url.rstrip("/")


def _paper_entry(base: str, card: PaperCard) -> Entry:
    ref = quote(card.ref, safe="/:.")
    name = f"paper/{card.slug}" if card.ref.startswith("p:") and card.slug else f"paper/{ref}"
    parts = [tex_to_unicode(first_sentences(card.abstract, 3))]
    if card.state == "runs-here":
        parts.append(f"Runs here: {card.use}")
    if card.heat:
        parts.append(card.heat.sentence)
    if card.code_url:
        parts.append(f"Code: {card.code_url}")
    return Entry(
        id=f"{AUTHORITY}{name}",
        title=tex_to_unicode(card.title),
        url=f"{base}/paper/{ref}",
        updated=max(_moment(card.announced) or "", _moment(card.first_seen) or "") or "1970-01-01T00:00:00Z",
        published=_moment(card.published)
        or _moment(card.announced)
        or _moment(card.first_seen)
        or "1970-01-01T00:00:00Z",
        text="\n\n".join(part for part in parts if part),
        authors=tuple(author.name for author in card.authors),
        tags=card.categories,
        elsewhere=_elsewhere(card.ref),
    )


def _claim_entry(base: str, row: ClaimRow) -> Entry:
    measured = _moment(row.measured_at) or "1970-01-01T00:00:00Z"
    values = ", ".join(f"{value.name} {value.text}" for value in row.values)
    parts = [
        tex_to_unicode(row.statement),
        f"As printed: {row.printed} ({row.where})" if row.printed else "",
        f"Measured here at scale {row.scale}, {row.seeds} seed{'s' if row.seeds != 1 else ''}: {values}"
        if values
        else "",
        f"Reproduced means {row.reproduced_rule}; refuted means {row.refuted_rule}.",
        row.environment,
    ]
    return Entry(
        id=f"{AUTHORITY}claim/{row.slug}/{row.id}/{measured}",
        title=f"{VERDICT_WORDS[row.verdict]}: {tex_to_unicode(row.paper_title)} ({row.id})",
        url=f"{base}/paper/{quote(row.paper_ref, safe='/:.')}/claims",
        updated=measured,
        published=measured,
        text="\n\n".join(part for part in parts if part),
        tags=(row.verdict,),
    )


def _elsewhere(ref: str) -> str | None:
    """The abstract page of arXiv, as arXiv asks; or where the DOI leads."""
    if ref.startswith("p:"):
        return None
    if ref.startswith("doi:"):
        return f"https://doi.org/{quote(ref.removeprefix('doi:'), safe='/:.')}"
    return f"https://arxiv.org/abs/{quote(ref, safe='/.')}"


def _moment(text: str | None) -> str | None:
    """A day or a time of the store as RFC 3339 wants it."""
    if not text:
        return None
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        return f"{text}T00:00:00Z"
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)$", text, re.ASCII)
    return f"{found[1]}{found[2]}".replace("+00:00", "Z") if found else None


def _answer(request: Request, hub: Hub, kind: str, feed: Feed, dated: bool = True) -> Response:
    address = _base(hub) + request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if kind not in MEDIA_TYPES:
        raise InputError(f"a feed ends in .atom or .json, got {kind!r}")
    raw = atom(feed, address) if kind == "atom" else json_feed(feed, address)
    modified = format_datetime(datetime.fromisoformat(feed.updated).astimezone(UTC), usegmt=True) if dated else None
    return conditional(request, raw, MEDIA_TYPES[kind], modified=modified)


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPACE = "http://www.w3.org/2005/Atom"


def atom(feed: Feed, address: str) -> bytes:
    """The feed as Atom (RFC 4287). Texts are of type text: nothing in them is markup."""
    ElementTree.register_namespace("", _SPACE)
    root = ElementTree.Element(f"{{{_SPACE}}}feed")

    def add(parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
        made = ElementTree.SubElement(
            parent, f"{{{_SPACE}}}{name}", {key: _xml(value) for key, value in attributes.items()}
        )
        if text is not None:
            made.text = _xml(text)
        return made

    add(root, "id", feed.id)
    add(root, "title", feed.title)
    add(root, "updated", feed.updated)
    add(root, "link", rel="self", type="application/atom+xml", href=address)
    add(root, "link", rel="alternate", type="text/html", href=feed.home)
    add(add(root, "author"), "name", "paperworks")  # for entries whose authors are not known
    add(root, "generator", "paperworks", uri="https://paperworks.readthedocs.io")
    for entry in feed.entries:
        item = add(root, "entry")
        add(item, "id", entry.id)
        add(item, "title", entry.title)
        add(item, "updated", entry.updated)
        add(item, "published", entry.published)
        add(item, "link", rel="alternate", type="text/html", href=entry.url)
        if entry.elsewhere:
            add(item, "link", rel="related", type="text/html", href=entry.elsewhere)
        for name in entry.authors:
            add(add(item, "author"), "name", name)
        for tag in entry.tags:
            add(item, "category", term=tag)
        add(item, "summary", entry.text, type="text")
    made: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return made


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def json_feed(feed: Feed, address: str) -> bytes:
    """The feed as JSON Feed 1.1."""
    items = []
    for entry in feed.entries:
        item: dict[str, object] = {
            "id": entry.id,
            "url": entry.url,
            "title": entry.title,
            "content_text": entry.text,
            "date_published": entry.published,
            "date_modified": entry.updated,
            "authors": [{"name": name} for name in entry.authors],
            "tags": list(entry.tags),
        }
        if entry.elsewhere:
            item["external_url"] = entry.elsewhere
        items.append(item)
    body = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": feed.title,
        "home_page_url": feed.home,
        "feed_url": address,
        "items": items,
    }
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")

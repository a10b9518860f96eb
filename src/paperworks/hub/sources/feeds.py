"""RSS and Atom feeds of anybody. The address was given by a person: only public hosts are asked, and no XML with entities is read.

Entries that name a paper (by id, link or `dc:identifier`) become that paper; others are papers known by their address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from pydantic import ValidationError

from paperworks.config import SourceSettings
from paperworks.errors import InputError, SourceError
from paperworks.hub.identifiers import parse_reference
from paperworks.hub.records import Batch, PaperRecord, RefusedEntry
from paperworks.hub.sources.arxiv import category_codes
from paperworks.hub.sources.base import refuse, take
from paperworks.hub.sources.http import Answer, PoliteClient
from paperworks.hub.sources.oai import split_authors
from paperworks.hub.text import plain

MOST_ENTRIES = 2_000
DEEPEST = 60
_DANGEROUS = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


def make(config: Mapping[str, Any], settings: SourceSettings) -> FeedSource:
    given = take(config, "feed", ("url",))
    if not isinstance(given.get("url"), str):
        raise InputError("a source of kind feed needs the url of an RSS or Atom feed")
    return FeedSource(given["url"], settings, name=given.get("name"))


class FeedSource:
    """One feed. The cursor keeps what the server said about the state of the feed, so that an unchanged one costs nothing."""

    kind = "feed"

    def __init__(
        self, url: str, settings: SourceSettings | None = None, *, name: str | None = None, public: bool = True
    ) -> None:
        if not re.match(r"https?://[^\s]+$", url) or len(url) > 2000:
            raise InputError(f"{url[:100]!r} is not the address of a feed; give one that starts with https://")
        self.url, self.public = url, public
        self.settings = settings or SourceSettings()
        self.name = name or url[:200]

    def fetch(self, cursor: str | None, http: PoliteClient) -> Iterator[Batch]:
        etag, modified = _validators(cursor)
        before = http.requests
        answer = http.get(
            self.url, accept="application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.1", etag=etag, last_modified=modified,
            public=self.public,
        )  # fmt: skip
        if answer.not_modified:
            yield Batch(cursor=cursor, requests=http.requests - before)
            return
        records, refused = parse(answer)
        after = json.dumps([answer.etag, answer.last_modified])
        yield Batch(records=records, refused=refused, cursor=after, requests=http.requests - before)


def _validators(cursor: str | None) -> tuple[str | None, str | None]:
    try:
        etag, modified = json.loads(cursor) if cursor else (None, None)
    except (ValueError, TypeError):
        return None, None
    return (etag if isinstance(etag, str) else None, modified if isinstance(modified, str) else None)


def parse(answer: Answer) -> tuple[tuple[PaperRecord, ...], tuple[RefusedEntry, ...]]:
    """The entries of a feed. Raises SourceError for what is no feed."""
    body = answer.body
    if _DANGEROUS.search(body) or b"<\x00!\x00" in body:
        raise SourceError(
            f"{answer.url[:200]} is a web page, or XML with a document type or entities, which is refused; give the address of the feed itself"
        )
    if _depth(body) > DEEPEST:
        raise SourceError(f"{answer.url[:200]} is nested deeper than any feed is; nothing was taken")
    import feedparser

    try:
        found = feedparser.parse(
            body,
            response_headers={"content-type": answer.content_type or "application/xml"},
            sanitize_html=False,
            resolve_relative_uris=False,
        )
    except Exception as error:
        raise SourceError(
            f"{answer.url[:200]} cannot be read as a feed ({type(error).__name__}: {error}); nothing was taken"
        ) from error
    if not found.get("version"):
        raise SourceError(f"{answer.url[:200]} is neither RSS nor Atom; give the address of the feed itself")
    records: dict[str, PaperRecord] = {}
    refused: list[RefusedEntry] = []
    for n, entry in enumerate(found.get("entries", [])[:MOST_ENTRIES], start=1):
        try:
            record = _entry(entry)
            records.setdefault(str(record.identifiers), record)
        except (ValidationError, ValueError, TypeError, AttributeError, OverflowError) as error:
            refused.append(refuse(n, error, str(dict(entry))))
    return tuple(records.values()), tuple(refused)


def _depth(body: bytes) -> int:
    level = deepest = 0
    for tag in re.finditer(rb"<(/?)[A-Za-z][^<>]*?(/?)>", body):
        if tag[1]:
            level = max(0, level - 1)
        elif not tag[2]:
            level += 1
            deepest = max(deepest, level)
    return deepest


def _entry(entry: dict[str, Any]) -> PaperRecord:
    title = plain(str(entry.get("title") or ""))
    if not title:
        raise ValueError("the entry has no title")
    link = str(entry.get("link") or "")
    named: dict[str, Any] = {}
    version = None
    for value in (entry.get("id"), link, entry.get("prism_doi"), entry.get("dc_identifier"), entry.get("arxiv_doi")):
        value = re.sub(r"^oai:arxiv\.org:", "", str(value or "").strip(), flags=re.IGNORECASE)
        if (reference := parse_reference(value)) and reference.scheme not in named:
            named[reference.scheme] = reference.value
            version = version or reference.version
    if not named:
        if not re.match(r"https?://[^\s<>\"]+$", link) or len(link) > 2000:
            raise ValueError(f"nothing identifies the entry; its link is {link[:80]!r}")
        named["url"] = link
    kind = str(entry.get("arxiv_announce_type") or "")
    abstract = plain(str(entry.get("summary") or ""))
    if "arxiv" in named:
        title = re.sub(r"\s*\(arXiv:\S+ \[[^\]]*\](?: UPDATED)?\)$", "", title)
        abstract = re.sub(r"^arXiv:\S+ Announce Type: \S+ (?:Abstract: )?", "", abstract)
    people = [
        plain(str(person.get("name") or "")) for person in entry.get("authors") or () if isinstance(person, Mapping)
    ]
    names = split_authors(people[0]) if len(people) == 1 else tuple(name[:400] for name in people if name)
    tags = [str(tag.get("term") or "") for tag in entry.get("tags") or () if isinstance(tag, Mapping)]
    published = _day(entry.get("published_parsed"))
    return PaperRecord(
        title=title,
        abstract=abstract[:50_000],
        authors=names,
        version=version or 1,
        categories=category_codes(tags) if "arxiv" in named else (),
        published=None if kind else published,  # arXiv's feeds date the announcement
        updated=_day(dict.get(entry, "updated_parsed"))
        if not kind
        else None,  # not the stand-in that feedparser makes of `published`
        announced=published if kind in ("new", "cross") else None,
        **named,
    )


def _day(parsed: Any) -> date | None:
    return date(parsed[0], parsed[1], parsed[2]) if parsed else None

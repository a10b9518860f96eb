"""arXiv by OAI-PMH: what has changed in a set since the last turn. This is how a hub follows whole categories every day.

Sets are named `group:archive:CATEGORY` (`cs:cs:LG`). Format `arXivRaw` (the default) tells the version number, `arXiv` has names of
authors in parts. The next turn starts at the day of the first answer of this one, by the server's clock: a day is read twice
rather than missed. Resumption tokens die each day; a dead one starts the walk again from the same day.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from email.utils import parsedate_to_datetime
from typing import Any, Literal, get_args
from xml.etree.ElementTree import Element, tostring

from pydantic import ValidationError

from paperworks.config import SourceSettings
from paperworks.errors import InputError, SourceError
from paperworks.hub.identifiers import parse_arxiv, parse_reference
from paperworks.hub.records import Batch, PaperRecord, RefusedEntry
from paperworks.hub.sources.arxiv import category_codes, day, is_withdrawn, read_xml, standard_links
from paperworks.hub.sources.base import refuse
from paperworks.hub.sources.http import Answer, PoliteClient
from paperworks.hub.text import plain

log = logging.getLogger(__name__)

Format = Literal["arXivRaw", "arXiv"]
_OAI = "{http://www.openarchives.org/OAI/2.0/}"
_SPACES = {"arXiv": "{http://arxiv.org/OAI/arXiv/}", "arXivRaw": "{http://arxiv.org/OAI/arXivRaw/}"}
_SET = re.compile(r"[A-Za-z-]+(:[A-Za-z.-]+){0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to ListRecords, read."""

    response_day: str
    entries: tuple[PaperRecord | RefusedEntry, ...]
    token: str | None
    deleted: int = 0


class _BadToken(Exception):
    """The resumption token is no longer valid."""


class OaiSource:
    """Increments of one or more sets."""

    kind = "arxiv"

    def __init__(
        self,
        sets: tuple[str, ...],
        settings: SourceSettings | None = None,
        *,
        name: str | None = None,
        format: str = "arXivRaw",
        since: str | None = None,
    ) -> None:
        if bad := [item for item in sets if not _SET.fullmatch(item)]:
            raise InputError(f"{bad[0]!r} is not a set of arXiv; sets look like cs, cs:cs:LG or stat:stat:ML")
        if format not in get_args(Format):
            raise InputError(f"format must be arXivRaw or arXiv, got {format!r}")
        try:
            self.since = day(str(since)) if since else None
        except ValueError as error:
            raise InputError(f"since: {error}") from error
        self.sets, self.format = sets, format
        self.settings = settings or SourceSettings()
        self.name = name or f"arxiv {' '.join(sets)}"

    def fetch(self, cursor: str | None, http: PoliteClient) -> Iterator[Batch]:
        """The cursor holds, for each set, the day to start from, and in the middle of a walk its token."""
        state = _state(cursor)
        for name in self.sets:
            yield from self._walk(name, state, http)

    def _walk(self, name: str, state: dict[str, dict[str, str]], http: PoliteClient) -> Iterator[Batch]:
        mine = dict(state.get(name, {}))
        begin = mine.get("from") or (self.since.isoformat() if self.since else None)
        if begin is None:
            begin = date.today().isoformat()  # a new source brings what is new; history comes by `since` or by files
        token, first_day = mine.get("token"), mine.get("first", "")
        restarted = False
        while True:
            before = http.requests
            try:
                page = self._ask(name, begin, token, http)
            except _BadToken:
                if restarted:
                    raise SourceError(
                        f"arXiv dropped its own resumption token twice for {name}; nothing was lost, the source goes on at its next turn"
                    ) from None
                log.info("arXiv: the token for %s has died; starting again from %s", name, begin)
                restarted, token, first_day = True, None, ""
                continue
            first_day = first_day or page.response_day
            if token is not None and page.token == token:
                raise SourceError(
                    f"arXiv gave the same page of {name} again; nothing was taken of it, the source goes on at its next turn"
                )
            token = page.token
            state[name] = {"from": begin, "first": first_day, "token": token} if token else {"from": first_day}
            if page.deleted:
                log.info("arXiv: %d deleted records in %s, kept here", page.deleted, name)
            records = tuple(entry for entry in page.entries if isinstance(entry, PaperRecord))
            refused = tuple(entry for entry in page.entries if isinstance(entry, RefusedEntry))
            yield Batch(
                records=records,
                refused=refused,
                cursor=json.dumps(state, sort_keys=True),
                requests=http.requests - before,
            )
            if not token:
                return

    def _ask(self, name: str, begin: str, token: str | None, http: PoliteClient) -> Page:
        params: dict[str, str | int] = {"verb": "ListRecords"}
        if token:
            params["resumptionToken"] = token
        else:
            params |= {"metadataPrefix": self.format, "set": name, "from": begin}
        answer = http.get(self.settings.arxiv_oai, params, accept="text/xml", check=_worth_another_try)
        return parse_page(answer)


def _state(cursor: str | None) -> dict[str, dict[str, str]]:
    try:
        raw: Any = json.loads(cursor) if cursor else {}
    except ValueError:
        raw = {}
    if not isinstance(raw, dict):
        return {}
    return {
        name: {key: value for key, value in inner.items() if isinstance(value, str)}
        for name, inner in raw.items()
        if isinstance(inner, dict)
    }


def _worth_another_try(answer: Answer) -> str | None:
    head = answer.body[:200].strip().lower()
    if head.startswith((b"rate exceeded", b"retry after")):
        return f"answered {head[:40].decode('utf-8', 'replace')!r} in place of records"
    if answer.looks_like_html:
        return "answered with a web page in place of records"
    return None if head else "answered with nothing"


def parse_page(answer: Answer) -> Page:
    """One answer to ListRecords. Raises SourceError when it is not what was asked; an empty increment is an empty page."""
    root = read_xml(answer.body, "arXiv's OAI-PMH")
    if root.tag != f"{_OAI}OAI-PMH":
        raise SourceError(
            f"arXiv sent <{root.tag[:80]}> where OAI-PMH was asked for; nothing was taken, check the address"
        )
    stamp = (root.findtext(f"{_OAI}responseDate") or "").strip()
    try:
        response_day = (day(stamp) or date.min).isoformat()
    except ValueError:
        response_day = date.min.isoformat()
    for error in root.findall(f"{_OAI}error"):
        code, said = error.get("code", ""), plain(error.text or "")[:300]
        if code == "noRecordsMatch":
            if response_day == date.min.isoformat():
                raise SourceError(
                    f"arXiv's OAI-PMH answer has no usable responseDate ({stamp[:40]!r}); nothing was taken"
                )
            return Page(response_day, (), None)
        if code == "badResumptionToken":
            raise _BadToken(said)
        raise SourceError(
            f"arXiv's OAI-PMH refused the request ({code or 'no code'}): {said or 'no reason given'}; correct the set or the date"
        )
    listing = root.find(f"{_OAI}ListRecords")
    if listing is None or response_day == date.min.isoformat():
        raise SourceError(
            "arXiv's OAI-PMH answer holds no list of records or no responseDate; nothing was taken, try again later"
        )
    entries: list[PaperRecord | RefusedEntry] = []
    deleted = 0
    for n, element in enumerate(listing.findall(f"{_OAI}record"), start=1):
        header = element.find(f"{_OAI}header")
        if header is not None and header.get("status") == "deleted":
            deleted += 1
            continue
        try:
            entries.append(read_record(element))
        except (ValidationError, ValueError, TypeError) as error:
            entries.append(refuse(n, error, tostring(element, encoding="unicode")))
    token = (listing.findtext(f"{_OAI}resumptionToken") or "").strip() or None
    if not entries and not deleted and token:
        raise SourceError(
            "arXiv's OAI-PMH sent an empty page in the middle of a listing; nothing was taken, try again later"
        )
    return Page(response_day, tuple(entries), token, deleted)


def read_record(element: Element) -> PaperRecord:
    """One record of either format. Raises ValueError, TypeError or ValidationError when it cannot be read."""
    header = element.find(f"{_OAI}header")
    metadata = element.find(f"{_OAI}metadata")
    body = metadata[0] if metadata is not None and len(metadata) else None
    space = next((space for name, space in _SPACES.items() if body is not None and body.tag == f"{space}{name}"), None)
    if body is None or space is None:
        raise ValueError("the record is neither in format arXiv nor in arXivRaw")

    def text(name: str) -> str:
        return plain(body.findtext(f"{space}{name}") or "")

    reference = parse_arxiv(text("id"))
    if reference is None:
        raise ValueError(f"{text('id')[:100]!r} is not an arXiv id")
    if not text("title"):
        raise ValueError(f"{reference.value} came without a title")
    version, published, updated, names, homes = (
        _raw(body, space) if space == _SPACES["arXivRaw"] else _parts(body, space)
    )
    stamp = day((header.findtext(f"{_OAI}datestamp") or "") if header is not None else "")
    doi = parse_reference(text("doi").split(" ")[0])
    comment, abstract = text("comments"), text("abstract")
    return PaperRecord(
        title=text("title"),
        abstract=abstract,
        authors=names,
        affiliations=homes,
        arxiv=reference.value,
        doi=doi.value if doi and doi.scheme == "doi" else None,
        categories=category_codes(text("categories").split(" ")),
        published=published,
        updated=updated,
        announced=stamp if version == 1 and published and stamp and 0 <= (stamp - published).days <= 7 else None,
        comment=comment,
        journal_ref=text("journal-ref"),
        licence=text("license"),
        withdrawn=is_withdrawn(comment, abstract),
        links=standard_links(reference.value),
        **({"version": version} if version else {}),
    )


_Facts = tuple[int | None, date | None, date | None, tuple[str, ...], tuple[str, ...]]


def _raw(body: Element, space: str) -> _Facts:
    numbers: dict[int, date] = {}
    for element in body.findall(f"{space}version"):
        label = re.fullmatch(r"v(\d{1,4})", element.get("version", ""), re.ASCII)
        if label:
            numbers[int(label[1])] = parsedate_to_datetime(element.findtext(f"{space}date") or "").date()
    if not numbers:
        raise ValueError("the record names no version")
    newest = max(numbers)
    names = split_authors(plain(body.findtext(f"{space}authors") or ""))
    return newest, numbers[min(numbers)], numbers[newest], names, ()


def _parts(body: Element, space: str) -> _Facts:
    names: list[str] = []
    homes: list[str] = []
    for author in body.findall(f"{space}authors/{space}author"):
        parts = (plain(author.findtext(f"{space}{name}") or "") for name in ("forenames", "keyname", "suffix"))
        if name := " ".join(part for part in parts if part):
            names.append(name[:400])
            homes.append("; ".join(plain(item.text or "") for item in author.findall(f"{space}affiliation")))
    published, updated = (
        day(plain(body.findtext(f"{space}created") or "")),
        day(plain(body.findtext(f"{space}updated") or "")),
    )
    return (
        None if updated and updated != published else 1,
        published,
        updated or published,
        tuple(names),
        tuple(homes) if any(homes) else (),
    )


def split_authors(text: str) -> tuple[str, ...]:
    """Names out of one line; affiliations in brackets are dropped.

    >>> split_authors("A. Nguyen (1 and 2), Bo Li, and C. de la Cruz, Jr. ((1) Here, (2) There)")
    ('A. Nguyen', 'Bo Li', 'C. de la Cruz, Jr.')
    """
    flat, level = [], 0
    for char in text:
        level += char == "("
        if level == 0:
            flat.append(char)
        level -= char == ")" and level > 0
    parts = re.split(r"\s*(?:,\s+and\s+|,|;|\s+and\s+)\s*", " ".join("".join(flat).split()))
    names: list[str] = []
    for part in (part.strip() for part in parts):
        if re.fullmatch(r"(jr|sr|ii|iii|iv)\.?", part, re.IGNORECASE) and names:
            names[-1] += f", {part}"
        elif re.search(r"\w", part):
            names.append(part[:400])
    return tuple(names)

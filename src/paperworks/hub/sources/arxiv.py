"""arXiv's query API: papers by id, and saved searches. Daily increments by set are in `oai.py`.

The API has failures that look like success; each fails the whole answer here, and no cursor moves: an entry titled 'Error' under
status 200, a plain 'Rate exceeded.', an HTML page, an empty or short page in the middle of a listing, a total that does not match.
One entry that cannot be read (a title that is missing, say) is refused alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from pydantic import ValidationError

from paperworks.config import SourceSettings
from paperworks.errors import InputError, SourceError
from paperworks.hub.identifiers import Reference, parse_reference
from paperworks.hub.records import Batch, LinkRecord, PaperRecord, RefusedEntry
from paperworks.hub.sources.base import Source, refuse, take, words
from paperworks.hub.sources.http import Answer, PoliteClient
from paperworks.hub.text import plain

PAGE = 200  # entries a request; the API allows 2,000 and answers large pages badly
IDS_A_REQUEST = 100  # an address of about 1,200 characters
MOST = 30_000  # the API lists no further

_ATOM, _ARXIV, _OPENSEARCH = (
    "{http://www.w3.org/2005/Atom}",
    "{http://arxiv.org/schemas/atom}",
    "{http://a9.com/-/spec/opensearch/1.1/}",
)
_WITHDRAWN = re.compile(
    r"\bwithdrawn\b.{0,40}\b(by|due|because|as|for|from)\b|\b(has been|have been|was|is|been) withdrawn\b|^\W*withdrawn\b",
    re.I,
)


def make(config: Mapping[str, Any], settings: SourceSettings) -> Source:
    """`sets`: daily increments by OAI-PMH. `query`: a saved search. `ids`: these papers, once."""
    from paperworks.hub.sources.oai import OaiSource

    given = take(config, "arxiv", ("set", "sets", "format", "since", "query", "most", "ids"))
    name = given.get("name")
    if sets := words(given.get("sets", ())) + words(given.get("set", ())):
        return OaiSource(sets, settings, name=name, format=given.get("format", "arXivRaw"), since=given.get("since"))
    if query := given.get("query"):
        return ArxivSearch(str(query), settings, name=name, most=int(given.get("most", 2_000)))
    if ids := words(given.get("ids", ())):
        return ArxivIds(ids, settings, name=name)
    raise InputError(
        "a source of kind arxiv needs sets ('cs:cs:LG'), a query ('cat:cs.LG AND ti:pruning') or ids; give one of them"
    )


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the query API, read."""

    total: int
    start: int
    entries: tuple[PaperRecord | RefusedEntry, ...]
    updated: tuple[str, ...]  # beside entries, '' where unknown


class ArxivIds:
    """Papers by their ids, in one go."""

    kind = "arxiv"

    def __init__(self, ids: Sequence[str], settings: SourceSettings | None = None, *, name: str | None = None) -> None:
        self.settings = settings or SourceSettings()
        self.name = name or "arxiv"
        self.references = tuple(dict.fromkeys(_reference(text) for text in ids))

    def fetch(self, cursor: str | None, http: PoliteClient) -> Iterator[Batch]:
        """The cursor counts the ids that are done."""
        done = int(cursor) if cursor and cursor.isascii() and cursor.isdigit() else 0
        for start in range(min(done, len(self.references)), len(self.references), IDS_A_REQUEST):
            part = self.references[start : start + IDS_A_REQUEST]
            before = http.requests
            page = self._ask(part, http)
            yield _sort(page.entries, start, str(start + len(part)), http.requests - before, asked=part)

    def _ask(self, part: Sequence[Reference], http: PoliteClient) -> Page:
        ids = ",".join(f"{ref.value}v{ref.version}" if ref.version else ref.value for ref in part)
        answer = http.get(
            self.settings.arxiv_query,
            {"id_list": ids, "max_results": len(part)},
            accept="application/atom+xml",
            check=_worth_another_try(),
        )
        page = parse_page(answer)
        if page.total > len(page.entries):
            raise SourceError(
                f"arXiv promised {page.total} papers and sent {len(page.entries)}; nothing was taken, try again later"
            )
        known = {ref.value for ref in part}
        strangers = [
            entry.arxiv for entry in page.entries if isinstance(entry, PaperRecord) and entry.arxiv not in known
        ]
        if strangers:
            raise SourceError(
                f"arXiv answered with papers that were not asked for ({', '.join(map(str, strangers[:3]))}); nothing was taken"
            )
        return page


class ArxivSearch:
    """A saved search, newest change first, back to where the last turn began.

    The cursor remembers how far the last finished walk reached, and, within a walk, the page to go on at. New papers push a
    listing down, so going on at a page can repeat papers and never misses any.
    """

    kind = "arxiv"

    def __init__(
        self, query: str, settings: SourceSettings | None = None, *, name: str | None = None, most: int = 2_000
    ) -> None:
        if not 1 <= most <= MOST:
            raise InputError(f"most must lie between 1 and {MOST}, the longest listing of arXiv, got {most}")
        self.query, self.most = query, most
        self.settings = settings or SourceSettings()
        self.name = name or f"arxiv {query}"[:200]

    def fetch(self, cursor: str | None, http: PoliteClient) -> Iterator[Batch]:
        state = _state(cursor)
        reached = str(state.get("reached") or "")
        newest = str(state.get("newest") or "")
        start = state["start"] if isinstance(state.get("start"), int) and state["start"] > 0 else 0
        while True:
            before = http.requests
            wanted = min(PAGE, self.most - start)
            params: dict[str, str | int] = {
                "search_query": self.query, "start": start, "max_results": wanted, "sortBy": "lastUpdatedDate", "sortOrder": "descending",
            }  # fmt: skip
            answer = http.get(
                self.settings.arxiv_query,
                params,
                accept="application/atom+xml",
                check=_worth_another_try(start, wanted),
            )
            page = parse_page(answer)
            stamps = [stamp for stamp in page.updated if stamp]
            newest = max([newest, *stamps])
            old = bool(reached) and bool(stamps) and min(stamps) < reached
            start += len(page.entries)
            last = old or start >= min(page.total, self.most) or not page.entries
            fresh = tuple(
                entry
                for entry, stamp in zip(page.entries, page.updated, strict=True)
                if not (reached and stamp and stamp < reached)
            )
            after = (
                {"reached": max(newest, reached)} if last else {"reached": reached, "newest": newest, "start": start}
            )
            yield _sort(fresh, start - len(page.entries), json.dumps(after), http.requests - before)
            if last:
                return


def _reference(text: str) -> Reference:
    found = parse_reference(text)
    if found is None or found.scheme != "arxiv":
        raise InputError(
            f"{text[:100]!r} is not an arXiv id or address; write it like 2301.13838 or https://arxiv.org/abs/2301.13838"
        )
    return found


def _state(cursor: str | None) -> dict[str, Any]:
    try:
        state = json.loads(cursor) if cursor else {}
    except ValueError:
        state = {}
    return state if isinstance(state, dict) else {}


def _sort(
    entries: Sequence[PaperRecord | RefusedEntry],
    start: int,
    cursor: str,
    requests: int,
    asked: Sequence[Reference] = (),
) -> Batch:
    records = tuple(entry for entry in entries if isinstance(entry, PaperRecord))
    refused = [
        entry.model_copy(update={"ordinal": entry.ordinal + start})
        for entry in entries
        if isinstance(entry, RefusedEntry)
    ]
    named = {record.arxiv for record in records} | {
        found.value for entry in refused if (found := parse_reference(entry.raw.partition("\n")[0]))
    }
    for n, ref in enumerate(asked, start=start + 1):
        if ref.value not in named:
            refused.append(refuse(n, f"arXiv knows no paper {ref.value}; check the id", ref.value))
    return Batch(records=records, refused=tuple(refused), cursor=cursor, requests=requests)


def _worth_another_try(start: int = 0, wanted: int = 0) -> Callable[[Answer], str | None]:
    """What is wrong with an answer that arXiv may give better the next time."""

    def check(answer: Answer) -> str | None:
        head = answer.body[:200].strip()
        if head.lower().startswith(b"rate exceeded"):
            return "answered 'Rate exceeded.' in place of papers"
        if answer.looks_like_html:
            return "answered with a web page in place of papers"
        if not head:
            return "answered with nothing"
        if wanted:
            page = parse_page(answer)
            promised = min(wanted, max(0, page.total - start))
            if len(page.entries) < promised:
                return f"promised {promised} papers from {start} on (of {page.total}) and sent {len(page.entries)}"
        return None

    return check


def read_xml(body: bytes, who: str) -> Element:
    """XML from a stranger: no document types, no entities. Raises SourceError."""
    try:
        root: Element = ElementTree.fromstring(body, forbid_dtd=True)
    except DefusedXmlException as error:
        raise SourceError(
            f"{who} sent XML with a document type or entities ({type(error).__name__}), which is refused; nothing was taken"
        ) from error
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise SourceError(
            f"{who} sent something that is not XML ({error}): {_glimpse(body)}; nothing was taken, try again later"
        ) from error
    return root


def _glimpse(body: bytes) -> str:
    return repr(plain(body[:400].decode("utf-8", "replace"))[:80])


def parse_page(answer: Answer) -> Page:
    """One Atom answer of the query API. Raises SourceError when it is not what was asked."""
    root = read_xml(answer.body, "arXiv")
    if root.tag != f"{_ATOM}feed":
        raise SourceError(
            f"arXiv sent <{root.tag[:80]}> where an Atom feed was asked for: {_glimpse(answer.body)}; nothing was taken"
        )
    total, start = _number(root, "totalResults"), _number(root, "startIndex")
    elements = root.findall(f"{_ATOM}entry")
    for element in elements:
        if (element.findtext(f"{_ATOM}title") or "").strip() == "Error" and "/api/errors" in (
            element.findtext(f"{_ATOM}id") or ""
        ):
            said = plain(element.findtext(f"{_ATOM}summary") or "no reason given")[:300]
            raise SourceError(f"arXiv refused the request: {said}; correct the query or the ids")
    if total < len(elements):
        raise SourceError(
            f"arXiv sent {len(elements)} papers and says that there are {total}; nothing was taken, try again later"
        )
    entries: list[PaperRecord | RefusedEntry] = []
    stamps: list[str] = []
    for n, element in enumerate(elements, start=1):
        try:
            entries.append(read_entry(element))
        except (ValidationError, ValueError) as error:
            name = (element.findtext(f"{_ATOM}id") or "").strip()
            entries.append(refuse(n, error, f"{name}\n{tostring(element, encoding='unicode')}"))
        stamps.append((element.findtext(f"{_ATOM}updated") or "").strip()[:20])
    return Page(total, start, tuple(entries), tuple(stamps))


def _number(root: Element, name: str) -> int:
    text = (root.findtext(f"{_OPENSEARCH}{name}") or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise SourceError(f"arXiv's answer has no usable {name} ({text[:40]!r}); nothing was taken, try again later")
    return int(text)


EntryReader = Callable[[Element], PaperRecord]


def read_entry(element: Element) -> PaperRecord:
    """One entry of the Atom answer. Raises ValueError or ValidationError when it cannot be read."""

    def text(name: str, space: str = _ATOM) -> str:
        return plain(element.findtext(f"{space}{name}") or "")

    address = text("id")
    reference = parse_reference(address)
    if reference is None or reference.scheme != "arxiv":
        raise ValueError(f"the entry's id {address[:100]!r} is not that of an arXiv paper")
    title = text("title")
    if not title:
        raise ValueError(f"{reference.value} came without a title")
    authors = [author for author in element.findall(f"{_ATOM}author") if plain(author.findtext(f"{_ATOM}name") or "")]
    primary = element.find(f"{_ARXIV}primary_category")
    codes = [primary.get("term", "")] if primary is not None else []
    codes += [category.get("term", "") for category in element.findall(f"{_ATOM}category")]
    comment, abstract = text("comment", _ARXIV), text("summary")
    doi = parse_reference(text("doi", _ARXIV).split(" ")[0])
    return PaperRecord(
        title=title,
        abstract=abstract,
        authors=tuple(plain(author.findtext(f"{_ATOM}name") or "")[:400] for author in authors),
        affiliations=tuple(
            "; ".join(plain(item.text or "") for item in author.findall(f"{_ARXIV}affiliation")) for author in authors
        ),
        arxiv=reference.value,
        version=reference.version or 1,
        doi=doi.value if doi and doi.scheme == "doi" else None,
        categories=category_codes(codes),
        published=day(text("published")),
        updated=day(text("updated")),
        comment=comment,
        journal_ref=text("journal_ref", _ARXIV),
        withdrawn=is_withdrawn(comment, abstract),
        links=standard_links(reference.value),
    )


_CODE = re.compile(r"[a-z-]+(\.[A-Za-z-]+)?", re.ASCII)


def category_codes(codes: Sequence[str]) -> tuple[str, ...]:
    """arXiv's own categories, in order, once each; MSC and ACM classes left out.

    >>> category_codes(["cs.LG", "68T05", "cs.LG", "math.OC", "I.2.6"])
    ('cs.LG', 'math.OC')
    """
    return tuple(
        dict.fromkeys(code for code in (code.strip() for code in codes) if len(code) <= 32 and _CODE.fullmatch(code))
    )


def standard_links(arxiv: str) -> tuple[LinkRecord, ...]:
    """What arXiv itself offers: the abstract page and the PDF. The hub links to them and serves neither."""
    return (
        LinkRecord(kind="html", url=f"https://arxiv.org/abs/{arxiv}", who="site", official=True),
        LinkRecord(kind="pdf", url=f"https://arxiv.org/pdf/{arxiv}", who="site", official=True),
    )


def is_withdrawn(comment: str, abstract: str) -> bool:
    """Whether authors or administrators say that the paper is withdrawn: in the comment, or as the abstract's first words."""
    return bool(
        _WITHDRAWN.search(comment[:500])
        or re.match(
            r"(this|the) (paper|article|manuscript|submission) (has been|is|was) withdrawn", abstract[:200], re.I
        )
    )


_DAY = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]|$)", re.ASCII)


def day(text: str) -> date | None:
    """The day of an ISO date or time; None for an empty text. Raises ValueError for anything else."""
    text = text.strip()
    if not text:
        return None
    if not _DAY.match(text):
        raise ValueError(f"{text[:40]!r} is not a date like 2026-08-21")
    return date.fromisoformat(text[:10])

"""Hugging Face daily papers: what people listed on a day, with counters of upvotes and comments.

The text of this site is not arXiv's (TeX is stripped on the way), so the store prefers arXiv's where it has it. The listing day is
`submittedOnDailyAt`, with the day asked for as the fallback. Counters keep moving for a week and can fall, so each turn reads the
last days again. Fields come and go over the years; a day without papers has had several shapes.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from pydantic import ValidationError

from paperworks.config import SourceSettings
from paperworks.errors import InputError, SourceError
from paperworks.hub.identifiers import parse_arxiv
from paperworks.hub.records import Batch, CounterRecord, LinkRecord, ListingRecord, PaperRecord, RefusedEntry
from paperworks.hub.sources.arxiv import day
from paperworks.hub.sources.base import refuse, take
from paperworks.hub.sources.http import Answer, PoliteClient
from paperworks.hub.text import plain

PAGE = 100
MOST_PAGES = 20  # of one day; the fullest day seen had 71 papers
REFRESH_DAYS = 7  # 93 % of the votes of two weeks are there after one


def make(config: Mapping[str, Any], settings: SourceSettings) -> DailyPapers:
    given = take(config, "hf-daily", ("since", "refresh_days"))
    try:
        since = day(str(given["since"])) if "since" in given else None
        refresh = int(given.get("refresh_days", REFRESH_DAYS))
    except ValueError as error:
        raise InputError(f"hf-daily: {error}") from error
    return DailyPapers(settings, name=given.get("name", "hf-daily"), since=since, refresh_days=refresh)


class DailyPapers:
    """One batch a listing day, oldest first, up to today. The cursor is the last day that was complete when it was read."""

    kind = "hf-daily"

    def __init__(
        self,
        settings: SourceSettings | None = None,
        *,
        name: str = "hf-daily",
        since: date | None = None,
        refresh_days: int = REFRESH_DAYS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not 0 <= refresh_days <= 60:
            raise InputError(f"refresh_days must lie between 0 and 60, got {refresh_days}")
        self.settings, self.name, self.since, self.refresh_days = (
            settings or SourceSettings(),
            name,
            since,
            refresh_days,
        )
        self._now = now

    def fetch(self, cursor: str | None, http: PoliteClient) -> Iterator[Batch]:
        today = self._now().date()
        try:
            done = day(cursor or "")
        except ValueError:
            done = None
        if done:
            start = min(done, today) - timedelta(days=self.refresh_days - 1)
        else:
            start = self.since or today - timedelta(days=self.refresh_days)
        while start <= today:
            before = http.requests
            records, refused = self._read(start, http)
            if start < today:
                done = max(done, start) if done else start
            yield Batch(
                records=records,
                refused=refused,
                cursor=done.isoformat() if done else None,
                requests=http.requests - before,
            )
            start += timedelta(days=1)

    def _read(self, listed: date, http: PoliteClient) -> tuple[tuple[PaperRecord, ...], tuple[RefusedEntry, ...]]:
        records: dict[str, PaperRecord] = {}
        refused: list[RefusedEntry] = []
        position = 0
        for page in range(MOST_PAGES):
            answer = http.get(
                f"{self.settings.huggingface.rstrip('/')}/api/daily_papers",
                {"date": listed.isoformat(), "limit": PAGE, "p": page},
                accept="application/json",
                check=_worth_another_try,
            )
            entries = parse_day(answer.body)
            for entry in entries:
                position += 1
                try:
                    record = read_entry(entry, listed=listed, seen=self._now(), rank=position)
                    records.setdefault(record.arxiv or "", record)
                except (ValidationError, ValueError, TypeError) as error:
                    refused.append(refuse(position, error, _raw(entry)))
            if len(entries) < PAGE:
                break
        return tuple(records.values()), tuple(refused)


def _worth_another_try(answer: Answer) -> str | None:
    if answer.looks_like_html:
        return "answered with a web page in place of papers"
    return None if answer.body.strip() else "answered with nothing"


def _raw(entry: Any) -> str:
    try:
        return json.dumps(entry, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return repr(type(entry))


def parse_day(body: bytes | str) -> list[Any]:
    """The entries of one day's answer, whatever shape the day has. Raises SourceError for an answer that is no day at all.

    >>> parse_day('{"status": "no_data", "date": "2025-01-01"}'), parse_day("1"), len(parse_day('[{"paper": {"id": "2405.1"}}]'))
    ([], [], 1)
    """
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        start = body[:80] if isinstance(body, str) else body[:80].decode("utf-8", "replace")
        raise SourceError(
            f"Hugging Face sent something that is not JSON: {start!r}; nothing was taken, try again later"
        ) from error
    return entries_of(found)


def entries_of(found: Any) -> list[Any]:
    """The list of entries in any of the shapes that days have had."""
    if isinstance(found, dict):
        if "error" in found:
            raise SourceError(
                f"Hugging Face answered with an error: {plain(str(found['error']))[:200]}; nothing was taken, try again later"
            )
        if found.get("status") == "no_data":
            return []
        found = found.get("data", found)
    if isinstance(found, int) and not isinstance(found, bool):
        return []  # a day without papers has been a bare 1
    if not isinstance(found, list):
        raise SourceError(
            f"Hugging Face sent {type(found).__name__} where a list of papers was asked for; nothing was taken, the format may have changed"
        )
    return [_object(entry) for entry in found]


def _object(entry: Any) -> Any:
    """Entries were once stored as the text of a Python dictionary."""
    if isinstance(entry, str) and entry.lstrip().startswith("{") and len(entry) <= 100_000:
        for read in (json.loads, ast.literal_eval):
            try:
                return read(entry)
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                continue
    return entry


def read_entry(entry: Any, *, listed: date | None, seen: datetime | None, rank: int | None = None) -> PaperRecord:
    """One entry of a day. Raises ValueError or ValidationError when it cannot be read."""
    if not isinstance(entry, dict):
        raise ValueError(f"an entry must be an object, got {type(entry).__name__}")
    paper = entry.get("paper") if isinstance(entry.get("paper"), dict) else entry
    assert isinstance(paper, dict)

    def first(*names: str) -> Any:
        return next(
            (place[name] for place in (paper, entry) for name in names if place.get(name) not in (None, "")), None
        )

    reference = parse_arxiv(str(first("id") or ""))
    if reference is None:
        raise ValueError(f"the id {str(first('id'))[:60]!r} is not an arXiv id")
    title = plain(_text(first("title")))
    if not title:
        raise ValueError(f"{reference.value} came without a title")
    listed = _day(first("submittedOnDailyAt")) or listed
    links = [
        LinkRecord(kind=kind, url=url, who="site")
        for kind, names in _LINKS.items()
        if (url := str(first(*names) or "")).startswith(("http://", "https://")) and len(url) <= 2000
    ]
    counters = []
    for metric, value in (
        ("upvotes", first("upvotes")),
        ("comments", entry.get("numComments")),
        ("stars", first("githubStars")),
    ):
        if seen is not None and (number := count(value)) is not None:
            counters.append(CounterRecord(metric=_metric(metric), seen=seen, value=number))
    return PaperRecord(
        title=title,
        abstract=plain(_text(first("summary"))),
        authors=author_names(first("authors")),
        arxiv=reference.value,
        version=reference.version or 1,
        published=_day(paper.get("publishedAt")) or _day(entry.get("publishedAt")),
        announced=listed,
        links=tuple(links),
        counters=tuple(counters),
        listings=(ListingRecord(day=listed, rank=rank, url=f"https://huggingface.co/papers/{reference.value}"),)
        if listed
        else (),
    )


_LINKS: dict[Literal["code", "project"], tuple[str, ...]] = {"code": ("githubRepo",), "project": ("projectPage",)}


def _metric(name: str) -> Literal["upvotes", "comments", "stars"]:
    return "upvotes" if name == "upvotes" else "comments" if name == "comments" else "stars"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _day(value: Any) -> date | None:
    try:
        return day(_text(value))
    except ValueError:
        return None


def count(value: Any) -> int | None:
    """A counter: a whole number from 0 on, also as text; None for anything else.

    >>> count(7), count("12"), count(True), count(-1), count(2.5)
    (7, 12, None, None, None)
    """
    if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value.strip(), re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**12:
        return None
    return value


_WORD = re.compile(r"\w")


def author_names(value: Any) -> tuple[str, ...]:
    """Names out of a list of texts or of objects with a name; anything else in the list is left out."""
    if not isinstance(value, (list, tuple)):
        return ()
    names = (item.get("name") if isinstance(item, dict) else item for item in value)
    return tuple(name[:400] for item in names if isinstance(item, str) and _WORD.search(name := plain(item)))

"""Facts of all papers in memory, for filters, counts beside them, and order by day: a few bytes a paper, milliseconds a question.

Read from the database's indexes alone, and read again when papers have come in.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from paperworks.hub.store.models import PAPER_DAY

SLOW_S = 0.05  # a reading that takes longer is not repeated at once
PATIENCE = 20  # but after so many times as long
NEVER = 0  # the day of what has none


@dataclass(frozen=True, slots=True)
class Columns:
    """One entry a paper, ids ascending. Days are numbers like 20260821; a paper's categories lie between its bounds."""

    ids: np.ndarray  # int64 (n,)
    listed: np.ndarray  # int32 (n,), the day that lists go by
    published: np.ndarray  # int32 (n,), the listing day where unknown
    category_of: np.ndarray  # int32 (m,), place in `codes`
    paper_of: np.ndarray  # int64 (m,), row of the paper
    codes: tuple[str, ...]
    has_code: np.ndarray  # bool (n,)
    newest: np.ndarray  # int64 (n,), rows, the latest listing day first

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Row of each id that is here; others are left out."""
        if not len(self.ids):
            return np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        here: np.ndarray = at[self.ids[at] == ids]
        return here

    def mask(self, ids: np.ndarray) -> np.ndarray:
        """bool (n,): which papers these are."""
        found = np.zeros(len(self.ids), dtype=bool)
        found[self.rows(ids)] = True
        return found

    def in_category(self, value: str) -> np.ndarray:
        """bool (n,): papers of a category ('cs.LG'), or of any of an archive ('cs')."""
        wanted = [
            at
            for at, code in enumerate(self.codes)
            if code == value or ("." not in value and code.startswith(f"{value}."))
        ]
        found = np.zeros(len(self.ids), dtype=bool)
        found[self.paper_of[np.isin(self.category_of, wanted)]] = True
        return found

    def published_between(self, low: str, high: str) -> np.ndarray:
        """bool (n,): published on or after `low` and before `high`; days, months, years, or '' for no bound."""
        found: np.ndarray = self.published != NEVER
        if low:
            found &= self.published >= _bound(low)
        if high:
            found &= self.published < _bound(high)
        return found

    def counts(self, rows: np.ndarray) -> tuple[dict[str, int], dict[str, int], int]:
        """Of these papers, how many are of each category and of each year, and how many have code elsewhere."""
        chosen = np.zeros(len(self.ids), dtype=bool)
        chosen[rows] = True
        by_code = np.bincount(self.category_of[chosen[self.paper_of]], minlength=len(self.codes))
        years, n = np.unique(self.published[rows] // 10_000, return_counts=True)
        return (
            {code: int(count) for code, count in zip(self.codes, by_code, strict=True) if count},
            {f"{year:04d}": int(count) for year, count in zip(years, n, strict=True) if year},
            int(self.has_code[rows].sum()),
        )


def _bound(text: str) -> int:
    """'2024' -> 20240000, '2024-05' -> 20240500: before every day of it."""
    parts = [*(int(part) for part in text.split("-")), 0, 0]
    return parts[0] * 10_000 + parts[1] * 100 + parts[2]


class ColumnsReader:
    """Keeps the columns of one hub. Safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: Columns | None = None
        self._mark: tuple[int, ...] = ()
        self._read_at = 0.0
        self._took = 0.0

    def columns(self, session: Session) -> Columns:
        """The columns as of now; on a large hub, while papers stream in, at most some seconds old."""
        mark = _mark(session)
        with self._lock:
            if self._columns is not None:
                waiting = self._took > SLOW_S and time.monotonic() - self._read_at < PATIENCE * self._took
                if mark == self._mark or waiting:
                    return self._columns
            started = time.monotonic()
            self._columns = read(session)
            self._mark, self._read_at = mark, time.monotonic()
            self._took = self._read_at - started
            return self._columns


def _mark(session: Session) -> tuple[int, ...]:
    """Changes when papers come in or change; by the turns of the sources, since every change is part of one."""
    newest = session.scalar(sql("SELECT max(id) FROM paper")) or 0
    turns = session.execute(sql("SELECT id, new, changed FROM intake ORDER BY id DESC LIMIT 20")).all()
    return newest, *(int(value) for turn in turns for value in turn)


def read(session: Session) -> Columns:
    """Read all columns."""
    listed_ids, listed = _pairs(
        session, f"SELECT id, replace({PAPER_DAY}, '-', '') AS value FROM paper WHERE {PAPER_DAY} > '' "
    )
    order = np.argsort(listed_ids, kind="stable")
    ids, listed = listed_ids[order], listed[order].astype(np.int32)
    published = listed.copy()
    known_ids, known = _pairs(
        session, "SELECT id, replace(published, '-', '') AS value FROM paper WHERE published > ''"
    )
    published[np.searchsorted(ids, known_ids)] = known
    codes = tuple(code for (code,) in session.execute(sql("SELECT DISTINCT code FROM paper_category ORDER BY code")))
    papers, places = [], []
    for at, code in enumerate(codes):
        found = numbers(session, "SELECT paper_id FROM paper_category WHERE code = :code", {"code": code})
        papers.append(np.searchsorted(ids, found))
        places.append(np.full(len(found), at, dtype=np.int32))
    has_code = np.zeros(len(ids), dtype=bool)
    linked = numbers(session, "SELECT paper_id FROM link WHERE kind = 'code'")
    has_code[np.searchsorted(ids, linked)] = True
    return Columns(
        ids=ids,
        listed=listed,
        published=published,
        category_of=np.concatenate(places) if places else np.zeros(0, np.int32),
        paper_of=np.concatenate(papers) if papers else np.zeros(0, np.int64),
        codes=codes,
        has_code=has_code,
        newest=np.lexsort((-ids, -listed)),
    )


def numbers(session: Session, query: str, values: dict[str, object] | None = None) -> np.ndarray:
    """The whole numbers of a query of one column, in its order, int64: as one text, ten times as fast as row by row."""
    joined = session.scalar(sql(f"WITH found(n) AS ({query}) SELECT group_concat(n) FROM found"), values or {})
    if not joined:
        return np.zeros(0, dtype=np.int64)
    return np.fromstring(joined if isinstance(joined, str) else str(joined), dtype=np.int64, sep=",")


def _pairs(session: Session, query: str) -> tuple[np.ndarray, np.ndarray]:
    """The two columns of a query for ids and days."""
    joined = session.scalar(sql(f"SELECT group_concat(id || ',' || CAST(value AS INTEGER)) FROM ({query})"))
    both = np.fromstring(joined, dtype=np.int64, sep=",") if joined else np.zeros(0, dtype=np.int64)
    return both[::2], both[1::2]

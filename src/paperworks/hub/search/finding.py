"""The pipeline of a search: filters to an allowed set, words and meaning 200 each, fused, then a page of ids.

Everything here speaks of paper ids; cards and why-lines are made from them in `service/search.py`. SQLite's full text is needed.
"""

from __future__ import annotations

import difflib
import json
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy.orm import Session

from paperworks.hub.search import words as by_words
from paperworks.hub.search.columns import Columns, ColumnsReader, numbers
from paperworks.hub.search.embed import SvdEmbedder
from paperworks.hub.search.fuse import fuse
from paperworks.hub.search.query import Filter, Query
from paperworks.hub.search.vectors import VectorIndex
from paperworks.hub.search.words import Frequencies, Plan, Stemmer

DEPTH = 200  # that words and meaning give each
CAP = 10_000  # results that are counted, paged through and looked at for facets
PARALLEL_FROM = 20_000  # vectors; below, a second thread costs more than it saves

_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="meaning")


@dataclass(frozen=True, slots=True)
class Facts:
    """What filters about the hub itself need to know: short names of papers by what they have."""

    method: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    verdicts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # verdict -> papers with a claim of it


@dataclass
class Found:
    """What a search found. `order` of all of it comes from `ordered`."""

    query: Query
    plan: Plan
    columns: Columns
    allowed: np.ndarray | None  # bool (n,) over the columns, None: all
    has_all: bool = False  # `matched` holds papers with all words
    matched: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # by words, best first
    fused: list[int] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)
    word_ids: frozenset[int] = frozenset()
    meaning: dict[int, float] = field(default_factory=dict)  # id -> cosine
    timing_ms: dict[str, float] = field(default_factory=dict)

    def passing(self, ids: np.ndarray) -> np.ndarray:
        """Those of these ids that pass the filters, in their order."""
        if self.allowed is None or not len(ids):
            return ids
        if not len(self.columns.ids):
            return ids[:0]
        at = np.minimum(np.searchsorted(self.columns.ids, ids), len(self.columns.ids) - 1)
        passed: np.ndarray = ids[(self.columns.ids[at] == ids) & self.allowed[at]]
        return passed


class Finder:
    """What searches of one hub share. Safe in threads."""

    def __init__(self) -> None:
        self.stemmer = Stemmer()
        self.frequencies = Frequencies()
        self.reader = ColumnsReader()

    def find(
        self,
        session: Session,
        query: Query,
        facts: Facts,
        index: VectorIndex | None,
        *,
        mode: str,
        most_id: int,
        since: str | None = None,
        first: Sequence[int] = (),
        depth: int = DEPTH,
    ) -> Found:
        """Words and meaning, fused. index: None searches words only. first: ids that count as a list of their own.

        most_id: papers with a larger id came later and are not looked at.
        since: only papers that came in at or after this UTC time, or were listed on or after this day.
        """
        clock = time.perf_counter()
        columns = self.reader.columns(session)
        plan = by_words.plan(query, session, self.stemmer, self.frequencies)
        found = Found(query, plan, columns, _allowed(session, columns, query, facts, since, most_id))
        sought = query.meaning if mode != "words" and index is not None else ""
        within = found.allowed
        if (sought or not query.has_text) and (plan.required or plan.excluded):
            within = np.ones(len(columns.ids), dtype=bool) if within is None else within.copy()
            if plan.required:
                within &= columns.mask(by_words.matched(session, plan.required, by_rank=False))
            if plan.excluded:
                within &= ~columns.mask(by_words.matched(session, plan.excluded, by_rank=False))
            if not query.has_text:
                found.allowed = within
        found.timing_ms["filter"] = (time.perf_counter() - clock) * 1000
        job: Future[list[tuple[int, float]]] | None = None
        if sought and index is not None and (within is None or within.any()):
            wanted = None if within is None else columns.ids[within]
            job = _start(index, sought, depth, wanted, most_id, found.timing_ms)
        if mode != "meaning" or not sought:
            started = time.perf_counter()
            self._by_words(session, found, most_id)
            found.timing_ms["words"] = (time.perf_counter() - started) * 1000
        near = job.result() if job is not None else []
        started = time.perf_counter()
        ranked = found.matched[:depth].tolist()
        fused = fuse([one for one in (ranked, [paper_id for paper_id, _ in near], first) if one])
        found.fused = [paper_id for paper_id, _ in fused]
        found.scores = dict(fused)
        found.word_ids = frozenset(ranked)
        found.meaning = dict(near)
        found.timing_ms["fuse"] = (time.perf_counter() - started) * 1000
        return found

    def with_all_words(self, session: Session, found: Found, most_id: int) -> np.ndarray:
        """Ids of papers that have all words of the query, by BM25."""
        if found.has_all:
            return found.matched
        if not found.plan.every:
            return np.zeros(0, np.int64)
        return self._matching(session, found, found.plan.every, most_id)

    def like(self, session: Session, text: str, depth: int) -> np.ndarray:
        """Ids of papers that share telling words with a text, by BM25: words that some other papers have, and few."""
        surfaces = list(dict.fromkeys(by_words.surfaces(text.lower())))[:200]
        stems = dict(zip(surfaces, self.stemmer.stems(surfaces), strict=True))
        counts = self.frequencies.of(session, stems.values())
        shared = [word for word in surfaces if counts.get(stems[word], 0) > 1]
        if not shared:
            return np.zeros(0, np.int64)
        telling = sorted(shared, key=lambda word: (counts[stems[word]], word))[: by_words.MOST_RARE]
        return by_words.matched(session, by_words.any_of(telling))[:depth]

    def _by_words(self, session: Session, found: Found, most_id: int) -> None:
        plan = found.plan
        # More than eight words in one abstract, twenty times over: that does not happen, so it is not asked.
        if plan.every and (len(plan.words) <= by_words.MOST_RARE or plan.every == plan.some):
            ids = self._matching(session, found, plan.every, most_id)
            if len(ids) >= by_words.ENOUGH or plan.every == plan.some or (len(ids) and not plan.some):
                found.matched, found.has_all = ids, True
                return
        if plan.some:
            found.matched = self._matching(session, found, plan.some, most_id)

    def _matching(self, session: Session, found: Found, match: str, most_id: int) -> np.ndarray:
        outside = f" NOT ({found.plan.excluded})" if found.plan.excluded else ""
        ids = by_words.matched(session, f"({match}){outside}")
        return found.passing(ids[ids <= most_id])


def _allowed(
    session: Session, columns: Columns, query: Query, facts: Facts, since: str | None, most_id: int
) -> np.ndarray | None:
    """bool over the columns: which papers pass all filters; None when there are none."""
    masks = []
    for group in query.filters:
        passed = [_of_filter(session, columns, one, facts) ^ one.negative for one in group]
        masks.append(np.logical_or.reduce(passed))
    if since is not None and len(since) > 10:
        masks.append(
            columns.mask(numbers(session, "SELECT id FROM paper WHERE first_seen >= :since", {"since": since}))
        )
    elif since is not None:
        masks.append(columns.listed >= int(since.replace("-", "") or 0))
    if not query.has_text and len(columns.ids) and columns.ids[-1] > most_id:
        masks.append(columns.ids <= most_id)
    if not masks:
        return None
    everything: np.ndarray = np.logical_and.reduce(masks)
    return everything


def _of_filter(session: Session, columns: Columns, one: Filter, facts: Facts) -> np.ndarray:
    match one.kind:
        case "cat":
            return columns.in_category(one.value)
        case "year":
            return columns.published_between(one.value, f"{int(one.value) + 1:04d}")
        case "after":
            return columns.published_between(one.value, "")
        case "before":
            return columns.published_between("", one.value)
        case "verdict":
            return columns.mask(_of_slugs(session, facts.verdicts.get(one.value, ())))
        case "has" if one.value == "code":
            with_code: np.ndarray = columns.has_code | columns.mask(_of_slugs(session, facts.code))
            return with_code
        case "has":
            return columns.mask(_of_slugs(session, facts.method if one.value == "method" else facts.claims))
        case other:
            raise AssertionError(f"a filter of kind {other} has no meaning here")


def _of_slugs(session: Session, slugs: Sequence[str]) -> np.ndarray:
    query = "SELECT id FROM paper WHERE slug IN (SELECT value FROM json_each(:slugs)) ORDER BY id"
    return numbers(session, query, {"slugs": json.dumps(list(slugs))})


def _start(
    index: VectorIndex, sought: str, depth: int, allowed: np.ndarray | None, most_id: int, timing_ms: dict[str, float]
) -> Future[list[tuple[int, float]]]:
    def scan() -> list[tuple[int, float]]:
        started = time.perf_counter()
        vector = index.embedder.embed([sought])[0]
        timing_ms["embed"] = (time.perf_counter() - started) * 1000
        near = index.nearest(vector, depth, allowed=allowed, most_id=most_id)
        timing_ms["meaning"] = (time.perf_counter() - started) * 1000
        return near

    if len(index) >= PARALLEL_FROM:
        return _threads.submit(scan)
    done: Future[list[tuple[int, float]]] = Future()
    done.set_result(scan())
    return done


# -- all of it, in order --------------------------------------------------------------------------------------------


def ordered(session: Session, found: Found, sort: str) -> np.ndarray:
    """Ids of everything that was found, best, newest or hottest first.

    By relevance, what was fused comes first and then the rest of what words match. By day or heat, that is papers with all
    words; where there are few of them, what was fused.
    """
    columns = found.columns
    if not found.query.has_text:
        rows = columns.newest
        if found.allowed is not None:
            rows = rows[found.allowed[rows]]
        ids = columns.ids[rows]
        return ids if sort != "hot" else _hottest(session, ids)
    if sort == "relevance":
        fused = np.array(found.fused, dtype=np.int64)
        beyond = (
            found.matched[~np.isin(found.matched, fused)] if len(found.matched) > len(found.word_ids) else fused[:0]
        )
        return np.concatenate([fused, beyond])
    if found.has_all or (len(found.matched) and not found.meaning):
        return in_order(session, found, found.matched, sort)
    return in_order(session, found, np.array(found.fused, dtype=np.int64), sort)


def in_order(session: Session, found: Found, ids: np.ndarray, sort: str) -> np.ndarray:
    """These ids, newest or hottest first."""
    columns = found.columns
    place = np.empty(len(columns.ids), dtype=np.int64)
    place[columns.newest] = np.arange(len(columns.ids))
    newest = columns.ids[columns.newest[np.sort(place[columns.rows(ids)])]]
    return newest if sort != "hot" else _hottest(session, newest)


def _hottest(session: Session, newest: np.ndarray) -> np.ndarray:
    """Those with heat first, then those that run here, then the rest, which stays newest first."""
    hot = numbers(session, "SELECT paper_id FROM hot ORDER BY key_week DESC, paper_id DESC")
    runs = numbers(session, "SELECT id FROM paper WHERE slug IS NOT NULL")
    warm = hot[np.isin(hot, newest)]
    rest = newest[~np.isin(newest, warm)]
    ready = np.isin(rest, runs)
    return np.concatenate([warm, rest[ready], rest[~ready]])


def facets_of(session: Session, found: Found, facts: Facts, ids: np.ndarray) -> dict[str, list[tuple[str, int]]]:
    """Counts by category, year and what papers have, over the first `CAP` of the results."""
    columns = found.columns
    ids = ids[:CAP]
    codes, years, _ = columns.counts(columns.rows(ids))
    method, coded = _of_slugs(session, facts.method), _of_slugs(session, facts.code)
    with_code = (columns.has_code | columns.mask(coded))[columns.rows(ids)]
    has = [("method", int(np.isin(method, ids).sum())), ("code", int(with_code.sum()))]
    return {
        "category": sorted(codes.items(), key=lambda item: (-item[1], item[0])),
        "year": sorted(years.items(), reverse=True),
        "has": [(name, n) for name, n in has if n],
    }


def spelling(session: Session, stemmer: Stemmer, unknown: Sequence[str], index: VectorIndex | None) -> dict[str, str]:
    """A word that papers have for each that none has, where one is spelt nearly so."""
    found = {}
    for word in unknown[:4]:
        lower = word.lower()
        if len(lower) < 4:
            continue
        if index is not None and isinstance(index.embedder, SvdEmbedder):
            vocabulary = index.embedder.vocabulary
            near = vocabulary[bisect_left(vocabulary, lower[:1]) : bisect_left(vocabulary, lower[:1] + "\U0010ffff")]
            near = [one for one in near if abs(len(one) - len(lower)) <= 2]
            close = difflib.get_close_matches(lower, near, n=1, cutoff=0.8)
        else:
            stem = stemmer.stems([word])[0]
            close = difflib.get_close_matches(stem, by_words.neighbours(session, word, stem), n=1, cutoff=0.8)
        if close:
            found[word] = close[0]
    return found

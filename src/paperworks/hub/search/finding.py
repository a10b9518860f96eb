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
from typing import Any

import numpy as np
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from paperworks.hub.search import words as by_words
from paperworks.hub.search.embed import SvdEmbedder
from paperworks.hub.search.fuse import fuse
from paperworks.hub.search.query import Filter, Query
from paperworks.hub.search.vectors import VectorIndex
from paperworks.hub.search.words import Frequencies, Plan, Stemmer
from paperworks.hub.store.models import PAPER_DAY
from paperworks.hub.store.votes import hottest

DEPTH = 200  # that words and meaning give each
CAP = 10_000  # results that are counted, paged through and looked at for facets
PARALLEL_FROM = 20_000  # vectors; below, a second thread costs more than it saves

_DAY = PAPER_DAY.replace("announced", "p.announced").replace("first_seen", "p.first_seen")
_PUBLISHED = f"coalesce(p.published, {_DAY})"
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="meaning")


@dataclass(frozen=True, slots=True)
class Facts:
    """What filters about the hub itself need to know: short names of papers by what they have."""

    method: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    verdicts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # verdict -> papers with a claim of it


@dataclass
class Allowed:
    """A set of papers as SQL that selects their ids; `sql` '' means all."""

    sql: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def condition(self, column: str) -> str:
        """' AND column IN (...)'; the plus keeps SQLite from asking full text once for each id."""
        return f" AND +{column} IN ({self.sql})" if self.sql else ""


class _Sets:
    """Puts sets of papers together: all of `yes`, none of `no`."""

    def __init__(self) -> None:
        self.yes: list[str] = []
        self.no: list[str] = []
        self.values: dict[str, Any] = {}

    def value(self, value: Any) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def allowed(self) -> Allowed:
        if not self.yes and not self.no:
            return Allowed()
        first = self.yes or ["SELECT id FROM paper"]
        return Allowed(
            " EXCEPT ".join([" INTERSECT ".join(f"SELECT * FROM ({one})" for one in first), *(f"SELECT * FROM ({one})" for one in self.no)]),
            dict(self.values),
        )  # fmt: skip


def allowed_by(query: Query, facts: Facts, *, since: str | None = None, plan: Plan | None = None) -> Allowed:
    """Papers that pass all filters; with `plan`, also its phrases, fields and exclusions.

    since: only papers that came in at or after this UTC time, or on or after this day.
    """
    sets = _Sets()
    for group in query.filters:
        if len(group) == 1:
            (sets.no if group[0].negative else sets.yes).append(_of_filter(group[0], facts, sets))
        else:
            sets.yes.append(" UNION ".join(f"SELECT * FROM ({_of_filter(one, facts, sets)})" for one in group))
    if since is not None:
        column = "p.first_seen" if len(since) > 10 else _DAY
        sets.yes.append(f"SELECT p.id FROM paper p WHERE {column} >= {sets.value(since)}")
    if plan is not None and plan.required:
        sets.yes.append(f"SELECT rowid FROM paper_fts WHERE paper_fts MATCH {sets.value(plan.required)}")
    if plan is not None and plan.excluded:
        sets.no.append(f"SELECT rowid FROM paper_fts WHERE paper_fts MATCH {sets.value(plan.excluded)}")
    return sets.allowed()


def _of_filter(one: Filter, facts: Facts, sets: _Sets) -> str:
    match one.kind:
        case "cat":
            code = sets.value(one.value)
            if "." in one.value:
                return f"SELECT paper_id FROM paper_category WHERE code = {code}"
            low, high = sets.value(f"{one.value}."), sets.value(f"{one.value}/")  # '/' follows '.'
            return (
                f"SELECT DISTINCT paper_id FROM paper_category WHERE code = {code} OR (code > {low} AND code < {high})"
            )
        case "year":
            return _between(sets, one.value, f"{int(one.value) + 1:04d}")
        case "after":
            return _between(sets, one.value, "9999")
        case "before":
            return _between(sets, "", one.value)
        case "verdict":
            return _of_slugs(sets, facts.verdicts.get(one.value, ()))
        case "has" if one.value == "code":
            return f"SELECT paper_id FROM link WHERE kind = 'code' UNION {_of_slugs(sets, facts.code)}"
        case "has":
            return _of_slugs(sets, facts.method if one.value == "method" else facts.claims)
        case other:
            raise AssertionError(f"a filter of kind {other} has no meaning here")


def _between(sets: _Sets, low: str, high: str) -> str:
    """Published from `low` on and before `high`; by the listing day where the day of publication is not known."""
    first, last = sets.value(low), sets.value(high)
    day = _DAY.replace("p.", "")
    return (
        f"SELECT id FROM paper WHERE published >= {first} AND published < {last} UNION "
        f"SELECT id FROM (SELECT id FROM paper WHERE {day} >= {first} AND {day} < {last} INTERSECT "
        "SELECT id FROM paper WHERE published IS NULL)"
    )


def _of_slugs(sets: _Sets, slugs: Sequence[str]) -> str:
    return f"SELECT id FROM paper WHERE slug IN (SELECT value FROM json_each({sets.value(json.dumps(list(slugs)))}))"


# -- finding --------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What a search found: `fused` best first, and SQL for what lies beyond."""

    query: Query
    plan: Plan
    facts_allowed: Allowed  # by filters on facts
    everything: Allowed  # by phrases, fields and exclusions as well
    most_id: int
    match: str = ""  # what FTS5 was asked, '' for nothing
    has_all: bool = False  # `match` wants all words
    fused: list[int] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)
    word_ids: frozenset[int] = frozenset()
    meaning: dict[int, float] = field(default_factory=dict)  # id -> cosine
    n_words: int = 0
    timing_ms: dict[str, float] = field(default_factory=dict)

    def words_condition(self) -> tuple[str, dict[str, Any]]:
        allowed = self.facts_allowed
        return f"{allowed.condition('paper_fts.rowid')} AND paper_fts.rowid <= :most_id", {
            **allowed.values,
            "most_id": self.most_id,
        }


class Finder:
    """What searches of one hub share. Safe in threads."""

    def __init__(self) -> None:
        self.stemmer = Stemmer()
        self.frequencies = Frequencies()

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
        """Words and meaning, fused. index: None searches words only. first: ids that count as a list of their own."""
        clock = time.perf_counter()
        plan = by_words.plan(query, session, self.stemmer, self.frequencies)
        everything = allowed_by(query, facts, since=since, plan=plan)
        found = Found(query, plan, allowed_by(query, facts, since=since), everything, most_id)
        sought = query.meaning if mode != "words" and index is not None else ""
        job: Future[list[tuple[int, float]]] | None = None
        if sought and index is not None:
            allowed = _ids(session, everything) if everything.sql else None
            found.timing_ms["filter"] = (time.perf_counter() - clock) * 1000
            if allowed is None or len(allowed):
                job = _start(index, sought, depth, allowed, most_id, found.timing_ms)
        ranked: list[int] = []
        if mode != "meaning" or not sought:
            started = time.perf_counter()
            ranked = self._by_words(session, found, depth)
            found.timing_ms["words"] = (time.perf_counter() - started) * 1000
        near = job.result() if job is not None else []
        started = time.perf_counter()
        fused = fuse([lst for lst in (ranked, [paper_id for paper_id, _ in near], first) if lst])
        found.fused = [paper_id for paper_id, _ in fused]
        found.scores = dict(fused)
        found.word_ids = frozenset(ranked)
        found.meaning = dict(near)
        found.timing_ms["fuse"] = (time.perf_counter() - started) * 1000
        return found

    def with_all_words(self, session: Session, found: Found, limit: int) -> list[int]:
        """Ids of papers that have all words of the query, by BM25."""
        plan = found.plan
        if not plan.every:
            return []
        condition, values = found.words_condition()
        outside = f" NOT ({plan.excluded})" if plan.excluded else ""
        return by_words.ranked(session, f"({plan.every}){outside}", limit, condition, values)

    def like(self, session: Session, text: str, depth: int) -> list[int]:
        """Ids of papers that share telling words with a text, by BM25: words that some other papers have, and few."""
        surfaces = list(dict.fromkeys(by_words.surfaces(text.lower())))[:200]
        stems = dict(zip(surfaces, self.stemmer.stems(surfaces), strict=True))
        counts = self.frequencies.of(session, stems.values())
        shared = [word for word in surfaces if counts.get(stems[word], 0) > 1]
        if not shared:
            return []
        telling = sorted(shared, key=lambda word: (counts[stems[word]], word))[: by_words.MOST_RARE]
        return by_words.ranked(session, by_words.any_of(telling), depth)

    def in_order(self, session: Session, found: Found, ids: Sequence[int], sort: str) -> list[int]:
        """These ids, newest or hottest first."""
        chosen = Allowed("SELECT value FROM json_each(:fused)", {"fused": json.dumps(list(ids))})
        return _listing(session, found, chosen, sort, 0, len(ids), total=len(ids))[0]

    def _by_words(self, session: Session, found: Found, depth: int) -> list[int]:
        plan = found.plan
        condition, values = found.words_condition()
        outside = f" NOT ({plan.excluded})" if plan.excluded else ""
        # More than eight words in one abstract, twenty times over: that does not happen, so it is not asked.
        if plan.every and (len(plan.words) <= by_words.MOST_RARE or plan.every == plan.some):
            match = f"({plan.every}){outside}"
            n = by_words.count(session, match, CAP + 1, condition, values)
            if n >= by_words.ENOUGH or (n and not plan.some) or plan.every == plan.some:
                found.match, found.n_words, found.has_all = match, n, True
                return by_words.ranked(session, match, depth, condition, values) if n else []
        if not plan.some:
            return []
        found.match = f"({plan.some}){outside}"
        found.n_words = by_words.count(session, found.match, CAP + 1, condition, values)
        return by_words.ranked(session, found.match, depth, condition, values) if found.n_words else []


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


def _ids(session: Session, allowed: Allowed) -> np.ndarray:
    """Ids ascending, int64; as one text, since a hundred thousand rows through the driver take ten times as long."""
    joined = session.scalar(sql(f"WITH a(id) AS ({allowed.sql}) SELECT group_concat(id) FROM a"), allowed.values)
    if not joined:
        return np.zeros(0, dtype=np.int64)
    return np.unique(np.fromstring(joined, dtype=np.int64, sep=","))


# -- pages ----------------------------------------------------------------------------------------------------------


def page_of(session: Session, found: Found, sort: str, offset: int, size: int) -> tuple[list[int], int]:
    """Ids of a page, and how many results there are, counted up to `CAP` + 1."""
    if not found.query.has_text:
        return _listing(session, found, found.everything, sort, offset, size)
    if sort == "relevance":
        total = max(found.n_words, len(found.fused))
        ids = found.fused[offset : offset + size]
        if len(ids) < size and found.match and found.n_words > len(found.word_ids):
            condition, values = found.words_condition()
            skip = max(0, offset - len(found.fused))
            known = set(found.fused)
            enough = min(CAP, len(found.fused) + skip + size)
            rest = by_words.ranked(session, found.match, enough + DEPTH, condition, values)
            beyond = [paper_id for paper_id in rest if paper_id not in known]
            ids += beyond[skip : skip + size - len(ids)]
        return ids, total
    if found.has_all or (found.match and not found.meaning):
        condition, values = found.words_condition()
        chosen = Allowed(
            f"SELECT rowid FROM paper_fts WHERE paper_fts MATCH :match {condition}", {"match": found.match, **values}
        )
        return _listing(session, found, chosen, sort, offset, size, total=found.n_words)
    chosen = Allowed("SELECT value FROM json_each(:fused)", {"fused": json.dumps(found.fused)})
    return _listing(session, found, chosen, sort, offset, size, total=len(found.fused))


def _listing(
    session: Session, found: Found, allowed: Allowed, sort: str, offset: int, size: int, total: int | None = None
) -> tuple[list[int], int]:
    values = {**allowed.values, "most_id": found.most_id, "limit": size, "offset": offset}
    if total is None:
        counted = allowed.sql or "SELECT id FROM paper"
        total = session.scalar(sql(f"SELECT count(*) FROM (SELECT * FROM ({counted}) LIMIT {CAP + 1})"), allowed.values)
    if sort == "hot" and not allowed.sql:
        return hottest(session, "week", size, offset), total or 0
    inside = f"AND p.id IN ({allowed.sql})" if allowed.sql else ""
    if sort == "hot":
        table = "paper p LEFT JOIN hot ON hot.paper_id = p.id"
        order = f"hot.key_week DESC NULLS LAST, p.slug IS NULL, {_DAY} DESC, p.id DESC"
    else:
        table, order = "paper p", f"{_DAY} DESC, p.id DESC"
    found_ids = session.execute(
        sql(f"SELECT p.id FROM {table} WHERE p.id <= :most_id {inside} ORDER BY {order} LIMIT :limit OFFSET :offset"),
        values,
    )
    return [row[0] for row in found_ids], total or 0


def facets_of(session: Session, found: Found, facts: Facts, ids: Sequence[int]) -> dict[str, list[tuple[str, int]]]:
    """Counts by category, year and what papers have, over at most `CAP` of the results. ids: results by meaning, to be counted too."""
    values: dict[str, Any] = {"slugs": json.dumps(list(facts.method)), "coded": json.dumps(list(facts.code))}
    if not found.query.has_text:
        values |= found.everything.values
        chosen = found.everything.sql or f"SELECT p.id FROM paper p ORDER BY {_DAY} DESC"
        inside = f"SELECT * FROM (SELECT * FROM ({chosen}) LIMIT {CAP})"
    else:
        inside = "SELECT value FROM json_each(:ids)"
        values["ids"] = json.dumps(list(ids))
        if found.match:
            condition, more = found.words_condition()
            values |= more | {"match": found.match}
            inside += f" UNION SELECT * FROM (SELECT paper_fts.rowid FROM paper_fts WHERE paper_fts MATCH :match {condition} LIMIT {CAP})"
    rows = session.execute(
        sql(
            f"WITH found(id) AS MATERIALIZED ({inside}) "
            "SELECT 'category', c.code, count(*) FROM found JOIN paper_category c ON c.paper_id = found.id GROUP BY c.code "
            f"UNION ALL SELECT 'year', substr({_PUBLISHED}, 1, 4), count(*) FROM found JOIN paper p ON p.id = found.id GROUP BY 2 "
            "UNION ALL SELECT 'has', 'method', count(*) FROM paper p WHERE p.slug IN (SELECT value FROM json_each(:slugs)) "
            "AND p.id IN (SELECT id FROM found) "
            "UNION ALL SELECT 'has', 'code', count(*) FROM found WHERE EXISTS (SELECT 1 FROM link WHERE link.paper_id = found.id "
            "AND link.kind = 'code') OR found.id IN (SELECT id FROM paper WHERE slug IN (SELECT value FROM json_each(:coded)))"
        ),
        values,
    )
    counted: dict[str, list[tuple[str, int]]] = {"category": [], "year": [], "has": []}
    for group, name, n in rows:
        if name and n:
            counted[group].append((name, n))
    counted["category"].sort(key=lambda item: (-item[1], item[0]))
    counted["year"].sort(reverse=True)
    return counted


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

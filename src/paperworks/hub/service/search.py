"""Search, find similar papers, and keep the indexes up to date."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from sqlalchemy import select
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from paperworks.errors import InputError, NotFound, PaperworksError, StoreError
from paperworks.hub.hub import Hub
from paperworks.hub.identifiers import parse_reference
from paperworks.hub.search import building, compressed, vectors
from paperworks.hub.search.embed import SvdEmbedder, terms
from paperworks.hub.search.finding import CAP, DEPTH, Facts, Finder, Found, facets_of, in_order, ordered, spelling
from paperworks.hub.search.query import MODES, SORTS, Filter, Query, parse
from paperworks.hub.search.vectors import VectorIndex
from paperworks.hub.search.why import explain
from paperworks.hub.service.cards import build_cards, find_paper
from paperworks.hub.service.claims import claim_rows
from paperworks.hub.store import votes
from paperworks.hub.store.models import Paper
from paperworks.hub.times import utc_text
from paperworks.hub.views import FacetView, PaperCard, SearchPage, WhyView
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)
MOST_A_PAGE = 100
MOST_FACETS = {"category": 12, "year": 12, "has": 4}
FACET_KIND = {"category": "cat", "year": "year", "has": "has"}
FACET_LABEL = {("has", "method"): "runs here", ("has", "code"): "code elsewhere"}
MEANT = 0.45  # cosine from which a paper counts as meant by a standing search; see docs/benchmarks/search.md
SAME = 0.97  # cosine from which two papers are versions of one
BOOST = 0.1  # for a shared author, and for standing on the same list of a day
SHORT_LIST = 60  # papers of a day's list; to stand together on a longer one says nothing
SHARED_WORDS = 4
MOST_EXPLAINED = 500  # results of a standing search that are explained; an export of thousands is not read by a person
TELLING = 2.1  # inverse document frequency of a word worth naming: in about a third of the papers or fewer
FTS_MERGE_PAGES = 500
FTS_MERGE_STEPS = 200

_finders: weakref.WeakKeyDictionary[Hub, Finder] = weakref.WeakKeyDictionary()


def _finder(hub: Hub) -> Finder:
    found = _finders.get(hub)
    if found is None:
        found = _finders.setdefault(hub, Finder())
    return found


def _index(hub: Hub) -> tuple[VectorIndex | None, str]:
    return vectors.open_index(hub.settings.vectors, hub.settings.embedder)


def _facts(hub: Hub, query: Query) -> Facts:
    papers = hub.catalogue.papers
    verdicts: dict[str, tuple[str, ...]] = {}
    if any(one.kind == "verdict" for group in query.filters for one in group):
        for row in claim_rows(hub):
            verdicts[row.verdict] = (*verdicts.get(row.verdict, ()), row.slug)
    return Facts(
        method=tuple(slug for slug, paper in papers.items() if paper.has_method),
        claims=tuple(slug for slug, paper in papers.items() if paper.claims),
        code=tuple(slug for slug, paper in papers.items() if paper.spec.code),
        verdicts=verdicts,
    )


# -- search ---------------------------------------------------------------------------------------------------------


def search(
    hub: Hub, text: str, *, cursor: str | None = None, mode: str | None = None, sort: str | None = None, size: int = 20
) -> SearchPage:
    """A page of what a query finds; any text is a query (see `hub/search/query.py`).

    mode 'words', 'meaning' or 'both' and sort 'relevance', 'new' or 'hot' win over what the text says; without either, both
    and relevance, or newest first where there are no words. An arXiv id, an address or a DOI gives that paper in `direct`.

    Raises InputError for another mode or sort, and for a cursor that this search did not give.
    """
    started = time.perf_counter()
    if mode is not None and mode not in MODES:
        raise InputError(f"mode is one of {', '.join(MODES)}, not {mode!r}")
    if sort is not None and sort not in SORTS:
        raise InputError(f"sort is one of {', '.join(SORTS)}, not {sort!r}")
    size = max(1, min(size, MOST_A_PAGE))
    shown = text.strip()[:2000]
    with hub.db.read() as session:
        direct = _direct(hub, session, shown, mode or "both")
        if direct is not None:
            return direct
        query = parse(text)
        in_force = mode or query.mode or "both"
        order = sort or query.sort or "relevance"
        if order == "relevance" and not query.has_text:
            order = "new"
        mark = zlib.crc32(f"{query}|{in_force}|{order}".encode("utf-8", "replace"))
        offset, most_id = _read_cursor(cursor, mark) if cursor else (0, None)
        if most_id is None:
            most_id = session.scalar(sql("SELECT max(id) FROM paper")) or 0
        finder, facts, (index, problem) = _finder(hub), _facts(hub, query), _index(hub)
        found = finder.find(
            session, query, facts, index, mode=in_force, most_id=most_id, first=_by_slug(hub, session, shown)
        )
        clock = time.perf_counter()
        everything = ordered(session, found, order)
        total = len(everything)
        ids = everything[offset : min(CAP, offset + size)].tolist()
        found.timing_ms["order"] = (time.perf_counter() - clock) * 1000
        clock = time.perf_counter()
        facets = _facets(session, found, facts, query, everything) if offset == 0 else {}
        found.timing_ms["facets"] = (time.perf_counter() - clock) * 1000
        notes = [*query.notes, *_notes(session, finder, found, query, in_force, index, problem, total)]
        clock = time.perf_counter()
        whys = _whys(session, finder, found, ids) if query.has_text else None
        found.timing_ms["why"] = (time.perf_counter() - clock) * 1000
        clock = time.perf_counter()
        cards = build_cards(hub, session, ids, whys=whys, scores=found.scores)
        found.timing_ms["cards"] = (time.perf_counter() - clock) * 1000
    after = offset + size
    more = after < min(total, CAP)
    found.timing_ms["total"] = (time.perf_counter() - started) * 1000
    return SearchPage(
        query=shown,
        canonical=str(query),
        mode=in_force,
        cards=tuple(cards),
        about=min(total, CAP),
        capped=total > CAP,
        facets=facets,
        next=_cursor(after, most_id, mark) if more else None,
        notes=tuple(dict.fromkeys(notes)),
        timing_ms={name: round(took, 2) for name, took in found.timing_ms.items()},
    )


def ids_for_query(
    hub: Hub, session: Session, text: str, *, since: datetime | str | None = None, limit: int
) -> list[tuple[int, WhyView]]:
    """Ids of what a standing search finds, best first, the first 500 with reasons: for digests, feeds and export.

    Stricter than `search`: a paper has all the words, or is near in meaning beyond doubt; that it is merely the nearest of a
    quiet day does not count.
    since: only what came in at or after this time, or was listed on or after this day ('2026-08-21').
    """
    query = parse(text)
    facts, finder, (index, _) = _facts(hub, query), _finder(hub), _index(hub)
    reach = utc_text(since) if isinstance(since, datetime) else since
    most_id = session.scalar(sql("SELECT max(id) FROM paper")) or 0
    mode = query.mode or "both"
    depth = min(CAP, max(DEPTH, limit))
    found = finder.find(session, query, facts, index, mode=mode, most_id=most_id, since=reach, depth=depth)
    order = query.sort or ("relevance" if query.has_text else "new")
    if not query.has_text:
        ids: list[int] = ordered(session, found, order)[:limit].tolist()
    else:
        strict: list[int] = finder.with_all_words(session, found, most_id).tolist()
        having = set(strict)
        ids = [one for one in found.fused if one in having or found.meaning.get(one, 0.0) >= MEANT]
        known = set(ids)
        ids += [one for one in strict if one not in known]
        if order != "relevance":
            ids = in_order(session, found, np.array(ids, dtype=np.int64), order).tolist()
    ids = ids[:limit]
    whys = _whys(session, finder, found, ids[:MOST_EXPLAINED]) if ids else {}
    rest = {
        one: WhyView(by_words=one not in found.meaning, by_meaning=one in found.meaning) for one in ids[MOST_EXPLAINED:]
    }
    return [*whys.items(), *rest.items()]


def _direct(hub: Hub, session: Session, text: str, mode: str) -> SearchPage | None:
    """The paper that an identifier or an address names, or the news that it is not here; None for other text."""
    if parse_reference(text) is None:
        return None
    try:
        cards = build_cards(hub, session, [find_paper(hub, session, text)])
        notes: tuple[str, ...] = ()
    except NotFound as error:
        cards, notes = [], (str(error),)
    return SearchPage(
        query=text,
        canonical=text,
        mode=mode,
        cards=tuple(cards),
        about=len(cards),
        capped=False,
        facets={},
        next=None,
        notes=notes,
        timing_ms={},
        direct=cards[0].ref if cards else None,
    )


def _by_slug(hub: Hub, session: Session, text: str) -> list[int]:
    """A runnable paper by its short name counts as a result of its own."""
    slug = text.lower().replace("-", "_")
    if slug not in hub.catalogue.papers:
        return []
    return list(session.scalars(select(Paper.id).where(Paper.slug == slug)))


def _facets(
    session: Session, found: Found, facts: Facts, query: Query, ids: np.ndarray
) -> dict[str, tuple[FacetView, ...]]:
    views: dict[str, tuple[FacetView, ...]] = {}
    active = {one for group in query.filters if len(group) == 1 for one in group}
    for group, counted in facets_of(session, found, facts, ids).items():
        shown = []
        for name, n in counted[: MOST_FACETS[group]]:
            one = Filter(FACET_KIND[group], name)
            other = query.without_filter(one) if one in active else query.with_filter(one)
            label = FACET_LABEL.get((group, name), name)
            shown.append(FacetView(name=name, label=label, count=n, query=str(other), active=one in active))
        if shown:
            views[group] = tuple(shown)
    return views


def _notes(
    session: Session,
    finder: Finder,
    found: Found,
    query: Query,
    mode: str,
    index: VectorIndex | None,
    problem: str,
    total: int,
) -> list[str]:
    notes = []
    if index is None and mode != "words" and query.meaning:
        notes.append(f"this hub searches by words only for now: {problem}")
    if total > CAP:
        notes.append(f"counts beside the filters are of {CAP:,} of the results")
    if found.plan.unknown:
        near = spelling(session, finder.stemmer, found.plan.unknown, index)
        for word in found.plan.unknown[:4]:
            hint = f"; nearly so spelt: {near[word]}" if word in near else ""
            notes.append(f"no paper here has the word ‘{word[:40]}’{hint}")
    if query.has_text and found.fused and not found.word_ids and found.meaning and mode != "meaning":
        notes.append("no paper matches by words; these are the nearest by meaning")
    return notes


def _whys(session: Session, finder: Finder, found: Found, ids: Sequence[int]) -> dict[int, WhyView]:
    rows = {
        row.id: row
        for row in session.execute(select(Paper.id, Paper.title, Paper.abstract).where(Paper.id.in_(list(ids))))
    }
    n = finder.frequencies.papers(session)
    return {
        paper_id: explain(
            rows[paper_id].title,
            rows[paper_id].abstract,
            found.plan,
            finder.stemmer,
            n,
            by_meaning=paper_id in found.meaning,
        )
        for paper_id in ids
        if paper_id in rows
    }


def _cursor(offset: int, most_id: int, mark: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([offset, most_id, mark]).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, mark: int) -> tuple[int, int]:
    try:
        offset, most_id, given = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not all(type(value) is int for value in (offset, most_id, given)) or not 0 <= offset <= CAP:
            raise ValueError("not three numbers")
        if not 0 <= most_id < 2**62:
            raise ValueError("no such paper")
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise InputError(
            f"{cursor[:80]!r} is not the cursor of a search; take the one that the page before gave"
        ) from error
    if given != mark:
        raise InputError("this cursor belongs to another search, order or mode; begin again without it")
    return offset, most_id


# -- similar --------------------------------------------------------------------------------------------------------


def similar(hub: Hub, reference: str, k: int = 10) -> list[PaperCard]:
    """Papers like this one, nearest first, each with what they share.

    The score is the cosine, with 0.1 for a shared author and 0.1 for standing on the same short list of a day. Papers whose
    text is all but the same (cosine above 0.97) are folded: of this paper one is shown, as another version; of others the first.
    Without vectors, the telling words of the title decide. Raises NotFound.
    """
    k = max(0, min(k, MOST_A_PAGE))
    with hub.db.read() as session:
        paper_id = find_paper(hub, session, reference)
        if k == 0:
            return []
        index, _ = _index(hub)
        own = index.vector_of(paper_id) if index is not None else None
        finder = _finder(hub)
        if index is None or own is None:
            near: list[tuple[int, float | None]] = [
                (found, None) for found in _like_by_words(session, finder, paper_id, 5 * k + 10)
            ]
        else:
            near = [(found, cosine) for found, cosine in index.nearest(own, 5 * k + 11) if found != paper_id]
        ids = [found for found, _ in near]
        writers, lists = _together(session, paper_id, ids)
        scored = [
            (found, (cosine if cosine is not None else 1 / (2 + rank)) + BOOST * (found in writers) + BOOST * (found in lists), cosine or 0.0)
            for rank, (found, cosine) in enumerate(near)
        ]  # fmt: skip
        scored.sort(key=lambda item: (-item[1], item[0]))
        chosen, folded = _fold([(found, score) for found, score, _ in scored], {f: c for f, _, c in scored}, index, k)
        whys = _shared(session, finder, index, paper_id, chosen, writers, lists, folded, {f: c for f, _, c in scored})
        scores = {found: score for found, score, _ in scored}
        return build_cards(hub, session, chosen, whys=whys, scores=scores)


def _like_by_words(session: Session, finder: Finder, paper_id: int, depth: int) -> list[int]:
    row = session.execute(select(Paper.title, Paper.abstract).where(Paper.id == paper_id)).one()
    found = finder.like(session, f"{row.title} {row.abstract}", depth + 1)
    return [other for other in found.tolist() if other != paper_id]


def _together(session: Session, paper_id: int, ids: Sequence[int]) -> tuple[set[int], set[int]]:
    """Of `ids`, those with an author of this paper, and those that stood on a short list of a day with it."""
    values = {"own": paper_id, "ids": json.dumps(list(ids)), "short": SHORT_LIST}
    writers = session.scalars(
        sql(
            "SELECT DISTINCT other.paper_id FROM authorship mine JOIN authorship other ON other.author_id = mine.author_id "
            "WHERE mine.paper_id = :own AND other.paper_id IN (SELECT value FROM json_each(:ids))"
        ),
        values,
    )
    lists = session.scalars(
        sql(
            "SELECT DISTINCT other.paper_id FROM listing mine JOIN listing other ON other.day = mine.day "
            "AND other.source_id = mine.source_id WHERE mine.paper_id = :own "
            "AND other.paper_id IN (SELECT value FROM json_each(:ids)) "
            "AND (SELECT count(*) FROM listing WHERE day = mine.day AND source_id = mine.source_id) <= :short"
        ),
        values,
    )
    return set(writers), set(lists)


def _fold(
    scored: Sequence[tuple[int, float]], cosines: dict[int, float], index: VectorIndex | None, k: int
) -> tuple[list[int], dict[int, int]]:
    """The first k that are not nearly the same as one before; and how many were folded into each."""
    if index is None:
        return [found for found, _ in scored[:k]], {}
    ids = np.array([found for found, _ in scored], dtype=np.int64)
    if not len(ids):
        return [], {}
    rows = index.take(index.rows_of(ids))  # (n, d)
    chosen: list[int] = []
    folded: dict[int, int] = {}
    version: int | None = None
    for at, found in enumerate(ids.tolist()):
        if cosines[found] > SAME:  # the paper itself once more
            if version is None:
                version = found
                chosen.append(found)
            else:
                folded[version] = folded.get(version, 0) + 1
            continue
        before = [ids.tolist().index(other) for other in chosen if cosines[other] <= SAME]
        close = rows[before] @ rows[at] if before else np.zeros(0)
        if len(close) and close.max() > SAME:
            into = int(ids[before[int(close.argmax())]])
            folded[into] = folded.get(into, 0) + 1
        else:
            chosen.append(found)
        if len(chosen) >= k:
            break
    return chosen, folded


def _shared(
    session: Session,
    finder: Finder,
    index: VectorIndex | None,
    paper_id: int,
    ids: Sequence[int],
    writers: set[int],
    lists: set[int],
    folded: dict[int, int],
    cosines: dict[int, float],
) -> dict[int, WhyView]:
    rows = {
        row.id: row
        for row in session.execute(select(Paper.id, Paper.title, Paper.abstract).where(Paper.id.in_([paper_id, *ids])))
    }
    own = set(terms(f"{rows[paper_id].title} {rows[paper_id].abstract}"))
    embedder = index.embedder if index is not None and isinstance(index.embedder, SvdEmbedder) else None
    views = {}
    for found in ids:
        if found not in rows:
            continue
        common = own & set(terms(f"{rows[found].title} {rows[found].abstract}"))
        if embedder is not None:
            common = {word for word in common if embedder.weight(word) > TELLING}
            ranked = sorted(common, key=lambda word: (-embedder.weight(word), word))[:SHARED_WORDS]
        else:
            stems = dict(zip(sorted(common), finder.stemmer.stems(sorted(common)), strict=True))
            counts = finder.frequencies.of(session, (stem for stem in stems.values() if " " not in stem))
            most = finder.frequencies.papers(session) / 3  # a word of more papers says nothing
            common = {word for word in common if 0 < counts.get(stems[word], 0) <= most}
            ranked = sorted(common, key=lambda word: (counts[stems[word]], word))[:SHARED_WORDS]
        said = []
        if cosines.get(found, 0.0) > SAME:
            said.append("another version: nearly the same text")
        elif ranked:
            said.append("shares " + ", ".join(f"‘{word}’" for word in ranked))
        if found in writers:
            said.append("an author in common")
        if found in lists:
            said.append("on the same day's list")
        if folded.get(found):
            said.append(f"{folded[found]} more with nearly the same text")
        views[found] = WhyView(by_words=index is None, by_meaning=index is not None, sentence="; ".join(said))
    return views


# -- indexes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What `reindex` did."""

    vectors: Literal["nothing", "fold", "refit", "busy"]
    papers: int  # embedded
    heat: bool  # trending keys were computed anew
    sentence: str


def reindex(hub: Hub, progress: Progress = silent, *, force: bool = False) -> Reindexed:
    """Bring everything that is derived up to date: trending keys, the words index, the vectors. Cheap when nothing has changed.

    The vectors are learnt anew when there are none, when the hub has grown by half, and weekly; in between, new papers are
    folded in. On a hub of some size learning is done by a child process, so that a server goes on answering. Two at once do
    not get into each other's way: the second does nothing. A large hub's vectors are compressed too, see `Settings.search`.
    force: learn the vectors anew and rebuild the words index whatever their state.

    Raises StoreError when the folder cannot be written, InputError for an embedder that is not installed.
    """
    heat = _refresh_heat(hub)
    root = hub.settings.vectors
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / "building.lock", timeout=0):
            did, n = _reindex_vectors(hub, progress, force)
            _compress_vectors(hub, progress)
            if did != "nothing" or force:
                _tend_words(hub, force)
    except Timeout:
        return Reindexed("busy", 0, heat, "another process is building the indexes; nothing to do here")
    sentence = {
        "nothing": "everything was up to date",
        "fold": f"{n} {'paper' if n == 1 else 'papers'} folded in",
        "refit": f"vectors of {n} papers learnt anew",
    }[did]
    return Reindexed(did, n, heat, sentence)


def _refresh_heat(hub: Hub) -> bool:
    with hub.db.read() as session:
        if not votes.settings_differ(session, hub.settings):
            return False
    with hub.db.write() as session:
        return votes.refresh_if_set_anew(session, hub.settings, hub.now())


def _reindex_vectors(hub: Hub, progress: Progress, force: bool) -> tuple[Literal["nothing", "fold", "refit"], int]:
    root, embedder, now = hub.settings.vectors, hub.settings.embedder, hub.now()
    with hub.db.read() as session:
        n_papers = session.scalar(sql("SELECT count(*) FROM paper")) or 0
    state = vectors.read_state(root)
    index, _ = vectors.open_index(root)
    what = building.decide(state, n_papers, now, embedder, usable=index is not None)
    if force and n_papers >= building.FEWEST:
        what = "refit"
    if what == "fold" and index is not None:
        try:
            n = building.fold_in(hub.db, root, index, progress)
        except PaperworksError as error:
            log.warning("new papers could not be folded in, so everything is built anew: %s", error)
            what = "refit"
        else:
            return ("fold", n) if n else ("nothing", 0)
    if what != "refit":
        return "nothing", 0
    if n_papers <= building.IN_PROCESS:
        building.build(hub.db, root, embedder, now, progress)
    else:
        building.build_apart(hub.db, root, embedder, now, progress)
    return "refit", n_papers


def _compress_vectors(hub: Hub, progress: Progress) -> None:
    """Build a compressed index where one is wished and due. Without it all vectors are scanned, so a failure is only told."""
    root, wish = hub.settings.vectors, hub.settings.search
    state = vectors.read_state(root)
    if state is not None and state.compressed:
        compressed.drop_if_not_wished(root, state, above=wish.compress_above, memory_mib=wish.memory_mib)
    if not compressed.due(root, state, above=wish.compress_above, memory_mib=wish.memory_mib):
        return
    try:
        if state is not None and state.n_rows <= building.IN_PROCESS:
            compressed.compress(root, progress)
        else:
            compressed.compress_apart(root, progress)
    except StoreError as error:
        log.warning("%s", error)


def _tend_words(hub: Hub, force: bool) -> None:
    """Merge the words index, a little in each transaction, so that reading it is fast and writers never wait long."""
    if not hub.db.is_sqlite:
        return
    if force:
        with hub.db.write() as session:
            session.execute(sql("INSERT INTO paper_fts (paper_fts) VALUES ('rebuild')"))
    for _ in range(FTS_MERGE_STEPS):
        with hub.db.write() as session:
            before = _changes(session)
            session.execute(
                sql("INSERT INTO paper_fts (paper_fts, rank) VALUES ('merge', :pages)"), {"pages": FTS_MERGE_PAGES}
            )
            if _changes(session) - before < 2:  # SQLite's own sign that there is nothing left to merge
                return


def _changes(session: Session) -> int:
    found: Any = session.scalar(sql("SELECT total_changes()"))
    return int(found or 0)

"""The compressed index of a large hub: found papers and scores against the exact scan, filters, later papers, damage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.catalogue import Catalogue
from paperworks.config import SearchSettings, Settings
from paperworks.errors import StoreError
from paperworks.hub.hub import open_hub
from paperworks.hub.search import compressed, vectors
from paperworks.hub.search.compressed import Compressed
from paperworks.hub.search.embed import kind_of, unit
from paperworks.hub.search.vectors import State
from paperworks.hub.service import search as service

from .conftest import bring, made_up
from .test_vectors import Fixed, index_of

NOW = datetime(2026, 8, 21, tzinfo=UTC)


class Exact:
    """Candidates by a plain scan: what the compressed index would name if it never missed."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.n_covered = len(rows)

    def candidates(self, query: np.ndarray, k: int, wanted: np.ndarray | None) -> np.ndarray:
        scores = self.rows @ query
        if wanted is not None:
            assert wanted.shape == (self.n_covered,)
            scores = np.where(wanted, scores, -2)
        best = np.argsort(-scores, kind="stable")[:k]
        named: np.ndarray = best[scores[best] > -2]
        return named


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(5, 60), st.floats(0, 1), st.integers(1, 12))
def test_candidates_and_later_rows_give_what_the_scan_gives(seed: int, n: int, share: float, k: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, n, n)  # papers embedded again among them: their last row counts
    rows = unit(rng.standard_normal((n, 6)))
    covered = int(rng.integers(1, n + 1))
    scan, quick = index_of(ids, rows, (covered,)), index_of(ids, rows, (covered,))
    quick.compressed = Exact(rows[:covered])
    query = unit(rng.standard_normal((1, 6)))[0]
    for allowed in (None, np.unique(ids[rng.random(n) < share])):
        for most_id in (None, n // 2):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(vectors, "GATHER_COMPRESSED", 0)
                found = quick.nearest(query, k, allowed=allowed, most_id=most_id)
            wanted = scan.nearest(query, k, allowed=allowed, most_id=most_id)
            assert [one for one, _ in found] == [one for one, _ in wanted]
            assert [score for _, score in found] == pytest.approx([score for _, score in wanted], abs=1e-6)


@pytest.mark.parametrize(
    ("n_rows", "above", "memory_mib", "expected"),
    [
        (1000, 999, 0, True),
        (1000, 1000, 0, False),
        (1000, 10**6, 0.2, True),
        (1000, 10**6, 0.3, False),
        (0, 0, 0, False),
    ],
)
def test_it_is_wished_by_papers_or_by_memory(n_rows: int, above: int, memory_mib: float, expected: bool) -> None:
    state = State(
        "g", "svd", "0", 64, 9, "2026-08-21T00:00:00Z", (vectors.Segment("0000", n_rows, 0, 0),) if n_rows else ()
    )  # 64 float32 in 1000 rows are 0.244 MiB
    assert compressed.wished(state, above=above, memory_mib=memory_mib) is expected


def clusters(n: int, dims: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, dims)) * 0.95 ** np.arange(dims)
    return unit(centres[rng.integers(0, 40, n)] + 0.5 * rng.standard_normal((n, dims)))


class FixedKind:
    """Opens the embedder that points where it is told."""

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def open(self, folder: Path) -> Fixed:
        return Fixed(self.dims)


def put(root: Path, rows: np.ndarray) -> State:
    """A generation of these vectors, ids 0 .. n - 1."""
    (root / "g-1").mkdir(parents=True)
    state = State("g-1", "fixed", "0", rows.shape[1], 9, "2026-08-21T00:00:00Z")
    return add(root, state, np.arange(len(rows)), rows)


def add(root: Path, state: State, ids: np.ndarray, rows: np.ndarray) -> State:
    """One more segment, in force."""
    named = np.stack([ids, np.zeros(len(ids), np.int64)], axis=1)
    segment = vectors.write_segment(root / state.generation, f"{len(state.segments):04d}", named, rows)
    vectors.write_state(root, state.with_segment(segment, ""))
    return read(root)


def read(root: Path) -> State:
    state = vectors.read_state(root)
    assert state is not None
    return state


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, np.ndarray]]:
    """A generation of 12,000 made vectors with a compressed index."""
    root, rows = tmp_path_factory.mktemp("vectors"), clusters(12_000, 48)
    rows[7] = 0  # a paper without a known word
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "kind_of", lambda name: FixedKind(48) if name == "fixed" else kind_of(name))
        put(root, rows)
        compressed.compress(root)
        yield root, rows
    vectors.forget(root)


def test_nearly_all_that_the_scan_finds_is_found_with_the_same_scores(large: tuple[Path, np.ndarray]) -> None:
    root, rows = large
    index, _ = vectors.open_index(root)
    assert index is not None
    assert isinstance(index.compressed, Compressed)
    scan = index_of(np.arange(len(rows)), rows)
    rng = np.random.default_rng(5)
    hits, wanted = {"all": 0, "half": 0, "third": 0}, dict.fromkeys(("all", "half", "third"), 0)
    for query in clusters(40, 48, seed=0)[:20]:
        for name, share in (("all", 1.0), ("half", 0.5), ("third", 0.3)):
            allowed = None if share == 1 else np.flatnonzero(rng.random(len(rows)) < share)
            found = index.nearest(query, 200, allowed=allowed)
            truth = scan.nearest(query, 200, allowed=allowed)
            assert len(found) == len(truth) == 200
            if allowed is not None:
                assert set(found_ids(found)) <= set(allowed.tolist())
            assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
            by_id = dict(truth)
            for paper_id, score in found:
                assert score == pytest.approx(by_id.get(paper_id, float(rows[paper_id] @ query)), abs=1e-6)
            hits[name] += len(set(found_ids(found)) & set(by_id))
            wanted[name] += len(by_id)
    assert all(hits[name] >= 0.97 * wanted[name] for name in hits), {name: hits[name] / wanted[name] for name in hits}


def found_ids(found: list[tuple[int, float]]) -> list[int]:
    return [paper_id for paper_id, _ in found]


def test_a_paper_without_a_known_word_is_never_found(large: tuple[Path, np.ndarray]) -> None:
    root, rows = large
    index, _ = vectors.open_index(root)
    assert index is not None
    assert 7 not in found_ids(index.nearest(rows[8], 5000))


# -- how it comes and goes ------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, np.ndarray]]:
    """A generation of 900 made vectors, not compressed yet."""
    rows = clusters(900, 16)
    monkeypatch.setattr(vectors, "kind_of", lambda name: FixedKind(16))
    monkeypatch.setattr(vectors, "GATHER_COMPRESSED", 0)
    put(tmp_path, rows)
    yield tmp_path, rows
    vectors.forget(tmp_path)


WISH = {"above": 500, "memory_mib": 0}


def test_papers_that_come_later_are_found_before_it_is_built_again(small: tuple[Path, np.ndarray]) -> None:
    root, rows = small
    assert compressed.due(root, read(root), **WISH)
    state = compressed.compress(root)
    assert (state.n_compressed, compressed.due(root, state, **WISH)) == (900, False)
    again = unit(-rows[3:4] + 0.01 * rows[5:6])  # paper 3 is embedded again, elsewhere
    state = add(root, state, np.array([900, 3]), np.concatenate([rows[4:5], again]))
    index, _ = vectors.open_index(root)
    assert index is not None
    assert index.compressed is not None
    near = found_ids(index.nearest(rows[4], 5))
    assert {4, 900} <= set(near[:2])
    assert 900 not in found_ids(index.nearest(rows[4], 5, most_id=899))
    assert 3 not in found_ids(index.nearest(rows[3], 3))
    assert index.nearest(again[0], 1)[0][0] == 3
    more = clusters(200, 16, seed=9)
    state = add(root, state, np.arange(1000, 1200), more)
    assert compressed.due(root, state, **WISH)
    before = state.compressed
    state = compressed.compress(root)
    assert (state.n_compressed, state.n_rows) == (1102, 1102)
    assert not (root / "g-1" / before).exists()
    index, _ = vectors.open_index(root)
    assert index is not None
    assert index.nearest(more[0], 1)[0][0] == 1000


def test_a_damaged_one_is_not_used_and_the_scan_answers(
    small: tuple[Path, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    root, rows = small
    state = compressed.compress(root)
    folder = root / "g-1" / state.compressed
    victim = max(
        (path for path in (folder / "index").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    victim.write_bytes(victim.read_bytes()[:-9])
    index, problem = vectors.open_index(root)
    assert index is not None
    assert (index.compressed, problem) == (None, "")
    assert "scanned" in caplog.text
    assert index.nearest(rows[0], 3) == index_of(np.arange(900), rows).nearest(rows[0], 3)


def test_a_crash_while_it_is_built_leaves_what_was_in_force(
    small: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = small
    first = compressed.compress(root)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vectors, "_write_whole", full)
    with pytest.raises(StoreError, match="No space left"):
        compressed.compress(root)
    assert read(root) == first
    assert [path.name for path in (root / "g-1").glob("compressed-*")] == [first.compressed]


def test_it_goes_when_it_is_no_longer_wished(small: tuple[Path, np.ndarray]) -> None:
    root, _ = small
    state = compressed.compress(root)
    compressed.drop_if_not_wished(root, state, **WISH)
    assert read(root).compressed == state.compressed
    compressed.drop_if_not_wished(root, state, above=10_000, memory_mib=0)
    assert read(root).compressed == ""
    assert not list((root / "g-1").glob("compressed-*"))


def test_without_vectors_there_is_nothing_to_compress(tmp_path: Path) -> None:
    assert not compressed.due(tmp_path, None, above=0, memory_mib=1)
    with pytest.raises(StoreError, match="no vectors"):
        compressed.compress(tmp_path)


def test_a_hub_above_its_limit_searches_through_it(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_ = home.model_copy(update={"search": SearchSettings(compress_above=20)})
    monkeypatch.setattr(vectors, "GATHER_COMPRESSED", 0)
    with open_hub(settings_, catalogue=Catalogue(), clock=lambda: NOW) as hub:
        bring(hub, *(made_up(n) for n in range(40)))
        service.reindex(hub)
        index, _ = vectors.open_index(settings_.vectors)
        assert index is not None
        assert isinstance(index.compressed, Compressed)
        found = [card.title for card in service.search(hub, "mode:meaning compression of sparse layers", size=5).cards]
        assert found
        assert all(title.startswith("Pruning") for title in found)
        found = [card.title for card in service.search(hub, "mode:meaning ranking documents cat:cs.IR", size=5).cards]
        assert all(title.startswith("Retrieval") for title in found)
        assert service.reindex(hub).vectors == "nothing"
    vectors.forget(settings_.vectors)

"""Vectors: the search against plain NumPy, the folder against damage, and the hub's own embedder on small worlds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError, StoreError
from paperworks.hub.search import building, embed, vectors
from paperworks.hub.search.embed import Svd, strongest_directions, unit
from paperworks.hub.search.vectors import State, VectorIndex

NOW = datetime(2026, 8, 21, tzinfo=UTC)


class Fixed:
    """An embedder that points where it is told."""

    name = "fixed"
    fingerprint = "0"

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def embed(self, texts: object) -> np.ndarray:
        raise NotImplementedError


def index_of(ids: np.ndarray, rows: np.ndarray, cuts: tuple[int, ...] = ()) -> VectorIndex:
    state = State("g-0", "fixed", "0", rows.shape[1], len(ids), "2026-08-21T00:00:00Z")
    named = np.stack([ids, np.arange(len(ids))], axis=1)
    return VectorIndex(state, Fixed(rows.shape[1]), named, np.split(rows, list(cuts)))


worlds = st.tuples(st.integers(1, 80), st.integers(2, 12), st.integers(0, 2**32 - 1))


@settings(deadline=None)
@given(worlds, st.integers(1, 20), st.floats(0, 1), st.booleans())
def test_gathering_scanning_and_plain_numpy_agree(
    world: tuple[int, int, int], k: int, share: float, in_parts: bool
) -> None:
    n, dims, seed = world
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(10 * n, n, replace=False)).astype(np.int64)
    rows = unit(rng.standard_normal((n, dims)))
    query = unit(rng.standard_normal((1, dims)))[0]
    index = index_of(ids, rows, (n // 3, n // 2) if in_parts else ())
    allowed = ids[rng.random(n) < share]
    scores = {paper_id: float(row @ query) for paper_id, row in zip(ids.tolist(), rows, strict=True)}
    for chosen in (None, allowed):
        expected = [one for one in (ids if chosen is None else chosen).tolist() if scores[one] > 0]
        expected.sort(key=lambda one: -scores[one])
        found = index.nearest(query, k, allowed=chosen)
        assert [one for one, _ in found] == expected[:k]
        assert [score for _, score in found] == pytest.approx([scores[one] for one in expected[:k]], abs=1e-6)
    half = int(ids[n // 2])
    assert all(one <= half for one, _ in index.nearest(query, k, most_id=half))


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_two_ways_to_filter_give_the_same(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = unit(rng.standard_normal((2000, 16)))
    index = index_of(np.arange(2000), rows, (700,))
    allowed = np.flatnonzero(rng.random(2000) < share)
    found = []
    for below in (0.0, 1.1):
        monkeypatch.setattr(vectors, "GATHER_BELOW", below)
        found.append(index.nearest(rows[3], 50, allowed=allowed))
    assert [one for one, _ in found[0]] == [one for one, _ in found[1]]


def test_equal_scores_come_in_the_order_of_ids() -> None:
    rows = np.tile(unit(np.ones((1, 4))), (50, 1))
    assert [one for one, _ in index_of(np.arange(50), rows).nearest(rows[0], 5)] == [0, 1, 2, 3, 4]


def test_a_paper_embedded_again_counts_by_its_last_row() -> None:
    rows = unit(np.array([[1, 0], [0, 1], [0, 1], [1, 0]], dtype=np.float32))
    index = index_of(np.array([1, 2, 1, 3]), rows, (2,))
    assert len(index) == 3
    assert [one for one, _ in index.nearest(np.array([0, 1], np.float32), 9)] == [1, 2]
    assert [one for one, _ in index.nearest(np.array([1, 0], np.float32), 9)] == [3]
    assert index.vector_of(1) == pytest.approx([0, 1])
    assert index.vector_of(99) is None


def test_an_empty_index_finds_nothing() -> None:
    index = index_of(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    assert index.nearest(np.ones(4, np.float32), 5) == []
    assert index.nearest(np.ones(4, np.float32), 5, allowed=np.array([1])) == []


# -- the hub's own embedder -----------------------------------------------------------------------------------------

SUBJECTS = {
    "pruning": "sparse weights pruning magnitude network compression sparsity",
    "retrieval": "documents retrieval passages ranking query index",
    "diffusion": "image diffusion noise sampler generation score",
}


def small_world(n: int = 60, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    papers = []
    for at in range(n):
        words = list(SUBJECTS.values())[at % 3].split()
        papers.append(
            f"{' '.join(rng.choice(words, 3))}\n{' '.join(rng.choice(words, 12))} method results paper number{at}"
        )
    return papers


def test_papers_of_one_subject_are_nearer_than_those_of_others(tmp_path: Path) -> None:
    made = Svd(dims=8).make(small_world(), tmp_path)
    rows = made.embed(small_world(30, seed=1))
    near = rows @ rows.T
    same = np.arange(30)[:, None] % 3 == np.arange(30) % 3
    assert near[same].min() > near[~same].max()
    query = made.embed(["ranking of documents"])
    assert (query @ rows.T).argmax() % 3 == 1


def test_the_space_is_the_same_each_time_and_after_opening(tmp_path: Path) -> None:
    first = Svd(dims=8).make(small_world(), tmp_path / "a")
    second = Svd(dims=8).make(small_world(), tmp_path / "b")
    opened = Svd().open(tmp_path / "a")
    assert first.fingerprint == second.fingerprint == opened.fingerprint
    assert np.array_equal(opened.embed(small_world(9, 3)), first.embed(small_world(9, 3)))
    assert Svd(dims=8).make(small_world(61), tmp_path / "c").fingerprint != first.fingerprint


def test_rows_are_of_length_one_and_nothing_known_is_zero(tmp_path: Path) -> None:
    made = Svd(dims=8).make(small_world(), tmp_path)
    rows = made.embed(["sparse weights", "", "xyzzy plugh", "\x00 \ud800"])
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 0, 0, 0])
    assert rows.dtype == np.float32
    assert made.embed([]).shape == (0, 8)
    assert made.learnt is not None
    assert made.learnt == pytest.approx(made.embed(small_world()), abs=1e-5)


@pytest.mark.parametrize("n", [3, 4, 18])
def test_dimensions_shrink_with_the_papers(n: int, tmp_path: Path) -> None:
    made = Svd().make(small_world(n), tmp_path)
    assert made.dims <= n - 1
    assert made.embed(["sparse weights"]).shape == (1, made.dims)


def test_too_few_papers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="three papers or more, got 2"):
        Svd().make(small_world(2), tmp_path)
    with pytest.raises(InputError, match="without words"):
        Svd().make(["\n", "\n", "\n"], tmp_path)


def test_directions_are_those_of_the_full_decomposition() -> None:
    from scipy import sparse

    rng = np.random.default_rng(0)
    # Singular values that halve, so that each direction is one of its own.
    left, _ = np.linalg.qr(rng.standard_normal((80, 40)))
    right, _ = np.linalg.qr(rng.standard_normal((50, 40)))
    table = (left * 0.5 ** np.arange(40)) @ right.T
    directions, strengths = strongest_directions(sparse.csr_matrix(table.astype(np.float32)), 6)
    assert strengths == pytest.approx(0.5 ** np.arange(6), rel=1e-4)
    assert np.abs(np.sum(directions * right[:, :6], axis=0)) == pytest.approx(np.ones(6), abs=1e-4)


def test_an_unknown_embedder_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match="no embedder 'nope'; installed are svd"):
        embed.kind_of("nope")


# -- the folder -----------------------------------------------------------------------------------------------------


def build_small(root: Path, n: int = 30, parts: int = 2) -> State:
    folder = root / "g-small"
    folder.mkdir(parents=True)
    made = Svd(dims=4).make(small_world(n), folder)
    rows = made.embed(small_world(n))
    state = State("g-small", made.name, made.fingerprint, made.dims, n, "2026-08-21T00:00:00Z", serial=1)
    for at, part in enumerate(np.array_split(np.arange(n), parts)):
        named = np.stack([part + 1, part], axis=1)
        state = state.with_segment(vectors.write_segment(folder, f"{at:04d}", named, rows[part]), "")
    vectors.write_state(root, state)
    return state


def test_what_was_written_is_opened_and_kept_until_it_is_replaced(tmp_path: Path) -> None:
    assert vectors.open_index(tmp_path) == (None, "its vectors have not been built yet")
    state = build_small(tmp_path)
    index, problem = vectors.open_index(tmp_path)
    assert problem == ""
    assert index is not None
    assert (len(index), index.state) == (30, state)
    assert vectors.open_index(tmp_path)[0] is index
    assert isinstance(index.parts[0].base, np.memmap)
    vectors.write_state(tmp_path, state.with_segment(state.segments[0], "again"))
    other, _ = vectors.open_index(tmp_path)
    assert other is not None
    assert other is not index


def test_vectors_of_another_embedder_are_not_used(tmp_path: Path) -> None:
    build_small(tmp_path)
    index, problem = vectors.open_index(tmp_path, "minilm")
    assert index is None
    assert "'svd'" in problem
    assert "'minilm'" in problem


@pytest.mark.parametrize(
    "damage",
    ["current.json", "0000.vectors.npy", "0001.ids.npy", "terms.txt", "directions.npy", "idf.npy"],
)
@pytest.mark.parametrize("how", ["gone", "cut", "a byte"])
def test_damage_anywhere_means_words_only_and_is_said(tmp_path: Path, damage: str, how: str) -> None:
    state = build_small(tmp_path)
    path = tmp_path / damage if damage == "current.json" else tmp_path / state.generation / damage
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        at = data.find(b'"made"') + 1 if damage == "current.json" else len(data) - 3
        data[at] ^= 0x15
        path.write_bytes(data)
    vectors.forget(tmp_path)
    index, problem = vectors.open_index(tmp_path)
    assert index is None
    assert "built" in problem
    assert building.decide(vectors.read_state(tmp_path), 30, NOW, "svd", usable=False) == "refit"


def test_a_new_generation_takes_the_old_folder_away(tmp_path: Path) -> None:
    state = build_small(tmp_path)
    (tmp_path / "g-left-behind").mkdir()
    vectors.write_state(tmp_path, state)
    assert {path.name for path in tmp_path.iterdir()} == {"g-small", "current.json"}


def test_a_state_of_a_later_release_is_built_anew(tmp_path: Path) -> None:
    build_small(tmp_path)
    raw = json.loads((tmp_path / "current.json").read_text())
    (tmp_path / "current.json").write_text(json.dumps(raw | {"of_the_future": 1}))
    assert vectors.read_state(tmp_path) is None


def test_opening_says_what_is_wrong(tmp_path: Path) -> None:
    state = build_small(tmp_path)
    (tmp_path / "g-small" / "0000.ids.npy").unlink()
    with pytest.raises(StoreError, match="run: paperworks reindex"):
        vectors.load(tmp_path, state)


# -- when to build --------------------------------------------------------------------------------------------------


def test_when_a_space_is_learnt_anew() -> None:
    def at(fitted: int, n: int, days: float = 0, **more: object) -> str:
        state = State("g", "svd", "0", 4, fitted, "2026-08-21T00:00:00Z", n_rows_fitted=fitted)
        return building.decide(state, n, NOW + timedelta(days=days), "svd", **more)  # type: ignore[arg-type]

    assert building.decide(None, 2, NOW, "svd") == "nothing"
    assert building.decide(None, 3, NOW, "svd") == "refit"
    assert [at(100, 100), at(100, 149), at(100, 150)] == ["fold", "fold", "refit"]
    assert [at(100, 101, days=8), at(100, 102, days=8), at(100, 110, days=6)] == ["fold", "refit", "fold"]
    assert at(100, 100, usable=False) == "refit"
    assert building.decide(State("g", "other", "0", 4, 9, "2026-08-21T00:00:00Z"), 9, NOW, "svd") == "refit"
    # A space of a sample does not grow: a hub of a million papers is not learnt anew each ten minutes.
    assert at(building.MOST_FITTED, 10 * building.MOST_FITTED) == "fold"

"""SquashIndex against brute force: metrics, filters, inputs, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError, StoreError
from paperworks.papers.squash.filters import Attr, FilterError, UnknownAttribute
from paperworks.papers.squash.index import SquashIndex
from paperworks.papers.squash.storage import DamagedIndex

N, D = 3000, 24


def clustered(n=N, d=D, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d)) * 2
    scale = 1 / np.sqrt(1 + np.arange(d))
    return (centres[rng.integers(0, 20, n)] + rng.normal(size=(n, d)) * scale * 2).astype(np.float32)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(1)
    everything = clustered(N + 30)
    vectors, queries = everything[:N], everything[N:]
    columns = {
        "year": rng.integers(1990, 2025, N),
        "score": np.where(rng.random(N) < 0.1, np.nan, rng.normal(size=N)),
        "field": rng.choice(["a", "b", "c", "rare"], N, p=[0.5, 0.3, 0.19, 0.01]),
        "stamp": 2**40 + rng.permutation(N),
    }
    return vectors, columns, queries


@pytest.fixture(scope="module")
def index(world):
    return SquashIndex().build(world[0], world[1])


def truth(vectors, queries, mask, k, metric="l2"):
    x, q = vectors.astype(np.float64), np.atleast_2d(queries).astype(np.float64)
    if metric == "cosine":
        x, q = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, q))
    distances = (
        np.sqrt(((q[:, None] - x) ** 2).sum(-1)) if metric == "l2" else (1 if metric == "cosine" else 0) - q @ x.T
    )
    distances = np.where(mask, distances, np.inf)
    ids = np.argsort(distances, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(distances, ids, 1)
    return found, np.where(np.isfinite(found), ids, -1)


def recall(found, wanted):
    hits = sum(len(set(a[a >= 0]) & set(b[b >= 0])) for a, b in zip(found, wanted, strict=True))
    return hits / max(1, int((wanted >= 0).sum()))


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("n_partitions", [1, 4])
@pytest.mark.parametrize("first_pass", ["residual", "hamming"])
def test_exact_mode_is_brute_force_and_the_rest_is_near(world, metric, n_partitions, first_pass):
    vectors, columns, queries = world
    index = SquashIndex(metric=metric, n_partitions=n_partitions, first_pass=first_pass).build(vectors, columns)
    what, mask = Attr("year") >= 2005, columns["year"] >= 2005
    wanted_d, wanted = truth(vectors, queries, mask, 10, metric)
    found_d, found = index.search(queries, 10, what, exact=True)
    np.testing.assert_allclose(found_d, wanted_d, rtol=1e-4, atol=1e-4)
    assert recall(found, wanted) > 0.999
    found_d, found = index.search(queries, 10, what, H=100, R=4, n_probe=10**6)
    assert mask[found].all()
    assert recall(found, wanted) > 0.9
    assert (np.diff(found_d, axis=1) >= 0).all()


def test_defaults_find_nearly_all(world, index):
    vectors, columns, queries = world
    mask = (columns["year"] > 2000) & (columns["field"] == "b")
    _, wanted = truth(vectors, queries, mask, 10)
    _, found = index.search(queries, 10, (Attr("year") > 2000) & (Attr("field") == "b"))
    assert recall(found, wanted) > 0.95


@pytest.mark.parametrize("seed", range(8))
def test_no_row_breaks_the_filter_and_none_is_missing(world, index, seed):
    _vectors, columns, queries = world
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.normal(size=2))
    stamp = int(2**40 + rng.integers(0, N))
    parts = [
        (Attr("score").between(low, high), (columns["score"] >= low) & (columns["score"] <= high)),
        (Attr("stamp") >= stamp, columns["stamp"] >= stamp),
        (Attr("field").isin(["rare", "c"]), np.isin(columns["field"], ["rare", "c"])),
        (Attr("score").is_null(), np.isnan(columns["score"])),
    ]
    one, other = rng.permutation(4)[:2]
    for what, mask in (
        (parts[one][0] & parts[other][0], parts[one][1] & parts[other][1]),
        (parts[one][0] | parts[other][0], parts[one][1] | parts[other][1]),
    ):
        assert index.count(what) == mask.sum()
        for settings in ({}, {"n_probe": 1, "keep": 10}, {"T": 1.0, "H": 1, "R": 1}):
            distances, found = index.search(queries[:5], 10, what, **settings)
            assert ((found >= 0).sum(axis=1) == min(10, mask.sum())).all()
            assert mask[found[found >= 0]].all()
            assert np.isinf(distances[found < 0]).all()


def test_batches_threads_and_single_queries_agree(world, index):
    _vectors, _columns, queries = world
    what = Attr("year") > 2010
    together = index.search(queries, 10, what)
    threaded = index.search(queries, 10, what, n_threads=2)
    alone = [index.search(query, 10, what) for query in queries]
    for part in (0, 1):
        assert (together[part] == threaded[part]).all()
        assert (together[part] == np.concatenate([one[part] for one in alone])).all()


def test_each_query_can_have_its_own_filter(world, index):
    _vectors, _columns, queries = world
    filters = [Attr("year") > 2010, None, {"field": ["rare"]}, np.arange(N) < 100]
    _, found = index.search(queries[:4], 5, filters)
    for i, what in enumerate(filters):
        assert (found[i] == index.search(queries[i], 5, what)[1][0]).all()
    assert (found[3] < 100).all()


def test_masks_ids_and_foreign_ids(world):
    vectors, _, queries = world
    ids = np.arange(N)[::-1] * 3 + 10**12
    index = SquashIndex().build(vectors, ids=ids)
    mask = np.random.default_rng(0).random(N) < 0.02
    _, wanted = truth(vectors, queries, mask, 10)
    _, by_mask = index.search(queries, 10, mask, exact=True)
    _, by_ids = index.search(queries, 10, ids[mask], exact=True)
    assert (by_mask == ids[wanted]).all()
    assert (by_ids == by_mask).all()
    with pytest.raises(FilterError, match="mask"):
        index.search(queries, 10, mask[:-1])


def test_k_above_the_matches_and_above_n(world, index):
    _vectors, columns, queries = world
    matches = int((columns["field"] == "rare").sum())
    distances, found = index.search(queries, matches + 5, Attr("field") == "rare")
    assert ((found >= 0).sum(axis=1) == matches).all()
    assert (found[:, matches:] == -1).all()
    distances, found = index.search(queries[0], N + 7)
    assert found.shape == (1, N + 7)
    assert set(found[0, :N].tolist()) == set(range(N))
    assert np.isinf(distances[0, N:]).all()


def test_a_filter_that_nothing_passes(index, world):
    for settings in ({}, {"exact": True}, {"H": 10}):
        distances, found = index.search(world[2], 3, Attr("year") > 3000, **settings)
        assert (found == -1).all()
        assert np.isinf(distances).all()
    assert (index.search(world[2], 3, Attr("field") == "never seen")[1] == -1).all()
    assert index.count(Attr("field") == "never seen") == 0


def test_any_kind_of_input_gives_the_same_index(tmp_path, world):
    vectors, columns, queries = world
    half = vectors.astype(np.float16)
    wanted = SquashIndex().build(half.astype(np.float32), columns).search(queries, 10)
    path = tmp_path / "x.npy"
    np.save(path, half)
    for given in (
        half,
        half.astype(np.float64),
        np.asfortranarray(half.astype(np.float32)),
        np.load(path, mmap_mode="r"),
        (half[i : i + 700] for i in range(0, N, 700)),
    ):
        found = SquashIndex().build(given, columns).search(queries, 10)
        assert (found[1] == wanted[1]).all()
        np.testing.assert_array_equal(found[0], wanted[0])


def test_queries_are_not_changed_and_any_dtype_works(index, world):
    queries = world[2].copy()
    wanted = index.search(queries, 5)[1]
    for given in (
        queries.astype(np.float64),
        np.asfortranarray(queries),
        queries.tolist(),
        np.repeat(queries, 2, 0)[::2],
    ):
        assert (index.search(given, 5)[1] == wanted).all()
    assert (queries == world[2]).all()


def test_no_queries_and_no_rows():
    empty = SquashIndex().build(np.zeros((0, 6), np.float32))
    assert len(empty) == 0
    distances, found = empty.search(np.zeros((2, 6)), 3)
    assert (found == -1).all()
    assert np.isinf(distances).all()
    index = SquashIndex().build(np.eye(6, dtype=np.float32))
    assert index.search(np.zeros((0, 6)), 4)[1].shape == (0, 4)


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((300, 8)),
        np.eye(5),
        np.concatenate([np.random.default_rng(0).normal(size=(200, 5)), np.ones((200, 4))], axis=1),
        np.random.default_rng(0).normal(size=(3, 300)),
        np.random.default_rng(0).normal(size=(1, 1)),
        np.random.default_rng(0).integers(0, 3, (500, 17)),
    ],
    ids=["all equal", "few", "constant dimensions", "fewer rows than cells", "one number", "ties"],
)
def test_degenerate_data_is_searched_exactly(vectors):
    index = SquashIndex(n_partitions=2, bits=3).build(vectors)
    queries = np.asarray(vectors[:5], np.float32) + 0.25
    wanted, _ = truth(np.asarray(vectors), queries, True, 4)
    for settings in ({"exact": True}, {"keep": 1000, "n_probe": 1000}):
        distances, found = index.search(queries, 4, **settings)
        k = min(4, len(vectors))
        np.testing.assert_allclose(distances[:, :k], wanted[:, :k], rtol=1e-5, atol=1e-5)
        assert all(len(set(row[row >= 0])) == k for row in found)


def test_wide_integers_are_compared_exactly():
    stamps = 2**62 + np.arange(400)
    index = SquashIndex().build(np.random.default_rng(0).normal(size=(400, 4)), {"t": stamps})
    assert index.search(np.zeros(4), 5, Attr("t") == 2**62 + 77)[1][0].tolist() == [77, -1, -1, -1, -1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vectors": np.full((3, 2), np.nan)}, "row 0"),
        ({"vectors": np.array([[1.0, 2], [3, np.inf]])}, "row 1"),
        ({"vectors": np.zeros((2, 2, 2))}, "shape"),
        ({"vectors": np.array([["a", "b"]])}, "numbers"),
        ({"vectors": [[1.0, 2], [3]]}, "different lengths|numbers"),
        ({"ids": [1, 1, 2]}, "more than once"),
        ({"ids": [1, 2]}, "3 integers"),
        ({"ids": [0.5, 1, 2]}, "integers"),
        ({"ids": [-1, 1, 2]}, "between 0"),
        ({"attributes": {"a": [1, 2]}}, "3 vectors"),
    ],
)
def test_bad_input_to_build_is_refused(change, words):
    given = {"vectors": np.eye(3), **change}
    vectors = given.pop("vectors")
    with pytest.raises(InputError, match=words):
        SquashIndex().build(vectors, **given)


def test_bad_blocks_of_an_iterator_are_refused():
    with pytest.raises(InputError, match="row 3"):
        SquashIndex().build(iter([np.eye(3), np.ones((1, 4))]))
    with pytest.raises(InputError, match="row 4 holds NaN"):
        SquashIndex().build(iter([np.eye(3), np.array([[1, 2, 3], [np.nan, 0, 0]])]))


def test_zero_vectors_have_no_cosine():
    with pytest.raises(InputError, match="row 1"):
        SquashIndex(metric="cosine").build(np.array([[1.0, 0], [0, 0]]))
    with pytest.raises(InputError, match="direction"):
        SquashIndex(metric="cosine").build(np.eye(3)).search(np.zeros(3))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metric": "dot"}, "metric"),
        ({"bits": 9}, "bits"),
        ({"bits": 0}, "bits"),
        ({"max_bits": 12}, "max_bits"),
        ({"n_partitions": 0}, "n_partitions"),
        ({"segment_bits": 16}, "segments of 8"),
        ({"boundaries": "even"}, "boundaries"),
        ({"sign_rotation": "yes"}, "sign_rotation"),
    ],
)
def test_settings_that_do_not_exist_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        SquashIndex(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k": 0}, "k must"),
        ({"k": 2.5}, "k must"),
        ({"H": 0}, "percentage"),
        ({"H": 101}, "percentage"),
        ({"R": 0.5}, "R must"),
        ({"T": 0.9}, "T must"),
        ({"n_probe": 0}, "n_probe"),
        ({"queries": np.zeros((1, D + 1))}, f"{D} dimensions"),
        ({"queries": np.full((2, D), np.nan)}, "row 0"),
        ({"queries": np.zeros((1, 1, D))}, "shape"),
        ({"queries": ["a"]}, "numbers"),
    ],
)
def test_bad_searches_are_refused(index, settings, words):
    queries = settings.pop("queries", np.zeros((1, D)))
    with pytest.raises(InputError, match=words):
        index.search(queries, **settings)


def test_filters_on_unknown_names_or_of_the_wrong_kind_are_refused(index):
    with pytest.raises(UnknownAttribute, match="year"):
        index.search(np.zeros(D), filter=Attr("yeer") > 2000)
    with pytest.raises(KeyError):
        index.count(Attr("yeer") > 2000)
    with pytest.raises(TypeError):
        index.search(np.zeros(D), filter=Attr("year") > "2020")


def test_an_index_that_is_not_built_says_so():
    with pytest.raises(InputError, match="build first"):
        SquashIndex().search(np.zeros(3))


@pytest.mark.parametrize("mmap", [True, False])
def test_a_saved_index_gives_the_same_answers(tmp_path, world, index, mmap):
    queries = world[2]
    index.save(tmp_path / "idx")
    again = SquashIndex.load(tmp_path / "idx", mmap=mmap, verify="all")
    for settings in ({}, {"filter": Attr("year") > 2010}, {"exact": True}, {"H": 10}):
        for one, other in zip(
            index.search(queries, 10, **settings), again.search(queries, 10, **settings), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert again.defaults == index.defaults
    assert again.statistics()["vectors_on_disk"] is mmap


def test_an_index_can_be_built_straight_into_a_folder(tmp_path, world):
    index = SquashIndex().build(world[0], folder=tmp_path / "idx")
    assert index.statistics()["vectors_on_disk"]
    wanted = SquashIndex().build(world[0]).search(world[2])
    assert (index.search(world[2])[1] == wanted[1]).all()


def test_what_is_no_index_is_refused(tmp_path, index):
    with pytest.raises(DamagedIndex, match="holds no index"):
        SquashIndex.load(tmp_path)
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(StoreError, match="other files"):
        index.save(tmp_path)


def test_the_same_seed_gives_the_same_index(world, index):
    again = SquashIndex(n_jobs=2).build(world[0], world[1])
    for name, array in index.state.reader.arrays().items():
        np.testing.assert_array_equal(array, again.state.reader.arrays()[name], err_msg=name)


@pytest.mark.parametrize(
    "change", [{"sign_rotation": "pca"}, {"sign_rotation": None}, {"allocation": "uniform"}, {"boundaries": "equal"}]
)
def test_variants_answer_and_their_exact_mode_is_exact(world, change):
    vectors, _, queries = world
    wanted_d, wanted = truth(vectors, queries, True, 10)
    index = SquashIndex(**change).build(vectors)
    np.testing.assert_allclose(index.search(queries, 10, exact=True)[0], wanted_d, rtol=1e-4, atol=1e-4)
    assert recall(index.search(queries, 10, n_probe=10**6, keep=300)[1], wanted) > 0.9


def test_a_full_disk_during_a_build_is_an_error_and_the_old_index_stays(world, tmp_path, monkeypatch):
    from paperworks.papers.squash import builder

    def full(*_):
        raise OSError(28, "No space left on device")

    index = SquashIndex().build(world[0][:300], folder=tmp_path / "idx")
    before = index.search(world[2])
    monkeypatch.setattr(builder.os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="do not fit"):
        index.build(world[0], folder=tmp_path / "idx")
    with pytest.raises(StoreError, match="do not fit"):
        index.compact()
    for opened in (index, SquashIndex.load(tmp_path / "idx")):
        assert (opened.search(world[2])[1] == before[1]).all()


def test_arrays_that_cannot_be_written_are_searched_by_the_same_kernel(index, world):
    from paperworks.papers.squash.search_kernel import search_rows

    n_compiled = len(search_rows.signatures)
    queries = world[2].copy()
    queries.flags.writeable = False
    index.search(queries, 3)
    index.search(queries, 3, Attr("year") > 2000)
    assert len(search_rows.signatures) == n_compiled

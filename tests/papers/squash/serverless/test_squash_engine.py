"""A real index, cut into partitions and searched by functions: the same answers as in one piece."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.squash.filters import Attr, FilterError, FilterTypeError, UnknownAttribute
from paperworks.papers.squash.index import SquashIndex
from paperworks.papers.squash.serverless.client import ServerlessSquash
from paperworks.papers.squash.serverless.errors import IncompleteSearch
from paperworks.papers.squash.serverless.faults import FaultyDriver
from paperworks.papers.squash.serverless.study import measure_retention
from paperworks.papers.squash.serverless.worker import make_driver

N, D, P, K = 2400, 24, 4, 10


def _data(seed=5):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, D)) * 2
    vectors = (centres[rng.integers(0, 30, N + 40)] + rng.normal(size=(N + 40, D))).astype("f4")
    attributes = {
        "year": rng.integers(1990, 2024, N),
        "category": rng.choice(["cs.CL", "cs.LG", "stat.ML", "math.OC"], N, p=[0.5, 0.3, 0.15, 0.05]),
        "tags": [[f"t{i}" for i in rng.integers(0, 12, rng.integers(0, 4))] for _ in range(N)],
        "score": np.where(rng.random(N) < 0.1, np.nan, rng.normal(size=N)),
    }
    return vectors[:N], vectors[N:], attributes, rng.permutation(10 * N)[:N]


FILTERS = [
    None,
    (Attr("year") >= 2010) & Attr("category").isin(["cs.CL", "cs.LG"]),
    Attr("category") == "math.OC",
    ~Attr("tags").contains("t3") | (Attr("score") > 1.5),
    Attr("score").is_null(),
    {"year": (2000, 2001)},
    Attr("year") > 2050,
]


@pytest.fixture(scope="module", params=["l2", "cosine", "ip"])
def world(request, tmp_path_factory):
    vectors, queries, attributes, ids = _data()
    index = SquashIndex(metric=request.param, n_partitions=P).build(vectors, attributes, ids)
    index.delete(ids[::17])
    folder = tmp_path_factory.mktemp("index") / "idx"
    index.save(folder)
    which = np.arange(len(queries)) % len(FILTERS)
    return {
        "folder": folder, "index": index, "queries": queries, "filters": [FILTERS[i] for i in which],
        "attributes": attributes, "ids": ids,
    }  # fmt: skip


def opened(world, tmp_path, executor="threads", **options):
    options.setdefault("cache", {"root": str(tmp_path / "kept")})
    options.setdefault("store", tmp_path / "store")
    return ServerlessSquash(world["folder"], executor, **options)


def assert_same(result, world, exactly=True):
    distances, ids = result
    expected_d, expected_i = world["index"].search(world["queries"], K, world["filters"], exact=True)
    np.testing.assert_array_equal(np.isfinite(distances), np.isfinite(expected_d))
    np.testing.assert_array_equal(ids >= 0, expected_i >= 0)
    if exactly:
        np.testing.assert_array_equal(ids, expected_i)
        np.testing.assert_allclose(distances, expected_d, rtol=2e-4, atol=2e-4)
    else:
        found = sum(len(set(a[a >= 0]) & set(b[b >= 0])) for a, b in zip(ids, expected_i, strict=True))
        assert found >= 0.97 * (expected_i >= 0).sum()


@pytest.mark.parametrize("vectors", ["retain", "ranges"])
@pytest.mark.parametrize("depth", [0, 1])
def test_the_exact_mode_is_that_of_the_whole_index(world, tmp_path, vectors, depth):
    with opened(world, tmp_path, depth=depth, fanout=3, vectors=vectors) as pool:
        pool.deploy()
        assert_same(pool.search_batch(world["queries"], world["filters"], K, exact=True), world)


@pytest.mark.parametrize("vectors", ["retain", "ranges"])
def test_the_default_search_finds_nearly_all(world, tmp_path, vectors):
    with opened(world, tmp_path, vectors=vectors) as pool:
        pool.deploy()
        result = pool.search_batch(world["queries"], world["filters"], K, threshold=float("inf"))
        assert_same(result, world, exactly=False)
        assert (result.stats.get("range_bytes", 0) > 0) == (vectors == "ranges")
        paper = pool.search_batch(world["queries"], world["filters"], K, threshold=float("inf"), H=20.0, R=3.0)
        assert_same(paper, world, exactly=False)


def test_deleted_rows_and_rows_that_fail_the_filter_never_come(world, tmp_path):
    with opened(world, tmp_path) as pool:
        pool.deploy()
        result = pool.search_batch(world["queries"], world["filters"], K, threshold=1.0)
        everything = pool.search_batch(world["queries"], None, N, threshold=float("inf"))
    gone = set(world["ids"][::17].tolist())
    assert not gone & set(result.ids.ravel().tolist())
    living = set(world["ids"].tolist()) - gone
    assert all(set(row[row >= 0].tolist()) == living for row in everything.ids)
    matches = np.array([world["index"].count(one) for one in world["filters"]])
    np.testing.assert_array_equal((result.ids >= 0).sum(axis=1), np.minimum(K, matches))
    assert result.stats["n_retried"] == 0
    for one, row in zip(world["filters"], result.ids, strict=True):
        allowed = {int(i) for i in world["index"].search(world["queries"][:1], N, one, exact=True)[1][0] if i >= 0}
        assert {int(i) for i in row if i >= 0} <= allowed


def test_masks_and_ids_go_through_the_tree(world, tmp_path):
    year = world["attributes"]["year"]
    filters = [year < 1995, world["ids"][:50]] * 20
    with opened(world, tmp_path, depth=2, fanout=2) as pool:
        pool.deploy()
        ids = pool.search_batch(world["queries"], filters, K, exact=True).ids
    expected = world["index"].search(world["queries"], K, filters, exact=True)[1]
    np.testing.assert_array_equal(ids, expected)


def test_what_cannot_be_asked_is_refused_at_the_door(world, tmp_path):
    with opened(world, tmp_path) as pool:
        pool.deploy()
        queries = world["queries"]
        with pytest.raises(InputError, match="dimensions"):
            pool.search_batch(queries[:, :-1])
        with pytest.raises(InputError):
            pool.search_batch(np.full((1, D), np.nan))
        with pytest.raises(UnknownAttribute, match="yaer"):
            pool.search_batch(queries, Attr("yaer") == 2000)
        with pytest.raises(FilterTypeError):
            pool.search_batch(queries, Attr("year") == "2000")
        with pytest.raises(FilterError, match="mask"):
            pool.search_batch(queries, np.ones(5, bool))
        with pytest.raises(InputError, match="no setting nprobe"):
            pool.search_batch(queries, nprobe=3)
        with pytest.raises(InputError, match="H is a percentage"):
            pool.search_batch(queries, H=0)
        with pytest.raises(InputError, match="vectors must be"):
            opened(world, tmp_path, vectors="stream")


def test_an_unchanged_index_uploads_nothing_and_added_rows_are_refused(world, tmp_path):
    with opened(world, tmp_path) as pool:
        first = pool.deploy()
        puts = pool.store.traffic.n_puts
        assert pool.deploy() == first
        assert pool.store.traffic.n_puts == puts + 2
        assert first.sizes == [len(range(N)[a:b]) for a, b in zip(*_edges(world), strict=True)]
        index = SquashIndex.load(world["folder"])
        index.add(world["queries"][:2], {name: [None] * 2 for name in world["attributes"]}, ids=[10**6, 10**6 + 1])
        index.save(tmp_path / "grown")
        with pytest.raises(InputError, match="compact"):
            ServerlessSquash(tmp_path / "grown", store=tmp_path / "store").deploy()
        index.compact().save(tmp_path / "grown")
        with ServerlessSquash(
            tmp_path / "grown", store=tmp_path / "store", cache={"root": str(tmp_path / "k2")}
        ) as grown:
            grown.deploy()
            ids = grown.search_batch(world["queries"][:2], k=1, exact=True).ids
            assert set(ids.ravel().tolist()) == set(
                index.search(world["queries"][:2], 1, exact=True)[1].ravel().tolist()
            )


def _edges(world):
    from paperworks.papers.squash.serverless.squash_engine import partition_edges

    edges = partition_edges(world["index"].state.reader)
    return edges[:-1], edges[1:]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    vectors, queries, attributes, ids = _data(6)
    index = SquashIndex(n_partitions=3).build(vectors, attributes, ids)
    folder = tmp_path_factory.mktemp("small") / "idx"
    index.save(folder)
    return {"folder": folder, "index": index, "queries": queries[:14], "filters": FILTERS * 2}


@pytest.mark.slow
def test_processes_answer_alike_and_stay_warm(small, tmp_path):
    values, series = measure_retention(small["folder"], small["queries"], small["filters"], executor="processes")
    assert values["warm_bytes"] == values["answers_differ"] == 0
    assert values["cold_bytes"] > N * D * 4
    assert len(series["bytes"]) == 2


@pytest.mark.slow
def test_lithops_with_s3_answers_alike_survives_faults_and_stays_warm(small, tmp_path, s3_config, s3_bucket):
    """Functions on this machine, a fresh process each; objects on an S3-compatible server."""
    _, bucket = s3_bucket
    cache = {"root": str(tmp_path / "kept")}
    with ServerlessSquash(small["folder"], s3_config, store=f"s3://{bucket}/idx", cache=cache, timeout_s=120) as pool:
        pool.deploy()
        cold = pool.search_batch(small["queries"], small["filters"], K, exact=True)
        assert_same(cold, small)
        assert cold.stats["cache_bytes_fetched"] > N * D * 4
        plans = {0: "die", 1: "corrupt"}
        plain = make_driver(pool._spec, pool._setup)
        pool._driver = FaultyDriver(
            plain, lambda message, start: None if start else plans.get(message.fields["partition"])
        )
        warm = pool.search_batch(small["queries"], small["filters"], K, exact=True)
        assert_same(warm, small)
        assert warm.stats["cache_bytes_fetched"] == warm.stats.get("range_bytes", 0.0) == 0
        assert warm.stats["n_retried"] == 2
    # from another machine that has no copy of the index
    with ServerlessSquash(
        f"s3://{bucket}/idx", storage_config=s3_config, cache={"root": str(tmp_path / "other")}
    ) as other:
        other.deploy()
        assert_same(other.search_batch(small["queries"], small["filters"], K, exact=True), small)
        key = other.deployment.partitions[2].files["codes.npy"].key
        other.store.delete(key)
        with pytest.raises(Exception, match="1 objects are missing"):
            other.deploy()
    with ServerlessSquash(
        f"s3://{bucket}/idx", storage_config=s3_config, cache={"root": str(tmp_path / "third")}
    ) as third:
        with pytest.raises(IncompleteSearch, match="partition 2"):
            third.search_batch(small["queries"], None, K, exact=True)
        partial = third.search_batch(small["queries"], None, K, exact=True, allow_partial=True)
        assert partial.missing_partitions == [2]
        assert not partial.complete.any()


@pytest.mark.slow
def test_lithops_functions_start_functions(small, tmp_path, s3_config, s3_bucket):
    """Two allocators, each started as a function, start their own processors."""
    _, bucket = s3_bucket
    cache = {"root": str(tmp_path / "kept")}
    with ServerlessSquash(
        small["folder"], s3_config, store=f"s3://{bucket}/idx", cache=cache, fanout=2, depth=1, timeout_s=300
    ) as pool:
        pool.deploy()
        result = pool.search_batch(small["queries"], small["filters"], K, exact=True)
        assert_same(result, small)
        assert result.stats["n_calls"] == 2 + 2 * 3

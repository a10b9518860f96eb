"""The whole way: deploy, search by functions, with trees and faults. An exact engine stands in for the index."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.squash.filters import Attr, UnknownAttribute
from paperworks.papers.squash.serverless.client import ServerlessSquash
from paperworks.papers.squash.serverless.errors import IncompleteSearch, ObjectMissing, ServerlessError

# tests are no package; processes that a driver starts look for the engine where this process does
sys.path.append(str(Path(__file__).parent))
import squash_plain_engine as plain

N, D, P, K = 600, 8, 5, 7


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(P, D)) * 4
    vectors = np.concatenate([centre + rng.normal(size=(N // P, D)) for centre in centres]).astype("f4")
    year = rng.integers(2000, 2020, N)
    ids = rng.permutation(N) + 1000
    folder = plain.build(tmp_path_factory.mktemp("index") / "idx", vectors, year, P, ids)
    queries = rng.normal(size=(23, D)).astype("f4") * 3
    filters = [None, Attr("year") >= 2010, Attr("year") == 2003, Attr("year") >= 2030, year < 2005, ids[:40]]
    masks = [np.ones(N, bool), year >= 2010, year == 2003, year >= 2030, year < 2005, np.arange(N) < 40]
    which = np.arange(len(queries)) % len(filters)
    return {
        "folder": folder,
        "vectors": vectors,
        "queries": queries,
        "filters": [filters[i] for i in which],
        "truth": plain.truth(vectors, queries, [masks[i] for i in which], K, ids),
        "ids": ids,
        "matches": np.array([masks[i].sum() for i in which]),
    }


def opened(world, tmp_path, executor="threads", ranged=False, **options):
    options.setdefault("cache", {"root": str(tmp_path / "kept")})
    options.setdefault("store", tmp_path / "store")
    return ServerlessSquash(world["folder"], executor, engine=plain.PlainEngine(ranged), **options)


def search(pool, world, **options):
    return pool.search_batch(world["queries"], world["filters"], K, threshold=float("inf"), **options)


def assert_exact(result, world):
    distances, ids = result
    np.testing.assert_array_equal(ids, world["truth"][1])
    np.testing.assert_allclose(distances, world["truth"][0], rtol=1e-5)
    np.testing.assert_array_equal(result.wanted, np.minimum(K, world["matches"]))


@pytest.mark.parametrize(("fanout", "depth"), [(4, 0), (3, 1), (2, 2), (1, 3), (5, 2)])
@pytest.mark.parametrize("ranged", [False, True])
def test_trees_of_any_shape_give_the_exact_answers(world, tmp_path, fanout, depth, ranged):
    with opened(world, tmp_path, ranged=ranged, fanout=fanout, depth=depth, batch=4) as pool:
        pool.deploy()
        result = search(pool, world)
        assert_exact(result, world)
        assert (result.stats.get("range_bytes", 0) > 0) == ranged
        assert result.stats["n_failed"] == result.stats["n_retried"] == 0


def test_the_second_batch_fetches_nothing(world, tmp_path):
    with opened(world, tmp_path, depth=1, fanout=2) as pool:
        pool.deploy()
        first, second = search(pool, world), search(pool, world)
    assert first.stats["cache_bytes_fetched"] > 0
    assert second.stats["cache_bytes_fetched"] == second.stats["cache_misses"] == 0
    np.testing.assert_array_equal(first.ids, second.ids)


@pytest.mark.slow
def test_processes_give_the_exact_answers_and_stay_warm(world, tmp_path):
    with opened(world, tmp_path, "processes", workers=2, batch=10) as pool:
        pool.deploy()
        assert_exact(search(pool, world), world)
        assert search(pool, world).stats["cache_bytes_fetched"] == 0


def partition_fault(fault, partition, starts=1):
    def plan(message, start):
        return (
            fault if message.kind == "search" and message.fields["partition"] == partition and start < starts else None
        )

    return plan


@pytest.mark.parametrize("fault", ["raise", "corrupt", "cut", "other-request", "wrong-rows", "short", "twice", "lost"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_fault_that_passes_leaves_the_answers_whole(world, tmp_path, fault, depth):
    options = {"depth": depth, "fanout": 2, "timeout_s": 1.5, "plan": partition_fault(fault, 2)}
    with opened(world, tmp_path, **options) as pool:
        pool.deploy()
        result = search(pool, world)
    assert_exact(result, world)
    n_faults = max(depth * 2, 1)
    assert result.stats["n_retried"] == (0 if fault == "twice" else n_faults)


@pytest.mark.parametrize("fault", ["raise", "corrupt", "other-request", "wrong-rows", "lost"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_fault_that_stays_is_an_error_or_clearly_partial(world, tmp_path, fault, depth):
    options = {
        "depth": depth,
        "fanout": 2,
        "timeout_s": 0.8,
        "retries": 1,
        "plan": partition_fault(fault, 2, starts=99),
    }
    with opened(world, tmp_path, **options) as pool:
        pool.deploy()
        with pytest.raises(IncompleteSearch, match="partition 2") as caught:
            search(pool, world)
        assert caught.value.missing_partitions == [2]
        assert "attempt 2 of 2" in caught.value.reasons[2]
        result = search(pool, world, allow_partial=True)
    assert result.is_partial
    assert result.missing_partitions == [2]
    with pytest.raises(IncompleteSearch, match="complete"):
        list(result)
    # whole queries are exact; the others hold exactly what the other partitions have
    in_two = np.isin(world["ids"], world["ids"][2 * N // P : 3 * N // P])
    expected_complete = np.array([not self_matches(world, i)[in_two].any() for i in range(len(world["queries"]))])
    np.testing.assert_array_equal(result.complete, expected_complete)
    assert 0 < expected_complete.sum() < len(expected_complete)
    np.testing.assert_array_equal(result.ids[result.complete], world["truth"][1][result.complete])
    masks = [self_matches(world, i) & ~in_two for i in range(len(world["queries"]))]
    _, without = plain.truth(world["vectors"], world["queries"], masks, K, world["ids"])
    np.testing.assert_array_equal(result.ids, without)


def self_matches(world, query):
    """The rows that query's filter lets pass."""
    shared = plain.Shared(world["folder"])
    from paperworks.papers.squash.filters import as_filter

    parts = shared.masks(as_filter(world["filters"][query]))
    return np.ones(N, bool) if parts is None else np.concatenate(parts)


@pytest.mark.parametrize("fault", ["raise", "corrupt", "other-request", "lost"])
def test_an_allocator_that_fails_once_is_started_again(world, tmp_path, fault):
    def plan(message, start):
        return fault if message.kind == "allocate" and message.fields["node"] == [3, 1] and start == 0 else None

    with opened(world, tmp_path, depth=2, fanout=2, timeout_s=0.5, retries=1, plan=plan) as pool:
        pool.deploy()
        result = search(pool, world)
        assert_exact(result, world)
        assert result.stats["n_retried"] == 1


def test_an_allocator_that_always_fails_leaves_its_queries_marked(world, tmp_path):
    def plan(message, start):
        return "raise" if message.kind == "allocate" and message.fields["node"][0] == 0 else None

    with opened(world, tmp_path, depth=1, fanout=2, retries=1, plan=plan) as pool:
        pool.deploy()
        with pytest.raises(IncompleteSearch, match="allocator"):
            search(pool, world)
        result = search(pool, world, allow_partial=True)
    half = len(world["queries"]) // 2
    assert not result.complete[:half].any()
    assert result.complete[half:].all()
    np.testing.assert_array_equal(result.ids[half:], world["truth"][1][half:])
    assert (result.ids[:half] == -1).all()
    assert result.missing_partitions == list(range(P))


@pytest.mark.slow
def test_a_process_that_is_killed_or_hangs_is_replaced(world, tmp_path):
    plans = {2: "die", 3: "hang"}

    def plan(message, start):
        return plans.get(message.fields["partition"]) if start == 0 else None

    pool = opened(world, tmp_path, "processes", workers=2, timeout_s=6.0, batch=100, plan=plan)
    with pool:
        pool.deploy()
        result = search(pool, world)
    assert_exact(result, world)
    assert (result.stats["n_retried"], result.stats["n_timed_out"], result.stats["n_failed"]) == (2, 1, 1)


def test_a_missing_shard_is_an_error_or_clearly_partial(world, tmp_path):
    with opened(world, tmp_path) as pool:
        deployment = pool.deploy()
        key = deployment.partitions[4].files["vectors.bin"].key
        content = pool.store.get(key)
        pool.store.delete(key)
        with pytest.raises(IncompleteSearch, match="ObjectMissing"):
            search(pool, world)
        assert search(pool, world, allow_partial=True).missing_partitions == [4]
        pool.store.put(key, content[:-4] + b"\0\0\0\0")  # there again, but not the same
        with pytest.raises(IncompleteSearch, match="not what was deployed"):
            search(pool, world)
        pool.store.put(key, content)
        assert_exact(search(pool, world), world)


def test_a_missing_shard_read_by_ranges_is_an_error(world, tmp_path):
    with opened(world, tmp_path, ranged=True) as pool:
        deployment = pool.deploy()
        pool.store.delete(deployment.partitions[1].files["vectors.bin"].key)
        with pytest.raises(IncompleteSearch, match="partition 1: ObjectMissing"):
            search(pool, world)


def test_partitions_and_candidates_are_decided_before_any_function_starts(world, tmp_path):
    """The narrowest threshold, filters with few matches: one round, nobody asked twice, k rows whenever there are k."""
    with opened(world, tmp_path) as pool:
        pool.deploy()
        result = pool.search_batch(world["queries"], world["filters"], K, threshold=1.0)
    np.testing.assert_array_equal((result.ids >= 0).sum(axis=1), np.minimum(K, world["matches"]))
    assert result.stats["n_calls"] <= P
    assert result.stats["n_retried"] == 0


def test_empty_batches_and_filters_start_nothing(world, tmp_path):
    with opened(world, tmp_path, depth=0) as pool:
        pool.deploy()
        distances, ids = pool.search_batch(np.empty((0, D), "f4"), None, K)
        assert distances.shape == ids.shape == (0, K)
        result = pool.search_batch(world["queries"], Attr("year") >= 3000, K)
        assert (result.ids == -1).all()
        assert np.isinf(result.distances).all()
        assert not result.is_partial
        assert result.stats["n_calls"] == 0


def test_what_cannot_be_asked_is_refused_before_anything_starts(world, tmp_path):
    calls = []
    with opened(world, tmp_path, plan=lambda message, start: calls.append(message)) as pool:
        with pytest.raises(ObjectMissing, match=r"call deploy\(\) first"):
            search(pool, world)
        pool.deploy()
        with pytest.raises(InputError, match="columns"):
            pool.search_batch(np.zeros((2, D + 1)), None, K)
        with pytest.raises(InputError, match="k must be"):
            pool.search_batch(world["queries"], None, 0)
        with pytest.raises(InputError, match="threshold"):
            pool.search_batch(world["queries"], None, K, threshold=0.5)
        with pytest.raises(UnknownAttribute):
            pool.search_batch(world["queries"], Attr("yaer") >= 2000, K)
        with pytest.raises(InputError, match="filters"):
            pool.search_batch(world["queries"], [None, None], K)
    assert calls == []
    with pytest.raises(InputError, match="no index"):
        opened({**world, "folder": tmp_path / "none"}, tmp_path).deploy()
    with pytest.raises(InputError, match="timeout_s"):
        opened(world, tmp_path, timeout_s=0)
    with pytest.raises(InputError, match="retries"):
        opened(world, tmp_path, retries=-1)


def test_a_new_version_is_deployed_beside_the_old_one(world, tmp_path):
    with opened(world, tmp_path) as pool:
        old = pool.deploy()
        assert pool.deploy() == old
        puts = pool.store.traffic.n_puts
        pool.deploy()
        assert pool.store.traffic.n_puts - puts == 2  # the list and the pointer, no object again
        half = world["vectors"].copy()
        half[: N // P] *= 2
        shared = np.load(world["folder"] / "shared.npz")
        newer = plain.build(tmp_path / "newer", half, shared["year"], P, world["ids"])
        with ServerlessSquash(newer, engine=plain.PlainEngine(), store=tmp_path / "store") as second:
            puts = second.store.traffic.n_puts
            new = second.deploy()
            assert (
                second.store.traffic.n_puts - puts == 2 + 2
            )  # one partition's vectors, the shared part, and two lists
        assert new.name != old.name
        assert_exact(search(pool, world), world)  # whoever began with the old one keeps it
        assert pool.refresh() == new
        assert not np.array_equal(search(pool, world).distances, world["truth"][0])


def test_a_deployment_that_is_damaged_or_newer_says_so(world, tmp_path):
    with opened(world, tmp_path) as pool:
        name = pool.deploy().name
        key = f"deployments/{name}.json"
        good = pool.store.get(key)
        pool.store.put(key, good.replace(b'"rows":120', b'"rows":121'))
        with pytest.raises(ServerlessError, match="damaged"):
            pool.refresh()
        pool.store.put("current.json", b"not json")
        with pytest.raises(ServerlessError, match="pointer"):
            pool.refresh()
    from paperworks.papers.squash.serverless.deploy import Deployment

    assert Deployment.from_bytes(good).to_bytes() == good
    with pytest.raises(ServerlessError, match="version 9"):
        Deployment.from_bytes(good.replace(b'"version":1', b'"version":9'))
    for wrong in (b"{}", b"[]", b"\xff", good[:-20], good.replace(b'"rows":120', b'"rows":-1')):
        with pytest.raises(ServerlessError):
            Deployment.from_bytes(wrong)


def test_prune_removes_what_no_pointer_needs(world, tmp_path):
    from paperworks.papers.squash.serverless.deploy import missing_objects, prune

    with opened(world, tmp_path) as pool:
        pool.deploy()
        pool.store.put("objects/ab/" + "ab" * 32, b"left over")
        assert prune(pool.store) == ["objects/ab/" + "ab" * 32]
        assert missing_objects(pool.store, pool.deployment) == []
        assert_exact(search(pool, world), world)


def test_the_estimate_uses_what_the_last_batch_did(world, tmp_path):
    with opened(world, tmp_path) as pool:
        pool.deploy()
        assert pool.estimate(1000).bytes_read == 1000 * P * 20 * 4 * D  # before: every partition
        result = pool.search_batch(world["queries"], world["filters"], K, threshold=1.0)
        visited = result.stats["queries_searched"] / len(world["queries"])
        assert visited < P
        assert pool.estimate(1000).bytes_read == pytest.approx(1000 * visited * 20 * 4 * D)


def test_threads_do_not_wait_in_vain_for_a_place(world, tmp_path):
    """More calls than workers: time begins when a call has a place, so waiting is no failure."""
    with opened(world, tmp_path, workers=1, batch=2, timeout_s=0.3, retries=0) as pool:
        pool.deploy()
        assert_exact(search(pool, world), world)


def test_kept_results_are_given_again_and_only_to_the_same_question(world, tmp_path):
    queries, filters = world["queries"], world["filters"]
    with opened(world, tmp_path, keep_results=1000) as pool:
        pool.deploy()
        assert_exact(search(pool, world), world)
        again = search(pool, world)
        assert_exact(again, world)
        # masks and ids have no key: those queries are searched again
        n_keyed = sum(one is None or isinstance(one, type(filters[1])) for one in filters)
        assert again.stats["results_kept"] == n_keyed
        assert 0 < again.stats["n_calls"] <= P
        # another k, another filter, another vector, or other settings are other questions
        for change in ({"k": K - 1}, {"filters": Attr("year") < 2010}, {"queries": queries + 1e-6}, {"threshold": 3.0}):
            asked = {"queries": queries, "filters": None, "k": K, "threshold": float("inf"), **change}
            fresh = pool.search_batch(asked.pop("queries")[1:2], asked.pop("filters"), asked.pop("k"), **asked)
            assert fresh.stats["results_kept"] == 0
    with opened(world, tmp_path) as pool:
        assert search(pool, world).stats["n_calls"] == search(pool, world).stats["n_calls"] > 0


def test_partial_results_are_not_kept(world, tmp_path):
    broken = {"on": True}
    plan = lambda message, start: "raise" if broken["on"] and message.fields["partition"] == 2 else None  # noqa: E731
    with opened(world, tmp_path, keep_results=1000, retries=0, plan=plan) as pool:
        pool.deploy()
        first = search(pool, world, allow_partial=True)
        assert first.is_partial
        broken["on"] = False
        assert_exact(search(pool, world), world)


def test_kept_results_are_bounded():
    from paperworks.papers.squash.serverless.results import KeptResults

    kept = KeptResults(2)
    keys = kept.keys("d", {}, np.arange(6, dtype="f4").reshape(3, 2), [None] * 3)
    for key in keys:
        kept.put(key, np.zeros(1, "f4"), np.zeros(1, int), 1)
    assert [kept.get(key) is not None for key in keys] == [False, True, True]
    assert kept.keys("other", {}, np.arange(2, dtype="f4")[None], [None])[0] != keys[0]
    with pytest.raises(InputError, match="kept"):
        KeptResults(-1)

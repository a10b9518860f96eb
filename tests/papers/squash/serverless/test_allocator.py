"""The single pass, the requests it makes, and the merge of the answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.allocator import choose_partitions, merge, partition_requests
from paperworks.papers.squash.serverless.payload import decode, encode


def plain_choice(distances, counts, k, threshold):
    """The paper's loop for one query, one partition after another."""
    order = sorted((p for p in range(len(counts)) if counts[p]), key=lambda p: (distances[p], p))
    wanted, issued, chosen = min(k, sum(counts)), 0, set()
    for p in order:
        near = threshold == float("inf") or distances[p] <= threshold * distances[order[0]]
        if near or issued < wanted:
            chosen.add(p)
        issued += counts[p]
    return chosen


worlds = st.integers(1, 8).flatmap(
    lambda p: st.tuples(
        st.lists(st.floats(0, 10, width=32), min_size=p, max_size=p),
        st.lists(st.integers(0, 6), min_size=p, max_size=p),
        st.integers(1, 20),
        st.sampled_from([1.0, 1.15, 1.3, 3.0, float("inf")]),
    )
)


@given(worlds)
def test_the_choice_is_that_of_the_plain_loop(world):
    distances, counts, k, threshold = world
    visits = choose_partitions(np.array([distances]), np.array([counts]), k, threshold)
    assert set(np.flatnonzero(visits[0])) == plain_choice(distances, counts, k, threshold)


@given(worlds)
def test_enough_rows_are_visited_whenever_they_exist(world):
    distances, counts, k, _ = world
    visits = choose_partitions(np.array([distances]), np.array([counts]), k, 1.0)
    assert (np.array(counts) * visits[0]).sum() >= min(k, sum(counts))


def test_queries_are_chosen_for_independently():
    rng = np.random.default_rng(0)
    distances, counts = rng.random((40, 6)), rng.integers(0, 5, (40, 6))
    together = choose_partitions(distances, counts, 4, 1.1)
    alone = [choose_partitions(distances[i : i + 1], counts[i : i + 1], 4, 1.1)[0] for i in range(40)]
    np.testing.assert_array_equal(together, alone)


def test_partitions_without_a_match_are_never_visited():
    visits = choose_partitions(np.array([[0.0, 1.0, 2.0]]), np.array([[0, 0, 3]]), 5, float("inf"))
    assert visits.tolist() == [[False, False, True]]
    assert not choose_partitions(np.ones((2, 3)), np.zeros((2, 3), int), 5, 1.0).any()
    assert choose_partitions(np.ones((0, 3)), np.zeros((0, 3), int), 5, 1.0).shape == (0, 3)


def test_impossible_choices_are_refused():
    for k, threshold in [(0, 1.0), (1, 0.99), (1, float("nan"))]:
        with pytest.raises(InputError, match="threshold"):
            choose_partitions(np.ones((1, 2)), np.ones((1, 2), int), k, threshold)
    with pytest.raises(InputError, match="shape"):
        choose_partitions(np.ones((1, 2)), np.ones((2, 2), int), 1, 1.0)


def test_requests_hold_each_filter_once_and_none_where_everything_matches():
    sizes = [4, 3]
    odd = [np.array([0, 1, 0, 1], bool), np.array([1, 1, 1], bool)]
    masks = [odd, None]
    mask_of = np.array([0, 0, 1])
    counts = np.array([[2, 3], [2, 3], [4, 3]])
    visits = np.array([[1, 1], [1, 0], [1, 1]], bool)
    queries = np.arange(6, dtype="f4").reshape(3, 2)
    first, second = partition_requests(
        queries, np.array([10, 11, 12]), visits, counts, masks, mask_of, sizes, 3, {"H": 10}
    )
    assert first.query_ids.tolist() == [10, 11, 12]
    assert first.bitmap_of.tolist() == [0, 0, -1]
    assert first.bitmaps.tolist() == [odd[0].tolist()]
    assert first.expected.tolist() == [2, 2, 3]
    assert second.query_ids.tolist() == [10, 12]
    assert second.bitmap_of.tolist() == [-1, -1]
    assert second.bitmaps.shape == (0, 3)
    assert first.request_id != second.request_id
    message = decode(encode(first.message("deployment")), "search")
    assert np.unpackbits(message.arrays["bitmaps"], axis=1, count=4).tolist() == [[0, 1, 0, 1]]
    assert message.fields["k"] == 3
    assert message.fields["search"] == {"H": 10}


@given(st.integers(0, 4), st.integers(1, 5), st.integers(0, 3), st.integers(0, 1000))
def test_the_merge_is_a_sort_of_everything_in_any_order(n_queries, k, n_parts, seed):
    rng = np.random.default_rng(seed)
    parts, everything = [], [[] for _ in range(n_queries)]
    for part in range(n_parts):
        query_ids = np.flatnonzero(rng.random(n_queries) < 0.7)
        found = rng.integers(0, k + 1, query_ids.size)
        distances = np.full((query_ids.size, k), np.inf, "f4")
        ids = np.full((query_ids.size, k), -1)
        for row, (query, n_found) in enumerate(zip(query_ids, found, strict=True)):
            distances[row, :n_found] = np.sort(rng.integers(0, 4, n_found))  # many ties
            ids[row, :n_found] = part * 100 + rng.permutation(50)[:n_found]
            everything[query] += list(zip(distances[row, :n_found], ids[row, :n_found], strict=True))
        parts.append((query_ids, distances, ids))
    for order in (parts, parts[::-1]):
        distances, ids = merge(order, n_queries, k)
        for query in range(n_queries):
            best = sorted(everything[query])[:k]
            n_found = len(best)
            assert list(zip(distances[query, :n_found], ids[query, :n_found], strict=True)) == best
            assert np.isinf(distances[query, n_found:]).all()
            assert (ids[query, n_found:] == -1).all()

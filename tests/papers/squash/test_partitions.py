"""Partitions of equal size, lists, and the storage order."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash import toy
from paperworks.papers.squash.partitions import (
    assign,
    balanced_partitions,
    fit_lists,
    group,
    kmeans,
    nearest,
    sample_rows,
)


def within(sizes: np.ndarray, n: int, tolerance: float = 0.1) -> bool:
    share = n / len(sizes)
    floor, cap = max(1, np.floor((1 - tolerance) * share + 1e-9)), np.ceil((1 + tolerance) * share - 1e-9)
    return bool(sizes.sum() == n and sizes.min() >= floor and sizes.max() <= cap)


@given(st.integers(1, 300), st.integers(1, 12), st.integers(0, 100), st.booleans())
@settings(deadline=None, max_examples=40)
def test_sizes_stay_within_the_tolerance_whatever_the_rows(n, count, seed, tied) -> None:
    rng = np.random.default_rng(seed)
    rows = np.ones((n, 3)) if tied else rng.standard_normal((n, 3)) ** 3
    found = balanced_partitions(rows.astype(np.float16), count, seed=seed)
    assert len(found.sizes) == min(count, n)
    assert within(found.sizes, n)
    np.testing.assert_array_equal(np.bincount(found.labels, minlength=len(found.sizes)), found.sizes)


def test_skewed_clusters_are_cut_evenly_at_little_cost_and_centroids_are_the_means() -> None:
    rng = np.random.default_rng(0)
    centres = 4 * rng.standard_normal((6, 8))
    rows = (centres[rng.choice(6, 4000, p=[0.6, 0.2, 0.1, 0.05, 0.03, 0.02])] + rng.standard_normal((4000, 8))).astype(
        "f4"
    )
    found = balanced_partitions(rows, 5)
    assert within(found.sizes, 4000)
    for p in range(5):
        np.testing.assert_allclose(found.centroids[p], rows[found.labels == p].mean(axis=0), atol=1e-4)
    spread = ((rows - found.centroids[found.labels]) ** 2).sum()
    at_random = ((rows - rows.mean(axis=0)) ** 2).sum()
    assert spread < 0.5 * at_random


def test_rows_sorted_by_cluster_are_no_trouble() -> None:
    """The sample decides the prices: rows that arrive cluster by cluster do not fill the wrong partitions first."""
    rows, _, clusters = toy.clustered(np.random.default_rng(2), 6000, 8, n_clusters=6)
    ordered = rows[np.argsort(clusters, kind="stable")]
    shuffled, sorted_ = balanced_partitions(rows, 6), balanced_partitions(ordered, 6)
    assert within(sorted_.sizes, 6000)
    costs = [((x - f.centroids[f.labels]) ** 2).sum() for x, f in ((rows, shuffled), (ordered, sorted_))]
    assert costs[1] < 1.1 * costs[0]


def test_more_partitions_than_rows_are_lowered_with_a_warning(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert balanced_partitions(np.eye(3), 7).sizes.tolist() == [1, 1, 1]
    assert "7 partitions" in caplog.text
    with pytest.raises(InputError):
        balanced_partitions(np.eye(3)[:0], 2)
    with pytest.raises(InputError):
        balanced_partitions(np.eye(3), 0)


def test_a_value_that_is_not_finite_is_refused_with_its_row() -> None:
    rows = np.zeros((50, 2), dtype=np.float32)
    rows[31, 1] = np.nan
    with pytest.raises(InputError, match="row 31 "):
        balanced_partitions(rows, 2)


def test_nearest_is_the_argmin_of_the_squares_plus_penalty() -> None:
    rng = np.random.default_rng(0)
    block, centroids = rng.standard_normal((300, 7)).astype("f4"), rng.standard_normal((11, 7)).astype("f4")
    squares = ((block[:, None] - centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest(block, centroids), squares.argmin(axis=1))
    penalty = rng.random(11) * 5
    np.testing.assert_array_equal(nearest(block, centroids, penalty), (squares + penalty).argmin(axis=1))


def test_kmeans_finds_separated_clusters_repeats_and_survives_ties() -> None:
    rng = np.random.default_rng(1)
    centres = 20 * np.eye(4, dtype=np.float32)
    rows = centres[rng.integers(0, 4, 800)] + rng.standard_normal((800, 4)).astype("f4")
    found = kmeans(rows, 12, seed=3)
    labels = nearest(rows, found)
    assert ((rows - found[labels]) ** 2).sum(axis=1).mean() < 4  # no more than the noise around the true centres
    np.testing.assert_array_equal(found, kmeans(rows, 12, seed=3))
    assert np.isfinite(kmeans(np.ones((20, 2)), 5)).all()
    with pytest.raises(InputError, match="between 1 and the 3 rows"):
        kmeans(np.ones((3, 2)), 4)


def test_lists_of_a_subset_and_of_a_memory_map(tmp_path) -> None:
    rows = toy.clustered(np.random.default_rng(0), 3000, 8)[0].astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    chosen = np.arange(5, 3000, 2)
    centroids = fit_lists(mapped, 20, rows=chosen)
    labels = assign(mapped, centroids, rows=chosen)
    np.testing.assert_array_equal(labels, nearest(rows[chosen].astype(np.float32), centroids))
    assert len(np.unique(labels)) > 15


def test_sampling_takes_all_or_that_many_distinct_rows() -> None:
    assert sample_rows(5, 10).tolist() == [0, 1, 2, 3, 4]
    chosen = sample_rows(1000, 100, seed=1)
    assert len(np.unique(chosen)) == 100
    assert (np.diff(chosen) > 0).all()


@given(st.lists(st.integers(0, 6), max_size=50))
def test_storage_order_groups_rows_and_keeps_their_order(labels) -> None:
    order, starts = group(np.array(labels, dtype=np.int32), 7)
    assert sorted(order.tolist()) == list(range(len(labels)))
    for k in range(7):
        assert order[starts[k] : starts[k + 1]].tolist() == [i for i, label in enumerate(labels) if label == k]

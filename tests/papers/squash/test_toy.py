"""The made world is what it says: seeded, clustered, with a decaying spectrum and attributes of every kind."""

from __future__ import annotations

import numpy as np

from paperworks.papers.squash import toy
from paperworks.papers.squash.transform import fit_klt


def test_the_same_seed_gives_the_same_world_and_another_does_not() -> None:
    one, two, other = (toy.dataset(np.random.default_rng(seed), 200, 8) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert one.attributes["labels"] == two.attributes["labels"]
    assert not np.array_equal(one.vectors, other.vectors)


def test_variance_decays_and_is_hidden_from_the_axes() -> None:
    rows, queries, _ = toy.clustered(np.random.default_rng(0), 4000, 64, decay=1.0)
    variance = fit_klt(rows).variance
    assert variance[:16].sum() > 0.5 * variance.sum()
    assert rows.var(axis=0).max() < 4 * np.median(rows.var(axis=0))
    assert rows.dtype == queries.dtype == np.float32


def test_queries_are_held_out_and_rows_of_a_cluster_are_near_each_other() -> None:
    rows, queries, clusters = toy.clustered(np.random.default_rng(0), 1000, 16, n_queries=30, n_clusters=5)
    nearest = np.sqrt(((queries[:, None] - rows) ** 2).sum(axis=2)).min(axis=1)
    assert nearest.min() > 0
    inside = np.mean([rows[clusters == c].var(axis=0).sum() for c in range(5)])
    assert inside < 0.8 * rows.var(axis=0).sum()


def test_attributes_of_every_kind_with_missing_values() -> None:
    made = toy.typed_attributes(np.random.default_rng(0), 2000)
    assert {len(column) for column in made.values()} == {2000}
    assert 0.03 < np.isnan(made["score"]).mean() < 0.07
    assert np.isnat(made["date"]).any()
    assert any(value is None for value in made["category"])
    assert {type(value) for value in made["labels"]} == {set, type(None)}
    assert set() in made["labels"]
    assert (made["citations"] == 0).mean() > 0.4
    assert made["stamp"].min() > 2**53
    assert made["open"].dtype == bool


def test_four_uniform_ranges_reach_the_papers_selectivity() -> None:
    made = toy.uniform_attributes(np.random.default_rng(0), 50_000)
    width = 0.08 ** (1 / 4)
    passing = np.logical_and.reduce([column < width for column in made.values()])
    assert abs(passing.mean() - 0.08) < 4 * np.sqrt(0.08 * 0.92 / 50_000)

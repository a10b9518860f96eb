"""The plain search keeps the paper's promises in every mode: the filter, the count, the exact answer, the single pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.papers.squash import reference, toy

MODES = [
    {},
    {"hamming": False},
    {"refine": False},
    {"symmetric": True},
    {"verify": False},
    {"T": 1.0, "H": 1.0, "R": 1.0},
    {"exact": True},
    {"exact": True, "verify": False},
]
BUILDS = [
    {},
    {"partitions": 5},
    {"width": 16, "allocation": "uniform"},
    {"width": 32, "boundaries": "equal", "budget": 30},
    {"sign_rotation": "pca", "partitions": 3},
    {"sign_rotation": None},
]


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows, queries, _ = toy.clustered(rng, 400, 10, n_queries=25, n_clusters=8)
    attributes = np.column_stack([rng.random(400), rng.integers(0, 5, 400), rng.pareto(1.0, 400)])
    attributes[::37, 0] = np.nan
    return rows, queries, attributes


@pytest.fixture(
    scope="module", params=BUILDS, ids=lambda build: "-".join(f"{k}={v}" for k, v in build.items()) or "plain"
)
def index(request, world) -> reference.Reference:
    return reference.build(world[0], world[2], **request.param)


def predicates(rng: np.random.Generator) -> list[reference.Predicate]:
    """A random conjunction of one to three comparisons."""
    made: list[reference.Predicate] = []
    for column in rng.choice(3, rng.integers(1, 4), replace=False):
        operator = rng.choice(["<", "<=", "=", ">", ">=", "B"])
        x = float(rng.integers(0, 5)) if column == 1 else float(rng.random() * (1 if column == 0 else 4))
        made.append((int(column), str(operator), x, x + float(rng.random() * 2)))
    return made


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_no_row_breaks_the_filter_and_none_is_missing(index, world, mode) -> None:
    rows, queries, attributes = world
    rng = np.random.default_rng(1)
    for query in queries:
        wanted = predicates(rng)
        passing = np.logical_and.reduce([reference.holds(attributes[:, p[0]], p) for p in wanted])
        found = reference.search(index, query, 10, wanted, **mode)
        assert passing[found.ids].all()
        assert len(np.unique(found.ids)) == len(found.ids)
        assert (np.diff(found.distances) >= 0).all()
        if mode.get("verify", True) or mode.get("exact"):
            assert len(found.ids) == min(10, passing.sum())
        if mode.get("refine", True):
            np.testing.assert_allclose(found.distances, np.linalg.norm(rows[found.ids].astype(float) - query, axis=1))
        if mode.get("exact"):
            np.testing.assert_array_equal(found.ids, reference.brute_force(rows, query, 10, passing)[1])


def test_exact_mode_stops_before_it_has_read_every_row(world) -> None:
    rows, queries, _ = world
    index = reference.build(rows)
    read = [reference.search(index, query, 5, exact=True).stages["refined"] for query in queries]
    assert np.mean(read) < 0.2 * len(rows)


def test_recall_at_the_defaults_is_high_and_falls_without_refinement(world) -> None:
    rows, queries, _ = world
    full, lean = reference.build(rows), reference.build(rows, budget=20)

    def recall(index: reference.Reference, **mode: object) -> float:
        hits = [
            np.isin(reference.search(index, q, 10, **mode).ids, reference.brute_force(rows, q, 10)[1]).sum()  # type: ignore[arg-type]
            for q in queries
        ]
        return float(np.sum(hits)) / (10 * len(queries))

    assert recall(full) >= 0.97
    assert recall(lean, hamming=False, refine=False) < recall(lean, hamming=False)
    assert recall(lean, hamming=False, symmetric=True) < recall(lean, hamming=False)


@given(st.integers(0, 10_000), st.floats(1.0, 1.5))
@settings(deadline=None, max_examples=40)
def test_the_single_pass_visits_partitions_in_order_until_enough_candidates(index_of_five, seed, T) -> None:
    index, queries, _ = index_of_five
    rng = np.random.default_rng(seed)
    query = queries[rng.integers(len(queries))]
    passing = reference.candidates(index, predicates(rng))
    chosen = reference.visited(index, query, passing, 10, T)
    issued = sum(passing[index.parts[p].rows].sum() for p in chosen)
    assert issued >= min(10, passing.sum())
    distances = np.linalg.norm(index.centroids - query, axis=1)
    assert (np.diff(distances[chosen]) >= 0).all()
    near = [p for p in range(5) if distances[p] <= T * distances.min() and passing[index.parts[p].rows].any()]
    assert set(near) <= set(chosen)
    if len(chosen) > max(1, len(near)):  # one fewer would not have been enough
        assert issued - passing[index.parts[chosen[-1]].rows].sum() < min(10, passing.sum())


@pytest.fixture(scope="module")
def index_of_five(world) -> tuple[reference.Reference, np.ndarray, np.ndarray]:
    return reference.build(world[0], world[2], partitions=5), world[1], world[2]


def test_partitions_are_balanced(index_of_five) -> None:
    sizes = np.array([len(part.rows) for part in index_of_five[0].parts])
    assert sizes.sum() == 400
    assert sizes.min() >= 0.9 * 80
    assert sizes.max() <= 1.1 * 80


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_cells_never_hide_a_match(index_of_five, seed) -> None:
    """Rows that pass by their codes contain all rows that pass by their values, ends and ties included."""
    index, _, attributes = index_of_five
    wanted = predicates(np.random.default_rng(seed))
    by_code = reference.candidates(index, wanted, verify=False)
    by_value = np.logical_and.reduce([reference.holds(attributes[:, p[0]], p) for p in wanted])
    assert (by_code | ~by_value).all()
    np.testing.assert_array_equal(reference.candidates(index, wanted), by_value)


def test_an_empty_filter_result_is_an_empty_answer(world) -> None:
    index = reference.build(world[0], world[2])
    found = reference.search(index, world[1][0], 10, [(0, ">", 2.0, None)])
    assert len(found.ids) == len(found.distances) == 0

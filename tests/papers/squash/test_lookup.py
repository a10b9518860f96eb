"""The bound tables bound: below and above every true distance, for any query, and no looser than they must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.papers.squash import reference, toy
from paperworks.papers.squash.lookup import bound_tables, fill_lower, midpoint_table, symmetric_tables, table_sums
from paperworks.papers.squash.quantiser import Quantiser, learn_quantiser
from paperworks.papers.squash.transform import fit_klt, rounding_slack

TABLES = [bound_tables, symmetric_tables]


@st.composite
def worlds(draw) -> tuple[Quantiser, np.ndarray, np.ndarray]:
    """A quantiser, rows that it covers, and a query that may lie far outside."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    d = draw(st.integers(1, 8))
    scale = np.float32(10.0 ** draw(st.integers(-3, 3)))
    rows = (rng.standard_normal((draw(st.integers(1, 40)), d)) * scale).astype(np.float32)
    bits = np.array(draw(st.lists(st.integers(0, 6), min_size=d, max_size=d)), dtype=np.uint8)
    query = (rng.standard_normal(d) * scale * draw(st.floats(0, 4))).astype(np.float32)
    sample = rows[: max(1, len(rows) // 2)]
    quantiser = learn_quantiser(sample, bits, boundaries=draw(st.sampled_from(["lloyd", "equal"])))
    return quantiser.cover(rows.min(axis=0), rows.max(axis=0)), rows, query


@pytest.mark.parametrize("tables", TABLES)
@given(world=worlds())
@settings(deadline=None)
def test_bounds_bound_the_distance(tables, world) -> None:
    quantiser, rows, query = world
    codes = quantiser.encode(rows)
    lower, upper = (table_sums(table, codes).astype(float) for table in tables(query, quantiser))
    true = ((rows.astype(float) - query) ** 2).sum(axis=1)
    rounding = 1e-5 * (true + upper)  # float32 products and sums of at most 8 terms
    assert (lower <= true + rounding).all()
    assert (true <= upper + rounding).all()


@given(world=worlds())
@settings(deadline=None)
def test_tables_are_those_of_the_reference(world) -> None:
    quantiser, rows, query = world
    codes = quantiser.encode(rows).astype(int)
    edges = [quantiser.edges[j, : c + 1] for j, c in enumerate(quantiser.cells)]
    plain = reference.bounds(query, edges, codes)
    for table, expected in zip(bound_tables(query, quantiser), plain, strict=True):
        np.testing.assert_allclose(table_sums(table, codes), expected, rtol=1e-4, atol=1e-5 * plain.max())


@given(world=worlds())
@settings(deadline=None)
def test_quantising_the_query_too_only_loosens_the_bounds(world) -> None:
    quantiser, _, query = world
    lower, upper = bound_tables(query, quantiser)
    loose_lower, loose_upper = symmetric_tables(query, quantiser)
    assert (loose_lower <= lower * (1 + 1e-6)).all()
    assert (loose_upper >= upper * (1 - 1e-6)).all()


def test_bounds_by_hand() -> None:
    """Cells [0, 1), [1, 4), [4, 6]; the fourth is empty at 6. The query at 2 lies in the second."""
    quantiser = Quantiser(np.array([2], dtype=np.uint8), np.array([[0, 1, 4, 6, 6]], dtype=np.float32))
    query = np.array([2.0], dtype=np.float32)
    lower, upper = bound_tables(query, quantiser)
    assert lower[0].tolist() == [1, 0, 4, 16]
    assert upper[0].tolist() == [4, 4, 16, 16]
    lower, upper = symmetric_tables(query, quantiser)
    assert lower[0].tolist() == [0, 0, 0, 4]
    assert upper[0].tolist() == [16, 9, 25, 25]
    assert midpoint_table(query, quantiser)[0].tolist() == [2.25, 0.25, 9, 16]


def test_an_edge_at_zero_is_an_edge() -> None:
    """The released code takes a boundary of exactly 0 for one that was never set."""
    quantiser = Quantiser(np.array([1], dtype=np.uint8), np.array([[-2, 0, 2]], dtype=np.float32))
    lower, _ = bound_tables(np.array([-1.0], dtype=np.float32), quantiser)
    assert lower[0].tolist() == [0, 1]


def test_bounds_hold_in_original_space_within_the_rounding_slack() -> None:
    rows, queries, _ = toy.clustered(np.random.default_rng(1), 2000, 48)
    rows += 30  # a common offset, as raw features have
    klt = fit_klt(rows)
    y = klt.apply(rows)
    quantiser = learn_quantiser(y, np.full(48, 8, dtype=np.uint8))
    codes = quantiser.encode(y)
    largest = float(np.linalg.norm(y, axis=1).max())
    for query in np.vstack([queries + 30, rows[:20]]):
        turned = klt.apply(query)
        lower = np.sqrt(table_sums(bound_tables(turned, quantiser)[0], codes).astype(float))
        true = np.linalg.norm(rows.astype(float) - query, axis=1)
        assert (lower - true).max() <= rounding_slack(48, float(np.linalg.norm(turned)), largest)


def test_lower_bounds_alone_are_the_same() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
    quantiser = learn_quantiser(rows, np.array([3, 2, 0, 5, 1], dtype=np.uint8))
    lower = np.zeros((5, 32), dtype=np.float32)
    fill_lower(rows[3], quantiser.edges, quantiser.bits, lower)
    np.testing.assert_array_equal(lower, bound_tables(rows[3], quantiser)[0])

"""Cells by equal counts and Lloyd-Max: the compiled loops against the plain ones, and what every code must mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paperworks.errors import InputError
from paperworks.papers.squash import reference, toy
from paperworks.papers.squash.allocation import greedy_bits
from paperworks.papers.squash.quantiser import Quantiser, equal_counts, learn_quantiser, lloyd_max, uniform_hash
from paperworks.papers.squash.transform import fit_klt

FLOATS = st.floats(-1e3, 1e3, width=32)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    rows = toy.clustered(np.random.default_rng(3), 900, 10)[0]
    return fit_klt(rows).apply(rows)


@given(arrays(np.float32, st.integers(1, 80), elements=FLOATS), st.integers(0, 5))
@settings(deadline=None)
def test_equal_counts_are_those_of_the_reference(column, bits) -> None:
    edges = np.empty((1 << bits) + 1, dtype=np.float32)
    equal_counts(np.sort(column), 1 << bits, edges)
    np.testing.assert_array_equal(edges, reference.equal_edges(column, 1 << bits))


def test_equal_counts_by_hand() -> None:
    edges = np.empty(5, dtype=np.float32)
    equal_counts(np.arange(10, dtype=np.float32), 4, edges)
    assert edges.tolist() == [0, 3, 5, 8, 9]  # ceil(c * 10 / 4) = 3, 5, 8


def test_lloyd_by_hand() -> None:
    """Two groups of values: the one inner edge moves midway between their means."""
    edges = np.array([0, 1, 11], dtype=np.float32)
    ordered = np.array([0, 1, 2, 9, 10, 11], dtype=np.float32)
    lloyd_max(ordered, 2, edges, 0, 0.0, 50)
    assert edges.tolist() == [0, 5.5, 11]


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_lloyd_on_running_sums_is_lloyd_on_masks(values, bits) -> None:
    for j in (0, 4, 9):
        start = reference.equal_edges(values[:, j], 1 << bits)
        fast = start.copy()
        lloyd_max(np.sort(values[:, j]), 1 << bits, fast, 77, 0.005, 250)
        np.testing.assert_allclose(fast, reference.lloyd(values[:, j], start, key=77), rtol=2e-6, atol=1e-7)


def test_cells_without_values_are_filled_by_the_same_chance_in_both() -> None:
    column = np.repeat(np.array([0.0, 1.0, 5.0], dtype=np.float32), 20)
    start = reference.equal_edges(column, 8)
    fast = start.copy()
    lloyd_max(column, 8, fast, 5, 0.005, 250)
    np.testing.assert_allclose(fast, reference.lloyd(column, start, key=5), rtol=1e-6)
    draws = np.array([uniform_hash(key) for key in range(2000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 2000)


def test_lloyd_lowers_the_squared_error(values) -> None:
    bits = np.full(10, 3, dtype=np.uint8)

    def error(quantiser: Quantiser) -> float:
        codes = quantiser.encode(values)
        return float(
            sum(
                ((values[codes[:, j] == c, j] - values[codes[:, j] == c, j].mean()) ** 2).sum()
                for j in range(10)
                for c in np.unique(codes[:, j])
            )
        )

    assert error(learn_quantiser(values, bits)) < 0.95 * error(learn_quantiser(values, bits, boundaries="equal"))


@given(
    arrays(np.float32, st.tuples(st.integers(1, 40), st.just(4)), elements=FLOATS),
    st.lists(st.integers(0, 9), min_size=4, max_size=4),
    st.sampled_from(["lloyd", "equal"]),
)
@settings(deadline=None)
def test_every_value_lies_in_the_cell_of_its_code(rows, bits, boundaries) -> None:
    quantiser = learn_quantiser(rows, np.array(bits, dtype=np.uint8), boundaries=boundaries)
    codes = quantiser.encode(rows)
    assert codes.dtype == (np.uint8 if max(bits) <= 8 else np.uint16)
    at = np.arange(4)
    assert (codes < quantiser.cells).all()
    assert (quantiser.edges[at, codes] <= rows).all()
    assert (rows <= quantiser.edges[at, codes.astype(int) + 1]).all()
    for j in range(4):
        used = quantiser.edges[j, : quantiser.cells[j] + 1]
        assert (np.diff(used) >= 0).all()
        assert np.isinf(quantiser.edges[j, quantiser.cells[j] + 1 :]).all()
        np.testing.assert_array_equal(codes[:, j], reference.encode(rows[:, j], used))


def test_values_beyond_the_ends_get_the_end_cells_and_cover_moves_the_ends(values) -> None:
    quantiser = learn_quantiser(values[:100], np.full(10, 4, dtype=np.uint8))
    far = np.stack([values.min(axis=0) - 50, values.max(axis=0) + 50]).astype(np.float32)
    np.testing.assert_array_equal(quantiser.encode(far), [[0] * 10, [15] * 10])
    assert quantiser.outside(far) == 20
    wide = quantiser.cover(far[0], far[1])
    assert wide.outside(far) == 0
    np.testing.assert_array_equal(wide.ends(), far)
    np.testing.assert_array_equal(wide.encode(values), quantiser.encode(values))
    np.testing.assert_array_equal(quantiser.ends(), [values[:100].min(axis=0), values[:100].max(axis=0)])


def test_constant_tied_and_few_values_make_no_trouble() -> None:
    rows = np.zeros((3, 3), dtype=np.float32)
    rows[:, 1] = [1, 1, 2]
    quantiser = learn_quantiser(rows, np.array([4, 4, 0], dtype=np.uint8))
    codes = quantiser.encode(rows)
    assert np.isfinite(quantiser.edges[:2]).all()
    assert codes[0, 1] == codes[1, 1] != codes[2, 1]
    assert codes[:, 2].tolist() == [0, 0, 0]


def test_learning_leaves_the_input_alone_and_repeats(values) -> None:
    before = values.copy()
    bits = greedy_bits(values.var(axis=0), 40)
    one, two = learn_quantiser(values, bits, seed=4), learn_quantiser(values.astype(np.float64), bits, seed=4)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(one.edges, two.edges)


def test_midpoints_reconstruct_within_half_a_cell(values) -> None:
    quantiser = learn_quantiser(values, np.array([6] * 9 + [0], dtype=np.uint8))
    codes, at = quantiser.encode(values).astype(int), np.arange(10)
    widths = quantiser.edges[at, codes + 1] - quantiser.edges[at, codes]
    assert (np.abs(quantiser.midpoints()[at, codes] - values) <= widths / 2 * (1 + 1e-5) + 1e-6).all()


def test_wrong_shapes_and_names_are_refused(values) -> None:
    with pytest.raises(InputError, match="10 dimensions"):
        learn_quantiser(values[:, :5], np.full(10, 2, dtype=np.uint8))
    with pytest.raises(InputError, match="10 dimensions"):
        learn_quantiser(values[:0], np.full(10, 2, dtype=np.uint8))
    with pytest.raises(InputError, match="'lloyd' or 'equal'"):
        learn_quantiser(values, np.full(10, 2, dtype=np.uint8), boundaries="best")

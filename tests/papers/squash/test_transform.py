"""The streamed moments, the KLT and the rotations against plain NumPy, on any kind of array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash import reference, toy
from paperworks.papers.squash.transform import (
    Moments,
    check_finite,
    fit_klt,
    iter_blocks,
    moments,
    random_rotation,
    rounding_slack,
)

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return toy.clustered(np.random.default_rng(0), 700, 12)[0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_dtype_and_a_strided_view_give_the_same_blocks(rows, dtype) -> None:
    wide = np.repeat(rows.astype(dtype), 2, axis=1)[:, ::2]
    blocks = list(iter_blocks(wide, block_rows=256))
    assert [start for start, _ in blocks] == [0, 256, 512]
    assert all(block.dtype == np.float32 and block.flags.c_contiguous for _, block in blocks)
    np.testing.assert_array_equal(np.vstack([block for _, block in blocks]), rows.astype(dtype).astype(np.float32))


def test_a_memory_mapped_file_is_read_in_blocks_and_by_rows(rows, tmp_path) -> None:
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    wanted = np.array([5, 600, 3])
    (_, block) = next(iter_blocks(mapped, rows=wanted))
    np.testing.assert_array_equal(block, rows[wanted])
    np.testing.assert_allclose(
        moments(mapped, block_rows=64).covariance, np.cov(rows.T, bias=True), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_row_with_a_value_that_is_not_finite_is_named(rows, bad) -> None:
    broken = rows.copy()
    broken[[431, 650], 3] = bad
    with pytest.raises(InputError, match="row 431 "):
        list(iter_blocks(broken, block_rows=100))
    with pytest.raises(InputError, match="row 650 "):
        list(iter_blocks(broken, rows=np.array([3, 650])))


def test_large_finite_values_whose_sum_overflows_are_not_called_infinite() -> None:
    check_finite(np.full((2, 4), 3e38, dtype=np.float32))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 1000), st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=40)
def test_moments_do_not_depend_on_how_the_rows_are_cut_or_shared_among_workers(sizes, seed, offset) -> None:
    rng = np.random.default_rng(seed)
    parts = [(rng.standard_normal((size, 5)) + offset + 5 * i).astype(np.float32) for i, size in enumerate(sizes)]
    whole = np.vstack(parts).astype(float)
    streamed = moments(iter(parts))
    merged = Moments.empty(5)
    middle = len(parts) // 2  # two workers with several blocks each: their shifts are not their means
    for shared in (parts[:middle], parts[middle:]):
        if shared:
            merged.merge(moments(iter(shared)))
    # One float32 rounding of each value is what the stream may lose; the offset counts once, not squared.
    tolerance = 64 * EPS * (abs(offset) + 40)
    for found in (streamed, merged):
        assert found.count == len(whole)
        np.testing.assert_allclose(found.mean, whole.mean(axis=0), atol=tolerance)
        np.testing.assert_allclose(found.covariance, np.cov(whole.T, bias=True).reshape(5, 5), atol=40 * tolerance)


def test_klt_decorrelates_with_falling_variance_and_keeps_distances(rows) -> None:
    klt = fit_klt(rows)
    y = klt.apply(rows).astype(float)
    covariance = np.cov(y.T, bias=True)
    np.testing.assert_allclose(np.diag(covariance), klt.variance, rtol=1e-4)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-4 * klt.variance[0]
    assert (np.diff(klt.variance) <= 0).all()
    before = np.linalg.norm(rows[:100, None].astype(float) - rows[None, 100:200], axis=2)
    after = np.linalg.norm(y[:100, None] - y[None, 100:200], axis=2)
    largest = np.linalg.norm(y, axis=1).max()
    assert np.abs(before - after).max() <= rounding_slack(12, largest, largest)


def test_klt_agrees_with_the_reference_up_to_the_sign_of_the_axes(rows) -> None:
    klt = fit_klt(rows)
    mean, basis, variance = reference.karhunen_loeve(rows.astype(float))
    np.testing.assert_allclose(klt.mean, mean, atol=1e-6)
    np.testing.assert_allclose(klt.variance, variance, rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(klt.basis * basis, axis=0)), 1.0, rtol=1e-5)


def test_equal_input_gives_equal_bases_and_a_constant_column_costs_nothing(rows) -> None:
    flat = rows.copy()
    flat[:, 4] = 7.0
    one, two = fit_klt(flat), fit_klt(flat)
    np.testing.assert_array_equal(one.basis, two.basis)
    assert one.variance[-1] < 1e-10
    assert np.isfinite(one.apply(flat)).all()


def test_one_row_and_no_rows() -> None:
    assert fit_klt(np.ones((1, 3), dtype=np.float32)).variance.tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="at least one row"):
        fit_klt(np.empty((0, 3), dtype=np.float32))
    with pytest.raises(InputError, match="shape"):
        fit_klt(np.ones(3, dtype=np.float32))
    with pytest.raises(InputError, match="dimensions"):
        moments(iter([np.ones((2, 3), dtype=np.float32), np.ones((2, 4), dtype=np.float32)]))


@given(st.integers(1, 40), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_a_random_rotation_is_orthogonal_and_seeded(d, seed) -> None:
    turn = random_rotation(d, seed)
    np.testing.assert_allclose(turn.T @ turn, np.eye(d), atol=1e-5)
    np.testing.assert_array_equal(turn, random_rotation(d, seed))

"""Rows are made rising as isotonic regression would, all at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.isotonic import isotonic_regression

from paperworks.errors import InputError
from paperworks.papers.threshold_features import rising_rows

rows = arrays(np.float64, st.tuples(st.integers(0, 5), st.integers(0, 12)), elements=st.floats(0, 1))


@settings(deadline=None)
@given(rows)
def test_rows_are_those_of_isotonic_regression(P: np.ndarray) -> None:
    expected = [isotonic_regression(row) if len(row) else row for row in P]
    # 1e-12: some ten additions of numbers up to 1 round by 1e-16 each
    np.testing.assert_allclose(rising_rows(P), np.array(expected).reshape(P.shape), atol=1e-12)


@settings(deadline=None)
@given(rows, st.sampled_from(["pav", "envelope"]))
def test_rows_rise_stay_in_bounds_and_stay_as_they_are_the_second_time(P: np.ndarray, method: str) -> None:
    before = P.copy()
    once = rising_rows(P, method)  # type: ignore[arg-type]
    assert (np.diff(once, axis=1) >= 0).all()
    if P.size:
        assert once.min() >= P.min()
        assert once.max() <= P.max()
    np.testing.assert_array_equal(rising_rows(once, method), once)  # type: ignore[arg-type]
    np.testing.assert_array_equal(P, before)


@settings(deadline=None)
@given(rows)
def test_pooling_keeps_the_mean_of_each_row_and_is_nearer_than_the_envelope(P: np.ndarray) -> None:
    if not P.size:
        return
    near, far = rising_rows(P), rising_rows(P, "envelope")
    np.testing.assert_allclose(near.mean(axis=1), P.mean(axis=1), atol=1e-12)
    assert (((near - P) ** 2).sum(axis=1) <= ((far - P) ** 2).sum(axis=1) + 1e-12).all()


def test_by_hand() -> None:
    np.testing.assert_allclose(
        rising_rows(np.array([[0.2, 0.9, 0.4, 0.5, 1.0], [0.9, 0.6, 0.3, 0.0, 0.0]])),
        [[0.2, 0.6, 0.6, 0.6, 1.0], [0.36] * 5],
    )


def test_wrong_shapes_and_methods_are_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        rising_rows(np.zeros(3))
    with pytest.raises(InputError, match="'nearest'"):
        rising_rows(np.zeros((1, 3)), "nearest")  # type: ignore[arg-type]

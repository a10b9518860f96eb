"""Thresholds: the paper's rule by hand and against the plain version, and what holds for any y."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paperworks.errors import InputError
from paperworks.papers.threshold_features import choose_thresholds, reference
from paperworks.papers.threshold_features.thresholds import adaptive, equal_frequency, equal_width, midpoints

targets = arrays(np.float64, st.integers(2, 60), elements=st.floats(-1e6, 1e6))
whole = arrays(np.float64, st.integers(2, 60), elements=st.integers(-5, 5).map(float))


def test_the_equal_frequency_rule_by_hand() -> None:
    # n = 10, S = 3: places 2.5, 5, 7.5; down to 2 and 5 in the lower half, up to 8; the values there are as far from the
    # candidate below as from the one above: the first is taken for b = 1 < 2, the last for b = 2 and 3
    assert equal_frequency(np.arange(10.0), 3).tolist() == [1.5, 5.5, 8.5]
    # n = 7, S = 2: places 7/3 -> 2 (b = 1 <= 1.5) and 14/3 -> 5; 4 is nearer to 3 than to 6, and 16 to 12.5 than to 24
    assert equal_frequency(np.array([1.0, 2, 4, 9, 8, 16, 32]), 2).tolist() == [3.0, 12.5]
    # S = 1: place 5 of ten; b = 1 is not below (S + 1) / 2 = 1, so the last of the two candidates
    assert equal_frequency(np.arange(10.0), 1).tolist() == [5.5]


def test_unevenly_spread_values_take_the_nearest_candidate() -> None:
    y = np.array([0.0, 1.0, 1.1, 5.0])
    # S = 1, place 2: the value 1.1; candidates 0.5, 1.05, 3.05
    assert equal_frequency(y, 1).tolist() == [1.05]


@settings(deadline=None)
@given(targets | whole, st.integers(1, 12))
def test_the_rule_is_that_of_the_plain_version(y: np.ndarray, S: int) -> None:
    if len(y) <= S or len(np.unique(y)) < 2:
        return  # the plain version, as the authors', looks one past the end for fewer rows than thresholds
    np.testing.assert_array_equal(equal_frequency(y, S), reference.thresholds(y, S))


@settings(deadline=None)
@given(targets | whole, st.integers(1, 12), st.sampled_from(["equal_freq", "equal_width", "kmeans"]))
def test_each_threshold_separates_some_rows_from_others(y: np.ndarray, S: int, strategy: str) -> None:
    found = choose_thresholds(y, S, strategy, random_state=0)  # type: ignore[arg-type]
    assert len(found) <= min(S, len(np.unique(y)) - 1)
    assert (np.diff(found) > 0).all()
    for t in found:
        assert (y <= t).any()
        assert (y > t).any()


@given(targets, st.permutations(range(8)))
def test_the_order_of_the_rows_does_not_matter(y: np.ndarray, order: list[int]) -> None:
    mixed = np.concatenate([y[8:], y[[i for i in order if i < len(y)]]])
    np.testing.assert_array_equal(equal_frequency(y, 5), equal_frequency(mixed, 5))


def test_two_floats_without_one_between_are_still_separated() -> None:
    low = 1.0
    for _ in range(4):
        high = float(np.nextafter(low, 2))
        (t,) = midpoints(np.array([low, high]))
        assert low <= t < high
        low = high
    (t,) = midpoints(np.array([1e308, 1.7e308]))
    assert 1e308 <= t < 1.7e308


def test_a_target_with_many_zeros_is_cut_between_zero_and_the_next_value() -> None:
    y = np.array([0.0] * 90 + [3.0, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    assert equal_frequency(y, 4).tolist() == [1.5]
    assert choose_thresholds(y, 20)[0] == 1.5


def test_few_distinct_values_give_fewer_thresholds_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    y = np.repeat([3.0, 5.0, 6.0], 20)
    with caplog.at_level(logging.WARNING):
        assert choose_thresholds(y, 32).tolist() == [4.0, 5.5]
    assert "2 thresholds instead of 32" in caplog.text


def test_constant_y_has_no_threshold() -> None:
    for strategy in ("equal_freq", "equal_width", "kmeans"):
        assert len(choose_thresholds(np.full(5, 2.0), 4, strategy)) == 0  # type: ignore[arg-type]


def test_equal_width_cuts_the_range_and_not_the_rows() -> None:
    y = np.concatenate([np.linspace(0, 1, 100), [10.0]])
    assert equal_width(y, 4).tolist() == [5.5]  # the cuts 2, 4, 6, 8 all fall into the gap from 1 to 10
    assert len(equal_frequency(y, 4)) == 4


def test_equal_weights_change_nothing_and_weights_move_thresholds() -> None:
    y = np.arange(40.0)
    np.testing.assert_array_equal(equal_frequency(y, 5, np.full(40, 0.1)), equal_frequency(y, 5))
    heavy = equal_frequency(y, 5, np.where(y < 10, 9.0, 1.0))
    assert (heavy < 10).sum() >= 3
    np.testing.assert_array_equal(heavy, equal_frequency(y, 5, np.where(y < 10, 900.0, 100.0)))


def test_adaptive_puts_more_thresholds_where_y_is_hard() -> None:
    y = np.arange(1000.0)
    found = adaptive(y, np.where(y > 800, 10.0, 1.0), 20)
    assert (found > 800).sum() > 10
    assert (found < 800).sum() > 3
    np.testing.assert_array_equal(adaptive(y, np.zeros(1000), 20), equal_frequency(y, 20))


def test_given_thresholds_are_sorted_and_those_with_one_answer_left_out() -> None:
    y = np.array([1.0, 2.0, 3.0])
    assert choose_thresholds(y, strategy=[2.5, 1.0, 0.0, 3.0, 2.5]).tolist() == [1.0, 2.5]


@pytest.mark.parametrize("bad", [0, -1, 2.5, True])
def test_a_count_below_one_is_refused(bad: object) -> None:
    with pytest.raises(InputError, match="n_thresholds must be a whole number"):
        choose_thresholds(np.arange(5.0), bad)  # type: ignore[arg-type]


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(InputError, match="'deciles'"):
        choose_thresholds(np.arange(5.0), 2, "deciles")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="finite"):
        choose_thresholds(np.arange(5.0), strategy=[1.0, np.nan])

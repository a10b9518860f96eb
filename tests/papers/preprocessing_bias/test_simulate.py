"""The batched simulations against the plain loop with scikit-learn, and against what is known about them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from paperworks.errors import InputError
from paperworks.papers.preprocessing_bias import cv_bias_simulation, model_selection_simulation, reference
from paperworks.papers.preprocessing_bias.kernels import lasso_batch
from paperworks.papers.preprocessing_bias.simulate import _select_and_fit, variance_selection_on


@pytest.mark.parametrize("criterion", ["variance", "sumsq"])
def test_variance_selection_is_that_of_the_plain_loop(criterion) -> None:
    rng = np.random.default_rng(0)
    n, m, k = 12, 7, 4
    X, y = rng.standard_t(4, (6, n + m + n, 9)), rng.standard_normal((6, n + m + n))
    fast = _select_and_fit(X, y, n, m, k, criterion)
    slow = [reference.variance_selection_once(X[b], y[b], n, m, k, criterion) for b in range(6)]
    np.testing.assert_allclose(np.column_stack(fast), slow, rtol=1e-9)


def test_rare_categories_have_the_errors_of_the_plain_loop_on_average() -> None:
    settings_ = {"n_categories": 6, "sigma": 0.5, "min_count": 3}
    fast = cv_bias_simulation("rare_categories", n=9, n_rep=60_000, **settings_)
    rng, n, slow = np.random.default_rng(1), 9, []
    for _ in range(1500):
        mu, index = rng.standard_normal(6), rng.integers(0, 6, 2 * n + 200)
        y = mu[index] + 0.5 * rng.standard_normal(index.size)
        slow.append(reference.rare_categories_once(index[:, None].astype(float), y, n, n, 3))
    # category means default to 0 for the rare; the reference groups them under a text, so it has the same rule
    error = np.std(slow, axis=0, ddof=1) / np.sqrt(len(slow))
    for column, name in enumerate(("naive", "truth", "proper")):
        assert abs(np.mean(slow, axis=0)[column] - getattr(fast, name).mean()) < 4 * error[column]


def test_exact_true_errors_agree_with_drawn_ones() -> None:
    exact = cv_bias_simulation("rare_categories", n=20, n_rep=40_000, seed=3)
    drawn = cv_bias_simulation("rare_categories", n=20, n_rep=40_000, seed=3, fresh=40)
    spread = drawn.truth.std() / np.sqrt(drawn.truth.size)
    assert abs(exact.truth.mean() - drawn.truth.mean()) < 5 * spread


def test_the_compiled_lasso_is_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((4, 15, 8)), rng.standard_normal((4, 15))
    found = lasso_batch(X, y, 0.1, 1e-12, 100_000)
    for b in range(4):
        known = Lasso(alpha=0.1, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(X[b], y[b]).coef_
        np.testing.assert_allclose(found[b], known, atol=1e-7)


def test_values_measured_for_the_papers_settings() -> None:
    """Two cells of sections 5.1 and 5.2 with the interval that 100,000 repetitions gave when the method was studied."""
    low_noise = cv_bias_simulation("rare_categories", n=40, n_rep=60_000, seed=1)
    assert low_noise.bias_pct == pytest.approx(-30.8, abs=1.0)
    lasso = cv_bias_simulation("rescaled_lasso", n=10, n_rep=60_000, seed=1)
    assert lasso.bias_pct == pytest.approx(4.1, abs=0.3 + 2 * lasso.bias_pct_half_width)


@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_the_same_seed_gives_the_same_numbers(n, m, seed) -> None:
    first = cv_bias_simulation("rare_categories", n=n, m=m, n_rep=50, seed=seed)
    again = cv_bias_simulation("rare_categories", n=n, m=m, n_rep=50, seed=seed)
    np.testing.assert_array_equal(first.naive, again.naive)
    assert np.isfinite(first.naive).all()


def test_fewer_rows_than_kept_columns_is_the_least_norm_fit() -> None:
    assert np.isfinite(cv_bias_simulation("variance_selection", n=5, n_rep=20).naive).all()


def test_model_selection_keeps_the_same_data_in_both_ways() -> None:
    one = model_selection_simulation(n=20, d=10, n_rep=3, seed=5)
    two = model_selection_simulation(n=20, d=10, n_rep=3, seed=5)
    np.testing.assert_array_equal(one.naive, two.naive)
    equal = one.proper_alpha == one.naive_alpha
    np.testing.assert_array_equal(one.proper[equal], one.naive[equal])


def test_bad_settings_are_named() -> None:
    with pytest.raises(InputError, match="kind must be one of"):
        cv_bias_simulation("bootstrap", n=5)
    with pytest.raises(InputError, match="no setting colour"):
        cv_bias_simulation("rare_categories", n=5, colour=1)
    with pytest.raises(InputError, match="k must be between"):
        cv_bias_simulation("variance_selection", n=5, k=1000, n_rep=2)
    with pytest.raises(InputError, match="the table has 10"):
        variance_selection_on(np.random.default_rng(0).standard_normal((10, 3)), np.zeros(10), n=9, k=1)
    with pytest.raises(InputError, match="number of folds"):
        model_selection_simulation(n=5)

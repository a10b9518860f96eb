"""The audit finds leaks and bias where they are known to be, and none where there can be none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, OneHotEncoder, StandardScaler

from paperworks.errors import InputError
from paperworks.papers.preprocessing_bias import (
    CategoryMeanRegressor,
    RareCategoryGrouper,
    TopKVariance,
    assert_no_cv_bias,
    preprocessing_bias,
    toy,
)

FEW = {"n_repeats": 4, "n_splits": 6}


def test_a_selector_that_looks_at_y_is_a_leak_and_its_proper_score_is_chance() -> None:
    X, y = toy.pure_noise(np.random.default_rng(0))
    report = preprocessing_bias(
        make_pipeline(StandardScaler(), SelectKBest(k=5), LogisticRegression()), X, y, outside="all", **FEW
    )
    assert report.verdict_ == "leak"
    assert report.leaking_ == ("selectkbest",)
    assert report.naive_ > 0.65
    assert abs(report.proper_ - 0.5) < 0.12
    shares = {share.step: share for share in report.steps_}
    assert shares["selectkbest"].shapley > 5 * abs(shares["standardscaler"].shapley)
    with pytest.raises(AssertionError, match="Leak: selectkbest"):
        report.raise_if(10.0)


def test_steps_that_look_at_y_stay_inside_by_default() -> None:
    X, y = toy.pure_noise(np.random.default_rng(0))
    report = preprocessing_bias(make_pipeline(StandardScaler(), SelectKBest(k=5), LogisticRegression()), X, y, **FEW)
    assert report.outside_ == ("standardscaler",)
    assert report.supervised_ == ("selectkbest",)
    assert report.verdict_ != "leak"


def test_the_proper_score_is_scikit_learns() -> None:
    X, y = toy.heavy_columns(np.random.default_rng(1), n=40, d=12)
    model = make_pipeline(StandardScaler(), TopKVariance(6), Ridge())
    cv = GroupKFold(4)
    groups = np.arange(40) // 4
    report = preprocessing_bias(model, X, y, cv=cv, groups=groups, n_splits=3)
    assert report.proper_ == pytest.approx(cross_val_score(model, X, y, cv=cv, groups=groups).mean(), rel=1e-9)


def test_a_step_that_learns_nothing_has_exactly_no_gap() -> None:
    X, y = toy.heavy_columns(np.random.default_rng(2), n=40, d=6)
    report = preprocessing_bias(make_pipeline(FunctionTransformer(), Ridge()), X, y, **FEW)
    assert report.gap_ == 0
    assert report.p_value_ == 1
    assert report.verdict_ == "negligible" or report.bias_ci_[0] > 0 or report.bias_ci_[1] < 0


def test_variance_selection_is_pessimistic_as_in_section_4_1() -> None:
    """Naive error above the true one; heavy tails at n = 2 x 20 make it large enough to be seen in few splits."""
    biases = []
    for seed in range(12):
        X, y = toy.heavy_columns(np.random.default_rng(seed), n=54)
        report = preprocessing_bias(
            make_pipeline(TopKVariance(10), LinearRegression(fit_intercept=False)),
            X,
            y,
            cv=2,
            scoring="neg_mean_squared_error",
            n_repeats=1,
            n_splits=8,
        )
        biases.append(report.bias_)
    assert np.mean(biases) < 0


@pytest.mark.parametrize("kind", ["frame", "sparse", "texts"])
def test_other_kinds_of_tables(kind) -> None:
    rng = np.random.default_rng(3)
    if kind == "texts":
        X, y = toy.categories(rng)
        model = make_pipeline(RareCategoryGrouper(4), CategoryMeanRegressor())
    elif kind == "frame":
        X, y = toy.categories(rng)
        X = pd.DataFrame({"a": X[:, 0]})
        model = make_pipeline(OneHotEncoder(min_frequency=4, handle_unknown="infrequent_if_exist"), Ridge())
    else:
        X, y = toy.heavy_columns(rng, n=60, d=10)
        X, model = sparse.csr_matrix(X), make_pipeline(MaxAbsScaler(), TopKVariance(5), Ridge())
    report = preprocessing_bias(model, X, y, cv=3, **FEW)
    assert np.isfinite([report.naive_, report.proper_, report.bias_]).all()
    assert report.sentence_


def test_results_do_not_depend_on_n_jobs() -> None:
    X, y = toy.heavy_columns(np.random.default_rng(4), n=40, d=10)
    model = make_pipeline(PCA(3), Ridge())
    one, two = (preprocessing_bias(model, X, y, n_jobs=jobs, **FEW) for jobs in (1, 2))
    np.testing.assert_array_equal(one.gaps_, two.gaps_)
    np.testing.assert_array_equal(one.biases_, two.biases_)


def test_time_series_are_held_out_at_the_end_and_said_so() -> None:
    X, y = toy.heavy_columns(np.random.default_rng(5), n=60, d=5)
    report = preprocessing_bias(make_pipeline(StandardScaler(), Ridge()), X, y, cv=TimeSeriesSplit(3))
    assert report.time_series_
    assert "seen the future" in report.sentence_
    assert report.n_repeats_ == 1


def test_folds_in_which_a_step_cannot_be_fitted_are_named_not_averaged() -> None:
    X, y = toy.heavy_columns(np.random.default_rng(6), n=12, d=20)
    with pytest.raises(InputError, match="could not be fitted"):
        preprocessing_bias(make_pipeline(PCA(11), Ridge()), X, y, cv=4, **FEW)


def test_no_steps_no_bias_and_bad_input_says_what_to_do() -> None:
    X, y = toy.heavy_columns(np.random.default_rng(7), n=30, d=5)
    report = preprocessing_bias(make_pipeline(Ridge()), X, y, **FEW)
    assert report.gap_ == 0
    assert "No step" in report.sentence_
    with pytest.raises(TypeError, match="does not predict"):
        preprocessing_bias(make_pipeline(StandardScaler(), PCA(2)), X, y)
    with pytest.raises(TypeError, match="Pipeline"):
        preprocessing_bias(Ridge(), X, y)
    with pytest.raises(InputError, match="the steps before the estimator are: standardscaler"):
        preprocessing_bias(make_pipeline(StandardScaler(), Ridge()), X, y, outside=["pca"])
    with pytest.raises(InputError, match="as many"):
        preprocessing_bias(make_pipeline(StandardScaler(), Ridge()), X, y[:-1])
    with pytest.raises(ValueError, match="n_splits"):
        preprocessing_bias(make_pipeline(StandardScaler(), Ridge()), X, y, cv=50)


def test_extrapolation_report_and_assertion() -> None:
    X, y = toy.heavy_columns(np.random.default_rng(8), n=80, d=5)
    model = make_pipeline(StandardScaler(), Ridge())
    report = preprocessing_bias(model, X, y, extrapolate=True, **FEW)
    a, c = report.extrapolation_
    assert report.at(1000) == pytest.approx(a + c / 1000)
    assert report.corrected() == report.naive_ - report.bias_
    assert report.plot().startswith("<svg")
    assert list(report.to_frame().index[:2]) == ["naive", "proper"]
    assert "| gap |" in report.to_markdown()
    assert_no_cv_bias(model, X, y, tol=10.0, **FEW)


def test_early_stop_takes_fewer_repeats() -> None:
    X, y = toy.heavy_columns(np.random.default_rng(9), n=60, d=4)
    report = preprocessing_bias(
        make_pipeline(StandardScaler(), LinearRegression()), X, y, tol=1e6, n_repeats=20, n_splits=3
    )
    assert report.n_repeats_ == 4

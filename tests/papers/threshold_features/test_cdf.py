"""The conditional distribution: arithmetic against numerical integration, intervals that cover, and the authors' mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paperworks.errors import InputError
from paperworks.papers.threshold_features import ConditionalCDFRegressor, distribution, reference, toy

KNOTS = np.array([0.0, 1.0, 3.0, 4.0])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.floats(-1, 5))
def test_crps_is_the_integral(inner: list[float], y: float) -> None:
    F = np.array([[0.0, *sorted(inner), 1.0]])
    grid = np.linspace(-2, 6, 80_001)
    values = np.interp(grid, KNOTS, F[0])
    expected = float(np.sum((values - (grid >= y)) ** 2) * 1e-4)
    # the grid errs by half a step, 5e-5, at each of a few jumps
    assert distribution.crps(F, KNOTS, np.array([y]))[0] == pytest.approx(expected, abs=4e-4)


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1), min_size=3, max_size=3), st.floats(0, 1))
def test_quantiles_undo_the_distribution(masses: list[float], q: float) -> None:
    F = np.concatenate([[0], np.cumsum(masses) / np.sum(masses)])[None, :]
    value = distribution.quantiles(F, KNOTS, np.array([[q]]))[0]
    assert distribution.at(F, KNOTS, value)[0] == pytest.approx(q, abs=1e-9)


def test_quantiles_rise_with_the_level_and_stay_in_range() -> None:
    X, y = toy.growing_noise(300)
    model = ConditionalCDFRegressor(16, random_state=0).fit(X, y)
    values = model.predict_quantiles(X, np.linspace(0, 1, 21))
    assert (np.diff(values, axis=1) >= 0).all()
    assert values.min() >= y.min()
    assert values.max() <= y.max()
    np.testing.assert_array_equal(model.predict_cdf(X), model.predict_cdf(X, at=model.thresholds_))
    assert model.predict_cdf(X[:2], at=[y.min() - 1, y.max()]).tolist() == [[0, 1], [0, 1]]


def test_without_tails_and_with_midpoints_it_is_the_authors_mean() -> None:
    X, y = toy.steps(200)
    model = ConditionalCDFRegressor(9, values="midpoint", tails=False, random_state=0).fit(X, y)
    P = model.features_.predict_cdf(X)
    np.testing.assert_allclose(model.predict(X), reference.cdf_mean(P, model.thresholds_), atol=1e-12)
    whole = ConditionalCDFRegressor(9, random_state=0).fit(X, y)
    assert abs(whole.predict(X).mean() - y.mean()) < 0.3 * abs(model.predict(X).mean() - y.mean())


def test_mean_median_and_mode() -> None:
    X, y = toy.many_zeros(400)
    fitted = {
        point: ConditionalCDFRegressor(12, point=point, random_state=0).fit(X, y)
        for point in ("mean", "median", "mode")
    }  # type: ignore[arg-type]
    high = np.array([[0.9, 0.9]])
    assert fitted["median"].predict(high)[0] == fitted["mean"].predict_quantiles(high, 0.5)[0, 0]
    assert fitted["mode"].predict([[-0.9, 0.0]])[0] == 0.0
    for model in fitted.values():
        assert model.score(X, y) > 0.5


@pytest.mark.parametrize("conformal", ["out_of_fold", "split"])
def test_intervals_cover_about_what_they_promise(conformal: str) -> None:
    (X, y), (X_new, y_new) = toy.growing_noise(800, seed=1), toy.growing_noise(2000, seed=2)
    model = ConditionalCDFRegressor(32, conformal=conformal, min_samples_leaf=10, random_state=0).fit(X, y)  # type: ignore[arg-type]
    for coverage in (0.5, 0.9):
        ends = model.predict_interval(X_new, coverage)
        assert (ends[:, 0] <= ends[:, 1]).all()
        covered = np.mean((ends[:, 0] <= y_new) & (y_new <= ends[:, 1]))
        # the share that a split of m scores covers has a standard deviation of sqrt(c (1 - c) / (m + 2)); m is 200 at least
        slack = 3 * np.sqrt(coverage * (1 - coverage) / 202)
        assert coverage - slack < covered < coverage + slack + 0.05
    width = np.diff(model.predict_interval(np.array([[0.2], [3.8]])), axis=1).ravel()
    assert width[1] > 3 * width[0]  # noise at 3.8 is seven times that at 0.2


def test_a_wrong_distribution_is_corrected() -> None:
    (X, y), (X_new, y_new) = toy.growing_noise(800, seed=1), toy.growing_noise(2000, seed=2)
    covered = {}
    for conformal in (None, "split"):
        model = ConditionalCDFRegressor(32, probabilities="insample", conformal=conformal, random_state=0).fit(X, y)  # type: ignore[arg-type]
        ends = model.predict_interval(X_new, 0.8)
        covered[conformal] = np.mean((ends[:, 0] <= y_new) & (y_new <= ends[:, 1]))
    assert abs(covered["split"] - 0.8) < 3 * np.sqrt(0.16 / 202)


def test_crps_prefers_the_model_that_knows_more() -> None:
    (X, y), (X_new, y_new) = toy.growing_noise(600, seed=1), toy.growing_noise(600, seed=2)
    knows = ConditionalCDFRegressor(32, random_state=0).fit(X, y).crps(X_new, y_new)
    blind = ConditionalCDFRegressor(32, random_state=0).fit(np.zeros_like(X), y).crps(np.zeros_like(X_new), y_new)
    assert knows.shape == (600,)
    assert stats.ttest_rel(knows, blind).pvalue < 1e-6
    assert knows.mean() < blind.mean()


def test_constant_y_is_predicted() -> None:
    with pytest.warns(UserWarning, match="no threshold"):
        model = ConditionalCDFRegressor().fit(np.arange(9.0).reshape(-1, 1), np.full(9, 3.0))
    assert model.predict([[1.0]]).tolist() == [3.0]
    assert model.predict_interval([[1.0]]).tolist() == [[3.0, 3.0]]
    assert model.crps([[1.0]], [3.0]).tolist() == [0.0]


def test_frames_keep_their_names_and_bad_levels_are_refused() -> None:
    pd = pytest.importorskip("pandas")
    X, y = toy.steps(60)
    frame = pd.DataFrame(X, columns=list("abcd"))
    for conformal in ("out_of_fold", "split"):
        model = ConditionalCDFRegressor(4, conformal=conformal, random_state=0).fit(frame, y)  # type: ignore[arg-type]
        assert list(model.feature_names_in_) == list("abcd")
        model.predict(frame)
    with pytest.raises(InputError, match="between 0 and 1"):
        model.predict_quantiles(frame, [0.5, 1.5])
    with pytest.raises(InputError, match="coverage"):
        model.predict_interval(frame, 90)
    with pytest.raises(InputError, match="60 rows and y 3"):
        model.crps(frame, y[:3])
    with pytest.raises(InputError, match="point"):
        ConditionalCDFRegressor(point="best").fit(X, y)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 8"):
        ConditionalCDFRegressor(conformal="split").fit(X[:5], y[:5])

"""The enriched regressor gives predictions in the user's unit, and passes on what it should."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from paperworks.errors import InputError
from paperworks.papers.threshold_features import MinMaxBoxCox, ThresholdEnrichedRegressor, ThresholdFeatures, toy


def test_it_is_the_pipeline_of_its_parts() -> None:
    (X, y), (X_new, _) = toy.steps(150, seed=1), toy.steps(50, seed=2)
    features = ThresholdFeatures(8, random_state=0)
    ours = ThresholdEnrichedRegressor(Ridge(), features, target_transform=None).fit(X, y).predict(X_new)
    np.testing.assert_allclose(ours, make_pipeline(clone(features), Ridge()).fit(X, y).predict(X_new))
    transformed = ThresholdEnrichedRegressor(Ridge(), features).fit(X, y)
    inner = TransformedTargetRegressor(Ridge(), transformer=MinMaxBoxCox())
    expected = inner.fit(clone(features).fit_transform(X, y), y).predict(transformed.features_.transform(X_new))
    np.testing.assert_allclose(transformed.predict(X_new), expected)


@pytest.mark.parametrize(
    "regressor",
    [LinearRegression(), DecisionTreeRegressor(max_depth=5, random_state=0), make_pipeline(StandardScaler(), Ridge())],
    ids=lambda r: type(r).__name__,
)
def test_weak_regressors_gain(regressor: object) -> None:
    (X, y), (X_new, y_new) = toy.steps(500, seed=1), toy.steps(500, seed=2)
    native = clone(regressor).fit(X, y).score(X_new, y_new)  # type: ignore[attr-defined]
    model = ThresholdEnrichedRegressor(regressor, random_state=0).fit(X, y, sample_weight=np.ones(500))
    assert model.score(X_new, y_new) > native + 0.03


def test_box_cox_is_scikit_learns_on_the_scaled_target_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    Y = np.column_stack([rng.exponential(3, 200), rng.normal(-5, 1, 200)])
    ours = MinMaxBoxCox().fit(Y)
    theirs = make_pipeline(MinMaxScaler((1, 2)), PowerTransformer(method="box-cox"))
    np.testing.assert_allclose(
        ours.transform(Y), theirs.fit_transform(Y), atol=1e-6
    )  # both search the exponent numerically
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(Y)), Y, atol=1e-9)


def test_targets_outside_of_the_training_range_are_clipped_and_predictions_stay_finite(
    caplog: pytest.LogCaptureFixture,
) -> None:
    y = np.linspace(10, 20, 50).reshape(-1, 1) ** 2
    target = MinMaxBoxCox().fit(y)
    width = y.max() - y.min()
    assert np.isfinite(target.transform([[y.min() - 5 * width], [y.max() + 5 * width]])).all()
    assert "clipped" in caplog.text
    back = target.inverse_transform([[-1e9], [1e9], [np.inf]])
    assert back.ravel() == pytest.approx([y.min() - 0.999 * width, y.max() + width, y.max() + width])
    assert MinMaxBoxCox().fit_transform(np.full((4, 1), 7.0)).ravel().tolist() == [0.0] * 4


def test_constant_y_is_predicted_in_its_unit() -> None:
    with pytest.warns(UserWarning, match="no threshold"):
        model = ThresholdEnrichedRegressor().fit(np.arange(9.0).reshape(-1, 1), np.full(9, 3.0))
    assert model.predict([[2.0]]) == pytest.approx([3.0])


def test_quantiles_and_distribution_come_along() -> None:
    X, y = toy.growing_noise(300)
    model = ThresholdEnrichedRegressor(random_state=0).fit(X, y)
    assert model.predict_quantile(X, 0.5).shape == (300,)
    three = model.predict_quantile(X, [0.1, 0.5, 0.9])
    assert (np.diff(three, axis=1) >= 0).all()
    assert model.predict_cdf(X).shape == (300, 32)
    assert model.predict_cdf(X, at=[y.max()]).tolist() == [[1.0]] * 300


def test_a_saved_model_predicts_the_same_bits() -> None:
    X, y = toy.steps(80)
    model = ThresholdEnrichedRegressor(random_state=0).fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    np.testing.assert_array_equal(clone(model).fit(X, y).predict(X), model.predict(X))


def test_weights_reach_the_regressor() -> None:
    X, y = toy.straight(100)
    weight = np.where(X[:, 0] > 0, 100.0, 1.0)
    y = np.where(X[:, 0] > 0, 5.0, 0.0) + 0.01 * y
    flat = np.zeros((100, 1))
    features = ThresholdFeatures(1, passthrough=False, random_state=0)
    heavy = (
        ThresholdEnrichedRegressor(Ridge(1e9), features, target_transform=None)
        .fit(flat, y, sample_weight=weight)
        .predict(flat[:1])
    )
    assert heavy[0] == pytest.approx(np.average(y, weights=weight), abs=0.01)


def test_metadata_is_routed_as_asked() -> None:
    X, y = toy.steps(100)
    weight = np.linspace(0.1, 3, 100)
    plain = ThresholdEnrichedRegressor(Ridge(), ThresholdFeatures(4), random_state=0).fit(X, y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        features = ThresholdFeatures(4).set_fit_request(sample_weight=True)
        model = ThresholdEnrichedRegressor(Ridge().set_fit_request(sample_weight=True), features, random_state=0)
        np.testing.assert_array_equal(model.fit(X, y, sample_weight=weight).predict(X), plain.predict(X))
        kept = ThresholdEnrichedRegressor(Ridge().set_fit_request(sample_weight=False), features, random_state=0)
        assert (kept.fit(X, y, sample_weight=weight).predict(X) != plain.predict(X)).any()
        pipeline = make_pipeline(
            ThresholdFeatures(4, random_state=0).set_fit_request(sample_weight=True),
            Ridge().set_fit_request(sample_weight=True),
        )
        pipeline.fit(X, y, sample_weight=weight)


def test_wrong_parts_are_named() -> None:
    X, y = toy.steps(30)
    for bad, message in (
        ({"regressor": LinearRegression}, "regressor must be"),
        ({"features": StandardScaler()}, "features must be a ThresholdFeatures, got StandardScaler"),
        ({"target_transform": "log"}, "'box-cox', None or a transformer, got 'log'"),
        ({"target_transform": object()}, "inverse_transform"),
    ):
        with pytest.raises(InputError, match=message):
            ThresholdEnrichedRegressor(**bad).fit(X, y)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="enable_metadata_routing"):
        ThresholdEnrichedRegressor().fit(X, y, groups=y)

"""The regressors as scikit-learn knows them, and their behaviour on bad and odd input."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from paperworks.errors import InputError
from paperworks.papers.robustness_law import NTKRegressor, RandomFeatures, custom, parity_index, toy
from paperworks.papers.robustness_law.activations import ACTIVATIONS, activation, check_derivatives

BOTH = pytest.mark.parametrize("model", [RandomFeatures, NTKRegressor])


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([RandomFeatures(100), NTKRegressor(20)])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@BOTH
def test_more_parameters_than_rows_interpolate(model: Any) -> None:
    X, y, _ = toy.gaussian(np.random.default_rng(0), n=30, d=12)
    fitted = model(400, "tanh").fit(X, y)
    np.testing.assert_allclose(fitted.predict(X), y, atol=1e-6)
    assert fitted.interpolates_


@BOTH
def test_fewer_parameters_say_so(model: Any) -> None:
    X, y, _ = toy.gaussian(np.random.default_rng(0), n=30, d=3)
    with pytest.warns(UserWarning, match="kernel has rank"):
        fitted = model(3, "tanh").fit(X, y)
    assert not fitted.interpolates_
    residual = np.linalg.norm(fitted.predict(X) - y) / np.linalg.norm(y)
    assert fitted.train_residual_ == pytest.approx(residual, rel=1e-6)


@BOTH
def test_equal_rows_with_different_targets_are_averaged(model: Any) -> None:
    X, y, _ = toy.gaussian(np.random.default_rng(0), n=10, d=12)
    X, y = np.concatenate([X, X[:1]]), np.append(y, y[0] + 2.0)
    with pytest.warns(UserWarning, match="cannot be interpolated"):
        fitted = model(500, "tanh").fit(X, y)
    assert fitted.predict(X[:1])[0] == pytest.approx(y[0] + 1.0, abs=1e-6)
    assert not fitted.interpolates_


@BOTH
def test_one_row_one_column_one_unit(model: Any) -> None:
    fitted = model(1, "softplus").fit(np.array([[2.0]]), [3.0])
    assert fitted.predict([[2.0]])[0] == pytest.approx(3.0)
    assert np.isfinite(fitted.sensitivity([[0.5]])).all()


@BOTH
@pytest.mark.parametrize("width", [30, np.inf])
def test_rows_of_zeros_divide_by_nothing(model: Any, width: float) -> None:
    X, y, _ = toy.gaussian(np.random.default_rng(0), n=10, d=6)
    for normalize in (None, "sphere"):
        fitted = model(width, "tanh", normalize=normalize).fit(X, y)
        assert fitted.sensitivity(np.zeros((1, 6)), "norm")[0] == 0.0
        assert np.isfinite(fitted.input_gradient(np.zeros((1, 6)))).all()


def test_constant_targets_of_zero_have_no_sensitivity() -> None:
    X, _, Z = toy.gaussian(np.random.default_rng(0), n=10, d=6)
    assert (RandomFeatures(50).fit(X, np.zeros(10)).sensitivity(Z) == 0).all()


@BOTH
@pytest.mark.parametrize("width", [60, np.inf])
def test_outputs_side_by_side_are_those_alone(model: Any, width: float) -> None:
    X, y, Z = toy.gaussian(np.random.default_rng(0), n=12, d=8, m=3)
    both = model(width, "tanh").fit(X, np.stack([y, y[::-1]], axis=1))
    alone = [model(width, "tanh").fit(X, t) for t in (y, y[::-1])]
    np.testing.assert_allclose(both.predict(Z), np.stack([m.predict(Z) for m in alone], axis=1), rtol=1e-6)
    S = both.sensitivity(Z)
    np.testing.assert_allclose(S, np.stack([m.sensitivity(Z) for m in alone], axis=1), rtol=1e-6)
    operator = both.sensitivity(Z, outputs="operator")
    assert (operator >= S.max(axis=1) * (1 - 1e-12)).all()
    assert (operator <= np.linalg.norm(S, axis=1) * (1 + 1e-12)).all()


@BOTH
def test_single_precision_stays_and_agrees(model: Any) -> None:
    X, y, Z = toy.gaussian(np.random.default_rng(0), n=20, d=30, m=4)
    small = model(300, "tanh").fit(X.astype(np.float32), y)
    assert small.input_gradient(Z).dtype == np.float32
    # the weights are drawn in single precision, so they are others: the law, not the draw, is the same
    assert np.median(small.sensitivity(Z)) == pytest.approx(
        np.median(model(300, "tanh").fit(X, y).sensitivity(Z)), rel=0.3
    )
    np.testing.assert_allclose(small.predict(X.astype(np.float32)), y, atol=2e-2)


def test_large_inputs_do_not_overflow() -> None:
    x = np.array([-1e4, 1e4], dtype=np.float32)
    for act in ACTIVATIONS.values():
        for function in (act.value, act.first, act.second):
            with np.errstate(over="raise", invalid="raise"):
                found = function(x)
            assert np.isfinite(found).all()
            assert found.dtype == np.float32, act.name


def test_same_seed_same_model_other_seed_another() -> None:
    X, y, Z = toy.gaussian(np.random.default_rng(0), n=10, d=8)
    one, again, other = (RandomFeatures(50, random_state=s).fit(X, y).sensitivity(Z) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    model = RandomFeatures(50, "gelu").fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).sensitivity(Z), model.sensitivity(Z))


def test_it_stands_in_pipelines() -> None:
    X, y, _ = toy.gaussian(np.random.default_rng(0), n=40, d=5)
    target = X[:, 0] + 0.1 * y
    scores = cross_val_score(make_pipeline(StandardScaler(), RandomFeatures(300, reg=1.0)), X, target, cv=3)
    assert scores.mean() > 0.5
    assert clone(NTKRegressor(7, "cos")).get_params()["width"] == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width"),
        ({"width": 2.5}, "width"),
        ({"reg": -1.0}, "reg"),
        ({"normalize": "cube"}, "normalize"),
        ({"activation": "sinus"}, "unknown activation"),
        ({"activation": 3}, "an activation is"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandomFeatures(**settings).fit(np.eye(3), np.arange(3.0))


def test_bad_data_and_scales_are_refused() -> None:
    X = np.eye(4)
    with pytest.raises(ValueError, match="NaN"):
        RandomFeatures(5).fit(np.where(X == 1, np.nan, X), np.arange(4.0))
    model = RandomFeatures(50).fit(X, np.arange(4.0))
    with pytest.raises(InputError, match="scale"):
        model.sensitivity(X, "other")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="outputs"):
        model.sensitivity(X, outputs="some")  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="norms go from"):
        RandomFeatures(50).fit(X * np.array([[1.0], [1], [1], [100]]), np.arange(4.0))


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_derivatives_are_those_of_the_function(name: str) -> None:
    check_derivatives(ACTIVATIONS[name])


def test_wrong_derivatives_are_caught() -> None:
    with pytest.raises(InputError, match="second derivative"):
        custom("published", np.tanh, lambda x: 1 / np.cosh(x) ** 2, lambda x: -2 * np.tanh(x) * (1 - np.tanh(x)))
    with pytest.raises(InputError, match="shape"):
        custom("sum", lambda x: x.sum(), lambda x: x, lambda x: x)


def test_functions_get_their_derivatives_from_torch() -> None:
    torch = pytest.importorskip("torch")
    act = activation(lambda x: torch.sin(x) * x)
    check_derivatives(act)
    with pytest.raises(InputError, match="custom"):
        activation(lambda x: np.sin(x).tolist())
    X, y, Z = toy.gaussian(np.random.default_rng(0), n=10, d=6)
    one, two = (RandomFeatures(40, a).fit(X, y).sensitivity(Z) for a in (torch.tanh, "tanh"))
    np.testing.assert_allclose(one, two, rtol=1e-6)
    pickle.loads(pickle.dumps(RandomFeatures(40, torch.tanh).fit(X, y)))


def test_parity_of_sums_lies_between() -> None:
    mixed = custom("mixed", lambda x: x + x * x, lambda x: 1 + 2 * x, lambda x: 2 + 0 * x)
    assert parity_index(mixed) == pytest.approx(3 / 4)  # E[x^4] = 3 beside E[x^2] = 1
    assert parity_index("gelu") == pytest.approx(1 - 0.25 / 0.4252, abs=0.01)  # odd part x / 2
    assert parity_index("softplus", scale=1e-3) == pytest.approx(1, abs=1e-5)  # nearly the constant log 2
    with pytest.raises(InputError, match="scale"):
        parity_index("tanh", scale=0)

"""Sensitivities against the paper's formula with explicit features, the authors' numbers, and closed forms by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.robustness_law import NTKRegressor, RandomFeatures, interaction, models, reference, toy
from paperworks.papers.robustness_law.activations import ACTIVATIONS
from paperworks.papers.robustness_law.decomposition import interaction_matrix
from paperworks.papers.robustness_law.infinite import CLOSED, dual, hermite_dual, kernel
from paperworks.papers.robustness_law.kernels import Weights
from paperworks.papers.robustness_law.solve import solve_gram

MODELS: dict[str, Any] = {"rf": RandomFeatures, "ntk": NTKRegressor}

# S of one test point by the authors' cell, simone-bombari/beyond-universal-robustness a9d8d97, main.py and utils.py, on `sines(...)` below:
# (features, n, d, k, activation, S). tanh holds their second derivative, -2 tanh (1 - tanh).
AUTHORS = [
    ("rf", 10, 12, 40, "tanh", 10.8014554787),
    ("rf", 10, 12, 40, "square", 5.20695560436),
    ("rf", 10, 12, 40, "cos", 4.05700112203),
    ("rf", 10, 12, 40, "softplus", 5.33778750548),
    ("ntk", 10, 12, 5, "tanh", 11.2639113688),
    ("ntk", 10, 12, 5, "square", 5.26997176706),
    ("ntk", 10, 12, 5, "cos", 2.89232614663),
    ("ntk", 10, 12, 5, "softplus", 5.51024546198),
    ("ntk", 10, 3, 2, "tanh", 6.57275559138),  # fewer parameters than points
    ("ntk", 10, 3, 2, "square", 3.99380400498),
    ("ntk", 10, 3, 2, "cos", 1.32653320357),
    ("ntk", 10, 3, 2, "softplus", 2.84250390517),
    ("rf", 12, 6, 8, "tanh", 2.90653682697),
    ("rf", 12, 6, 8, "square", 10.8687011904),
    ("rf", 12, 6, 8, "cos", 7.45384653462),
    ("rf", 12, 6, 8, "softplus", 0.932887543786),
]


def sines(n: int, d: int, k: int) -> tuple[np.ndarray, ...]:
    def table(rows: int, columns: int, speed: float) -> np.ndarray:
        i, j = np.arange(1, rows + 1)[:, None], np.arange(1, columns + 1)[None, :]
        return np.sqrt(2) * np.sin(speed * i * (j + 0.5) ** 1.5)

    y = np.sqrt(2) * np.cos(2.3 * np.arange(1, n + 1) ** 1.5)
    return table(n, d, 1.1), y, table(1, d, 0.7), table(d, k, 1.7) / np.sqrt(d)


def use_weights(monkeypatch: pytest.MonkeyPatch, W: np.ndarray) -> None:
    class Given(Weights):
        def chunks(self, progress: Any = None) -> Any:
            for start in range(0, W.shape[1], 3):
                yield slice(start, min(start + 3, W.shape[1])), W[:, start : start + 3]

    monkeypatch.setattr(models, "Weights", Given)


@pytest.mark.filterwarnings("ignore:the targets cannot be interpolated")
@pytest.mark.parametrize(("kind", "n", "d", "k", "name", "expected"), AUTHORS)
def test_sensitivity_is_that_of_the_authors_code(
    monkeypatch: pytest.MonkeyPatch, kind: str, n: int, d: int, k: int, name: str, expected: float
) -> None:
    X, y, Z, W = sines(n, d, k)
    use_weights(monkeypatch, W)
    act = ACTIVATIONS[name]
    if name == "tanh":
        act = replace(act, name="published", second=lambda x: -2 * np.tanh(x) * (1 - np.tanh(x)))
    model = MODELS[kind](k, act).fit(X, y)
    assert model.sensitivity(Z)[0] == pytest.approx(expected, rel=1e-9)
    assert model.interpolates_ == (model.n_parameters_ >= n)


def test_published_second_derivative_of_tanh_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, Z, W = sines(10, 12, 5)
    use_weights(monkeypatch, W)
    assert abs(NTKRegressor(5, "tanh").fit(X, y).sensitivity(Z)[0] / 11.2639113688 - 1) > 1e-3


@pytest.mark.parametrize("kind", ["rf", "ntk"])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_gradient_equals_the_one_with_explicit_features(kind: Any, name: str) -> None:
    X, y, Z = toy.gaussian(np.random.default_rng(1), n=15, d=9, m=2)
    model = MODELS[kind](40 if kind == "rf" else 7, name, random_state=3).fit(X, y)
    W = np.concatenate([part for _, part in model._weights.chunks()], axis=1)
    for z, found in zip(Z, model.input_gradient(Z), strict=True):
        np.testing.assert_allclose(found, reference.gradient(kind, X, y, z, W, ACTIVATIONS[name]), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("normalize", [None, "sphere"])
@pytest.mark.parametrize("width", [50, np.inf])
@pytest.mark.parametrize("kind", ["rf", "ntk"])
@pytest.mark.parametrize("name", ["tanh", "square", "relu", "erf", "cos", "gelu", "softplus"])
def test_gradient_is_that_of_the_prediction(kind: str, width: float, normalize: Any, name: str) -> None:
    X, y, Z = toy.gaussian(np.random.default_rng(2), n=12, d=8, m=2)
    model = MODELS[kind](width, name, normalize=normalize).fit(X, y)
    step = 1e-6
    for z, found in zip(Z, model.input_gradient(Z), strict=True):
        shifts = step * np.eye(8)
        measured = (model.predict(z + shifts) - model.predict(z - shifts)) / (2 * step)
        np.testing.assert_allclose(found, measured, rtol=1e-4, atol=1e-5 * np.abs(measured).max())


@pytest.mark.parametrize("chunk", [1, 1024, 3000, 100_000])
def test_the_chunk_changes_nothing_but_rounding(chunk: int) -> None:
    X, y, Z = toy.gaussian(np.random.default_rng(0), n=20, d=10, m=2)
    expected = RandomFeatures(5000, "tanh").fit(X, y).sensitivity(Z)
    np.testing.assert_allclose(RandomFeatures(5000, "tanh", chunk=chunk).fit(X, y).sensitivity(Z), expected, rtol=1e-7)


def test_narrow_weights_are_the_first_of_wider_ones_and_are_standard() -> None:
    (_, narrow), (_, wide) = next(Weights(50, 700, 4).chunks()), next(Weights(50, 2048, 4).chunks())
    np.testing.assert_array_equal(narrow, wide[:, :700])
    assert wide.std() * np.sqrt(50) == pytest.approx(1, abs=4 / np.sqrt(2 * wide.size))
    assert abs(np.corrcoef(wide[:, :1024].ravel(), wide[:, 1024:].ravel())[0, 1]) < 4 / np.sqrt(51200)


@pytest.mark.parametrize("name", ["square", "cos", "erf"])
@pytest.mark.parametrize("kind", ["rf", "ntk"])
@given(st.floats(0.3, 2.0), st.floats(0.3, 2.0), st.floats(-0.9, 0.9))
@settings(deadline=None, max_examples=15)
def test_series_agrees_with_closed_forms(kind: Any, name: str, q: float, r: float, rho: float) -> None:
    act = ACTIVATIONS[name]
    args = np.array([q]), np.array([r]), np.array([[rho * np.sqrt(q * r)]])
    function = act.value if kind == "rf" else act.first
    assert (kind, name) in CLOSED
    for closed, series in zip(dual(kind, act, *args), hermite_dual(function, *args, n_terms=90), strict=True):
        np.testing.assert_allclose(series, closed, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", ["rf", "ntk"])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_dual_is_the_gaussian_mean(kind: Any, name: str) -> None:
    act = ACTIVATIONS[name]
    q, r, c = 1.3, 0.8, 0.5
    function = act.value if kind == "rf" else act.first
    spread = np.sqrt(r - c * c / q)
    t = (
        np.arange(-2000, 2000) + 0.5
    ) / 250  # a plain sum over +-8: exact for smooth functions, first order at relu's kink
    weight = np.exp(-t * t / 2) / np.sqrt(2 * np.pi) / 250
    u = np.sqrt(q) * t
    v = c / q * u[:, None] + spread * t
    expected = (weight * function(u)) @ function(v) @ weight
    found = dual(kind, act, np.array([q]), np.array([r]), np.array([[c]])).value[0, 0]
    assert found == pytest.approx(expected, abs=1e-4 if name == "relu" else 1e-9)


def test_square_kernels_are_the_briefest_closed_forms() -> None:
    X = np.random.default_rng(0).standard_normal((4, 6))
    inner, norms = X @ X.T, (X**2).sum(1)
    np.testing.assert_allclose(
        kernel("rf", ACTIVATIONS["square"], X, X), (np.outer(norms, norms) + 2 * inner**2) / (4 * 36)
    )
    np.testing.assert_allclose(kernel("ntk", ACTIVATIONS["square"], X, X), inner**2 / 6)


@pytest.mark.parametrize("kind", ["rf", "ntk"])
@pytest.mark.parametrize("name", ["tanh", "square", "softplus"])
def test_wide_models_come_near_the_infinite_one(kind: str, name: str) -> None:
    X, y, Z = toy.gaussian(np.random.default_rng(3), n=20, d=15, m=10)
    wide, limit = (np.median(MODELS[kind](k, name).fit(X, y).sensitivity(Z)) for k in (30_000, np.inf))
    assert wide == pytest.approx(limit, rel=0.06)


@pytest.mark.parametrize("width", [30, np.inf])
@pytest.mark.parametrize("normalize", [None, "sphere"])
@pytest.mark.parametrize("kind", ["rf", "ntk"])
def test_interaction_gives_the_gradient_and_bounds_it(kind: str, normalize: Any, width: float) -> None:
    X, y, Z = toy.gaussian(np.random.default_rng(5), n=12, d=7, m=3)
    model = MODELS[kind](width, "softplus", normalize=normalize).fit(X, y)
    np.testing.assert_allclose(
        interaction_matrix(model, Z) @ model.dual_coef_[:, 0], model.input_gradient(Z), rtol=1e-6, atol=1e-9
    )
    found = interaction(model, Z)
    assert (found.sensitivity <= found.bound * (1 + 1e-9)).all()
    assert (found.operator <= found.frobenius * (1 + 1e-12)).all()
    centred = interaction_matrix(model, Z, centred=True)
    np.testing.assert_allclose(centred.sum(axis=2), 0, atol=1e-9 * np.abs(centred).max())


def test_singular_kernels_get_least_squares() -> None:
    features = np.random.default_rng(0).standard_normal((10, 4))
    Y = np.random.default_rng(1).standard_normal((10, 2))
    found = solve_gram(features @ features.T, Y, max_rank=4)
    np.testing.assert_allclose(features.T @ found.dual, np.linalg.pinv(features) @ Y, rtol=1e-8)
    assert (found.method, found.rank) == ("pinv", 4)
    assert solve_gram(np.zeros((3, 3)), np.ones((3, 1))).dual.tolist() == [[0.0]] * 3


def test_ridge_is_that_of_the_primal_problem() -> None:
    features = np.random.default_rng(0).standard_normal((10, 25))
    Y = np.random.default_rng(1).standard_normal((10, 1))
    dual_solution = solve_gram(features @ features.T, Y, reg=2.5).dual
    expected = np.linalg.solve(features.T @ features + 2.5 * np.eye(25), features.T @ Y)
    np.testing.assert_allclose(features.T @ dual_solution, expected, rtol=1e-8)


def test_a_kernel_above_the_limit_is_refused_with_its_size() -> None:
    with pytest.raises(InputError, match=r"1\.61 MB"):
        RandomFeatures(10, max_bytes=10**6).fit(np.zeros((317, 2)), np.zeros(317))

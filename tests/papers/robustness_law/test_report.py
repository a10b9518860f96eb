"""Reports on scikit-learn and torch models: radii against geometry by hand, certificates against search, words, and bad input."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from typer.testing import CliRunner

from paperworks.errors import InputError
from paperworks.papers.robustness_law import (
    RandomFeatures,
    certified_radius,
    compare,
    layers_of,
    robustness_report,
    toy,
)
from paperworks.papers.robustness_law.adapters import adapt
from paperworks.papers.robustness_law.certify import Layer, margin_slopes
from paperworks.papers.robustness_law.cli import app

X, Y = toy.two_classes(np.random.default_rng(0), n=240, d=6)
TRAIN, TEST = slice(0, 160), slice(160, 240)


def report_on(model: Any, **settings: Any) -> Any:
    return robustness_report(model, X[TRAIN], X[TEST], Y[TEST], **settings)


def test_radii_of_a_plane_by_hand() -> None:
    model = LogisticRegression().fit(X[TRAIN], Y[TRAIN])
    report = report_on(model)
    distance = np.abs(X[TEST] @ model.coef_[0] + model.intercept_[0]) / np.linalg.norm(model.coef_)
    for radius in (report.first_order_radius, report.flip_radius):
        np.testing.assert_allclose(radius, distance, rtol=1e-4)
    np.testing.assert_allclose(report.certified_radius, distance[:32], rtol=1e-4)
    np.testing.assert_allclose(report.sensitivity, np.linalg.norm(X[TEST], axis=1) * np.linalg.norm(model.coef_))
    assert report.accuracy == model.score(X[TEST], Y[TEST])
    assert report.n_parameters == 7
    assert report.bound == pytest.approx(np.sqrt(6 * 160 / 7))
    assert report.effective_dimension < 6


@pytest.mark.parametrize("activation", ["tanh", "relu", "logistic"])
def test_certificate_search_and_estimate_are_in_order(activation: str) -> None:
    model = MLPClassifier((16, 8), activation=activation, max_iter=400, random_state=0).fit(X[TRAIN], Y[TRAIN])
    report = report_on(model)
    assert report.gradient_kind == "exact"
    certified = report.certified_radius
    assert (certified <= report.flip_radius[:32] * (1 + 1e-6)).all()
    assert (certified > 0).mean() > 0.9
    assert (report.flip_radius > 0).all()
    assert np.isfinite(report.flip_radius).all()
    rng = np.random.default_rng(1)
    for point, radius in zip(X[TEST][:6], certified, strict=False):
        directions = rng.standard_normal((200, 6))
        moved = point + 0.999 * radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        assert (model.predict(moved) == model.predict(point[None])).all()


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "softplus", "square", "erf", "logistic"])
def test_no_slope_within_the_ball_is_above_the_bound(name: str) -> None:
    from paperworks.papers.robustness_law.certify import _named, gradients

    rng = np.random.default_rng(0)
    act = _named(name)
    layers = [
        Layer(rng.standard_normal((4, 7)), rng.standard_normal(7), act),
        Layer(rng.standard_normal((7, 5)) / 2, rng.standard_normal(5), act),
        Layer(rng.standard_normal((5, 3)), rng.standard_normal(3), None),
    ]
    z, radius = rng.standard_normal(4), 0.4
    bound = margin_slopes(layers, z, 0, radius)
    offsets = rng.standard_normal((2000, 4))
    points = z + radius * rng.random((2000, 1)) * offsets / np.linalg.norm(offsets, axis=1, keepdims=True)
    for other in (1, 2):
        direction = np.zeros((2000, 3))
        direction[:, 0], direction[:, other] = 1, -1
        seen = np.linalg.norm(gradients(layers, points, direction), axis=1)
        assert seen.max() <= bound[other]
    exact = np.linalg.norm(gradients(layers, z[None], direction[:1]))
    assert margin_slopes(layers, z, 0, 0.0)[2] == pytest.approx(exact)


def test_pgd_finds_nearer_flips_than_the_gradient_line() -> None:
    # the boundary is |x| = 1, and the gradient of a far saddle points along one axis only at first
    class Ring:
        classes_ = np.array([0, 1])

        def predict(self, Z: np.ndarray) -> np.ndarray:
            return (self.decision_function(Z) > 0).astype(int)

        def decision_function(self, Z: np.ndarray) -> np.ndarray:
            return 1 - Z[:, 0] ** 2 - 4 * Z[:, 1] ** 2

        def input_gradient(self, Z: np.ndarray) -> np.ndarray:
            sign = np.where(self.decision_function(Z) > 0, 1.0, -1.0)[:, None]
            return sign * np.stack([-2 * Z[:, 0], -8 * Z[:, 1]], axis=1)

    point = np.array([[0.5, 0.05]])
    angles = np.linspace(0, 2 * np.pi, 100_000)
    nearest = np.hypot(np.cos(angles) - 0.5, np.sin(angles) / 2 - 0.05).min()
    plain = robustness_report(Ring(), X[TRAIN][:, :2], np.repeat(point, 3, axis=0), [1, 1, 0])
    assert nearest <= plain.flip_radius[0] <= 1.05 * nearest


@pytest.mark.parametrize(
    "model",
    [
        SVC(),
        RandomForestClassifier(20, random_state=0),
        make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=300, random_state=0)),
    ],
    ids=["svc", "forest", "pipeline"],
)
def test_models_without_gradients_are_asked_by_differences_and_it_is_said(model: Any) -> None:
    report = report_on(model.fit(X[TRAIN], Y[TRAIN]), n=40)
    assert report.gradient_kind == "finite differences"
    assert any("finite differences" in line for line in report.limits)
    assert any("Nothing here is certified" in line for line in report.limits)
    assert np.isfinite(report.flip_radius).all()
    if isinstance(model, RandomForestClassifier):
        assert any("constant piece by piece" in line for line in report.notes)
        assert report.n_parameters > 100


def test_differences_agree_with_exact_gradients() -> None:
    model = MLPClassifier((8,), activation="tanh", max_iter=300, random_state=0).fit(X[TRAIN], Y[TRAIN])
    exact = adapt(model, X[TEST], Y)
    plain = adapt(model, X[TEST], Y)
    plain.layers = None
    # without layers the margin is one of log-probabilities, whose difference is that of the logits
    ids, labels = np.arange(80), model.predict(X[TEST])
    np.testing.assert_allclose(
        plain.margin_gradients(X[TEST], ids, labels), exact.margin_gradients(X[TEST], ids, labels), rtol=1e-3, atol=1e-4
    )


def test_regressions_flip_by_the_tolerance() -> None:
    target = X @ np.arange(6.0)
    report = robustness_report(LinearRegression().fit(X, target), X[TRAIN], X[TEST], target[TEST], tolerance=2.0)
    np.testing.assert_allclose(report.flip_radius, 2 / np.linalg.norm(np.arange(6.0)), rtol=1e-4)
    assert report.accuracy is None
    assert report.per_class == []
    assert "moves the output by 2" in report.advice[0]
    ours = robustness_report(RandomFeatures(400, "cos").fit(X[TRAIN], target[TRAIN]), X[TRAIN], X[TEST], target[TEST])
    assert ours.gradient_kind == "exact"
    assert ours.parity == {"cos": pytest.approx(1)}
    assert robustness_report(
        MLPRegressor(hidden_layer_sizes=(5,), max_iter=50).fit(X, target), X, X, target, n=9
    ).sensitivity.shape == (9,)


def test_a_coefficient_alone_makes_no_linear_model() -> None:
    counts = np.random.default_rng(0).poisson(np.exp(X[:, 0] / 4))
    report = robustness_report(PoissonRegressor().fit(X, counts), X[TRAIN], X[TEST], counts[TEST], n=20)
    assert report.gradient_kind == "finite differences"


def test_report_in_words_and_numbers() -> None:
    model = MLPClassifier((16,), activation="tanh", max_iter=300, random_state=0).fit(X[TRAIN], Y[TRAIN])
    report = report_on(model, n=50)
    page = report.to_markdown()
    for part in (
        "flip radius",
        "certified radius",
        "effective",
        "| 0 |",
        "| 1 |",
        "What this does not say",
        "tanh 0.00",
    ):
        assert part in page
    kept = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert len(kept["sensitivity"]) == 50
    assert kept["quantiles"]["margin"]["0.5"] == pytest.approx(report.quantiles("margin")[0.5])
    assert sum(row["points"] for row in report.per_class) == 50
    assert report.plot().startswith("<svg")
    table = compare(report, report_on(LogisticRegression().fit(X[TRAIN], Y[TRAIN])))
    assert table.count("\n") == 7
    again = report_on(pickle.loads(pickle.dumps(model)), n=50)
    np.testing.assert_array_equal(report.flip_radius, again.flip_radius)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X_test": X[:5]}, "5 rows and y_test 80"),
        ({"X_test": np.where(X[TEST] > 0, np.nan, 1.0)}, "NaN"),
        ({"X_test": X[TEST][:, :3]}, "takes 6 columns"),
        ({"y_test": Y[TEST] + 5}, "not among the model's classes"),
        ({"X_train": np.zeros((0, 6))}, "X_train"),
        ({"n": 0}, "n must be"),
        ({"model": "net"}, "torch module or a fitted scikit-learn"),
        ({"task": "regression", "tolerance": -1.0}, "tolerance"),
        ({"model": LinearRegression().fit(X, Y), "task": "classification"}, "no classes_"),
    ],
)
def test_input_that_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    model = LogisticRegression().fit(X[TRAIN], Y[TRAIN])
    call: dict[str, Any] = {"model": model, "X_train": X[TRAIN], "X_test": X[TEST], "y_test": Y[TEST]}
    with pytest.raises(InputError, match=message):
        robustness_report(**(call | change))


def test_torch_networks_get_the_report_of_their_scikit_learn_twin() -> None:
    torch = pytest.importorskip("torch")
    twin = MLPClassifier((10,), activation="tanh", max_iter=300, random_state=0).fit(X[TRAIN], Y[TRAIN])
    net = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.Tanh(), torch.nn.Linear(10, 1)).double().train()
    for layer, (w, b) in zip((net[0], net[2]), zip(twin.coefs_, twin.intercepts_, strict=True), strict=True):
        layer.weight.data, layer.bias.data = torch.as_tensor(w.T.copy()), torch.as_tensor(b.copy())
    one, two = report_on(net), report_on(twin)
    for what in ("sensitivity", "margin", "flip_radius", "certified_radius"):
        np.testing.assert_allclose(getattr(one, what), getattr(two, what), rtol=1e-5)
    assert (one.accuracy, one.n_parameters) == (two.accuracy, two.n_parameters)
    assert one.parity == {"tanh": pytest.approx(0)}
    assert net.training


def test_convolutions_and_language_models_get_reports() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    conv = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3),
        torch.nn.GELU(),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 4),
    )
    pixels = np.random.default_rng(0).standard_normal((30, 1, 6, 6)).astype(np.float32)
    report = robustness_report(conv, pixels, pixels, np.arange(30) % 4, n=12)
    assert report.dimension == 36
    assert report.certified_radius is None
    assert report.n_parameters == 30 + 52
    with pytest.raises(InputError, match="0 to 3"):
        robustness_report(conv, pixels, pixels, np.arange(30))
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50
    )
    bert = transformers.BertForSequenceClassification(config)
    ids = np.random.default_rng(0).integers(1, 50, (10, 5))
    tokens = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    report = robustness_report(bert, tokens, tokens, np.arange(10) % 2, n=6)
    assert report.dimension == 40
    assert any("training inputs are not in the space" in line for line in report.limits)


def test_layers_are_read_only_where_they_are_the_whole_model() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    assert layers_of(nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))) is not None
    assert layers_of(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))) is None
    assert layers_of(nn.Sequential(nn.Linear(3, 4), nn.GELU(approximate="tanh"), nn.Linear(4, 2))) is None
    assert layers_of(nn.LSTM(3, 4)) is None
    with pytest.raises(InputError, match="takes 3 inputs"):
        certified_radius([Layer(np.ones((3, 2)), np.zeros(2), None)], np.ones(4))


def test_commands(tmp_path: Path) -> None:
    import joblib

    run = CliRunner()
    model, data = tmp_path / "model.joblib", tmp_path / "data.npz"
    joblib.dump(LogisticRegression().fit(X[TRAIN], Y[TRAIN]), model)
    np.savez(data, X_train=X[TRAIN], X_test=X[TEST], y_test=Y[TEST])
    refused = run.invoke(app, ["report", str(model), "--data", str(data)])
    assert isinstance(refused.exception, InputError)
    assert "--trust" in str(refused.exception)
    found = run.invoke(app, ["report", str(model), "--data", str(data), "--trust", "--plot", str(tmp_path / "p.svg")])
    assert "Robustness of LogisticRegression" in found.output
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    as_json = run.invoke(app, ["report", str(model), "--data", str(data), "--trust", "--json", "--n", "5"])
    assert len(json.loads(as_json.stdout)["margin"]) == 5
    out = tmp_path / "curve.json"
    call = ["curve", "--points", "20", "--dimension", "30", "--widths", "5,inf", "--seeds", "2", "--out", str(out)]
    shown = run.invoke(app, call)
    assert shown.stdout.count("ntk   square") == 2, shown.output
    assert len(json.loads(out.read_text())["rows"]) == 6
    assert isinstance(run.invoke(app, ["curve", "--widths", "five"]).exception, InputError)
    assert "p_needed  100" in run.invoke(app, ["law", "400", "10", "10"]).output


def test_a_saved_torch_program_gets_its_report(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).eval()
    data = tmp_path / "data.npz"
    np.savez(data, X_train=X[TRAIN].astype(np.float32), X_test=X[TEST].astype(np.float32), y_test=Y[TEST])
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 6)), tmp_path / "net.pt")
    found = CliRunner().invoke(app, ["report", str(tmp_path / "net.pt"), "--data", str(data), "--n", "20"])
    assert "flip radius" in found.output, found.exception
    (tmp_path / "broken.pt").write_bytes(b"no model")
    broken = CliRunner().invoke(app, ["report", str(tmp_path / "broken.pt"), "--data", str(data)])
    assert isinstance(broken.exception, InputError)

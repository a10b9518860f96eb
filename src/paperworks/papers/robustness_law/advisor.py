"""Which activation would keep a model of your data least sensitive, by the kernels; and what your trained network says to that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.robustness_law.activations import Activation, activation, parity_index
from paperworks.papers.robustness_law.kernels import Kind
from paperworks.papers.robustness_law.models import NTKRegressor, RandomFeatures, Scale
from paperworks.papers.robustness_law.networks import sensitivity
from paperworks.papers.robustness_law.theory import predicted_sensitivity
from paperworks.progress import Progress, silent

CANDIDATES = ("tanh", "softplus", "relu", "gelu", "square", "cos")


@dataclass(frozen=True)
class Advice:
    """rows: least sensitive first, each with activation, parity, rf, ntk (S on your data, labels scaled to unit size), gaussian_rf and
    gaussian_ntk (S for data without structure); NaN where the kernel cannot fit the labels.

    network: the median S of your network over the size of its output, or None.
    """

    rows: list[dict[str, Any]]
    network: float | None
    width: float

    @property
    def sentence(self) -> str:
        """The finding in words, with its limit."""
        best = self.rows[0]
        text = (
            f"Of these activations {best['activation']} keeps a tangent kernel of this data least sensitive, at {best['ntk']:.3g}. That is "
            "for models that do not learn features."
        )
        if self.network is not None:
            text += f" The trained network itself has {self.network:.3g}: where it is far from the kernel's number, do not lean on the ranking."
        return text

    def to_markdown(self) -> str:
        """The sentence and a table."""
        lines = [
            self.sentence,
            "",
            "| activation | evenness | tangent kernel | random features |",
            "| --- | ---: | ---: | ---: |",
        ]
        lines += [f"| {r['activation']} | {r['parity']:.2f} | {r['ntk']:.3g} | {r['rf']:.3g} |" for r in self.rows]
        return "\n".join(lines) + "\n"


def advise_activation(
    X: Any,
    y: Any,
    Z: Any = None,
    *,
    candidates: Sequence[str | Activation] = CANDIDATES,
    width: float = np.inf,
    normalize: Any = "sphere",
    reg: float = 0.0,
    network: Any = None,
    scale: Scale = "sqrt_d",
    seed: int = 0,
    max_rows: int = 2000,
    progress: Progress = silent,
) -> Advice:
    """Sensitivities at Z (m, d) of kernels fitted to X (n, d), y (n,) for each candidate.

    Z: by default a fifth of the rows is held out for it. width: numpy.inf is the limit, exact and without chance. y is centred and scaled to
    unit variance. network: a trained torch module, whose S at Z is measured beside. max_rows: more training rows are sampled.
    Raises InputError for constant labels or no candidates.

    >>> from paperworks.papers.robustness_law import toy
    >>> X, y, Z = toy.gaussian(np.random.default_rng(0), n=60, d=100)
    >>> advise_activation(X, y, Z, candidates=("tanh", "square")).rows[0]["activation"]
    'square'
    """
    if not candidates:
        raise InputError("give at least one candidate activation")
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64).ravel()
    if X.ndim != 2 or X.shape[0] != y.size:
        raise InputError(f"X must be (n, d) with a label a row, got {X.shape} and {y.size} labels")
    if not y.std() > 0:
        raise InputError("the labels are constant; nothing has to be fitted")
    order = np.random.default_rng(seed).permutation(y.size)
    if Z is None:
        if y.size < 5:
            raise InputError("fewer than five rows cannot be split; give Z")
        held, order = order[: y.size // 5], order[y.size // 5 :]
        Z = X[held]
    Z, order = np.asarray(Z, dtype=np.float64), order[:max_rows]
    X, y = X[order], (y[order] - y.mean()) / y.std()
    rows = []
    for done, which in enumerate(candidates, start=1):
        act = activation(which)
        row: dict[str, Any] = {"activation": act.name, "parity": parity_index(act)}
        pairs: list[tuple[Kind, Any]] = [("rf", RandomFeatures), ("ntk", NTKRegressor)]
        for kind, model in pairs:
            fitted = model(width, act, normalize=normalize, reg=reg, random_state=seed).fit(X, y)
            fits = fitted.interpolates_ or reg > 0
            row[kind] = float(np.median(fitted.sensitivity(Z, scale))) if fits else float("nan")
            row[f"gaussian_{kind}"] = _gaussian(kind, act, X.shape[0], X.shape[1], width)
        rows.append(row)
        progress(done, len(candidates), act.name)
    rows.sort(key=lambda row: (np.isnan(row["ntk"]), row["ntk"]))
    measured = None if network is None else _network(network, Z, scale)
    return Advice(rows, measured, width)


def _gaussian(kind: Kind, act: Activation, n: int, d: int, width: float) -> float:
    try:
        return predicted_sensitivity(kind, act, n, d, width)
    except InputError:  # a linear activation
        return float("nan")


def _network(network: Any, Z: np.ndarray, scale: Scale) -> float:
    from paperworks.papers.robustness_law.networks import input_gradient

    _, values, _ = input_gradient(network, Z)
    size = float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))
    return float(np.median(sensitivity(network, Z, scale=scale))) / size if size > 0 else 0.0

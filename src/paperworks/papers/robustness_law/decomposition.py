"""The paper's decomposition of the sensitivity: the kernel's inverse, and the interaction matrix of a test point with the training data.

grad f(z) = I(z) K^-1 y with I(z) = grad_z phi(z)^T Phi^T (d, n). The kernel's inverse is the same for every activation up to constants;
the interaction carries the activation's effect.

Axis letters: n training rows, m test rows, d input columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg

from paperworks.papers.robustness_law import infinite
from paperworks.papers.robustness_law.models import NTKRegressor, RandomFeatures, Scale, scaled


@dataclass(frozen=True)
class Interaction:
    """Per test point (m,): interaction norms, S, and the bound on S that they give together with the kernel.

    frobenius, operator: norms of I(z); inverse_norm: 1 / (smallest eigenvalue used of K); target_norm: ||y||.
    bound: operator * inverse_norm * target_norm in the scale of sensitivity; never below it.
    """

    frobenius: np.ndarray
    operator: np.ndarray
    inverse_norm: float
    target_norm: float
    sensitivity: np.ndarray
    bound: np.ndarray


def interaction_matrix(model: RandomFeatures | NTKRegressor, Z: Any, *, centred: bool = False) -> np.ndarray:
    """I(z) for each row of Z (m, d): (m, d, n). At infinite width per hidden unit.

    centred: use Phi minus its mean over the training rows, as an estimate of E[Phi].
    """
    rows = model._rows(Z)
    Z, X, act = model._scaled(rows), model.X_fit_, model.activation_
    if model._weights is None:
        along_x, along_z = infinite.slopes(model._kind, act, Z, X)
        found = X.T[None] * along_x[:, None, :] + Z[:, :, None] * along_z[:, None, :]
    elif model._kind == "rf":
        found = np.zeros((Z.shape[0], X.shape[1], X.shape[0]))
        for _, W in model._weights.chunks():
            features, slopes = act.value(X @ W), act.first(Z @ W)
            for i, slope in enumerate(slopes):
                found[i] += (W * slope) @ features.T
    else:
        found = np.zeros((Z.shape[0], X.shape[1], X.shape[0]))
        inner, cross = Z @ X.T, np.zeros((Z.shape[0], X.shape[0]))
        for _, W in model._weights.chunks():
            at_z, D = Z @ W, act.first(X @ W)
            cross += act.first(at_z) @ D.T
            for i, bent in enumerate(act.second(at_z)):
                found[i] += ((W * bent) @ D.T) * inner[i]
        found += X.T[None] * cross[:, None, :]
    if model.normalize == "sphere":
        norms = np.linalg.norm(rows, axis=1)[:, None, None]
        unit = np.divide(rows[:, :, None], norms, out=np.zeros_like(rows[:, :, None]), where=norms > 0)
        found = found - unit * (unit * found).sum(axis=1, keepdims=True)
        found *= np.divide(np.sqrt(rows.shape[1]), norms, out=np.zeros_like(norms), where=norms > 0)
    return found - found.mean(axis=2, keepdims=True) if centred else found


def interaction(model: RandomFeatures | NTKRegressor, Z: Any, scale: Scale = "sqrt_d") -> Interaction:
    """The norms of the decomposition at each row of Z (m, d), for a fitted model with one output (of several, the first).

    >>> from paperworks.papers.robustness_law import toy
    >>> X, y, Z = toy.gaussian(np.random.default_rng(0), n=30, d=40, m=3)
    >>> found = interaction(NTKRegressor(20, "square").fit(X, y), Z)
    >>> bool((found.sensitivity <= found.bound).all())
    True
    """
    matrices = interaction_matrix(model, Z)
    rows = model._rows(Z)
    values = linalg.eigvalsh(model._kernel)[::-1]
    smallest = values[max(model.rank_, 1) - 1] + model.reg + model.jitter_
    inverse_norm = float(1 / smallest) if smallest > 0 else np.inf
    S = model.sensitivity(rows, scale)
    operator = np.linalg.norm(matrices, ord=2, axis=(1, 2))
    target = float(
        np.linalg.norm(model._kernel @ model.dual_coef_[:, 0] + (model.reg + model.jitter_) * model.dual_coef_[:, 0])
    )
    return Interaction(
        frobenius=np.linalg.norm(matrices, axis=(1, 2)),
        operator=operator,
        inverse_norm=inverse_norm,
        target_norm=target,
        sensitivity=S[:, 0] if S.ndim == 2 else S,
        bound=scaled(operator * inverse_norm * target, rows, scale),
    )

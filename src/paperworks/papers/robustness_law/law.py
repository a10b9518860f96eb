"""The universal law of robustness (Bubeck and Sellke): what the number of parameters allows at best."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.errors import InputError


def law_of_robustness(p: float, d: float, n: int) -> dict[str, float | bool]:
    """What a model of p parameters that interpolates n noisy points of dimension d can hope for.

    d may be an effective dimension. Returns
    bound: sqrt(d n / p), a lower bound on the sensitivity up to a constant, for labels of unit size and rows of norm sqrt(d);
    p_needed: d n, the size from which the law allows a bound of 1; share: p / (d n);
    allowed: whether p >= d n. This is necessary, not sufficient: which models use the room is the paper's subject.

    >>> law_of_robustness(p=4_000, d=10, n=100)
    {'bound': 0.5, 'p_needed': 1000.0, 'share': 4.0, 'allowed': True}
    """
    if not (p > 0 and d > 0 and n > 0):
        raise InputError(f"p, d and n must be positive, got p = {p}, d = {d}, n = {n}")
    needed = float(d) * n
    return {
        "bound": float(np.sqrt(needed / p)),
        "p_needed": needed,
        "share": float(p / needed),
        "allowed": bool(p >= needed),
    }


def effective_dimension(X: Any) -> float:
    """Participation ratio of the covariance, (sum of eigenvalues)^2 / sum of squared eigenvalues: between 1 and the rank; 0 if constant.

    X (n, d), centred here. Estimated from n rows it cannot be above n - 1.

    >>> round(effective_dimension(np.eye(5)), 6)
    4.0
    """
    X = np.asarray(X, dtype=np.float64)
    X = X.reshape(X.shape[0], -1)
    if not np.isfinite(X).all():
        raise InputError("the rows hold NaN or infinity")
    X = X - X.mean(axis=0)
    gram = X @ X.T if X.shape[0] <= X.shape[1] else X.T @ X
    squares = float(np.sum(gram * gram))
    return float(np.trace(gram) ** 2 / squares) if squares > 0 else 0.0

"""Arithmetic of a distribution function that is known at S thresholds and straight between them.

n rows, S thresholds. `knots` (S + 2,) are the lowest y of the training rows, the thresholds, and the highest y; `F` (n, S + 2) is 0 at
the first, 1 at the last, and rises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.errors import InputError


def with_ends(P: np.ndarray) -> np.ndarray:
    """P (n, S) at the thresholds -> F (n, S + 2) at the knots."""
    n = len(P)
    return np.hstack([np.zeros((n, 1)), P, np.ones((n, 1))])


def quantiles(F: np.ndarray, knots: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The values below which a share q of the mass lies: F (n, S + 2), q (n, m) -> (n, m)."""
    out = np.empty_like(q, dtype=float)
    n = len(F)
    for j in range(q.shape[1]):
        level = np.clip(q[:, j], 0.0, 1.0)
        upper = np.clip((level[:, None] > F).sum(axis=1), 1, F.shape[1] - 1)  # the first knot that reaches the level
        rows = np.arange(n)
        low, high = F[rows, upper - 1], F[rows, upper]
        rise = high - low
        share = np.divide(level - low, rise, out=np.zeros(n), where=rise > 0)
        out[:, j] = knots[upper - 1] + np.clip(share, 0, 1) * (knots[upper] - knots[upper - 1])
    return out


def at(F: np.ndarray, knots: np.ndarray, y: np.ndarray) -> np.ndarray:
    """F of each row at its own y (n,) -> (n,)."""
    upper = np.clip(np.searchsorted(knots, y, side="left"), 1, len(knots) - 1)
    rows = np.arange(len(F))
    width = knots[upper] - knots[upper - 1]
    share = np.divide(y - knots[upper - 1], width, out=np.ones(len(y)), where=width > 0)
    share = np.clip(share, 0, 1)
    inside = F[rows, upper - 1] * (1 - share) + F[rows, upper] * share
    return np.where(y < knots[0], 0.0, np.where(y >= knots[-1], 1.0, inside))


def crps(F: np.ndarray, knots: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of each row, exactly: the integral of (F(z) - 1[z >= y])^2 over z -> (n,), unit of y."""
    width = np.diff(knots)
    left, right = F[:, :-1], F[:, 1:]
    below = width * (left**2 + left * right + right**2) / 3
    above = width * ((1 - left) ** 2 + (1 - left) * (1 - right) + (1 - right) ** 2) / 3
    y = y[:, None]
    low, high = knots[:-1], knots[1:]
    total = np.where(high <= y, below, np.where(low >= y, above, 0.0)).sum(axis=1)
    rows, segment = np.nonzero((low < y) & (y < high))
    value, a, b = y[rows, 0], knots[segment], knots[segment + 1]
    fa, fb = left[rows, segment], right[rows, segment]
    fy = fa + (fb - fa) * (value - a) / (b - a)
    part = (value - a) * (fa**2 + fa * fy + fy**2) / 3
    part += (b - value) * ((1 - fy) ** 2 + (1 - fy) * (1 - fb) + (1 - fb) ** 2) / 3
    total[rows] += part
    return np.asarray(total + np.maximum(knots[0] - y[:, 0], 0) + np.maximum(y[:, 0] - knots[-1], 0))


def check_levels(q: Any) -> np.ndarray:
    """q, one number or a sequence, each in [0, 1] -> (m,)."""
    levels = np.atleast_1d(np.asarray(q, dtype=float))
    if levels.ndim != 1 or not np.isfinite(levels).all() or (levels < 0).any() or (levels > 1).any():
        raise InputError(f"quantile levels must lie between 0 and 1, got {q!r}")
    return levels

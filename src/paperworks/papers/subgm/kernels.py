"""The two loops that NumPy would do in many passes, compiled by numba."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def cells(left: np.ndarray, right: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """(left right^T)[rows, cols]: factors (d, k) and (e, k), ids (n,) -> (n,)."""
    out = np.empty(rows.size)
    for i in range(rows.size):
        total = 0.0
        a, b = rows[i], cols[i]
        for j in range(left.shape[1]):
            total += left[a, j] * right[b, j]
        out[i] = total
    return out


@numba.njit(cache=True)
def signs(predicted: np.ndarray, y: np.ndarray, keep: np.ndarray, huber: float, out: np.ndarray) -> float:
    """Write sign(predicted - y) into `out` (m,) and return the sum of absolute residuals, both only where `keep`.

    With huber > 0 the sign becomes residual / huber, clipped to -1 .. 1, and the sum is Huber's. A zero residual has sign 0.
    """
    total = 0.0
    for i in range(y.size):
        if not keep[i]:
            out[i] = 0.0
            continue
        r = predicted[i] - y[i]
        size = abs(r)
        if size <= huber:
            out[i] = r / huber if huber > 0 else 0.0
            total += r * r / (2 * huber) if huber > 0 else 0.0
        else:
            out[i] = 1.0 if r > 0 else -1.0
            total += size - huber / 2
    return total

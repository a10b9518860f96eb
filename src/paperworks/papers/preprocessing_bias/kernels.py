"""Compiled loops: the Lasso by coordinate descent, for one design at a time."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, fastmath=False)
def lasso(X: np.ndarray, y: np.ndarray, alpha: float, weights: np.ndarray, tol: float, max_sweeps: int) -> int:
    """Minimise |y - X w|^2 / (2 n) + alpha |w|_1 from `weights`, which is changed; returns the sweeps taken.

    X (n, d) Fortran order, y (n,), weights (d,). Stops when no weight moved by more than tol times the largest weight.
    Columns are visited once over all, then over the non-zero ones until they rest, as long as a full visit changes the set.
    """
    n, d = X.shape
    residual = y.copy()
    norms = np.empty(d)
    for j in range(d):
        total = 0.0
        for i in range(n):
            total += X[i, j] * X[i, j]
        norms[j] = total
        if weights[j] != 0.0:
            for i in range(n):
                residual[i] -= X[i, j] * weights[j]
    penalty = alpha * n
    full = True
    for sweep in range(max_sweeps):
        moved = 0.0
        largest = 0.0
        for j in range(d):
            old = weights[j]
            if norms[j] == 0.0 or (not full and old == 0.0):
                continue
            inner = 0.0
            for i in range(n):
                inner += X[i, j] * residual[i]
            inner += norms[j] * old
            if inner > penalty:
                new = (inner - penalty) / norms[j]
            elif inner < -penalty:
                new = (inner + penalty) / norms[j]
            else:
                new = 0.0
            if new != old:
                step = new - old
                for i in range(n):
                    residual[i] -= X[i, j] * step
                weights[j] = new
                if abs(step) > moved:
                    moved = abs(step)
            if abs(new) > largest:
                largest = abs(new)
        rests = moved <= tol * largest or moved == 0.0
        if rests and full:
            return sweep + 1
        full = rests
    return max_sweeps


@numba.njit(cache=True)
def lasso_batch(X: np.ndarray, y: np.ndarray, alpha: float, tol: float, max_sweeps: int) -> np.ndarray:
    """The Lasso of many designs: X (b, n, d), y (b, n) -> weights (b, d)."""
    n_designs, n, d = X.shape
    out = np.zeros((n_designs, d))
    for index in range(n_designs):
        design = np.empty((d, n)).T  # Fortran order: the loop above walks down columns
        for i in range(n):
            for j in range(d):
                design[i, j] = X[index, i, j]
        lasso(design, y[index], alpha, out[index], tol, max_sweeps)
    return out


@numba.njit(cache=True)
def lasso_path(X: np.ndarray, y: np.ndarray, alphas: np.ndarray, tol: float, max_sweeps: int) -> np.ndarray:
    """Weights (len(alphas), d) for decreasing alphas, each begun at the one before. X (n, d) Fortran order."""
    out = np.zeros((alphas.size, X.shape[1]))
    weights = np.zeros(X.shape[1])
    for index in range(alphas.size):
        lasso(X, y, alphas[index], weights, tol, max_sweeps)
        out[index] = weights
    return out

"""Solve K a = y for a kernel that may be singular: Cholesky with as little jitter as it needs, else the pseudo-inverse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

JITTER = (0.0, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6)  # times the mean of the diagonal


@dataclass(frozen=True)
class Solution:
    """dual (n, o); residual: ||K a - y|| / ||y||, without the ridge; jitter: what was added to the diagonal; rank: of the kernel used."""

    dual: np.ndarray
    residual: float
    jitter: float
    rank: int
    method: str  # 'cholesky' or 'pinv'


def solve_features(Phi: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, Solution]:
    """theta = Phi^+ Y (p, o) from the features Phi (n, p) themselves, and a with theta = Phi^T a.

    For p < n: the kernel would square the condition of Phi. Singular values below 1e-15 of the largest count as zero, numpy's choice.
    """
    left, values, right = np.linalg.svd(Phi.astype(np.float64), full_matrices=False)
    used = values > 1e-15 * values[0]
    left, values, right = left[:, used], values[used, None], right[used]
    theta = right.T @ ((left.T @ Y) / values)
    size = float(np.linalg.norm(Y))
    residual = float(np.linalg.norm(Phi @ theta - Y)) / size if size > 0 else 0.0
    return theta, Solution(left @ ((left.T @ Y) / values**2), residual, 0.0, int(used.sum()), "pinv")


def solve_gram(
    K: np.ndarray,
    Y: np.ndarray,
    *,
    reg: float = 0.0,
    max_rank: float = np.inf,
    tol: float = 1e-6,
    noise: float = 2.2e-16,
) -> Solution:
    """a with (K + reg I) a = Y, K (n, n) positive semidefinite, Y (n, o).

    max_rank: the number of features; below n the kernel is singular and the pseudo-inverse is taken at once.
    tol: with reg = 0, a Cholesky solution must fit Y to this relative error; else the least-squares solution is returned.
    noise: relative error of K's entries (the unit roundoff of the dtype it was computed in).
    """
    n = K.shape[0]
    scale = float(np.trace(K)) / n
    size = float(np.linalg.norm(Y))
    if scale == 0.0 or size == 0.0:
        return Solution(np.zeros_like(Y, dtype=np.float64), float(size > 0), 0.0, 0 if scale == 0.0 else n, "pinv")
    if max_rank >= n or reg > 0:
        for jitter in JITTER:
            shifted = K + (reg + jitter * scale) * np.eye(n)
            try:
                factor = linalg.cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
            except linalg.LinAlgError:
                continue
            dual = linalg.cho_solve(factor, Y, check_finite=False)
            residual = float(np.linalg.norm(K @ dual - Y)) / size
            if reg > 0 or residual <= tol:
                return Solution(dual, residual, jitter * scale, n, "cholesky")
    values, vectors = linalg.eigh(K, check_finite=False)
    limit = n * noise * values[-1]
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = min(int((values > limit).sum()), n if max_rank >= n else int(max_rank))
    dual = vectors[:, :rank] @ ((vectors[:, :rank].T @ Y) / (values[:rank, None] + reg))
    return Solution(dual, float(np.linalg.norm(K @ dual - Y)) / size, 0.0, rank, "pinv")

"""What differs between X = U U^T and X = L R^T; the solver is written once over the two.

Factors are a pair (left, right); of a symmetric matrix both are the same array U (d, k). "Q" is the signed mean of the measurement
matrices, (d, e), dense or sparse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import linalg
from scipy.sparse import issparse
from scipy.sparse.linalg import eigsh, svds

Factors = tuple[np.ndarray, np.ndarray]
SMALL = 400  # up to this side a full decomposition costs less than its iterative cousin


class Geometry:
    """Moves, measures and takes apart factors. symmetric: X = U U^T, positive semidefinite."""

    def __init__(self, shape: tuple[int, int], symmetric: bool) -> None:
        self.shape = shape
        self.symmetric = symmetric

    def pair(self, left: np.ndarray, right: np.ndarray | None = None) -> Factors:
        """Factors of this geometry."""
        return (left, left) if self.symmetric or right is None else (left, right)

    def directions(self, Q: Any, factors: Factors) -> Factors:
        """The sub-gradient in the factors: Q U, or Q R and Q^T L."""
        left, right = factors
        down = Q @ right
        return (down, down) if self.symmetric else (down, Q.T @ left)

    def moved(self, factors: Factors, directions: Factors, step: float) -> Factors:
        """A step against the directions."""
        left = factors[0] - step * directions[0]
        return (left, left) if self.symmetric else (left, factors[1] - step * directions[1])

    def size(self, factors: Factors) -> float:
        """||left right^T||_F from the k x k Gram matrices."""
        left, right = factors
        gram = left.T @ left
        other = gram if self.symmetric else right.T @ right
        return float(np.sqrt(max(np.vdot(gram, other), 0.0)))

    def norm(self, Q: Any, vector: np.ndarray, passes: int) -> tuple[float, np.ndarray]:
        """Spectral norm of Q by power iteration from a vector (e,); returns the vector too, for the next call."""
        value = 0.0
        for _ in range(passes):
            image = Q @ vector
            if not self.symmetric:
                value = float(np.linalg.norm(image))
                image = Q.T @ image
            length = float(np.linalg.norm(image))
            if length == 0.0:
                return 0.0, vector
            value = length / value if not self.symmetric and value > 0 else length
            vector = image / length
        return value, vector

    def top(self, matrix: Any, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k largest eigenvalues (symmetric) or singular values of a matrix, descending: values, left and right vectors."""
        least = min(matrix.shape)
        k = min(k, least)
        if least <= SMALL or 3 * k > least:
            sparse: Any = matrix
            dense = sparse.toarray() if issparse(matrix) else np.asarray(matrix)
            if self.symmetric:
                values, vectors = linalg.eigh(dense, subset_by_index=(least - k, least - 1))
                return values[::-1], vectors[:, ::-1], vectors[:, ::-1]
            u, s, vt = linalg.svd(dense, full_matrices=False, lapack_driver="gesdd")
            return s[:k], u[:, :k], vt[:k].T
        start = np.random.default_rng(0).standard_normal(least)
        if self.symmetric:
            values, vectors = eigsh(matrix, k=k, which="LA", v0=start)
            return values[::-1], vectors[:, ::-1], vectors[:, ::-1]
        u, s, vt = svds(matrix, k=k, v0=start)
        order = np.argsort(-s)
        return s[order], u[:, order], vt[order].T

    def spectrum(self, factors: Factors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Singular values of left right^T, descending (k,), with its vectors (d, k) and (e, k)."""
        left, right = factors
        if self.symmetric:
            u, s, _ = np.linalg.svd(left, full_matrices=False)
            return s**2, u, u
        ql, rl = np.linalg.qr(left)
        qr, rr = np.linalg.qr(right)
        u, s, vt = np.linalg.svd(rl @ rr.T)
        return s, ql @ u, qr @ vt.T

    def balanced(self, values: np.ndarray, u: np.ndarray, v: np.ndarray) -> Factors:
        """Factors with those singular values and vectors, the values shared evenly between the two."""
        root = np.sqrt(np.maximum(values, 0.0))
        return self.pair(u * root, v * root)

    def preconditioned(self, directions: Factors, factors: Factors, damping: float) -> Factors:
        """The directions times (U^T U + damping I)^-1, which makes small singular values move as fast as large ones."""
        left, right = factors
        eye = damping * np.eye(left.shape[1])
        first = linalg.solve(right.T @ right + eye, directions[0].T, assume_a="pos").T
        if self.symmetric:
            return first, first
        return first, linalg.solve(left.T @ left + eye, directions[1].T, assume_a="pos").T

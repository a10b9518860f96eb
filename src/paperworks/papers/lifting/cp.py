"""The lifted problem over sums of tensor powers, w = sum_k c_k v_k^(l): any order, and no tensor at all.

Every inner product of two such terms is a number to the power l, so the loss of R terms needs the R (R + 1) / 2 measurement vectors
y_kj = A(v_k v_j^T) and nothing of size n^l: memory R n + R^2 m / 2, time O(R^4 m + R^2 x one measurement).
The signs c_k are fixed: all 1 for odd orders, where v_k carries its sign, and alternating for even ones.
"""

from __future__ import annotations

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.lifting.operators import Operator
from paperworks.papers.lifting.tensor import lift, power_iteration


class CPProblem:
    """f_l / |b|^(2 l) and its gradient over components V (R, n); the division keeps large orders from overflowing.

    Points are flat, (B, R n). Raises InputError when b is zero (then M = 0 is the answer) or a number is not positive.
    """

    def __init__(self, operator: Operator, b: np.ndarray, order: int, terms: int) -> None:
        size = float(np.linalg.norm(b))
        if size == 0.0:
            raise InputError("b is zero, so that M = 0 is the answer and there is nothing to lift")
        if order < 1 or terms < 1:
            raise InputError(f"order and number of terms are whole numbers from 1 on, got {order} and {terms}")
        self.operator, self.order, self.terms, self.n = operator, order, terms, operator.n
        self._b, self._scale = b / size, size
        self.signs = np.ones(terms) if order % 2 else 1.0 - 2.0 * (np.arange(terms) % 2)
        self._k, self._j = np.triu_indices(terms)
        self._c = self.signs[self._k] * self.signs[self._j] * np.where(self._k == self._j, 1.0, 2.0)

    def value_and_gradient(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Relative loss (B,) and gradient (B, R n) at points (B, R n)."""
        found = [self._one(point.reshape(self.terms, self.n)) for point in points]
        return np.array([value for value, _ in found]), np.stack([gradient.ravel() for _, gradient in found])

    def loss(self, V: np.ndarray) -> float:
        """The relative loss at components V (R, n)."""
        return self._one(np.asarray(V, dtype=float).reshape(self.terms, self.n))[0]

    def _one(self, V: np.ndarray) -> tuple[float, np.ndarray]:
        forward, pairs = self.operator.forward, list(zip(self._k, self._j, strict=True))
        Y = np.stack([forward(V[k, :, None], V[j, :, None]) for k, j in pairs]) / self._scale
        gram, target, order, c = Y @ Y.T, Y @ self._b, self.order, self._c
        lower_gram, lower_target = gram ** (order - 1), target ** (order - 1)
        value = float(c @ (lower_gram * gram) @ c - 2 * c @ (lower_target * target) + 1.0) / 2
        outer = order * ((np.outer(c, c) * lower_gram) @ Y - np.outer(c * lower_target, self._b)) / self._scale
        gradient = np.zeros_like(V)
        for row, (k, j) in zip(outer, pairs, strict=True):
            matrix = self.operator.adjoint(row)
            gradient[k] += matrix @ V[j]
            gradient[j] += matrix @ V[k]
        return value, gradient

    def drop(self, V: np.ndarray) -> np.ndarray:
        """The vector (n,) whose power is nearest to the sum, by power iteration from each component."""
        order = self.order
        V = np.asarray(V, dtype=float).reshape(self.terms, self.n)
        if order == 1:
            return np.asarray(self.signs @ V)
        lengths = np.linalg.norm(V, axis=1)
        starts = V[lengths > 0] / lengths[lengths > 0][:, None]
        if not len(starts):
            return np.zeros(self.n)
        return power_iteration(
            lambda v: (self.signs * (V @ v) ** (order - 1)) @ V, starts, order, self.norm(V), max_iter=200
        )

    def norm(self, V: np.ndarray) -> float:
        """Frobenius norm of the sum that components V (R, n) stand for."""
        return float(np.sqrt(max(self.signs @ ((V @ V.T) ** self.order) @ self.signs, 0.0)))

    def tensor(self, V: np.ndarray) -> np.ndarray:
        """The sum as a stored tensor (n, ..., n), for small cases."""
        V = np.asarray(V, dtype=float).reshape(self.terms, self.n)
        return np.asarray(sum(c * lift(v, self.order) for c, v in zip(self.signs, V, strict=True)))

"""The problem before lifting: f(X) = ||A(X X^T) - b||^2 / 2 over factors X (n, r), its derivatives, and a local solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import linalg
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, eigsh

from paperworks.papers.lifting.operators import Matrix, Operator, dense, is_sparse

SMALL = 300  # up to this many unknowns a full eigenvalue decomposition costs less than an iterative one


class BaseProblem:
    """f, its gradient and Hessian for one operator and b (m,).

    n: rows of X; every method takes X (n, r) of any r.
    """

    def __init__(self, operator: Operator, b: np.ndarray) -> None:
        self.operator, self.b = operator, b
        self.n = operator.n
        self.back = operator.adjoint(b)  # A*(b)
        self.energy = float(b @ b)

    def residual(self, X: np.ndarray) -> np.ndarray:
        """A(X X^T) - b, (m,)."""
        return self.operator.forward(X, X) - self.b

    def loss(self, X: np.ndarray) -> float:
        """f(X)."""
        r = self.residual(X)
        return float(r @ r) / 2

    def G(self, X: np.ndarray) -> Matrix:
        """A*(A(X X^T) - b), (n, n): half the gradient of f in the matrix, applied to X."""
        return self.operator.adjoint(self.residual(X))

    def value_and_gradient(self, X: np.ndarray) -> tuple[float, np.ndarray]:
        """f and 2 G(X) X."""
        r = self.residual(X)
        return float(r @ r) / 2, 2 * np.asarray(self.operator.adjoint(r) @ X)

    def relative_gradient(self, X: np.ndarray) -> float:
        """||2 G(X) X|| beside 2 ||A*(b)|| ||X||, without unit; 0 at X = 0."""
        size = 2 * norm(self.back) * float(np.linalg.norm(X))
        return float(np.linalg.norm(self.value_and_gradient(X)[1])) / size if size > 0 else 0.0

    def hessian_product(self, X: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The map U -> D^2 f(X)[U], (n, r) -> (n, r)."""
        G, operator = self.G(X), self.operator

        def product(U: np.ndarray) -> np.ndarray:
            crossed = 2 * operator.forward(X, U)  # A(X U^T + U X^T)
            return 2 * np.asarray(G @ U) + 2 * np.asarray(operator.adjoint(crossed) @ X)

        return product

    def smallest_curvature(self, X: np.ndarray) -> float:
        """The smallest eigenvalue of the Hessian of f at X.

        With r > 1 it is at most 0 at a stationary point: turning X by a rotation changes nothing.
        """
        product, size, shape = self.hessian_product(X), X.size, X.shape
        if size <= SMALL:
            hessian = np.stack([product(row.reshape(shape)).ravel() for row in np.eye(size)])
            return float(linalg.eigvalsh((hessian + hessian.T) / 2, subset_by_index=(0, 0))[0])
        operator = LinearOperator(
            (size, size), matvec=lambda v: product(np.asarray(v).reshape(shape)).ravel(), dtype=np.float64
        )
        start = np.random.default_rng(0).standard_normal(size)
        return float(eigsh(operator, k=1, which="SA", v0=start, return_eigenvectors=False, tol=1e-6)[0])

    def solve(self, X: np.ndarray, max_iter: int = 2000) -> tuple[np.ndarray, int]:
        """L-BFGS from X to a stationary point: the point (n, r), and how many evaluations it took."""
        shape = X.shape
        scale = max(self.energy, np.finfo(float).tiny)  # so that the tolerances have no unit

        def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self.value_and_gradient(x.reshape(shape))
            return value / scale, gradient.ravel() / scale

        options: Any = {"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 20}
        found = minimize(scaled, X.ravel(), jac=True, method="L-BFGS-B", options=options)
        return np.asarray(found.x).reshape(shape), int(found.nfev)

    def refine(self, X: np.ndarray, max_iter: int = 30) -> np.ndarray:
        """Newton steps (pseudo-inverse, so that rotations do no harm) to the stationary point beside X, minimum or saddle."""
        if X.size > SMALL:
            return X
        best, X = X, X.copy()
        size = float(np.linalg.norm(self.value_and_gradient(X)[1]))
        for _ in range(max_iter):
            product = self.hessian_product(X)
            hessian = np.stack([product(row.reshape(X.shape)).ravel() for row in np.eye(X.size)])
            gradient = self.value_and_gradient(X)[1].ravel()
            X = X - (linalg.pinvh((hessian + hessian.T) / 2, rtol=1e-10) @ gradient).reshape(X.shape)
            new = float(np.linalg.norm(self.value_and_gradient(X)[1]))
            if not new < size:
                break
            best, size = X, new
        return best


def bottom(matrix: Matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest eigenvalues (k,) of a symmetric matrix and their vectors (n, k); fewer when n is."""
    n = matrix.shape[0]
    k = min(k, n)
    if norm(matrix) == 0.0:  # at an exact solution; ARPACK cannot start there
        return np.zeros(k), np.eye(n, k)
    if is_sparse(matrix) and n > SMALL and k < n - 1:
        values, vectors = eigsh(matrix, k=k, which="SA", v0=np.random.default_rng(0).standard_normal(n))
        order = np.argsort(values)
        return np.asarray(values[order]), np.asarray(vectors[:, order])
    values, vectors = linalg.eigh(dense(matrix), subset_by_index=(0, k - 1))
    return values, vectors


def norm(matrix: Matrix) -> float:
    """Frobenius norm, dense or sparse."""
    return float(np.sqrt((matrix.multiply(matrix)).sum())) if is_sparse(matrix) else float(np.linalg.norm(matrix))

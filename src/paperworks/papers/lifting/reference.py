"""The lifted problem line by line, with the operator A^(l) built in full: for tests, up to n = 3 at order 3 or so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def lifted_operator(matrices: np.ndarray, order: int) -> np.ndarray:
    """A^(l) of matrices (m, n, n) as m^l matrices of side n^l: all Kronecker products A_i1 x ... x A_il."""
    out = matrices
    for _ in range(order - 1):
        out = np.stack([np.kron(left, right) for left in out for right in matrices])
    return out


def lifted_measurements(b: np.ndarray, order: int) -> np.ndarray:
    """b^(l), flat (m^l,)."""
    out = b
    for _ in range(order - 1):
        out = np.kron(out, b)
    return out


def lifted_loss(matrices: np.ndarray, b: np.ndarray, w: np.ndarray) -> float:
    """||A^(l)(w x w) - b^(l)||^2 / 2 at a tensor w (n, ..., n)."""
    operator = lifted_operator(matrices, w.ndim)
    flat = w.ravel()
    values = np.array([flat @ matrix @ flat for matrix in operator])
    return float(np.sum((values - lifted_measurements(b, w.ndim)) ** 2) / 2)


def lifted_gradient(matrices: np.ndarray, b: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Its gradient, of the shape of w: 2 sum_i residual_i A_i w, for symmetric matrices."""
    operator = lifted_operator(matrices, w.ndim)
    flat, out = w.ravel(), np.zeros(w.size)
    for matrix, value in zip(operator, lifted_measurements(b, w.ndim), strict=True):
        out += 2 * (flat @ matrix @ flat - value) * (matrix @ flat)
    return out.reshape(w.shape)


def lifted_hessian(matrices: np.ndarray, b: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Its Hessian (n^l, n^l)."""
    operator = lifted_operator(matrices, w.ndim)
    flat, out = w.ravel(), np.zeros((w.size, w.size))
    for matrix, value in zip(operator, lifted_measurements(b, w.ndim), strict=True):
        image = matrix @ flat
        out += 2 * (flat @ image - value) * matrix + 4 * np.outer(image, image)
    return out


def second_derivative(loss: Callable[[np.ndarray], float], w: np.ndarray, v: np.ndarray, step: float = 1.0) -> float:
    """D^2 loss(w)[v, v] from five values. Exact for polynomials of degree 4 in the step, which all losses here are."""
    values = [loss(w + k * step * v) for k in (-2, -1, 0, 1, 2)]
    return float(np.dot((-1, 16, -30, 16, -1), values)) / (12 * step**2)

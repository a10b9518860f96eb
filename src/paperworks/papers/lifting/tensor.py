"""The lifted problem with its tensor stored: f_l(w) = ||A^(l)(w x w) - b^(l)||^2 / 2 over w in R^(n x ... x n), l modes.

A^(l) itself (m^l x n^(2l) numbers) is never built. The j-th A meets the j-th mode of both copies of w, and A_i is symmetric, so only
the part P of w x w that is symmetric within every pair of modes is seen: t^l numbers with t = n (n + 1) / 2. With the t x t Gram matrix
G of the packed A_i and beta = A*(b), both acting mode by mode,

    f_l = <P, G^(l) P> / 2 - <P, beta^(l)> + |b|^(2l) / 2.

This is the paper's own parametrisation, for n up to about 10 at order 3; `cp.py` has the form whose memory is linear in n.
Axis letters: B points at a time, N = n^l, T = t^l.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numba
import numpy as np

from paperworks.errors import InputError
from paperworks.papers.lifting.operators import Operator, packed

MEMORY_LIMIT = 2 * 1024**3  # bytes


class TensorProblem:
    """Loss, gradient and Hessian products of the lifted problem for points (B, n^l) or (n^l,).

    memory_limit: bytes that the tables and one point may take. Raises InputError beyond it.
    """

    def __init__(self, operator: Operator, b: np.ndarray, order: int, memory_limit: float = MEMORY_LIMIT) -> None:
        if order < 1:
            raise InputError(f"the order of lifting is a whole number from 1 on, got {order}")
        self.n, self.order = operator.n, order
        t = self.n * (self.n + 1) // 2
        needed = 16.0 * t**order * 2 ** (order - 1)
        if needed > memory_limit:
            raise InputError(
                f"at order {order} a tensor of side {self.n} needs tables of {needed:.3g} bytes, the limit is {memory_limit:.3g}; "
                f'use parametrization="cp", a smaller order, or raise memory_limit'
            )
        rows = packed(operator)  # (m, t)
        self.gram, self.beta = rows.T @ rows, b @ rows
        self.diagonal = np.diag(self.gram).copy() if _is_diagonal(self.gram) else None
        self.constant = float(b @ b) ** order / 2
        self._left, self._right = _pairs(self.n, order)  # (2^(l-1), T)
        self._target = _outer([self.beta] * order)
        self._diagonal = None if self.diagonal is None else _outer([self.diagonal] * order)

    @property
    def size(self) -> int:
        """n^l, how many numbers a point has."""
        return int(self.n**self.order)

    def lift(self, x: np.ndarray) -> np.ndarray:
        """The tensor power of x (n,), flat (n^l,)."""
        return _outer([np.asarray(x, dtype=float).ravel()] * self.order)

    def value_and_gradient(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f_l (B,) and its gradient (B, n^l) at points (B, n^l)."""
        if self._diagonal is not None:
            columns = np.ascontiguousarray(w.T)
            loss, gradient = _of_entries(columns, self._left, self._right, self._diagonal, self._target)
            return loss + self.constant, np.ascontiguousarray(gradient.T)
        P = _products(w, w, self._left, self._right)
        image = self._applied(P)
        loss = ((image / 2 - self._target) * P).sum(axis=1) + self.constant
        return loss, 2 * _scattered(image - self._target, w, self._left, self._right)

    def loss(self, w: np.ndarray) -> float:
        """f_l at one point (n^l,)."""
        return float(self.value_and_gradient(w.reshape(1, -1))[0][0])

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """The gradient at one point, (n^l,)."""
        return np.asarray(self.value_and_gradient(w.reshape(1, -1))[1][0])

    def hessian_product(self, w: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The map from directions (B, n^l) to the Hessian at one point w (n^l,) applied to them."""
        point = w.reshape(1, -1)
        outer = self._applied(_products(point, point, self._left, self._right)) - self._target

        def product(v: np.ndarray) -> np.ndarray:
            points = np.repeat(point, len(v), axis=0)
            image = 2 * self._applied(_products(points, v, self._left, self._right))
            first = _scattered(np.repeat(outer, len(v), axis=0), v, self._left, self._right)
            return 2 * (first + _scattered(image, points, self._left, self._right))

        return product

    def smallest_eigenvalue(self, w: np.ndarray) -> float:
        """The smallest eigenvalue of the Hessian at w (n^l,), from the whole matrix: for some thousand unknowns."""
        hessian = self.hessian_product(w)(np.eye(self.size))
        return float(np.linalg.eigvalsh((hessian + hessian.T) / 2)[0])

    def _applied(self, P: np.ndarray) -> np.ndarray:
        """G^(l) P, (B, T) -> (B, T)."""
        if self._diagonal is not None:
            return P * self._diagonal
        batch, t = len(P), len(self.gram)
        for _ in range(self.order):  # each pass takes the first mode and puts it last, so that all come round
            P = P.reshape(batch, t, -1).transpose(0, 2, 1) @ self.gram
        return P.reshape(batch, -1)


def lift(x: np.ndarray, order: int) -> np.ndarray:
    """The tensor power of x (n,), of shape (n, ..., n) with `order` axes.

    >>> lift(np.array([1.0, 2.0]), 2).tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    x = np.asarray(x, dtype=float)
    if x.ndim != 1 or order < 1:
        raise InputError(f"lift takes a vector (n,) and an order from 1 on, got shape {x.shape} and {order}")
    return _outer([x] * order).reshape((x.size,) * order)


def drop(w: np.ndarray, max_iter: int = 500, tol: float = 1e-12) -> np.ndarray:
    """The vector (n,) whose tensor power is the best symmetric rank-1 approximation of w (n, ..., n).

    Symmetric higher-order power iteration with a shift, from the leading left vectors of the first unfolding: no step size, no chance.
    With an even number of axes w is taken as w or -w, whichever is nearer to a power: the loss does not tell them apart.

    >>> np.round(drop(lift(np.array([1.0, -2.0]), 3)), 6).tolist()
    [1.0, -2.0]
    """
    w = np.asarray(w, dtype=float)
    order, n = w.ndim, w.shape[0]
    if w.shape != (n,) * order or order < 1:
        raise InputError(f"drop takes a tensor of equal sides, got shape {w.shape}")
    if order == 1:
        return w.copy()
    w = symmetrized(w)
    starts = np.linalg.svd(w.reshape(n, -1), full_matrices=False)[0].T[:3]

    def contracted(v: np.ndarray) -> np.ndarray:
        out = w
        for _ in range(order - 1):
            out = out @ v
        return out

    return power_iteration(contracted, starts, order, float(np.linalg.norm(w)), max_iter, tol)


def power_iteration(
    contracted: Callable[[np.ndarray], np.ndarray],
    starts: np.ndarray,
    order: int,
    size: float,
    max_iter: int = 500,
    tol: float = 1e-12,
) -> np.ndarray:
    """The best rank-1 vector of a symmetric tensor that is known by v -> <w, v^(l-1) x .>; starts (k, n); size: norm of the tensor."""
    best, best_value = np.zeros(starts.shape[1]), 0.0
    for start, sign in itertools.product(starts, (1.0, -1.0) if order % 2 == 0 else (1.0,)):
        v, value = start, 0.0
        for _ in range(max_iter):
            image = sign * contracted(v)
            new = float(image @ v)
            # a shift of the order of the tensor's norm makes the iteration climb; the small one is enough near the top
            step = image + 0.1 * (order - 1) * size * v
            length = float(np.linalg.norm(step))
            if length == 0.0 or (abs(new - value) <= tol * size and new != 0.0):
                value = new
                break
            v, value = step / length, new
        if abs(value) > best_value:
            best_value = abs(value)
            scale = best_value ** (1 / order)
            best = scale * v * (-1.0 if value < 0 and order % 2 == 1 else 1.0)
    return best


def symmetrized(w: np.ndarray) -> np.ndarray:
    """The mean of w over all orders of its axes."""
    orders = list(itertools.permutations(range(w.ndim)))
    return np.asarray(sum(w.transpose(order) for order in orders) / len(orders))


def _outer(vectors: list[np.ndarray]) -> np.ndarray:
    out = vectors[0]
    for vector in vectors[1:]:
        out = np.multiply.outer(out, vector).ravel()
    return np.asarray(out)


def _is_diagonal(matrix: np.ndarray) -> bool:
    off = np.abs(matrix - np.diag(np.diag(matrix))).max(initial=0.0)
    return bool(off <= 1e-14 * np.abs(np.diag(matrix)).max(initial=0.0))


def _pairs(n: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat ids (2^(l-1), T) of the two entries of w whose products add up to an entry of P, one row for each way to swap modes.

    Swapping all modes at once gives the same product, so the first mode stays.
    """
    upper = np.triu_indices(n)
    tables: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for swaps in itertools.product((0, 1), repeat=order - 1):
        for side in (0, 1):
            ids = np.zeros(1, dtype=np.int64)
            for swap in (0, *swaps):
                ids = np.add.outer(ids * n, upper[(side + swap) % 2]).ravel()
            tables[side].append(ids)
    return np.ascontiguousarray(tables[0]).astype(np.int32), np.ascontiguousarray(tables[1]).astype(np.int32)


def _products(v: np.ndarray, w: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The part of v x w that is symmetric within every pair of modes, (B, N), (B, N) -> (B, T)."""
    if v is w:
        return np.ascontiguousarray(_square(np.ascontiguousarray(w.T), left, right).T)
    return np.ascontiguousarray(_product(np.ascontiguousarray(v.T), np.ascontiguousarray(w.T), left, right).T)


def _scattered(R: np.ndarray, w: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The symmetric map of R applied to w, (B, T), (B, N) -> (B, N): half the gradient of <R, P(w, w)>."""
    return np.ascontiguousarray(_scatter(np.ascontiguousarray(R.T), np.ascontiguousarray(w.T), left, right).T)


# the compiled loops have the points last, so that the innermost loop runs over neighbours in memory


@numba.njit(cache=True, fastmath={"contract"})
def _square(w: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    out = np.zeros((left.shape[1], w.shape[1]))
    part = 1.0 / left.shape[0]
    for c in range(left.shape[1]):
        for s in range(left.shape[0]):
            a, b = left[s, c], right[s, c]
            for k in range(w.shape[1]):
                out[c, k] += w[a, k] * w[b, k]
        for k in range(w.shape[1]):
            out[c, k] *= part
    return out


@numba.njit(cache=True, fastmath={"contract"})
def _product(v: np.ndarray, w: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    out = np.zeros((left.shape[1], w.shape[1]))
    half = 0.5 / left.shape[0]
    for c in range(left.shape[1]):
        for s in range(left.shape[0]):
            a, b = left[s, c], right[s, c]
            for k in range(w.shape[1]):
                out[c, k] += half * (v[a, k] * w[b, k] + v[b, k] * w[a, k])
    return out


@numba.njit(cache=True, fastmath={"contract"})
def _scatter(R: np.ndarray, w: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    out = np.zeros(w.shape)
    half = 0.5 / left.shape[0]
    for c in range(left.shape[1]):
        for s in range(left.shape[0]):
            a, b = left[s, c], right[s, c]
            for k in range(w.shape[1]):
                out[a, k] += half * R[c, k] * w[b, k]
            for k in range(w.shape[1]):  # a loop of its own: a may be b
                out[b, k] += half * R[c, k] * w[a, k]
    return out


@numba.njit(cache=True, fastmath={"contract"})
def _of_entries(
    w: np.ndarray, left: np.ndarray, right: np.ndarray, diagonal: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Loss without its constant (B,) and gradient (N, B) when G is diagonal, in one pass that stores no P."""
    count = w.shape[1]
    loss, out, P = np.zeros(count), np.zeros(w.shape), np.empty(count)
    part = 1.0 / left.shape[0]
    for c in range(left.shape[1]):
        P[:] = 0.0
        for s in range(left.shape[0]):
            a, b = left[s, c], right[s, c]
            for k in range(count):
                P[k] += w[a, k] * w[b, k]
        for k in range(count):
            value = part * P[k]
            loss[k] += (diagonal[c] * value / 2 - target[c]) * value
            P[k] = part * (diagonal[c] * value - target[c])
        for s in range(left.shape[0]):
            a, b = left[s, c], right[s, c]
            for k in range(count):
                out[a, k] += P[k] * w[b, k]
            for k in range(count):
                out[b, k] += P[k] * w[a, k]
    return loss, out

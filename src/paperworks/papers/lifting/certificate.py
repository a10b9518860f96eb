"""Is a stationary point wrong, in which direction can it be left, and from which order of lifting on? No tensor is needed.

At x^(l), the l-fold tensor power of a point x, along the direction u^(l) with |u| = 1, the lifted loss has the curvature

    D^2 f_l = 2 (p^l - q^l + 2 s^l),   p = <A(xx^T), A(uu^T)>,  q = <b, A(uu^T)>,  s = ||A((xu^T + ux^T) / 2)||^2,

which follows from <A^(l)(v^(2l)), A^(l)(w^(2l))> = <A(vv^T), A(ww^T)>^l. Order 1 is the ordinary Hessian. So x^(l) is a strict saddle
as soon as p^l + 2 s^l < q^l, and it becomes one at some order exactly when q > s and q > |p| (for odd orders q > s and q > p will do).
The same holds for factors X (n, r) with x = vec(X) and a direction U (n, r).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.lifting.base import BaseProblem, bottom
from paperworks.papers.lifting.operators import checked

Verdict = Literal["global", "escapable", "not certified", "not stationary"]
MAX_ORDER = 99_999  # the largest order that is looked at; weak ties of weight 0.01 need some thousands
N_DIRECTIONS = 5  # of G(x), the most negative: a degenerate eigenvalue has more than one


@dataclass(frozen=True)
class EscapeCertificate:
    """What is known of one point.

    loss: f(X); grad_norm: norm of the gradient, beside `relative_gradient`, which has no unit; hess_min: smallest eigenvalue of the
    unlifted Hessian. direction (n, r): the U of norm 1 along which the order is smallest. p, q, s: see the module.
    min_order: smallest odd order with negative curvature along `direction`; 1: a saddle already; None: at no order up to `MAX_ORDER`.
    verdict: 'global' (the loss is zero), 'escapable', 'not certified' (stationary, no direction found), or 'not stationary'.
    """

    loss: float
    grad_norm: float
    relative_gradient: float
    hess_min: float
    direction: np.ndarray = field(repr=False)
    p: float
    q: float
    s: float
    min_order: int | None
    verdict: Verdict

    def curvature(self, order: int) -> float:
        """D^2 f_l along the lifted direction; infinite where a float cannot hold it, see `curvature_sign_and_log`."""
        sign, size = self.curvature_sign_and_log(order)
        return sign * (math.exp(size) if size < 709 else math.inf) if sign else 0.0

    def curvature_sign_and_log(self, order: int) -> tuple[int, float]:
        """Sign (-1, 0, 1) and natural logarithm of the size of the curvature, for any order."""
        sign, size = _curvature(self.p, self.q, self.s, np.array([_order(order)]))
        return int(sign[0]), float(size[0])

    @property
    def margin(self) -> float:
        """q / max(|p|, s): above 1 an order exists, and the larger the smaller it is. 0 when q <= 0."""
        if self.q <= 0:
            return 0.0
        other = max(abs(self.p), self.s)
        return self.q / other if other > 0 else math.inf


def escape_certificate(
    X: np.ndarray,
    A: object,
    b: object,
    *,
    tol: float = 1e-8,
    gradient_tol: float = 1e-5,
    refine: bool = False,
    max_order: int = MAX_ORDER,
    hessian: bool = True,
) -> EscapeCertificate:
    """Examine one point of min ||A(X X^T) - b||^2 / 2.

    X (n,) or (n, r); A: measurements, see `as_operator`; b (m,). tol: the loss beside |b|^2 below which the point counts as global;
    gradient_tol: relative gradient up to which it counts as stationary. refine: go to the stationary point beside X first.
    hessian: compute `hess_min`, the slowest part when n r is in the thousands; else it is infinite.
    Candidates for the direction are the most negative eigenvectors u of G(X) = A*(A(X X^T) - b), for r > 1 times the row vector that
    makes s smallest. That the best of them is nearly always the best of all was measured, not proved.
    Raises InputError when shapes do not fit.
    """
    operator, values = checked(A, b)
    point = as_factor(X, operator.n)
    problem = BaseProblem(operator, values)
    if refine:
        point = problem.refine(problem.solve(point)[0])
    return certify(problem, point, tol=tol, gradient_tol=gradient_tol, max_order=max_order, hessian=hessian)


def certify(
    problem: BaseProblem,
    X: np.ndarray,
    *,
    tol: float = 1e-8,
    gradient_tol: float = 1e-5,
    max_order: int = MAX_ORDER,
    hessian: bool = True,
) -> EscapeCertificate:
    """`escape_certificate` of a problem that is set up already; without `hessian` its eigenvalue is infinite (not computed)."""
    loss, gradient = problem.value_and_gradient(X)
    relative = problem.relative_gradient(X)
    candidates = [_with_numbers(problem, X, U) for U in _directions(problem, X)]
    orders = [minimal_lifting_order(p, q, s, max_order=max_order) for _, p, q, s in candidates]
    best = min(range(len(orders)), key=lambda i: (orders[i] or math.inf, candidates[i][1] - candidates[i][2]))
    U, p, q, s = candidates[best]
    verdict: Verdict
    if loss <= tol * problem.energy:
        verdict = "global"
    elif relative > gradient_tol:
        verdict = "not stationary"
    else:
        verdict = "escapable" if orders[best] else "not certified"
    return EscapeCertificate(
        loss=loss,
        grad_norm=float(np.linalg.norm(gradient)),
        relative_gradient=relative,
        hess_min=problem.smallest_curvature(X) if hessian else math.inf,
        direction=U,
        p=p,
        q=q,
        s=s,
        min_order=orders[best],
        verdict=verdict,
    )


def minimal_lifting_order(p: float, q: float, s: float, *, odd: bool = True, max_order: int = MAX_ORDER) -> int | None:
    """The smallest order l <= max_order with p^l + 2 s^l < q^l; None when there is none.

    odd: only odd orders, as in the paper's theorem; an even power forgets the signs of p and q. s >= 0.

    >>> eps = 0.3  # three coordinates, the outer two of the wrong sign to each other: see toy.perturbed_matrix_completion
    >>> x2 = (1 - eps**2) / (1 + eps**2)
    >>> p, q, s = x2 * (1 - eps**2), 1 + eps**2, x2
    >>> minimal_lifting_order(p, q, s), minimal_lifting_order(p, q, s, odd=False)
    (5, 4)
    """
    if s < 0:
        raise InputError(f"s is a squared norm and cannot be negative, got {s}")
    orders = np.arange(1, max_order + 1, 2 if odd else 1)
    sign, _ = _curvature(p, q, s, orders)
    below = np.flatnonzero(sign < 0)
    return int(orders[below[0]]) if below.size else None


def as_factor(X: object, n: int) -> np.ndarray:
    """X as floats (n, r). Raises InputError when it is not of n rows."""
    point = np.asarray(X, dtype=float)
    point = point[:, None] if point.ndim == 1 else point
    if point.ndim != 2 or point.shape[0] != n:
        raise InputError(f"a point must be (n,) or (n, r) with n = {n}, got shape {point.shape}")
    if not np.isfinite(point).all():
        raise InputError("a point must hold finite numbers, got NaN or infinity")
    return point


def _directions(problem: BaseProblem, X: np.ndarray) -> list[np.ndarray]:
    """Candidates U (n, r) of norm 1."""
    r = X.shape[1]
    _, vectors = bottom(problem.G(X), N_DIRECTIONS)
    found = []
    for u in vectors.T:
        if r == 1:
            found.append(u[:, None])
            continue
        # s of u e^T is e^T S e with S_ab = <A(x_a u^T), A(x_b u^T)>; p and q do not depend on e
        crossed = np.stack([problem.operator.forward(X[:, [a]], u[:, None]) for a in range(r)])
        found.append(np.outer(u, np.linalg.eigh(crossed @ crossed.T)[1][:, 0]))
    return found


def _with_numbers(problem: BaseProblem, X: np.ndarray, U: np.ndarray) -> tuple[np.ndarray, float, float, float]:
    forward = problem.operator.forward
    along, crossed = forward(U, U), forward(X, U)
    return U, float(forward(X, X) @ along), float(problem.b @ along), float(crossed @ crossed)


def _curvature(p: float, q: float, s: float, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sign and log size of 2 (p^l - q^l + 2 s^l), for orders (k,), without overflow."""
    scale = max(abs(p), abs(q), s)
    if scale == 0:
        return np.zeros(orders.size), np.full(orders.size, -np.inf)
    with np.errstate(under="ignore", divide="ignore"):
        value = 2 * (_power(p / scale, orders) - _power(q / scale, orders) + 2 * _power(s / scale, orders))
        return np.sign(value), np.log(np.abs(value)) + orders * math.log(scale)


def _power(base: float, orders: np.ndarray) -> np.ndarray:
    """base^l with the sign of odd powers."""
    size = np.exp(orders * math.log(abs(base))) if base else np.zeros(orders.size)
    return np.where((orders % 2 == 1) & (base < 0), -size, size)


def _order(order: int) -> int:
    if order != int(order) or order < 1:
        raise InputError(f"the order of lifting is a whole number from 1 on, got {order}")
    return int(order)

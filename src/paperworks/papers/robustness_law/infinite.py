"""The limits at infinite width: kernels as Gaussian means, in closed form where there is one, else by their Hermite series.

With u, v Gaussian of variances q, r and covariance c, the dual of a function g is kappa(q, r, c) = E[g(u) g(v)].
Random features: K = kappa of the activation; tangent features: K = (x . x') kappa of its derivative; both per hidden unit.

Axis letters: m test rows, n training rows, d input columns. q = |x|^2 / d and c = x . x' / d.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from paperworks.papers.robustness_law.activations import Activation, hermite_coefficients
from paperworks.papers.robustness_law.kernels import Kind

TERMS = 60  # of a Hermite series; the terms fall with the powers of the correlation


class Dual(NamedTuple):
    """kappa and its derivatives in c and in q, each (m, n)."""

    value: np.ndarray
    by_c: np.ndarray
    by_q: np.ndarray


def _square(q: np.ndarray, r: np.ndarray, c: np.ndarray) -> Dual:
    return Dual((q * r + 2 * c * c) / 4, c, np.broadcast_to(r / 4, c.shape))


def _identity(q: np.ndarray, r: np.ndarray, c: np.ndarray) -> Dual:
    return Dual(c, np.ones_like(c), np.zeros_like(c))


def _angle(q: np.ndarray, r: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    norm = np.sqrt(q * r)
    return norm, np.arccos(np.clip(c / norm, -1.0, 1.0))


def _relu(q: np.ndarray, r: np.ndarray, c: np.ndarray) -> Dual:
    norm, angle = _angle(q, r, c)  # the arc-cosine kernel of first order
    by_c = (np.pi - angle) / (2 * np.pi)
    value = norm * np.sin(angle) / (2 * np.pi) + c * by_c
    return Dual(value, by_c, (value - c * by_c) / (2 * q))


def _step(q: np.ndarray, r: np.ndarray, c: np.ndarray) -> Dual:
    norm, angle = _angle(q, r, c)  # of order zero; its slope is infinite where x and x' point the same way
    by_c = 1 / (2 * np.pi * np.maximum(norm * np.sin(angle), 1e-12 * norm))
    return Dual((np.pi - angle) / (2 * np.pi), by_c, -c * by_c / (2 * q))


def _erf(q: np.ndarray, r: np.ndarray, c: np.ndarray) -> Dual:
    a, b = 1 + 2 * q, 1 + 2 * r
    root = np.sqrt(a * b - 4 * c * c)
    return Dual(2 / np.pi * np.arcsin(2 * c / np.sqrt(a * b)), 4 / (np.pi * root), -4 * c / (np.pi * a * root))


def _bell(q: np.ndarray, r: np.ndarray, c: np.ndarray) -> Dual:
    b = 1 + 2 * r
    square = (1 + 2 * q) * b - 4 * c * c
    value = 4 / (np.pi * np.sqrt(square))
    return Dual(value, 4 * c * value / square, -b * value / square)


def _cos_or_sin(sign: float) -> Callable[[np.ndarray, np.ndarray, np.ndarray], Dual]:
    def dual(q: np.ndarray, r: np.ndarray, c: np.ndarray) -> Dual:
        plus, minus = np.exp(c - (q + r) / 2) / 2, np.exp(-c - (q + r) / 2) / 2  # |c| <= (q + r) / 2: no overflow
        value = plus + sign * minus
        return Dual(value, plus - sign * minus, -value / 2)

    return dual


CLOSED: dict[tuple[Kind, str], Callable[[np.ndarray, np.ndarray, np.ndarray], Dual]] = {
    ("rf", "square"): _square,
    ("ntk", "square"): _identity,
    ("rf", "relu"): _relu,
    ("ntk", "relu"): _step,
    ("rf", "erf"): _erf,
    ("ntk", "erf"): _bell,
    ("rf", "cos"): _cos_or_sin(1.0),
    ("ntk", "cos"): _cos_or_sin(-1.0),
}


def dual(kind: Kind, act: Activation, q: np.ndarray, r: np.ndarray, c: np.ndarray) -> Dual:
    """The dual of the activation (rf) or of its derivative (ntk): q (m,), r (n,), c (m, n).

    >>> from paperworks.papers.robustness_law.activations import activation
    >>> one = np.ones(1)
    >>> float(dual("rf", activation("square"), one, one, one[None])[0][0, 0])  # E[u^4] / 4
    0.75
    """
    q, r = np.maximum(q, 1e-12), np.maximum(r, 1e-12)  # a row of zeros has no direction
    known = CLOSED.get((kind, act.name))
    if known is not None:
        return known(q[:, None], r[None, :], c)
    return hermite_dual(act.value if kind == "rf" else act.first, q, r, c)


def hermite_dual(
    function: Callable[[np.ndarray], np.ndarray], q: np.ndarray, r: np.ndarray, c: np.ndarray, n_terms: int = TERMS
) -> Dual:
    """The same for any function: sum over j of a_j(q) a_j(r) rho^j with rho = c / sqrt(q r) and a_j its Hermite coefficients.

    What the terms left out would add at rho = 1 is added as one more power, so that the diagonal is exact and the kernel positive.
    """
    root = np.sqrt(q[:, None] * r[None, :])
    rho = np.clip(c / root, -1.0, 1.0)
    left, right = (hermite_coefficients(function, n_terms + 2, np.sqrt(x)) for x in (q, r))
    j = np.arange(n_terms)
    slope_left, slope_right = (a[:, 1 : n_terms + 1] * np.sqrt(j + 1) for a in (left, right))
    bend_left = left[:, 2:] * np.sqrt((j + 1) * (j + 2))
    pairs = [(left, right), (slope_left, slope_right), (bend_left, right)]
    sums = [np.zeros_like(rho) for _ in pairs]
    for term in reversed(range(n_terms)):
        for total, (a, b) in zip(sums, pairs, strict=True):
            total *= rho
            total += a[:, term, None] * b[None, :, term]
    rest_left, rest_right = (_rest(function, x, a[:, :n_terms]) for x, a in ((q, left), (r, right)))
    rest = rest_left[:, None] * rest_right[None, :] * rho ** (n_terms - 1)
    # E[g'(u) g'(v)] and E[g''(u) g(v)] / 2; the coefficients of g' at scale s are those of g shifted, over s
    return Dual(
        sums[0] + rest * rho,
        (sums[1] + n_terms * rest) / root,
        (sums[2] - n_terms * rest * rho) / (2 * q[:, None]),
    )


def _rest(function: Callable[[np.ndarray], np.ndarray], q: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    energy = hermite_coefficients(lambda x: function(x) ** 2, 1, np.sqrt(q))[:, 0]
    return np.sqrt(np.maximum(energy - (coefficients**2).sum(axis=1), 0.0))


def kernel(kind: Kind, act: Activation, Z: np.ndarray, X: np.ndarray) -> np.ndarray:
    """K(Z, X) (m, n) per hidden unit.

    With the square activation: rf (|z|^2 |x|^2 + 2 (z . x)^2) / (4 d^2), ntk (z . x)^2 / d.
    """
    d = X.shape[1]
    inner = Z @ X.T
    value = dual(kind, act, (Z * Z).sum(1) / d, (X * X).sum(1) / d, inner / d).value
    return value * inner if kind == "ntk" else value


def slopes(kind: Kind, act: Activation, Z: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(along_x, along_z), each (m, n), with grad_z K(z, x_i) = along_x[i] x_i + along_z[i] z."""
    d = X.shape[1]
    inner = Z @ X.T
    found = dual(kind, act, (Z * Z).sum(1) / d, (X * X).sum(1) / d, inner / d)
    along_x, along_z = found.by_c / d, 2 * found.by_q / d
    if kind == "ntk":
        along_x, along_z = found.value + inner * along_x, inner * along_z
    return along_x, along_z

"""Sensitivities predicted without data: Gaussian points, labels of mean 0 and variance 1 that know nothing of the points.

Not in the paper: leading-order arithmetic for large n and d with n well below d^2, checked against measurements (README.md). The kernel
per hidden unit acts on the labels like linear * X X^T / d + rest * identity, whose eigenvalues follow Marchenko and Pastur. Three parts
add up in S^2: the gradient through the linear part, what the quadratic part adds, and the chance of the weights, which falls with width.
For even activations this is S^2 = (E[g'^2] / Var g) d n / k + (mu_2^2 / Var g)^2 n / d for random features; for the square activation
2 d n / p + 4 n / d, for random features and tangent kernels alike. The paper's own bounds are in `paper_bounds`.

n training points, d dimensions, k hidden units, p parameters.
"""

from __future__ import annotations

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.robustness_law.activations import Activation, activation, gauss_hermite
from paperworks.papers.robustness_law.kernels import Kind


def predicted_sensitivity(kind: Kind, which: str | Activation, n: int, d: int, width: float = np.inf) -> float:
    """S at a fresh Gaussian point, scale "sqrt_d". Too low when the parameters are not several times n, where the kernel itself fluctuates.

    >>> round(predicted_sensitivity("ntk", "square", n=400, d=1000), 3)  # 2 sqrt(n / d)
    1.265
    """
    if kind not in ("rf", "ntk"):
        raise InputError(f"kind must be 'rf' or 'ntk', got {kind!r}")
    act = activation(which)
    nodes, weights = gauss_hermite(200)
    value, first, second = act.value(nodes), act.first(nodes), act.second(nodes)
    slope_energy = float(weights @ first**2)
    linear = float(weights @ first) ** 2  # mu_1^2, the squared first Hermite coefficient of the activation
    if kind == "rf":
        rest = float(weights @ value**2 - (weights @ value) ** 2) - linear
        quadratic = float(weights @ (value * (nodes**2 - 1))) ** 2  # mu_2^2
    else:
        rest = slope_energy - linear
        quadratic = 2 * float(weights @ (first * nodes)) ** 2  # both terms of the gradient point the same way
    rest = max(rest, 0.0)
    inverse, weighted, squared = _spectral_means(n / d, linear, rest)
    coherent = n * (linear**2 * weighted + quadratic**2 * squared / d)
    if kind == "rf":
        chance = d * n * slope_energy * inverse
    else:
        curvature = float(weights @ second**2)
        chance = n * ((slope_energy + curvature) * inverse - linear**2 * weighted)
    return float(np.sqrt(coherent + chance / width))


def _spectral_means(ratio: float, linear: float, rest: float) -> tuple[float, float, float]:
    """Means over the n eigenvalues x of X X^T / d of 1 / (a x + b), x / (a x + b)^2 and 1 / (a x + b)^2."""
    t = (np.arange(4000) + 0.5) * np.pi / 4000
    x = 1 + ratio + 2 * np.sqrt(ratio) * np.cos(t)
    mass = 2 / 4000 * np.sin(t) ** 2 / x  # sums to min(1, 1 / ratio); the others are zero
    kernel = linear * x + rest
    if rest == 0.0 and ratio >= 1:
        raise InputError("a linear activation cannot interpolate n >= d points")
    zeros = max(0.0, 1 - 1 / ratio)
    at_zero = zeros / rest if zeros else 0.0
    return (
        float(mass @ (1 / kernel)) + at_zero,
        float(mass @ (x / kernel**2)),
        float(mass @ (1 / kernel**2)) + (at_zero / rest if zeros else 0.0),
    )


def paper_bounds(n: int, d: int, width: float) -> dict[str, float]:
    """The orders in the theorems, constants left out.

    rf_lower: n^(1/6), for random features under conditions on the width; ntk_even_upper: log k (1 + sqrt(n / k)), for tangent kernels of
    even activations; universal: sqrt(d n / p) of the tangent kernel, p = d k.
    """
    if not (n > 0 and d > 0 and width > 0):
        raise InputError(f"n, d and width must be positive, got {n}, {d}, {width}")
    return {
        "rf_lower": float(n ** (1 / 6)),
        "ntk_even_upper": float(np.log(width) * (1 + np.sqrt(n / width))),
        "universal": float(np.sqrt(n / width)),
    }

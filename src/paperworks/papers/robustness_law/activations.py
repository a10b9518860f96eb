"""Activations with their first two derivatives, in forms that neither overflow nor cancel, and how even each of them is.

Names: tanh, erf (odd); square (x^2 / 2), cos (even); softplus, relu, gelu. A function of your own gets its derivatives from you or from
`torch.func`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.special import erf, expit, ndtr

from paperworks.errors import InputError, MissingExtra

Elementwise = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Activation:
    """One activation: `value`, `first` and `second` derivative, each elementwise on arrays.

    smooth: False when `second` leaves out jumps of the first derivative (relu).
    """

    name: str
    value: Elementwise
    first: Elementwise
    second: Elementwise
    smooth: bool = True

    def __reduce__(self) -> Any:  # the known ones hold lambdas, which do not pickle
        if ACTIVATIONS.get(self.name) is self:
            return activation, (self.name,)
        return Activation, (self.name, self.value, self.first, self.second, self.smooth)


@dataclass(frozen=True)
class _OfTorch:
    """A derivative of a function on torch tensors, as one on arrays."""

    function: Callable[[Any], Any]
    order: int

    def __call__(self, x: np.ndarray) -> np.ndarray:
        import torch

        derivative = self.function
        for _ in range(self.order):
            derivative = torch.func.grad(derivative)
        flat = torch.as_tensor(np.ascontiguousarray(x).reshape(-1))
        return np.asarray(torch.func.vmap(derivative)(flat).detach().numpy()).reshape(np.shape(x))


def _density(x: np.ndarray) -> np.ndarray:
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi).astype(x.dtype)


def _sech2(x: np.ndarray) -> np.ndarray:
    # 1 - tanh^2 loses all digits beyond |x| = 19, 1 / cosh^2 overflows beyond 355
    small = np.exp(-2 * np.abs(x))
    return 4 * small / (1 + small) ** 2


def _gaussian_bell(x: np.ndarray) -> np.ndarray:
    return 2 / np.sqrt(np.pi).astype(x.dtype) * np.exp(-x * x)


ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        # the second derivative of tanh is -2 tanh (1 - tanh^2); the authors' code has -2 tanh (1 - tanh)
        Activation("tanh", np.tanh, _sech2, lambda x: -2 * np.tanh(x) * _sech2(x)),
        Activation("erf", erf, _gaussian_bell, lambda x: -2 * x * _gaussian_bell(x)),
        Activation("square", lambda x: x * x / 2, lambda x: x, np.ones_like),
        Activation("cos", np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)),
        Activation("softplus", lambda x: np.logaddexp(x.dtype.type(0), x), expit, lambda x: expit(x) * expit(-x)),
        Activation("relu", lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(x.dtype), np.zeros_like, smooth=False),
        Activation(
            "gelu", lambda x: x * ndtr(x), lambda x: ndtr(x) + x * _density(x), lambda x: _density(x) * (2 - x * x)
        ),
    )
}


def activation(which: str | Activation | Callable[[Any], Any]) -> Activation:
    """An activation by its name, as it is, or from a function that works on torch tensors (derivatives through `torch.func`).

    Raises InputError for an unknown name or wrong derivatives, MissingExtra for a function without torch; give the derivatives of a
    NumPy function by `custom`.

    >>> activation("square").first(np.array([3.0]))
    array([3.])
    """
    if isinstance(which, Activation):
        return which
    if isinstance(which, str):
        if which not in ACTIVATIONS:
            raise InputError(
                f"unknown activation {which!r}; known are {', '.join(ACTIVATIONS)}, or give a function or custom(...)"
            )
        return ACTIVATIONS[which]
    if callable(which):
        return _from_torch(which)
    raise InputError(f"an activation is a name, an Activation or a function, got {type(which).__name__}")


def custom(
    name: str, value: Elementwise, first: Elementwise, second: Elementwise, *, smooth: bool = True
) -> Activation:
    """An activation of your own; its derivatives are compared with differences of the function below them.

    smooth: say False when the first derivative jumps; then the second is not compared.
    Raises InputError when a derivative is wrong, or a function does not keep the shape.

    >>> custom("cube", lambda x: x**3, lambda x: 3 * x**2, lambda x: 6 * x).name
    'cube'
    """
    made = Activation(name, value, first, second, smooth)
    check_derivatives(made)
    return made


def check_derivatives(which: Activation) -> None:
    """Compare both derivatives with central differences at points that avoid round numbers. Raises InputError when they differ."""
    points = np.linspace(-2.9, 2.9, 24) + 0.0137
    step = 1e-5  # differences are exact to about step^2 + 1e-16 / step, 1e-10
    pairs = [("first", which.value, which.first)]
    if which.smooth:
        pairs.append(("second", which.first, which.second))
    for order, below, derivative in pairs:
        claimed, high, low = (
            np.asarray(f(x)) for f, x in ((derivative, points), (below, points + step), (below, points - step))
        )
        if claimed.shape != points.shape or high.shape != points.shape:
            raise InputError(
                f"activation {which.name!r} must keep the shape of its input; {points.shape} became {claimed.shape}"
            )
        expected = (high - low) / (2 * step)
        off = np.abs(claimed - expected) > 1e-5 * (1 + np.abs(expected))
        if not np.isfinite(claimed).all() or off.any():
            at = int(np.flatnonzero(off)[0]) if off.any() else 0
            raise InputError(
                f"the {order} derivative of activation {which.name!r} is wrong: at x = {points[at]:.4g} it gives {claimed[at]:.6g}, "
                f"and differences of the function give {expected[at]:.6g}"
            )


def _from_torch(function: Callable[[Any], Any]) -> Activation:
    name = getattr(function, "__name__", type(function).__name__)
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra(f"the derivatives of {name} by torch.func (or give them by custom(...))", "nn")
    made = Activation(name, _OfTorch(function, 0), _OfTorch(function, 1), _OfTorch(function, 2))
    try:
        made.value(np.zeros(2)), made.first(np.zeros(2))
    except (TypeError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{name} does not work on torch tensors ({error}); for a NumPy function give both derivatives by custom(...)"
        ) from error
    return made


@cache
def gauss_hermite(n_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (n,) and weights (n,) that sum to 1, for the mean over a standard Gaussian.

    >>> nodes, weights = gauss_hermite(20)
    >>> round(float(weights @ nodes**4), 9)
    3.0
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    weights /= weights.sum()
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights


def hermite_coefficients(function: Elementwise, n_terms: int, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """E[function(scale s) h_n(s)] over a standard Gaussian s, with h_n the normalised Hermite polynomials.

    scale: a number or (m,) -> (n_terms,) or (m, n_terms).

    >>> hermite_coefficients(lambda x: x**2, 3).round(6) + 0.0
    array([1.      , 0.      , 1.414214])
    """
    nodes, weights = gauss_hermite(max(200, 2 * n_terms))
    table = np.empty((n_terms, nodes.size))
    table[0] = 1.0
    if n_terms > 1:
        table[1] = nodes
    for n in range(2, n_terms):
        table[n] = (nodes * table[n - 1] - np.sqrt(n - 1) * table[n - 2]) / np.sqrt(n)
    scales = np.asarray(scale, dtype=np.float64)
    return np.asarray(function(scales[..., None] * nodes) * weights @ table.T)


def parity_index(which: str | Activation | Callable[[Any], Any], *, scale: float = 1.0) -> float:
    """Share of an activation's Gaussian energy in its even part: 1 for even, 0 for odd functions; NaN for the zero function.

    scale: standard deviation of what goes into the activation, 1 by default.

    >>> [round(parity_index(name), 6) for name in ("square", "cos", "tanh", "relu")]
    [1.0, 1.0, 0.0, 0.5]
    """
    if not scale > 0:
        raise InputError(f"scale must be positive, got {scale}")
    act = activation(which)
    nodes, weights = gauss_hermite(200)
    right, left = act.value(scale * nodes), act.value(-scale * nodes)
    energy = float(weights @ right**2)
    return float(weights @ ((right + left) / 2) ** 2) / energy if energy > 0 else float("nan")

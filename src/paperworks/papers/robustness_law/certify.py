"""A bound that holds around a point, for small fully connected networks: intervals through the layers bound the margin's slope.

For every input within `radius` of z (Euclidean), each hidden value lies in an interval, each activation's slope too, and so does every
entry of the Jacobian; the norm of the largest entries bounds the slope of the margin. Loose for wide or deep networks, which is why a
gradient at z is not a certificate and this is. Rounding errors of the arithmetic are not accounted for.

Axis letters: d inputs, h units of a layer, o outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.robustness_law.activations import ACTIVATIONS, Activation


class Layer(NamedTuple):
    """x -> act(x weight + bias): weight (d, h), bias (h,); act None is the identity."""

    weight: np.ndarray
    bias: np.ndarray
    act: Activation | None


_LOGISTIC = Activation(
    "logistic",
    lambda x: 1 / (1 + np.exp(-np.clip(x, -700, 700))),
    lambda x: np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))) ** 2,
    lambda x: np.zeros_like(x),
)
# where value and first derivative turn: between these points, and the ends, both are monotone. relu's slope is handled by its jump.
_TURNS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "tanh": ((), (0.0,)),
    "erf": ((), (0.0,)),
    "square": ((0.0,), ()),
    "softplus": ((), ()),
    "relu": ((), ()),
    "gelu": ((-0.7517915246935645,), (-np.sqrt(2.0), np.sqrt(2.0))),
    "logistic": ((), (0.0,)),
}


def layers_of(model: Any) -> list[Layer] | None:
    """The layers of a torch Sequential of Linear and known activations (Flatten, Dropout, Identity pass), or of a fitted scikit-learn
    MLP or linear model; None when it is something else. A classifier with one output gets the outputs (0, f)."""
    if hasattr(model, "coefs_") and hasattr(model, "intercepts_"):
        name = {"identity": None, "logistic": "logistic", "tanh": "tanh", "relu": "relu"}.get(model.activation, "")
        if name == "":
            return None
        act = None if name is None else _named(name)
        last = len(model.coefs_) - 1
        found = [
            Layer(w, b, act if i < last else None)
            for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True))
        ]
        return _two_outputs(found) if hasattr(model, "classes_") and found[-1].bias.size == 1 else found
    if hasattr(model, "coef_") and hasattr(model, "intercept_") and not hasattr(model, "support_vectors_"):
        coef = np.atleast_2d(model.coef_)
        bias = np.broadcast_to(np.atleast_1d(model.intercept_), coef.shape[:1])
        found = [Layer(coef.T.astype(float), np.array(bias, dtype=float), None)]
        return _two_outputs(found) if hasattr(model, "classes_") and coef.shape[0] == 1 else found
    return _of_torch(model)


def _named(name: str) -> Activation:
    return _LOGISTIC if name == "logistic" else ACTIVATIONS[name]


def _two_outputs(layers: list[Layer]) -> list[Layer]:
    last = layers[-1]
    weight = np.concatenate([np.zeros_like(last.weight), last.weight], axis=1)
    return [*layers[:-1], Layer(weight, np.concatenate([np.zeros(1), last.bias]), last.act)]


def _of_torch(model: Any) -> list[Layer] | None:
    children = list(getattr(model, "children", list)())
    if type(model).__name__ not in ("Sequential", "Linear"):
        return None
    if type(model).__name__ == "Linear":
        children = [model]
    known = {"Tanh": "tanh", "ReLU": "relu", "Softplus": "softplus", "GELU": "gelu", "Sigmoid": "logistic"}
    found: list[Layer] = []
    for child in children:
        kind = type(child).__name__
        if kind == "Linear":
            weight = child.weight.detach().cpu().double().numpy().T
            bias = np.zeros(weight.shape[1]) if child.bias is None else child.bias.detach().cpu().double().numpy()
            found.append(Layer(weight, bias, None))
        elif kind in ("Flatten", "Dropout", "Identity"):
            continue
        elif kind in known and found and found[-1].act is None:
            plain = (getattr(child, "approximate", "none") == "none") and getattr(child, "beta", 1) == 1
            if not plain:
                return None
            found[-1] = found[-1]._replace(act=_named(known[kind]))
        else:
            return None
    return found or None


def _range(
    function: Callable[[np.ndarray], np.ndarray], turns: Sequence[float], low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    candidates = [function(low), function(high)]
    for turn in turns:
        inside = (low < turn) & (turn < high)
        candidates.append(np.where(inside, function(np.array([turn]))[0], candidates[0]))
    return np.min(candidates, axis=0), np.max(candidates, axis=0)


def margin_slopes(layers: list[Layer], z: np.ndarray, label: int, radius: float) -> np.ndarray:
    """For every other output j, a bound on |grad (f_label - f_j)| within `radius` of z (d,): (o,), with 0 at the label.

    The Jacobian is followed from the output back, as the interval of each entry of the margins' gradient in each layer's input.
    """
    intervals = []
    low = high = z
    for index, layer in enumerate(layers):
        if index == 0:  # exact for a ball: the row norm times the radius
            centre = z @ layer.weight + layer.bias
            reach = radius * np.linalg.norm(layer.weight, axis=0)
        else:
            centre = (low + high) / 2 @ layer.weight + layer.bias
            reach = ((high - low) / 2) @ np.abs(layer.weight)
        low, high = centre - reach, centre + reach
        if layer.act is None:
            intervals.append((np.ones_like(low), np.ones_like(low)))
            continue
        turns_value, turns_slope = _TURNS[layer.act.name]
        if layer.act.name == "relu":
            intervals.append(((low > 0).astype(float), (high > 0).astype(float)))
        else:
            intervals.append(_range(layer.act.first, turns_slope, low, high))
        low, high = _range(layer.act.value, turns_value, low, high)
    n_outputs = layers[-1].bias.size
    centre = np.eye(n_outputs)[label][:, None] - np.eye(n_outputs)  # (o, o): column j is the margin over output j
    reach = np.zeros_like(centre)
    for layer, (slope_low, slope_high) in zip(reversed(layers), reversed(intervals), strict=True):
        mid, half = ((slope_low + slope_high) / 2)[:, None], ((slope_high - slope_low) / 2)[:, None]
        reach = np.abs(centre) * half + reach * (np.abs(mid) + half)
        centre = centre * mid
        centre, reach = layer.weight @ centre, np.abs(layer.weight) @ reach
    return np.linalg.norm(np.abs(centre) + reach, axis=0)


def forward(layers: list[Layer], Z: np.ndarray) -> np.ndarray:
    """The outputs, (m, d) -> (m, o)."""
    for layer in layers:
        Z = Z @ layer.weight + layer.bias
        if layer.act is not None:
            Z = layer.act.value(Z)
    return Z


def gradients(layers: list[Layer], Z: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Gradients of directions . f at each row: Z (m, d), directions (m, o) -> (m, d)."""
    slopes = []
    for layer in layers:
        Z = Z @ layer.weight + layer.bias
        slopes.append(None if layer.act is None else layer.act.first(Z))
        Z = Z if layer.act is None else layer.act.value(Z)
    back = directions
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=True):
        back = (back if slope is None else back * slope) @ layer.weight.T
    return back


def certified_radius(layers: list[Layer], z: np.ndarray, *, limit: float = 1e6, steps: int = 40) -> float:
    """The largest radius found within which the predicted class provably stays: every margin exceeds slope * radius. 0 when none.

    z (d,). Found by bisection on a logarithmic scale; inf when even `limit` holds.

    >>> plane = [Layer(np.array([[0.0, 3.0], [0.0, 4.0]]), np.zeros(2), None)]  # the class turns where 3 x + 4 y = 0
    >>> round(certified_radius(plane, np.array([1.0, 0.0])), 6)
    0.6
    """
    z = np.asarray(z, dtype=np.float64).ravel()
    if z.size != layers[0].weight.shape[0]:
        raise InputError(f"the network takes {layers[0].weight.shape[0]} inputs, got {z.size}")
    outputs = forward(layers, z[None])[0]
    label = int(outputs.argmax())
    margins = outputs[label] - outputs
    others = np.arange(outputs.size) != label

    def holds(radius: float) -> bool:
        return bool((margins[others] > margin_slopes(layers, z, label, radius)[others] * radius).all())

    if outputs.size < 2:
        raise InputError("a certified radius is of a class; the network has one output")
    if holds(limit):
        return float("inf")
    low, high = 0.0, limit
    start = 1e-9
    if not holds(start):
        return 0.0
    low = start
    for _ in range(steps + 20):
        mid = np.sqrt(low * high) if high > 2 * low else (low + high) / 2
        low, high = (mid, high) if holds(mid) else (low, mid)
    return float(low)

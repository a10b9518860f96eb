"""Kernels of random features and of the tangent features of a two-layer net, without ever building the features.

The first layer's weights are drawn block by block from the seed, so that a second pass draws them again instead of keeping them.
The limits at infinite width are in `infinite.py`.

Axis letters: n training rows, m test rows, d input columns, k hidden units.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.robustness_law.activations import Activation
from paperworks.progress import Progress, silent, size

Kind = Literal["rf", "ntk"]
BLOCK = 1024  # columns that one generator draws; a constant, so that the weights do not hang on the chunk
KEEP_BYTES = 128 * 1024**2  # weights up to this size are kept between passes


class Weights:
    """W (d, k) with entries N(0, 1/d), given out in chunks of columns; the same for every chunk size.

    seed: an integer; dtype: float32 or float64; chunk: about how many columns at a time.
    """

    def __init__(self, d: int, k: int, seed: int, dtype: Any = np.float64, chunk: int = 8192) -> None:
        if k < 1:
            raise InputError(f"width must be at least 1, got {k}")
        if chunk < 1:
            raise InputError(f"chunk must be at least 1, got {chunk}")
        self.d, self.k, self.seed, self.dtype = d, k, seed, np.dtype(dtype)
        self._per_chunk = max(1, round(chunk / BLOCK))
        self._kept: dict[int, np.ndarray] | None = {} if d * k * self.dtype.itemsize <= KEEP_BYTES else None

    def chunks(self, progress: Progress = silent) -> Iterator[tuple[slice, np.ndarray]]:
        """The columns' slice and W[:, slice], from left to right."""
        n_blocks = -(-self.k // BLOCK)
        for start in range(0, n_blocks, self._per_chunk):
            part = self._kept.get(start) if self._kept is not None else None
            if part is None:
                part = self._draw(start, min(start + self._per_chunk, n_blocks)).T
                if self._kept is not None:
                    self._kept[start] = part
            columns = slice(start * BLOCK, start * BLOCK + part.shape[1])
            yield columns, part
            progress(columns.stop, self.k, "hidden units")

    def _draw(self, first: int, last: int) -> np.ndarray:
        rows = np.empty((min(last * BLOCK, self.k) - first * BLOCK, self.d), dtype=self.dtype)
        scale = 1 / np.sqrt(self.d)
        for index in range(first, last):
            block = rows[(index - first) * BLOCK : (index - first + 1) * BLOCK]
            np.random.default_rng([self.seed, index]).standard_normal(dtype=self.dtype, out=block)
            block *= self.dtype.type(scale)  # while it is in the cache
        return rows


def check_bytes(n: int, max_bytes: int, itemsize: int = 8) -> None:
    """Refuse a kernel (n, n) that is too large. Raises InputError with its size."""
    needed = 2 * n * n * itemsize  # the kernel, and its decomposition
    if needed > max_bytes:
        raise InputError(
            f"the kernel of {n:,} rows and its decomposition need {size(needed)}, and max_bytes allows {size(max_bytes)}; "
            "use fewer rows or raise max_bytes"
        )


def gram(
    kind: Kind,
    X: np.ndarray,
    weights: Weights,
    act: Activation,
    progress: Progress = silent,
    keep: list[np.ndarray] | None = None,
) -> np.ndarray:
    """Phi Phi^T (n, n) in float64. rf: F F^T with F = act(X W). ntk: (X X^T) * (D D^T) with D = act'(X W).

    keep: takes the chunks of F or D, unless all of them are more than KEEP_BYTES.
    """
    function = act.value if kind == "rf" else act.first
    K = np.zeros((X.shape[0],) * 2)
    small = X.shape[0] * weights.k * X.itemsize <= KEEP_BYTES
    for _, W in weights.chunks(progress):
        part = function(X @ W)
        K += part @ part.T
        if keep is not None and small:
            keep.append(part)
    if kind == "ntk":
        K *= X @ X.T
    return K


def features(kind: Kind, X: np.ndarray, weights: Weights, act: Activation) -> np.ndarray:
    """Phi (n, p) itself; only where p < n, so that it is smaller than the kernel. ntk: column i * k + j is x_i act'(w_j . x)."""
    W = np.concatenate([part for _, part in weights.chunks()], axis=1)
    if kind == "rf":
        return act.value(X @ W)
    return (X[:, :, None] * act.first(X @ W)[:, None, :]).reshape(X.shape[0], -1)


def ntk_primal_gradients(Z: np.ndarray, theta: np.ndarray, weights: Weights, act: Activation) -> np.ndarray:
    """sum over j of theta_j act'(w_j . z) + (theta_j . z) act''(w_j . z) w_j, with theta (d * k, o): (m, o, d)."""
    W = np.concatenate([part for _, part in weights.chunks()], axis=1)
    slopes, bends = act.first(Z @ W), act.second(Z @ W)
    tables = [column.reshape(Z.shape[1], -1) for column in theta.T]
    return np.stack([slopes @ table.T + (bends * (Z @ table)) @ W.T for table in tables], axis=1)


def rf_coefficients(
    X: np.ndarray, dual: np.ndarray, weights: Weights, act: Activation, kept: list[np.ndarray]
) -> np.ndarray:
    """theta = F^T a: dual (n, o) -> (k, o). kept: the chunks of F, if `gram` kept them."""
    if kept:
        return np.concatenate([part.T @ dual for part in kept])
    theta = np.empty((weights.k, dual.shape[1]), dtype=X.dtype)
    for columns, W in weights.chunks():
        theta[columns] = act.value(X @ W).T @ dual
    return theta


def rf_outputs(Z: np.ndarray, theta: np.ndarray, weights: Weights, act: Activation) -> np.ndarray:
    """f(Z) = act(Z W) theta, (m, o)."""
    out = np.zeros((Z.shape[0], theta.shape[1]), dtype=Z.dtype)
    for columns, W in weights.chunks():
        out += act.value(Z @ W) @ theta[columns]
    return out


def rf_gradients(Z: np.ndarray, theta: np.ndarray, weights: Weights, act: Activation) -> np.ndarray:
    """W (act'(W^T z) * theta) for each row z and output: (m, o, d)."""
    grad = np.zeros((Z.shape[0], theta.shape[1], Z.shape[1]), dtype=Z.dtype)
    for columns, W in weights.chunks():
        slopes = act.first(Z @ W)
        for o in range(theta.shape[1]):
            grad[:, o] += (slopes * theta[columns, o]) @ W.T
    return grad


def ntk_outputs(Z: np.ndarray, X: np.ndarray, dual: np.ndarray, weights: Weights, act: Activation) -> np.ndarray:
    """f(Z) = ((Z X^T) * (H D^T)) a with H = act'(Z W), (m, o)."""
    cross = np.zeros((Z.shape[0], X.shape[0]), dtype=Z.dtype)
    for _, W in weights.chunks():
        cross += act.first(Z @ W) @ act.first(X @ W).T
    return (cross * (Z @ X.T)) @ dual


def ntk_gradients(Z: np.ndarray, X: np.ndarray, dual: np.ndarray, weights: Weights, act: Activation) -> np.ndarray:
    """X^T (a * (D h)) + W (act''(W^T z) * (D^T (a * (X z)))) for each row z and output: (m, o, d)."""
    grad = np.zeros((Z.shape[0], dual.shape[1], Z.shape[1]), dtype=Z.dtype)
    inner = Z @ X.T  # (m, n)
    cross = np.zeros_like(inner)
    for _, W in weights.chunks():
        at_z, D = Z @ W, act.first(X @ W)
        cross += act.first(at_z) @ D.T
        curves = act.second(at_z)
        for o in range(dual.shape[1]):
            grad[:, o] += (curves * ((inner * dual[:, o]) @ D)) @ W.T
    for o in range(dual.shape[1]):
        grad[:, o] += (cross * dual[:, o]) @ X
    return grad

"""First-order descent for many starts at once, with the paper's settings as defaults: Adam, step 0.02, 2,000 steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.progress import Progress, silent

Optimizer = Literal["adam", "gd"]
Init = Literal["gaussian", "symmetrized", "rank1"]
ValueAndGradient = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass
class Descent:
    """Where the points (B, N) ended, with loss and gradient norm (B,), steps taken (B,), and the mean loss of every step."""

    points: np.ndarray
    loss: np.ndarray
    gradient_norm: np.ndarray
    steps: np.ndarray
    history: list[float] = field(default_factory=list)


def descend(
    value_and_gradient: ValueAndGradient,
    points: np.ndarray,
    *,
    optimizer: Optimizer = "adam",
    lr: float = 0.02,
    max_iter: int = 2000,
    loss_tol: float = 1e-6,
    gradient_tol: float = 1e-5,
    progress: Progress = silent,
) -> Descent:
    """Descend from every row of points (B, N), each until its loss or its gradient norm is below its tolerance.

    The authors' code stops at the same values. Adam's means decay by 0.9 and 0.999. Input is not overwritten.
    """
    if optimizer not in ("adam", "gd"):
        raise InputError(f"optimizer must be 'adam' or 'gd', got {optimizer!r}")
    points = np.array(points, dtype=float)
    loss, gradient = value_and_gradient(points)
    size = np.linalg.norm(gradient, axis=1)
    steps = np.zeros(len(points), dtype=int)
    history = [float(loss.mean())]
    first, second = np.zeros_like(points), np.zeros_like(points)
    active = np.flatnonzero((loss >= loss_tol) & (size >= gradient_tol))
    for step in range(1, max_iter + 1):
        if not active.size:
            break
        g = gradient[active]
        if optimizer == "adam":
            first[active] = 0.9 * first[active] + 0.1 * g
            second[active] = 0.999 * second[active] + 0.001 * g * g
            corrected = np.sqrt(second[active] / (1 - 0.999**step)) + 1e-8
            points[active] -= lr * first[active] / (1 - 0.9**step) / corrected
        else:
            points[active] -= lr * g
        steps[active] = step
        loss[active], gradient[active] = value_and_gradient(points[active])
        size[active] = np.linalg.norm(gradient[active], axis=1)
        history.append(float(loss.mean()))
        if not np.isfinite(loss[active]).all():
            raise InputError(
                f"the loss grew without bound at step {step} with lr = {lr}; take a smaller lr, or scale b to norm about 1"
            )
        active = active[(loss[active] >= loss_tol) & (size[active] >= gradient_tol)]
        progress(step, max_iter)
    return Descent(points, loss, size, steps, history)


def starts(rng: np.random.Generator, count: int, n: int, order: int, scale: float, init: Init) -> np.ndarray:
    """Random starting tensors, flat (count, n^l), of norm about `scale`.

    'gaussian': independent entries, as in the authors' code; 'symmetrized': the same, averaged over all orders of the axes;
    'rank1': the power of a Gaussian vector, as in the authors' follow-up, arXiv 2310.15549.
    """
    from paperworks.papers.lifting.tensor import symmetrized

    if init == "rank1":
        vectors = rng.standard_normal((count, n)) / np.sqrt(n)
        out = vectors
        for _ in range(order - 1):
            out = (out[:, :, None] * vectors[:, None, :]).reshape(count, -1)
        return scale * out
    if init not in ("gaussian", "symmetrized"):
        raise InputError(f"init must be 'gaussian', 'symmetrized' or 'rank1', got {init!r}")
    w = rng.standard_normal((count, n**order)) / np.sqrt(n**order)
    if init == "symmetrized":
        w = np.stack([symmetrized(one.reshape((n,) * order)).ravel() for one in w])
    return scale * w

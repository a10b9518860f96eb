"""The size of a change of the input that flips the answer, by search: along the gradient, towards other points, and by a short PGD.

What is found is an upper bound on the distance to the nearest flip: a nearer one may exist. Axis letters: m points, d entries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Changed = Callable[[np.ndarray, np.ndarray], np.ndarray]  # points (m, d), ids (m,) -> whether each answer has changed
Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of the margin of the first answer, (m, d)

_BISECTIONS = 20


def bisect(points: np.ndarray, ends: np.ndarray, changed: Changed, ids: np.ndarray) -> np.ndarray:
    """Ends (m, d) whose answers have changed, drawn towards the points as far as they stay changed along the segment."""
    low, high = np.zeros(ids.size), np.ones(ids.size)
    for _ in range(_BISECTIONS):
        mid = (low + high) / 2
        moved = changed(points + mid[:, None] * (ends - points), ids)
        high, low = np.where(moved, mid, high), np.where(moved, low, mid)
    return points + high[:, None] * (ends - points)


def flip_search(
    points: np.ndarray,
    changed: Changed,
    gradient: Gradient | None,
    first: np.ndarray,
    others: np.ndarray | None,
    *,
    n_rounds: int = 4,
    n_steps: int = 10,
) -> np.ndarray:
    """The smallest flip found of each point, as its distance (m,); infinity where none was.

    first (m, d): the margin's gradients at the points; gradient: for the PGD, None leaves it out.
    others (m, d) or None: for each point some point that is answered differently.
    """
    m = points.shape[0]
    best, distance = points.copy(), np.full(m, np.inf)

    def take(ends: np.ndarray, ids: np.ndarray) -> None:
        if not ids.size:
            return
        hit = changed(ends, ids)
        ids_hit = ids[hit]
        if not ids_hit.size:
            return
        found = bisect(points[ids_hit], ends[hit], changed, ids_hit)
        far = np.linalg.norm(found - points[ids_hit], axis=1)
        nearer = far < distance[ids_hit]
        best[ids_hit[nearer]], distance[ids_hit[nearer]] = found[nearer], far[nearer]

    everyone = np.arange(m)
    if others is not None:
        take(others, everyone)
    norms = np.linalg.norm(first, axis=1)
    sized = np.linalg.norm(points, axis=1)
    reach = np.where(sized > 0, sized, 1.0)
    down = -np.divide(first, norms[:, None], out=np.zeros_like(first), where=norms[:, None] > 0)
    waiting = np.flatnonzero(norms > 0)
    for exponent in range(-10, 2):  # from a thousandth of the point's size to twice its size
        if not waiting.size:
            break
        ends = points[waiting] + (2.0**exponent * reach[waiting])[:, None] * down[waiting]
        hit = changed(ends, waiting)
        take(ends[hit], waiting[hit])
        waiting = waiting[~hit]
    if gradient is None:
        return distance
    share = np.full(m, 0.9)  # of the distance so far, the ball that is searched; nearer to 1 where nothing was found
    for _ in range(n_rounds):
        ids = np.flatnonzero(np.isfinite(distance) & (distance > 0))
        if not ids.size:
            break
        radius = share[ids] * distance[ids]
        moved = points[ids] + share[ids, None] * (best[ids] - points[ids])
        done = np.zeros(ids.size, dtype=bool)
        for step in range(n_steps):
            grads = gradient(moved, ids)
            size = np.linalg.norm(grads, axis=1, keepdims=True)
            down = -np.divide(grads, size, out=np.zeros_like(grads), where=size > 0)
            offset = moved - points[ids] + (radius / (2 + step))[:, None] * down
            length = np.linalg.norm(offset, axis=1)
            offset *= np.minimum(1.0, radius / np.maximum(length, 1e-300))[:, None]
            moved = np.where(done[:, None], moved, points[ids] + offset)
            done |= changed(moved, ids)
            if done.all():
                break
        share[ids[~done]] = (1 + share[ids[~done]]) / 2
        take(moved[done], ids[done])
    return distance

"""An orthogonal rotation that costs d log d, for the sign bits of a query.

A dense random rotation of one query costs d^2 multiplications and reads a d x d matrix (0.6 MB at d = 384), more than
the whole first pass over a few thousand rows. Here signs are flipped at random, then a Walsh-Hadamard transform mixes
the largest power of two of the dimensions, then the two halves are mixed pairwise; four rounds, from either end in turn.
Sign bits after it lose as little as after a dense rotation (test_rotation).
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAST: set[str] = {"reassoc", "contract", "nsz", "arcp"}  # vectorise sums; infinities and NaN keep their meaning
ROUNDS = 4


def draw_flips(d: int, seed: int) -> np.ndarray:
    """Random signs of the rounds, float32 (4, d) of -1 and 1."""
    return np.random.default_rng([seed, 77]).choice(np.array([-1, 1], np.float32), (ROUNDS, d))


@njit(cache=True, nogil=True, fastmath=FAST)
def _hadamard(values: np.ndarray) -> None:
    size = values.shape[0]
    step = 1
    while step < size:
        for start in range(0, size, 2 * step):
            first = values[start : start + step]
            second = values[start + step : start + 2 * step]
            for j in range(step):
                a, b = first[j], second[j]
                first[j] = a + b
                second[j] = a - b
        step *= 2


@njit(cache=True, nogil=True, fastmath=FAST)
def rotate(vector: np.ndarray, flips: np.ndarray, out: np.ndarray) -> None:
    """Rotate one vector float32 (d,) into `out` float32 (d,); lengths and angles stay."""
    d = vector.shape[0]
    power = 1
    while power * 2 <= d:
        power *= 2
    scale = np.float32(1 / np.sqrt(power))
    root = np.float32(np.sqrt(0.5))
    out[:] = vector
    for turn in range(flips.shape[0]):
        start = 0 if turn % 2 == 0 else d - power
        row = flips[turn]
        for j in range(d):
            out[j] *= row[j]
        part = out[start : start + power]
        _hadamard(part)
        for j in range(power):
            part[j] *= scale
        if power < d:
            half = d // 2
            left, right = out[:half], out[d - half :]
            for j in range(half):
                a, b = left[j], right[j]
                left[j] = (a + b) * root
                right[j] = (a - b) * root


@njit(cache=True, nogil=True)
def rotate_rows(vectors: np.ndarray, flips: np.ndarray, out: np.ndarray) -> None:
    """Rotate every row of `vectors` float32 (n, d) into `out` float32 (n, d)."""
    for i in range(vectors.shape[0]):
        rotate(vectors[i], flips, out[i])

"""Sign bits of residuals to list centres, with the two numbers a row that turn them into a distance estimate.

For a row x of the list with centre c, all centred and rotated: r = x - c, bits sign(r_j), factor 2 a with a = |r|^2 / |r|_1,
and add = |r|^2 + 2 a S(c), S(v) = sum_j sign(r_j) v_j. Then |q - x|^2 ~ |q - c|^2 + add - factor S(q).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def residual_signs(
    turned: np.ndarray, labels: np.ndarray, centres: np.ndarray, signs: np.ndarray, add: np.ndarray, factor: np.ndarray
) -> None:
    """turned float32 (n, d), labels int (n,), centres float32 (l, d) -> signs uint64 (n, w), add and factor float32 (n,)."""
    d = turned.shape[1]
    for i in range(turned.shape[0]):
        centre = centres[labels[i]]
        length = spread = at_centre = 0.0
        for w in range(signs.shape[1]):
            word = np.uint64(0)
            for j in range(64 * w, min(64 * w + 64, d)):
                value = turned[i, j] - centre[j]
                length += value * value
                spread += abs(value)
                if value > 0:
                    word |= np.uint64(1) << np.uint64(j - 64 * w)
                    at_centre += centre[j]
                else:
                    at_centre -= centre[j]
            signs[i, w] = word
        share = length / spread if spread > 0 else 0.0
        add[i] = length + 2 * share * at_centre
        factor[i] = 2 * share


@njit(cache=True, nogil=True)
def spread_of_lists(turned: np.ndarray, starts: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Root mean square distance of the rows of each list to its centre, float32 (l,); rows contiguous by list."""
    out = np.zeros(centres.shape[0], np.float32)
    for one in range(centres.shape[0]):
        total = 0.0
        for i in range(starts[one], starts[one + 1]):
            for j in range(turned.shape[1]):
                difference = turned[i, j] - centres[one, j]
                total += difference * difference
        if starts[one + 1] > starts[one]:
            out[one] = np.sqrt(total / (starts[one + 1] - starts[one]))
    return out

"""Make rows of probabilities rise: P(y <= t) cannot fall as t grows, but S separately fitted classifiers do not know that.

n rows, S thresholds. Isotonic regression of each row by pooling adjacent violators, all rows in one compiled pass.
"""

from __future__ import annotations

from typing import Any, Literal

import numba
import numpy as np

from paperworks.errors import InputError


def rising_rows(rows: np.ndarray, method: Literal["pav", "envelope"] = "pav") -> np.ndarray:
    """The nearest rows that never fall, rows (n, S) -> (n, S) float64; the input is left as it is.

    'pav': nearest in squared distance (isotonic regression). 'envelope': the mean of the running maximum from the left and the
    running minimum from the right, cheaper and further away. Rows that rise already come back unchanged.

    >>> rising_rows(np.array([[0.1, 0.5, 0.3, 0.9]]))
    array([[0.1, 0.4, 0.4, 0.9]])
    """
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2:
        raise InputError(f"rows must be an array (n, S), got shape {rows.shape}")
    if method == "envelope":
        up = np.maximum.accumulate(rows, axis=1)
        down = np.minimum.accumulate(rows[:, ::-1], axis=1)[:, ::-1]
        return (up + down) / 2
    if method != "pav":
        raise InputError(f"method must be 'pav' or 'envelope', got {method!r}")
    return np.asarray(_pool(np.ascontiguousarray(rows)))


@numba.njit(cache=True)
def _pool(rows: Any) -> Any:
    n, width = rows.shape
    out = np.empty_like(rows)
    mean = np.empty(width)
    count = np.empty(width, dtype=np.int64)
    for i in range(n):
        blocks = 0
        for j in range(width):
            mean[blocks] = rows[i, j]
            count[blocks] = 1
            blocks += 1
            while blocks > 1 and mean[blocks - 2] > mean[blocks - 1]:
                total = count[blocks - 2] + count[blocks - 1]
                # a step from the left mean: equal values stay exactly equal, unlike a weighted sum
                step = (mean[blocks - 1] - mean[blocks - 2]) * (count[blocks - 1] / total)
                mean[blocks - 2] += step
                count[blocks - 2] = total
                blocks -= 1
        j = 0
        for block in range(blocks):
            for _ in range(count[block]):
                out[i, j] = mean[block]
                j += 1
    return out

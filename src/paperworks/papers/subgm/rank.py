"""Read the rank off a spectrum: the largest gap between neighbours, among values that are not noise."""

from __future__ import annotations

import numpy as np

FLOOR = 1e-14  # of the largest: what double precision can tell from zero
LEAST = 1e-4  # of the largest: a smaller value does not count as signal by the gap alone


def read_rank(values: np.ndarray, known: int | None = None) -> tuple[int, float]:
    """Rank and the ratio of the values on the two sides of the gap; values (k,) descending.

    >>> read_rank(np.array([3.0, 1.0, 1e-9, 1e-10]))[0]
    2
    """
    if values.size == 0 or values[0] <= 0:
        return 0, float("nan")
    padded = np.maximum(np.append(values, 0.0) / values[0], FLOOR)
    ratios = padded[:-1] / padded[1:]
    if known is not None:
        rank = min(known, values.size)
    else:
        signal = padded[:-1] >= LEAST
        if values.size > 1:
            # the pad says nothing about a gap: only if every value is large is the search rank itself the rank
            signal[-1] &= bool(padded[-2] > 1e-2)
        rank = int(np.argmax(np.where(signal, ratios, 0.0))) + 1
    return rank, float(ratios[rank - 1])


def candidates(values: np.ndarray, rank: int, clear: float = 1e6) -> list[int]:
    """Ranks worth a trial: the one read off alone if its gap is clear, otherwise its neighbours and the second largest gap."""
    if rank == 0:
        return [0]
    relative = np.maximum(values / values[0], FLOOR)
    if rank < values.size and relative[rank - 1] / relative[rank] >= clear:
        return [rank]
    ratios = np.where(relative[:-1] >= LEAST / 10, relative[:-1] / relative[1:], 0.0)
    ratios[rank - 1 : rank] = 0.0
    options = {rank - 1, rank, rank + 1}
    if ratios.size and ratios.max() > 3:
        options.add(int(np.argmax(ratios)) + 1)
    return sorted(option for option in options if 1 <= option <= values.size)

"""How many bits each dimension gets from the budget of one vector (step 4)."""

from __future__ import annotations

import heapq

import numpy as np

from paperworks.errors import InputError


def greedy_bits(variance: np.ndarray, budget: int, cap: int = 8) -> np.ndarray:
    """One bit at a time to the dimension with the largest remaining error; the error falls to a quarter with each.

    variance (d,) of each dimension, >= 0, any order -> bits (d,) uint8 with sum exactly `budget`, none above `cap`. A dimension
    at the cap leaves the race, so no bit is lost; ties go to the earlier dimension. InputError when budget > d * cap.

    >>> greedy_bits(np.array([16.0, 4.0, 1.0, 0.0]), budget=6).tolist()
    [3, 2, 1, 0]
    """
    energy = np.asarray(variance, dtype=np.float64)
    _check(len(energy), budget, cap)
    if not (np.isfinite(energy).all() and (energy >= 0).all()):
        raise InputError("variances must be finite and not negative")
    bits = np.zeros(len(energy), dtype=np.uint8)
    race = [(-e, j) for j, e in enumerate(energy.tolist())]
    heapq.heapify(race)
    for _ in range(budget):
        negative, j = race[0]
        bits[j] += 1
        if bits[j] == cap:
            heapq.heappop(race)
        else:
            heapq.heapreplace(race, (negative / 4, j))
    return bits


def uniform_bits(d: int, budget: int, cap: int = 8) -> np.ndarray:
    """The same number of bits everywhere (ablation); what does not divide goes to the first dimensions. bits (d,) uint8.

    >>> uniform_bits(4, budget=6).tolist()
    [2, 2, 1, 1]
    """
    _check(d, budget, cap)
    bits = np.full(d, budget // d, dtype=np.uint8)
    bits[: budget % d] += 1
    return bits


def _check(d: int, budget: int, cap: int) -> None:
    if d < 1:
        raise InputError("bits are shared among at least one dimension, got none")
    if not 1 <= cap <= 16:
        raise InputError(f"a dimension can have 1 to 16 bits at most, got max_bits={cap}")
    if not 0 <= budget <= d * cap:
        raise InputError(f"the bit budget must be between 0 and {d * cap} ({d} dimensions x {cap} bits), got {budget}")

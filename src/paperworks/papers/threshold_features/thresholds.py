"""Choose the values t_1 < ... < t_S that cut the range of a numeric target (section 3.1 of the paper).

n samples, S thresholds. Every threshold lies strictly between two neighbouring distinct values of y, so that the question
"is y <= t?" has both answers among the training rows. Fewer than S come back when y has too few distinct values.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np

from paperworks.errors import InputError

Strategy = Literal["equal_freq", "equal_width", "kmeans", "adaptive"]
STRATEGIES: tuple[str, ...] = ("equal_freq", "equal_width", "kmeans", "adaptive")
log = logging.getLogger(__name__)


def midpoints(y: np.ndarray) -> np.ndarray:
    """The candidates: halfway between consecutive distinct values of y (n,) -> (at most n - 1,), ascending.

    Between two floats that have no float between them it is the lower one, which separates them just as well.

    >>> midpoints(np.array([0.0, 0.0, 4.0, 1.0]))
    array([0.5, 2.5])
    """
    values = np.unique(y)
    low, high = values[:-1], values[1:]
    middle = 0.5 * low + 0.5 * high  # halves first: the sum of two huge values would overflow
    return np.where((middle >= high) | (middle < low), low, middle)


def equal_frequency(y: np.ndarray, n_thresholds: int, sample_weight: np.ndarray | None = None) -> np.ndarray:
    """Thresholds with about as many rows between each two of them; the paper's choice.

    y (n,) -> ascending thresholds (at most S,). For b = 1 .. S the ideal place is b n / (S + 1) in the sorted y, rounded down in the
    lower half and up in the upper half; the candidate nearest to the value there is taken, of two equally near ones the lower for
    b < (S + 1) / 2, else the upper. Duplicates fall together.

    sample_weight (n,): places are counted in weight instead of rows, without the rounding. Equal weights change nothing.

    >>> equal_frequency(np.arange(10.0), 3)
    array([1.5, 5.5, 8.5])
    """
    candidates = midpoints(y)
    if len(candidates) == 0:
        return candidates
    order = np.argsort(y, kind="stable")
    ordered, n = y[order], len(y)
    weights = None if sample_weight is None or np.ptp(sample_weight) == 0 else np.cumsum(sample_weight[order])
    chosen = np.empty(n_thresholds)
    for b in range(1, n_thresholds + 1):
        place = b * (n / (n_thresholds + 1))
        if weights is None:
            index = int(np.floor(place) if b <= (n_thresholds + 1) / 2 else np.ceil(place))
        else:
            index = int(np.searchsorted(weights, weights[-1] * b / (n_thresholds + 1), side="right"))
        value = ordered[min(index, n - 1)]
        chosen[b - 1] = _nearest(candidates, value, first=b < (n_thresholds + 1) / 2)
    return np.unique(chosen)


def _nearest(candidates: np.ndarray, value: float, first: bool) -> float:
    right = int(np.searchsorted(candidates, value))
    if right == 0:
        return float(candidates[0])
    if right == len(candidates):
        return float(candidates[-1])
    below, above = value - candidates[right - 1], candidates[right] - value
    take_below = below < above or (below == above and first)
    return float(candidates[right - 1] if take_below else candidates[right])


def equal_width(y: np.ndarray, n_thresholds: int) -> np.ndarray:
    """Cuts of the range of y into S + 1 equally wide intervals, (at most S,); the paper advises against it, as classes may be rare.

    A cut is moved to the middle of the gap of y that it falls into, so that equal questions fall together.

    >>> equal_width(np.array([0.0, 1.0, 2.0, 10.0]), 1)
    array([6.])
    """
    candidates = midpoints(y)
    if len(candidates) == 0:
        return candidates
    share = np.arange(1, n_thresholds + 1) / (n_thresholds + 1)
    cuts = y.min() * (1 - share) + y.max() * share
    gap = np.searchsorted(np.unique(y), cuts, side="right") - 1  # the distinct value at or below each cut
    return candidates[np.unique(np.clip(gap, 0, len(candidates) - 1))]


def kmeans(y: np.ndarray, n_thresholds: int, random_state: int | np.random.RandomState | None = None) -> np.ndarray:
    """Cuts between the clusters of a one-dimensional k-means of y with S + 1 centres, (at most S,)."""
    from sklearn.cluster import KMeans

    candidates = midpoints(y)
    if len(candidates) <= n_thresholds:
        return candidates
    start = np.quantile(y, (np.arange(n_thresholds + 1) + 0.5) / (n_thresholds + 1))
    spread = np.ptp(y)
    scaled = ((y - y.min()) / spread).reshape(-1, 1)
    found = KMeans(
        n_thresholds + 1, init=((start - y.min()) / spread).reshape(-1, 1), n_init=1, random_state=random_state
    ).fit(scaled)
    centres = np.unique(found.cluster_centers_.ravel()) * spread + y.min()
    cuts = (centres[:-1] + centres[1:]) / 2
    gap = np.searchsorted(np.unique(y), cuts, side="right") - 1
    return candidates[np.unique(np.clip(gap, 0, len(candidates) - 1))]


def adaptive(y: np.ndarray, difficulty: np.ndarray, n_thresholds: int) -> np.ndarray:
    """More thresholds where y is hard to predict: equal shares of difficulty between them, (at most S,).

    y (n,); difficulty (n,), not negative, for example the absolute out-of-fold residual of a first model. Rows of difficulty zero
    still count a little (a tenth of the mean), so that no part of the range stays without thresholds.
    """
    if difficulty.shape != y.shape or not np.isfinite(difficulty).all() or (difficulty < 0).any():
        raise InputError(
            f"difficulty must be one finite number >= 0 for each of the {len(y)} values of y, got shape {difficulty.shape}"
        )
    mean = difficulty.mean()
    return equal_frequency(y, n_thresholds, difficulty + 0.1 * mean if mean > 0 else None)


def given(y: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Thresholds that the user names, sorted, without those outside of [min y, max y): they ask a question with one answer."""
    try:
        values = np.unique(np.asarray(thresholds, dtype=float).ravel())
    except (TypeError, ValueError) as error:
        raise InputError(f"strategy takes a name or an array of thresholds; got {thresholds!r}") from error
    if not np.isfinite(values).all():
        raise InputError(f"thresholds must be finite numbers, got {values}")
    kept = values[(values >= y.min()) & (values < y.max())]
    if len(kept) < len(values):
        log.warning(
            "%d of %d thresholds lie outside of y's range %g to %g and are left out",
            len(values) - len(kept),
            len(values),
            y.min(),
            y.max(),
        )
    return kept


def choose_thresholds(
    y: np.ndarray,
    n_thresholds: int = 32,
    strategy: Strategy | Sequence[float] | np.ndarray = "equal_freq",
    sample_weight: np.ndarray | None = None,
    difficulty: np.ndarray | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Thresholds (at most S,) for y (n,) by a strategy's name, or the ones that are given as an array.

    strategy: 'equal_freq' (the paper's), 'equal_width', 'kmeans', 'adaptive' (needs difficulty (n,)), or values.
    Raises InputError for an unknown strategy or an S below 1; logs a warning when fewer than S come out. Constant y gives none.
    """
    if not isinstance(strategy, str):
        return given(y, strategy)
    if isinstance(n_thresholds, bool) or int(n_thresholds) != n_thresholds or n_thresholds < 1:
        raise InputError(f"n_thresholds must be a whole number of at least 1, got {n_thresholds!r}")
    n_thresholds = int(n_thresholds)
    if strategy == "equal_freq":
        found = equal_frequency(y, n_thresholds, sample_weight)
    elif strategy == "equal_width":
        found = equal_width(y, n_thresholds)
    elif strategy == "kmeans":
        found = kmeans(y, n_thresholds, random_state)
    elif strategy == "adaptive":
        if difficulty is None:
            raise InputError("strategy 'adaptive' needs the difficulty of each row; ThresholdFeatures computes it")
        found = adaptive(y, difficulty, n_thresholds)
    else:
        raise InputError(f"strategy must be one of {', '.join(STRATEGIES)}, or an array of values; got {strategy!r}")
    if len(found) < n_thresholds:
        log.warning(
            "%d thresholds instead of %d fall between the %d distinct values of y",
            len(found),
            n_thresholds,
            len(np.unique(y)),
        )
    return found

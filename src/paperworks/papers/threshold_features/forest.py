"""One forest for the whole conditional distribution: the answers to all S questions from the leaves of shared trees.

n rows, T trees, S thresholds, S + 1 intervals. A leaf holds training rows; the share of them with y <= t_i, averaged over the trees,
is P(y <= t_i | x): a weighted share of training rows, with the weights of quantile regression forests (Meinshausen 2006). The trees
are those of a regression forest on the ranks of y (fast, the cost of one forest whatever S is), or of a classification forest with S
outputs. Out-of-bag rows are answered by the trees that did not see them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from paperworks.errors import InputError


def ranks(y: np.ndarray) -> np.ndarray:
    """Mid-ranks of y (n,) scaled to (0, 1): ties share theirs.

    >>> ranks(np.array([5.0, 1.0, 5.0, 9.0]))
    array([0.5  , 0.125, 0.5  , 0.875])
    """
    _, inverse, counts = np.unique(y, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return np.asarray(middle[inverse] / len(y))


@dataclass(frozen=True)
class LeafDistribution:
    """Which training rows lie in which leaf, as intervals of y; all trees in one set of flat arrays.

    For leaf l of tree t (numbered offset[t] + node): rows start[l] .. start[l + 1] of `interval` and `share`, the shares of one leaf
    add to one. n_intervals is S + 1.
    """

    offset: np.ndarray  # (T + 1,)
    start: np.ndarray  # (total nodes + 1,)
    interval: np.ndarray  # (entries,)
    share: np.ndarray  # (entries,)
    n_intervals: int

    @classmethod
    def of(
        cls, forest: Any, leaves: np.ndarray, interval: np.ndarray, n_intervals: int, weights: np.ndarray | None = None
    ) -> LeafDistribution:
        """From a fitted scikit-learn forest, leaves (n, T) = forest.apply(X), and interval (n,) of each training row's y."""
        n_rows, n_trees = leaves.shape
        if n_trees != len(forest.estimators_) or len(interval) != n_rows:
            raise InputError(
                f"leaves {leaves.shape} do not belong to this forest of {len(forest.estimators_)} trees and {len(interval)} rows"
            )
        nodes = [tree.tree_.node_count for tree in forest.estimators_]
        offset = np.concatenate([[0], np.cumsum(nodes)]).astype(np.int64)
        # newer releases of scikit-learn draw rows in proportion to their weights, and keep the weights to say so; older ones draw
        # evenly and weight the drawn rows. Weighting drawn rows again would square the weights.
        drawn_by_weight = forest.bootstrap and getattr(forest, "_sample_weight", None) is not None
        base = np.ones(n_rows) if weights is None or drawn_by_weight else np.asarray(weights, dtype=float)
        counts = np.zeros(offset[-1], dtype=np.int64)
        places, intervals, shares = [], [], []
        for t, seen in enumerate(in_bag(forest, n_rows)):
            weight = seen * base
            used = np.flatnonzero(weight > 0)
            place = leaves[used, t]
            total = np.bincount(place, weights=weight[used], minlength=nodes[t])
            order = np.argsort(place, kind="stable")
            used, place = used[order], place[order]
            counts[offset[t] : offset[t + 1]] = np.bincount(place, minlength=nodes[t])
            places.append(place)
            intervals.append(interval[used])
            shares.append(weight[used] / total[place])
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(offset, start, np.concatenate(intervals).astype(np.int32), np.concatenate(shares), int(n_intervals))

    def probabilities(self, leaves: np.ndarray) -> np.ndarray:
        """P(y <= t_i) for rows in leaves (n, T) -> (n, S), rising along each row."""
        mass, _ = _collect(
            leaves.astype(np.int64), self.offset, self.start, self.interval, self.share, self.n_intervals, _NOTHING
        )
        return _accumulate(mass / leaves.shape[1])

    def out_of_bag(self, forest: Any, leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for the training rows, each by the trees that did not see it: (n, S), and (n,) how many trees answered.

        Rows that no tree left out are NaN.
        """
        seen = np.array([counts > 0 for counts in in_bag(forest, len(leaves))])  # (T, n)
        mass, answered = _collect(
            leaves.astype(np.int64), self.offset, self.start, self.interval, self.share, self.n_intervals, seen
        )
        with np.errstate(invalid="ignore"):
            return _accumulate(mass / answered[:, None]), answered


_NOTHING = np.zeros((0, 0), dtype=bool)


def in_bag(forest: Any, n_rows: int) -> list[np.ndarray]:
    """How often each tree drew each training row: T arrays (n,). All ones for a forest that does not draw."""
    if not forest.bootstrap:
        return [np.ones(n_rows)] * len(forest.estimators_)
    return [np.bincount(drawn, minlength=n_rows).astype(float) for drawn in forest.estimators_samples_]


def _accumulate(mass: np.ndarray) -> np.ndarray:
    return np.minimum(np.cumsum(mass, axis=1)[:, :-1], 1.0)  # rounding must not leave a probability of 1 + 1e-16


@numba.njit(cache=True)
def _collect(leaves: Any, offset: Any, start: Any, interval: Any, share: Any, n_intervals: int, skip: Any) -> Any:
    n, n_trees = leaves.shape
    mass = np.zeros((n, n_intervals))
    answered = np.zeros(n)
    for i in range(n):
        for t in range(n_trees):
            if skip.shape[0] > 0 and skip[t, i]:
                continue
            leaf = offset[t] + leaves[i, t]
            answered[i] += 1
            for k in range(start[leaf], start[leaf + 1]):
                mass[i, interval[k]] += share[k]
    return mass, answered

"""The paper line by line, slow and plain: S forests, each read on the rows that it was fitted on.

Kept to test the fast version against, and to show two things that ours does not do by default: the authors' code appends both
P(C_i = 0) and P(C_i = 1) (redundant, they add to one), and training rows get in-sample probabilities.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.isotonic import IsotonicRegression


def thresholds(y: np.ndarray, S: int) -> np.ndarray:
    """The equal-frequency rule, one threshold at a time: y (n,) -> (at most S,)."""
    ordered = sorted(y)
    values = sorted(set(ordered))
    between = [(a + b) / 2 for a, b in itertools.pairwise(values)]
    chosen = set()
    for b in range(1, S + 1):
        place = b * (len(ordered) / (S + 1))
        index = math.floor(place) if b <= (S + 1) / 2 else math.ceil(place)
        gaps = [abs(t - ordered[index]) for t in between]
        nearest = [t for t, gap in zip(between, gaps, strict=True) if gap == min(gaps)]
        chosen.add(nearest[0] if b < (S + 1) / 2 else nearest[-1])
    return np.array(sorted(chosen))


def features(
    X_train: np.ndarray,
    y_train: np.ndarray,
    X_test: np.ndarray,
    S: int,
    both: bool = True,
    seed: int = 0,
    n_trees: int = 100,
) -> tuple[np.ndarray, np.ndarray]:
    """Enriched training and test tables, d + 2S columns (both) or d + S."""
    train, test = [X_train], [X_test]
    for t in thresholds(y_train, S):
        forest = RandomForestClassifier(n_trees, random_state=seed).fit(X_train, (y_train <= t).astype(int))
        columns = slice(0, 2) if both else slice(1, 2)
        train.append(forest.predict_proba(X_train)[:, columns])  # in-sample: nearly 0 or 1
        test.append(forest.predict_proba(X_test)[:, columns])
    return np.hstack(train), np.hstack(test)


def cdf_mean(P: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Prediction from P (n, S) at thresholds t (S,): isotonic row by row, mass times midpoint, tails dropped -> (n,)."""
    out = []
    for row in P:
        rising = IsotonicRegression().fit(t, row).predict(t)
        out.append(sum((rising[i + 1] - rising[i]) * (t[i] + t[i + 1]) / 2 for i in range(len(t) - 1)))
    return np.array(out)

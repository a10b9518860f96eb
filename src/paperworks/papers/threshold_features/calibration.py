"""Calibrate P(y <= t_i | x): among the rows with P = 0.7 about 70 % should lie below t_i.

n rows, S thresholds. Learned from probabilities that were made out of fold; the training rows are calibrated by maps learned from
other rows, so that no label comes back through its own map.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from scipy import special
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from paperworks.errors import InputError

_EDGE = (
    1e-3  # probabilities are kept this far from 0 and 1 before the logit: a forest of 100 trees says no more than that
)


class Calibrator:
    """One map from P to P for each threshold: 'sigmoid' (Platt, on the logit, two numbers) or 'isotonic'."""

    def __init__(self, method: Literal["sigmoid", "isotonic"]) -> None:
        if method not in ("sigmoid", "isotonic"):
            raise InputError(f"calibrate must be False, True, 'sigmoid' or 'isotonic', got {method!r}")
        self.method = method

    def fit(self, P: np.ndarray, below: np.ndarray, weight: np.ndarray | None = None) -> Self:
        """P (n, S) out of fold, below (n, S) whether y <= t_i."""
        self.maps: list[Any] = []
        for p, label in zip(P.T, below.T, strict=True):
            if label.min() == label.max():
                self.maps.append(None)
            elif self.method == "sigmoid":
                model = LogisticRegression(C=1e4)
                self.maps.append(model.fit(_logit(p), label, sample_weight=weight))
            else:
                model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
                self.maps.append(model.fit(p, label.astype(float), sample_weight=weight))
        return self

    def transform(self, P: np.ndarray) -> np.ndarray:
        """(n, S) -> (n, S)."""
        out = P.copy()
        for i, model in enumerate(self.maps):
            if model is not None:
                out[:, i] = (
                    model.predict_proba(_logit(P[:, i]))[:, 1] if self.method == "sigmoid" else model.predict(P[:, i])
                )
        return out

    def fit_transform(self, P: np.ndarray, below: np.ndarray, weight: np.ndarray | None, seed: int) -> np.ndarray:
        """Fit on all rows, and return the rows as calibrated by maps of other rows (5 folds, fewer for fewer rows)."""
        out = P.copy()
        if len(P) >= 2:
            for train, test in KFold(min(5, len(P)), shuffle=True, random_state=seed).split(P):
                part = None if weight is None else weight[train]
                out[test] = Calibrator(self.method).fit(P[train], below[train], part).transform(P[test])
        self.fit(P, below, weight)
        return out


def _logit(p: np.ndarray) -> np.ndarray:
    return np.asarray(special.logit(np.clip(p, _EDGE, 1 - _EDGE))).reshape(-1, 1)

"""The target's transformation: min-max to [1, 2], then Box-Cox with standardisation.

The paper's text says standardise, then Box-Cox, which cannot be meant: Box-Cox takes positive numbers only. The authors' code has the
order that is followed here.
"""

from __future__ import annotations

import logging
from typing import Any, Self

import numpy as np
from scipy import special, stats
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

log = logging.getLogger(__name__)
LOWEST, HIGHEST = 1e-3, 3.0  # of the scaled value, whose training range is 1 to 2: one range below and one above


class MinMaxBoxCox(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Columns to [1, 2] by their training range, then to about normal with mean 0 and variance 1.

    X (n, d) -> (n, d). Box-Cox ends at zero, so values further below the training range than the range is wide are clipped there,
    with a log warning. `inverse_transform` gives the original unit, and never goes further than one range beyond the training
    range: a linear model's wild prediction would otherwise become an infinite one. A constant column becomes zeros.

    >>> y = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    >>> scaled = MinMaxBoxCox().fit(y)
    >>> bool(np.allclose(scaled.inverse_transform(scaled.transform(y)), y))
    True
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn range, exponent, mean and scale from X (n, d), finite numbers."""
        X = validate_data(self, X, dtype=np.float64)
        self.low_ = X.min(axis=0)
        width = X.max(axis=0) - self.low_
        self.width_ = np.where(width > 0, width, 1.0)
        scaled = self._scaled(X)
        self.exponents_ = np.array(
            [stats.boxcox(column)[1] if width[j] > 0 else 1.0 for j, column in enumerate(scaled.T)]
        )
        plain = special.boxcox(scaled, self.exponents_)
        self.mean_ = plain.mean(axis=0)
        spread = plain.std(axis=0)
        self.scale_ = np.where((width > 0) & (spread > 0), spread, 1.0)
        return self

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(1 + (X - self.low_) / self.width_)

    def transform(self, X: Any) -> np.ndarray:
        """X (n, d) in the original unit -> (n, d) transformed."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        scaled = self._scaled(X)
        below = int((scaled < LOWEST).sum())
        if below:
            log.warning("%d values lie too far below the training range for Box-Cox and are clipped", below)
        return np.asarray((special.boxcox(np.maximum(scaled, LOWEST), self.exponents_) - self.mean_) / self.scale_)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Transformed values (n, d) -> (n, d) in the original unit, always finite."""
        check_is_fitted(self)
        plain = np.asarray(X, dtype=float) * self.scale_ + self.mean_
        ends = special.boxcox(np.array([[LOWEST], [HIGHEST]]), self.exponents_)
        scaled = special.inv_boxcox(np.clip(plain, ends[0], ends[1]), self.exponents_)
        return np.asarray(self.low_ + (scaled - 1) * self.width_)

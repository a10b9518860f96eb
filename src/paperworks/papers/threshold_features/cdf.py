"""ConditionalCDFRegressor: the S probabilities read as a distribution of y given x (the paper's outlook, its code's CDFRegressor).

n rows, d columns, S thresholds. Gives mean, median, quantiles, intervals with conformal correction, and CRPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import ShuffleSplit
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from paperworks.errors import InputError
from paperworks.papers.threshold_features import distribution
from paperworks.papers.threshold_features.features import ThresholdFeatures, check_target
from paperworks.papers.threshold_features.monotone import rising_rows
from paperworks.papers.threshold_features.thresholds import Strategy


class ConditionalCDFRegressor(RegressorMixin, BaseEstimator):
    """Predict the distribution of y given x from S threshold questions.

    fit(X (n, d), y (n,)); predict(X) -> (n,) in the unit of y.

    n_thresholds, strategy, classifier, probabilities, cv, multioutput, labels, calibrate, n_jobs, random_state: see ThresholdFeatures.
    The rows are always made rising by isotonic regression, as in the authors' code.
    min_samples_leaf: of the default forest; 1 is best for
        most tables of several columns; with one or two columns or much noise 5 to 20 gives a smoother and better distribution.
    point: what predict gives. 'mean': each interval's mass times its value; 'median'; 'mode': the value of the interval with most mass.
    values: of an interval, 'mean' of the training y inside it, or 'midpoint' of its thresholds (the authors' code).
    tails: whether the mass below t_1 and above t_S counts. The authors' code drops it, which pulls predictions towards zero;
        tails=False with values='midpoint' is theirs. The tails' values are means of training y in both cases.
    conformal: how predict_interval is corrected so that it covers as promised. 'out_of_fold': by the out-of-fold distribution of all
        training rows (close to the promise in practice, no guarantee; needs probabilities other than 'insample'). 'split': by a
        quarter of the rows, kept out of the fit (covers at least as promised for exchangeable rows). None: no correction.

    Attributes: features_ (the fitted ThresholdFeatures), thresholds_ (S,), knots_ (S + 2,), interval_values_ (S + 1,), conformal_ (the
    distribution (m, S + 2) and y (m,) of the rows that correct the intervals, or None), n_features_in_.

    >>> X = np.linspace(0, 1, 200).reshape(-1, 1)
    >>> model = ConditionalCDFRegressor(n_thresholds=8, random_state=0).fit(X, X[:, 0])
    >>> bool(model.predict_quantiles([[0.5]], [0.1, 0.9])[0, 0] < 0.5 < model.predict_quantiles([[0.5]], [0.9])[0, 0])
    True
    """

    def __init__(
        self,
        n_thresholds: int = 32,
        strategy: Strategy | Sequence[float] | np.ndarray = "equal_freq",
        classifier: Any = None,
        *,
        probabilities: Literal["auto", "cross_fit", "oob", "insample"] = "auto",
        cv: Any = 5,
        multioutput: bool = True,
        labels: Literal["below", "inside"] = "below",
        calibrate: bool | Literal["sigmoid", "isotonic"] = False,
        min_samples_leaf: int = 1,
        point: Literal["mean", "median", "mode"] = "mean",
        values: Literal["mean", "midpoint"] = "mean",
        tails: bool = True,
        conformal: Literal["out_of_fold", "split"] | None = "out_of_fold",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_thresholds = n_thresholds
        self.strategy = strategy
        self.classifier = classifier
        self.probabilities = probabilities
        self.cv = cv
        self.multioutput = multioutput
        self.labels = labels
        self.calibrate = calibrate
        self.min_samples_leaf = min_samples_leaf
        self.point = point
        self.values = values
        self.tails = tails
        self.conformal = conformal
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from X (n, d), y (n,), sample_weight (n,)."""
        for name, allowed in (
            ("point", ("mean", "median", "mode")),
            ("values", ("mean", "midpoint")),
            ("conformal", ("out_of_fold", "split", None)),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if y is None:
            raise InputError("ConditionalCDFRegressor requires y to be passed, but the target y is None")
        random = check_random_state(self.random_state)
        self.features_ = ThresholdFeatures(
            self.n_thresholds,
            self.strategy,
            self.classifier,
            probabilities=self.probabilities,
            cv=self.cv,
            multioutput=self.multioutput,
            labels=self.labels,
            monotone=True,
            calibrate=self.calibrate,
            min_samples_leaf=self.min_samples_leaf,
            n_jobs=self.n_jobs,
            random_state=int(random.randint(2**31 - 1)),
        )
        y = check_target(y)
        checked, _ = self.features_._validate(X, y)
        weight = (
            None if sample_weight is None else _check_sample_weight(sample_weight, checked, ensure_non_negative=True)
        )
        X_fit, y_fit, weight_fit = X, y, weight
        X_out = y_out = None
        if self.conformal == "split":
            if len(y) < 8:
                raise InputError(
                    f"conformal='split' keeps out a quarter of the rows and needs at least 8, got {len(y)}"
                )
            split = ShuffleSplit(1, test_size=0.25, random_state=int(random.randint(2**31 - 1)))
            train, out = next(split.split(y))
            X_fit, y_fit, weight_fit = _safe_indexing(X, train), y[train], None if weight is None else weight[train]
            X_out, y_out = _safe_indexing(X, out), y[out]
        out_of_fold = self.conformal == "out_of_fold" and self.probabilities != "insample"
        if out_of_fold:
            P = self.features_.fit_predict_cdf(X_fit, y_fit, weight_fit)
        else:
            self.features_.fit(X_fit, y_fit, weight_fit)
        self.n_features_in_ = self.features_.n_features_in_
        if hasattr(self.features_, "feature_names_in_"):
            self.feature_names_in_ = self.features_.feature_names_in_
        self.thresholds_ = self.features_.thresholds_
        self.knots_ = np.concatenate([[y_fit.min()], self.thresholds_, [y_fit.max()]])
        self.interval_values_ = self._values(y_fit, weight_fit)
        self.conformal_: tuple[np.ndarray, np.ndarray] | None = None
        if out_of_fold:
            self.conformal_ = distribution.with_ends(rising_rows(P)), y_fit
        elif y_out is not None:
            self.conformal_ = self._F(X_out), y_out
        return self

    def _values(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        interval = np.searchsorted(self.thresholds_, y, side="left")
        size = len(self.thresholds_) + 1
        base = np.ones(len(y)) if weight is None else weight
        total = np.bincount(interval, weights=base, minlength=size)
        middle = (self.knots_[:-1] + self.knots_[1:]) / 2  # of intervals that hold no weight
        means = np.divide(np.bincount(interval, weights=base * y, minlength=size), total, out=middle, where=total > 0)
        if self.values == "midpoint" and size > 2:
            means[1:-1] = (self.thresholds_[:-1] + self.thresholds_[1:]) / 2
        return np.asarray(means)

    def _F(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return distribution.with_ends(rising_rows(self.features_.predict_cdf(X)))

    def predict(self, X: Any) -> np.ndarray:
        """The point prediction of each row of X (n, d) -> (n,)."""
        F = self._F(X)
        if self.point == "median":
            return distribution.quantiles(F, self.knots_, np.full((len(F), 1), 0.5))[:, 0]
        mass = np.diff(F, axis=1)
        if not self.tails:
            mass[:, [0, -1]] = 0.0
        if self.point == "mode":
            return np.asarray(self.interval_values_[mass.argmax(axis=1)])
        return np.asarray(mass @ self.interval_values_)

    def predict_cdf(self, X: Any, at: Any = None) -> np.ndarray:
        """P(y <= a | x) for the values `at` (m,), by default the thresholds: X (n, d) -> (n, m)."""
        F = self._F(X)
        if at is None:
            return F[:, 1:-1]
        places = np.atleast_1d(np.asarray(at, dtype=float))
        return np.column_stack([distribution.at(F, self.knots_, np.full(len(F), place)) for place in places])

    def predict_quantiles(self, X: Any, q: Any = (0.1, 0.5, 0.9)) -> np.ndarray:
        """Quantiles at levels q (m,) between 0 and 1: X (n, d) -> (n, m) in the unit of y. Not conformal."""
        levels = distribution.check_levels(q)
        F = self._F(X)
        return distribution.quantiles(F, self.knots_, np.tile(levels, (len(F), 1)))

    def predict_interval(self, X: Any, coverage: float = 0.9) -> np.ndarray:
        """Lower and upper end of an interval that holds y with probability `coverage`: X (n, d) -> (n, 2), unit of y.

        Both quantiles are moved outwards (or inwards) by one distance, the smallest with which the conformal rows are covered as
        promised (conformalised quantile regression, Romano et al. 2019). Ends may lie beyond the range of the training y.
        """
        if not 0 < coverage < 1:
            raise InputError(f"coverage must lie between 0 and 1, such as 0.9; got {coverage!r}")
        ends = self._ends(self._F(X), coverage)
        if self.conformal_ is not None:
            F, y = self.conformal_
            known = self._ends(F, coverage)
            outside = np.sort(np.maximum(known[:, 0] - y, y - known[:, 1]))  # negative: that far inside
            place = int(np.ceil(coverage * (len(y) + 1)))
            moved = outside[place - 1] if place <= len(y) else np.inf  # too few rows to promise that much
            ends = ends + np.array([-moved, moved])
            crossed = ends[:, 0] > ends[:, 1]
            ends[crossed] = ends[crossed].mean(axis=1, keepdims=True)
        return ends

    def _ends(self, F: np.ndarray, coverage: float) -> np.ndarray:
        levels = np.tile([(1 - coverage) / 2, (1 + coverage) / 2], (len(F), 1))
        return distribution.quantiles(F, self.knots_, levels)

    def crps(self, X: Any, y: Any) -> np.ndarray:
        """Continuous ranked probability score of each row, (n,), unit of y; smaller is better, and its mean compares models."""
        F = self._F(X)
        y = check_target(y)
        if len(y) != len(F):
            raise InputError(f"X has {len(F)} rows and y {len(y)}; they must be as many")
        return distribution.crps(F, self.knots_, y)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = ThresholdFeatures(classifier=self.classifier).__sklearn_tags__().input_tags
        tags.input_tags.sparse, tags.input_tags.allow_nan = inner.sparse, inner.allow_nan
        return tags

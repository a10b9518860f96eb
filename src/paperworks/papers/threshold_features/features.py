"""ThresholdFeatures: append P(y <= t_1 | x) ... P(y <= t_S | x) to a table (sections 3.1 to 3.3 of the paper).

n rows, d columns, S thresholds. Thresholds are chosen in `thresholds.py`, classifiers fitted in `engines.py`; the regressor that uses
the table is `enriched.py`, the conditional distribution `cdf.py`.
"""

from __future__ import annotations

import itertools
import logging
import numbers
import warnings
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from paperworks.errors import InputError
from paperworks.papers.threshold_features import engines
from paperworks.papers.threshold_features.calibration import Calibrator
from paperworks.papers.threshold_features.monotone import rising_rows
from paperworks.papers.threshold_features.thresholds import Strategy, choose_thresholds

log = logging.getLogger(__name__)
_SEEDS = 2**31 - 1


class ThresholdFeatures(TransformerMixin, BaseEstimator):
    """Append the probabilities that y is at most t_1, ..., t_S to the columns of X.

    fit(X (n, d), y (n,)); transform(X) -> (n, d + S) float64, sparse when X is.

    **Training rows and new rows differ**, as with scikit-learn's TargetEncoder: `fit_transform(X, y)` gives the training rows
    probabilities from classifiers that did not see them; `transform(X)` gives new rows those of classifiers fitted on everything.
    A pipeline calls the right one of the two. `fit(X, y).transform(X)` on the same X is another, over-confident table.

    Parameters
    ----------
    n_thresholds: S, at least 1. Fewer come out when y has fewer than S + 1 distinct values (a log warning says so).
    strategy: 'equal_freq' (the paper's), 'equal_width', 'kmeans', 'adaptive' (more thresholds where a first forest errs more), or an
        array of thresholds in the unit of y.
    classifier: any scikit-learn classifier; without predict_proba its decision_function goes through the logistic function.
        None: a forest of 100 trees, grown once on the ranks of y and read at its leaves; its cost does not depend on S.
    probabilities: of the training rows. 'auto': 'oob' for bagged forests, else 'cross_fit'. 'cross_fit': `cv` folds. 'oob':
        the trees that did not draw the row. 'insample': the paper's, from classifiers that saw the row; a regressor then trusts the
        new columns too much (boosting and small or noisy tables suffer most, decision trees may gain).
    cv: folds of 'cross_fit', a number (shuffled) or a scikit-learn splitter.
    multioutput: True: one classifier for all thresholds where that is possible (default forest, forests of scikit-learn without
        class weights, classifiers with many outputs). False: S classifiers, the paper's way.
    labels: 'below' (the paper's: y <= t_i) or 'inside' (one classifier says which interval y lies in; S + 1 new columns).
    passthrough: whether the columns of X stay (False: the paper's ablation 'extracted features only').
    both_classes: also append 1 - P, as the authors' code does; redundant.
    monotone: repair rows that do not rise with t, by isotonic regression of each row.
    calibrate: False, 'sigmoid' (also True) or 'isotonic': correct the probabilities by maps learned out of fold.
    min_samples_leaf: of the default forest (classifier None, labels 'below'): more gives smoother probabilities.
    n_jobs, random_state: as everywhere in scikit-learn; results are the same for any n_jobs.

    Attributes
    ----------
    thresholds_ (S,), classifiers_ (the fitted ones: S of them, or 1), probabilities_ ('oob', 'cross_fit' or 'insample'),
    n_features_in_, feature_names_in_.

    Raises InputError (a ValueError) for y that is not one column of finite numbers, and ClassifierError (a TypeError) for a classifier that
    gives no probabilities. Constant y: a warning, and no new columns.

    >>> X = np.arange(40.0).reshape(-1, 1)
    >>> ThresholdFeatures(n_thresholds=3, random_state=0).fit_transform(X, X[:, 0] ** 2).shape
    (40, 4)
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
        passthrough: bool = True,
        both_classes: bool = False,
        monotone: bool = True,
        calibrate: bool | Literal["sigmoid", "isotonic"] = False,
        min_samples_leaf: int = 1,
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
        self.passthrough = passthrough
        self.both_classes = both_classes
        self.monotone = monotone
        self.calibrate = calibrate
        self.min_samples_leaf = min_samples_leaf
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Choose thresholds and fit the classifiers on X (n, d), y (n,); sample_weight (n,) reaches both.

        groups (n,): passed to `cv` when it is a splitter that keeps groups together.
        """
        self._learn(X, y, sample_weight, groups, want_training_rows=False)
        return self

    def fit_transform(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Any:
        """Fit, and enrich the training rows with probabilities of the kind that `probabilities` says -> (n, d + S)."""
        X, P = self._learn(X, y, sample_weight, groups, want_training_rows=True)
        return self._join(X, P)

    def fit_predict_cdf(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> np.ndarray:
        """Fit, and return P(y <= t_i | x) of the training rows alone (n, S)."""
        return self._learn(X, y, sample_weight, groups, want_training_rows=True)[1]

    def transform(self, X: Any) -> Any:
        """Enrich new rows X (n, d) -> (n, d + S)."""
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return self._join(X, self._predict(X))

    def predict_cdf(self, X: Any) -> np.ndarray:
        """P(y <= t_i | x) of new rows, (n, S); column i belongs to thresholds_[i]."""
        check_is_fitted(self)
        return self._predict(self._validate(X, reset=False))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns: those of X, then 'P(y<=12.5)' and so on."""
        check_is_fitted(self, "thresholds_")
        names = list(_check_feature_names_in(self, input_features)) if self.passthrough else []
        texts = _distinct_texts(self.thresholds_)
        if self.labels == "inside" and texts:
            edges = ["-inf", *texts, "inf"]
            names += [f"P({low}<y<={high})" for low, high in itertools.pairwise(edges)]
        else:
            names += [f"P(y<={text})" for text in texts]
            if self.both_classes:
                names += [f"P(y>{text})" for text in texts]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        try:
            inner = get_tags(self.classifier if self.classifier is not None else RandomForestRegressor())
            tags.input_tags.sparse = inner.input_tags.sparse
            tags.input_tags.allow_nan = inner.input_tags.allow_nan
        except (AttributeError, TypeError):  # not an estimator; fit says so
            tags.input_tags.sparse = False
        return tags

    def _validate(self, X: Any, y: Any = None, reset: bool = True) -> Any:
        tags = self.__sklearn_tags__().input_tags
        checks: dict[str, Any] = {
            "accept_sparse": "csr" if tags.sparse else False,
            "ensure_all_finite": "allow-nan" if tags.allow_nan else True,
            "dtype": [np.float64, np.float32],
        }
        if y is None:
            return validate_data(self, X, reset=reset, **checks)
        return validate_data(self, X, y, reset=reset, multi_output=True, y_numeric=False, **checks)

    def _learn(
        self, X: Any, y: Any, sample_weight: Any, groups: Any, want_training_rows: bool
    ) -> tuple[Any, np.ndarray]:
        self._check_parameters()
        if y is None:
            raise InputError(
                "ThresholdFeatures requires y to be passed, but the target y is None; give the target to fit"
            )
        y = check_target(y)
        X, y = self._validate(X, y)
        y = y.astype(float)
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        random = check_random_state(self.random_state)
        seed_thresholds, seed_classifier, seed_folds, seed_first = random.randint(_SEEDS, size=4)
        self.thresholds_ = self._choose(X, y, weight, int(seed_thresholds), int(seed_first))
        S = len(self.thresholds_)
        self.calibrator_: Calibrator | None = None
        if S == 0:
            warnings.warn(
                "no threshold separates the values of y (is it constant?); X is given back without new columns",
                UserWarning,
                stacklevel=3,
            )
            self.classifiers_, self.probabilities_ = [], "insample"
            return X, np.zeros((X.shape[0], 0))
        interval = np.searchsorted(self.thresholds_, y, side="left")
        engine = self._engine(int(seed_classifier))
        how = self.probabilities
        if how == "auto":
            how = "oob" if engine.can_leave_out else "cross_fit"
        if how == "oob" and not engine.can_leave_out:
            raise InputError(
                "probabilities='oob' needs a forest that draws its rows (bootstrap=True), such as RandomForestClassifier; "
                "take 'cross_fit' for this classifier"
            )
        if how == "cross_fit":
            self._folds(X, y, groups, int(seed_folds), check_only=True)
        self.probabilities_ = how
        self.engine_ = engine.fit(X, y, interval, S, weight)
        self.classifiers_ = self.engine_.fitted
        P = np.zeros((X.shape[0], 0))
        if want_training_rows or self.calibrate:
            P = self._training_rows(how, X, y, interval, weight, groups, int(seed_folds), int(seed_classifier))
            if self.calibrate:
                self.calibrator_ = Calibrator("sigmoid" if self.calibrate is True else self.calibrate)
                below = interval[:, None] <= np.arange(S)
                P = self.calibrator_.fit_transform(P, below, weight, int(seed_folds))
            P = self._repair(P)
        if hasattr(self.engine_, "forget"):
            self.engine_.forget()
        return X, P

    def _check_parameters(self) -> None:
        for name, allowed in (
            ("probabilities", ("auto", "cross_fit", "oob", "insample")),
            ("labels", ("below", "inside")),
            ("calibrate", (False, True, "sigmoid", "isotonic")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.calibrate and self.probabilities == "insample":
            raise InputError(
                "calibrate needs probabilities made out of fold; take 'cross_fit' or 'oob', not 'insample'"
            )

    def _choose(self, X: Any, y: np.ndarray, weight: np.ndarray | None, seed: int, seed_first: int) -> np.ndarray:
        difficulty = None
        if isinstance(self.strategy, str) and self.strategy == "adaptive":
            first = RandomForestRegressor(50, max_features="sqrt", random_state=seed_first, n_jobs=self.n_jobs)
            first.fit(X, y, sample_weight=weight)
            residual = np.zeros(len(y))
            count = np.zeros(len(y))
            for tree, drawn in zip(first.estimators_, first.estimators_samples_, strict=True):
                left = np.ones(len(y), dtype=bool)
                left[drawn] = False
                rows = np.flatnonzero(left)
                if len(rows):
                    residual[rows] += tree.predict(X[rows])
                    count[rows] += 1
            guess = np.divide(residual, count, out=np.full(len(y), y.mean()), where=count > 0)
            difficulty = np.abs(y - guess)
        return choose_thresholds(y, self.n_thresholds, self.strategy, weight, difficulty, seed)

    def _engine(self, seed: int) -> engines.Engine:
        multioutput = self.multioutput and (self.classifier is None or len(self.thresholds_) > 1)
        return engines.choose(self.classifier, multioutput, self.labels, self.n_jobs, seed, self.min_samples_leaf)

    def _folds(
        self, X: Any, y: np.ndarray, groups: Any, seed: int, check_only: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        n = X.shape[0]
        if isinstance(self.cv, numbers.Integral):
            if self.cv < 2:
                raise InputError(f"cv must be at least 2, got {self.cv}")
            if n < self.cv:
                raise InputError(
                    f"cannot make cv={self.cv} folds of n_samples={n}; give more rows, a smaller cv, or probabilities='oob'"
                )
            splitter: Any = KFold(int(self.cv), shuffle=True, random_state=seed)
        else:
            splitter = check_cv(self.cv)
        return [] if check_only else list(splitter.split(X, y, groups))

    def _training_rows(
        self,
        how: str,
        X: Any,
        y: np.ndarray,
        interval: np.ndarray,
        weight: np.ndarray | None,
        groups: Any,
        seed_folds: int,
        seed_classifier: int,
    ) -> np.ndarray:
        if how == "insample":
            return self.engine_.predict(X)
        if how == "oob":
            P = self.engine_.out_of_bag()
            never = np.flatnonzero(np.isnan(P).any(axis=1))
            if len(never) == 0:
                return P
            warnings.warn(
                f"{len(never)} of {len(P)} rows were drawn by every tree and have no out-of-bag probability; they are filled by "
                "cross-fitting. More trees avoid this",
                UserWarning,
                stacklevel=4,
            )
            n_folds = min(5, X.shape[0])
            folds = list(KFold(n_folds, shuffle=True, random_state=seed_folds).split(X)) if n_folds > 1 else []
            P[never] = self._cross_fit(folds, X, y, interval, weight, seed_classifier)[never]
            return P
        folds = self._folds(X, y, groups, seed_folds)
        P = self._cross_fit(folds, X, y, interval, weight, seed_classifier)
        left_out = np.concatenate([test for _, test in folds])
        if len(np.unique(left_out)) < X.shape[0]:
            raise InputError("cv must leave out each row at least once, as KFold does; give another splitter")
        return P

    def _cross_fit(
        self,
        folds: list[tuple[np.ndarray, np.ndarray]],
        X: Any,
        y: np.ndarray,
        interval: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> np.ndarray:
        S = len(self.thresholds_)
        P = np.full((X.shape[0], S), 0.5)
        for train, test in folds:
            part = None if weight is None else weight[train]
            P[test] = self._engine(seed).fit(X[train], y[train], interval[train], S, part).predict(X[test])
        return P

    def _predict(self, X: Any) -> np.ndarray:
        if len(self.thresholds_) == 0:
            return np.zeros((X.shape[0], 0))
        P = self.engine_.predict(X)
        if self.calibrator_ is not None:
            P = self.calibrator_.transform(P)
        return self._repair(P)

    def _repair(self, P: np.ndarray) -> np.ndarray:
        return rising_rows(P) if self.monotone else P

    def _join(self, X: Any, P: np.ndarray) -> Any:
        new = P
        if P.shape[1] and self.labels == "inside":
            new = np.diff(P, axis=1, prepend=0.0, append=1.0)
        elif self.both_classes:
            new = np.hstack([P, 1 - P])
        if not self.passthrough:
            return new
        if sparse.issparse(X):
            blocks: list[Any] = [X, sparse.csr_matrix(new)]
            return sparse.hstack(blocks, format="csr")
        return np.hstack([X, new])


def check_target(y: Any) -> np.ndarray:
    """One column of finite numbers, or InputError. A column of shape (n, 1) is flattened with scikit-learn's warning."""
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] > 1:
        raise InputError(
            f"y has {values.shape[1]} columns; thresholds are chosen for one target: fit one ThresholdFeatures a target"
        )
    values = column_or_1d(values, warn=True)
    if values.dtype.kind in "US" or (values.dtype == object and any(isinstance(item, str) for item in values)):
        raise InputError(f"y must hold numbers, got texts such as {values[0]!r}; for classes use a classifier")
    if values.dtype.kind == "c":
        raise InputError("Complex data not supported: y must hold real numbers")
    try:
        values = values.astype(float)
    except (TypeError, ValueError) as error:
        raise InputError(f"y must hold numbers, got {values.dtype}: {error}") from error
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise InputError(f"Input y contains NaN or infinity ({bad} of {len(values)} values); leave out those rows")
    return values


def _distinct_texts(thresholds: np.ndarray) -> list[str]:
    """Numbers as short as they can be told apart."""
    texts: list[str] = []
    for digits in range(4, 18):
        texts = [f"{value:.{digits}g}" for value in thresholds]
        if len(set(texts)) == len(texts):
            break
    return texts

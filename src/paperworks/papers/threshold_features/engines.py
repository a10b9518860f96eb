"""Answer the S questions "is y <= t_i?": the ways to fit classifiers and to read P(y <= t_i | x) from them.

n rows, S thresholds. Each engine is fitted on X and interval (n,), the number of thresholds below each y (so y <= t_i is
interval <= i), and gives P (n, S). Those of bagged forests also answer for their training rows out of bag.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
from joblib import Parallel, delayed
from scipy import special
from sklearn.base import clone, is_classifier
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from paperworks.errors import InputError
from paperworks.papers.threshold_features.forest import LeafDistribution, ranks

_FORESTS = (RandomForestClassifier, ExtraTreesClassifier)


class ClassifierError(InputError, TypeError):
    """The classifier cannot answer a threshold question."""


class Engine(Protocol):
    """What ThresholdFeatures needs of a way to fit the classifiers."""

    can_leave_out: bool  # whether out_of_bag() answers

    def fit(self, X: Any, y: np.ndarray, interval: np.ndarray, S: int, weight: np.ndarray | None) -> Self: ...

    def predict(self, X: Any) -> np.ndarray: ...

    def out_of_bag(self) -> np.ndarray:
        """P (n, S) of the training rows by trees that did not see them; NaN for rows that every tree saw."""

    @property
    def fitted(self) -> list[Any]: ...


def choose(classifier: Any, multioutput: bool, labels: str, n_jobs: int | None, seed: int, min_leaf: int = 1) -> Engine:
    """The engine for a classifier (None: the default forest). Raises ClassifierError for what is not a classifier."""
    if classifier is None:
        if labels == "below" and multioutput:
            forest = RandomForestRegressor(
                100, max_features="sqrt", min_samples_leaf=min_leaf, random_state=seed, n_jobs=n_jobs
            )
            return SharedTrees(forest, on_ranks=True)
        classifier = RandomForestClassifier(100, min_samples_leaf=min_leaf)
    if isinstance(classifier, type) or not hasattr(classifier, "fit") or not hasattr(classifier, "get_params"):
        raise ClassifierError(f"classifier must be a scikit-learn classifier object, got {classifier!r}")
    if not is_classifier(classifier):
        raise ClassifierError(f"classifier must be a classifier, got {type(classifier).__name__}, which is not one")
    if not hasattr(classifier, "predict_proba") and not hasattr(classifier, "decision_function"):
        raise ClassifierError(
            f"{type(classifier).__name__} has neither predict_proba nor decision_function; wrap it in "
            "sklearn.calibration.CalibratedClassifierCV, or take another classifier"
        )
    classifier = seeded(classifier, seed)
    if labels == "inside":
        return OneClassifier(classifier)
    if multioutput and type(classifier) in _FORESTS and classifier.class_weight is None:
        if classifier.n_jobs is None:
            classifier.set_params(n_jobs=n_jobs)
        return SharedTrees(classifier, on_ranks=False)
    if multioutput and hasattr(classifier, "predict_proba") and _takes_many_labels(classifier):
        return ManyOutputs(classifier)
    return Separate(classifier, n_jobs)


def _takes_many_labels(classifier: Any) -> bool:
    return bool(get_tags(classifier).classifier_tags.multi_label) and type(classifier) not in _FORESTS


def seeded(classifier: Any, seed: int) -> Any:
    """A clone whose unset random states are set, inner ones too."""
    copy = clone(classifier)
    unset = {
        name: seed
        for name, value in copy.get_params(deep=True).items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    }
    return copy.set_params(**unset) if unset else copy


def fit_weighted(model: Any, X: Any, y: Any, weight: np.ndarray | None) -> Any:
    """Fit, with the weights when there are some. Raises ClassifierError for a model that takes none."""
    if weight is None:
        return model.fit(X, y)
    if isinstance(model, Pipeline):
        last, step = model.steps[-1]
        if has_fit_parameter(step, "sample_weight"):
            return model.fit(X, y, **{f"{last}__sample_weight": weight})
    elif has_fit_parameter(model, "sample_weight"):
        return model.fit(X, y, sample_weight=weight)
    raise ClassifierError(
        f"{type(model).__name__} takes no sample_weight; leave the weights out, or take another model"
    )


def positive(model: Any, X: Any, label: int = 1) -> np.ndarray:
    """P(label) (n,) of a fitted two-class model: its probabilities, or the logistic function of its decision values."""
    n = X.shape[0]
    if len(model.classes_) == 1:
        return np.full(n, float(model.classes_[0] == label))
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X), dtype=float)[:, list(model.classes_).index(label)]
    value = np.asarray(special.expit(np.asarray(model.decision_function(X), dtype=float)))
    return value if model.classes_[1] == label else 1 - value


class Constant:
    """Stands in where the training rows of a fold all give the same answer."""

    def __init__(self, answer: int) -> None:
        self.classes_ = np.array([answer])

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, 1) ones."""
        return np.ones((X.shape[0], 1))


class Separate:
    """S classifiers, one a question: the paper's way, for any classifier."""

    def __init__(self, classifier: Any, n_jobs: int | None) -> None:
        self.classifier, self.n_jobs = classifier, n_jobs
        self.can_leave_out = isinstance(classifier, _FORESTS) and bool(classifier.bootstrap)
        self._interval = np.zeros(0, dtype=int)

    def fit(self, X: Any, y: np.ndarray, interval: np.ndarray, S: int, weight: np.ndarray | None) -> Self:
        self.models = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_one)(clone(self.classifier), X, (interval <= i).astype(int), weight) for i in range(S)
        )
        self._X = X if self.can_leave_out else None
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.column_stack(Parallel(n_jobs=self.n_jobs)(delayed(positive)(model, X) for model in self.models))

    def out_of_bag(self) -> np.ndarray:
        X = self._X
        return np.column_stack([_left_out(model, X) for model in self.models])

    def forget(self) -> None:
        """Let go of the training rows."""
        self._X = None

    @property
    def fitted(self) -> list[Any]:
        return list(self.models)


def _fit_one(model: Any, X: Any, label: np.ndarray, weight: np.ndarray | None) -> Any:
    if label.min() == label.max():
        return Constant(int(label[0]))
    return fit_weighted(model, X, label, weight)


def _left_out(model: Any, X: Any) -> np.ndarray:
    """Out-of-bag P(1) (n,) of one fitted forest, NaN where every tree saw the row."""
    if isinstance(model, Constant):
        return positive(model, X)
    n = X.shape[0]
    total, count = np.zeros(n), np.zeros(n)
    for tree, drawn in zip(model.estimators_, model.estimators_samples_, strict=True):
        left = np.ones(n, dtype=bool)
        left[drawn] = False
        rows = np.flatnonzero(left)
        if len(rows):
            total[rows] += tree.predict_proba(X[rows])[:, list(model.classes_).index(1)]
            count[rows] += 1
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count)


class ManyOutputs:
    """One classifier with S outputs, for those that have them (nearest neighbours, trees, neural networks)."""

    can_leave_out = False

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    def fit(self, X: Any, y: np.ndarray, interval: np.ndarray, S: int, weight: np.ndarray | None) -> Self:
        below = (interval[:, None] <= np.arange(S)).astype(int)
        self.asked = np.flatnonzero(below.min(axis=0) != below.max(axis=0))
        self.answer = below[0].astype(float)  # of the questions that have one answer only
        self.model = clone(self.classifier)
        if len(self.asked):
            labels = below[:, self.asked] if len(self.asked) > 1 else below[:, self.asked[0]]
            self.model = fit_weighted(self.model, X, labels, weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        out = np.tile(self.answer, (X.shape[0], 1))
        if len(self.asked) == 1:
            out[:, self.asked[0]] = positive(self.model, X)
        elif len(self.asked):
            answer = self.model.predict_proba(X)  # a list of S arrays (n, 2), or for networks one array (n, S)
            columns = [part[:, 1] for part in answer] if isinstance(answer, list) else list(np.asarray(answer).T)
            out[:, self.asked] = np.column_stack(columns)
        return out

    def out_of_bag(self) -> np.ndarray:
        raise NotImplementedError

    @property
    def fitted(self) -> list[Any]:
        return [self.model]


class OneClassifier:
    """One classifier of S + 1 classes, 'y lies in the i-th interval': the variant that the paper found weaker."""

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier
        self.can_leave_out = isinstance(classifier, _FORESTS) and bool(classifier.bootstrap)
        if not hasattr(classifier, "predict_proba"):
            raise ClassifierError(f"labels='inside' needs predict_proba, which {type(classifier).__name__} lacks")

    def fit(self, X: Any, y: np.ndarray, interval: np.ndarray, S: int, weight: np.ndarray | None) -> Self:
        model = clone(self.classifier)
        if self.can_leave_out:
            model.set_params(oob_score=False)
        self.model = (
            Constant(int(interval[0]))
            if interval.min() == interval.max()
            else fit_weighted(model, X, interval.astype(int), weight)
        )
        self.S = S
        self._X = X if self.can_leave_out else None
        return self

    def predict(self, X: Any) -> np.ndarray:
        return self._cumulate(np.asarray(self.model.predict_proba(X), dtype=float))

    def _cumulate(self, inside: np.ndarray) -> np.ndarray:
        mass = np.zeros((inside.shape[0], self.S + 1))
        mass[:, self.model.classes_] = inside
        return np.minimum(np.cumsum(mass, axis=1)[:, :-1], 1.0)

    def out_of_bag(self) -> np.ndarray:
        X = self._X
        if isinstance(self.model, Constant):
            return self.predict(X)
        n = X.shape[0]  # type: ignore[union-attr]
        total, count = np.zeros((n, len(self.model.classes_))), np.zeros((n, 1))
        for tree, drawn in zip(self.model.estimators_, self.model.estimators_samples_, strict=True):
            left = np.ones(n, dtype=bool)
            left[drawn] = False
            rows = np.flatnonzero(left)
            if len(rows):
                total[rows] += tree.predict_proba(X[rows])  # type: ignore[index]
                count[rows] += 1
        with np.errstate(invalid="ignore"):
            return self._cumulate(total / count) + 0 * count / count

    def forget(self) -> None:
        """Let go of the training rows."""
        self._X = None

    @property
    def fitted(self) -> list[Any]:
        return [self.model]


class SharedTrees:
    """One forest for all questions, read from its leaves: see `forest.py`."""

    def __init__(self, forest: Any, on_ranks: bool) -> None:
        self.forest, self.on_ranks = forest, on_ranks
        self.can_leave_out = bool(forest.bootstrap)

    def fit(self, X: Any, y: np.ndarray, interval: np.ndarray, S: int, weight: np.ndarray | None) -> Self:
        self.model = clone(self.forest)
        labels: np.ndarray = (interval[:, None] <= np.arange(S)).astype(int)
        target = ranks(y) if self.on_ranks else labels if S > 1 else labels[:, 0]
        fit_weighted(self.model, X, target, weight)
        leaves = self.model.apply(X)
        self.distribution = LeafDistribution.of(self.model, leaves, interval, S + 1, weight)
        self._leaves: np.ndarray | None = leaves
        return self

    def predict(self, X: Any) -> np.ndarray:
        return self.distribution.probabilities(self.model.apply(X))

    def out_of_bag(self) -> np.ndarray:
        if self._leaves is None:
            raise InputError("the out-of-bag rows were let go of after fitting; fit again")
        return self.distribution.out_of_bag(self.model, self._leaves)[0]

    def forget(self) -> None:
        """Let go of the training rows."""
        self._leaves = None

    @property
    def fitted(self) -> list[Any]:
        return [self.model]

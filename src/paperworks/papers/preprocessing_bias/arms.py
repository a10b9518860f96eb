"""Fit a pipeline with some steps inside the folds and some outside, and find out which steps look at y.

Steps are the named transformers before the final estimator. A step outside is fitted once on all rows that it is given; a step
inside on the training rows of the fold. Both arms use the same seeds, so that they differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupShuffleSplit,
    ShuffleSplit,
    StratifiedShuffleSplit,
    check_cv,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import _safe_indexing

from paperworks.errors import InputError

Named = tuple[str, BaseEstimator]


@dataclass(frozen=True)
class Data:
    """Rows with their targets, groups and weights; X may be an array, a sparse matrix or a data frame."""

    X: Any
    y: np.ndarray
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Data:
        """Some rows, in the given order."""
        groups = None if self.groups is None else self.groups[rows]
        weights = None if self.weights is None else self.weights[rows]
        return Data(_safe_indexing(self.X, rows), self.y[rows], groups, weights)

    def __len__(self) -> int:
        return len(self.y)


def as_pipeline(model: Any) -> Pipeline:
    """A pipeline from a pipeline or a (preprocessor, estimator) pair.

    Raises TypeError when there is no final estimator that predicts.
    """
    if isinstance(model, (tuple, list)) and len(model) == 2:
        model = make_pipeline(*model)
    if not isinstance(model, Pipeline):
        raise TypeError(f"give a sklearn Pipeline or a (preprocessor, estimator) pair, got {type(model).__name__}")
    final = model.steps[-1][1]
    if not hasattr(final, "predict"):
        raise TypeError(
            f"the last step, {model.steps[-1][0]!r}, does not predict; the audit needs an estimator at the end"
        )
    return model


def transformers(pipeline: Pipeline) -> list[Named]:
    """The steps before the final estimator that do something."""
    return [(name, step) for name, step in pipeline.steps[:-1] if step is not None and step != "passthrough"]


def seeded(estimator: BaseEstimator, seed: int) -> BaseEstimator:
    """A clone whose every `random_state` that is None is a seed of ours, so that two arms draw the same numbers."""
    copy = clone(estimator)
    names = [name for name in copy.get_params() if name == "random_state" or name.endswith("__random_state")]
    copy.set_params(**{name: seed for name in sorted(names) if copy.get_params()[name] is None})
    return copy


def uses_y(steps: Sequence[Named], data: Data, seed: int = 0, n_tries: int = 3) -> set[str]:
    """Names of the steps whose transform changes when y is permuted."""
    found: set[str] = set()
    rng = np.random.default_rng(seed)
    rows = data.X
    for name, step in steps:
        true = seeded(step, seed).fit(rows, data.y)
        plain = true.transform(rows)
        for _ in range(n_tries):
            other = seeded(step, seed).fit(rows, data.y[rng.permutation(len(data))]).transform(rows)
            if not _same(plain, other):
                found.add(name)
                break
        rows = plain
    return found


def _same(a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    if sparse.issparse(a):
        values: Any = a
        difference: Any = a - b
        largest = max(1.0, float(np.abs(values.data).max(initial=0.0)))
        return bool(np.abs(difference.data).max(initial=0.0) <= 1e-9 * largest)
    left, right = np.asarray(a), np.asarray(b)
    if left.dtype == object or right.dtype == object:
        return bool((left.astype(str) == right.astype(str)).all())
    return bool(np.allclose(left.astype(float), right.astype(float), rtol=1e-7, atol=1e-9, equal_nan=True))


class Arm:
    """One way of fitting: which steps are outside. Steps that are outside and come first are fitted once for all folds."""

    def __init__(self, pipeline: Pipeline, outside: Collection[str], data: Data, seed: int) -> None:
        self.steps = transformers(pipeline)
        self.final = pipeline.steps[-1][1]
        self.outside = frozenset(outside)
        self.data = data
        self.seed = seed
        self._shared: list[BaseEstimator] = []
        self._rows = data.X
        for name, step in self.steps:
            if name not in self.outside:
                break
            fitted = seeded(step, seed).fit(self._rows, data.y)
            self._rows = fitted.transform(self._rows)
            self._shared.append(fitted)

    def fit(self, train: np.ndarray) -> tuple[list[BaseEstimator], BaseEstimator]:
        """Fit on the training rows of a fold: the fitted steps and the fitted estimator."""
        rows = self._rows
        fitted = list(self._shared)
        for name, step in self.steps[len(fitted) :]:
            if name in self.outside:
                done = seeded(step, self.seed).fit(rows, self.data.y)
            else:
                done = seeded(step, self.seed).fit(_safe_indexing(rows, train), self.data.y[train])
            rows = done.transform(rows)
            fitted.append(done)
        final = seeded(self.final, self.seed)
        arguments = {} if self.data.weights is None else {"sample_weight": self.data.weights[train]}
        final.fit(_safe_indexing(rows, train), self.data.y[train], **arguments)
        self._last = rows
        return fitted, final

    def score(self, final: BaseEstimator, test: np.ndarray, scorer: Any) -> float:
        """Score the estimator that was fitted last on rows of the same data."""
        arguments = {} if self.data.weights is None else {"sample_weight": self.data.weights[test]}
        return float(scorer(final, _safe_indexing(self._last, test), self.data.y[test], **arguments))


def score_fresh(fitted: list[BaseEstimator], final: BaseEstimator, fresh: Data, scorer: Any) -> float:
    """Score a fitted (steps, estimator) on rows that none of them saw."""
    rows = fresh.X
    for step in fitted:
        rows = step.transform(rows)
    arguments = {} if fresh.weights is None else {"sample_weight": fresh.weights}
    return float(scorer(final, rows, fresh.y, **arguments))


def splitter(cv: Any, y: np.ndarray, estimator: Any, seed: int) -> BaseCrossValidator:
    """The folds of one repeat: a number means shuffled (stratified for a classifier) folds; a splitter with a `random_state` is
    seeded; any other is taken as it is."""
    if isinstance(cv, int):
        from sklearn.model_selection import KFold, StratifiedKFold

        kind = StratifiedKFold if is_classifier(estimator) else KFold
        return kind(cv, shuffle=True, random_state=seed)
    made = check_cv(cv, y, classifier=is_classifier(estimator))
    if getattr(made, "shuffle", True) and hasattr(made, "random_state"):
        from copy import copy

        made = copy(made)
        made.random_state = seed
    return made


def is_repeatable(cv: Any) -> bool:
    """Whether another seed gives other folds."""
    return isinstance(cv, int) or (hasattr(cv, "random_state") and bool(getattr(cv, "shuffle", True)))


def outer_splits(
    cv: Any, data: Data, estimator: Any, holdout: float, n_splits: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to audit and rows held out: whole groups with groups, the last block for time series, else at random."""
    n = len(data)
    if type(cv).__name__ == "TimeSeriesSplit":
        cut = round(n * (1 - holdout))
        yield np.arange(cut), np.arange(cut, n)
        return
    if data.groups is not None:
        outer: Any = GroupShuffleSplit(n_splits, test_size=holdout, random_state=seed)
    elif is_classifier(estimator):
        outer = StratifiedShuffleSplit(n_splits, test_size=holdout, random_state=seed)
    else:
        outer = ShuffleSplit(n_splits, test_size=holdout, random_state=seed)
    yield from outer.split(np.zeros(n), data.y, data.groups)


def choose_outside(outside: Any, steps: Sequence[Named], supervised: set[str]) -> frozenset[str]:
    """Which steps are taken as fitted outside the folds.

    'unsupervised': those that do not look at y; 'all': every one; a list: those; None: none.
    """
    names = [name for name, _ in steps]
    if outside is None:
        return frozenset()
    if isinstance(outside, str):
        if outside == "unsupervised":
            return frozenset(names) - supervised
        if outside == "all":
            return frozenset(names)
        outside = [outside]
    unknown = sorted(set(outside) - set(names))
    if unknown:
        raise InputError(
            f"outside names {', '.join(unknown)}, but the steps before the estimator are: {', '.join(names)}"
        )
    return frozenset(outside)

"""The paper's simulations with a loop over repetitions and scikit-learn's own estimators: slow, plain, kept for the tests."""

from __future__ import annotations

from typing import Literal

import numpy as np
from sklearn.linear_model import Lasso, LinearRegression

from paperworks.papers.preprocessing_bias.transformers import (
    CategoryMeanRegressor,
    RareCategoryGrouper,
    TopKVariance,
    ZeroMeanScaler,
)


def variance_selection_once(
    X: np.ndarray, y: np.ndarray, n: int, m: int, k: int, criterion: Literal["variance", "sumsq"] = "variance"
) -> tuple[float, float, float]:
    """Naive, true and proper error of one repetition. Rows: n training, m validation, the rest fresh."""

    def errors(seen: int) -> tuple[float, float]:
        step = TopKVariance(k, criterion=criterion).fit(X[:seen])
        model = LinearRegression(fit_intercept=False).fit(step.transform(X[:n]), y[:n])
        loss = np.square(y - model.predict(step.transform(X)))
        return float(loss[n : n + m].mean()), float(loss[n + m :].mean())

    naive, truth = errors(n + m)
    return naive, truth, errors(n)[1]


def rare_categories_once(
    categories: np.ndarray, y: np.ndarray, n: int, m: int, min_count: int
) -> tuple[float, float, float]:
    """The same for the grouping of rare categories: categories (rows, 1)."""

    def errors(seen: int) -> tuple[float, float]:
        step = RareCategoryGrouper(min_count).fit(categories[:seen])
        model = CategoryMeanRegressor().fit(step.transform(categories[:n]), y[:n])
        loss = np.square(y - model.predict(step.transform(categories)))
        return float(loss[n : n + m].mean()), float(loss[n + m :].mean())

    naive, truth = errors(n + m)
    return naive, truth, errors(n)[1]


def rescaled_lasso_once(X: np.ndarray, y: np.ndarray, n: int, m: int, alpha: float) -> tuple[float, float, float]:
    """The same for rescaling before the Lasso."""

    def errors(seen: int) -> tuple[float, float]:
        step = ZeroMeanScaler().fit(X[:seen])
        model = Lasso(alpha=alpha, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(step.transform(X[:n]), y[:n])
        loss = np.square(y - model.predict(step.transform(X)))
        return float(loss[n : n + m].mean()), float(loss[n + m :].mean())

    naive, truth = errors(n + m)
    return naive, truth, errors(n)[1]

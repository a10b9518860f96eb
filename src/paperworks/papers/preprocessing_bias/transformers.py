"""The unsupervised steps that the paper studies, as scikit-learn transformers, and the category-mean regressor.

Axis letters: n samples, d columns.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, RegressorMixin, TransformerMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import check_is_fitted, validate_data

from paperworks.errors import InputError


class TopKVariance(SelectorMixin, BaseEstimator):
    """Keep the k columns that vary most (section 4 of the paper); y is not looked at.

    Parameters
    ----------
    k : int, default 10
        How many columns to keep; all, when there are no more than k.
    criterion : {"variance", "sumsq"}, default "variance"
        "variance" is about the column's mean; "sumsq" the plain sum of squares.

    Attributes
    ----------
    scores_ : ndarray (d,)
        The criterion of each column. Ties go to the column further left, so that folds agree.
    """

    def __init__(self, k: int = 10, *, criterion: Literal["variance", "sumsq"] = "variance") -> None:
        self.k = k
        self.criterion = criterion

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the columns. Raises InputError for k < 1 or an unknown criterion."""
        if self.k < 1:
            raise InputError(f"k must be at least 1, got {self.k}")
        if self.criterion not in ("variance", "sumsq"):
            raise InputError(f"criterion must be 'variance' or 'sumsq', got {self.criterion!r}")
        X = validate_data(self, X, accept_sparse=("csr", "csc"), dtype=(np.float64, np.float32))
        if sparse.issparse(X):
            means, variances = mean_variance_axis(X, axis=0)
        else:
            means, variances = X.mean(axis=0), X.var(axis=0)
        self.scores_ = variances if self.criterion == "variance" else X.shape[0] * (variances + means**2)
        return self

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self)
        mask = np.zeros(self.scores_.size, dtype=bool)
        mask[np.argsort(-self.scores_, kind="stable")[: self.k]] = True
        return mask

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class ZeroMeanScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Divide each column by the root of its mean square, without centring (section 5.2 of the paper).

    A column of zeros stays as it is. Sparse input stays sparse.

    Attributes
    ----------
    scale_ : ndarray (d,)
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the scale of each column."""
        X = validate_data(self, X, accept_sparse=("csr", "csc"), dtype=(np.float64, np.float32))
        if sparse.issparse(X):
            means, variances = mean_variance_axis(X, axis=0)
            squares = variances + means**2
        else:
            squares = np.mean(np.square(X), axis=0)
        self.scale_ = np.where(squares > 0, np.sqrt(squares), 1.0)
        return self

    def transform(self, X: Any) -> Any:
        """X (n, d) -> (n, d), each column divided by its scale."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse=("csr", "csc"), dtype=(np.float64, np.float32))
        if sparse.issparse(X):
            table: Any = X  # scipy's types do not know this product
            return table @ sparse.diags_array(1.0 / self.scale_)
        return X / self.scale_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _key(value: object) -> Hashable:
    """A category as a dictionary key; every missing value is the one category None."""
    if value is None or (isinstance(value, float) and value != value) or value is _pandas_na():
        return None
    return value.item() if isinstance(value, np.generic) else value


def _pandas_na() -> object:
    import sys

    pandas = sys.modules.get("pandas")
    return pandas.NA if pandas is not None else _key


class RareCategoryGrouper(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Replace categories that are seen too rarely by one common one (section 5.1 of the paper).

    Parameters
    ----------
    min_count : int, default 4
        A category with fewer rows than this is rare. Unseen ones are rare too. A missing value is a category of its own.
    min_frequency : float or None
        Instead of a count, a share of the rows, 0 to 1.
    rare : object, default "__rare__"
        What rare categories become.

    Attributes
    ----------
    kept_ : list of sets, one a column
    """

    def __init__(self, min_count: int = 4, *, min_frequency: float | None = None, rare: Any = "__rare__") -> None:
        self.min_count = min_count
        self.min_frequency = min_frequency
        self.rare = rare

    def fit(self, X: Any, y: Any = None) -> Self:
        """Count the categories of each column."""
        if self.min_frequency is not None and not 0 <= self.min_frequency <= 1:
            raise InputError(f"min_frequency is a share of the rows, 0 to 1, got {self.min_frequency}")
        X = validate_data(self, X, dtype=None, ensure_all_finite=False)
        least = self.min_count if self.min_frequency is None else int(np.ceil(self.min_frequency * len(X)))
        self.kept_ = []
        for column in X.T:
            counts: dict[Hashable, int] = {}
            for value in column:
                counts[_key(value)] = counts.get(_key(value), 0) + 1
            self.kept_.append({value for value, count in counts.items() if count >= least})
        return self

    def transform(self, X: Any) -> np.ndarray:
        """X (n, d) of any category -> (n, d) objects; numbers, when X and `rare` are numbers."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=None, ensure_all_finite=False)
        numeric = X.dtype.kind in "fiu" and isinstance(self.rare, (int, float))
        out = np.empty(X.shape, dtype=np.result_type(X.dtype, float) if numeric else object)
        for index, kept in enumerate(self.kept_):
            out[:, index] = [value if _key(value) in kept else self.rare for value in X[:, index]]
        return out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags


class CategoryMeanRegressor(RegressorMixin, BaseEstimator):
    """Predict the training mean of the row's category: all columns together are one category (section 5.1 of the paper).

    Parameters
    ----------
    default : float, default 0.0
        Prediction for the category `rare` and for unseen ones.
    rare : object, default "__rare__"
        A row that holds this anywhere gets the default. None: no category is treated so.

    Attributes
    ----------
    means_ : dict from category to mean of y
    """

    def __init__(self, default: float = 0.0, *, rare: Any = "__rare__") -> None:
        self.default = default
        self.rare = rare

    def fit(self, X: Any, y: Any) -> Self:
        """Average y in each category."""
        X, y = validate_data(self, X, y, dtype=None, ensure_all_finite=False, y_numeric=True)
        sums: dict[tuple[Hashable, ...], list[float]] = {}
        for row, value in zip(X, y, strict=True):
            entry = sums.setdefault(tuple(map(_key, row)), [0.0, 0.0])
            entry[0] += float(value)
            entry[1] += 1
        self.means_ = {
            category: total / count for category, (total, count) in sums.items() if not self._is_rare(category)
        }
        return self

    def predict(self, X: Any) -> np.ndarray:
        """X (n, d) -> predictions (n,)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=None, ensure_all_finite=False)
        return np.array([self.means_.get(tuple(map(_key, row)), self.default) for row in X], dtype=float)

    def _is_rare(self, category: tuple[Hashable, ...]) -> bool:
        return self.rare is not None and any(isinstance(part, str) and part == self.rare for part in category)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.regressor_tags.poor_score = True
        return tags

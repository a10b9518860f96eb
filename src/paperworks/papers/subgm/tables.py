"""Robust PCA and robust completion of tables, as scikit-learn transformers: no rank, no penalty, cells may be missing.

Each seen cell is a measurement, X = L R^T, and the method is `subgm` with its rectangular form. The paper treats symmetric matrices only.

Axis letters: n rows (samples), p columns (features), k components.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse
from scipy.special import ndtr
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from paperworks.errors import InputError
from paperworks.papers.subgm.operators import EntryOperator
from paperworks.papers.subgm.settings import handed_on
from paperworks.papers.subgm.solver import SubGMResult, subgm
from paperworks.papers.subgm.steps import Step

_FLOATS = (np.float64, np.float32)


class _RobustTable(TransformerMixin, BaseEstimator):
    """What the two share: taking a table apart into a low-rank part and gross errors."""

    def __init__(
        self,
        n_components: int | None = None,
        *,
        max_rank: int | None = None,
        center: bool = False,
        step: Step = "auto",
        alpha: float = 1e-9,
        eta0: float = 0.1,
        rho: float = 0.96,
        init: str | np.ndarray = "spectral",
        max_iter: int = 3000,
        tol: float = 1e-9,
        max_rounds: int = 8,
        huber: float = 0.0,
        outlier_level: float = 0.01,
        random_state: int | None = 0,
        verbose: int = 0,
        callback: Callable[..., bool | None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        self.n_components = n_components
        self.max_rank = max_rank
        self.center = center
        self.step = step
        self.alpha = alpha
        self.eta0 = eta0
        self.rho = rho
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.max_rounds = max_rounds
        self.huber = huber
        self.outlier_level = outlier_level
        self.random_state = random_state
        self.verbose = verbose
        self.callback = callback
        self.checkpoint = checkpoint

    def _solve(
        self, shape: tuple[int, int], rows: np.ndarray, cols: np.ndarray, values: np.ndarray, dtype: Any
    ) -> None:
        """Learn from cells (m,) of a table of that shape, and set the fitted attributes."""
        if not 0 < self.outlier_level < 1:
            raise InputError(f"outlier_level must lie between 0 and 1, got {self.outlier_level}")
        if values.size == 0:
            raise InputError("every cell is missing; there is nothing to fit")
        limit = min(shape)
        if self.n_components is not None and self.n_components < 1:
            raise InputError(f"n_components must be at least 1, got {self.n_components}; None reads it off")
        search = self.n_components or self.max_rank or max(1, limit // 4)
        if search > limit:
            name = "n_components" if self.n_components else "max_rank"
            warnings.warn(f"{name}={search} is above the smaller side of the table; {limit} is used", stacklevel=4)
            search = limit
        for what, ids, length in (("row", rows, shape[0]), ("column", cols, shape[1])):
            empty = length - np.unique(ids).size
            if empty:
                warnings.warn(f"{empty} {what}(s) hold no value at all; their low-rank part is zero", stacklevel=4)
        operator = EntryOperator(shape, rows, cols)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="all measurements are zero")
            result = subgm(
                operator,
                values,
                psd=False,
                rank=search,
                n_components=None if self.n_components is None else min(self.n_components, search),
                **handed_on(self),
            )
        if result.rank == 0:
            warnings.warn("all cells are zero: rank 0", stacklevel=4)
        self._take(result, dtype)
        residual = np.abs(result.residuals)
        self._sigma = max(
            1.4826 * float(np.median(residual)), 1e-7 * float(np.median(np.abs(values[np.isfinite(values)]), axis=0))
        )  # the median absolute deviation, or what rounding alone would leave

    def _take(self, result: SubGMResult, dtype: Any) -> None:
        left, right = result.U[:, : result.rank], result.V[:, : result.rank]
        if left.shape[1]:
            q_left, r_left = np.linalg.qr(left)
            q_right, r_right = np.linalg.qr(right)
            u, s, vt = np.linalg.svd(r_left @ r_right.T)
            u, vt = q_left @ u, vt @ q_right.T
            sign = np.sign(
                vt[np.arange(s.size), np.abs(vt).argmax(axis=1)]
            )  # as scikit-learn's PCA: largest entry positive
            u, vt = u * sign, vt * sign[:, None]
        else:
            u, s, vt = left, np.zeros(0), right.T
        self.components_ = vt.astype(dtype)
        self.singular_values_ = s.astype(dtype)
        self.row_vectors_ = u.astype(dtype)
        self.rank_ = int(s.size)
        self.gap_ = result.gap
        self.n_iter_ = max(1, result.n_iter)
        self.history_ = result.history
        self.converged_ = result.success
        self.message_ = result.message

    def _p_values(self, residual: np.ndarray) -> np.ndarray:
        """Chance of a residual as large if errors were Gaussian with the spread that most cells have."""
        with np.errstate(over="ignore"):
            return 2 * ndtr(-np.abs(residual) / self._sigma) if self._sigma > 0 else (residual == 0).astype(float)

    def _outliers(self, residual: np.ndarray) -> np.ndarray:
        """Residuals too large for chance; of those named, about `outlier_level` are wrongly so (Benjamini and Hochberg)."""
        p_values = self._p_values(residual)
        order = np.sort(p_values)
        below = np.flatnonzero(order <= self.outlier_level * np.arange(1, order.size + 1) / order.size)
        return p_values <= order[below[-1]] if below.size else np.zeros(p_values.shape, dtype=bool)

    def _fit_table(self, X: Any) -> None:
        X = validate_data(self, X, dtype=_FLOATS, ensure_all_finite=False)
        seen = ~np.isnan(X)
        work = X.astype(np.float64)
        if self.center:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a column without a value: its centre is 0
                self.mean_ = np.nan_to_num(np.nanmedian(work, axis=0), posinf=0.0, neginf=0.0).astype(X.dtype)
        else:
            self.mean_ = np.zeros(X.shape[1], dtype=X.dtype)
        work -= self.mean_
        rows, cols = np.nonzero(seen)
        self._solve(X.shape, rows, cols, work[seen], X.dtype)
        self.low_rank_ = (self.row_vectors_ * self.singular_values_) @ self.components_ + self.mean_
        residual = (X.astype(np.float64) - self.low_rank_)[seen]
        self.outlier_mask_ = np.zeros(X.shape, dtype=bool)
        self.outlier_mask_[seen] = self._outliers(residual)
        self.outlier_p_values_ = np.ones(X.shape)
        self.outlier_p_values_[seen] = self._p_values(residual)
        self.sparse_ = np.where(self.outlier_mask_, X - self.low_rank_, 0).astype(X.dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class RobustPCA(ClassNamePrefixFeaturesOutMixin, _RobustTable):
    """Principal components of a table of which some cells are grossly wrong or missing.

    Parameters
    ----------
    n_components : int, default None
        The rank. None searches over `max_rank` and reads it off.
    max_rank : int, default None
        The search rank; None is a quarter of the smaller side.
    center : bool, default False
        Subtract the columns' medians first. (The low-rank part can hold a mean by itself, at the price of one rank.)
    step, alpha, eta0, rho, init, max_iter, tol, max_rounds, huber, checkpoint :
        As in `subgm`; `huber` is in the units of the cells.
    outlier_level : float, default 0.01
        Share of wrong accusations in `outlier_mask_` (false discovery rate, errors of the good cells taken as Gaussian).
    random_state : int, default 0
        Seeds the random signs of the self-check.
    verbose : int, default 0
        Above 0, progress goes to the log.
    callback : callable, default None
        As in `subgm`.

    Attributes
    ----------
    low_rank_, sparse_ : ndarray (n, p)
        The clean table, and what the outliers had on top (0 elsewhere).
    outlier_mask_, outlier_p_values_ : ndarray (n, p)
        Which cells are grossly wrong, and how unlikely each residual is otherwise. Missing cells are never outliers.
    components_ : ndarray (k, p); singular_values_ : ndarray (k,); row_vectors_ : ndarray (n, k)
    mean_ : ndarray (p,)
    rank_, gap_ : the rank, and the ratio of singular values that shows it
    n_iter_, history_, converged_, message_ : as in `SubGMResult`

    NaN is a missing cell, infinity a gross error. Results have the dtype of the table, float32 or float64; the work is in float64.

    >>> from paperworks.papers.subgm import toy
    >>> seen, truth, wrong = toy.table(60, 40, rank=2, corrupt=0.2)
    >>> model = RobustPCA().fit(seen)
    >>> model.rank_, bool(np.allclose(model.low_rank_, truth)), bool((model.outlier_mask_ == wrong).all())
    (2, True, True)
    """

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def fit(self, X: Any, y: Any = None) -> Self:
        """Take the table (n, p) apart. Raises InputError for settings that cannot be used."""
        self._fit_table(X)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Scores (n, k) of rows (n, p): for each the combination of components with the least absolute error, missing cells left out."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_FLOATS, ensure_all_finite=False, reset=False)
        return l1_scores(X - self.mean_, self.components_).astype(X.dtype)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Rows (n, p) from scores (n, k)."""
        check_is_fitted(self)
        return np.asarray(X) @ self.components_ + self.mean_


class RobustMatrixCompletion(OneToOneFeatureMixin, _RobustTable):
    """Fill missing cells, and mend wrong ones, of a table that is close to low rank.

    Parameters are those of `RobustPCA`, and

    replace : {"missing", "outliers", "all"}, default "outliers"
        Which cells `transform` replaces by their low-rank value: those that are missing; those and the outliers; all.

    Fitted on a dense table with NaN, or on a SciPy sparse matrix whose stored values are the seen cells (zeros stored on purpose
    count as seen); a sparse one is not made dense by `fit`, and `cells` gives single cells. Attributes are those of `RobustPCA`, of which
    `low_rank_`, `sparse_`, `outlier_mask_` and `outlier_p_values_` exist for a dense table; for a sparse one the mask and the values
    are given for the stored cells, in the order of its canonical CSR form.

    >>> from paperworks.papers.subgm import toy
    >>> seen, truth, wrong = toy.table(60, 60, rank=2, corrupt=0.1, missing=0.3)
    >>> bool(np.allclose(RobustMatrixCompletion().fit_transform(seen), truth))
    True
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        replace: str = "outliers",
        max_rank: int | None = None,
        center: bool = False,
        step: Step = "auto",
        alpha: float = 1e-9,
        eta0: float = 0.1,
        rho: float = 0.96,
        init: str | np.ndarray = "spectral",
        max_iter: int = 3000,
        tol: float = 1e-9,
        max_rounds: int = 8,
        huber: float = 0.0,
        outlier_level: float = 0.01,
        random_state: int | None = 0,
        verbose: int = 0,
        callback: Callable[..., bool | None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        super().__init__(
            n_components,
            max_rank=max_rank,
            center=center,
            step=step,
            alpha=alpha,
            eta0=eta0,
            rho=rho,
            init=init,
            max_iter=max_iter,
            tol=tol,
            max_rounds=max_rounds,
            huber=huber,
            outlier_level=outlier_level,
            random_state=random_state,
            verbose=verbose,
            callback=callback,
            checkpoint=checkpoint,
        )
        self.replace = replace

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the low-rank part of a table (n, p), dense with NaN or sparse. Raises InputError for unusable settings."""
        if self.replace not in ("missing", "outliers", "all"):
            raise InputError(f"replace must be missing, outliers or all, got {self.replace!r}")
        if not sparse.issparse(X):
            self._fit_table(X)
            return self
        if self.center:
            raise InputError("center=True needs a dense table; subtract the medians of the stored values yourself")
        X = validate_data(self, X, accept_sparse="csr", dtype=_FLOATS, ensure_all_finite=False).copy()
        X.sum_duplicates()
        if np.isnan(X.data).any():
            raise InputError("a stored value of the sparse table is NaN; leave missing cells out of it")
        rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        self.mean_ = np.zeros(X.shape[1], dtype=X.dtype)
        self._solve(X.shape, rows, X.indices, X.data.astype(np.float64), X.dtype)
        residual = X.data - self.cells(rows, X.indices)
        self.outlier_mask_ = self._outliers(residual)
        self.outlier_p_values_ = self._p_values(residual)
        return self

    def cells(self, rows: Any, cols: Any) -> np.ndarray:
        """Low-rank values of the cells (rows[i], cols[i]) of the fitted table, (m,)."""
        check_is_fitted(self)
        rows, cols = np.asarray(rows), np.asarray(cols)
        left = self.row_vectors_[rows] * self.singular_values_
        return np.einsum("mk,mk->m", left, self.components_.T[cols]) + self.mean_[cols]

    def transform(self, X: Any) -> np.ndarray:
        """Rows (n, p), old or new, with cells replaced as `replace` says; each row's scores are fitted by least absolute error.

        Of sparse rows the stored values are the seen cells; the result is dense.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=_FLOATS, ensure_all_finite=False, reset=False)
        if not isinstance(X, np.ndarray):
            stored: Any = X.tocoo()
            X = np.full(stored.shape, np.nan, dtype=stored.dtype)
            X[stored.row, stored.col] = stored.data
        low = (l1_scores(X - self.mean_, self.components_) @ self.components_ + self.mean_).astype(X.dtype)
        missing = np.isnan(X)
        if self.replace == "all":
            return low
        change = missing.copy()
        if self.replace == "outliers":
            # a level per cell, so that a row's result does not hang on the rows that come with it
            residual = np.where(missing, 0.0, X.astype(np.float64) - low)
            change |= self._p_values(residual) <= self.outlier_level / X.shape[1]
        return np.where(change, low, X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def l1_scores(X: np.ndarray, components: np.ndarray, *, max_iter: int = 80) -> np.ndarray:
    """argmin over s of sum_j |x_j - (s W)_j| for every row x: X (n, p) and W (k, p) -> (n, k) float64.

    Reweighted least squares with a threshold that shrinks, all rows at once; NaN and infinite cells are left out.

    >>> l1_scores(np.array([[1.0, 1.0, 50.0, np.nan]]), np.ones((1, 4))).round(6)
    array([[1.]])
    """
    rows = np.asarray(X, dtype=np.float64)
    W = np.asarray(components, dtype=np.float64)
    n, k = rows.shape[0], W.shape[0]
    scores = np.zeros((n, k))
    if k == 0:
        return scores
    good = np.isfinite(rows)
    rows = np.where(good, rows, 0.0)
    products = (W[:, None, :] * W[None, :, :]).reshape(k * k, -1).T  # (p, k^2)
    for start in range(0, n, 4096):
        part = slice(start, start + 4096)
        x, seen = rows[part], good[part].astype(float)
        scale = np.maximum(np.abs(x).max(axis=1, keepdims=True), 1e-300)
        weights, threshold = seen, 1.0
        for _ in range(max_iter):
            gram = np.einsum("np,pq->nq", weights, products, optimize=True).reshape(-1, k, k)
            ridge = 1e-13 * np.trace(gram, axis1=1, axis2=2)[:, None, None] + 1e-300
            scores[part] = np.linalg.solve(gram + ridge * np.eye(k), ((weights * x) @ W.T)[..., None])[..., 0]
            residual = np.abs(x - scores[part] @ W) / scale
            threshold = max(threshold * 0.7, 1e-10)
            weights = seen * threshold / np.maximum(residual, threshold)
    return scores

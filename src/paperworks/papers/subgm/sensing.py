"""Matrix sensing and phase retrieval as people call them: `fit(A, y)`, and x from |a^T x|^2.

Axis letters: m measurements, d and e sides of the matrix, k its rank.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from paperworks.errors import InputError
from paperworks.papers.subgm.operators import Operator, QuadraticOperator, as_operator
from paperworks.papers.subgm.settings import handed_on
from paperworks.papers.subgm.solver import SubGMResult, subgm
from paperworks.papers.subgm.steps import Step


class MatrixSensing(RegressorMixin, BaseEstimator):
    """The matrix X behind y_i = <A_i, X>, although a share of the y are arbitrary.

    Parameters
    ----------
    rank : int, default None
        The rank, if it is known; otherwise it is read off.
    max_rank : int, default None
        The search rank; None is the smaller side of the matrix.
    psd : bool, default True
        X is symmetric positive semidefinite. False: any matrix, square or not.
    holdout : float, default 0.1
        Fraction of the measurements kept out to check the result; 0 uses all.
    step, alpha, eta0, rho, init, max_iter, tol, max_rounds, huber, early_stopping, random_state, callback, checkpoint :
        As in `subgm`.
    verbose : int, default 0
        Above 0, progress goes to the log.

    Attributes
    ----------
    matrix_ : ndarray (d, e); factor_ : ndarray (d, k), and right_factor_ (e, k)
    rank_, gap_, kappa_ : rank, ratio of the singular values that shows it, condition number
    outlier_mask_ : ndarray (m,)
        Measurements with residuals above five robust standard deviations.
    converged_, message_, held_out_ratio_ : whether to trust it, why not, and the certificate of the hold-out
    n_iter_, history_, result_ : as in `SubGMResult`

    As vectors (m, d) are the one form that scikit-learn's checks know, they run over that one. The score is minus the median absolute
    residual, not R^2, which a single gross error would decide.

    >>> from paperworks.papers.subgm import toy
    >>> problem = toy.sensing(d=10, rank=1, m=300, corrupt=0.3)
    >>> model = MatrixSensing().fit(problem.operator, problem.y)
    >>> model.rank_, bool(problem.error(model.matrix_) < 1e-6), model.converged_
    (1, True, True)
    """

    def __init__(
        self,
        rank: int | None = None,
        *,
        max_rank: int | None = None,
        psd: bool = True,
        holdout: float = 0.1,
        step: Step = "auto",
        alpha: float = 1e-9,
        eta0: float = 0.1,
        rho: float = 0.9,
        init: str | np.ndarray = "spectral",
        max_iter: int = 3000,
        tol: float = 1e-12,
        max_rounds: int = 8,
        huber: float = 0.0,
        early_stopping: int | None = None,
        random_state: int | None = 0,
        verbose: int = 0,
        callback: Callable[..., bool | None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        self.rank = rank
        self.max_rank = max_rank
        self.psd = psd
        self.holdout = holdout
        self.step = step
        self.alpha = alpha
        self.eta0 = eta0
        self.rho = rho
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.max_rounds = max_rounds
        self.huber = huber
        self.early_stopping = early_stopping
        self.random_state = random_state
        self.verbose = verbose
        self.callback = callback
        self.checkpoint = checkpoint

    def fit(self, X: Any, y: Any) -> Self:
        """Recover the matrix from measurements X, in any form of `as_operator`, and y (m,).

        Raises InputError for measurements, y or settings that cannot be used.
        """
        if _is_table(X):
            vectors, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
            operator: Operator = QuadraticOperator(vectors)
        else:
            operator = as_operator(X, psd=self.psd)
        result = subgm(
            operator,
            y,
            psd=self.psd,
            rank=self.max_rank if self.rank is None else max(self.rank, self.max_rank or self.rank),
            n_components=self.rank,
            holdout=self.holdout if operator.m >= 20 else 0.0,
            early_stopping=self.early_stopping,
            **handed_on(self),
        )
        self._take(result)
        return self

    def _take(self, result: SubGMResult) -> None:
        self.result_ = result
        self.matrix_ = result.matrix
        self.factor_, self.right_factor_ = result.U, result.V
        self.rank_, self.gap_, self.kappa_ = result.rank, result.gap, result.kappa
        residual = np.abs(result.residuals)
        sigma = 1.4826 * float(np.median(residual))
        fitted = float(np.linalg.norm(result.singular_values))
        self.outlier_mask_ = residual > max(5 * sigma, 1e-7 * fitted)
        self.converged_, self.message_, self.held_out_ratio_ = result.success, result.message, result.held_out_ratio
        self.n_iter_, self.history_ = max(1, result.n_iter), result.history

    def predict(self, X: Any) -> np.ndarray:
        """<A_i, matrix_> for measurements in any form of `as_operator`, (m,)."""
        check_is_fitted(self)
        if _is_table(X):
            if not hasattr(self, "n_features_in_"):
                self.n_features_in_ = self.matrix_.shape[0]
            return QuadraticOperator(validate_data(self, X, dtype=np.float64, reset=False)).forward(
                self.factor_, self.right_factor_
            )
        return as_operator(X, psd=self.psd).forward(self.factor_, self.right_factor_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Minus the median absolute residual on other measurements; greater is better, 0 is best. Weights are not used."""
        return -float(np.median(np.abs(np.asarray(y, dtype=float) - self.predict(X))))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # linear targets are not squares of projections
        return tags


def _is_table(X: Any) -> bool:
    """Whether these are vectors (m, d), or nonsense that scikit-learn's own messages explain best."""
    if isinstance(X, (Operator, LinearOperator)) or sparse.issparse(X):
        return False
    return len(getattr(X, "shape", ())) != 3


def robust_phase_retrieval(a: np.ndarray, y: np.ndarray, **settings: Any) -> np.ndarray:
    """x (d,) from y_i = (a_i^T x)^2 with gross errors among the y; real numbers.

    a (m, d), y (m,). The sign of x cannot be known: its largest entry is made positive. `settings` go to `subgm`.
    Raises InputError when nothing was found.

    >>> from paperworks.papers.subgm import toy
    >>> problem = toy.phase(d=10, m=200, corrupt=0.1)
    >>> x = robust_phase_retrieval(problem.operator.vectors, problem.y)
    >>> bool(np.allclose(np.outer(x, x), problem.truth))
    True
    """
    result = subgm(QuadraticOperator(a), y, **({"rank": 1, "n_components": 1} | settings))
    if result.rank == 0:
        raise InputError(f"no signal was found: {result.message}")
    values, vectors = np.linalg.eigh(result.matrix)
    x = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
    return x * np.sign(x[np.abs(x).argmax()])

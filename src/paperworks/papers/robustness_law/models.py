"""Random features and tangent kernels as scikit-learn regressors that know how sensitive they are.

Both fit by least squares from zero (minimum norm): theta = Phi^+ Y. Axis letters: n training rows, m test rows, d input columns, o outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from paperworks.errors import InputError
from paperworks.papers.robustness_law import infinite
from paperworks.papers.robustness_law.activations import Activation, activation
from paperworks.papers.robustness_law.kernels import (
    Kind,
    Weights,
    check_bytes,
    features,
    gram,
    ntk_gradients,
    ntk_outputs,
    ntk_primal_gradients,
    rf_coefficients,
    rf_gradients,
    rf_outputs,
)
from paperworks.papers.robustness_law.solve import solve_features, solve_gram
from paperworks.progress import LogProgress, silent

Scale = Literal["sqrt_d", "norm"]
_FLOATS = (np.float64, np.float32)
_BATCH_BYTES = 64 * 1024**2


def to_sphere(X: np.ndarray) -> np.ndarray:
    """Rows (n, d) stretched to norm sqrt(d); a row of zeros stays.

    >>> to_sphere(np.array([[3.0, 4.0], [0.0, 0.0]])).round(4)
    array([[0.8485, 1.1314],
           [0.    , 0.    ]])
    """
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return X * np.divide(np.sqrt(X.shape[1]), norms, out=np.zeros_like(norms), where=norms > 0).astype(X.dtype)


def scaled(gradient_norms: np.ndarray, Z: np.ndarray, scale: Scale) -> np.ndarray:
    """Gradient norms (m, ...) times sqrt(d) or times |z|. Raises InputError for another scale."""
    if scale == "sqrt_d":
        return gradient_norms * np.sqrt(Z.shape[1])
    if scale == "norm":
        norms = np.linalg.norm(Z, axis=1)
        return gradient_norms * norms.reshape((-1,) + (1,) * (gradient_norms.ndim - 1))
    raise InputError(f"scale must be 'sqrt_d' or 'norm', got {scale!r}")


class _KernelModel(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """What the two share; `_kind` says which features."""

    _kind: Kind

    def __init__(
        self,
        width: float = 1000,
        activation: str | Activation | Callable[[Any], Any] = "tanh",
        *,
        reg: float = 0.0,
        normalize: Literal["sphere"] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        chunk: int = 8192,
        max_bytes: int = 4 * 1024**3,
        verbose: int = 0,
    ) -> None:
        self.width = width
        self.activation = activation
        self.reg = reg
        self.normalize = normalize
        self.random_state = random_state
        self.chunk = chunk
        self.max_bytes = max_bytes
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Fit by minimum-norm least squares: X (n, d), y (n,) or (n, o).

        Raises InputError for settings that cannot be used or a kernel above max_bytes, ValueError for NaN or infinity.
        """
        self._check()
        X, y = validate_data(self, X, y, dtype=_FLOATS, multi_output=True, y_numeric=True)
        check_bytes(X.shape[0], self.max_bytes)
        self._flat = y.ndim == 1
        Y = y.reshape(X.shape[0], -1).astype(np.float64)
        X = self._scaled(X, fitting=True)
        self.activation_ = activation(self.activation)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.n_parameters_ = self._count(X.shape[1])
        progress = LogProgress(type(self).__name__) if self.verbose else silent
        tol = 1e-6 if X.dtype == np.float64 else 1e-3
        self.theta_: np.ndarray | None = None
        kept: list[np.ndarray] = []
        if np.isinf(self.width):
            self._weights = None
            K = infinite.kernel(self._kind, self.activation_, X, X).astype(np.float64)
        else:
            self._weights = Weights(X.shape[1], int(self.width), self.seed_, X.dtype, self.chunk)
            K = gram(self._kind, X, self._weights, self.activation_, progress, kept)
        if self._weights is not None and self.n_parameters_ < X.shape[0] and self.reg == 0:
            theta, solution = solve_features(features(self._kind, X, self._weights, self.activation_), Y)
            self.theta_ = theta.astype(X.dtype)
        else:
            noise = float(np.finfo(X.dtype).eps)
            solution = solve_gram(K, Y, reg=self.reg, max_rank=self.n_parameters_, tol=tol, noise=noise)
        self._kernel = K
        self.X_fit_ = X
        self.dual_coef_ = solution.dual
        self.jitter_, self.rank_ = solution.jitter, solution.rank
        self.train_residual_ = solution.residual
        self.interpolates_ = bool(solution.residual <= tol)
        if self.reg == 0.0 and not self.interpolates_:
            why = (
                f"its kernel has rank {solution.rank:,} for {X.shape[0]:,} rows"
                if solution.rank < X.shape[0]
                else "some rows are equal, or nearly, with different targets"
            )
            warnings.warn(
                f"the targets cannot be interpolated ({why}); this is the least-squares solution, relative residual "
                f"{solution.residual:.2g}",
                stacklevel=2,
            )
        elif solution.jitter > 0:
            warnings.warn(
                f"the kernel is nearly singular; {solution.jitter:.1e} was added to its diagonal", stacklevel=2
            )
        self._prepare(kept)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """f(X): X (m, d) -> (m,) or (m, o)."""
        Z = self._rows(X)
        out = self._outputs(self._scaled(Z))
        return out[:, 0] if self._flat else out

    def input_gradient(self, X: Any) -> np.ndarray:
        """grad f at each row of X (m, d): (m, d), or (m, o, d) when y had columns."""
        Z = self._rows(X)
        grad = np.empty((Z.shape[0], self.dual_coef_.shape[1], Z.shape[1]), dtype=Z.dtype)
        at_once = max(1, _BATCH_BYTES // (8 * max(self.X_fit_.shape[0], self.chunk, grad[:1].size)))
        for start in range(0, Z.shape[0], at_once):
            rows = Z[start : start + at_once]
            found = self._gradients(self._scaled(rows))
            if self.normalize == "sphere":  # the chain rule through x sqrt(d) / |x|: only what is across x counts
                norms = np.linalg.norm(rows, axis=1)[:, None, None]
                unit = np.divide(rows[:, None], norms, out=np.zeros_like(rows[:, None]), where=norms > 0)
                found = found - (found * unit).sum(-1, keepdims=True) * unit
                found *= np.divide(np.sqrt(Z.shape[1]), norms, out=np.zeros_like(norms), where=norms > 0)
            grad[start : start + at_once] = found
        return grad[:, 0] if self._flat else grad

    def sensitivity(
        self, X: Any, scale: Scale = "sqrt_d", *, outputs: Literal["each", "operator"] = "each"
    ) -> np.ndarray:
        """S = sqrt(d) |grad f(z)| at each row, or |z| |grad f(z)| with scale="norm": (m,), or (m, o) when y had columns.

        outputs: "operator" gives one number a row, with the largest singular value of the Jacobian: (m,).
        A change of z of relative size 1 / S can change the output by 1.
        """
        Z = self._rows(X)
        grad = self.input_gradient(Z)
        if outputs == "operator":
            grad = grad.reshape(Z.shape[0], -1, Z.shape[1])
            return scaled(np.linalg.norm(grad, ord=2, axis=(1, 2)), Z, scale)
        if outputs != "each":
            raise InputError(f"outputs must be 'each' or 'operator', got {outputs!r}")
        return scaled(np.linalg.norm(grad, axis=-1), Z, scale)

    def _rows(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=_FLOATS).astype(self.X_fit_.dtype, copy=False)

    def _scaled(self, X: np.ndarray, *, fitting: bool = False) -> np.ndarray:
        if self.normalize == "sphere":
            return to_sphere(X)
        if fitting:
            norms = np.linalg.norm(X, axis=1)
            low, high = norms.min(), norms.max()
            if low > 0 and high > 10 * low:
                warnings.warn(
                    f"the rows' norms go from {low:.3g} to {high:.3g}; the law is for rows of norm sqrt(d): consider normalize='sphere'",
                    stacklevel=3,
                )
        return X

    def _check(self) -> None:
        if not (np.isinf(self.width) or (self.width >= 1 and float(self.width).is_integer())):
            raise InputError(f"width must be a whole number of at least 1, or numpy.inf, got {self.width}")
        if not self.reg >= 0:
            raise InputError(f"reg must be at least 0, got {self.reg}")
        if self.normalize not in (None, "sphere"):
            raise InputError(f"normalize must be None or 'sphere', got {self.normalize!r}")

    def _count(self, d: int) -> float:
        raise NotImplementedError

    def _prepare(self, kept: list[np.ndarray]) -> None:
        """What is kept from the fit for the outputs."""

    def _outputs(self, Z: np.ndarray) -> np.ndarray:
        assert self._weights is None
        return infinite.kernel(self._kind, self.activation_, Z, self.X_fit_) @ self.dual_coef_

    def _gradients(self, Z: np.ndarray) -> np.ndarray:
        along_x, along_z = infinite.slopes(self._kind, self.activation_, Z, self.X_fit_)
        return np.stack(
            [(along_x * a) @ self.X_fit_ + (along_z @ a)[:, None] * Z for a in self.dual_coef_.T],
            axis=1,
        )


class RandomFeatures(_KernelModel):
    """Least squares on phi(x) = act(W^T x), W (d, width) with entries N(0, 1/d), fitted without building phi.

    Parameters
    ----------
    width : int or numpy.inf, default 1000
        Hidden units; infinity takes the mean over W.
    activation : str, Activation or callable, default "tanh"
        tanh, erf, square, cos, softplus, relu, gelu, or your own (see `activation` and `custom`).
    reg : float, default 0.0
        Ridge on the parameters, as in scikit-learn's Ridge; 0 interpolates with the smallest norm. At infinite width per hidden unit.
    normalize : {"sphere", None}, default None
        "sphere" stretches rows to norm sqrt(d), the setting of the theory.
    random_state : int, RandomState or None, default 0
        Seeds W. The same for every chunk.
    chunk : int, default 8192
        Hidden units worked on at a time (rounded to a multiple of 1024); memory grows with it.
    max_bytes : int, default 4 GiB
        A kernel that would need more is refused.
    verbose : int, default 0
        Above 0, progress goes to the log.

    Attributes
    ----------
    interpolates_ : bool; train_residual_ : float
        Whether the targets are met, and ||f(X) - y|| / ||y||.
    n_parameters_ : float
        width, or infinity.
    theta_ : ndarray (p, o), or None
        The parameters, where there are fewer of them than rows, and of random features.
    dual_coef_ : ndarray (n, o); jitter_ : float; rank_ : int; activation_ : Activation; X_fit_ : ndarray (n, d)

    float32 input is worked on in float32, except for the solution of the linear system.

    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((30, 50)), rng.standard_normal(30)
    >>> model = RandomFeatures(2000, "tanh").fit(X, y)
    >>> model.interpolates_, model.sensitivity(X[:3]).shape
    (True, (3,))
    """

    _kind: Kind = "rf"

    def _count(self, d: int) -> float:
        return float(self.width)

    def _prepare(self, kept: list[np.ndarray]) -> None:
        if self._weights is not None and self.theta_ is None:
            dual = self.dual_coef_.astype(self.X_fit_.dtype)
            self.theta_ = rf_coefficients(self.X_fit_, dual, self._weights, self.activation_, kept)

    def _outputs(self, Z: np.ndarray) -> np.ndarray:
        if self._weights is None or self.theta_ is None:
            return super()._outputs(Z)
        return rf_outputs(Z, self.theta_, self._weights, self.activation_)

    def _gradients(self, Z: np.ndarray) -> np.ndarray:
        if self._weights is None or self.theta_ is None:
            return super()._gradients(Z)
        return rf_gradients(Z, self.theta_, self._weights, self.activation_)


class NTKRegressor(_KernelModel):
    """Least squares on the tangent features x (kron) act'(W^T x) of a two-layer net with fixed outer weights; d * width parameters.

    Parameters and attributes as in `RandomFeatures`; n_parameters_ is d * width. An even activation makes it robust once width is
    above n (theorem on tangent kernels); an odd one does not. With "square" it is a quadratic form in x, which interpolates up to
    d (d + 1) / 2 rows and cannot tell x from -x. With relu the second derivative is taken as 0, which it is almost everywhere.

    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((40, 100)), rng.standard_normal(40)
    >>> narrow, wide = (NTKRegressor(k, "square").fit(X, y).sensitivity(X[::-1] / 2 + X / 2).mean() for k in (4, 400))
    >>> bool(wide < narrow)
    True
    """

    _kind: Kind = "ntk"

    def __init__(
        self,
        width: float = 300,
        activation: str | Activation | Callable[[Any], Any] = "square",
        *,
        reg: float = 0.0,
        normalize: Literal["sphere"] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        chunk: int = 8192,
        max_bytes: int = 4 * 1024**3,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            width,
            activation,
            reg=reg,
            normalize=normalize,
            random_state=random_state,
            chunk=chunk,
            max_bytes=max_bytes,
            verbose=verbose,
        )

    def _count(self, d: int) -> float:
        return float(self.width) * d

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = (
            True  # with "square" it is a quadratic form in x: d (d + 1) / 2 dimensions, and even
        )
        return tags

    def _outputs(self, Z: np.ndarray) -> np.ndarray:
        if self._weights is None:
            return super()._outputs(Z)
        if self.theta_ is not None:
            return features("ntk", Z, self._weights, self.activation_) @ self.theta_
        return ntk_outputs(Z, self.X_fit_, self.dual_coef_.astype(Z.dtype), self._weights, self.activation_)

    def _gradients(self, Z: np.ndarray) -> np.ndarray:
        if self._weights is None:
            return super()._gradients(Z)
        if self.theta_ is not None:
            return ntk_primal_gradients(Z, self.theta_, self._weights, self.activation_)
        return ntk_gradients(Z, self.X_fit_, self.dual_coef_.astype(Z.dtype), self._weights, self.activation_)

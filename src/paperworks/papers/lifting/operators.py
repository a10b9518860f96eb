"""Linear measurements A(M) = [<A_1, M>, ..., <A_m, M>] of a symmetric matrix, stored or implied.

`as_operator` takes the forms that people have. A matrix A_i that is not symmetric is replaced by (A_i + A_i^T) / 2, which changes
no value <A_i, X X^T>; the lifted problem of the paper is stated for symmetric A_i.

Axis letters: m measurements, n side of the matrix, k columns of its factors, t = n (n + 1) / 2 entries of the upper triangle.
"""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from paperworks.errors import InputError

Matrix = Any  # an array or a SciPy sparse matrix


@runtime_checkable
class Operator(Protocol):
    """What this paper's methods need to know of the measurements; anything with these members will do.

    n: side of the matrix; m: how many measurements.
    """

    n: int
    m: int

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """<A_i, left right^T> for all i: (n, k), (n, k) -> (m,)."""

    def adjoint(self, weights: np.ndarray) -> Matrix:
        """sum_i weights_i A_i, symmetric: (m,) -> (n, n), dense or sparse."""


class DenseOperator:
    """Stored matrices, (m, n, n), made symmetric.

    >>> DenseOperator(np.eye(2)[None]).forward(np.array([[1.0], [2.0]]), np.array([[1.0], [2.0]]))
    array([5.])
    """

    def __init__(self, matrices: np.ndarray) -> None:
        matrices = np.asarray(matrices, dtype=float)
        if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or not matrices.size:
            raise InputError(f"measurement matrices must be an array (m, n, n), got shape {matrices.shape}")
        _finite(matrices, "the measurement matrices")
        self.m, self.n = matrices.shape[:2]
        self.matrices = (matrices + matrices.transpose(0, 2, 1)) / 2
        self._flat = self.matrices.reshape(self.m, -1)

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(n, k), (n, k) -> (m,)."""
        return np.asarray(self._flat @ (left @ right.T).ravel())

    def adjoint(self, weights: np.ndarray) -> np.ndarray:
        """(m,) -> (n, n)."""
        return np.asarray(weights @ self._flat).reshape(self.n, self.n)


class VectorOperator:
    """A_i = a_i a_i^T from vectors (m, n), as in phase retrieval; memory m n."""

    def __init__(self, vectors: np.ndarray) -> None:
        vectors = np.asarray(vectors, dtype=float)
        if vectors.ndim != 2 or not vectors.size:
            raise InputError(f"measurement vectors must be an array (m, n), got shape {vectors.shape}")
        _finite(vectors, "the measurement vectors")
        self.vectors = vectors
        self.m, self.n = vectors.shape

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(n, k), (n, k) -> (m,)."""
        return np.asarray(np.einsum("mk,mk->m", self.vectors @ left, self.vectors @ right))

    def adjoint(self, weights: np.ndarray) -> np.ndarray:
        """(m,) -> (n, n)."""
        return np.asarray((self.vectors * weights[:, None]).T @ self.vectors)


class EntryOperator:
    """Weighted entries: <A_i, M> = weights_i (M[rows_i, cols_i] + M[cols_i, rows_i]) / 2. Memory m, whatever n is.

    rows, cols (m,) ids; weights (m,), by default 1.
    """

    def __init__(self, n: int, rows: np.ndarray, cols: np.ndarray, weights: np.ndarray | None = None) -> None:
        self.rows, self.cols = np.asarray(rows, dtype=np.intp), np.asarray(cols, dtype=np.intp)
        self.weights = np.ones(self.rows.size) if weights is None else np.asarray(weights, dtype=float)
        if self.rows.ndim != 1 or not self.rows.shape == self.cols.shape == self.weights.shape or not self.rows.size:
            raise InputError(
                f"rows, cols and weights must be equally long lists, got shapes {self.rows.shape}, {self.cols.shape} and "
                f"{self.weights.shape}"
            )
        low, high = min(self.rows.min(), self.cols.min()), max(self.rows.max(), self.cols.max())
        if low < 0 or high >= n:
            raise InputError(f"entries of a matrix of side {n} have ids 0 to {n - 1}, got {low} to {high}")
        _finite(self.weights, "the weights")
        self.n, self.m = int(n), int(self.rows.size)

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(n, k), (n, k) -> (m,)."""
        values = np.einsum("mk,mk->m", left[self.rows], right[self.cols])
        if left is not right:
            values = (values + np.einsum("mk,mk->m", left[self.cols], right[self.rows])) / 2
        return np.asarray(self.weights * values)

    def adjoint(self, weights: np.ndarray) -> Matrix:
        """(m,) -> (n, n), dense up to a side of 200 and sparse beyond."""
        half = sparse.coo_array((weights * self.weights / 2, (self.rows, self.cols)), shape=(self.n, self.n)).tocsr()
        whole = half + half.T
        return whole.toarray() if self.n <= 200 else whole.tocsr()


class FunctionOperator:
    """A SciPy LinearOperator from matrices flattened by rows (n^2,) to measurements (m,), with its adjoint."""

    def __init__(self, operator: LinearOperator) -> None:
        self.m, size = operator.shape
        self.n = round(size**0.5)
        if self.n**2 != size:
            raise InputError(f"a linear operator must take n^2 numbers, a flattened square matrix, got {size}")
        self._operator = operator

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(n, k), (n, k) -> (m,)."""
        matrix = left @ right.T
        return np.asarray(self._operator.matvec(((matrix + matrix.T) / 2).ravel())).ravel()

    def adjoint(self, weights: np.ndarray) -> np.ndarray:
        """(m,) -> (n, n)."""
        matrix = np.asarray(self._operator.rmatvec(weights)).reshape(self.n, self.n)
        return (matrix + matrix.T) / 2


class VecOperator:
    """The same measurements of a rank-r problem, seen as a rank-1 problem in x = vec(X), X (n, r) read by rows.

    <A_i, X X^T> = x^T (A_i kron I_r) x, so lifting x is lifting the rank-r problem.
    """

    def __init__(self, base: Operator, rank: int) -> None:
        self.base, self.rank = base, rank
        self.n, self.m = base.n * rank, base.m

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(n r, k), (n r, k) -> (m,)."""
        n = self.base.n
        return self.base.forward(left.reshape(n, -1), right.reshape(n, -1))  # the X_k beside each other: (n, r k)

    def adjoint(self, weights: np.ndarray) -> Matrix:
        """(m,) -> (n r, n r)."""
        matrix: Matrix = self.base.adjoint(weights)
        if is_sparse(matrix):
            return sparse.kron(matrix, sparse.eye_array(self.rank), format="csr")
        return np.kron(matrix, np.eye(self.rank))


def as_operator(A: object) -> Operator:
    """An operator from what people have.

    A: an `Operator`; an array of matrices (m, n, n) or of vectors (m, n); a tuple (i, j, weight) of entry lists, or a SciPy sparse
    matrix (n, n) whose stored values are the weights of the entries; a SciPy LinearOperator (m, n^2).
    Raises InputError for anything else.
    """
    if isinstance(A, LinearOperator):
        return FunctionOperator(A)
    if is_sparse(A):
        entries: Any = sparse.coo_array(cast(Any, A))
        if entries.shape[0] != entries.shape[1]:
            raise InputError(f"a sparse mask must be square, got shape {entries.shape}")
        return EntryOperator(entries.shape[0], entries.coords[0], entries.coords[1], entries.data)
    if isinstance(A, tuple):
        if len(A) != 3:
            raise InputError(f"entries are given as (i, j, weight), three lists; got {len(A)}")
        return EntryOperator(
            int(max(np.max(A[0]), np.max(A[1]))) + 1, A[0], A[1], np.broadcast_to(A[2], np.shape(A[0]))
        )
    if isinstance(A, Operator):
        return A
    array = np.asarray(A)
    if np.iscomplexobj(array):
        raise InputError("Complex data not supported: measurements must be real")
    if array.dtype == object or array.ndim not in (2, 3):
        raise InputError(
            f"measurements must be matrices (m, n, n), vectors (m, n), entries (i, j, weight), a sparse mask or a linear operator; "
            f"got {type(A).__name__} of shape {array.shape}"
        )
    return DenseOperator(array) if array.ndim == 3 else VectorOperator(array)


def completion(values: np.ndarray) -> tuple[EntryOperator, np.ndarray]:
    """Operator and measurements of a symmetric matrix (n, n) whose unknown entries are NaN.

    >>> operator, b = completion(np.array([[1.0, np.nan], [np.nan, 4.0]]))
    >>> operator.m, b.tolist()
    (2, [1.0, 4.0])
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise InputError(f"the matrix to complete must be square, got shape {values.shape}")
    rows, cols = np.nonzero(~np.isnan(values))
    if not rows.size:
        raise InputError("the matrix to complete has no known entry; unknown entries are NaN, known ones numbers")
    return EntryOperator(values.shape[0], rows, cols), values[rows, cols]


def checked(A: object, b: object) -> tuple[Operator, np.ndarray]:
    """The operator of A, and b as floats (m,). Raises InputError when they do not fit."""
    operator = as_operator(A)
    values = np.asarray(b, dtype=float)
    if values.shape != (operator.m,):
        raise InputError(f"b must hold one value a measurement, shape ({operator.m},), got shape {values.shape}")
    _finite(values, "b")
    return operator, values


def packed(operator: Operator) -> np.ndarray:
    """The measurement matrices as rows over the upper triangle, (m, t): row i times the triangle of a symmetric M is <A_i, M>."""
    upper = np.triu_indices(operator.n)
    twice = np.where(upper[0] == upper[1], 1.0, 2.0)
    if isinstance(operator, DenseOperator):
        return np.asarray(operator.matrices[:, upper[0], upper[1]] * twice)
    rows = np.empty((operator.m, twice.size))
    one = np.zeros(operator.m)
    for i in range(operator.m):
        one[i] = 1.0
        rows[i] = dense(operator.adjoint(one))[upper] * twice
        one[i] = 0.0
    return rows


def is_sparse(matrix: object) -> bool:
    """Whether this is a SciPy sparse matrix; a plain truth value, so that types stay as they are."""
    return bool(sparse.issparse(matrix))


def dense(matrix: Matrix) -> np.ndarray:
    """A matrix as an array."""
    return np.asarray(matrix.toarray() if is_sparse(matrix) else matrix)


def _finite(array: np.ndarray, what: str) -> None:
    if not np.isfinite(array).all():
        raise InputError(f"{what} must be finite numbers, got NaN or infinity; leave such measurements out")

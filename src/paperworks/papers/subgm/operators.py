"""Linear measurements y_i = <A_i, X> of a matrix, stored or implied: `forward` measures, `adjoint` sums weighted A_i.

Anything with the members of `Operator` will do. `as_operator` takes the forms that people have: an array of matrices, a sparse
matrix of flattened ones, vectors a_i for a_i a_i^T, a SciPy LinearOperator.

Axis letters: m measurements, d rows, e columns of the matrix (d = e when it is symmetric), k columns of its factors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from paperworks.errors import InputError
from paperworks.papers.subgm import kernels

Matrix = Any  # an array or a SciPy sparse matrix: both have @ and .T


@runtime_checkable
class Operator(Protocol):
    """What the solver needs to know of the measurements.

    shape: (d, e) of the matrix that is measured; m: how many measurements; symmetric: whether every A_i is.
    positive: whether <A_i, X> >= 0 for every X that is positive semidefinite (then signs of y say nothing at the start).
    """

    shape: tuple[int, int]
    m: int
    symmetric: bool
    positive: bool

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """<A_i, left right^T> for all i: (d, k), (e, k) -> (m,)."""

    def adjoint(self, weights: np.ndarray) -> Matrix:
        """sum_i weights_i A_i: (m,) -> (d, e), dense or sparse."""


class DenseOperator(Operator):
    """Stored matrices: an array (m, d, e).

    Symmetric ones are packed into their upper triangle, weight 2 off the diagonal, which halves the memory that an iteration reads.
    `dtype` float32 halves it again; sums are then exact to about 1e-6 of the data.
    """

    positive = False

    def __init__(self, matrices: np.ndarray, *, symmetric: bool | None = None, dtype: Any = np.float64) -> None:
        matrices = np.asarray(matrices)
        if matrices.ndim != 3:
            raise InputError(f"measurement matrices must be an array (m, d, e), got shape {matrices.shape}")
        self.m, d, e = matrices.shape
        self.shape = (d, e)
        mirrored = d == e and bool(np.array_equal(matrices, matrices.transpose(0, 2, 1)))
        if symmetric and d != e:
            raise InputError(f"measurement matrices are {d} x {e}, not square; pass psd=False for such matrices")
        if symmetric and not mirrored:
            warnings.warn(
                "the measurement matrices are not symmetric; (A + A^T)/2 is used, which measures the same of a symmetric matrix",
                stacklevel=3,
            )
        self.symmetric = mirrored if symmetric is None else symmetric
        if self.symmetric:
            self._i, self._j = np.triu_indices(d)
            packed = (matrices[:, self._i, self._j] + matrices[:, self._j, self._i]) / 2
            self._A = np.ascontiguousarray(packed, dtype=dtype)  # (m, d(d+1)/2)
            self._double = np.where(self._i == self._j, 1.0, 2.0)
        else:
            self._A = np.ascontiguousarray(matrices.reshape(self.m, d * e), dtype=dtype)

    @property
    def bytes_read(self) -> int:
        """Bytes of stored measurements; an iteration reads them twice."""
        return self._A.nbytes

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        product = left @ right.T
        if self.symmetric:
            vector = product[self._i, self._j] if left is right else (product + product.T)[self._i, self._j] / 2
            vector = vector * self._double
        else:
            vector = product.ravel()
        return (self._A @ vector.astype(self._A.dtype, copy=False)).astype(np.float64, copy=False)

    def adjoint(self, weights: np.ndarray) -> np.ndarray:
        summed = np.asarray(weights.astype(self._A.dtype, copy=False) @ self._A, dtype=np.float64)
        if not self.symmetric:
            return summed.reshape(self.shape)
        out = np.empty(self.shape)
        out[self._i, self._j] = summed
        out[self._j, self._i] = summed
        return out


class ImplicitGaussian(Operator):
    """Gaussian matrices that are drawn again from a seed whenever they are needed, `chunk` at a time; nothing is stored.

    Symmetric ones are (G + G^T)/2. Slower than a stored operator by the cost of the random numbers; for m d^2 beyond the memory.
    """

    positive = False

    def __init__(
        self, m: int, shape: tuple[int, int], *, seed: int = 0, symmetric: bool = True, chunk: int = 1024
    ) -> None:
        if symmetric and shape[0] != shape[1]:
            raise InputError(f"symmetric measurements need a square shape, got {shape}; pass symmetric=False")
        if m < 1 or chunk < 1:
            raise InputError(f"m and chunk must be at least 1, got m={m}, chunk={chunk}")
        self.m, self.shape, self.symmetric, self.seed, self.chunk = m, shape, symmetric, seed, chunk

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The matrices in order: (slice of measurement ids, array (n, d, e))."""
        for number, start in enumerate(range(0, self.m, self.chunk)):
            part = slice(start, min(start + self.chunk, self.m))
            rng = np.random.default_rng((self.seed, number))
            block = rng.standard_normal((part.stop - part.start, *self.shape))
            yield part, (block + block.transpose(0, 2, 1)) / 2 if self.symmetric else block

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        vector = (left @ right.T).ravel()
        out = np.empty(self.m)
        for part, block in self.chunks():
            out[part] = block.reshape(len(block), -1) @ vector
        return out

    def adjoint(self, weights: np.ndarray) -> np.ndarray:
        out = np.zeros(self.shape[0] * self.shape[1])
        for part, block in self.chunks():
            out += weights[part] @ block.reshape(len(block), -1)
        return out.reshape(self.shape)


class QuadraticOperator(Operator):
    """A_i = a_i a_i^T (phase retrieval, covariance sketches) from vectors (m, d); costs O(m d k), never O(m d^2) memory."""

    symmetric = True
    positive = True

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float64)
        if self.vectors.ndim != 2:
            raise InputError(f"sensing vectors must be an array (m, d), got shape {self.vectors.shape}")
        self.m, d = self.vectors.shape
        self.shape = (d, d)

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        projected = self.vectors @ left
        return np.einsum("mk,mk->m", projected, projected if left is right else self.vectors @ right)

    def adjoint(self, weights: np.ndarray) -> np.ndarray:
        return (self.vectors.T * weights) @ self.vectors


class EntryOperator(Operator):
    """Single cells of a matrix: measurement i is X[rows[i], cols[i]]. All cells, many or few; few stay sparse.

    Cells must be distinct. Above 5 % of all cells the product of the factors is formed; below it only the cells that were seen.
    """

    symmetric = False
    positive = False

    def __init__(self, shape: tuple[int, int], rows: np.ndarray, cols: np.ndarray) -> None:
        self.shape = shape
        flat = np.ravel_multi_index((np.asarray(rows), np.asarray(cols)), shape)
        if np.unique(flat).size != flat.size:
            raise InputError("some cells are named twice; average or drop the repeats first")
        self.m = flat.size
        cells = shape[0] * shape[1]
        self.full = self.m == cells and bool(np.array_equal(flat, np.arange(cells)))
        self.few = self.m < 0.05 * cells
        self._flat = flat
        if self.few:
            self._order = np.argsort(flat, kind="stable")
            self._rows, self._cols = np.divmod(flat[self._order], shape[1])
            self._pointer = np.concatenate([[0], np.cumsum(np.bincount(self._rows, minlength=shape[0]))])

    @classmethod
    def where(cls, mask: np.ndarray) -> EntryOperator:
        """The cells at which a boolean mask (d, e) is true, row by row."""
        rows, cols = np.nonzero(mask)
        return cls((mask.shape[0], mask.shape[1]), rows, cols)

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if self.few:
            out = np.empty(self.m)
            values = kernels.cells(np.ascontiguousarray(left), np.ascontiguousarray(right), self._rows, self._cols)
            out[self._order] = values
            return out
        product = (left @ right.T).ravel()
        return product if self.full else product[self._flat]

    def adjoint(self, weights: np.ndarray) -> Matrix:
        if self.few:
            return sparse.csr_array((weights[self._order], self._cols, self._pointer), shape=self.shape)
        if self.full:
            return weights.reshape(self.shape)
        out = np.zeros(self.shape)
        out.ravel()[self._flat] = weights
        return out


class FlatOperator(Operator):
    """Rows of a matrix (m, d*e), sparse or a SciPy LinearOperator with `matvec` and `rmatvec`: row i is A_i flattened by rows."""

    positive = False

    def __init__(self, rows: Any, shape: tuple[int, int] | None = None, *, symmetric: bool = False) -> None:
        m, size = rows.shape
        side = round(size**0.5)
        if shape is None:
            if side * side != size:
                raise InputError(f"rows have {size} entries, not a square number; pass shape=(d, e)")
            shape = (side, side)
        if shape[0] * shape[1] != size:
            raise InputError(f"rows have {size} entries but shape {shape} needs {shape[0] * shape[1]}")
        if symmetric and shape[0] != shape[1]:
            raise InputError(f"measured matrices are {shape[0]} x {shape[1]}, not square; pass psd=False")
        self._rows: Any = rows if isinstance(rows, LinearOperator) else sparse.csr_array(rows)
        self._back: Any = getattr(rows, "rmatvec", None) or self._rows.T.__matmul__
        self.m, self.shape, self.symmetric = int(m), shape, symmetric

    def forward(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        product = left @ right.T
        if self.symmetric and left is not right:
            product = (product + product.T) / 2
        return np.asarray(self._rows @ product.ravel(), dtype=np.float64)

    def adjoint(self, weights: np.ndarray) -> np.ndarray:
        summed = np.asarray(self._back(weights), dtype=np.float64).reshape(self.shape)
        return (summed + summed.T) / 2 if self.symmetric else summed


def as_operator(
    measurements: Any, *, psd: bool = True, shape: tuple[int, int] | None = None, dtype: Any = np.float64
) -> Operator:
    """The operator for measurements in any of the known forms.

    measurements: an Operator; (m, d, e) array; (m, d) array of vectors a_i, meaning a_i a_i^T; sparse (m, d*e) or LinearOperator.
    Raises InputError for other forms and for matrices that are not square although psd is true.
    """
    if isinstance(measurements, LinearOperator) or sparse.issparse(measurements):
        return FlatOperator(measurements, shape, symmetric=psd)
    if isinstance(measurements, Operator):
        if psd and measurements.shape[0] != measurements.shape[1]:
            raise InputError(f"the measured matrix is {measurements.shape}, not square; pass psd=False")
        return measurements
    array = np.asarray(measurements)
    if array.dtype.kind not in "fiub":
        raise InputError(f"measurements must be real numbers, got dtype {array.dtype}")
    if not np.isfinite(array).all():
        raise InputError("measurement matrices hold NaN or infinity; only y may hold infinity")
    if array.ndim == 2:
        return QuadraticOperator(array)
    if array.ndim != 3:
        raise InputError(
            f"measurements must be (m, d, e) matrices, (m, d) vectors, a sparse (m, d*e) matrix, a LinearOperator or an "
            f"Operator; got an array of shape {array.shape}"
        )
    return DenseOperator(array, symmetric=True if psd else None, dtype=dtype)

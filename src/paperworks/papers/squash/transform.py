"""The KLT of a partition and the random rotation of the sign bits, learnt and applied block by block.

Axis letters: `n` rows, `d` dimensions. Rows may be float16, float32 or float64, contiguous or not, in memory or memory-mapped,
and larger than memory: they are read once, `block_rows` at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from paperworks.errors import InputError

BLOCK_BYTES = 8 << 20  # one block of float32 rows: in the last-level cache of most machines


def rows_per_block(d: int, block_bytes: int = BLOCK_BYTES) -> int:
    """How many float32 rows of d dimensions make a block of about `block_bytes`; at least 1."""
    return max(1, block_bytes // (4 * max(1, d)))


def iter_blocks(
    vectors: np.ndarray, *, rows: np.ndarray | None = None, block_rows: int | None = None, check: bool = True
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first position, block (b, d) float32 contiguous) over all vectors (n, d), or over `rows` (m,) of them in that order.

    With check=True (the default) NaN and infinite values raise InputError that names the first such row.
    """
    _check_shape(vectors)
    step = block_rows or rows_per_block(vectors.shape[1])
    count = len(vectors) if rows is None else len(rows)
    for start in range(0, count, step):
        part = vectors[start : start + step] if rows is None else vectors[rows[start : start + step]]
        block = np.ascontiguousarray(part, dtype=np.float32)
        if check:
            where = np.arange(start, start + len(block)) if rows is None else rows[start : start + step]
            check_finite(block, where)
        yield start, block


def _check_shape(vectors: np.ndarray) -> None:
    if vectors.ndim != 2:
        raise InputError(f"vectors must have the shape (rows, dimensions), got {vectors.shape}")


def check_finite(block: np.ndarray, positions: np.ndarray | None = None, what: str = "vectors") -> None:
    """Raise InputError naming the first row of block (b, d) with a NaN or infinite value; positions (b,) give its name."""
    # The sum of a row is finite when the row is, unless float32 overflows: then the row itself is looked at.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = block.sum(axis=1)
    for row in np.flatnonzero(~np.isfinite(sums)):
        if not np.isfinite(block[row]).all():
            name = row if positions is None else positions[row]
            raise InputError(f"{what} must be finite numbers, row {int(name)} holds NaN or infinity; drop or repair it")


@dataclass
class Moments:
    """Count, mean and scatter of the rows seen so far; add blocks in any number, merge partial sums of several workers.

    shift (d,) float64 is subtracted before squares are summed (the mean of the first block), so that a large common offset
    costs no digits. scatter (d, d) float64 is the sum of products of the shifted values.
    """

    count: int
    shift: np.ndarray
    total: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, d: int) -> Moments:
        """No rows yet, of d dimensions."""
        return cls(0, np.zeros(d), np.zeros(d), np.zeros((d, d)))

    def add(self, block: np.ndarray) -> None:
        """Take in block (b, d). Products run in float32 over at most one block, and are summed in float64."""
        if len(block) == 0:
            return
        if self.count == 0:
            self.shift = block.mean(axis=0, dtype=np.float64).astype(np.float32).astype(np.float64)
        centred = block - self.shift.astype(block.dtype)
        self.count += len(block)
        self.total += centred.sum(axis=0, dtype=np.float64)
        self.scatter += centred.T @ centred

    def merge(self, other: Moments) -> None:
        """Take in what another worker summed, whatever its shift."""
        if other.count == 0:
            return
        if self.count == 0:
            self.count, self.shift = other.count, other.shift.copy()
            self.total, self.scatter = other.total.copy(), other.scatter.copy()
            return
        moved = other.shift - self.shift
        cross = np.outer(other.total, moved)
        self.scatter += other.scatter + cross + cross.T + other.count * np.outer(moved, moved)
        self.total += other.total + other.count * moved
        self.count += other.count

    @property
    def mean(self) -> np.ndarray:
        """(d,) float64."""
        return self.shift + self.total / max(1, self.count)

    @property
    def covariance(self) -> np.ndarray:
        """(d, d) float64, divided by the count."""
        count = max(1, self.count)
        offset = self.total / count
        covariance: np.ndarray = self.scatter / count - np.outer(offset, offset)
        return (covariance + covariance.T) / 2


def moments(
    vectors: np.ndarray | Iterable[np.ndarray], *, rows: np.ndarray | None = None, block_rows: int | None = None
) -> Moments:
    """Mean and covariance of vectors (n, d), of `rows` of them, or of an iterable of blocks (b, d), read once."""
    if isinstance(vectors, np.ndarray):
        _check_shape(vectors)
        blocks: Iterable[np.ndarray] = (block for _, block in iter_blocks(vectors, rows=rows, block_rows=block_rows))
        found = Moments.empty(vectors.shape[1])
    else:
        blocks, found = vectors, Moments.empty(0)
    for block in blocks:
        if len(found.shift) != block.shape[1]:
            if found.count:
                raise InputError(f"all blocks must have {len(found.shift)} dimensions, got one with {block.shape[1]}")
            found = Moments.empty(block.shape[1])
        found.add(block)
    if found.count == 0:
        raise InputError("a transform needs at least one row")
    return found


@dataclass(frozen=True)
class Klt:
    """y = (x - mean) @ basis: decorrelated, variance falling from the first dimension on, distances unchanged (step 3).

    mean (d,) float32; basis (d, d) float32, eigenvectors in columns; variance (d,) float64 of each y, falling.
    """

    mean: np.ndarray
    basis: np.ndarray
    variance: np.ndarray

    def apply(self, vectors: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """vectors (b, d) or (d,) -> the same shape, float32."""
        return np.matmul(np.asarray(vectors, dtype=np.float32) - self.mean, self.basis, out=out)


def fit_klt(vectors: np.ndarray | Moments, *, rows: np.ndarray | None = None) -> Klt:
    """The KLT (PCA that keeps every dimension) of vectors (n, d), of `rows` of them, or of their moments.

    The signs of the eigenvectors are fixed (largest component positive), so equal input gives equal output.
    """
    found = vectors if isinstance(vectors, Moments) else moments(vectors, rows=rows)
    values, basis = np.linalg.eigh(found.covariance)
    values, basis = values[::-1], basis[:, ::-1]
    largest = np.abs(basis).argmax(axis=0)
    basis = basis * np.where(basis[largest, np.arange(basis.shape[1])] < 0, -1.0, 1.0)
    return Klt(
        mean=found.mean.astype(np.float32),
        basis=np.ascontiguousarray(basis, dtype=np.float32),
        variance=np.maximum(values, 0.0),
    )


def random_rotation(d: int, seed: int | np.random.Generator = 0) -> np.ndarray:
    """An orthogonal matrix (d, d) float32, uniform among all of them (QR of Gaussians, signs of the diagonal fixed)."""
    rng = np.random.default_rng(seed)
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return np.ascontiguousarray(q * np.where(np.diag(r) < 0, -1.0, 1.0), dtype=np.float32)


def rounding_slack(d: int, query_norm: float | np.ndarray, largest_norm: float) -> float | np.ndarray:
    """How far a float32 distance in transformed space may be off, in units of distance (not squared).

    query_norm and largest_norm are |q - mean| and the largest |x - mean|. One float32 rotation errs by about
    eps * sqrt(d) * norm, for q, for x and for the basis itself; four times that is allowed. The exact mode subtracts the slack
    from the root of a lower bound before it stops on it.
    """
    eps = float(np.finfo(np.float32).eps)
    return 4.0 * eps * np.sqrt(d) * (query_norm + largest_norm)

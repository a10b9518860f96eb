"""The three metrics as one: inside the index everything is a squared Euclidean distance.

cosine: rows and queries are scaled to length 1, then |q - x|^2 = 2 (1 - cos). Inner product: rows get one more dimension
sqrt(M^2 - |x|^2) with M the greatest length, queries a 0 there, then |q - x|^2 = |q|^2 + M^2 - 2 q.x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.transform import check_finite

METRICS = ("l2", "cosine", "ip")


@dataclass(frozen=True)
class Metric:
    """name of the metric; d dimensions of the caller's vectors; widening: M^2 of inner products, else 0."""

    name: str
    d: int
    widening: float = 0.0

    @property
    def inner_d(self) -> int:
        """Dimensions inside the index."""
        return self.d + (self.name == "ip")

    def rows(self, block: np.ndarray) -> np.ndarray:
        """Rows (b, d) as they are stored, float32 (b, inner_d), contiguous."""
        block = np.ascontiguousarray(block, np.float32)
        if self.name == "cosine":
            return block / np.linalg.norm(block, axis=1, keepdims=True)
        if self.name == "ip":
            room = np.maximum(self.widening - np.einsum("ij,ij->i", block, block, dtype=np.float64), 0.0)
            return np.concatenate([block, np.sqrt(room)[:, None]], axis=1, dtype=np.float32)
        return block

    def queries(self, queries: object) -> np.ndarray:
        """Checked queries float32 (s, inner_d). One query (d,) is (1, d). Raises InputError."""
        array = as_matrix(queries, "queries")
        if array.shape[1] != self.d:
            raise InputError(f"queries must have {self.d} dimensions as the index, got the shape {array.shape}")
        array = np.ascontiguousarray(array, np.float32)
        if not math.isfinite(float(array.sum())):
            check_finite(array, None, "queries")
        if self.name == "cosine":
            norms = np.sqrt(np.einsum("ij,ij->i", array, array))
            _refuse_zero(norms, 0, "queries")
            return array / norms[:, None]
        if self.name == "ip":
            return np.concatenate([array, np.zeros((len(array), 1), np.float32)], axis=1)
        return array

    def finish(self, squared: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """Squared distances inside the index (s, k) as the caller sees them; inf stays inf.

        l2: the distance. cosine: 1 - cos. ip: minus the inner product, so that smaller is nearer as everywhere.
        """
        if self.name == "l2":
            return np.sqrt(squared)
        if self.name == "cosine":
            return squared * np.float32(0.5)
        lengths = np.einsum("ij,ij->i", queries, queries, dtype=np.float64)[:, None]
        return ((squared - lengths - self.widening) / 2).astype(np.float32)


def as_matrix(values: object, what: str) -> np.ndarray:
    """A two-dimensional array of numbers, or InputError."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{what} must be a matrix of numbers, got rows of different lengths") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} must be numbers, got the dtype {array.dtype}")
    if array.ndim == 1:
        array = array[None] if array.size else array.reshape(0, 0)
    if array.ndim != 2:
        raise InputError(f"{what} must have the shape (rows, dimensions), got {array.shape}")
    return array


def check_rows(name: str, block: np.ndarray, first: int) -> float:
    """Check rows (b, d) float32 that begin at row `first`; returns the greatest squared length."""
    check_finite(block, np.arange(first, first + len(block)))
    squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)
    if name == "cosine":
        _refuse_zero(squares, first, "vectors")
    largest = float(squares.max(initial=0.0))
    if largest > 1e30:
        raise InputError(
            f"vectors longer than 1e15 cannot be compared in float32, row {first + int(squares.argmax())} is; scale them"
        )
    return largest


def _refuse_zero(lengths: np.ndarray, first: int, what: str) -> None:
    if len(lengths) and not lengths.all():
        raise InputError(
            f"{what} of length 0 have no direction for the cosine, row {first + int(np.flatnonzero(lengths == 0)[0])} is"
        )

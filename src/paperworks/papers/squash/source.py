"""Vectors from whatever a caller brings: arrays, memory-mapped files, tables, or an iterator that is larger than memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError, StoreError
from paperworks.papers.squash.metric import as_matrix, check_rows
from paperworks.papers.squash.transform import rows_per_block


def read_vectors(
    vectors: Any, metric: str, d: int | None = None
) -> tuple[np.ndarray, float, tempfile.TemporaryDirectory[str] | None]:
    """Checked vectors (n, d), their greatest squared length, and the temporary folder that holds them, if one was needed.

    vectors: a matrix of numbers, memory-mapped or not, or an iterable of blocks (b, d), which is written to a temporary file
    as it comes. d: dimensions that there must be. Raises InputError naming the first bad row; StoreError when the disk is full.
    """
    if _is_stream(vectors):
        return _spill(vectors, metric, d)
    array = as_matrix(vectors, "vectors")
    if d is not None and array.size and array.shape[1] != d:
        raise InputError(f"vectors must have {d} dimensions, got the shape {array.shape}")
    largest = 0.0
    step = rows_per_block(array.shape[1])
    for start in range(0, len(array), step):
        largest = max(largest, check_rows(metric, np.ascontiguousarray(array[start : start + step], np.float32), start))
    return array, largest, None


def _is_stream(vectors: Any) -> bool:
    return isinstance(vectors, Iterable) and not hasattr(vectors, "__array__") and not hasattr(vectors, "__len__")


def _spill(
    blocks: Iterable[Any], metric: str, d: int | None
) -> tuple[np.ndarray, float, tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory(prefix="squash-", ignore_cleanup_errors=True)
    n, largest = 0, 0.0
    path = Path(folder.name) / "given.f32"
    try:
        with path.open("wb") as file:
            for part in blocks:
                block = np.ascontiguousarray(as_matrix(part, "a block of vectors"), np.float32)
                if d is None:
                    d = block.shape[1]
                if block.shape[1] != d:
                    raise InputError(f"all blocks must have {d} dimensions, the one at row {n} has {block.shape[1]}")
                largest = max(largest, check_rows(metric, block, n))
                file.write(block.data)
                n += len(block)
    except OSError as error:
        folder.cleanup()
        raise StoreError(
            f"vectors cannot be written to {path.parent} ({error.strerror or error}); set TMPDIR to a disk with more room"
        ) from error
    except BaseException:
        folder.cleanup()
        raise
    if n == 0:
        return np.zeros((0, d or 0), np.float32), 0.0, folder
    return np.memmap(path, np.float32, "r", shape=(n, int(d or 0))), largest, folder


def read_ids(ids: Any, n: int, first: int = 0) -> np.ndarray:
    """Ids int64 (n,), by default first, first + 1, ...; InputError for a wrong number, other kinds, negatives or repeats."""
    if ids is None:
        return np.arange(first, first + n, dtype=np.int64)
    array = np.asarray(ids)
    if array.shape != (n,) or (n and array.dtype.kind not in "iu"):
        raise InputError(f"ids must be {n} integers, one a vector, got {array.dtype} of shape {array.shape}")
    if n and (int(array.min()) < 0 or int(array.max()) > np.iinfo(np.int64).max):
        raise InputError("ids must be between 0 and 2**63 - 1; -1 marks a missing result")
    array = array.astype(np.int64)
    ordered = np.sort(array)
    repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(repeated):
        raise InputError(f"ids must differ, {int(ordered[repeated[0]])} is there more than once")
    return array

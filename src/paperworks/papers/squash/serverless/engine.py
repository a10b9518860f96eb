"""What the serverless layer needs to know of an index: which files belong to which piece, and how pieces are opened.

`squash_engine.py` says it for `SquashIndex` folders. The roles use only what stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from paperworks.papers.squash.filters import Filter

RowReader = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RangedFile:
    """A matrix that functions read row by row instead of keeping it: its place in the file, for ranged requests.

    name: of the file in its piece; dtype and width of a row; offset: bytes before row 0.
    """

    name: str
    dtype: str
    width: int
    offset: int


@dataclass(frozen=True)
class Piece:
    """Files that one role opens together, by their name in the folder that it opens; rows: how many vectors it holds."""

    files: Mapping[str, Path]
    rows: int = 0
    ranged: RangedFile | None = None


class SharedReader(Protocol):
    """The allocators' side of an index."""

    def prepare(self, queries: Any) -> np.ndarray:
        """Checked and scaled queries (q, d) float32. Raises InputError for what cannot be asked."""

    def settings(self, k: int, search: Mapping[str, Any]) -> dict[str, Any]:
        """What processors are told about a search, plain values, from what its caller asked for. Raises InputError."""

    def check(self, what: Filter | None) -> None:
        """Raise FilterError or UnknownAttribute for a filter that cannot be used on this index."""

    def centroid_distances(self, queries: np.ndarray) -> np.ndarray:
        """Distances (q, p) of prepared queries to the partitions' centroids, not squared."""

    def masks(self, what: Filter | None) -> list[np.ndarray] | None:
        """Exactly the rows that a filter lets pass, and that were not deleted, as one boolean mask a partition; None for all rows."""

    def finish(self, distances: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """Squared distances (q, k) of prepared queries (q, d) as the caller wants to see them; inf stays inf."""


@dataclass(frozen=True)
class Found:
    """A partition's answer: positions (m, k) int64 in the partition, ids (m, k) int64, -1 where none; squared distances (m, k)."""

    positions: np.ndarray
    ids: np.ndarray
    distances: np.ndarray
    stats: Mapping[str, int | float] = field(default_factory=dict)


class PartitionReader(Protocol):
    """A processor's side: one partition."""

    def search(
        self, queries: np.ndarray, bitmaps: np.ndarray, bitmap_of: np.ndarray, k: int, search: Mapping[str, Any]
    ) -> Found:
        """queries (m, d) float32; bitmaps (u, rows) bool; bitmap_of (m,) which one holds for a query, -1: every row."""


class Engine(Protocol):
    """How a kind of index is cut and opened."""

    def facts(self, folder: Path) -> Mapping[str, Any]:
        """Plain values about the index in `folder`, for whoever looks at a deployment: dimension, metric, rows, ..."""

    def pieces(self, folder: Path, work: Path) -> Iterator[Piece]:
        """The pieces of the index in `folder`: the allocators' first, then the partitions in order.

        Files may be made below `work`, an empty folder; those of a piece may be gone as soon as the next is asked for.
        """

    def open_shared(self, folder: Path) -> SharedReader:
        """Open the files of the first piece."""

    def open_partition(self, folder: Path, rows: RowReader | None) -> PartitionReader:
        """Open the files of a partition; rows: reads rows of its ranged file, when that is not in the folder."""

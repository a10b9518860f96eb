"""The arrays of an opened index or partition, and the pure search over them.

`PartitionReader` is what a search needs and nothing else; `search_partition` is a function of it, the queries and masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash import filter_kernels
from paperworks.papers.squash import search_kernel as kernel
from paperworks.papers.squash.exact_kernel import search_exactly
from paperworks.papers.squash.storage import DamagedIndex, OpenedFolder, open_folder, read_steadily

EMPTY_FILTER = (
    np.zeros((0, filter_kernels.COLUMNS), np.int64),
    np.zeros(0, np.int64),
    np.zeros((0, 256), np.uint8),
    np.zeros((0, 0), np.uint8),
)
EMPTY_TABLE = (
    np.zeros((0, 0), np.uint8),
    np.zeros((0, 0), np.int64),
    np.zeros((0, 1), np.int64),
    np.zeros(0, np.int32),
)
for _array in EMPTY_TABLE:  # read-only as those of a real table, or the kernels would be compiled twice
    _array.flags.writeable = False
ONE_MASK = np.array([[filter_kernels.MASK, filter_kernels.PUSH, 0, 0, 0, 2, 0, 0, 0, 0, 0]], np.int64)
NO_ROWS = np.zeros(0, np.int64)
NOT_RESIDENT = ("vectors", "ids")


@dataclass(frozen=True)
class SearchParams:
    """What a search may do. None stands for the default of the index.

    k results. max_lists: lists visited at most once k rows pass. reach: instead, a list is left out when its rows would have
    to be nearer by this many deviations than they are likely to be (0: off). T: the paper's threshold, a list farther than
    T times the nearest one is left out (inf: off). keep: rows kept by the sign bits; H: percent of the candidates kept
    instead, as in the paper (0: off). R: R k rows stay after the bounds (0: no bounds, all kept rows are refined). exact:
    the answer of brute force.
    """

    k: int
    max_lists: int
    reach: float
    keep: int
    T: float = float("inf")
    H: float = 0.0
    R: float = 0.0
    min_lists: int = 4
    exact: bool = False
    few: int = 1500


@dataclass(frozen=True)
class PartitionReader:
    """Arrays in storage order: n rows, d dimensions, l lists, p partitions, w words, g code bytes.

    mean (d,), flips (rounds, d), turn (d, d) or (0, 0): how a vector becomes the values whose signs are kept. centres (l, d),
    spreads (l,), starts (l + 1,), first_block (l + 1,), part_of_list (l,), blocks flat uint8, signs uint64 (n, w), add and
    factor (n,), codes uint8 (n, g); part_*: KLT mean, basis rows, cell edges, bits, order of dimensions and starts of bytes
    of each partition; vectors float32 (n, d) and ids int64 (n,), both left on disk; centroids (p, d) of the partitions.
    """

    mean: np.ndarray
    flips: np.ndarray
    turn: np.ndarray
    centres: np.ndarray
    spreads: np.ndarray
    starts: np.ndarray
    first_block: np.ndarray
    part_of_list: np.ndarray
    blocks: np.ndarray
    signs: np.ndarray
    add: np.ndarray
    factor: np.ndarray
    codes: np.ndarray
    part_means: np.ndarray
    part_bases: np.ndarray
    part_edges: np.ndarray
    part_bits: np.ndarray
    part_orders: np.ndarray
    part_bytes: np.ndarray
    centroids: np.ndarray
    vectors: np.ndarray
    ids: np.ndarray
    axes: float
    largest: float
    first_pass: str

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.add)

    @property
    def d(self) -> int:
        """Dimensions, with the extra one of inner products."""
        return int(self.centres.shape[1])

    @property
    def resident_bytes(self) -> int:
        """Bytes that searches keep in memory: all but full vectors and ids."""
        return sum(array.nbytes for name, array in self.arrays().items() if name not in NOT_RESIDENT)

    @property
    def on_disk(self) -> bool:
        """Whether full vectors are mapped from a file."""
        array: Any = self.vectors
        while isinstance(array, np.ndarray):
            if isinstance(array, np.memmap):
                return True
            array = array.base
        return False

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)}

    def values(self) -> dict[str, Any]:
        """All fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @cached_property
    def core(self) -> tuple[np.ndarray, ...]:
        """The arrays in the order that the kernels take, without tombstones, codes and what follows."""
        return (
            self.mean, self.flips, self.turn, self.centres, self.spreads, self.starts, self.first_block,
            self.part_of_list, self.blocks, self.signs, self.add, self.factor,
        )  # fmt: skip

    @cached_property
    def tail(self) -> tuple[np.ndarray, ...]:
        """Codes, partitions and vectors in the order that the kernels take."""
        return (
            self.codes, self.part_means, self.part_bases, self.part_edges, self.part_bits, self.part_orders,
            self.part_bytes, self.vectors,
        )  # fmt: skip


@dataclass(frozen=True)
class PartitionAnswer:
    """positions int64 (s, k) in storage order and -1, distances float32 (s, k) squared and inf, counts int64 (s, STAGES)."""

    positions: np.ndarray
    distances: np.ndarray
    counts: np.ndarray


NO_TOMBSTONES = np.zeros(0, np.uint8)


@lru_cache(maxsize=256)
def _numbers(
    params: SearchParams,
    first_pass: str,
    axes: float,
    largest: float,
    filtered: int,
    depth: int,
    deleted: bool,
    at_once: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a search as the kernels take them."""
    whole = [
        params.k, params.min_lists, params.max_lists, params.keep, int(params.R * params.k), 0 if first_pass == "residual" else 1,
        filtered, depth, deleted, at_once, params.few,
    ]  # fmt: skip
    real = [params.T * params.T, params.H / 100, params.reach, axes, largest]
    return np.array(whole, np.int64), np.array(real, np.float64)


def run(
    reader: PartitionReader,
    queries: np.ndarray,
    params: SearchParams,
    *,
    program: tuple[np.ndarray, ...] = EMPTY_FILTER,
    table: tuple[np.ndarray, ...] = EMPTY_TABLE,
    depth: int = 1,
    given: np.ndarray = NO_ROWS,
    filtered: int = kernel.NO_FILTER,
    at_once: bool = False,
    alive: np.ndarray = NO_TOMBSTONES,
) -> PartitionAnswer:
    """One compiled call for all queries float32 (s, d), which share one filter."""
    n_queries, k = len(queries), params.k
    distances = np.empty((n_queries, k), np.float32)
    positions = np.empty((n_queries, k), np.int64)
    counts = np.zeros((n_queries, kernel.STAGES), np.int64)
    if reader.n == 0 or n_queries == 0:
        distances[:] = np.inf
        positions[:] = -1
        return PartitionAnswer(positions, distances, counts)
    whole, real = _numbers(
        params, reader.first_pass, reader.axes, reader.largest, filtered, depth, len(alive) > 0, at_once
    )
    search: Any = search_exactly if params.exact else kernel.search_rows
    search(
        queries, whole, real, *reader.core, alive, *reader.tail, *program, *table, given, distances, positions, counts
    )
    return PartitionAnswer(positions, distances, counts)


def plain(queries: np.ndarray) -> np.ndarray:
    """Queries as the one kind of array that the kernels are compiled for: float32, contiguous, writable, no subclass."""
    array = np.ascontiguousarray(queries, np.float32)
    return array if type(array) is np.ndarray and array.flags.writeable else np.array(array)


def search_partition(
    reader: PartitionReader, queries: np.ndarray, bitmaps: Sequence[np.ndarray | None] | None, params: SearchParams
) -> PartitionAnswer:
    """Search one partition: a pure function of its files, the queries and the masks.

    queries float32 (s, d) prepared by `Metric.queries` (scaled for cosine, widened for inner products); bitmaps: None for no
    filter, or for each query None or bool (n,) over the rows of the partition in storage order. Queries that share one array
    are answered in one call. Raises InputError for shapes that do not fit.
    """
    queries = plain(queries)
    if queries.ndim != 2 or queries.shape[1] != reader.d:
        raise InputError(f"queries must have the shape (queries, {reader.d}), got {queries.shape}")
    if bitmaps is None:
        return run(reader, queries, params)
    if len(bitmaps) != len(queries):
        raise InputError(f"got {len(bitmaps)} bitmaps for {len(queries)} queries")
    groups: dict[int, list[int]] = {}
    for i, bitmap in enumerate(bitmaps):
        groups.setdefault(id(bitmap), []).append(i)
    out = run(reader, queries[:0], params)
    positions = np.full((len(queries), params.k), -1, np.int64)
    distances = np.full((len(queries), params.k), np.inf, np.float32)
    counts = np.zeros((len(queries), out.counts.shape[1]), np.int64)
    for rows in groups.values():
        bitmap = bitmaps[rows[0]]
        if bitmap is None:
            part = run(reader, queries[rows], params)
        else:
            if bitmap.shape != (reader.n,):
                raise InputError(f"a bitmap must have {reader.n} entries, got the shape {bitmap.shape}")
            mask = np.array(bitmap, np.bool_).view(np.uint8)[None]
            program = (ONE_MASK, EMPTY_FILTER[1], EMPTY_FILTER[2], mask)
            part = run(reader, queries[rows], params, program=program, filtered=kernel.PROGRAM, at_once=True)
        positions[rows], distances[rows], counts[rows] = part.positions, part.distances, part.counts
    return PartitionAnswer(positions, distances, counts)


def open_partition(folder: str | Path, *, mmap: bool = True, verify: str = "resident") -> PartitionReader:
    """Open the arrays of an index or of one exported partition. Raises DamagedIndex, NewerIndex."""
    reader: PartitionReader = read_steadily(lambda: read_arrays(open_folder(folder, verify=verify), mmap))
    return reader


def read_arrays(opened: OpenedFolder, mmap: bool = True) -> PartitionReader:
    """The reader of an opened folder: full vectors and ids stay on disk with mmap, the rest is mapped and read on use."""
    schema: dict[str, Any] = dict(opened.schema)
    names = [f.name for f in fields(PartitionReader) if f.type == "np.ndarray"]
    arrays = {name: opened.load(name, mmap) for name in names}
    try:
        reader = PartitionReader(
            **arrays, axes=float(schema["axes"]), largest=float(schema["largest"]), first_pass=str(schema["first_pass"])
        )
    except KeyError as error:
        raise DamagedIndex(f"{opened.data}: the manifest lacks {error}; save the index again") from error
    n, d = reader.n, reader.d
    fits = (
        reader.vectors.shape == (n, d)
        and reader.ids.shape == (n,)
        and len(reader.codes) == len(reader.signs) == len(reader.factor) == n
        and int(reader.starts[-1]) == n
        and len(reader.starts) == len(reader.centres) + 1 == len(reader.part_of_list) + 1
    )
    if not fits:
        raise DamagedIndex(f"{opened.data}: the arrays do not fit each other; save the index again")
    return reader

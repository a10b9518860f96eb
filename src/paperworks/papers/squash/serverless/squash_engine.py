"""How a saved `SquashIndex` is cut into pieces, and how allocators and processors open them.

Allocators get attributes, ids, tombstones and centroids; a processor gets one partition with its own lists, codes and vectors. Full
vectors are retained like everything else, or stay in the store and are read row by row (`vectors="ranges"`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash import search_kernel as kernel
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.builder import freeze
from paperworks.papers.squash.filters import Filter
from paperworks.papers.squash.index import SquashIndex
from paperworks.papers.squash.metric import Metric
from paperworks.papers.squash.reader import NO_TOMBSTONES, PartitionReader, SearchParams, search_partition
from paperworks.papers.squash.saving import cut_partition, load_state
from paperworks.papers.squash.serverless.engine import Found, Piece, RangedFile, RowReader
from paperworks.papers.squash.state import State
from paperworks.papers.squash.storage import save_array

VECTORS = ("retain", "ranges")
RANGED_R = 3.0  # with ranged reads every row costs: bounds sort out all but so many times k of the rows kept
SELECTIVE = (
    0.125  # the settings for filters hold where at most this share of a partition passes, else those without one
)
_BLOCK_ROWS = 8192
_ARRAYS = [one.name for one in fields(PartitionReader) if one.type == "np.ndarray"]
_COUNTS = ("lists", "rows", "candidates", "after_hamming", "bounded", "refined", "partitions")


@dataclass(frozen=True)
class SquashEngine:
    """The engine of `SquashIndex` folders. vectors: "retain" or "ranges"."""

    vectors: str = "retain"

    def __post_init__(self) -> None:
        if self.vectors not in VECTORS:
            raise InputError(f"vectors must be 'retain' or 'ranges', got {self.vectors!r}")

    def facts(self, folder: Path) -> dict[str, Any]:
        """Plain values about the index: rows, dimension, metric, partitions."""
        state = load_state(folder, verify="sizes").state
        return {
            "rows": state.n_living,
            "dimension": state.metric.inner_d,
            "metric": state.metric.name,
            "vectors": self.vectors,
        }

    def pieces(self, folder: Path, work: Path) -> Iterator[Piece]:
        """See `Engine`. Raises InputError for an index with rows that were added since its build."""
        loaded = load_state(folder, verify="all")
        state = loaded.state
        if state.added is not None and state.added.alive.any():
            raise InputError(
                f"the index at {folder} has {len(state.added.ids)} rows added since its build; call compact() and save() first"
            )
        reader = state.reader
        # the same arrays in the same files give the same digests: an index that did not change uploads nothing
        shared = work / "shared"
        shared.mkdir()
        edges = partition_edges(reader)
        for name, array in {
            "centroids": reader.centroids, "ids": reader.ids, "rows": state.rows, "alive": state.alive, "edges": edges,
        }.items():  # fmt: skip
            save_array(shared, name, np.asarray(array))
        state.table.save(shared / "attributes")
        metric = {"name": state.metric.name, "d": state.metric.d, "widening": state.metric.widening}
        content = {"metric": metric, "settings": loaded.settings, "defaults": loaded.defaults}
        (shared / "index.json").write_text(json.dumps(content, sort_keys=True), encoding="utf-8")
        yield _piece(shared)
        shutil.rmtree(shared)
        for number in range(len(edges) - 1):
            part = work / f"part-{number}"
            part.mkdir()
            own = cut_partition(reader, number)
            for name, array in own.arrays().items():
                save_array(part, name, array)
            rest = {"axes": own.axes, "largest": own.largest, "first_pass": own.first_pass}
            (part / "partition.json").write_text(json.dumps(rest, sort_keys=True), encoding="utf-8")
            ranged = None
            if self.vectors == "ranges" and own.n:
                offset = (part / "vectors.npy").stat().st_size - own.vectors.nbytes
                ranged = RangedFile("vectors.npy", "<f4", own.d, offset)
            yield replace(_piece(part), rows=own.n, ranged=ranged)
            shutil.rmtree(part)

    def open_shared(self, folder: Path) -> SquashShared:
        """See `Engine`."""
        return SquashShared(folder)

    def open_partition(self, folder: Path, rows: RowReader | None) -> SquashPartition:
        """See `Engine`."""
        return SquashPartition(folder, rows)


def partition_edges(reader: PartitionReader) -> np.ndarray:
    """First row (p + 1,) of each partition in storage order: rows of a partition lie together."""
    n_parts = len(reader.part_means)
    first_list = np.searchsorted(reader.part_of_list, np.arange(n_parts + 1))
    return np.asarray(reader.starts)[first_list].astype(np.int64)


def _piece(folder: Path) -> Piece:
    return Piece({path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()})


def _load(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.npy"
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        array = np.load(path, allow_pickle=False)  # an array without elements cannot be mapped
    return array


class SquashShared:
    """The allocators' side: filters, centroids, and what a search is told."""

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.metric = Metric(**content["metric"])
        self.centroids = np.array(_load(folder, "centroids"), np.float64)
        self.edges = np.array(_load(folder, "edges"))
        alive = np.array(_load(folder, "alive"))
        self.alive = alive if len(alive) else NO_TOMBSTONES
        ids = _load(folder, "ids")
        # of the built part a state needs only ids here: vectors and codes are with the processors
        rows = cast(PartitionReader, SimpleNamespace(ids=ids, n=len(ids)))
        table = AttributeTable.load(folder / "attributes")
        self.state = State(self.metric, rows, table, _load(folder, "rows"), self.alive)
        self._index = SquashIndex(metric=self.metric.name, **content["settings"])
        self._index.set_defaults(content["defaults"])
        self._index._state = self.state

    def prepare(self, queries: Any) -> np.ndarray:
        """See `SharedReader`."""
        return self.metric.queries(queries)

    def settings(self, k: int, search: Mapping[str, Any]) -> dict[str, Any]:
        """What processors are told, from what `SquashIndex.search` takes; apart for selective filters."""
        allowed = ("T", "H", "R", "n_probe", "reach", "keep", "exact")
        if unknown := sorted(set(search) - set(allowed)):
            raise InputError(f"a search has no setting {', '.join(unknown)}; there are {', '.join(allowed)}")
        told = {}
        for name, filtered in (("all", False), ("filtered", True)):
            params = asdict(self._index.params(k, filtered=filtered, **search))
            told[name] = {key: None if value == float("inf") else value for key, value in params.items()}
        return told

    def check(self, what: Filter | None) -> None:
        """See `SharedReader`."""
        self.state.program(what)

    def centroid_distances(self, queries: np.ndarray) -> np.ndarray:
        """See `SharedReader`."""
        wide = queries.astype(np.float64)
        squared = (wide**2).sum(axis=1)[:, None] + (self.centroids**2).sum(axis=1)[None] - 2 * wide @ self.centroids.T
        return np.sqrt(np.maximum(squared, 0.0))

    def masks(self, what: Filter | None) -> list[np.ndarray] | None:
        """See `SharedReader`."""
        program = self.state.program(what)
        if program is None or program.everything:
            if len(self.alive) == 0:
                return None
            mask = self.alive != 0
        else:
            mask = program.mask()
            if len(self.alive):
                mask = mask & (self.alive != 0)
        return [mask[begin:end] for begin, end in zip(self.edges[:-1], self.edges[1:], strict=True)]

    def finish(self, distances: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """See `SharedReader`."""
        return np.asarray(self.metric.finish(distances, queries), np.float32)


class SquashPartition:
    """A processor's side: one partition, its vectors at hand or read by ranges."""

    def __init__(self, folder: Path, rows: RowReader | None) -> None:
        rest = json.loads((folder / "partition.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {name: _load(folder, name) for name in _ARRAYS if rows is None or name != "vectors"}
        if rows is not None:
            # the kernel orders candidates by their bounds and then looks at vectors; these are looked up afterwards instead.
            # Zeros that nobody wrote take no memory.
            shape = (len(arrays["ids"]), arrays["centres"].shape[1])
            arrays["vectors"] = np.zeros(shape, np.float32)
        self.reader = freeze(PartitionReader(**arrays, **rest))
        self.rows = rows

    def search(
        self, queries: np.ndarray, bitmaps: np.ndarray, bitmap_of: np.ndarray, k: int, search: Mapping[str, Any]
    ) -> Found:
        """See `PartitionReader` in `engine.py`; search: what `SquashShared.settings` made."""
        shape = (len(queries), k)
        positions, distances = np.full(shape, -1, np.int64), np.full(shape, np.inf, np.float32)
        masks = list(bitmaps)
        counts = np.zeros(len(_COUNTS), np.int64)
        shares = np.append(bitmaps.mean(axis=1, dtype=np.float64) if bitmaps.size else np.zeros(len(bitmaps)), 1.0)
        selective = shares[bitmap_of] <= SELECTIVE  # -1, no bitmap, is the share 1 at the end
        for name, rows in (("all", ~selective), ("filtered", selective)):
            which = np.flatnonzero(rows)
            if which.size == 0 or self.reader.n == 0:
                continue
            params = _params(search[name], min(k, self.reader.n))
            given = [masks[i] if i >= 0 else None for i in bitmap_of[which].tolist()]
            found, near, seen = self._search(queries[which], given, params)
            positions[which, : params.k], distances[which, : params.k] = found, near
            counts += seen
        ids = np.where(positions < 0, -1, self.reader.ids[np.maximum(positions, 0)] if self.reader.n else -1)
        return Found(positions, ids.astype(np.int64), distances, dict(zip(_COUNTS, counts.tolist(), strict=True)))

    def _search(
        self, queries: np.ndarray, masks: list[np.ndarray | None], params: SearchParams
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.rows is None:
            answer = search_partition(self.reader, queries, masks, params)
            return answer.positions, answer.distances, _counts(answer.counts)
        if params.exact:
            return self._scan(queries, masks, params.k)
        bounds = params.R if params.R > 0 else RANGED_R
        n_refined = min(max(int(np.ceil(bounds * params.k)), params.k), self.reader.n)
        wide = replace(params, k=n_refined, R=1.0, keep=max(params.keep, n_refined))
        answer = search_partition(self.reader, queries, masks, wide)
        return *self._refine(queries, answer.positions, params.k), _counts(answer.counts)

    def _refine(self, queries: np.ndarray, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of the candidates (m, c), -1 for none, by vectors read in few requests -> positions, squared distances."""
        assert self.rows is not None
        needed, place = np.unique(candidates[candidates >= 0], return_inverse=True)
        vectors = self.rows(needed) if needed.size else np.empty((0, queries.shape[1]), np.float32)
        at = np.full(candidates.shape, -1, np.int64)
        at[candidates >= 0] = place.reshape(-1)
        distances = np.full(candidates.shape, np.inf, np.float32)
        for row, query in enumerate(queries):
            there = at[row] >= 0
            distances[row, there] = ((vectors[at[row, there]] - query) ** 2).sum(axis=1)
        order = np.lexsort((candidates, distances), axis=1)[:, :k]
        return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(distances, order, axis=1)

    def _scan(
        self, queries: np.ndarray, masks: list[np.ndarray | None], k: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Exactly, by every row that passes: what is read is the price of asking for it without vectors at hand."""
        best = np.full((len(queries), k), -1, np.int64)
        near = np.full((len(queries), k), np.inf, np.float32)
        n = self.reader.n
        passing = [np.arange(n) if mask is None else np.flatnonzero(mask) for mask in masks]
        assert self.rows is not None
        counts = np.zeros(len(_COUNTS), np.int64)
        for query, rows in enumerate(passing):
            for begin in range(0, rows.size, _BLOCK_ROWS):
                block = rows[begin : begin + _BLOCK_ROWS]
                distances = ((self.rows(block) - queries[query]) ** 2).sum(axis=1)
                joined = np.concatenate([near[query], distances])
                order = np.argsort(joined, kind="stable")[:k]
                near[query], best[query] = joined[order], np.concatenate([best[query], block])[order]
            counts[[1, 2, 5]] += (n, rows.size, rows.size)
        return best, near, counts


def _params(told: Mapping[str, Any], k: int) -> SearchParams:
    values: dict[str, Any] = {name: float("inf") if value is None else value for name, value in told.items()}
    return SearchParams(**{**values, "k": k, "keep": max(int(values["keep"]), k)})


def _counts(counts: np.ndarray) -> np.ndarray:
    """Sums over queries in the order of _COUNTS."""
    columns = (
        kernel.LISTS, kernel.ROWS, kernel.CANDIDATES, kernel.KEPT, kernel.BOUNDED, kernel.REFINED, kernel.PARTITIONS,
    )  # fmt: skip
    total: np.ndarray = counts[:, columns].sum(axis=0)
    return total

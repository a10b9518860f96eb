"""What a query allocator decides before any processor starts: which partitions each query visits, and which rows may answer it.

Pure functions on arrays. Axis letters: q queries, p partitions. Who carries the requests is in `gather.py`, who answers them in
`processor.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.payload import Message


def choose_partitions(distances: np.ndarray, counts: np.ndarray, k: int, threshold: float) -> np.ndarray:
    """The single pass: which partitions (q, p) to visit so that k matching rows are certain to be found, whenever there are k.

    distances (q, p) >= 0, of queries to centroids, not squared; counts (q, p) rows of each partition that pass the query's filter,
    exact; threshold T >= 1. Partitions are taken in ascending distance; one that is farther than T times the nearest is left out
    only when those taken before it hold min(k, all matches) matching rows. Partitions without a match are never visited, and the
    nearest is judged among those with one: the paper takes it among all, which lets an empty one narrow the search.

    >>> choose_partitions(np.array([[1.0, 1.1, 5.0]]), np.array([[2, 2, 9]]), k=3, threshold=1.2)
    array([[ True,  True, False]])
    """
    if distances.shape != counts.shape or distances.ndim != 2:
        raise InputError(
            f"distances {distances.shape} and counts {counts.shape} must have one shape (queries, partitions)"
        )
    if k < 1 or not threshold >= 1:
        raise InputError(f"k must be 1 or more and the threshold T 1 or more, got k={k} and T={threshold}")
    filled = counts > 0
    usable = np.where(filled, distances, np.inf)
    order = np.argsort(usable, axis=1, kind="stable")
    sorted_counts = np.take_along_axis(np.where(filled, counts, 0), order, axis=1)
    before = np.cumsum(sorted_counts, axis=1) - sorted_counts
    wanted = np.minimum(k, counts.sum(axis=1, keepdims=True))
    nearest = usable.min(axis=1, keepdims=True, initial=np.inf)
    # inf <= inf: an infinite threshold visits every partition with a match
    limit = np.where(np.isfinite(nearest), nearest, 0.0) * threshold if np.isfinite(threshold) else np.inf
    near = np.take_along_axis(usable, order, axis=1) <= limit
    visits = np.zeros(distances.shape, np.bool_)
    np.put_along_axis(visits, order, near | (before < wanted), axis=1)
    return visits & filled


@dataclass(frozen=True)
class PartitionRequest:
    """What one processor is asked, and what its answer is checked against.

    query_ids (m,) places of the queries in the caller's batch; queries (m, d) float32; bitmap_of (m,) which of `bitmaps` (u, rows)
    holds for a query, -1 for none (every row); expected (m,) rows that the answer must have, min(k, candidates).
    """

    request_id: str
    partition: int
    n_rows: int
    k: int
    query_ids: np.ndarray
    queries: np.ndarray
    bitmaps: np.ndarray
    bitmap_of: np.ndarray
    expected: np.ndarray
    search: dict[str, Any] = field(default_factory=dict)

    def message(self, deployment: str) -> Message:
        """The request as it travels; bitmaps are packed to bits, most significant first."""
        fields = {
            "request": self.request_id,
            "deployment": deployment,
            "partition": self.partition,
            "rows": self.n_rows,
            "k": self.k,
            "search": self.search,
        }
        arrays = {
            "queries": self.queries,
            "bitmaps": np.packbits(self.bitmaps, axis=1),
            "bitmap_of": self.bitmap_of.astype(np.int32),
        }
        return Message("search", fields, arrays)


def partition_requests(
    queries: np.ndarray,
    query_ids: np.ndarray,
    visits: np.ndarray,
    counts: np.ndarray,
    masks: Sequence[Sequence[np.ndarray] | None],
    mask_of: np.ndarray,
    sizes: Sequence[int],
    k: int,
    search: dict[str, Any],
) -> list[PartitionRequest]:
    """One request a visited partition, with the queries that visit it.

    queries (q, d) float32, query_ids (q,), visits and counts (q, p). masks: for each distinct filter the boolean masks (rows of the
    partition,) of all partitions, or None for no filter; mask_of (q,) which of them a query has. sizes (p,) rows of a partition.
    A filter that matches a whole partition sends no bitmap there.
    """
    requests = []
    for partition in np.flatnonzero(visits.any(axis=0)).tolist():
        rows = np.flatnonzero(visits[:, partition])
        sent: dict[int, int] = {}
        bitmaps: list[np.ndarray] = []
        bitmap_of = np.full(rows.size, -1, np.int64)
        for place, query in enumerate(rows):
            which = int(mask_of[query])
            mask = masks[which]
            if mask is None or counts[query, partition] == sizes[partition]:
                continue
            if which not in sent:
                sent[which] = len(bitmaps)
                bitmaps.append(mask[partition])
            bitmap_of[place] = sent[which]
        requests.append(
            PartitionRequest(
                request_id=secrets.token_hex(16),
                partition=partition,
                n_rows=int(sizes[partition]),
                k=k,
                query_ids=query_ids[rows],
                queries=np.ascontiguousarray(queries[rows], np.float32),
                bitmaps=np.array(bitmaps, np.bool_).reshape(len(bitmaps), sizes[partition]),
                bitmap_of=bitmap_of,
                expected=np.minimum(k, counts[rows, partition]),
                search=search,
            )
        )
    return requests


def merge(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], n_queries: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of all answers -> distances (n_queries, k) float32 ascending, ids (n_queries, k) int64; inf and -1 where none.

    parts: (query_ids (m,), distances (m, k'), ids (m, k')) of each partition; ties go to the smaller id, so that the order in which
    the answers came does not matter.
    """
    best = np.full((n_queries, k), np.inf, np.float32)
    ids = np.full((n_queries, k), -1, np.int64)
    for query_ids, distances, found in parts:
        both = np.concatenate([best[query_ids], distances], axis=1)
        both_ids = np.concatenate([ids[query_ids], found], axis=1)
        # places without a row come last, whatever their id
        order = np.lexsort((np.where(both_ids < 0, np.iinfo(np.int64).max, both_ids), both), axis=1)[:, :k]
        best[query_ids] = np.take_along_axis(both, order, axis=1)
        ids[query_ids] = np.take_along_axis(both_ids, order, axis=1)
    return best, ids

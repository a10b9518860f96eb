"""Search over the state of an index: filters compiled, queries that share one grouped, threads over queries, added rows merged."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from paperworks.papers.squash import search_kernel as kernel
from paperworks.papers.squash.exact_kernel import scan_vectors
from paperworks.papers.squash.filter_program import FilterProgram
from paperworks.papers.squash.filters import Filter
from paperworks.papers.squash.kernels import finish_l2
from paperworks.papers.squash.planner import FEW, Plan, is_broad, plan_filter
from paperworks.papers.squash.reader import (
    EMPTY_FILTER,
    EMPTY_TABLE,
    NO_ROWS,
    NO_TOMBSTONES,
    PartitionAnswer,
    SearchParams,
    run,
)
from paperworks.papers.squash.state import State


@dataclass(frozen=True)
class Answer:
    """distances float32 (s, k) and ids int64 (s, k) for the caller, counts (s, STAGES), plans by query, seconds in all."""

    distances: np.ndarray
    ids: np.ndarray
    counts: np.ndarray
    plans: list[Plan]
    seconds: float

    def stats(self, row_bytes: int) -> list[dict[str, Any]]:
        """One record a query: what each stage saw, and the bytes of full vectors read."""
        each_ms = 1e3 * self.seconds / max(1, len(self.counts))
        return [
            {
                "plan": plan.kind,
                "lists": int(row[kernel.LISTS]),
                "rows": int(row[kernel.ROWS]),
                "candidates": int(row[kernel.CANDIDATES]),
                "after_hamming": int(row[kernel.KEPT]),
                "bounded": int(row[kernel.BOUNDED]),
                "partitions": int(row[kernel.PARTITIONS]),
                "refined": int(row[kernel.REFINED]),
                "bytes_read": int(row[kernel.REFINED]) * row_bytes,
                "ms": each_ms,
            }
            for plan, row in zip(self.plans, self.counts, strict=True)
        ]


def search_state(
    state: State,
    queries: np.ndarray,
    filters: Sequence[Filter | None],
    params: SearchParams,
    n_threads: int = 1,
    broad: SearchParams | None = None,
) -> Answer:
    """Answer prepared queries float32 (s, inner_d), each with its filter (one object for all that share it).

    broad: settings for queries without a filter or with one that many rows pass; default: `params` for these too.
    """
    started = time.perf_counter()
    n_queries = len(queries)
    broad = broad or params
    if state.reader.n // FEW > params.few and not params.exact:
        params, broad = (_wider(one, state.reader.n // FEW) for one in (params, broad))
    if n_queries == 1 or all(one is filters[0] for one in filters):
        groups: list[tuple[Filter | None, Any]] = [(filters[0] if filters else None, slice(None))]
    else:
        by_filter: dict[int, list[int]] = {}
        for i, one in enumerate(filters):
            by_filter.setdefault(id(one), []).append(i)
        groups = [(filters[rows[0]], rows) for rows in by_filter.values()]

    pieces: list[tuple[Any, FilterProgram | None, Plan, SearchParams]] = []
    for what, rows in groups:
        program = state.program(what)
        size = n_queries if isinstance(rows, slice) else len(rows)
        plan = plan_filter(program, state.reader.n, size)
        parts = _split(rows, size, n_threads if len(groups) < 2 * n_threads else 1)
        chosen = broad if broad is not params and is_broad(program, state.reader.n) else params
        pieces += [(part, program, plan, chosen) for part in parts]

    if len(pieces) == 1:
        rows, program, plan, chosen = pieces[0]
        whole = _run(state, queries, program, plan, chosen)
        positions, distances, counts = whole.positions, whole.distances, whole.counts
        plans = [plan] * n_queries
    else:
        positions = np.empty((n_queries, params.k), np.int64)
        distances = np.empty((n_queries, params.k), np.float32)
        counts = np.empty((n_queries, kernel.STAGES), np.int64)
        plans = [Plan("none")] * n_queries

        def work(piece: tuple[Any, FilterProgram | None, Plan, SearchParams]) -> None:
            rows, program, plan, settings = piece
            part = _run(state, queries[rows], program, plan, settings)
            positions[rows], distances[rows], counts[rows] = part.positions, part.distances, part.counts

        if n_threads > 1:
            list(_pool(n_threads).map(work, pieces))
        else:
            for piece in pieces:
                work(piece)
        for rows, _, plan, _ in pieces:
            for i in range(n_queries)[rows] if isinstance(rows, slice) else rows:
                plans[i] = plan
    if state.added is not None:
        _merge_added(state, queries, groups, distances, positions)
    elif state.metric.name == "l2" and state.reader.n:
        ids = np.empty_like(positions)
        finish_l2(distances, positions, state.reader.ids, ids)
        return Answer(distances, ids, counts, plans, time.perf_counter() - started)
    distances = state.metric.finish(distances, queries)
    return Answer(distances, state.ids_at(positions), counts, plans, time.perf_counter() - started)


@lru_cache(maxsize=256)
def _wider(params: SearchParams, few: int) -> SearchParams:
    """The same settings for an index in which so many rows are few."""
    return replace(params, few=few)


def _run(
    state: State, queries: np.ndarray, program: FilterProgram | None, plan: Plan, params: SearchParams
) -> PartitionAnswer:
    if plan.kind == "nothing":
        shape = (len(queries), params.k)
        return PartitionAnswer(
            np.full(shape, -1, np.int64),
            np.full(shape, np.inf, np.float32),
            np.zeros((len(queries), kernel.STAGES), np.int64),
        )
    if plan.filtered == kernel.NO_FILTER or program is None:
        return run(state.reader, queries, params, alive=state.alive)
    if plan.given is not None:
        given = plan.given if len(state.alive) == 0 else plan.given[state.alive[plan.given] != 0]
        return run(state.reader, queries, params, given=given, filtered=kernel.GIVEN)
    return run(
        state.reader, queries, params, program=program.arrays, table=table_arrays(state), depth=max(1, program.depth),
        filtered=kernel.PROGRAM, at_once=plan.at_once, alive=state.alive,
    )  # fmt: skip


def table_arrays(state: State) -> tuple[np.ndarray, ...]:
    """The columns as the kernels take them: plain read-only arrays, memory-mapped or not, so that one compiled kernel fits."""
    made = state.table.__dict__.get("_kernel_arrays")
    if made is None:
        views = []
        for array in state.table.arrays:
            view = np.asarray(array).view()
            view.flags.writeable = False
            views.append(view)
        made = tuple(views)
        state.table.__dict__["_kernel_arrays"] = made
    return made


def _split(rows: Any, size: int, n_threads: int) -> list[Any]:
    if n_threads <= 1 or size < 2 * n_threads:
        return [rows]
    edges = np.linspace(0, size, n_threads + 1).astype(int)
    if isinstance(rows, slice):
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
    return [rows[a:b] for a, b in itertools.pairwise(edges)]


@lru_cache(maxsize=8)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Threads kept between calls: starting them costs more than a query."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="squash")


def _merge_added(
    state: State,
    queries: np.ndarray,
    groups: list[tuple[Filter | None, Any]],
    distances: np.ndarray,
    positions: np.ndarray,
) -> None:
    added = state.added
    assert added is not None
    constant = state.metric.widening if state.metric.name == "ip" else -1.0
    for what, rows in groups:
        flags = state.added_flags(what)
        if not flags.any():
            continue
        part_d, part_p = np.ascontiguousarray(distances[rows]), np.ascontiguousarray(positions[rows])
        scan_vectors(
            np.ascontiguousarray(queries[rows]), added.vectors, flags, constant, part_d, part_p, state.reader.n
        )
        distances[rows], positions[rows] = part_d, part_p


def frozen(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Read-only views."""
    views = []
    for array in arrays:
        view = np.asarray(array).view()
        view.flags.writeable = False
        views.append(view)
    return tuple(views)


__all__ = [
    "EMPTY_FILTER",
    "EMPTY_TABLE",
    "NO_ROWS",
    "NO_TOMBSTONES",
    "Answer",
    "frozen",
    "search_state",
    "table_arrays",
]

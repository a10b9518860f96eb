"""The exact answer by bounds: rows in ascending lower bound until no bound is below the k-th distance (VA-file, phase 2).

Lower bounds come from the codes of all rows that may pass; a row's full vector is read only when its bound comes up. The
bound is lowered by what rounding may add to it (`transform.rounding_slack`), so the answer is that of brute force.
"""

# Compiled functions: numba decides the types of numbers, mypy only knows those of plain NumPy.
# mypy: disable-error-code="arg-type,assignment,call-arg,return-value,no-any-return,unreachable,no-untyped-call,import-untyped"

from __future__ import annotations

import numpy as np
from numba import njit

from paperworks.papers.squash.filter_kernels import BLOCK as FILTER_BLOCK
from paperworks.papers.squash.filter_kernels import MAYBE, verify_row
from paperworks.papers.squash.kernels import (
    bound_byte_tables,
    insert_sorted,
    make_heap,
    project,
    sift_smallest,
    squared_distance,
    sum_bytes,
)
from paperworks.papers.squash.search_kernel import (
    BOUNDED,
    CANDIDATES,
    DELETED,
    DEPTH,
    FILTERED,
    GIVEN,
    KEPT,
    LARGEST,
    LISTS,
    PARTITIONS,
    REFINED,
    ROWS,
    K,
    count_set,
    flag_rows,
)

EPS = np.float32(np.finfo(np.float32).eps)


@njit(cache=True, nogil=True)
def search_exactly(
    queries: np.ndarray,
    whole: np.ndarray,
    real: np.ndarray,
    mean: np.ndarray,
    flips: np.ndarray,
    turn: np.ndarray,
    centres: np.ndarray,
    spreads: np.ndarray,
    starts: np.ndarray,
    first_block: np.ndarray,
    part_of_list: np.ndarray,
    blocks: np.ndarray,
    signs: np.ndarray,
    add: np.ndarray,
    factor: np.ndarray,
    alive: np.ndarray,
    codes: np.ndarray,
    part_means: np.ndarray,
    part_bases: np.ndarray,
    part_edges: np.ndarray,
    part_bits: np.ndarray,
    part_orders: np.ndarray,
    part_bytes: np.ndarray,
    vectors: np.ndarray,
    code: np.ndarray,
    exact: np.ndarray,
    tables: np.ndarray,
    masks: np.ndarray,
    cells: np.ndarray,
    keys: np.ndarray,
    label_starts: np.ndarray,
    label_codes: np.ndarray,
    given: np.ndarray,
    distances: np.ndarray,
    positions: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Arguments and results as those of `search_kernel.search_rows`; limits of lists and kept rows are not used."""
    k = whole[K]
    n_lists, d = centres.shape
    n = starts[n_lists]
    n_parts = part_means.shape[0]
    flags = np.zeros(n, np.uint8)
    if whole[FILTERED] == GIVEN:
        for i in range(given.shape[0]):
            flags[given[i]] = 2
    else:
        scratch = np.empty((max(1, whole[DEPTH]), FILTER_BLOCK if code.shape[0] > 0 else 1), np.uint8)
        flag_rows(alive, whole[DELETED] != 0, code, tables, masks, cells, 0, n, flags, scratch)
    n_set = count_set(flags)
    part_starts = np.full(n_parts + 1, n, np.int64)
    for one in range(n_lists - 1, -1, -1):
        part_starts[part_of_list[one]] = starts[one]
    for part in range(n_parts - 1, -1, -1):  # a partition without lists is empty
        part_starts[part] = min(part_starts[part], part_starts[part + 1])
    bounds = np.empty(n_set, np.float32)
    rows = np.empty(n_set, np.int64)
    centred = np.empty(d, np.float32)
    own = np.empty(d, np.float32)
    byte_tables = np.empty((codes.shape[1], 256), np.float32)
    for s in range(queries.shape[0]):
        query = queries[s]
        length = squared_distance(query, mean)
        slack = np.float32(4) * EPS * np.float32(np.sqrt(d)) * np.float32(np.sqrt(length) + real[LARGEST])
        filled = 0
        for part in range(n_parts):
            if part_starts[part] == part_starts[part + 1]:
                continue
            for j in range(d):
                centred[j] = query[j] - part_means[part, j]
            project(part_bases[part], centred, own)
            bound_byte_tables(own, part_edges[part], part_bits[part], part_orders[part], part_bytes[part], byte_tables)
            counts[s, PARTITIONS] += 1
            for row in range(part_starts[part], part_starts[part + 1]):
                if flags[row] != 0:
                    root = max(np.float32(0), np.float32(np.sqrt(sum_bytes(codes[row], byte_tables))) - slack)
                    bounds[filled] = root * root
                    rows[filled] = row
                    filled += 1
        counts[s, LISTS] = n_lists
        counts[s, ROWS] = n
        counts[s, CANDIDATES] = filled
        counts[s, KEPT] = filled
        counts[s, BOUNDED] = filled
        make_heap(bounds, rows, filled)
        best = distances[s]
        best_rows = positions[s]
        best[:] = np.inf
        best_rows[:] = -1
        found = 0
        while filled > 0:
            if found == k and bounds[0] > best[k - 1] * np.float32(1.000001):
                break
            row = rows[0]
            filled -= 1
            bounds[0] = bounds[filled]
            rows[0] = rows[filled]
            sift_smallest(bounds, rows, 0, filled)
            if flags[row] == MAYBE and not verify_row(
                code, exact, tables, masks, cells, keys, label_starts, label_codes, row
            ):
                counts[s, CANDIDATES] -= 1
                continue
            counts[s, REFINED] += 1
            found = insert_sorted(best, best_rows, found, squared_distance(query, vectors[row]), row)


@njit(cache=True, nogil=True)
def scan_vectors(
    queries: np.ndarray,
    vectors: np.ndarray,
    flags: np.ndarray,
    inner_constant: float,
    distances: np.ndarray,
    positions: np.ndarray,
    first: int,
) -> None:
    """Merge the flagged rows of plain vectors float32 (m, d) into sorted results (s, k): rows added since the build.

    inner_constant: negative for squared Euclidean distances; else the square of the widening of inner products, and a row's
    distance is |q|^2 + constant - 2 q.x over its first d - 1 dimensions. Row i gets the position first + i.
    """
    n_queries, k = distances.shape
    d = vectors.shape[1]
    for s in range(n_queries):
        query = queries[s]
        found = 0
        while found < k and positions[s, found] >= 0:
            found += 1
        length = np.float32(0)
        if inner_constant >= 0:
            for j in range(d):
                length += query[j] * query[j]
        for i in range(vectors.shape[0]):
            if flags[i] == 0:
                continue
            if inner_constant >= 0:
                product = np.float32(0)
                for j in range(d - 1):
                    product += query[j] * vectors[i, j]
                score = np.float32(length + np.float32(inner_constant) - 2 * product)
            else:
                score = squared_distance(query, vectors[i])
            found = insert_sorted(distances[s], positions[s], found, score, first + i)

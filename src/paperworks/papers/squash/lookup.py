"""Tables of squared distance bounds from a query to every cell of every dimension (stage 2 of the search).

`d` dimensions, `C` cells of the finest one. The squared lower bound of a row is the sum over dimensions of table[j, code_j].
Sums run in float32; `transform.rounding_slack` says what that may cost.
"""

from __future__ import annotations

import numba
import numpy as np

from paperworks.papers.squash.quantiser import Quantiser


@numba.njit(cache=True, nogil=True)
def fill_bounds(query: np.ndarray, edges: np.ndarray, bits: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
    """Write the squared bounds of query (d,) into lower and upper (d, C) float32; entries beyond a dimension's cells are 0.

    Lower: 0 inside the cell, else the nearer edge. Upper: the farther edge.
    """
    for j in range(query.size):
        value = query[j]
        cells = 1 << bits[j]
        for c in range(cells):
            below = edges[j, c] - value
            above = value - edges[j, c + 1]
            outside = max(np.float32(0.0), max(below, above))
            farthest = max(abs(below), abs(above))
            lower[j, c] = outside * outside
            upper[j, c] = farthest * farthest
        for c in range(cells, lower.shape[1]):
            lower[j, c] = 0.0
            upper[j, c] = 0.0


@numba.njit(cache=True, nogil=True)
def fill_lower(query: np.ndarray, edges: np.ndarray, bits: np.ndarray, lower: np.ndarray) -> None:
    """The lower bounds alone, (d, C) float32; entries beyond a dimension's cells are left as they are."""
    for j in range(query.size):
        value = query[j]
        for c in range(1 << bits[j]):
            outside = max(np.float32(0.0), max(edges[j, c] - value, value - edges[j, c + 1]))
            lower[j, c] = outside * outside


def bound_tables(query: np.ndarray, quantiser: Quantiser) -> tuple[np.ndarray, np.ndarray]:
    """Squared lower and upper bounds (d, C) float32 of one transformed query (d,), asymmetric: the query is not quantised."""
    query = np.ascontiguousarray(query, dtype=np.float32)
    shape = (len(query), quantiser.edges.shape[1] - 1)
    lower, upper = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    fill_bounds(query, quantiser.edges, quantiser.bits, lower, upper)
    return lower, upper


def symmetric_tables(query: np.ndarray, quantiser: Quantiser) -> tuple[np.ndarray, np.ndarray]:
    """The same shapes when the query is quantised too (SDC, an ablation): bounds between the query's cell and every cell.

    Looser than `bound_tables` and therefore worse in recall. The paper keeps all C x C tables; one row of each is all that a
    query reads, so only that is made. A query beyond the ends is taken to lie in the end cell, widened to reach it.
    """
    query = np.ascontiguousarray(query, dtype=np.float32)
    own = quantiser.encode(query[None])[0].astype(np.int64)
    at = np.arange(len(query))
    low = np.minimum(quantiser.edges[at, own], query)[:, None]
    high = np.maximum(quantiser.edges[at, own + 1], query)[:, None]
    used = np.arange(quantiser.edges.shape[1] - 1) < quantiser.cells[:, None]
    starts = np.where(used, quantiser.edges[:, :-1], 0)
    stops = np.where(used, quantiser.edges[:, 1:], 0)
    lower = np.where(used, np.maximum(0, np.maximum(starts - high, low - stops)), 0)
    upper = np.where(used, np.maximum(stops - low, high - starts), 0)
    return (lower * lower).astype(np.float32), (upper * upper).astype(np.float32)


def midpoint_table(query: np.ndarray, quantiser: Quantiser) -> np.ndarray:
    """Squared distances (d, C) float32 from query (d,) to the middle of each cell: an estimate, not a bound."""
    gaps = np.asarray(query, dtype=np.float32)[:, None] - quantiser.midpoints()
    used = np.arange(gaps.shape[1]) < quantiser.cells[:, None]
    return np.where(used, gaps * gaps, 0).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def sum_rows(table: np.ndarray, codes: np.ndarray, out: np.ndarray) -> None:
    """out (n,) float32: the sum over dimensions of table (d, C) at codes (n, d)."""
    for i in range(codes.shape[0]):
        total = np.float32(0.0)
        for j in range(codes.shape[1]):
            total += table[j, codes[i, j]]
        out[i] = total


def table_sums(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Squared bounds or estimates (n,) float32 of rows with codes (n, d), from a table (d, C)."""
    out = np.empty(len(codes), dtype=np.float32)
    sum_rows(table, codes, out)
    return out

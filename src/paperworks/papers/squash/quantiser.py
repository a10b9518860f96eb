"""Cells of each dimension: equally populated first, then moved by Lloyd-Max on sorted values (step 5).

Axis letters: `n` rows, `d` dimensions, `C` cells of the finest dimension (2 to the power of its bits). The edges of all
dimensions stand in one padded table (d, C + 1) float32: row j uses its first 2**bits[j] + 1 entries, ascending, the rest is +inf.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np

from paperworks.errors import InputError

LLOYD_STOP = 0.005  # relative change of the squared error
LLOYD_ITERATIONS = 250
GOLDEN, MIX_1, MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@numba.njit(cache=True, nogil=True)
def uniform_hash(key: int) -> float:
    """A number in [0, 1) that depends on the key only (SplitMix64): the seeded chance of the compiled loops."""
    z = np.uint64(key) * GOLDEN + GOLDEN
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return float((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 9007199254740992.0


@numba.njit(cache=True, nogil=True)
def equal_counts(ordered: np.ndarray, cells: int, edges: np.ndarray) -> None:
    """Write into edges (cells + 1,) such that each cell holds as many of the ordered values (n,) as the next."""
    n = ordered.size
    edges[0] = ordered[0]
    for c in range(1, cells):
        edges[c] = ordered[min(n - 1, (c * n + cells - 1) // cells)]
    edges[cells] = ordered[n - 1]


@numba.njit(cache=True, nogil=True)
def lloyd_max(ordered: np.ndarray, cells: int, edges: np.ndarray, key: int, stop: float, iterations: int) -> int:
    """Move the inner edges (cells + 1,) to the midpoints of the cell means until the squared error rests; returns the rounds.

    The values (n,) are sorted, so a cell is a slice, and its mean and error come from running sums of y and y**2: a round costs
    cells * log n. A cell without values gets a random point of the range, from `key`.
    """
    n = ordered.size
    sums = np.zeros(n + 1)
    squares = np.zeros(n + 1)
    for i in range(n):
        value = float(ordered[i])
        sums[i + 1] = sums[i] + value
        squares[i + 1] = squares[i] + value * value
    low, high = float(ordered[0]), float(ordered[n - 1])
    points = np.empty(cells)
    before = np.inf
    for round_no in range(iterations):
        error = 0.0
        first = 0
        for c in range(cells):
            last = n if c == cells - 1 else first + np.searchsorted(ordered[first:], edges[c + 1])
            if last > first:
                total = sums[last] - sums[first]
                points[c] = total / (last - first)
                error += squares[last] - squares[first] - total * points[c]
            else:
                points[c] = low + (high - low) * uniform_hash(key + round_no * cells + c)
            first = last
        points.sort()
        for c in range(1, cells):
            edges[c] = (points[c - 1] + points[c]) / 2
        if abs(before - error) <= stop * before and before < np.inf:
            return round_no + 1
        before = error
    return iterations


@numba.njit(cache=True, nogil=True)
def learn_edges(columns: np.ndarray, bits: np.ndarray, lloyd: bool, seed: int, edges: np.ndarray) -> None:
    """Fill edges (d, C + 1) from columns (d, m) float32, each sorted here in place."""
    for j in range(columns.shape[0]):
        column = columns[j]
        cells = 1 << bits[j]
        column.sort()
        equal_counts(column, cells, edges[j])
        if lloyd and cells > 1:
            lloyd_max(column, cells, edges[j], seed + (j << 20), LLOYD_STOP, LLOYD_ITERATIONS)


@numba.njit(cache=True, nogil=True)
def encode_rows(values: np.ndarray, edges: np.ndarray, bits: np.ndarray, codes: np.ndarray) -> None:
    """codes (b, d) uint8 or uint16: the last cell whose lower edge is not above the value; beyond the ends, the end cells."""
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            value = values[i, j]
            half = (1 << bits[j]) >> 1
            cell = 0
            while half:
                cell += half if value >= edges[j, cell + half] else 0
                half >>= 1
            codes[i, j] = cell


@dataclass(frozen=True)
class Quantiser:
    """bits (d,) uint8 and edges (d, C + 1) float32. The first and last edge are the least and largest value covered."""

    bits: np.ndarray
    edges: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """Cells of each dimension (d,) int64."""
        return np.left_shift(1, self.bits.astype(np.int64))

    @property
    def code_dtype(self) -> np.dtype:
        """uint8, or uint16 where a dimension has more than 8 bits."""
        return np.dtype(np.uint8 if self.bits.max(initial=0) <= 8 else np.uint16)

    def encode(self, values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """values (b, d) of transformed space -> codes (b, d) of `code_dtype`."""
        values = np.ascontiguousarray(values, dtype=np.float32)
        if out is None:
            out = np.empty(values.shape, dtype=self.code_dtype)
        encode_rows(values, self.edges, self.bits, out)
        return out

    def ends(self) -> np.ndarray:
        """Least and largest value covered, (2, d) float32."""
        return np.stack([self.edges[:, 0], self.edges[np.arange(len(self.bits)), self.cells]])

    def outside(self, values: np.ndarray) -> int:
        """How many of the values (b, d) lie beyond the ends: the drift that inserts bring."""
        low, high = self.ends()
        return int(np.count_nonzero((values < low) | (values > high)))

    def cover(self, low: np.ndarray, high: np.ndarray) -> Quantiser:
        """The same cells with ends that reach at least low and high (d,), so that bounds hold for rows beyond the sample."""
        edges = self.edges.copy()
        at = np.arange(len(self.bits))
        edges[:, 0] = np.minimum(edges[:, 0], low)
        edges[at, self.cells] = np.maximum(edges[at, self.cells], high)
        return replace(self, edges=edges)

    def midpoints(self) -> np.ndarray:
        """The middle of each cell (d, C) float32, for reconstruction; 0 where a dimension has fewer cells."""
        inside = np.arange(self.edges.shape[1] - 1) < self.cells[:, None]
        high = np.where(inside, self.edges[:, 1:], 0.0)
        return np.where(inside, (self.edges[:, :-1] + high) / 2, 0.0).astype(np.float32)


def learn_quantiser(values: np.ndarray, bits: np.ndarray, *, boundaries: str = "lloyd", seed: int = 0) -> Quantiser:
    """Learn the cells from transformed rows (m, d), all of them or a sample.

    boundaries: "lloyd" (default, the paper) or "equal" (equally populated cells, ablation). Ends are the least and largest
    value; call `cover` when other rows than these are encoded. Several threads may learn slices of the columns at once.
    """
    values = np.asarray(values)
    bits = np.ascontiguousarray(bits, dtype=np.uint8)
    if values.ndim != 2 or values.shape[1] != len(bits) or len(values) == 0:
        raise InputError(f"cells are learnt from rows of {len(bits)} dimensions, got the shape {values.shape}")
    if boundaries not in ("lloyd", "equal"):
        raise InputError(f"boundaries must be 'lloyd' or 'equal', got {boundaries!r}")
    columns = np.array(values.T, dtype=np.float32, order="C")  # a copy: it is sorted in place
    edges = np.full((len(bits), (1 << int(bits.max(initial=0))) + 1), np.inf, dtype=np.float32)
    learn_edges(columns, bits, boundaries == "lloyd", seed, edges)
    return Quantiser(bits, edges)

"""Partitions of equal size and the fine lists inside them, learnt on a sample and given to all rows block by block (step 2).

A partition is what one function serves: the slowest decides, so sizes stay within a tolerance of n / P. A list is a fine cluster
whose rows lie side by side, so that a search can leave most rows alone; lists need no balance.
`n` rows, `d` dimensions, `k` clusters, `P` partitions. Distances are squared Euclidean.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numba
import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.transform import iter_blocks

log = logging.getLogger(__name__)

SAMPLE_ROWS = 262_144
ROWS_PER_CLUSTER = 256  # sampled rows a cluster are enough to place its centre
SCORE_VALUES = 2 << 20  # scores of one block in float32: stays in the cache


def sample_rows(n: int, at_most: int = SAMPLE_ROWS, seed: int = 0) -> np.ndarray:
    """Ascending positions (m,) int64 of at most `at_most` rows of n, each as likely as the next."""
    if n <= at_most:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(n, at_most, replace=False))


def nearest(block: np.ndarray, centroids: np.ndarray, penalty: np.ndarray | None = None) -> np.ndarray:
    """Nearest of the centroids (k, d) for each row of block (b, d): labels (b,) int32. penalty (k,) is added to the squares."""
    offsets = np.einsum("kd,kd->k", centroids, centroids)
    if penalty is not None:
        offsets = offsets + penalty
    labels = np.empty(len(block), dtype=np.int32)
    step = max(64, SCORE_VALUES // max(1, len(centroids)))
    turned, halves = np.ascontiguousarray(centroids.T), (offsets / 2).astype(np.float32)
    for start in range(0, len(block), step):
        scores = block[start : start + step] @ turned
        scores -= halves
        labels[start : start + step] = scores.argmax(axis=1)
    return labels


def assign(vectors: np.ndarray, centroids: np.ndarray, *, rows: np.ndarray | None = None) -> np.ndarray:
    """Labels (n,) int32 of all vectors (n, d), or of `rows` (m,) of them, read once in blocks."""
    labels = np.empty(len(vectors) if rows is None else len(rows), dtype=np.int32)
    for start, block in iter_blocks(vectors, rows=rows, check=False):
        labels[start : start + len(block)] = nearest(block, centroids)
    return labels


@numba.njit(cache=True, nogil=True)
def _sum_by_label(rows: np.ndarray, labels: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
    for i in range(rows.shape[0]):
        label = labels[i]
        counts[label] += 1
        for j in range(rows.shape[1]):
            sums[label, j] += rows[i, j]


def _centres(rows: np.ndarray, labels: np.ndarray, before: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of the labelled rows. A cluster without rows moves beside a full one, which the two then share."""
    sums = np.zeros(before.shape, dtype=np.float64)
    counts = np.zeros(len(before), dtype=np.int64)
    _sum_by_label(rows, labels, sums, counts)
    centres = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        crowded = np.argsort(-counts, kind="stable")[: len(empty)]
        nudge = 1e-3 * rows.std() * rng.standard_normal((len(crowded), rows.shape[1]))
        centres[empty[: len(crowded)]] = centres[crowded] + nudge.astype(np.float32)
    return centres


def kmeans(rows: np.ndarray, k: int, *, iterations: int = 10, seed: int = 0) -> np.ndarray:
    """Centroids (k, d) float32 of rows (m, d) in memory, m >= k: Lloyd's rounds, the first ones on growing random batches.

    The first centroids are random rows. The same seed gives the same centroids.
    """
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if not 1 <= k <= len(rows):
        raise InputError(f"clusters must number between 1 and the {len(rows)} rows, got {k}")
    rng = np.random.default_rng(seed)
    rows = rows[rng.permutation(len(rows))]
    centres = rows[:k].copy()
    for round_no in range(iterations):
        batch = rows[: min(len(rows), (8 * k) << round_no)]
        centres = _centres(batch, nearest(batch, centres), centres, rng)
    return centres


def fit_lists(vectors: np.ndarray, n_lists: int, *, rows: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """Centroids (n_lists, d) of fine lists, from a sample of the vectors (n, d) or of `rows` of them; label with `assign`."""
    n = len(vectors) if rows is None else len(rows)
    chosen = sample_rows(n, max(ROWS_PER_CLUSTER * n_lists, 4096), seed)
    sample = np.asarray(vectors[chosen if rows is None else rows[chosen]], dtype=np.float32)
    return kmeans(sample, n_lists, seed=seed)


def group(labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Storage order: positions (n,) int64 sorted by label, ties in the order of input, and starts (k + 1,) int64 of each label.

    >>> order, starts = group(np.array([1, 0, 1]), 2)
    >>> order.tolist(), starts.tolist()
    ([1, 0, 2], [0, 1, 3])
    """
    starts = np.zeros(k + 1, dtype=np.int64)
    np.cumsum(np.bincount(labels, minlength=k), out=starts[1:])
    return np.argsort(labels, kind="stable"), starts


@dataclass(frozen=True)
class Partitions:
    """centroids (P, d) float32, labels (n,) int32, sizes (P,) int64."""

    centroids: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray


def balanced_partitions(
    vectors: np.ndarray,
    n_partitions: int,
    *,
    tolerance: float = 0.1,
    iterations: int = 10,
    sample: int = SAMPLE_ROWS,
    seed: int = 0,
) -> Partitions:
    """Cut vectors (n, d) into partitions whose sizes lie between floor((1 - tolerance) n / P), at least 1, and ceil((1 + tolerance) n / P).

    K-means on a sample in which each partition has a price that is added to the squared distance and rises until no partition
    takes more than its share; then one pass over all rows at these prices, with the two limits enforced row by row. The paper
    solves a minimum-cost flow for it, whose time grows too fast with n. n_partitions above n is lowered with a warning.
    Centroids are the means of the partitions' rows.
    """
    n = len(vectors)
    if n == 0 or n_partitions < 1:
        raise InputError(f"{n} rows cannot be cut into {n_partitions} partitions")
    if n_partitions > n:
        log.warning("%d partitions were asked for %d rows: one row a partition", n_partitions, n)
        n_partitions = n
    share = n / n_partitions
    # A hair of slack: 1.1 * 80 is 88.00000000000001 in floating point, and the limit is 88.
    floor = max(1, int(np.floor((1 - tolerance) * share + 1e-9)))
    cap = int(np.ceil((1 + tolerance) * share - 1e-9))
    centres, prices = _priced_kmeans(vectors, n_partitions, tolerance, iterations, sample, seed)

    labels = np.empty(n, dtype=np.int32)
    sizes = np.zeros(n_partitions, dtype=np.int64)
    sums = np.zeros(centres.shape, dtype=np.float64)
    for start, block in iter_blocks(vectors):
        part = labels[start : start + len(block)]
        place_rows(_costs(block, centres, prices), sizes, floor, cap, n - start, part)
        _sum_by_label(block, part, sums, np.zeros(n_partitions, dtype=np.int64))
    return Partitions((sums / np.maximum(sizes, 1)[:, None]).astype(np.float32), labels, sizes)


def _costs(rows: np.ndarray, centres: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Squared distance less the row's own norm, plus price: (b, P) float32."""
    costs = rows @ (-2.0 * centres.T)
    costs += (np.einsum("kd,kd->k", centres, centres) + prices).astype(np.float32)
    return costs


def _priced_kmeans(
    vectors: np.ndarray, k: int, tolerance: float, iterations: int, sample: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centres (k, d) and prices (k,) under which the sampled rows split almost evenly."""
    rng = np.random.default_rng(seed)
    chosen = sample_rows(len(vectors), max(k, min(sample, 65_536 + 512 * k)), seed)
    rows = np.asarray(vectors[chosen], dtype=np.float32)
    centres = kmeans(rows, k, iterations=5, seed=seed)
    prices = np.zeros(k)
    share = len(rows) / k
    low, high = int((1 - tolerance / 2) * share), int(np.ceil((1 + tolerance / 2) * share))
    for _ in range(iterations if k > 1 else 0):
        costs = _costs(rows, centres, np.zeros(k))
        settle_prices(costs, prices, low, high, 2)
        labels = (costs + prices.astype(np.float32)).argmin(axis=1).astype(np.int32)
        moved = _centres(rows, labels, centres, rng)
        rests = np.abs(moved - centres).max(initial=0.0) <= 1e-4 * np.abs(centres).max(initial=0.0)
        centres = moved
        if rests:
            break
    settle_prices(_costs(rows, centres, np.zeros(k)), prices, low, high, 12)
    return centres, prices


@numba.njit(cache=True, nogil=True)
def _two_cheapest(costs: np.ndarray, prices: np.ndarray, i: int, columns: np.ndarray, offers: np.ndarray) -> None:
    """The two cheapest columns of row i and their offers (cost + price), into columns and offers (m, 2)."""
    columns[i, 0] = columns[i, 1] = -1
    offers[i, 0] = offers[i, 1] = np.inf
    for q in range(costs.shape[1]):
        offer = costs[i, q] + prices[q]
        if offer < offers[i, 0]:
            columns[i, 1], offers[i, 1] = columns[i, 0], offers[i, 0]
            columns[i, 0], offers[i, 0] = q, offer
        elif offer < offers[i, 1]:
            columns[i, 1], offers[i, 1] = q, offer


@numba.njit(cache=True, nogil=True)
def settle_prices(costs: np.ndarray, prices: np.ndarray, low: int, high: int, sweeps: int) -> None:
    """Change prices (P,) in place until each column of costs (m, P) is the cheapest of low to high rows, or sweeps are used up.

    One column at a time (ascent on the dual of the transport problem): a row prefers column p if the price is below its margin,
    the cheapest other offer less its cost at p; the price that leaves p the wanted number of rows is a quantile of the margins.
    """
    m, k = costs.shape
    margins = np.empty(m)
    columns = np.empty((m, 2), dtype=np.int32)
    offers = np.empty((m, 2))
    for i in range(m):
        _two_cheapest(costs, prices, i, columns, offers)
    for _ in range(sweeps):
        settled = True
        for p in range(k):
            won = 0
            for i in range(m):
                won += columns[i, 0] == p
            if low <= won <= high:
                continue
            settled = False
            for i in range(m):
                other = 1 if columns[i, 0] == p else 0
                margins[i] = offers[i, other] - costs[i, p]
            wanted = min(m - 1, max(1, high if won > high else low))
            prices[p] = np.partition(margins, m - wanted)[m - wanted]
            for i in range(m):
                offer = costs[i, p] + prices[p]
                if columns[i, 0] == p or columns[i, 1] == p:
                    _two_cheapest(costs, prices, i, columns, offers)
                elif offer < offers[i, 0]:
                    columns[i, 1], offers[i, 1] = columns[i, 0], offers[i, 0]
                    columns[i, 0], offers[i, 0] = p, offer
                elif offer < offers[i, 1]:
                    columns[i, 1], offers[i, 1] = p, offer
        if settled:
            return


@numba.njit(cache=True, nogil=True)
def place_rows(costs: np.ndarray, sizes: np.ndarray, floor: int, cap: int, rows_left: int, labels: np.ndarray) -> None:
    """Give each row of costs (b, P) the cheapest partition with room; sizes (P,) counts on, labels (b,) is filled.

    rows_left: rows from the first of this block to the very last. When they are only as many as the partitions below `floor`
    still lack, those partitions alone are open: so every size ends between floor and cap, whatever the rows are.
    """
    lacking = 0
    for p in range(sizes.size):
        lacking += max(0, floor - sizes[p])
    for i in range(costs.shape[0]):
        scarce = rows_left <= lacking
        best = -1
        for p in range(sizes.size):
            open_to_all = sizes[p] < cap and not scarce
            if (open_to_all or sizes[p] < floor) and (best < 0 or costs[i, p] < costs[i, best]):
                best = p
        lacking -= sizes[best] < floor
        sizes[best] += 1
        labels[i] = best
        rows_left -= 1

"""Make the arrays of an index from vectors, block by block: nothing but a sample and the packed arrays is in memory.

Steps as in the paper: partitions, KLT and bit allocation and cells of each, codes; beside them lists and sign bits.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paperworks.errors import StoreError
from paperworks.papers.squash import fastscan
from paperworks.papers.squash.allocation import greedy_bits, uniform_bits
from paperworks.papers.squash.byte_layout import pack_bytes, share_bytes
from paperworks.papers.squash.metric import Metric
from paperworks.papers.squash.partitions import balanced_partitions, kmeans, nearest, sample_rows
from paperworks.papers.squash.quantiser import Quantiser, learn_quantiser
from paperworks.papers.squash.reader import PartitionReader
from paperworks.papers.squash.residual_signs import residual_signs, spread_of_lists
from paperworks.papers.squash.rotation import draw_flips, rotate_rows
from paperworks.papers.squash.signs import n_words
from paperworks.papers.squash.transform import Klt, fit_klt, rows_per_block
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)

SAMPLE = 40_000  # rows from which KLT and cells of a partition are learnt
CALIBRATED = 2000  # rows from which on a calibration pays
CALIBRATION_QUERIES = 64
ROWS_A_CENTRE = 128  # sampled rows a list centre


@dataclass(frozen=True)
class BuildSettings:
    """See `SquashIndex`."""

    bits: float
    max_bits: int
    allocation: str
    boundaries: str
    sign_rotation: str | None
    first_pass: str
    n_partitions: int
    n_lists: int
    seed: int
    n_jobs: int


@dataclass(frozen=True)
class _Part:
    """What one partition learnt."""

    klt: Klt
    quantiser: Quantiser
    order: np.ndarray
    starts: np.ndarray


def default_lists(n: int) -> int:
    """About sqrt(n) lists, none smaller than 32 rows on average."""
    return max(1, min(round(n**0.5), n // 32))


def calibration_rows(n: int, seed: int) -> np.ndarray:
    """Rows (by their number when given) that serve as queries of the calibration; none of a small set."""
    if n < CALIBRATED:
        return np.zeros(0, np.int64)
    return np.sort(np.random.default_rng([seed, 64]).choice(n, CALIBRATION_QUERIES, replace=False))


def build_reader(
    source: np.ndarray,
    ids: np.ndarray,
    metric: Metric,
    settings: BuildSettings,
    folder: Path | None,
    progress: Progress,
) -> tuple[PartitionReader, np.ndarray]:
    """Build from checked vectors (n, d) of any float dtype; returns the reader and the storage order (n,) int64.

    folder: where the full vectors are written; None keeps them in memory. Each stage reads `source` in blocks.
    """
    n, d = len(source), metric.inner_d
    if n == 0:
        return _empty(metric, settings), np.zeros(0, np.int64)
    progress(0, 4, "partitions and lists")
    rows = sample_rows(n, max(SAMPLE, ROWS_A_CENTRE * settings.n_lists), settings.seed)
    # rows that later serve as queries of the calibration do not shape the lists, or they would find their own too easily
    sample = _take(source, metric, np.setdiff1d(rows, calibration_rows(n, settings.seed), assume_unique=True))
    part_labels, centroids = _partition(source, sample, metric, settings)
    lists, centres, part_of_list = _lists(source, sample, metric, settings, part_labels, centroids)
    order = np.argsort(lists, kind="stable")
    labels = lists[order]
    starts = np.searchsorted(labels, np.arange(len(centres) + 1)).astype(np.int64)
    part_starts = np.searchsorted(part_of_list[labels], np.arange(len(centroids) + 1)).astype(np.int64)

    progress(1, 4, "cells")
    parts = [
        _learn(
            _take(source, metric, np.sort(order[begin:end][sample_rows(end - begin, SAMPLE, settings.seed)])), settings
        )
        for begin, end in itertools.pairwise(part_starts)
    ]
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    flips, turn = _turning(sample, settings, d)
    turned_centres = _turn(centres - mean, flips, turn)

    progress(2, 4, "codes")
    vectors = np.empty((n, d), np.float32) if folder is None else _mapped(folder / "vectors.npy", n, d)
    signs = np.zeros((n, n_words(d)), np.uint64)
    add, factor = np.zeros(n, np.float32), np.zeros(n, np.float32)
    codes = np.zeros((n, max(len(part.starts) for part in parts) - 1), np.uint8)
    step = rows_per_block(d)
    residual = settings.first_pass == "residual"
    lows, highs = np.full((len(parts), d), np.inf, np.float32), np.full((len(parts), d), -np.inf, np.float32)
    lock = threading.Lock()
    no_centre = np.zeros_like(turned_centres)

    def encode(begin: int) -> float:
        end = min(begin + step, n)
        block = _take(source, metric, order[begin:end])
        vectors[begin:end] = block
        centred = block - mean
        turned = _turn(centred, flips, turn)
        residual_signs(
            turned,
            labels[begin:end],
            turned_centres if residual else no_centre,
            signs[begin:end],
            add[begin:end],
            factor[begin:end],
        )
        first = int(np.searchsorted(part_starts, begin, side="right")) - 1
        at = begin
        while at < end:
            part, stop = parts[first], min(int(part_starts[first + 1]), end)
            if stop > at:
                own = part.klt.apply(block[at - begin : stop - begin])
                with lock:
                    np.minimum(lows[first], own.min(axis=0), out=lows[first])
                    np.maximum(highs[first], own.max(axis=0), out=highs[first])
                cells = part.quantiser.encode(own)
                pack_bytes(cells, part.quantiser.bits, part.order, part.starts, codes[at:stop, : len(part.starts) - 1])
            at, first = stop, first + 1
        return float(np.sqrt(np.einsum("ij,ij->i", centred, centred).max(initial=0.0)))

    largest = max(_each(encode, range(0, n, step), settings.n_jobs, progress), default=0.0)
    parts = [
        replace(part, quantiser=part.quantiser.cover(low, high))
        for part, low, high in zip(parts, lows, highs, strict=True)
    ]
    progress(3, 4, "blocks")
    groups = -(-d // 16) * 4
    blocks, first_block = fastscan.interleave(signs, starts, groups)
    if isinstance(vectors, np.memmap):
        vectors.flush()
    axes, spreads = _residual_shape(sample, mean, flips, turn, turned_centres, centres, n, labels, starts, add, factor)
    reader = PartitionReader(
        mean=mean, flips=flips, turn=turn, centres=turned_centres, spreads=spreads, starts=starts, first_block=first_block,
        part_of_list=part_of_list, blocks=blocks, signs=signs, add=add, factor=factor, codes=codes,
        **_stack(parts), centroids=centroids, vectors=vectors, ids=ids[order], axes=axes, largest=largest,
        first_pass=settings.first_pass,
    )  # fmt: skip
    progress(4, 4, "built")
    return freeze(reader), order


def _empty(metric: Metric, settings: BuildSettings) -> PartitionReader:
    """An index without rows: one built from a single row, which is then left out."""
    plain = Metric("l2", max(1, metric.inner_d))
    one, _ = build_reader(
        np.zeros((1, plain.d), np.float32),
        np.zeros(1, np.int64),
        plain,
        replace(settings, n_partitions=1, n_lists=1),
        None,
        silent,
    )
    values = one.values()
    for name in ("signs", "add", "factor", "codes", "vectors", "ids", "blocks"):
        values[name] = values[name][:0]
    for name in ("starts", "first_block"):
        values[name] = np.zeros(2, np.int64)
    return freeze(PartitionReader(**values))


def _mapped(path: Path, n: int, d: int) -> np.ndarray:
    """A new array file whose room on the disk is taken at once: a full disk is an error here, not a crash at a later page."""
    try:
        array = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreError(
            f"{n * d * 4:,} bytes of vectors do not fit into {path.parent} ({error.strerror or error}); free space, or set "
            "TMPDIR to a disk with more room"
        ) from error
    return array


def freeze(reader: PartitionReader) -> PartitionReader:
    """The same arrays, read-only: one compiled kernel then serves arrays in memory and memory-mapped ones."""
    values = reader.values()
    for name, array in reader.arrays().items():
        view = np.asarray(array).view()
        view.flags.writeable = False
        values[name] = view
    return PartitionReader(**values)


def _take(source: np.ndarray, metric: Metric, rows: np.ndarray) -> np.ndarray:
    return metric.rows(source[rows])


def _each(work: Callable[[int], float], begins: range, n_jobs: int, progress: Progress) -> list[float]:
    results = []
    if n_jobs <= 1:
        for done, begin in enumerate(begins):
            results.append(work(begin))
            progress(2 + (done + 1) / len(begins), 4, "codes")
        return results
    with ThreadPoolExecutor(n_jobs) as pool:
        for done, result in enumerate(pool.map(work, begins)):
            results.append(result)
            progress(2 + (done + 1) / len(begins), 4, "codes")
    return results


def _partition(
    source: np.ndarray, sample: np.ndarray, metric: Metric, settings: BuildSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Partition (n,) of each row, and the centroids (p, d)."""
    if settings.n_partitions == 1:
        return np.zeros(len(source), np.int32), sample.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
    found = balanced_partitions(_Prepared(source, metric), settings.n_partitions, seed=settings.seed)  # type: ignore[arg-type]
    return found.labels, found.centroids


class _Prepared:
    """Rows as stored, made on access: what the block readers of `transform.py` need of an array."""

    def __init__(self, source: np.ndarray, metric: Metric) -> None:
        self.source, self.metric = source, metric
        self.shape, self.ndim, self.dtype = (len(source), metric.inner_d), 2, np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.metric.rows(self.source[rows])


def _lists(
    source: np.ndarray,
    sample: np.ndarray,
    metric: Metric,
    settings: BuildSettings,
    part_labels: np.ndarray,
    centroids: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List (n,) of each row, centres (l, d) and partition (l,) of each list; lists of a partition are numbered together."""
    n, n_parts = len(source), len(centroids)
    centres, part_of_list, lists = [], [], np.zeros(n, np.int32)
    n_before = 0
    step = rows_per_block(metric.inner_d)
    for part in range(n_parts):
        rows = np.flatnonzero(part_labels == part) if n_parts > 1 else np.arange(n)
        if len(rows) == 0:
            continue
        wanted = settings.n_lists if n_parts == 1 else max(1, round(settings.n_lists * len(rows) / n))
        wanted = min(wanted, len(rows))
        if n_parts == 1:
            chosen = sample[sample_rows(len(sample), max(ROWS_A_CENTRE * wanted, 4096), settings.seed)]
        else:
            chosen = _take(
                source, metric, rows[sample_rows(len(rows), max(ROWS_A_CENTRE * wanted, 4096), settings.seed)]
            )
        own = kmeans(chosen, min(wanted, len(chosen)), seed=settings.seed)

        def label(begin: int, rows: np.ndarray = rows, own: np.ndarray = own, n_before: int = n_before) -> float:
            taken = rows[begin : begin + step]
            lists[taken] = n_before + nearest(_take(source, metric, taken), own)
            return 0.0

        _each(label, range(0, len(rows), step), settings.n_jobs, lambda *_: None)
        centres.append(own)
        part_of_list += [part] * len(own)
        n_before += len(own)
    return lists, np.concatenate(centres), np.array(part_of_list, np.int32)


def _learn(sample: np.ndarray, settings: BuildSettings) -> _Part:
    klt = fit_klt(sample)
    d = sample.shape[1]
    budget = round(settings.bits * d)
    bits = (
        greedy_bits(klt.variance, budget, settings.max_bits)
        if settings.allocation == "greedy"
        else uniform_bits(d, budget, settings.max_bits)
    )
    quantiser = learn_quantiser(klt.apply(sample), bits, boundaries=settings.boundaries, seed=settings.seed)
    return _Part(klt, quantiser, *share_bytes(quantiser.bits))


def _turning(sample: np.ndarray, settings: BuildSettings, d: int) -> tuple[np.ndarray, np.ndarray]:
    if settings.sign_rotation == "random":
        return draw_flips(d, settings.seed), np.zeros((0, 0), np.float32)
    if settings.sign_rotation == "pca":
        return np.zeros((0, d), np.float32), np.ascontiguousarray(fit_klt(sample).basis.T)
    return np.zeros((0, d), np.float32), np.zeros((0, 0), np.float32)


def _turn(centred: np.ndarray, flips: np.ndarray, turn: np.ndarray) -> np.ndarray:
    if len(turn):
        return np.ascontiguousarray(centred @ turn.T)
    out = np.empty(centred.shape, np.float32)
    rotate_rows(np.ascontiguousarray(centred, np.float32), flips, out)
    return out


def _residual_shape(
    sample: np.ndarray, mean: np.ndarray, flips: np.ndarray, turn: np.ndarray, turned_centres: np.ndarray, centres: np.ndarray,
    n: int, labels: np.ndarray, starts: np.ndarray, add: np.ndarray, factor: np.ndarray,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """Over how many axes residuals spread (participation ratio), and the root mean square residual of each list."""
    rows = sample[:: max(1, len(sample) // 20_000)]
    own = nearest(rows, centres)
    residuals = rows - centres[own]
    covariance = residuals.T @ residuals / max(1, len(residuals))
    squares = float(np.sum(covariance.astype(np.float64) ** 2))
    axes = float(np.trace(covariance)) ** 2 / squares if squares > 0 else 1.0
    by_list = np.argsort(own, kind="stable")
    edges = np.searchsorted(own[by_list], np.arange(len(centres) + 1)).astype(np.int64)
    turned = _turn(rows[by_list] - mean, flips, turn)
    spreads = spread_of_lists(turned, edges, turned_centres)
    typical = float(np.sqrt(np.einsum("ij,ij->i", residuals, residuals).mean())) if len(residuals) else 0.0
    return max(1.0, axes), np.where(spreads > 0, spreads, typical).astype(np.float32)


def _stack(parts: list[_Part]) -> dict[str, np.ndarray]:
    """Arrays of all partitions, padded to the largest."""
    d = len(parts[0].quantiser.bits)
    widest = max(part.quantiser.edges.shape[1] for part in parts)
    n_bytes = max(len(part.starts) for part in parts)
    edges = np.full((len(parts), d, widest), np.inf, np.float32)
    orders = np.zeros((len(parts), d), np.int32)
    starts = np.zeros((len(parts), n_bytes), np.int32)
    for p, part in enumerate(parts):
        edges[p, :, : part.quantiser.edges.shape[1]] = part.quantiser.edges
        orders[p, : len(part.order)] = part.order
        starts[p, : len(part.starts)] = part.starts
        starts[p, len(part.starts) :] = part.starts[-1]
    return {
        "part_means": np.stack([part.klt.mean for part in parts]),
        "part_bases": np.ascontiguousarray(np.stack([part.klt.basis.T for part in parts]), np.float32),
        "part_edges": edges,
        "part_bits": np.stack([part.quantiser.bits for part in parts]).astype(np.uint8),
        "part_orders": orders,
        "part_bytes": starts,
    }

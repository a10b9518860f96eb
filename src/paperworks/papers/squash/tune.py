"""Find the cheapest settings that reach a recall, by measurement on queries like those to come."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash import search_kernel as kernel
from paperworks.papers.squash.builder import calibration_rows
from paperworks.papers.squash.filters import per_query
from paperworks.papers.squash.reader import PartitionReader
from paperworks.papers.squash.search import search_state
from paperworks.progress import Progress, silent

if TYPE_CHECKING:
    from paperworks.papers.squash.index import SquashIndex

# How far to look, each in rising order: by reach, or by a fixed number of lists (0: by reach)
PROBES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
REACHES = (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0)
STEPS = (  # keep in times of k, and R
    (2.0, 0.0), (3.0, 0.0), (4.0, 0.0), (6.0, 0.0), (8.0, 0.0), (12.0, 0.0), (20.0, 0.0), (20.0, 2.0), (50.0, 2.0), (120.0, 2.0),
    (120.0, 4.0),
)  # fmt: skip
ROUNDS = 3
CALIBRATION_K, CALIBRATION_RECALL, MASKED = 10, 0.99, 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One choice of settings: its recall, CPU milliseconds a query, and its cost by what its stages touched.

    Choices are made by the cost, which a busy machine does not change: the same data and seed give the same settings.
    """

    reach: float
    n_probe: int
    keep: float
    R: float
    recall: float
    ms: float
    cost: float


@dataclass(frozen=True)
class Tuned:
    """The chosen settings, what they reach, and all trials."""

    chosen: Trial
    target: float
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        one = self.chosen
        bounds = f", R={one.R:g}" if one.R else ""
        far = f"n_probe={one.n_probe}" if one.n_probe else f"reach={one.reach:g}"
        return f"{far}, keep={one.keep:g} k{bounds}: recall {one.recall:.4f} (wanted {self.target:g}), {one.ms:.3f} ms a query"


def cost(counts: np.ndarray, reader: PartitionReader) -> float:
    """About the nanoseconds a query of its stages, from their counts; only to compare settings with each other."""
    d, n_bytes = reader.d, reader.codes.shape[1]
    each = counts.mean(axis=0)
    tables = each[kernel.PARTITIONS] * (120 * n_bytes + 0.1 * d * d)
    return float(
        60 * each[kernel.LISTS]
        + (0.7 + 0.005 * d) * each[kernel.ROWS]
        + (60 + 0.4 * d) * each[kernel.REFINED]
        + (20 + 0.5 * n_bytes) * each[kernel.BOUNDED]
        + tables
    )


def calibrate(index: SquashIndex) -> dict[str, float]:
    """Defaults for an index that was just built, from rows of its own as queries, with no filter and with a random mask.

    Each query finds itself, so k + 1 neighbours are looked for. Tiny indexes keep the general defaults.
    """
    state = index.state
    n = state.reader.n
    wanted = calibration_rows(n, index.random_state)
    if len(wanted) == 0:
        return {}
    rng = np.random.default_rng(index.random_state)
    positions = np.flatnonzero(np.isin(state.rows, wanted))
    queries = np.array(state.reader.vectors[positions][:, : state.metric.d])
    found: dict[str, float] = {}
    for prefix, mask in (("", None), ("filtered_", rng.random(state.n_given) < MASKED)):
        try:
            tuned = tune(index, queries, CALIBRATION_K + 1, mask, CALIBRATION_RECALL, silent, rounds=1)
        except InputError as error:
            log.info("%s", error)
            continue
        best = tuned.chosen
        found |= {
            f"{prefix}reach": best.reach,
            f"{prefix}n_probe": best.n_probe,
            f"{prefix}keep": best.keep,
            f"{prefix}R": best.R,
        }
    return found


def tune(
    index: SquashIndex, queries: Any, k: int, filters: Any, recall: float, progress: Progress, rounds: int = ROUNDS
) -> Tuned:
    """See `SquashIndex.tune`."""
    if not 0 < recall <= 1:
        raise InputError(f"recall must be above 0 and at most 1, got {recall!r}")
    state = index.state
    prepared = state.metric.queries(queries)
    if len(prepared) == 0:
        raise InputError("tuning needs at least one query")
    each = per_query(filters, len(prepared))
    truth = search_state(state, prepared, each, index.params(k, exact=True))
    reached = [
        np.where(np.isfinite(row).any(), row[np.isfinite(row)].max(initial=-np.inf), -np.inf) for row in truth.distances
    ]
    n_true = int(np.isfinite(truth.distances).sum())

    def trial(far: tuple[float, int], keep: float, R: float) -> Trial:
        reach, n_probe = far
        params = index.params(k, reach=reach, n_probe=n_probe or None, keep=int(np.ceil(keep * k)), R=R)
        times = []
        for _ in range(rounds):
            started = time.process_time()
            answer = search_state(state, prepared, each, params)
            times.append(time.process_time() - started)
        # a row as near as the k-th true one counts: which of equal rows is returned does not matter
        hits = sum(
            int(np.count_nonzero(row <= limit + 1e-5 * abs(float(limit)) + 1e-7))
            for row, limit in zip(answer.distances, reached, strict=True)
        )
        share = hits / n_true if n_true else 1.0
        return Trial(
            reach, n_probe, keep, R, share, 1e3 * min(times) / len(prepared), cost(answer.counts, state.reader)
        )

    trials: list[Trial] = []

    def first_enough(ladder: list[tuple[float, int]], keep: float, R: float) -> Trial | None:
        """Recall grows along a ladder: the first step that is enough."""
        low, high = 0, len(ladder) - 1
        found: Trial | None = None
        while low <= high:
            middle = (low + high) // 2
            one = trial(ladder[middle], keep, R)
            trials.append(one)
            if one.recall >= recall:
                found, high = one, middle - 1
            else:
                low = middle + 1
        return found

    n_lists = len(state.reader.centres)
    ladders = [[(reach, 0) for reach in REACHES], [(0.0, n) for n in (*(p for p in PROBES if p < n_lists), n_lists)]]
    best: Trial | None = None
    for done, (keep, R) in enumerate(STEPS):
        found = [one for ladder in ladders if (one := first_enough(ladder, keep, R)) is not None]
        progress(done + 1, len(STEPS), f"keep {keep:g} k: {len(found)} of {len(ladders)} ways reach recall {recall:g}")
        if not found:
            continue
        cheapest = min(found, key=lambda one: one.cost)
        if best is None or cheapest.cost < best.cost:
            best = cheapest
        elif cheapest.cost > 1.3 * best.cost:
            break  # costlier and costlier from here on
    if best is None:
        top = max(trials, key=lambda one: one.recall)
        raise InputError(
            f"no settings reach recall {recall:g}, the best reach {top.recall:.4f}; use exact=True, or more bits"
        )
    prefix = "" if filters is None else "filtered_"
    index.set_defaults(
        {
            **index.defaults,
            f"{prefix}reach": best.reach,
            f"{prefix}n_probe": best.n_probe,
            f"{prefix}keep": best.keep,
            f"{prefix}R": best.R,
        }
    )
    return Tuned(best, recall, tuple(trials))

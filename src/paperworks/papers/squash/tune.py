"""Find the cheapest settings that reach a recall, by measurement on queries like those to come."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.filters import per_query
from paperworks.papers.squash.search import search_state
from paperworks.progress import Progress

if TYPE_CHECKING:
    from paperworks.papers.squash.index import SquashIndex

REACHES = (2.5, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0, 14.0)
KEEPS = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 32.0)  # in times of k
ROUNDS = 3


@dataclass(frozen=True)
class Trial:
    """One pair of settings: its recall and CPU milliseconds a query."""

    reach: float
    keep: float
    recall: float
    ms: float


@dataclass(frozen=True)
class Tuned:
    """The chosen settings, what they reach, and all trials."""

    chosen: Trial
    target: float
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        one = self.chosen
        return f"reach={one.reach:g}, keep={one.keep:g} k: recall {one.recall:.4f} (wanted {self.target:g}), {one.ms:.3f} ms a query"


def tune(index: SquashIndex, queries: Any, k: int, filters: Any, recall: float, progress: Progress) -> Tuned:
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

    def trial(reach: float, keep: float) -> Trial:
        params = index.params(k, reach=reach, keep=int(np.ceil(keep * k)))
        times = []
        for _ in range(ROUNDS):
            started = time.process_time()
            answer = search_state(state, prepared, each, params)
            times.append(time.process_time() - started)
        # a row as near as the k-th true one counts: which of equal rows is returned does not matter
        hits = sum(
            int(np.count_nonzero(row <= limit + 1e-5 * abs(float(limit)) + 1e-7))
            for row, limit in zip(answer.distances, reached, strict=True)
        )
        return Trial(reach, keep, hits / n_true if n_true else 1.0, 1e3 * min(times) / len(prepared))

    trials: list[Trial] = []
    best: Trial | None = None
    for done, keep in enumerate(KEEPS):
        low, high = 0, len(REACHES) - 1  # recall grows with the reach: look for the first that is enough
        ends = trial(REACHES[high], keep)
        trials.append(ends)
        if ends.recall >= recall:
            while low < high:
                middle = (low + high) // 2
                one = trial(REACHES[middle], keep)
                trials.append(one)
                if one.recall >= recall:
                    high, ends = middle, one
                else:
                    low = middle + 1
            if best is None or ends.ms < best.ms:
                best = ends
            elif ends.ms > 1.2 * best.ms:
                break
        progress(done + 1, len(KEEPS), f"keep {keep:g} k: recall {ends.recall:.4f}")
    if best is None:
        top = max(trials, key=lambda one: one.recall)
        raise InputError(
            f"no settings reach recall {recall:g}, the best reach {top.recall:.4f}; use exact=True, or more bits"
        )
    index.defaults = {**index.defaults, "reach": best.reach, "keep": best.keep}
    return Tuned(best, recall, tuple(trials))

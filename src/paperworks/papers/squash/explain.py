"""What an index holds, and what one search did: rows and bytes of each stage, and what they bought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash import search_kernel as kernel
from paperworks.papers.squash.filters import FilterLike, as_filter
from paperworks.papers.squash.planner import is_broad
from paperworks.papers.squash.search import search_state
from paperworks.papers.squash.state import State
from paperworks.progress import size

if TYPE_CHECKING:
    from paperworks.papers.squash.index import SquashIndex


@dataclass(frozen=True)
class Stage:
    """rows_in of a stage, rows_out that it let through, bytes it touched, and why it did what it did."""

    name: str
    rows_in: int
    rows_out: int
    n_bytes: int
    note: str = ""


@dataclass(frozen=True)
class Explanation:
    """Stages of one search; found of the true k nearest it returned; proved: results that are certainly among them."""

    stages: tuple[Stage, ...]
    k: int
    matches: int
    found: int
    proved: int
    ms: float

    def __str__(self) -> str:
        lines = [f"{'stage':<12} {'rows in':>10} {'rows out':>10} {'bytes':>9}  why"]
        lines += [
            f"{s.name:<12} {s.rows_in:>10,} {s.rows_out:>10,} {size(s.n_bytes):>9}  {s.note}" for s in self.stages
        ]
        wanted = min(self.k, self.matches)
        lines.append(f"{self.found} of the {wanted} nearest found, {self.proved} proved by bounds, {self.ms:.2f} ms")
        return "\n".join(lines)


def explain(index: SquashIndex, query: Any, k: int, what: FilterLike, settings: dict[str, Any]) -> Explanation:
    """Run one search and the exact one beside it. Raises InputError for more than one query."""
    state = index.state
    prepared = state.metric.queries(query)
    if len(prepared) != 1:
        raise InputError(f"one query is explained at a time, got {len(prepared)}")
    wanted = as_filter(what)
    narrow = wanted is not None and not is_broad(state.program(wanted), state.reader.n)
    params = index.params(k, **settings, filtered=narrow)
    search_state(
        state, prepared, [wanted], params
    )  # once before, so that the time is not that of loading kernels and pages
    answer = search_state(state, prepared, [wanted], params)
    truth = search_state(state, prepared, [wanted], index.params(k, exact=True))
    counts = answer.counts[0]
    matches = index.count(what)
    reader, plan = state.reader, answer.plans[0]
    d, words = reader.d, reader.signs.shape[1]
    seen, passed, kept = (int(counts[c]) for c in (kernel.ROWS, kernel.CANDIDATES, kernel.KEPT))
    bounded, refined = int(counts[kernel.BOUNDED]), int(counts[kernel.REFINED])
    n_lists = len(reader.centres)
    if plan.kind == "candidates" or (plan.at_once and int(counts[kernel.LISTS]) == 0 and passed):
        list_note = "few rows pass: their lists do not matter"
    else:
        list_note = (
            f"{int(counts[kernel.LISTS])} of {n_lists} lists, nearest first, until the rest is too far and k rows pass"
        )
    stages = [
        Stage("lists", reader.n, seen, reader.centres.nbytes, list_note),
        Stage(
            "filter",
            reader.n if plan.at_once else seen,
            passed,
            (reader.n if plan.at_once else seen) * len(state.table.cells),
            plan.reason,
        ),
        Stage(
            "sign bits", passed, kept, passed * (8 * words + 8), f"the {kept} smallest {_estimate(reader.first_pass)}"
        ),
    ]
    if bounded:
        stages.append(
            Stage(
                "bounds",
                bounded,
                min(bounded, max(k, int(params.R * k))),
                bounded * reader.codes.shape[1],
                "lower bounds from codes",
            )
        )
    stages.append(
        Stage("refine", refined, int(np.isfinite(answer.distances).sum()), refined * 4 * d, "full vectors, from disk")
    )
    if state.added is not None:
        stages.append(
            Stage("added", len(state.added.ids), int(np.count_nonzero(state.added_flags(wanted))), state.added.vectors.nbytes,
                  "rows since the build, scanned; `compact` gives them lists")
        )  # fmt: skip
    found = len(set(answer.ids[0][answer.ids[0] >= 0].tolist()) & set(truth.ids[0].tolist()))
    return Explanation(
        tuple(stages), k, matches, found, _proved(answer.distances[0], truth.distances[0]), 1e3 * answer.seconds
    )


def _estimate(first_pass: str) -> str:
    return "estimated distances" if first_pass == "residual" else "counts of differing signs"


def _proved(found: np.ndarray, truth: np.ndarray) -> int:
    """Results, counted from the nearest on, that the exact run confirms."""
    same = np.isclose(found, truth, rtol=1e-5, atol=1e-6) & np.isfinite(found)
    return int(np.argmin(same)) if not same.all() else len(same)


def statistics(state: State) -> dict[str, Any]:
    """See `SquashIndex.statistics`. Bytes are those of the arrays; full vectors, ids and exact keys stay on disk when mapped."""
    reader = state.reader
    sizes = {
        "signs": reader.signs.nbytes + reader.blocks.nbytes + reader.add.nbytes + reader.factor.nbytes,
        "codes": reader.codes.nbytes,
        "attributes": state.table.resident_bytes,
        "lists": reader.centres.nbytes + reader.starts.nbytes + reader.first_block.nbytes + reader.spreads.nbytes,
        "partitions": sum(a.nbytes for n, a in reader.arrays().items() if n.startswith("part_")) + reader.turn.nbytes,
        "tombstones": state.alive.nbytes,
        "added": 0 if state.added is None else state.added.vectors.nbytes + state.added.table.resident_bytes,
    }
    resident = sum(sizes.values())
    raw = 4 * state.metric.d * state.n_given
    lengths = np.diff(reader.starts)
    drift = 0.0
    if state.added is not None and len(state.added.vectors) and reader.n:
        far = np.linalg.norm(state.added.vectors - reader.mean, axis=1)
        drift = float(np.mean(far > reader.largest))
    return {
        "rows": state.n_living,
        "rows_built": reader.n,
        "rows_added": 0 if state.added is None else int(np.count_nonzero(state.added.alive)),
        "rows_deleted": state.n_given - state.n_living,
        "dimensions": state.metric.d,
        "metric": state.metric.name,
        "lists": len(reader.centres),
        "list_sizes": {"least": int(lengths.min(initial=0)), "median": float(np.median(lengths)) if len(lengths) else 0.0,
                       "most": int(lengths.max(initial=0))},
        "partitions": len(reader.part_means),
        "bits_per_dimension": float(reader.part_bits.mean()) if reader.part_bits.size else 0.0,
        "bytes": sizes,
        "resident_bytes": resident,
        "raw_bytes": raw,
        "raw_over_resident": raw / resident if resident else 0.0,
        "vectors_on_disk": reader.on_disk,
        "attributes": state.table.summary(),
        "drift": drift,
        "compact_advised": state.added is not None and (len(state.added.ids) > max(1000, reader.n // 20) or drift > 0.1),
    }  # fmt: skip

"""Measure one claim: repeat over seeds, evaluate the rules, and say what was measured on what.

A run at 'cpu' or 'gpu' keeps each finished seed under `checkpoint_root`. If it is cancelled or killed, the next run of the same
claim, scale and code takes the finished seeds over. 'smoke' runs check the code in seconds, keep nothing and give no verdict.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from paperworks._version import __version__
from paperworks.catalogue import ClaimSpec, RunnablePaper, Scale
from paperworks.claims.checkpoint import FileCheckpoint, MemoryCheckpoint
from paperworks.claims.data import Data, Noted
from paperworks.claims.environment import environment
from paperworks.claims.files import write_atomically
from paperworks.claims.find import function
from paperworks.claims.judge import Values, judge, summarise
from paperworks.claims.model import Checkpoint, ClaimFunction, DataFinder, Measurement, Run
from paperworks.claims.record import Record, SeriesRecord, State
from paperworks.claims.verdict import Verdict
from paperworks.errors import Cancelled, ClaimError, DataMissing, InputError, MissingExtra
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)
Event = dict[str, Any]
NO_SMOKE_VERDICT = "smoke runs check the code, not the claim"
_MAX_POINTS = 1000  # of one curve in a record; longer ones are thinned evenly


@dataclass(frozen=True)
class _Result:
    """One seed, measured: JSON values only."""

    values: dict[str, Any]
    series: dict[str, dict[str, Any]]
    notes: str
    used: list[str]
    seconds: float
    resumed: bool = False


def run_claim(
    paper: RunnablePaper,
    claim_id: str,
    scale: Scale = "cpu",
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress = silent,
    data: DataFinder | None = None,
    checkpoint_root: Path | None = None,
    on_event: Callable[[Event], None] | None = None,
    cancel: threading.Event | None = None,
    fresh: bool = False,
) -> Record:
    """Measure a claim and return the record; `record.save(folder)` keeps it.

    progress is called with seeds as the unit. on_event gets dictionaries with a 'kind': progress (done, total, note, seed, of the
    claim's own work), measurement (seed, values, seconds, resumed), verdict (verdict, reason). `cancel`, once set, stops the run at
    its next report of progress. checkpoint_root None, or scale 'smoke': nothing is kept for resuming; `fresh` drops what was kept.

    What is missing (data, an optional install, a scale that the claim lacks) gives a record 'skipped' with the reason; an error in
    the claim's function, or rules that contradict each other, a record 'failed' with the text of the error.
    Raises ClaimError when `reproduce.py` and `paper.toml` disagree, NotFound for an unknown claim, Cancelled when it was cancelled.
    """
    spec = paper.claim(claim_id)
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"seeds must be different whole numbers, at least one; got {tuple(seeds)!r}")
    emit = on_event or _ignore
    started = datetime.now(UTC)
    device = "cpu"
    results: list[_Result] = []
    state: State = "done"
    verdict: Verdict = "not-measured"
    reason = error_text = ""
    seed_verdicts: tuple[Verdict, ...] = ()
    measure: ClaimFunction | None = None
    keeper = _Keeper(paper, spec, scale, None if scale == "smoke" else checkpoint_root)
    with keeper.locked():
        if fresh:
            keeper.forget()
        try:
            if scale not in spec.scales:
                needs = f"; it needs: {spec.needs}" if spec.needs else ""
                raise _Unmeasurable(f"not measured at scale {scale}: this claim has {', '.join(spec.scales)}{needs}")
            measure = function(paper, claim_id)
            device = _device(paper, scale)
            for index, seed in enumerate(seeds):
                result = keeper.result(seed)
                if result is None:
                    reporter = _Reporter(progress, emit, cancel, seed, index, len(seeds))
                    run = Run(scale, seed, data or Data(), keeper.checkpoint(seed), reporter, device)
                    result = _measure_once(measure, run)
                    keeper.keep(seed, result)
                results.append(result)
                event = {"kind": "measurement", "seed": seed, "values": result.values}
                emit(event | {"seconds": result.seconds, "resumed": result.resumed})
                progress(index + 1, len(seeds), f"seed {seed} measured")
                if index + 1 < len(seeds):
                    _stop_if_cancelled(cancel)
            per_seed = [result.values for result in results]
            verdict = judge(spec, per_seed)  # at smoke too: a rule that names what is not measured is found in seconds
            seed_verdicts = tuple(judge(spec, [values]) for values in per_seed)
            if scale == "smoke":
                verdict, seed_verdicts, reason = "not-measured", (), NO_SMOKE_VERDICT
        except (Cancelled, KeyboardInterrupt):
            raise
        except (DataMissing, MissingExtra, _Unmeasurable) as error:
            state, verdict, reason = "skipped", "not-measured", str(error)
        except Exception as error:
            if isinstance(error, ClaimError) and measure is None:
                raise  # the paper's folder is at fault, not the measurement
            where = f" (seed {seeds[len(results)]})" if len(results) < len(seeds) else ""
            state, verdict, reason = "failed", "not-measured", f"{type(error).__name__}: {error}{where}"
            error_text = "".join(traceback.format_exception(error))
        emit({"kind": "verdict", "verdict": verdict, "reason": reason, "scale": scale, "state": state})
        summaries, series, problem = _summaries(results)
        if problem and state == "done":
            state, verdict, reason, error_text = "failed", "not-measured", problem, problem
        return Record(
            slug=paper.slug,
            paper_title=paper.spec.title,
            claim=spec.id,
            statement=spec.statement,
            metric=spec.metric,
            printed=spec.paper,
            reproduced_rule=spec.reproduced,
            refuted_rule=spec.refuted,
            scale=scale,
            seeds=tuple(seeds[: len(results)]) if state != "skipped" else tuple(seeds),
            state=state,
            verdict=verdict,
            reason=reason,
            error=error_text,
            values=summaries,
            seed_verdicts=seed_verdicts,
            series=series,
            notes=tuple(dict.fromkeys(result.notes for result in results if result.notes)),
            data=tuple(dict.fromkeys(name for result in results for name in result.used)),
            resumed_seeds=tuple(seed for seed, result in zip(seeds, results, strict=False) if result.resumed),
            environment=environment(device),
            started=started,
            ended=datetime.now(UTC),
            duration_s=sum(result.seconds for result in results),
        )


def forget(paper: RunnablePaper, claim_id: str, scale: Scale, checkpoint_root: Path) -> None:
    """Drop what was kept for resuming, once the record is safely written."""
    keeper = _Keeper(paper, paper.claim(claim_id), scale, checkpoint_root)
    with keeper.locked():
        keeper.forget()


class _Unmeasurable(Exception):
    """Not an error: the claim has no such scale."""


class _Reporter:
    """The progress that a claim's function calls: passes it on, and is where a cancelled run stops."""

    def __init__(
        self,
        progress: Progress,
        emit: Callable[[Event], None],
        cancel: threading.Event | None,
        seed: int,
        index: int,
        n_seeds: int,
    ) -> None:
        self._progress, self._emit, self._cancel = progress, emit, cancel
        self._seed, self._index, self._n_seeds = seed, index, n_seeds

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        _stop_if_cancelled(self._cancel)
        self._emit({"kind": "progress", "done": done, "total": total, "note": note, "seed": self._seed})
        share = min(done / total, 1.0) if total else 0.0
        self._progress(self._index + share, self._n_seeds, f"seed {self._seed} {note}".rstrip())


class _Keeper:
    """Keeps finished seeds in `root/<slug>/<claim>/<scale>/<code>/`; with root None, nothing.

    <code> is a hash of the paper's Python files: results of other code are never taken over.
    """

    def __init__(self, paper: RunnablePaper, spec: ClaimSpec, scale: Scale, root: Path | None) -> None:
        self._base = root / paper.slug / spec.id / scale if root else None
        self._folder = self._base / _code_hash(paper) if self._base else None

    def locked(self) -> AbstractContextManager[object]:
        """Held while measuring: two runs that share a checkpoint would overwrite each other."""
        if self._base is None:
            return nullcontext()
        self._base.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._base / ".lock")
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            raise ClaimError(
                f"another run is measuring this claim at this scale (it holds {self._base / '.lock'}); wait for it, or cancel it"
            ) from None

    def forget(self) -> None:
        if self._base is not None:
            for folder in self._base.iterdir():
                if folder.is_dir():
                    shutil.rmtree(folder, ignore_errors=True)

    def checkpoint(self, seed: int) -> Checkpoint:
        return FileCheckpoint(self._folder / f"seed-{seed}") if self._folder else MemoryCheckpoint()

    def result(self, seed: int) -> _Result | None:
        if self._folder is None:
            return None
        path = self._folder / f"seed-{seed}.json"
        try:
            return _Result(**(json.loads(path.read_text(encoding="utf-8")) | {"resumed": True}))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.warning("the kept result %s cannot be read and is measured again: %s", path, error)
            return None

    def keep(self, seed: int, result: _Result) -> None:
        if self._folder is not None:
            kept = {name: value for name, value in vars(result).items() if name != "resumed"}
            write_atomically(self._folder / f"seed-{seed}.json", json.dumps(kept))
            shutil.rmtree(self._folder / f"seed-{seed}", ignore_errors=True)


def _measure_once(measure: ClaimFunction, run: Run) -> _Result:
    run = Run(run.scale, run.seed, Noted(run.data, run.used), run.checkpoint, run.progress, run.device, run.used)
    began = time.monotonic()
    measurement: object = measure(run)
    seconds = time.monotonic() - began
    if not isinstance(measurement, Measurement):
        name = getattr(measure, "__name__", "the claim's function")
        raise TypeError(f"{name} returned a {type(measurement).__name__}; return Measurement(values={{...}})")
    series = {}
    for name, curve in measurement.curves().items():
        keep = _thin(len(curve.y))
        series[name] = {
            "x": [_point(curve.x[i]) for i in keep] if curve.x is not None else [float(i) for i in keep],
            "y": [float(curve.y[i]) for i in keep],
            "plot": curve.plot or name,
            **{key: getattr(curve, key) for key in ("kind", "x_label", "y_label", "log_x", "log_y")},
        }
    return _Result(dict(measurement.values), series, measurement.notes, list(dict.fromkeys(run.used)), seconds)


def _point(x: object) -> float | str:
    return x if isinstance(x, str) else float(x)  # type: ignore[arg-type]  # Series holds floats or texts


def _thin(n: int) -> list[int]:
    if n <= _MAX_POINTS:
        return list(range(n))
    return [round(i * (n - 1) / (_MAX_POINTS - 1)) for i in range(_MAX_POINTS)]  # both ends kept


def _summaries(results: Sequence[_Result]) -> tuple[dict[str, Any], dict[str, SeriesRecord], str]:
    """Values and series over the finished seeds, and what was wrong with them."""
    if not results:
        return {}, {}, ""
    problem = ""
    try:
        values = summarise([result.values for result in results])
    except ClaimError as error:
        values, problem = {}, str(error)
    series = {}
    for name, first in results[0].series.items():
        curves = [result.series[name] for result in results if name in result.series]
        xs = tuple(dict.fromkeys(tuple(curve["x"]) for curve in curves))
        series[name] = SeriesRecord(
            x=xs if len(xs) == 1 else tuple(tuple(curve["x"]) for curve in curves),
            y=tuple(tuple(curve["y"]) for curve in curves),
            **{key: first[key] for key in ("plot", "kind", "x_label", "y_label", "log_x", "log_y")},
        )
    return values, series, problem


def _device(paper: RunnablePaper, scale: Scale) -> str:
    if scale != "gpu" or paper.spec.extra != "nn":
        return "cpu"
    try:
        import torch
    except ImportError as error:
        raise MissingExtra(paper.slug, "nn") from error
    return "cuda" if torch.cuda.is_available() else "cpu"


def _code_hash(paper: RunnablePaper) -> str:
    digest = hashlib.sha256(__version__.encode())
    for path in sorted(paper.folder.rglob("*.py")):
        digest.update(path.relative_to(paper.folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _stop_if_cancelled(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled("the run was cancelled; finished seeds are kept, and the same command goes on from there")


def _ignore(event: Event) -> None:
    pass


__all__ = ["NO_SMOKE_VERDICT", "Event", "Values", "forget", "run_claim"]

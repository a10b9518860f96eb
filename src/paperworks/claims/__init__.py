"""Claims measured again: the contract between a paper's `reproduce.py` and the runner, and what comes out of a run.

A paper writes one function a claim:

    @claim("jpeg-restores-tap")
    def jpeg_restores_tap(run: Run) -> Measurement: ...

`paper.toml` holds the statement and the rule; `run_claim` repeats the function over seeds, evaluates the rules and returns a
`Record`. `RecordStore` finds the records that are known, `plot.plots(record)` draws them, `report.html(records)` tells a reader.
`process.spawn(job)` measures in a worker process that can be cancelled and is limited in time and memory.

Every name here is imported when it is first touched: reading the catalogue needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paperworks.claims.checkpoint import FileCheckpoint, MemoryCheckpoint
    from paperworks.claims.data import Data
    from paperworks.claims.environment import Environment
    from paperworks.claims.model import Measurement, Run, Series, claim
    from paperworks.claims.process import Job, WorkerProcess, spawn
    from paperworks.claims.record import Record, SeriesRecord, ValueSummary
    from paperworks.claims.rules import Rule
    from paperworks.claims.runner import run_claim
    from paperworks.claims.store import RecordStore
    from paperworks.claims.verdict import VERDICTS, Verdict, VerdictSign, sign

__all__ = [
    "VERDICTS",
    "Data",
    "Environment",
    "FileCheckpoint",
    "Job",
    "Measurement",
    "MemoryCheckpoint",
    "Record",
    "RecordStore",
    "Rule",
    "Run",
    "Series",
    "SeriesRecord",
    "ValueSummary",
    "Verdict",
    "VerdictSign",
    "WorkerProcess",
    "claim",
    "run_claim",
    "sign",
    "spawn",
]

_HOMES = {
    "checkpoint": ("FileCheckpoint", "MemoryCheckpoint"),
    "data": ("Data",),
    "model": ("Measurement", "Run", "Series", "claim"),
    "process": ("Job", "WorkerProcess", "spawn"),
    "environment": ("Environment",),
    "record": ("Record", "SeriesRecord", "ValueSummary"),
    "rules": ("Rule",),
    "runner": ("run_claim",),
    "store": ("RecordStore",),
    "verdict": ("VERDICTS", "Verdict", "VerdictSign", "sign"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

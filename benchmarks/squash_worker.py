"""A process a system: builds it, answers what the benchmark asks, and counts its own time and memory.

Apart, no system's threads, allocator or caches are in another's way, resident memory is its own, and the parent can let two systems
take turns. The parent speaks to `Worker`; `serve` runs in the child.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from squash_data import DataSet, K, Predicate
from squash_peers import Knob, System


@dataclass(frozen=True)
class Built:
    """Seconds, and bytes that are resident for the index alone: private memory, and mapped files of its own."""

    cpu_s: float
    wall_s: float
    private_bytes: int


@dataclass(frozen=True)
class Timed:
    """One pass over the queries of a workload."""

    found: list[np.ndarray]  # ids of each query
    cpu_ms: float  # a query, all threads of the process together
    wall_ms: float
    each_ms: np.ndarray  # wall time of each call, milliseconds of CPU of the calling thread in `each_cpu_ms`
    each_cpu_ms: np.ndarray


@dataclass(frozen=True)
class Memory:
    """Bytes in memory after queries: private ones over what the process had before the build, and pages of mapped files."""

    private_bytes: int
    mapped: dict[str, int]


class Worker:
    """Starts the child of one system. Every call waits for the answer; an error there is raised here as RuntimeError."""

    def __init__(self, system: type[System]) -> None:
        self.system = system
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(system, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def build(self, data_folder: Path, folder: Path, threads: int) -> Built:
        return self._ask("build", data_folder, folder, threads)

    def run(
        self,
        queries: np.ndarray,
        filters: Sequence[Predicate | None],
        knob: Knob,
        *,
        batch: int = 1,
        shared: bool = False,
        threads: int = 1,
    ) -> Timed:
        return self._ask("run", queries, list(filters), knob, batch, shared, threads)

    def reopen(self, folder: Path) -> bool:
        return self._ask("reopen", folder)

    def memory(self) -> Memory:
        return self._ask("memory")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def _ask(self, verb: str, *values: Any) -> Any:
        self._pipe.send((verb, values))
        try:
            good, answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.system.name}: its process ended (exit {self._process.exitcode})") from None
        if not good:
            raise RuntimeError(f"{self.system.name}: {answer}")
        return answer


def serve(kind: type[System], pipe: Connection) -> None:
    system, before = kind(), 0
    while (asked := pipe.recv()) is not None:
        verb, values = asked
        try:
            if verb == "build":
                answer: Any
                answer, before = _build(system, *values)
            elif verb == "reopen":
                system.warm()
                gc.collect()
                before = _private()
                answer = system.reopen(*values)
            elif verb == "run":
                answer = _run(system, *values)
            else:
                gc.collect()
                mapped = {path.name: 0 for path in system.files()}
                for path, size in _mapped({str(path.resolve()) for path in system.files()}).items():
                    mapped[Path(path).name] = mapped.get(Path(path).name, 0) + size
                answer = Memory(_private() - before, mapped)
            pipe.send((True, answer))
        except Exception as error:  # noqa: BLE001 - told to the parent, which goes on with the other systems
            pipe.send((False, f"{type(error).__name__}: {error} | {traceback.format_exc(limit=-3)}"))
    system.close()


def _build(system: System, data_folder: Path, folder: Path, threads: int) -> tuple[Built, int]:
    from squash_data import cached

    def never() -> DataSet:
        raise RuntimeError(f"{data_folder} is not complete")

    data = cached(data_folder.parent, data_folder.name, never)
    system.warm()
    gc.collect()
    before = _private()
    cpu, wall = time.process_time(), time.perf_counter()
    system.build(data, folder, threads)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    gc.collect()
    return Built(cpu, wall, _private() - before), before


def _run(
    system: System,
    queries: np.ndarray,
    filters: list[Predicate | None],
    knob: Knob,
    batch: int,
    shared: bool,
    threads: int,
) -> Timed:
    system.threads(threads)
    system.forget()
    found: list[np.ndarray] = []
    each, each_cpu = [], []
    system.search(queries[0], filters[0], K, knob)  # what a first call sets up
    system.forget()
    cpu, begin = time.process_time(), time.perf_counter()
    for start in range(0, len(queries), batch):
        part, own = queries[start : start + batch], filters[start : start + batch]
        wall, mine = time.perf_counter_ns(), time.thread_time_ns()
        if batch == 1:
            ids = [system.search(part[0], own[0], K, knob)]
        elif shared:
            ids = list(system.shared(part, own[0], K, knob))
        else:
            ids = list(system.batch(part, own, K, knob))
        each_cpu.append(time.thread_time_ns() - mine)
        each.append(time.perf_counter_ns() - wall)
        found += ids
    cpu, wall_s = time.process_time() - cpu, time.perf_counter() - begin
    n = len(queries)
    return Timed(found, 1e3 * cpu / n, 1e3 * wall_s / n, np.array(each) / 1e6, np.array(each_cpu) / 1e6)


def _private() -> int:
    """Bytes of private memory that are resident."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


def _mapped(paths: set[str]) -> dict[str, int]:
    """Resident bytes of each of these files in this process's mappings."""
    sizes: dict[str, int] = {}
    here = ""
    with open("/proc/self/smaps") as file:
        for line in file:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                here = words[5] if len(words) > 5 else ""
            elif words[0] == "Rss:" and here in paths:
                sizes[here] = sizes.get(here, 0) + int(words[1]) * 1024
    return sizes

"""Who runs a call: threads of this process, or a pool of processes. Lithops is in `lithops_driver.py`.

A driver starts calls without waiting and hands over outcomes as they come, in any order. It may lose a call or answer it twice; what
to do about that is decided in `gather.py`. `work` is what runs at the other end.
"""

from __future__ import annotations

import logging
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from paperworks.errors import InputError

log = logging.getLogger(__name__)

_START_S = 300.0  # a process that has not come up by then never will

Work = Callable[[bytes, Mapping[str, Any], "str | None"], bytes]


@dataclass(frozen=True)
class Call:
    """One start of a function: a number of its own, the message, and a fault to make on purpose (`faults.py`), None in earnest."""

    number: int
    payload: bytes
    fault: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a call: its answer, or why there is none."""

    number: int
    data: bytes | None
    error: str | None = None


class Driver(Protocol):
    """Starts calls and hands over what becomes of them."""

    def start(self, calls: Sequence[Call]) -> None:
        """Start calls; returns without waiting for them."""

    def poll(self, wait_s: float) -> list[Outcome]:
        """Outcomes since the last poll; waits up to `wait_s` for the first."""

    def waiting(self, numbers: Sequence[int]) -> set[int]:
        """Those of the calls that are known to wait for a free place: their time has not begun."""

    def give_up(self, numbers: Sequence[int]) -> None:
        """These calls are taken for lost; their outcomes need not come any more."""

    def close(self) -> None:
        """Stop what still runs and free what is held."""


class _Pool:
    """What the two pools share: outcomes arrive in a queue."""

    def __init__(self, work: Work, setup: Mapping[str, Any], workers: int, launch_s: float = 0.0) -> None:
        if workers < 1:
            raise InputError(f"a pool needs 1 worker or more, got {workers}")
        self.work, self.setup, self.workers, self.launch_s = work, setup, workers, launch_s
        self._arrived: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def _deliver(self, number: int, future: Future[bytes]) -> None:
        if future.cancelled():
            self._arrived.put(Outcome(number, None, "the call was stopped before it began"))
        elif (error := future.exception()) is not None:
            self._arrived.put(Outcome(number, None, f"{type(error).__name__}: {error}"))
        else:
            self._arrived.put(Outcome(number, future.result()))

    def poll(self, wait_s: float) -> list[Outcome]:
        """See `Driver`."""
        outcomes: list[Outcome] = []
        try:
            outcomes.append(self._arrived.get(timeout=max(wait_s, 0.0)))
            while True:
                outcomes.append(self._arrived.get_nowait())
        except queue.Empty:
            return outcomes

    def _delay(self) -> None:
        if self.launch_s:
            time.sleep(self.launch_s)


class ThreadDriver(_Pool):
    """Threads of this process, for tests and for one machine: kernels release Python's lock while they search.

    launch_s: wait this long a launch, as starting a cloud function takes its time; for measurements of the tree.
    A thread cannot be stopped: one that hangs keeps its place until it returns.
    """

    def __init__(self, work: Work, setup: Mapping[str, Any], workers: int = 4, launch_s: float = 0.0) -> None:
        super().__init__(work, setup, workers, launch_s)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="squash")
        self._futures: dict[int, Future[bytes]] = {}

    def start(self, calls: Sequence[Call]) -> None:
        """See `Driver`."""
        for call in calls:
            self._delay()
            future = self._pool.submit(self.work, call.payload, self.setup, call.fault)
            self._futures[call.number] = future
            future.add_done_callback(partial(self._deliver, call.number))

    def waiting(self, numbers: Sequence[int]) -> set[int]:
        """See `Driver`."""
        futures = {number: self._futures[number] for number in numbers if number in self._futures}
        return {number for number, future in futures.items() if not future.running() and not future.done()}

    def give_up(self, numbers: Sequence[int]) -> None:
        """See `Driver`. A call that has not begun never will."""
        for number in numbers:
            if number in self._futures:
                self._futures.pop(number).cancel()

    def close(self) -> None:
        """See `Driver`. Calls that run are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class ProcessDriver(_Pool):
    """Processes that stay warm between calls, each a pool of one: what dies or hangs costs its own call and nothing else.

    Processes are started fresh (not forked from this one, whose threads would be lost in them), so a script that uses this driver
    needs the usual `if __name__ == "__main__":`.
    """

    def __init__(self, work: Work, setup: Mapping[str, Any], workers: int = 2, launch_s: float = 0.0) -> None:
        super().__init__(work, setup, workers, launch_s)
        self._waiting: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._lost: set[int] = set()
        self._queued: set[int] = set()
        self._running: dict[int, ProcessPoolExecutor] = {}
        self._threads = [threading.Thread(target=self._serve, daemon=True, name=f"squash-{i}") for i in range(workers)]
        for thread in self._threads:
            thread.start()

    def start(self, calls: Sequence[Call]) -> None:
        """See `Driver`."""
        for call in calls:
            self._delay()
            with self._lock:
                self._queued.add(call.number)
            self._waiting.put(call)

    def _serve(self) -> None:
        """One process at a time, handed one call after another; a new one when it is gone."""
        pool: ProcessPoolExecutor | None = None
        while (call := self._waiting.get()) is not None:
            failed: BaseException | None = None
            if pool is None:
                pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
                # a process that starts has its imports to do: that is no time of the call's, which still waits for a place
                failed = _failure(pool.submit(_awake, self.work), _START_S)
            with self._lock:
                self._queued.discard(call.number)
                lost = call.number in self._lost
                if not lost and failed is None:
                    self._running[call.number] = pool
            if failed is None and not lost:
                future = pool.submit(self.work, call.payload, dict(self.setup), call.fault)
                failed = _failure(future)
                with self._lock:
                    del self._running[call.number]
                self._deliver(call.number, future)
            elif failed is not None:
                self._arrived.put(
                    Outcome(call.number, None, f"no process could be started: {type(failed).__name__}: {failed}")
                )
            if isinstance(failed, BrokenProcessPool | TimeoutError):
                _kill(pool)
                pool.shutdown(wait=False)
                pool = None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def waiting(self, numbers: Sequence[int]) -> set[int]:
        """See `Driver`."""
        with self._lock:
            return self._queued.intersection(numbers)

    def give_up(self, numbers: Sequence[int]) -> None:
        """Calls that wait are not started; the processes of those that run are killed."""
        with self._lock:
            self._lost.update(numbers)
            for number in numbers:
                if number in self._running:
                    _kill(self._running[number])

    def close(self) -> None:
        """See `Driver`."""
        for _ in self._threads:
            self._waiting.put(None)
        with self._lock:
            for pool in self._running.values():
                _kill(pool)


def _awake(work: Work) -> None:
    """The first thing a new process does: whatever `work` needs was imported when this call was unpacked."""


def _failure(future: Future[Any], timeout_s: float | None = None) -> BaseException | None:
    """Wait for a future -> its exception; TimeoutError when it takes too long."""
    try:
        return future.exception(timeout_s)
    except TimeoutError as error:
        return error


def _kill(pool: ProcessPoolExecutor) -> None:
    # the executor has no public way to end a process that hangs before Python 3.14
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.kill()

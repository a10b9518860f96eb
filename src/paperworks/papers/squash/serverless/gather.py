"""Ask until every request has one good answer: time limits, further attempts for what failed alone, and an account of the rest.

The first good answer counts. A second one is dropped, a bad one is thrown away and asked for again, a late one is still welcome as
long as nobody else answered. Whether an answer is good is decided by the request's own `read`.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.drivers import Call, Driver
from paperworks.papers.squash.serverless.errors import ServerlessError

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_LOOK_S = 0.1  # how often calls that wait for a place are looked at
# numbers of calls, never used twice in a process: what comes late for one batch is not taken for the next
_numbers = itertools.count()


@dataclass
class Tally:
    """What happened besides the answers."""

    n_calls: int = 0
    n_retried: int = 0
    n_timed_out: int = 0
    n_failed: int = 0
    n_refused: int = 0
    n_duplicates: int = 0


@dataclass
class _Asked(Generic[Answer]):
    payload: bytes
    read: Callable[[bytes], Answer]
    timeout_s: float
    attempts: int = 0
    reason: str = ""
    # call number -> when it is taken for lost, None while it waits for a place to run
    running: dict[int, float | None] = field(default_factory=dict)


class Gather(Generic[Answer]):
    """Requests under way on a driver, by a key of the caller's (a partition, an allocator).

    retries: further attempts after the first. ask() starts and returns at once; finish() waits for all.
    """

    def __init__(self, driver: Driver, retries: int) -> None:
        if retries < 0:
            raise InputError(f"retries must be 0 or more, got {retries}")
        self.driver, self.retries = driver, retries
        self.tally = Tally()
        self.answers: dict[Hashable, Answer] = {}
        self.reasons: dict[Hashable, str] = {}
        self._open: dict[Hashable, _Asked[Answer]] = {}
        self._of_call: dict[int, Hashable] = {}

    def ask(self, requests: dict[Hashable, tuple[bytes, Callable[[bytes], Answer]]], timeout_s: float) -> None:
        """Start requests: key -> (payload, read). `read` turns reply bytes into an answer or raises ServerlessError.

        timeout_s: an attempt that takes longer, once it has a place to run, is taken for lost.
        """
        if timeout_s <= 0:
            raise InputError(f"timeout_s must be more than 0, got {timeout_s}")
        for key, (payload, read) in requests.items():
            if key in self._open or key in self.answers or key in self.reasons:
                raise InputError(f"{key!r} was asked before")
            self._open[key] = _Asked(payload, read, timeout_s)
        self._start(list(requests))

    def _start(self, keys: list[Hashable]) -> None:
        calls = []
        for key in keys:
            asked = self._open[key]
            asked.attempts += 1
            number = next(_numbers)
            self._of_call[number] = key
            calls.append(Call(number, asked.payload))
        self.tally.n_calls += len(calls)
        for call in calls:
            self._open[self._of_call[call.number]].running[call.number] = None
        self.driver.start(calls)

    def pump(self, wait_s: float = 0.0) -> None:
        """Take in what has arrived, waiting up to `wait_s` for the first, and ask again for what failed."""
        again: list[Hashable] = []
        for outcome in self.driver.poll(wait_s):
            key = self._of_call.get(outcome.number)
            asked = self._open.get(key) if key is not None else None
            if key is None or asked is None:
                self.tally.n_duplicates += 1  # somebody answered before, or it was given up
                continue
            expected = outcome.number in asked.running
            asked.running.pop(outcome.number, None)
            if outcome.data is None:
                if not expected:  # it was given up before and counted then
                    continue
                self.tally.n_failed += 1
                again += self._failed(key, outcome.error or "no answer")
                continue
            try:
                answer = asked.read(outcome.data)
            except ServerlessError as error:
                self.tally.n_refused += 1
                if not expected:
                    continue
                again += self._failed(key, str(error))
                continue
            self.answers[key] = answer
            del self._open[key]
        again += self._overdue()
        again = [key for key in again if key in self._open]  # a late answer may have settled it meanwhile
        if again:
            self.tally.n_retried += len(again)
            self._start(again)

    def _overdue(self) -> list[Hashable]:
        now, again, lost = time.monotonic(), [], []
        unbegun = [number for asked in self._open.values() for number, limit in asked.running.items() if limit is None]
        waiting = self.driver.waiting(unbegun) if unbegun else set()
        for key, asked in list(self._open.items()):
            for number, limit in asked.running.items():
                if limit is None and number not in waiting:
                    asked.running[number] = now + asked.timeout_s
            late = [number for number, limit in asked.running.items() if limit is not None and limit <= now]
            for number in late:
                del asked.running[number]
            if late:
                self.tally.n_timed_out += len(late)
                lost += late
                again += self._failed(key, f"no answer within {asked.timeout_s:g} s")
        if lost:
            self.driver.give_up(lost)
        return again

    def _failed(self, key: Hashable, reason: str) -> list[Hashable]:
        """[key] when it shall be asked again, [] when another attempt runs or it is given up."""
        asked = self._open[key]
        asked.reason = reason
        log.warning("attempt %d of %r failed: %s", asked.attempts, key, reason)
        if asked.running:
            return []
        if asked.attempts <= self.retries:
            return [key]
        self.reasons[key] = f"{reason} (attempt {asked.attempts} of {self.retries + 1})"
        del self._open[key]
        return []

    def finish(self, deadline_s: float = float("inf")) -> None:
        """Wait until every request is answered or given up; at most `deadline_s` from now, then the rest is given up."""
        end = time.monotonic() + deadline_s
        while self._open:
            now = time.monotonic()
            if now >= end:
                numbers = [number for asked in self._open.values() for number in asked.running]
                for key, asked in self._open.items():
                    self.reasons[key] = asked.reason or f"no answer within {deadline_s:g} s"
                self._open.clear()
                self.driver.give_up(numbers)
                return
            limits = [limit for asked in self._open.values() for limit in asked.running.values()]
            next_limit = min((now + _LOOK_S if limit is None else limit for limit in limits), default=now)
            self.pump(max(0.0, min(next_limit - now, end - now, 1.0)))

"""Calls as functions on whatever Lithops is configured for: this machine, AWS Lambda, Kubernetes, ...

A message rides with the call when it is small and lies in Lithops' bucket when it is not (Lithops refuses more than 4 MiB for all
calls of one start together); answers come back through the bucket and are found by polling, so a call takes a second or so at least,
however little it does. Lithops itself moves its own
envelope by pickle: give nobody write access to its bucket whom you would not let run code. Our messages inside are `payload.py`'s.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from paperworks.errors import InputError, MissingExtra
from paperworks.papers.squash.serverless.drivers import Call, Outcome, Work

log = logging.getLogger(__name__)

_INLINE_BYTES = 2 << 20  # of all calls of one start; Lithops' own limit is 4 MiB after it has pickled them


def make_executor(config: Any) -> Any:
    """A `lithops.FunctionExecutor` from a configuration (dict, path of a YAML file, None: Lithops finds its own) or one that exists."""
    try:
        import lithops
    except ImportError as error:
        raise MissingExtra("papers.squash on functions", "serverless") from error
    if isinstance(config, lithops.FunctionExecutor):
        return config
    try:
        if isinstance(config, str):
            return lithops.FunctionExecutor(config_file=config, log_level=None)
        return lithops.FunctionExecutor(config=dict(config) if config else None, log_level=None)
    except Exception as error:
        raise InputError(
            f"Lithops cannot be started with this configuration: {type(error).__name__}: {error}"
        ) from error


def run_call(
    payload: bytes, key: str | None, setup: dict[str, Any], fault: str | None, work: Work, storage: Any
) -> bytes:
    """What Lithops runs at the other end; it fills in `storage`, a `lithops.Storage` with the function's own rights.

    key: where in Lithops' bucket the message lies, None when it is `payload`.
    """
    if key is not None:
        payload = storage.get_object(storage.bucket, key)
    return work(payload, {**setup, "storage": storage}, fault)


class LithopsDriver:
    """Starts calls by `FunctionExecutor.map`.

    executor: see `make_executor`. memory_mb: of a function, None for Lithops' setting. limit_s: the provider ends a function after
    this long. poll_s: how often finished calls are looked for; Lithops looks into the bucket as often as its own
    `monitoring_interval` says.
    """

    def __init__(
        self,
        work: Work,
        setup: Mapping[str, Any],
        executor: Any = None,
        *,
        memory_mb: int | None = None,
        limit_s: float | None = None,
        poll_s: float = 0.1,
    ) -> None:
        self.work, self.setup = work, dict(setup)
        self._own = not _is_executor(executor)
        self.executor = make_executor(executor)
        self.memory_mb, self.limit_s, self.poll_s = memory_mb, limit_s, poll_s
        self._running: dict[int, Any] = {}
        self._stored: dict[int, str] = {}
        self._unstarted: list[Outcome] = []

    def start(self, calls: Sequence[Call]) -> None:
        """See `Driver`. A call that cannot be started is an outcome, not an exception."""
        if not calls:
            return
        try:
            arguments = [self._arguments(call, _INLINE_BYTES // len(calls)) for call in calls]
            futures = self.executor.map(
                run_call,
                arguments,
                chunksize=1,
                runtime_memory=self.memory_mb,
                timeout=None if self.limit_s is None else max(1, round(self.limit_s)),
                include_modules=None,  # the package is installed where functions run; do not ship our source with each job
            )
        except Exception as error:  # noqa: BLE001  # whatever the provider's library raises: these calls did not start
            log.warning("%d calls could not be started: %s", len(calls), error)
            self._unstarted += [Outcome(call.number, None, f"{type(error).__name__}: {error}") for call in calls]
            return
        self._running.update({call.number: future for call, future in zip(calls, futures, strict=True)})

    def _arguments(self, call: Call, limit: int) -> dict[str, Any]:
        key = None
        if len(call.payload) > limit:
            storage = self.executor.storage
            key = self._stored[call.number] = f"paperworks-squash/messages/{secrets.token_hex(16)}"
            storage.put_object(storage.bucket, key, call.payload)
        payload = b"" if key else call.payload
        return {"payload": payload, "key": key, "setup": self.setup, "fault": call.fault, "work": self.work}

    def _settled(self, number: int) -> None:
        """Nobody reads the message of this call any more."""
        if key := self._stored.pop(number, None):
            try:
                self.executor.storage.delete_object(self.executor.storage.bucket, key)
            except Exception as error:  # noqa: BLE001  # tidiness must not fail a search that is done
                log.warning("the message %s stays in the bucket: %s", key, error)

    def poll(self, wait_s: float) -> list[Outcome]:
        """See `Driver`."""
        end = time.monotonic() + wait_s
        while True:
            outcomes = self._finished()
            now = time.monotonic()
            if outcomes or now >= end or not self._running:
                if not outcomes and not self._running and now < end:
                    time.sleep(min(self.poll_s, end - now))  # nothing runs: do not let the caller spin
                return outcomes
            time.sleep(min(self.poll_s, end - now))

    def _finished(self) -> list[Outcome]:
        outcomes, self._unstarted = self._unstarted, []
        if not self._running:
            return outcomes
        from lithops.wait import ALWAYS

        # one look, without Lithops' own time limit: that one is a signal, which only a main thread may use
        self.executor.wait(
            list(self._running.values()),
            throw_except=False,
            return_when=ALWAYS,
            download_results=True,
            show_progressbar=False,
        )
        for number, future in list(self._running.items()):
            if future.done:
                del self._running[number]
                self._settled(number)
                outcomes.append(_outcome(number, future))
        return outcomes

    def waiting(self, numbers: Sequence[int]) -> set[int]:
        """See `Driver`. None: a call that never begins looks like one that waits, and must be asked for again."""
        return set()

    def give_up(self, numbers: Sequence[int]) -> None:
        """Stop listening; the provider ends a function that hangs when its own time limit is over."""
        for number in numbers:
            self._running.pop(number, None)
            self._settled(number)

    def close(self) -> None:
        """See `Driver`. An executor that was handed over stays open."""
        self._running.clear()
        for number in list(self._stored):
            self._settled(number)
        if self._own:
            self.executor.__exit__(None, None, None)


def _is_executor(config: Any) -> bool:
    return hasattr(config, "map") and hasattr(config, "wait") and not isinstance(config, Mapping)


def _outcome(number: int, future: Any) -> Outcome:
    result = future.result(throw_except=False)
    if future.error or not isinstance(result, bytes):
        cause = future._exception[1] if isinstance(future._exception, tuple) else "the function gave no result"
        return Outcome(
            number, None, f"{type(cause).__name__}: {cause}" if isinstance(cause, BaseException) else str(cause)
        )
    return Outcome(number, result)

"""Faults made on purpose, to see that a search survives them: for the tests, and for a drill before you rely on your own set-up.

`FaultyDriver` stands between the search and a driver and says which call shall go wrong; `fail` and `spoil` do it at the other end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.drivers import Call, Driver, Outcome
from paperworks.papers.squash.serverless.payload import Message, decode, encode

FAULTS = ("die", "hang", "raise", "corrupt", "cut", "other-request", "wrong-rows", "short", "twice", "lost")
_HANG_S = 3600.0

Plan = Callable[[Message, int], "str | None"]


def fail(fault: str | None) -> None:
    """At the beginning of a call: die as a killed container, hang, or raise."""
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        time.sleep(_HANG_S)
    if fault == "raise":
        raise RuntimeError("a fault on purpose")


def spoil(fault: str | None, answer: bytes) -> bytes:
    """At the end of a call: change the answer."""
    if fault == "corrupt":
        middle = len(answer) // 2
        return answer[:middle] + bytes([answer[middle] ^ 0x40]) + answer[middle + 1 :]
    if fault == "cut":
        return answer[: len(answer) // 2]
    if fault in ("other-request", "wrong-rows", "short"):
        message = decode(answer)
        arrays = {name: array.copy() for name, array in message.arrays.items()}
        if fault == "other-request":
            return encode(Message(message.kind, {**message.fields, "request": "0" * 32}, arrays))
        if "positions" in arrays and fault == "short":
            arrays["positions"][:, -1], arrays["ids"][:, -1], arrays["distances"][:, -1] = -1, -1, float("inf")
        elif "positions" in arrays:
            arrays["positions"] = arrays["positions"] + (arrays["positions"] >= 0)
        return encode(Message(message.kind, message.fields, arrays))
    return answer


class FaultyDriver:
    """A driver whose calls go wrong by plan: `plan(message, start)` names a fault of FAULTS or None.

    message: the decoded call; start: how many times this very request was started before. "twice" hands the same outcome over twice,
    "lost" never starts the call, as when an event is dropped.
    """

    def __init__(self, driver: Driver, plan: Plan) -> None:
        self.driver, self.plan = driver, plan
        self._starts: dict[str, int] = {}
        self._twice: set[int] = set()
        self.made: list[str] = []

    def start(self, calls: Sequence[Call]) -> None:
        """See `Driver`."""
        passed = []
        for call in calls:
            message = decode(call.payload)
            request = str(message.fields.get("request"))
            fault = self.plan(message, self._starts.get(request, 0))
            self._starts[request] = self._starts.get(request, 0) + 1
            if fault is not None:
                if fault not in FAULTS:
                    raise InputError(f"there is no fault {fault!r}; there are {', '.join(FAULTS)}")
                self.made.append(fault)
            if fault == "twice":
                self._twice.add(call.number)
            if fault != "lost":
                passed.append(replace(call, fault=fault))
        self.driver.start(passed)

    def poll(self, wait_s: float) -> list[Outcome]:
        """See `Driver`."""
        outcomes = self.driver.poll(wait_s)
        return [outcome for one in outcomes for outcome in ([one, one] if one.number in self._twice else [one])]

    def waiting(self, numbers: Sequence[int]) -> set[int]:
        """See `Driver`."""
        return self.driver.waiting(numbers)

    def give_up(self, numbers: Sequence[int]) -> None:
        """See `Driver`."""
        self.driver.give_up(numbers)

    def close(self) -> None:
        """See `Driver`."""
        self.driver.close()

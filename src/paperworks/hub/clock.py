"""The thread that does what is due: sources and digests at their hour, the search index when papers have come in, a backup a day.

One beat every half minute. A step that fails is logged and tried again at the next beat; it stops no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from paperworks.hub.hub import Hub
from paperworks.progress import silent

log = logging.getLogger(__name__)
BEAT_S = 30.0
FIRST_BEAT_S = 2.0  # the first page comes first
REINDEX_EVERY_S = 600.0
BACKUP_EVERY_S = 3600.0  # looks whether today's is there


class ClockThread(threading.Thread):
    """Runs the steps until `stop()`. `beat` is the Unix time of the last one, 0 before."""

    def __init__(
        self,
        hub: Hub,
        beat_s: float = BEAT_S,
        steps: tuple[tuple[str, float, Callable[[Hub], object]], ...] | None = None,
    ) -> None:
        super().__init__(name="clock", daemon=True)
        self.hub = hub
        self.beat = 0.0
        self._beat_s = beat_s
        self._steps = steps if steps is not None else STEPS
        self._last: dict[str, float] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        self._stopping.wait(min(FIRST_BEAT_S, self._beat_s))
        while not self._stopping.is_set():
            self.beat = time.time()
            for name, every_s, step in self._steps:
                if self._stopping.is_set():
                    return
                last = self._last.get(name)
                if last is not None and time.monotonic() - last < every_s:
                    continue
                self._last[name] = time.monotonic()
                try:
                    step(self.hub)
                except Exception:
                    log.exception("step %s failed; it is tried again", name)
            self._stopping.wait(self._beat_s)


def take_in(hub: Hub) -> None:
    from paperworks.hub.service import intake

    intake.run_intake(hub, due_only=True, progress=silent)


def send_digests(hub: Hub) -> None:
    from paperworks.hub.service import digest

    digest.plan_due(hub)
    digest.send_due(hub, silent)


def reindex(hub: Hub) -> None:
    from paperworks.hub.service import search

    search.reindex(hub, silent)


def back_up(hub: Hub) -> None:
    from paperworks.hub.store import backup

    backup.nightly(hub.db, hub.home, hub.now())


STEPS: tuple[tuple[str, float, Callable[[Hub], object]], ...] = (
    ("intake", 60.0, take_in),
    ("digests", 0.0, send_digests),
    ("reindex", REINDEX_EVERY_S, reindex),
    ("backup", BACKUP_EVERY_S, back_up),
)

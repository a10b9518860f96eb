"""When a family of hosts may be asked again, kept in the database: the server and a command beside it do not add up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from sqlalchemy import select

from paperworks.hub.store.database import Database
from paperworks.hub.store.models import Gate

CLOCK_JUMP_S = 15 * 60.0  # a turn further away than this was booked before the clock was set back


class DatabaseGate:
    """A gate for `PoliteClient`. gaps: family -> seconds between two requests; others need no gap.

    Turns are booked under the write lock, so two processes never get the same one. The database is not held while waiting.
    """

    def __init__(
        self,
        db: Database,
        gaps: Mapping[str, float],
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.db = db
        self.gaps = dict(gaps)
        self._sleep, self._clock = sleep, clock

    def wait(self, family: str) -> None:
        """Return when it is this caller's turn."""
        gap = self.gaps.get(family, 0.0)
        if gap <= 0:
            return
        with self.db.write() as session:
            now = self._clock()
            gate = session.scalar(select(Gate).where(Gate.host == family))
            if gate is None:
                gate = Gate(host=family, free_at=now)
                session.add(gate)
            turn = max(now, gate.free_at)
            if turn > now + CLOCK_JUMP_S:
                turn = now
            gate.free_at = turn + gap
        if turn > now:
            self._sleep(turn - now)

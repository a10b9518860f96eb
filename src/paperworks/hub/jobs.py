"""The thread that runs measurements: one at a time, each in a child process, every event kept in the store.

A page that is reloaded reads the events; nothing of a run lives in this thread alone. When a server is killed, the run that it
was doing is found dead at the next start, marked `interrupted`, and can be resumed: finished seeds are in its checkpoint.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import func, select, update

from paperworks.hub.hub import Hub
from paperworks.hub.store.models import HubRun, RunEvent
from paperworks.hub.times import utc_text

log = logging.getLogger(__name__)

BEAT_S = 5.0
LOOK_S = 0.5  # how often the queue, and a wish to cancel, are looked for
PROGRESS_EVERY_S = 0.5  # progress events closer together than this are dropped; the last one is kept
LIVE_STATES = ("running", "cancelling")
RESUME = "resume goes on after the last finished seed"
UNKEPT = ("heartbeat", "started")  # said by the worker to the thread alone


class RunningProcess(Protocol):
    """What `spawn` gives: events as they come, until the process ends."""

    @property
    def pid(self) -> int: ...

    def events(self) -> Iterator[dict[str, Any]]: ...

    def cancel(self) -> None: ...


Spawn = Callable[[Hub, HubRun], RunningProcess]


def spawn_worker(hub: Hub, run: HubRun) -> RunningProcess:
    """Start the claims worker for `run`."""
    from paperworks.claims.process import spawn
    from paperworks.hub.service.runs import job_of

    return spawn(job_of(hub, run))


@dataclass
class _Throttle:
    """Lets a progress event through at most every PROGRESS_EVERY_S, and remembers the last that it held back."""

    last: float = 0.0
    held: dict[str, Any] | None = None

    def passes(self, event: dict[str, Any]) -> bool:
        now = time.monotonic()
        if now - self.last < PROGRESS_EVERY_S:
            self.held = event
            return False
        self.last, self.held = now, None
        return True


class RunThread(threading.Thread):
    """Takes queued runs, oldest first, one at a time, until `stop()`."""

    def __init__(self, hub: Hub, spawn: Spawn = spawn_worker) -> None:
        super().__init__(name="runs", daemon=True)
        self.hub = hub
        self._spawn = spawn
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask the thread to end; a run that is going on is left `interrupted`, with its checkpoint."""
        self._stopping.set()

    def run(self) -> None:
        mark_interrupted(self.hub)
        while not self._stopping.is_set():
            try:
                run = self._take()
                if run is not None:
                    self._do(run)
                    continue
            except Exception:
                log.exception("the runs thread met an error and goes on")
            self._stopping.wait(LOOK_S)

    def _take(self) -> HubRun | None:
        with self.hub.db.write() as session:
            run = session.scalars(select(HubRun).where(HubRun.state == "queued").order_by(HubRun.id).limit(1)).first()
            if run is None:
                return None
            run.state = "running"
            run.started = run.heartbeat = utc_text(self.hub.now())
            run.pid = os.getpid()
            run.message = ""
            session.flush()
            session.expunge(run)
            return run

    def _do(self, run: HubRun) -> None:
        try:
            process = self._spawn(self.hub, run)
        except Exception as error:
            log.exception("run %d could not be started", run.id)
            self._finish(run.id, "failed", message=f"could not be started: {error}")
            return
        self._change(run.id, pid=process.pid)
        events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        reader = threading.Thread(target=_pump, args=(process, events), name=f"run-{run.id}", daemon=True)
        reader.start()
        outcome: dict[str, Any] = {}
        throttle = _Throttle()
        beat = looked = time.monotonic()
        asked_to_end = stopped = False
        while True:
            try:
                event = events.get(timeout=LOOK_S)
            except queue.Empty:
                event = {}
            if event is None:
                break
            if event:
                outcome.update(_outcome(event))
                wanted = event.get("kind") not in UNKEPT
                if wanted and (event.get("kind") != "progress" or throttle.passes(event)):
                    self._keep(run.id, event)
            if time.monotonic() - beat > BEAT_S:
                beat = time.monotonic()
                self._change(run.id, heartbeat=utc_text(self.hub.now()))
            if not asked_to_end and time.monotonic() - looked > LOOK_S:  # not at every event: each look is a query
                looked = time.monotonic()
                wanted_by_reader = self._wants_cancel(run.id)
                if wanted_by_reader or self._stopping.is_set():
                    asked_to_end, stopped = True, not wanted_by_reader
                    threading.Thread(target=process.cancel, daemon=True).start()
        if throttle.held is not None:
            self._keep(run.id, throttle.held)
        self._close(run.id, outcome, stopped)

    def _close(self, run_id: int, outcome: dict[str, Any], stopped: bool) -> None:
        if outcome.get("failed"):
            self._finish(run_id, "failed", record=outcome.get("record"), message=outcome["failed"])
        elif outcome.get("record"):
            fields = {name: outcome.get(name) for name in ("record", "verdict")}
            self._finish(run_id, "done", message=outcome.get("message", ""), **fields)
        elif outcome.get("cancelled") and stopped:
            self._finish(run_id, "interrupted", message=f"the server was stopped; {RESUME}")
        elif outcome.get("cancelled"):
            self._finish(run_id, "cancelled", message=f"{outcome['cancelled']}; {RESUME}")
        else:
            self._finish(
                run_id, "failed", message="the process ended without a result; the log above has its last words"
            )

    def _keep(self, run_id: int, event: dict[str, Any]) -> None:
        body = {key: value for key, value in event.items() if key != "kind"}
        with self.hub.db.write() as session:
            last = session.scalar(select(func.max(RunEvent.n)).where(RunEvent.run_id == run_id)) or 0
            at = utc_text(self.hub.now())
            session.add(RunEvent(run_id=run_id, n=last + 1, at=at, kind=str(event.get("kind", "log")), body=body))

    def _finish(self, run_id: int, state: str, **fields: Any) -> None:
        self._change(run_id, state=state, ended=utc_text(self.hub.now()), pid=None, **fields)
        self._keep(run_id, {"kind": "state", "state": state, "message": fields.get("message", "")})

    def _change(self, run_id: int, **fields: Any) -> None:
        with self.hub.db.write() as session:
            session.execute(update(HubRun).where(HubRun.id == run_id).values(**fields))

    def _wants_cancel(self, run_id: int) -> bool:
        with self.hub.db.read() as session:
            return session.scalar(select(HubRun.state).where(HubRun.id == run_id)) == "cancelling"


def _pump(process: RunningProcess, events: queue.Queue[dict[str, Any] | None]) -> None:
    try:
        for event in process.events():
            events.put(event)
    except Exception as error:  # noqa: BLE001 - whatever ends the reading must reach the run's page
        events.put({"kind": "error", "message": f"reading the worker failed: {error}"})
    finally:
        events.put(None)


def _outcome(event: dict[str, Any]) -> dict[str, Any]:
    """What an event says about the end of its run."""
    kind = event.get("kind")
    message = str(event.get("message", ""))
    if kind == "record":
        failed = event.get("state") == "failed"
        return {
            "record": os.path.basename(str(event.get("path", ""))),
            "verdict": event.get("verdict"),
            "message": str(event.get("reason", "")),
            "failed": (event.get("reason") or "the method raised an error; the record holds it") if failed else "",
        }
    if kind == "cancelled":
        return {"cancelled": message or "cancelled"}
    if kind == "error":
        return {"failed": message or "the worker failed"}
    return {}


def mark_interrupted(hub: Hub) -> int:
    """Mark runs whose process is gone (a killed server) as interrupted, and say how many there were.

    Only the server that holds the folder's lock calls this, so a run in a live state belongs to a server that is gone.
    Its worker is asked to end as well, if it is still there.
    """
    with hub.db.write() as session:
        dead = session.scalars(select(HubRun).where(HubRun.state.in_(LIVE_STATES))).all()
        for run in dead:
            run.state = "cancelled" if run.state == "cancelling" else "interrupted"
            run.ended = utc_text(hub.now())
            run.pid = None
            run.message = f"the server ended while this ran; {RESUME}"
        return len(dead)

"""The worker process of one run: `python -m paperworks.claims.worker JOB.json`, events as JSON lines on standard output.

Kinds: started (pid), heartbeat (every 5 s), progress (done, total, note, seed), log (level, message), measurement (seed, values,
seconds, resumed), verdict (verdict, reason, scale, state); and as the last one of three: record (path, verdict, state),
cancelled (message), error (message, trace). What libraries print goes to standard error and cannot corrupt the lines.

Exit codes: 0 a record was written, 1 error, 3 cancelled.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from paperworks.claims.process import Job, surroundings
from paperworks.errors import Cancelled, PaperworksError

HEARTBEAT_S = 5.0
_PROGRESS_EVERY_S = 0.2
log = logging.getLogger(__name__)


class Events:
    """Writes events as JSON lines; safe from several threads. When nobody reads any more, `deserted` is set."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()  # a signal handler may write while the main thread does
        self._progress_at = 0.0
        self.deserted = False

    def __call__(self, event: dict[str, Any]) -> None:
        if event["kind"] == "progress":
            now = time.monotonic()
            if now - self._progress_at < _PROGRESS_EVERY_S and event["done"] != event["total"]:
                return
            self._progress_at = now
        line = json.dumps(_plain(event), ensure_ascii=False) + "\n"
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                self.deserted = True


class LogEvents(logging.Handler):
    """Log records as events."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(message)s"))
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events({"kind": "log", "level": record.levelname.lower(), "message": self.format(record)})


class Stop:
    """Why and whether the run must stop; a signal, a deadline or a parent that is gone set it."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reason = "the run was cancelled; finished seeds are kept"
        self.armed = True

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        first = not self.event.is_set()
        self.event.set()
        if first and self.armed:  # raised once: while the worker cleans up, more signals change nothing
            raise Cancelled(self.reason)


def main(arguments: list[str] | None = None) -> int:
    """Run the job of a job file; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    events = Events(_own_stdout())
    if len(arguments) != 1:
        events({"kind": "error", "message": "usage: python -m paperworks.claims.worker JOB.json", "trace": ""})
        return 1
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        return _work(Path(arguments[0]), events, stop)
    except Cancelled:
        stop.armed = False
        events({"kind": "cancelled", "message": stop.reason})
        return 3
    except PaperworksError as error:
        stop.armed = False
        events({"kind": "error", "message": str(error), "trace": ""})
        return 1
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must hear of it as the last event
        stop.armed = False
        message = f"{type(error).__name__}: {error}"
        events({"kind": "error", "message": message, "trace": "".join(traceback.format_exception(error))})
        return 1


def _work(path: Path, events: Events, stop: Stop) -> int:
    job = Job.read(path)
    os.environ.update(wanted := surroundings(job, dict(os.environ)))
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    _limit(job)
    if not job.network:
        sys.addaudithook(_refuse_network)
    events({"kind": "started", "pid": os.getpid()})
    logging.basicConfig(level=logging.INFO, handlers=[LogEvents(events)], force=True)
    threading.Thread(target=_watch, args=(job, events, stop), daemon=True).start()

    from paperworks.catalogue import catalogue
    from paperworks.claims.data import Data
    from paperworks.claims.runner import forget, run_claim
    from paperworks.config import load

    settings = load(job.home)
    paper = catalogue()[job.slug]
    record = run_claim(
        paper,
        job.claim,
        job.scale,
        job.seeds,
        data=Data(job.data, configured=settings.data),
        checkpoint_root=job.checkpoints,
        on_event=events,
        cancel=stop.event,
        fresh=job.fresh,
    )
    stop.armed = False  # the measuring is done: a cancel that comes now is too late to lose it
    saved = record.save(job.records)
    if job.checkpoints is not None and record.state == "done":
        forget(paper, job.claim, job.scale, job.checkpoints)
    end = {
        "kind": "record",
        "path": str(saved),
        "verdict": record.verdict,
        "state": record.state,
        "reason": record.reason,
    }
    events(end | {"duration_s": record.duration_s})
    return 0


def _own_stdout() -> TextIO:
    """A private copy of standard output for events; everybody else's standard output becomes standard error."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(private, "w", encoding="utf-8")


def _watch(job: Job, events: Events, stop: Stop) -> None:
    """Beats every 5 s, and stops the run at its deadline or when the parent is gone."""
    deadline = time.monotonic() + job.seconds
    while not stop.event.is_set():
        stop.event.wait(min(HEARTBEAT_S, max(0.05, deadline - time.monotonic())))
        events({"kind": "heartbeat"})
        if events.deserted:
            stop.reason = "nobody listens to this run any more"
        elif time.monotonic() >= deadline:
            stop.reason = f"the run took longer than its {job.seconds:g} s; finished seeds are kept, raise run_seconds to allow more"
        else:
            continue
        os.kill(os.getpid(), signal.SIGTERM)
        return


def _limit(job: Job) -> None:
    """Lower the priority and cap memory and CPU time, where the system can."""
    if hasattr(os, "nice"):
        os.nice(max(0, 10 - os.nice(0)))
    try:
        import resource
    except ImportError:  # Windows
        log.warning("this system cannot limit memory; the run goes on without a limit")
        return
    cores = os.cpu_count() or 1
    limits = [(resource.RLIMIT_CPU, math.ceil(job.seconds * cores) + 60), (resource.RLIMIT_CORE, 0)]
    if job.scale != "gpu":  # graphics drivers reserve far more address space than they use
        limits.append((resource.RLIMIT_AS, int(job.memory_gib * 1024**3)))
    for kind, wanted in limits:
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, hard))


def _refuse_network(event: str, details: tuple[Any, ...]) -> None:
    """An audit hook: connections and look-ups outside of this machine are refused with a reason."""
    if event == "socket.connect":
        address = details[1]
        host = address[0] if isinstance(address, tuple) else None  # a text or bytes: a socket in the file system
    elif event == "socket.getaddrinfo":
        host = details[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if isinstance(host, str) and not _local(host):
        raise PermissionError(
            f"a run may not use the network, and asked for {host}; fetch the data or model first, or allow it (--network)"
        )


def _local(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: they become texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


if __name__ == "__main__":
    sys.exit(main())

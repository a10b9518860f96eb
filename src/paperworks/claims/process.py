"""Measure in a worker process, from the parent's side: start it, read its events, cancel it.

    with spawn(Job(slug="squash", claim="halves-memory", scale="cpu", records=Path("records"))) as worker:
        for event in worker.events():  # dictionaries with a 'kind', see `paperworks.claims.worker`
            ...

The last event is always one of: record (path, verdict), cancelled (message), error (message). If the worker was killed from
outside, the parent writes that last event itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paperworks.catalogue import Scale
from paperworks.errors import InputError

log = logging.getLogger(__name__)
LAST_KINDS = ("record", "cancelled", "error")
KILL_AFTER_S = 10.0
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "socks_proxy")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


class Job(BaseModel):
    """What a worker is asked to do, and within which limits. Written as JSON, read by the worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: str
    claim: str
    scale: Scale = "cpu"
    seeds: tuple[int, ...] = (0, 1, 2)
    records: Path  # the record is written here, as <slug>/<name>
    checkpoints: Path | None = None  # None: an interrupted run cannot be resumed
    data: Path | None = None
    home: Path | None = None  # the hub's folder, for its settings
    fresh: bool = False
    network: bool = False
    seconds: float = Field(default=4 * 3600, gt=0)  # wall time
    memory_gib: float = Field(default=16, gt=0)

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read a job file. Raises InputError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(f"the job file {path} cannot be used: {error}") from error


class WorkerProcess:
    """A running worker. Reading `events()` to the end waits for it; leaving the `with` block cancels it if it still runs."""

    def __init__(self, process: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str]) -> None:
        self._process = process
        self._folder = folder
        self._cancelled = False
        self._swept = False
        self._closing = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def events(self) -> Iterator[dict[str, Any]]:
        """The worker's events as they come; the last one is a record, cancelled or error. May be read once."""
        last: dict[str, Any] | None = None
        assert self._process.stdout is not None  # spawn() opened a pipe
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                log.warning("worker %d wrote what is not an event: %.200r", self.pid, line)
                continue
            if last is None:
                if event.get("kind") in LAST_KINDS:
                    last = event
                yield event
        code = self._process.wait()
        if last is None:
            if self._cancelled:
                yield {
                    "kind": "cancelled",
                    "message": "the run was cancelled and had to be killed; finished seeds are kept",
                }
            else:
                yield {"kind": "error", "message": _died(code, self.stderr()), "trace": self.stderr()}
        self.close()

    def cancel(self, kill_after_s: float = KILL_AFTER_S) -> None:
        """Ask the worker to stop (SIGTERM), and kill it with its children (SIGKILL) if it still runs after a while.

        Waits until it is gone. Finished seeds stay kept.
        """
        self._cancelled = True
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(kill_after_s)
            except subprocess.TimeoutExpired:
                log.warning("worker %d did not stop within %g s and is killed", self.pid, kill_after_s)
        self._kill_group()
        self._process.wait()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end; the exit code (negative: the signal that killed it)."""
        return self._process.wait(timeout_s)

    def stderr(self, n_characters: int = 4000) -> str:
        """The end of what the worker and its libraries wrote to standard error and output."""
        try:
            text = (Path(self._folder.name) / "stderr").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return text[-n_characters:]

    def close(self) -> None:
        """Clean up: stop what still runs, remove the worker's own folder."""
        with self._closing:
            if self.running:
                self.cancel()
            self._kill_group()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._folder.cleanup()

    def _kill_group(self) -> None:
        # the worker leads its own session, so children that it left behind are in its group
        if self._swept:
            return  # later its number may belong to somebody else
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._swept = True
        elif self.running:
            self._process.kill()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def spawn(job: Job) -> WorkerProcess:
    """Start a worker for `job`. It has a temporary folder of its own, and no network unless the job allows it."""
    folder = tempfile.TemporaryDirectory(prefix="paperworks-worker-", ignore_cleanup_errors=True)
    root = Path(folder.name)
    (root / "tmp").mkdir()
    absolute = {
        name: value.expanduser().absolute()
        for name in ("records", "checkpoints", "data", "home")
        if (value := getattr(job, name)) is not None
    }
    (root / "job.json").write_text(job.model_copy(update=absolute).model_dump_json(), encoding="utf-8")
    with (root / "stderr").open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "paperworks.claims.worker", str(root / "job.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            cwd=root / "tmp",
            env=surroundings(job, dict(os.environ)) | {"TMPDIR": str(root / "tmp")},
            start_new_session=True,
        )
    return WorkerProcess(process, folder)


def surroundings(job: Job, variables: dict[str, str]) -> dict[str, str]:
    """The environment variables of a worker: without proxies and with the libraries' offline switches, unless it may use the network."""
    if job.network:
        return dict(variables)
    return {name: value for name, value in variables.items() if name.lower() not in _PROXIES} | _OFFLINE


def _died(code: int, stderr: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in {item.value for item in signal.Signals} else str(-code)
        hint = " (often: out of memory)" if name == "SIGKILL" else ""
        return f"the worker was killed by {name}{hint}; run the same again to go on from the finished seeds"
    lines = [line for line in stderr.splitlines() if line.strip()]
    return f"the worker ended with code {code} and no result" + (f": {lines[-1]}" if lines else "")

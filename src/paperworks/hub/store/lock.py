"""One server a folder (`serve.lock`), one intake a source (under `locks/`): lock files. The system lets go of them when a process dies."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from paperworks.errors import StoreError


@contextmanager
def serving(home: Path) -> Iterator[None]:
    """Hold the folder for one server. Raises StoreError that names the process which holds it already."""
    with _held(
        home / "serve.lock",
        f"another paperworks serves the folder {home} already{{who}}; stop that one, or choose another folder with --home",
    ):
        yield


@contextmanager
def intake_turn(home: Path, source: str) -> Iterator[None]:
    """Hold one source for one intake. Raises StoreError while another process or thread takes in from it."""
    safe = re.sub(r"[^a-z0-9]+", "-", source.lower())[:40].strip("-")
    name = f"intake-{safe}-{hashlib.sha256(source.encode()).hexdigest()[:8]}.lock"
    with _held(home / "locks" / name, f"an intake from {source!r} is going on already{{who}}; wait until it has ended"):
        yield


@contextmanager
def _held(path: Path, sentence: str) -> Iterator[None]:
    note = path.with_suffix(".pid")
    lock = FileLock(path, timeout=0, is_singleton=False, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        who = ""
        with suppress(OSError):
            who = f" (process {note.read_text(encoding='ascii').strip()})"
        raise StoreError(sentence.format(who=who)) from None
    except OSError as error:
        raise StoreError(
            f"the lock file {path} cannot be made: {error.strerror}; check owner, permissions and free space of the folder"
        ) from error
    try:
        with suppress(OSError):  # only for the message above
            note.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        with suppress(OSError):
            note.unlink()
        lock.release()

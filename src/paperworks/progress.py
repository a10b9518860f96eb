"""One small protocol for progress. Library code calls it or is silent; nothing else prints.

A progress is any callable `(done, total, note) -> None`. The three that people meet are here: nothing, log lines,
and a terminal bar (`rich`, on standard error). The web's version, which writes run events, lives with the claims worker.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Progress(Protocol):
    """Called as work goes on: `done` of `total` units (None: unknown), and a short note for people."""

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None: ...


def silent(done: float, total: float | None = None, note: str = "") -> None:
    """Report to nobody."""


class LogProgress:
    """A log line at most every `every_s` seconds, and one at the end."""

    def __init__(self, label: str = "", every_s: float = 5.0) -> None:
        self.label = label
        self.every_s = every_s
        self._last = 0.0

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        now = time.monotonic()
        if now - self._last < self.every_s and done != total:
            return
        self._last = now
        log.info("%s", " ".join(part for part in (self.label, describe(done, total), note) if part))


class PlainProgress(LogProgress):
    """The same as lines on standard error, for a terminal that is not one (a pipe, a CI log)."""

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        now = time.monotonic()
        if now - self._last < self.every_s and done != total:
            return
        self._last = now
        print(" ".join(part for part in (self.label, describe(done, total), note) if part), file=sys.stderr, flush=True)


def describe(done: float, total: float | None) -> str:
    """`done` and `total` for people.

    >>> describe(5, 20), describe(7, None)
    ('5 of 20 (25 %)', '7')
    """
    if not total:
        return f"{done:g}"
    return f"{done:g} of {total:g} ({100 * done / total:.0f} %)"


def duration(seconds: float) -> str:
    """A span of time for people.

    >>> duration(0.42), duration(200), duration(7300)
    ('0.4 s', '3 min 20 s', '2 h 1 min')
    """
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(n_bytes: float) -> str:
    """A number of bytes for people.

    >>> size(999), size(41_000_000)
    ('999 B', '41 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}" if unit != "B" else f"{n_bytes:.0f} B"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


@contextmanager
def terminal(label: str) -> Iterator[Progress]:
    """A bar on standard error while the block runs; plain lines when standard error is not a terminal."""
    if not sys.stderr.isatty():
        yield PlainProgress(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def update(done: float, total: float | None = None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, description=f"{label} {note}".rstrip())

        yield update


def track(items: Iterable[T], progress: Progress, total: int | None = None, note: str = "") -> Iterator[T]:
    """Yield `items` and report after each."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    for done, item in enumerate(items, start=1):
        yield item
        progress(done, total, note)

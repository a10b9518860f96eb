"""Read and prepare ahead of the model, in a thread, at most a few windows: memory stays as it is however long the stream."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
_WAIT_S = 0.1


def windows(items: Iterable[T], size: int) -> Iterator[tuple[int, list[T]]]:
    """(number of the first item, up to `size` items) after one another.

    >>> list(windows("abcde", 2))
    [(0, ['a', 'b']), (2, ['c', 'd']), (4, ['e'])]
    """
    start = 0
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield start, part
        start += len(part)


def ahead(items: Iterable[T], queued: int = 2) -> Iterator[T]:
    """The items, in order; a thread takes the next ones meanwhile, at most `queued` before they are asked for.

    An error in `items` is raised here, at its place. When the consumer stops early (break, error, close), the thread stops after the
    item that it is at.
    """
    ready: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(maxsize=queued)
    stop = threading.Event()

    def put(entry: tuple[T] | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=_WAIT_S)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not put((item,)):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            put(error)

    thread = threading.Thread(target=read, name="paperworks-read-ahead", daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        stop.set()
        thread.join()

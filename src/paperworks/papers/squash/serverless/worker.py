"""What runs at the other end of a call: open what the message needs, do what it asks, answer in bytes.

`work` is the one function that drivers start. What it has opened stays open for the next call of the same process; where processes do
not outlive a call, the files of `retained.py` do.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.serverless import faults, retained
from paperworks.papers.squash.serverless.batch import Settings, Share
from paperworks.papers.squash.serverless.deploy import DeployedPiece, Deployment, list_key
from paperworks.papers.squash.serverless.drivers import Driver, ProcessDriver, ThreadDriver
from paperworks.papers.squash.serverless.engine import Engine, PartitionReader, RowReader, SharedReader
from paperworks.papers.squash.serverless.errors import PayloadError, WorkerFailed
from paperworks.papers.squash.serverless.node import Work
from paperworks.papers.squash.serverless.payload import Message, decode, encode
from paperworks.papers.squash.serverless.processor import answer_search
from paperworks.papers.squash.serverless.store import Store, Traffic, open_store, read_rows
from paperworks.papers.squash.serverless.tree import Node, Tree

_OPEN_AT_ONCE = 64  # pieces that a process keeps open; files are mapped, so this costs addresses more than memory
_LOOK_AGAIN_S = (
    30.0  # seconds after which the files of an open piece are touched again, so that they do not leave as unused
)
_ATTEMPTS = 3  # to open files that another process may push out between fetching and opening

Reader = TypeVar("Reader")


class Worker:
    """A store, the files retained from it, and what is open of them.

    setup: location (of the store), engine, cache (`retained.from_config`), storage (a `lithops.Storage`, else None), children (how
    this worker starts others, `make_driver`).
    """

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self.setup = setup
        self.store: Store = open_store(setup["location"], setup.get("storage"), setup.get("storage_config"))
        self.files = retained.from_config(setup.get("cache") or {})
        self.engine: Engine = load_engine(setup.get("engine", "squash"))
        self._lock = threading.Lock()
        self._deployments: dict[str, Deployment] = {}
        self._open: OrderedDict[int, tuple[Any, float]] = OrderedDict()
        self._opening: dict[int, threading.Lock] = {}
        self._used = threading.local()

    def deployment(self, name: str) -> Deployment:
        """The deployment of that name; its list is retained like any other file."""
        with self._lock:
            if name in self._deployments:
                return self._deployments[name]
        if not re.fullmatch(r"[0-9a-f]{64}", name):
            raise PayloadError(f"not the name of a deployment: {name!r}")
        data, counts = self.files.content(name, list_key(name), self.store)
        self._count_cache(counts)
        with self._lock:
            return self._deployments.setdefault(name, Deployment.from_bytes(data))

    def _count_cache(self, counts: Mapping[str, int]) -> None:
        for name, value in counts.items():
            self._count(f"cache_{name}", value)

    def _opened(self, piece: DeployedPiece, opener: Callable[[Path], Reader]) -> Reader:
        """The piece, open. Pieces are told apart by identity: their deployments stay here as long as this worker."""
        with self._lock:
            lock = self._opening.setdefault(id(piece), threading.Lock())
        with lock:  # two threads that miss the same piece would open it twice
            with self._lock:
                reader, looked = self._open.get(id(piece), (None, -math.inf))
            if reader is not None and time.monotonic() - looked < _LOOK_AGAIN_S:
                sizes = [ref.size for ref in set(piece.retained().values())]
                self._count_cache({"hits": len(sizes), "misses": 0, "bytes_hit": sum(sizes), "bytes_fetched": 0})
                return cast(Reader, reader)
            for attempt in range(_ATTEMPTS):
                folder, counts = self.files.take(piece.retained(), self.store)
                self._count_cache(counts)
                try:
                    # what is open already stays; the files were looked at so that they count as used
                    reader = reader if reader is not None else opener(folder)
                except FileNotFoundError:
                    if attempt + 1 == _ATTEMPTS:
                        raise
                    continue
                break
            with self._lock:
                self._open[id(piece)] = (reader, time.monotonic())
                self._open.move_to_end(id(piece))
                while len(self._open) > _OPEN_AT_ONCE:
                    self._open.popitem(last=False)
            return cast(Reader, reader)

    def _count(self, name: str, value: float) -> None:
        """Add to what the call of this thread has used."""
        used = self._used.__dict__
        used[name] = used.get(name, 0.0) + float(value)

    def shared(self, deployment: Deployment) -> SharedReader:
        """The allocators' piece, open."""
        return self._opened(deployment.shared, self.engine.open_shared)

    def partition(self, deployment: Deployment, number: int) -> PartitionReader:
        """A partition, open."""
        if type(number) is not int or not 0 <= number < len(deployment.partitions):
            raise PayloadError(f"there is no partition {number!r} in this deployment of {len(deployment.partitions)}")
        piece = deployment.partitions[number]
        return self._opened(piece, lambda folder: self.engine.open_partition(folder, self._row_reader(piece)))

    def _row_reader(self, piece: DeployedPiece) -> RowReader | None:
        if piece.ranged is None:
            return None
        ranged, key = piece.ranged, piece.files[piece.ranged.name].key

        def rows(wanted: np.ndarray) -> np.ndarray:
            used = Traffic()
            matrix = read_rows(self.store, key, wanted, ranged.dtype, ranged.width, ranged.offset, used=used)
            self._count("range_gets", used.n_gets)
            self._count("range_bytes", used.bytes_read)
            return matrix

        return rows

    def handle(self, message: Message, setup: Mapping[str, Any]) -> Message:
        """Do what a message asks."""
        self._used.__dict__.clear()
        deployment = self.deployment(str(message.fields.get("deployment")))
        if message.kind == "search":
            return self._search(message, deployment)
        if message.kind == "allocate":
            return self._allocate(message, deployment, setup)
        raise PayloadError(f"a {message.kind!r} message asks for nothing")

    def _search(self, message: Message, deployment: Deployment) -> Message:
        begun = time.perf_counter()
        number = message.fields.get("partition")
        reader = self.partition(deployment, number)  # type: ignore[arg-type]  # checked there
        opened = time.perf_counter()
        answer = answer_search(message, reader, deployment.partitions[number].rows)  # type: ignore[index]
        times = {"open_s": opened - begun, "search_s": time.perf_counter() - opened}
        stats = {**answer.fields["stats"], **self._used.__dict__, **times}
        return Message(answer.kind, {**answer.fields, "stats": stats}, answer.arrays)

    def _allocate(self, message: Message, deployment: Deployment, setup: Mapping[str, Any]) -> Message:
        fields = message.fields
        try:
            tree, node = Tree(*fields["tree"]), Node(*fields["node"])
            settings, n_queries = Settings.from_json(fields["settings"]), int(fields["queries"])
            share = Share.from_arrays(fields["filters"], message.arrays)
            covered = tree.covers(node)
            expected = range(tree.share(covered[0], n_queries).start, tree.share(covered[-1], n_queries).stop)
        except (KeyError, TypeError, IndexError, InputError) as error:
            raise PayloadError(f"this is no work for an allocator: {error!r}") from error
        if node.level < 1 or list(share.query_ids) != list(expected):
            raise PayloadError(f"the queries are not those of allocator {node.number}")
        driver = make_driver(setup.get("children") or {"kind": "threads"}, setup)
        try:
            job = Work(deployment, lambda: self.shared(deployment), driver, settings, tree, node)
            outcomes = job.run(share, n_queries)
            for name, value in self._used.__dict__.items():
                outcomes.stats[name] = outcomes.stats.get(name, 0.0) + value
            return outcomes.to_message(str(fields.get("request")), deployment.name)
        finally:
            driver.close()


def load_engine(engine: Any, vectors: str = "retain") -> Engine:
    """The engine of that name, or the object itself. vectors: how it deploys full vectors. Names are from a fixed list: a message cannot name code to load."""
    if not isinstance(engine, str):
        made: Engine = engine
        return made
    if engine != "squash":
        raise InputError(f"there is no engine {engine!r}")
    from paperworks.papers.squash.serverless.squash_engine import SquashEngine

    return SquashEngine(vectors)


def make_driver(spec: Mapping[str, Any], setup: Mapping[str, Any]) -> Driver:
    """How calls are started: kind threads, processes or lithops, with workers, launch_s, executor, memory_mb, limit_s as it has them.

    `plan` (`faults.py`) makes these calls go wrong on purpose.
    """
    kind = spec.get("kind")
    driver: Driver
    portable = {
        name: value for name, value in setup.items() if name != "storage"
    }  # each process makes or is given its own
    if kind == "threads":
        driver = ThreadDriver(work, setup, spec.get("workers", 4), spec.get("launch_s", 0.0))
    elif kind == "processes":
        portable.pop("plan", None)  # faults are made by who starts calls, and a function cannot be sent to a process
        driver = ProcessDriver(work, portable, spec.get("workers", 2), spec.get("launch_s", 0.0))
    elif kind == "lithops":
        from paperworks.papers.squash.serverless.lithops_driver import LithopsDriver

        driver = LithopsDriver(
            work, portable, spec.get("executor"), memory_mb=spec.get("memory_mb"), limit_s=spec.get("limit_s")
        )
    else:
        raise InputError(f"calls are started by threads, processes or lithops, got {kind!r}")
    return faults.FaultyDriver(driver, setup["plan"]) if setup.get("plan") else driver


_workers: dict[tuple[str, str], Worker] = {}
_workers_lock = threading.Lock()


def _worker(setup: Mapping[str, Any]) -> Worker:
    engine = setup.get("engine", "squash")
    key = (str(setup["location"]), f"{setup.get('cache')!r} {engine if isinstance(engine, str) else id(engine)}")
    with _workers_lock:
        if key not in _workers:
            _workers[key] = Worker(setup)
        return _workers[key]


def work(payload: bytes, setup: Mapping[str, Any], fault: str | None) -> bytes:
    """Answer one message; whatever goes wrong comes back as a "failed" message that says so."""
    faults.fail(fault)
    request: Any = None
    try:
        message = decode(payload)
        request = message.fields.get("request")
        reply = _worker(setup).handle(message, setup)
    except Exception as error:  # noqa: BLE001  # it is reported to whoever asked, who decides
        reply = Message("failed", {"request": request, "error": type(error).__name__, "text": str(error)})
    return faults.spoil(fault, encode(reply))


__all__ = ["Worker", "WorkerFailed", "load_engine", "make_driver", "work"]

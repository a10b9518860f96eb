"""`ServerlessSquash`: put an index where functions find it, and search it by functions.

The coordinator's side. What functions do is in `worker.py`, what may go wrong and what follows in `gather.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.filters import per_query
from paperworks.papers.squash.serverless import deploy as deploying
from paperworks.papers.squash.serverless.batch import Outcomes, Settings, Share
from paperworks.papers.squash.serverless.cost import Estimate, Fleet, Workload, estimate
from paperworks.papers.squash.serverless.deploy import Deployment
from paperworks.papers.squash.serverless.drivers import Driver
from paperworks.papers.squash.serverless.errors import IncompleteSearch, ObjectMissing
from paperworks.papers.squash.serverless.node import Work, budget_s
from paperworks.papers.squash.serverless.prices import Prices
from paperworks.papers.squash.serverless.results import KeptResults
from paperworks.papers.squash.serverless.store import open_store
from paperworks.papers.squash.serverless.tree import Tree
from paperworks.papers.squash.serverless.worker import Worker, load_engine, make_driver
from paperworks.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchResult:
    """The answers to a batch: `distances, ids = result` when it is complete.

    distances (q, k) float32 ascending, ids (q, k) int64; inf and -1 where fewer than k rows match. wanted (q,) how many rows there
    are, min(k, matches). complete (q,) bool: every partition that the query needed has answered. missing (j, 2): query and partition
    of each answer that never came; reasons: why, by partition. stats: sums over all calls (cache_bytes_fetched, range_bytes, ...).
    """

    distances: np.ndarray
    ids: np.ndarray
    wanted: np.ndarray
    complete: np.ndarray
    missing: np.ndarray
    reasons: Mapping[int, str] = field(default_factory=dict)
    stats: Mapping[str, float] = field(default_factory=dict)

    @property
    def missing_partitions(self) -> list[int]:
        """Partitions that did not answer at least one query."""
        return sorted({int(partition) for partition in self.missing[:, 1]})

    @property
    def is_partial(self) -> bool:
        """True when an answer is missing somewhere; then look at `complete` before you use a row."""
        return bool((~self.complete).any())

    def __iter__(self) -> Iterator[np.ndarray]:
        """distances, ids. Raises IncompleteSearch for a partial result, so that it is not taken for a whole one by habit."""
        if self.is_partial:
            raise _incomplete(self, "this result is partial; read .distances and .ids together with .complete")
        return iter((self.distances, self.ids))


def _incomplete(result: BatchResult, advice: str) -> IncompleteSearch:
    partitions = result.missing_partitions
    listed = "; ".join(f"partition {number}: {result.reasons.get(number, 'unknown')}" for number in partitions[:5])
    more = f" and {len(partitions) - 5} more" if len(partitions) > 5 else ""
    return IncompleteSearch(
        f"{int((~result.complete).sum())} of {len(result.complete)} queries lack partitions ({listed}{more}); {advice}",
        partitions,
        dict(result.reasons),
    )


class ServerlessSquash:
    """A SQUASH index searched by short-lived functions, one partition a function.

    index: a folder that `SquashIndex.save` wrote, to be deployed; or where one is deployed already, such as "s3://bucket/prefix".
    executor: who runs functions: "threads" of this process (the default), "processes" of this machine, or Lithops by its configuration
    (a dict, the path of its YAML file, or a `lithops.FunctionExecutor`).
    store: where to deploy. Default: for threads and processes a folder beside the index; for Lithops its own bucket.
    fanout, depth: the tree of allocators (the paper's F and l). depth=0, the default, lets this process choose the partitions, which is
    right up to about a thousand functions.
    workers: threads or processes. timeout_s: of one attempt of a function. retries: further attempts of what failed.
    batch: queries prepared at once, None for 50 (threads, processes) or all (Lithops, where every start of a job costs a second).
    vectors: "retain" keeps full vectors in containers like the rest; "ranges" leaves them in the store and reads the rows that are
    refined, for partitions too large for a container's disk. A matter of the deployment: it counts when deploy() is called.
    keep_results: so many answers are kept, and given again to the same query with the same filter; off by default.
    memory_mb: of a function, None for what Lithops is configured with. storage_config: Lithops' configuration for an index in a bucket
    that threads or processes search.
    cache: {"root": ..., "max_bytes": ..., "verify": ...} of the files that containers keep.

    >>> import tempfile
    >>> from paperworks.papers.squash import SquashIndex
    >>> rows = np.random.default_rng(0).normal(size=(300, 8)).astype("f4")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = SquashIndex(n_partitions=2).build(rows).save(f"{folder}/idx")
    ...     with ServerlessSquash(f"{folder}/idx", cache={"root": f"{folder}/kept"}) as pool:
    ...         _ = pool.deploy()
    ...         distances, ids = pool.search_batch(rows[:3], k=1)
    >>> ids.ravel().tolist()
    [0, 1, 2]
    """

    def __init__(
        self,
        index: str | Path,
        executor: Any = "threads",
        *,
        store: str | Path | None = None,
        fanout: int = 4,
        depth: int = 0,
        workers: int = 2,
        timeout_s: float = 60.0,
        retries: int = 2,
        batch: int | None = None,
        cache: Mapping[str, Any] | None = None,
        memory_mb: int | None = None,
        keep_results: int = 0,
        storage_config: Mapping[str, Any] | None = None,
        vectors: str = "retain",
        engine: Any = None,
        plan: Any = None,
    ) -> None:
        self.tree = Tree(fanout, depth)
        self._kind = executor if executor in ("threads", "processes") else "lithops"
        self._settings = Settings(
            batch=batch or (1 << 20 if self._kind == "lithops" else 50), timeout_s=timeout_s, retries=retries
        )
        limit_s = budget_s(self._settings, self.tree, 1) if depth else timeout_s
        self.index = index
        spec: dict[str, Any] = {"kind": self._kind, "workers": workers}
        below = {"kind": "threads", "workers": workers + fanout}
        storage = None
        if self._kind == "lithops":
            from paperworks.papers.squash.serverless.lithops_driver import make_executor

            self._executor = make_executor(executor)
            self._own_executor = self._executor is not executor
            storage = self._executor.storage
            spec = {"kind": "lithops", "executor": self._executor, "memory_mb": memory_mb, "limit_s": limit_s}
            if depth:
                if not isinstance(executor, Mapping):
                    raise InputError(
                        "allocators start functions themselves: with depth > 0 give Lithops' configuration as a dict"
                    )
                below = {"kind": "lithops", "executor": dict(executor), "memory_mb": memory_mb, "limit_s": limit_s}
        elif self._kind == "threads" and depth:
            spec["workers"] = workers + fanout
        self._engine = load_engine("squash" if engine is None else engine, vectors)
        self._folder, location = _places(index, store, storage)
        self._setup: dict[str, Any] = {
            "location": location,
            "cache": dict(cache or {}),
            "engine": "squash" if engine is None else engine,
            "children": below,
            "storage_config": dict(storage_config) if storage_config else None,
        }
        if plan is not None:
            self._setup["plan"] = plan
        self._spec = spec
        self._storage = storage
        self.store = open_store(location, storage, self._setup["storage_config"])
        self._busy = threading.Lock()
        self._worker: Worker | None = None
        self._deployment: Deployment | None = None
        self._driver: Driver | None = None
        self._results = KeptResults(keep_results)
        self._last: dict[str, float] = {}

    def __enter__(self) -> ServerlessSquash:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop processes and what Lithops holds; the deployment stays."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None
        if self._kind == "lithops" and self._own_executor:
            self._executor.__exit__(None, None, None)

    @property
    def deployment(self) -> Deployment:
        """What is searched: the current deployment when it was first looked at; `refresh` looks again."""
        if self._deployment is None:
            self._deployment = deploying.find(self.store)
        return self._deployment

    def refresh(self) -> Deployment:
        """Follow the pointer to the newest deployment."""
        self._deployment = None
        return self.deployment

    def deploy(self, progress: Progress | None = None) -> Deployment:
        """Upload what the store lacks of the index, and search that from now on.

        Without a local folder: check that the store is whole. Raises InputError for a folder without an index, ObjectMissing for a
        store with a gap.
        """
        if self._folder is not None:
            self._deployment = deploying.deploy(self._folder, self.store, self._engine, progress=progress)
            return self._deployment
        deployment = self.refresh()
        if gaps := deploying.missing_objects(self.store, deployment):
            raise ObjectMissing(
                f"{len(gaps)} objects are missing or damaged, the first is {gaps[0]}; deploy from the index's folder"
            )
        return deployment

    def _coordinator(self) -> Worker:
        if self._worker is None:
            self._worker = Worker({**self._setup, "storage": self._storage})
        return self._worker

    def search_batch(
        self,
        queries: Any,
        filters: Any = None,
        k: int = 10,
        *,
        allow_partial: bool = False,
        threshold: float = 1.3,
        **search: Any,
    ) -> BatchResult:
        """The k nearest rows of each query among those that pass its filter.

        queries (q, d); filters: one for all or one a query, as `SquashIndex.search` takes them. threshold: the paper's T, inf for every
        partition with a match. search: what `SquashIndex.search` calls by the same name (T of lists, H, R, n_probe, reach, keep,
        exact; exact=True also visits every partition with a match).
        Partitions and candidates are decided before any function starts, so one pass finds k rows whenever there are k. What
        fails is asked again, alone. Raises IncompleteSearch when a partition never answers, unless allow_partial: then the
        result says which queries are whole.
        """
        begun = time.perf_counter()
        if search.get("exact"):
            threshold = float("inf")
        deployment = self.deployment
        coordinator = self._coordinator()
        shared = coordinator.shared(deployment)
        settings = replace(self._settings, k=k, threshold=float(threshold), search={})
        settings = replace(settings, search=shared.settings(k, search))
        prepared = shared.prepare(queries)
        each = per_query(filters, prepared.shape[0])
        for one in Share.of(prepared, each).filters:  # a filter that cannot be used is refused before anything starts
            shared.check(one)
        keys = self._results.keys(deployment.name, settings.to_json(), prepared, each)
        with self._busy:  # one batch at a time: a driver hands outcomes to whoever asks first
            kept = [self._results.get(key) for key in keys]
            asked = np.flatnonzero([one is None for one in kept])
            share = Share.of(prepared[asked], [each[query] for query in asked])
            if self._driver is None:
                self._driver = make_driver(self._spec, {**self._setup, "storage": self._storage})
            job = Work(deployment, lambda: shared, self._driver, settings, self.tree, self.tree.root)
            outcomes = self._with_kept(job.run(share, asked.size), asked, keys, kept, k)
        result = _result(outcomes, shared.finish(outcomes.distances, prepared), time.perf_counter() - begun)
        self._last = {**result.stats, "n_queries": float(asked.size)}
        if result.is_partial and not allow_partial:
            raise _incomplete(result, "ask again, or pass allow_partial=True to get what there is")
        return result

    def _with_kept(
        self,
        new: Outcomes,
        asked: np.ndarray,
        keys: list[bytes | None],
        kept: list[tuple[np.ndarray, np.ndarray, int] | None],
        k: int,
    ) -> Outcomes:
        """The outcomes of the queries that were asked, put among those whose answers were kept; whole new ones are kept."""
        if not self._results.size:
            return new
        size = len(keys)
        whole = Outcomes(
            np.full((size, k), np.inf, np.float32),
            np.full((size, k), -1, np.int64),
            np.zeros(size, np.int64),
            new.missing.copy(),
            new.reasons,
            {**new.stats, "results_kept": float(size - asked.size)},
        )
        whole.missing[:, 0] = asked[new.missing[:, 0]]
        whole.distances[asked], whole.ids[asked], whole.wanted[asked] = new.distances, new.ids, new.wanted
        for query, one in enumerate(kept):
            if one is not None:
                whole.distances[query], whole.ids[query], whole.wanted[query] = one
        for query in np.setdiff1d(asked, whole.missing[:, 0]).tolist():
            self._results.put(keys[query], whole.distances[query], whole.ids[query], int(whole.wanted[query]))
        return whole

    def estimate(
        self,
        n_queries: int,
        *,
        prices: Prices | None = None,
        fleet: Fleet | None = None,
        k: int = 10,
        visited: float | None = None,
    ) -> Estimate:
        """Time and money for a batch of `n_queries` with this tree and deployment, see `cost.estimate`.

        visited: partitions a query goes to; default what the last batch did, or all. fleet: default Fleet.lithops_on_aws() for Lithops.
        """
        deployment = self.deployment
        n_partitions = len(deployment.partitions)
        if visited is None:
            visited = float(n_partitions)
            if self._last.get("n_queries") and self._last.get("queries_searched"):
                visited = min(visited, self._last["queries_searched"] / self._last["n_queries"])
        work = Workload(
            n_queries=n_queries,
            n_partitions=n_partitions,
            visited=visited,
            dimension=int(deployment.facts.get("dimension", 1)),
            k=k,
            batch=min(self._settings.batch, n_queries),
        )
        if fleet is None:
            fleet = Fleet.lithops_on_aws() if self._kind == "lithops" else Fleet()
        return estimate(work, self.tree, fleet, prices)


def _places(index: str | Path, store: str | Path | None, storage: Any) -> tuple[Path | None, str]:
    """The local folder of the index, if that is what was given, and the location of the store."""
    remote = "://" in str(index) and not str(index).startswith("file://")
    if remote:
        if store is not None and str(store) != str(index):
            raise InputError(f"the index at {index} is deployed already; to move it, deploy it from its folder")
        return None, str(index)
    folder = Path(str(index).removeprefix("file://"))
    if store is not None:
        return folder, str(store)
    if storage is not None:
        return folder, f"lithops://{storage.bucket}/paperworks-squash/{folder.resolve().name}"
    return folder, str(folder.resolve().with_name(folder.resolve().name + ".deployed"))


def _result(outcomes: Outcomes, distances: np.ndarray, seconds: float) -> BatchResult:
    n_queries = outcomes.ids.shape[0]
    return BatchResult(
        distances=distances,
        ids=outcomes.ids,
        wanted=outcomes.wanted,
        complete=~np.isin(np.arange(n_queries), outcomes.missing[:, 0]),
        missing=outcomes.missing,
        reasons=outcomes.reasons,
        stats={**outcomes.stats, "seconds": seconds},
    )

"""Measurements on functions: on a user's cloud at scale gpu, on threads of this process with made vectors at smoke scale.

At scale gpu the data folder must hold `squash/lithops.yaml` (the cloud), `squash/rival.json` (what the rival did on the same
queries, `{"sift10m": {"qps": 15.0, "dollars": 9e-5}}`), and for each data set named there a folder `squash/<name>/` with
`vectors.npy` and `queries.npy`. Attributes are four uniform numbers, drawn from the seed, as in the paper.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.claims import Run
from paperworks.errors import InputError
from paperworks.papers.squash import toy, trials
from paperworks.papers.squash.filters import Attr, Filter
from paperworks.papers.squash.index import SquashIndex
from paperworks.papers.squash.serverless.client import ServerlessSquash

K = 10
SHARE = 0.08
TREES = {10: (10, 1), 20: (4, 2), 84: (4, 3), 155: (5, 3), 258: (6, 3)}  # allocators: fan-out and depth


@dataclass(frozen=True)
class Batch:
    """One data set: queries a second and dollars a query, ours and the rival's."""

    qps: float
    dollars: float
    rival_qps: float
    rival_dollars: float


@dataclass(frozen=True)
class _Set:
    vectors: np.ndarray
    queries: np.ndarray
    n_partitions: int


def on_this_machine() -> dict[str, Any]:
    """A configuration of Lithops that runs functions as processes of this machine."""
    return {
        "lithops": {"backend": "localhost", "storage": "localhost", "monitoring_interval": 0.1, "log_level": "WARNING"},
        "localhost": {"runtime": sys.executable},
    }


def note(run: Run) -> str:
    """What stands for what."""
    if run.scale == "smoke":
        return "made vectors on threads of one process; a NumPy scan stands for the rival, so the number says nothing"
    return "the rival's figures are those of squash/rival.json, the prices the bundled list"


def batches(run: Run) -> dict[str, Batch]:
    """All data sets, each searched twice by functions; the second batch counts, when containers are warm."""
    rivals = _rivals(run)
    found = {}
    for done, (name, rival) in enumerate(rivals.items()):
        data = _data(run, name)
        filters, _ = _filters(run, len(data.vectors), len(data.queries))
        with _deployed(run, data) as (pool, attributes):
            pool.search_batch(data.queries, filters, K)
            result = pool.search_batch(data.queries, filters, K)
            estimate = pool.estimate(len(data.queries), k=K)
            qps = len(data.queries) / float(result.stats["seconds"])
        if rival is None:
            begun = time.perf_counter()
            _scan(data, filters, attributes)
            rival = {"qps": len(data.queries) / (time.perf_counter() - begun), "dollars": 10 * estimate.cost_per_query}
        found[name] = Batch(qps, estimate.cost_per_query, float(rival["qps"]), float(rival["dollars"]))
        run.progress(done + 1, len(rivals), name)
    return found


def by_allocators(run: Run) -> dict[int, float]:
    """Milliseconds a query of a warm batch by the number of allocators, on SIFT1M."""
    data = _data(run, "sift1m")
    filters, _ = _filters(run, len(data.vectors), len(data.queries))
    times = {}
    for n_allocators, (fanout, depth) in (TREES if run.scale != "smoke" else {n: TREES[n] for n in (10, 155)}).items():
        with _deployed(run, data, fanout=fanout, depth=depth) as (pool, _):
            pool.search_batch(data.queries, filters, K)
            result = pool.search_batch(data.queries, filters, K)
            times[n_allocators] = 1000 * float(result.stats["seconds"]) / len(data.queries)
        run.progress(len(times), len(TREES), f"{n_allocators} allocators")
    return times


def _rivals(run: Run) -> dict[str, dict[str, float] | None]:
    if run.scale == "smoke":
        return {"made": None}
    path = run.data.path("squash/rival.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): {"qps": float(one["qps"]), "dollars": float(one["dollars"])} for name, one in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f'{path} must hold {{"<data set>": {{"qps": number, "dollars": number}}}} in JSON: {error}'
        ) from error


def _data(run: Run, name: str) -> _Set:
    if run.scale == "smoke":
        vectors, queries, _ = toy.clustered(run.rng, 1500, 24, n_queries=24)
        return _Set(vectors, queries, 3)
    folder = run.data.path(f"squash/{name}")
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    return _Set(vectors, np.load(folder / "queries.npy"), 20 if vectors.shape[1] > 500 else 10)


def _attributes(run: Run, n: int) -> dict[str, np.ndarray]:
    return toy.uniform_attributes(np.random.default_rng(run.seed + 2), n)


def _filters(run: Run, n: int, n_queries: int) -> tuple[list[Filter], list[list[tuple[float, float]]]]:
    """Four ranges a query that 8 % of the rows pass together, and their ends."""
    rng = np.random.default_rng(run.seed + 3)
    width = SHARE ** (1 / 4)
    filters, ends = [], []
    for _ in range(n_queries):
        lows = rng.uniform(0, 1 - width, 4)
        one: Filter | None = None
        for j, low in enumerate(lows):
            part = Attr(f"a{j}").between(float(low), float(low + width))
            one = part if one is None else one & part
        assert one is not None
        filters.append(one)
        ends.append([(float(low), float(low + width)) for low in lows])
    return filters, ends


@contextmanager
def _deployed(run: Run, data: _Set, **tree: int) -> Iterator[tuple[ServerlessSquash, dict[str, np.ndarray]]]:
    """An index of the set, deployed where the scale says, and its attributes."""
    attributes = _attributes(run, len(data.vectors))
    executor: Any = "threads" if run.scale == "smoke" else str(run.data.path("squash/lithops.yaml"))
    if run.scale != "smoke" and tree:
        import yaml  # type: ignore[import-untyped]  # allocators start functions themselves, and need the configuration as a dict

        executor = yaml.safe_load(Path(executor).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        index = SquashIndex(n_partitions=data.n_partitions, random_state=run.seed)
        index.build(data.vectors, attributes=attributes).save(Path(folder) / "index")
        store = {"store": Path(folder) / "store"} if run.scale == "smoke" else {}
        with ServerlessSquash(Path(folder) / "index", executor, **store, **tree) as pool:  # type: ignore[arg-type]
            pool.deploy(run.progress)
            yield pool, attributes


def _scan(data: _Set, filters: list[Filter], attributes: dict[str, np.ndarray]) -> None:
    """What stands for a rival at smoke scale: every query by a plain scan of all rows."""
    everything = trials.World(data.vectors, data.queries, attributes)
    rows = np.ones(everything.n, dtype=bool)
    for query, _ in zip(data.queries, filters, strict=True):
        trials.nearest(everything, query, rows, K)

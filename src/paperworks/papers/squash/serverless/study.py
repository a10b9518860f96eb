"""Measurements of the serverless layer: what a warm container saves, and what a launch tree saves. `reproduce.py` calls them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.papers.squash.serverless.batch import Settings, Share
from paperworks.papers.squash.serverless.client import ServerlessSquash
from paperworks.papers.squash.serverless.deploy import DeployedPiece, Deployment, list_key
from paperworks.papers.squash.serverless.node import Work
from paperworks.papers.squash.serverless.store import FolderStore
from paperworks.papers.squash.serverless.tree import Tree
from paperworks.papers.squash.serverless.worker import make_driver


def launch_time(tree: Tree, launch_s: float) -> float:
    """Seconds until every allocator of `tree` was started, had nothing to do and its answer is back, when each launch takes `launch_s`.

    The allocators are the real ones, run as threads, with a batch of no queries: what is timed is starting and collecting.
    """
    with tempfile.TemporaryDirectory(prefix="squash-launch-") as folder:
        store = FolderStore(Path(folder) / "store")
        nothing = Deployment(DeployedPiece({}, 0), [], {})
        store.put(list_key(nothing.name), nothing.to_bytes())
        spec = {"kind": "threads", "workers": tree.fanout, "launch_s": launch_s}
        setup = {"location": str(store.root), "cache": {"root": str(Path(folder) / "kept")}, "children": spec}
        driver = make_driver(spec, setup)
        try:
            job = Work(nothing, _never, driver, Settings(retries=0, timeout_s=600.0), tree, tree.root)
            share = Share(np.arange(0), np.empty((0, 1), np.float32), [], np.empty(0, np.int64))
            begun = time.perf_counter()
            outcomes = job.run(share, 0)
            seconds = time.perf_counter() - begun
        finally:
            driver.close()
    if outcomes.stats["n_calls"] != tree.n_allocators or outcomes.reasons:
        raise RuntimeError(
            f"{outcomes.stats['n_calls']:g} of {tree.n_allocators} allocators were started: {outcomes.reasons}"
        )
    return seconds


def _never() -> Any:
    raise AssertionError("a batch of no queries opens nothing")


def measure_tree_launch(
    launch_s: float = 0.05, fanout: int = 4, depth: int = 3, repeats: int = 3
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The claim `tree-launch`: as many allocators started as a tree and from one place, a fixed delay a launch.

    -> values flat_over_tree_time, tree_s, flat_s (medians of `repeats`, taken in turns), n_functions, expected_ratio = N / (l F);
    series: the single times by name.
    """
    tree = Tree(fanout, depth)
    flat = Tree(tree.n_allocators, 1)
    times: dict[str, list[float]] = {"tree": [], "flat": []}
    for _ in range(repeats):
        times["tree"].append(launch_time(tree, launch_s))
        times["flat"].append(launch_time(flat, launch_s))
    tree_s, flat_s = float(np.median(times["tree"])), float(np.median(times["flat"]))
    values = {
        "flat_over_tree_time": flat_s / tree_s,
        "tree_s": tree_s,
        "flat_s": flat_s,
        "n_functions": float(tree.n_allocators),
        "expected_ratio": tree.flat_steps() / tree.launch_steps(),
    }
    return values, times


def measure_retention(
    index: str | Path,
    queries: np.ndarray,
    filters: Any = None,
    k: int = 10,
    *,
    executor: Any = "processes",
    batches: int = 2,
    options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The claim `retention`: the same batch again, on functions whose containers live on.

    index: a folder of a saved index; it is deployed to a temporary store, and containers begin with nothing. executor: as in
    `ServerlessSquash`; with Lithops' localhost backend each call is a fresh process and only the container's files are warm.
    options: more of `ServerlessSquash`'s. -> values cold_bytes (first batch), warm_bytes (all later ones together), answers_differ
    (queries whose rows or distances changed), cold_s, warm_s (median); series: bytes and seconds of each batch.
    """
    with tempfile.TemporaryDirectory(prefix="squash-retention-") as folder:
        given = {"store": Path(folder) / "store", "cache": {"root": str(Path(folder) / "kept")}, **(options or {})}
        n_bytes, seconds, answers = [], [], []
        with ServerlessSquash(index, executor, **given) as pool:
            pool.deploy()
            for _ in range(max(batches, 2)):
                result = pool.search_batch(queries, filters, k)
                answers.append(tuple(result))
                stats = result.stats
                n_bytes.append(float(stats.get("cache_bytes_fetched", 0.0) + stats.get("range_bytes", 0.0)))
                seconds.append(float(stats["seconds"]))
        (distances, ids), later = answers[0], answers[1:]
        differ = np.zeros(ids.shape[0], np.bool_)
        for other_distances, other_ids in later:
            differ |= (other_ids != ids).any(axis=1) | (other_distances != distances).any(axis=1)
    values = {
        "cold_bytes": n_bytes[0],
        "warm_bytes": float(sum(n_bytes[1:])),
        "answers_differ": float(differ.sum()),
        "cold_s": seconds[0],
        "warm_s": float(np.median(seconds[1:])),
    }
    return values, {"bytes": n_bytes, "seconds": seconds}

"""Compile every kernel once, so that the first query after an install does not wait.

numba keeps what it compiled beside the package (or in NUMBA_CACHE_DIR). `warm` walks through a small index in memory and from
disk, with each kind of filter, alone and in a batch.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from paperworks.papers.squash.filters import Attr, Filter
from paperworks.papers.squash.index import SquashIndex
from paperworks.progress import Progress, silent


def warm(progress: Progress | None = None) -> float:
    """Run everything once on made-up data; returns the seconds it took (a minute or two at first, then one or two)."""
    report = progress or silent
    started = time.perf_counter()
    rng = np.random.default_rng(0)
    n, d = 600, 32
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    attributes = {
        "number": rng.integers(0, 10**6, n),
        "few": rng.integers(0, 5, n),
        "labels": [[f"l{i}" for i in rng.integers(0, 90, 2)] for _ in range(n)],
    }
    steps = [("l2", "random", "residual"), ("cosine", "random", "residual"), ("ip", "random", "residual")]
    steps.append(("l2", "pca", "hamming"))
    for done, (metric, rotation, first_pass) in enumerate(steps):
        index = SquashIndex(metric=metric, sign_rotation=rotation, first_pass=first_pass, n_lists=8)
        index.build(vectors, attributes)
        with tempfile.TemporaryDirectory(prefix="squash-") as folder:
            index.save(Path(folder) / "index")
            _use(SquashIndex.load(Path(folder) / "index"), vectors)
        _use(index, vectors)
        report(done + 1, len(steps), metric)
    return time.perf_counter() - started


def _use(index: SquashIndex, vectors: np.ndarray) -> None:
    number, few, labels = Attr("number"), Attr("few"), Attr("labels")
    filters: list[Filter | None] = [
        None,
        number.between(1000, 800_000) & (few != 3),
        few.isin([0, 2]) | ~labels.contains("l3"),
        number < 2000,
        labels.contains_any(["l1", "l80", "l89"]),
    ]
    for one in filters:
        index.search(vectors[0], k=5, filter=one)
        index.search(vectors[:6], k=5, filter=one)
        index.search(vectors[:2], k=5, filter=one, exact=True)
        index.search(vectors[:2], k=5, filter=one, H=20.0, R=2.0)
        index.count(one)
    index.search(vectors[:6], k=5, filter=np.arange(len(vectors)) % 2 == 0)
    index.search(vectors[0], k=5, filter=[1, 5, 7])
    index.search(vectors[:5], k=5, filter=filters)
    added = index.add(vectors[:3], {"number": [1, 2, None], "few": [0, 1, 2], "labels": [["l1"], None, []]})
    index.search(vectors[:2], k=5, filter=filters[1])
    index.delete(added[:2])
    index.search(vectors[:2], k=5)

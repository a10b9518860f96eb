"""Made vectors with clusters and a decaying spectrum, and typed attributes beside them: the small world of tests and claims.

`n` rows, `d` dimensions. Everything follows from the generator passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.papers.squash.transform import random_rotation

CATEGORIES = ("cs.CL", "cs.CV", "cs.LG", "cs.RO", "stat.ML")
LABELS = ("audio", "code", "graphs", "images", "text", "video")


@dataclass(frozen=True)
class ToyData:
    """vectors (n, d) and held-out queries (n_queries, d) float32 of the same law; clusters (n,) int64; attributes by name."""

    vectors: np.ndarray
    queries: np.ndarray
    clusters: np.ndarray
    attributes: dict[str, Any]


def clustered(
    rng: np.random.Generator,
    n: int = 2000,
    d: int = 32,
    *,
    n_queries: int = 50,
    n_clusters: int = 20,
    decay: float = 0.7,
    spread: float = 0.7,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian clusters whose variance falls as (1 + j) ** -decay along hidden axes, turned at random.

    spread: standard deviation inside a cluster over that between clusters. Returns vectors (n, d) float32, queries
    (n_queries, d) float32 (fresh draws, never rows of the vectors) and the cluster of each vector (n,) int64.
    """
    scale = np.sqrt((1.0 + np.arange(d)) ** -decay)
    rotation = random_rotation(d, rng)
    centres = (rng.standard_normal((n_clusters, d)) * scale).astype(np.float32)
    clusters = rng.integers(0, n_clusters, n + n_queries)
    rows = rng.standard_normal((n + n_queries, d), dtype=np.float32)
    rows *= (spread * scale).astype(np.float32)
    rows += centres[clusters]
    rows = rows @ rotation
    return rows[:n], rows[n:], clusters[:n]


def uniform_attributes(rng: np.random.Generator, n: int, count: int = 4) -> dict[str, np.ndarray]:
    """The paper's setting: `count` independent uniform numbers a0, a1, ... in [0, 1), float32 (n,)."""
    return {f"a{j}": rng.random(n, dtype=np.float32) for j in range(count)}


def typed_attributes(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """One column of every kind a user may bring, with missing values where the kind has them.

    year int64 (12 values); citations int64 (half of them 0, a long tail); score float64, 5 % NaN; category text, 2 % None;
    open bool; date datetime64[D] over three years, 1 % NaT; stamp int64 nanoseconds above 2**53; labels sets of 0 to 3 texts,
    2 % None.
    """
    tail = np.floor(rng.pareto(1.2, n) * 5).clip(max=1e6).astype(np.int64)
    score = rng.normal(size=n)
    score[rng.random(n) < 0.05] = np.nan
    date = np.datetime64("2023-01-01") + rng.integers(0, 3 * 365, n).astype("timedelta64[D]")
    date[rng.random(n) < 0.01] = np.datetime64("NaT")
    names = rng.choice(CATEGORIES, n, p=[0.2, 0.3, 0.35, 0.1, 0.05])
    category = np.array([None if gone else str(name) for name, gone in zip(names, rng.random(n) < 0.02, strict=True)])
    sizes, gone = rng.integers(0, 4, n), rng.random(n) < 0.02
    labels = [
        None if gone[i] else {str(label) for label in rng.choice(LABELS, sizes[i], replace=False)} for i in range(n)
    ]
    return {
        "year": rng.integers(2014, 2026, n),
        "citations": np.where(rng.random(n) < 0.5, 0, tail),
        "score": score,
        "category": category,
        "open": rng.random(n) < 0.4,
        "date": date,
        "stamp": 1_700_000_000_000_000_000 + rng.integers(0, 1_000_000_000, n),
        "labels": labels,
    }


def dataset(rng: np.random.Generator, n: int = 2000, d: int = 32, *, n_queries: int = 50, **shape: Any) -> ToyData:
    """Clustered vectors, queries and typed attributes together. `shape` goes to `clustered`."""
    vectors, queries, clusters = clustered(rng, n, d, n_queries=n_queries, **shape)
    return ToyData(vectors, queries, clusters, typed_attributes(rng, n))

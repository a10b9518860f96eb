"""Data, filters and truth of the SQUASH benchmark: real papers or made clusters, held-out queries, exact filtered neighbours.

A filter is a small tree of `Range`, `IsIn`, `HasAny`, `And` and `Or`, which `squash_peers.py` says in each system's own words.
Everything is drawn from a seed; what is costly (the made set, the truth) is kept in a cache folder.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

SELECTIVITIES = (1.0, 0.5, 0.08, 0.01, 0.001)
K = 10


@dataclass(frozen=True, slots=True)
class Range:
    """low <= attribute <= high."""

    attribute: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class IsIn:
    """attribute is one of these words."""

    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HasAny:
    """The set of labels holds at least one of these."""

    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Predicate, ...]


Predicate = Range | IsIn | HasAny | And | Or


@dataclass(frozen=True)
class DataSet:
    """X float32 (n, d) and Q float32 (q, d), compared by L2; columns: numbers int64/float64 (n,), words object (n,)."""

    name: str
    X: np.ndarray
    Q: np.ndarray
    columns: dict[str, np.ndarray]
    labels: dict[str, list[tuple[str, ...]]]
    _kept: dict[str, tuple] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> str:
        return f"{len(self.X):,} x {self.X.shape[1]}"

    def coded(self, name: str) -> tuple[np.ndarray, dict[str, int]]:
        """Codes int32 (n,) of a column of words, and the code of each word."""
        if name not in self._kept:
            words, codes = np.unique(self.columns[name].astype("U"), return_inverse=True)
            self._kept[name] = codes.astype(np.int32), {str(word): at for at, word in enumerate(words)}
        return self._kept[name]

    def coded_labels(self, name: str) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """Codes int32 (m,) of all labels of all rows, the row of each int64 (m,), and the code of each label."""
        if name not in self._kept:
            rows = np.repeat(np.arange(len(self.X)), [len(row) for row in self.labels[name]])
            words, codes = np.unique([label for row in self.labels[name] for label in row], return_inverse=True)
            self._kept[name] = codes.astype(np.int32), rows, {str(word): at for at, word in enumerate(words)}
        return self._kept[name]


@dataclass(frozen=True)
class Workload:
    """Queries of one selectivity, each with its own filter (None: none), and their true neighbours."""

    selectivity: float
    queries: np.ndarray  # float32 (q, d)
    filters: list[Predicate | None]
    truth: np.ndarray  # int64 (q, K), -1 where fewer match
    farthest: np.ndarray  # float64 (q,), squared distance of the last true neighbour
    matching: np.ndarray  # int64 (q,), rows that pass


# -- the two sets ---------------------------------------------------------------------------------------------------


def arxiv(folder: Path, n_held_out: int = 1000, seed: int = 0) -> DataSet:
    """59,000 paper embeddings of 384 dimensions with real attributes; 1,000 others, set aside by chance, are the queries."""
    X = np.load(folder / "minilm.f16.npy").astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    with lzma.open(folder / "papers.jsonl.xz", "rt", encoding="utf-8") as file:
        papers = [json.loads(line) for line, _ in zip(file, range(len(X)), strict=False)]
    aside = np.zeros(len(X), dtype=bool)
    aside[np.random.default_rng(seed).choice(len(X), n_held_out, replace=False)] = True
    kept = [paper for paper, out in zip(papers, aside, strict=True) if not out]
    columns: dict[str, np.ndarray] = {
        "day": np.array([date.fromisoformat(paper["date"]).toordinal() for paper in kept], dtype=np.int64),
        "authors": np.array([len(paper["authors"]) for paper in kept], dtype=np.int64),
        "length": np.array([len(paper["abstract"]) for paper in kept], dtype=np.int64),
        "category": np.array([paper["categories"][0] for paper in kept], dtype=object),
    }
    labels = {"categories": [tuple(paper["categories"]) for paper in kept]}
    return DataSet("arxiv", X[~aside], X[aside], columns, labels)


def clustered(n: int = 1_000_000, d: int = 128, n_held_out: int = 1000, seed: int = 0) -> DataSet:
    """Unequal overlapping clusters on curved sheets of 16 dimensions plus noise, four uniform numbers, a skewed category.

    An inverted file of 1,024 lists must read some ten of them for a recall of 0.95, as on descriptors of pictures.
    """
    rng = np.random.default_rng(seed)
    total, n_clusters, inner = n + n_held_out, max(2, n // 500), 16
    decay = 0.985 ** np.arange(d, dtype=np.float32)
    centres = 0.7 * rng.standard_normal((n_clusters, d)).astype(np.float32) * decay
    cluster = rng.choice(n_clusters, total, p=rng.dirichlet(np.ones(n_clusters)))
    order, ends = np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster, minlength=n_clusters))
    X = np.empty((total, d), dtype=np.float32)
    for at, rows in enumerate(np.split(order, ends[:-1])):
        sheets = rng.standard_normal((inner, d)).astype(np.float32) * decay / np.sqrt(inner)
        X[rows] = centres[at] + np.tanh(rng.standard_normal((len(rows), inner)).astype(np.float32)) @ sheets
    X += 0.3 * decay * rng.standard_normal(X.shape, dtype=np.float32)
    words = np.array([f"c{i:02d}" for i in range(40)], dtype=object)
    skew = 1 / np.arange(1, 41)
    columns: dict[str, np.ndarray] = {
        **{name: rng.random(n, dtype=np.float32).astype(np.float64) for name in ("a", "b", "c")},
        "stamp": rng.integers(1_500_000_000, 1_800_000_000, n),
        "category": words[rng.choice(40, n, p=skew / skew.sum())],
    }
    return DataSet("clustered", X[:n], X[n:], columns, {})


def cached(cache: Path, name: str, make: Callable[[], DataSet]) -> DataSet:
    """The set from the cache folder, memory-mapped, made there first if need be."""
    folder = cache / name
    if not (folder / "done").exists():
        made = make()
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "X.npy", made.X)
        np.save(folder / "Q.npy", made.Q)
        for key, column in made.columns.items():
            np.save(folder / f"column-{key}.npy", column.astype("U") if column.dtype == object else column)
        (folder / "labels.json").write_text(json.dumps(made.labels))
        (folder / "done").write_text("")
    columns = {path.stem.removeprefix("column-"): np.load(path) for path in sorted(folder.glob("column-*.npy"))}
    columns = {key: column.astype(object) if column.dtype.kind == "U" else column for key, column in columns.items()}
    labels = {
        key: [tuple(row) for row in rows] for key, rows in json.loads((folder / "labels.json").read_text()).items()
    }
    return DataSet(name, np.load(folder / "X.npy", mmap_mode="r"), np.load(folder / "Q.npy"), columns, labels)


# -- filters --------------------------------------------------------------------------------------------------------


def mask_of(data: DataSet, predicate: Predicate | None) -> np.ndarray:
    """bool (n,): the plain meaning of a filter, which truth and checks go by."""
    match predicate:
        case None:
            return np.ones(len(data.X), dtype=bool)
        case Range(attribute, low, high):
            column = data.columns[attribute]
            inside: np.ndarray = (column >= low) & (column <= high)
            return inside
        case IsIn(attribute, values):
            codes, words = data.coded(attribute)
            return _table(words, values)[codes]
        case HasAny(attribute, values):
            codes, rows, words = data.coded_labels(attribute)
            found = np.zeros(len(data.X), dtype=bool)
            found[rows[_table(words, values)[codes]]] = True
            return found
        case And(parts):
            return np.logical_and.reduce([mask_of(data, part) for part in parts])
        case Or(parts):
            return np.logical_or.reduce([mask_of(data, part) for part in parts])


def _table(words: dict[str, int], values: Sequence[str]) -> np.ndarray:
    """bool (words,): which codes are wanted."""
    wanted = np.zeros(len(words), dtype=bool)
    wanted[[words[value] for value in values if value in words]] = True
    return wanted


def random_filter(data: DataSet, selectivity: float, rng: np.random.Generator) -> Predicate | None:
    """A filter that about this share of the rows pass: a range, a conjunction with words or ranges, or an OR of two.

    The other conjuncts are drawn first; then a range over one number is placed among the rows that pass them so that the
    wanted count is left. Ties make the count a little larger.
    """
    if selectivity >= 1:
        return None
    n = len(data.X)
    wanted = max(K, round(selectivity * n))
    numbers = [name for name, column in data.columns.items() if column.dtype != object]
    for _ in range(200):
        shape = rng.choice(["range", "words", "ranges", "or", "labels"])
        if shape == "or":
            halves = [_placed(data, [], str(rng.choice(numbers)), wanted // 2 + 1, rng) for _ in range(2)]
            if all(halves) and len({half.attribute for half in halves if isinstance(half, Range)}) == 2:
                return Or(tuple(half for half in halves if half is not None))
            continue
        others: list[Predicate] = []
        if shape == "words":
            count = int(rng.integers(1, 6))
            others.append(IsIn("category", tuple(sorted(set(rng.choice(data.columns["category"], count).tolist())))))
        elif shape == "labels":
            if not data.labels:
                continue
            name = next(iter(data.labels))
            rows = rng.integers(0, n, int(rng.integers(1, 3)))
            others.append(HasAny(name, tuple(sorted({data.labels[name][row][-1] for row in rows}))))
        elif shape == "ranges":
            rest = [name for name, column in data.columns.items() if column.dtype != object]
            width = selectivity ** (1 / 3)
            for name in rng.choice(rest, 2, replace=False):
                drawn = _placed(data, [], str(name), round(width * n), rng)
                if drawn is not None:
                    others.append(drawn)
        used = {part.attribute for part in others if isinstance(part, Range)}
        free = [name for name in numbers if name not in used]
        if not free:
            continue
        last = _placed(data, others, str(rng.choice(free)), wanted, rng)
        if last is not None:
            return And((*others, last)) if others else last
    raise RuntimeError(f"no filter of selectivity {selectivity} was found for {data.name}")


def _placed(
    data: DataSet, others: Sequence[Predicate], name: str, wanted: int, rng: np.random.Generator
) -> Range | None:
    """A range over `name` that `wanted` of the rows passing `others` lie in; None if ties or too few rows forbid it."""
    column = data.columns[name]
    passing = np.sort(column[mask_of(data, And(tuple(others)))]) if others else _sorted(data, name)
    if len(passing) < wanted:
        return None
    start = int(rng.integers(0, len(passing) - wanted + 1))
    low, high = passing[start], passing[start + wanted - 1]
    count = int(np.searchsorted(passing, high, "right") - np.searchsorted(passing, low, "left"))
    if not 0.7 * wanted <= count <= 1.4 * wanted:
        return None
    return Range(name, low.item(), high.item())


_orders: dict[tuple[str, str, int], np.ndarray] = {}


def _sorted(data: DataSet, name: str) -> np.ndarray:
    key = (data.name, name, len(data.X))
    if key not in _orders:
        _orders[key] = np.sort(data.columns[name])
    return _orders[key]


# -- truth ----------------------------------------------------------------------------------------------------------


def workload(
    data: DataSet, selectivity: float, n_queries: int, cache: Path | None = None, seed: int = 1, share: int = 1
) -> Workload:
    """Held-out queries with a filter each (or one for every `share` of them), and the truth by an exact scan."""
    rng = np.random.default_rng([seed, round(selectivity * 1000)])
    queries = data.Q[:n_queries]
    kept = cache / data.name / f"truth-{selectivity:g}-{n_queries}-{seed}-{share}.npz" if cache is not None else None
    drawn = [random_filter(data, selectivity, rng) for _ in range(0, len(queries), share)]
    filters = [drawn[at // share] for at in range(len(queries))]
    if kept is not None and kept.exists():
        with np.load(kept) as file:
            return Workload(selectivity, queries, filters, file["truth"], file["farthest"], file["matching"])
    truth = np.full((len(queries), K), -1, dtype=np.int64)
    farthest, matching = np.full(len(queries), np.inf), np.zeros(len(queries), dtype=np.int64)
    squares = np.einsum("ij,ij->i", data.X, data.X)
    scores = None
    for at, (query, predicate) in enumerate(zip(queries, filters, strict=True)):
        rows = np.flatnonzero(mask_of(data, predicate))
        if len(rows) > 0.3 * len(data.X):
            scores = (squares - 2 * (data.X @ query))[rows]
        else:
            scores = squares[rows] - 2 * (data.X[rows] @ query)
        best = np.argpartition(scores, min(3 * K, len(rows)) - 1)[: 3 * K]
        exact = ((data.X[rows[best]].astype(np.float64) - query) ** 2).sum(axis=1)
        order = np.argsort(exact, kind="stable")[:K]
        truth[at, : len(order)] = rows[best[order]]
        farthest[at] = exact[order[-1]] if len(rows) >= K else np.inf
        matching[at] = len(rows)
    if kept is not None:
        np.savez(kept, truth=truth, farthest=farthest, matching=matching)
    return Workload(selectivity, queries, filters, truth, farthest, matching)


@dataclass(frozen=True, slots=True)
class Score:
    recall: float
    violations: int  # rows that break their filter
    missing: int  # rows too few


def score(data: DataSet, work: Workload, found: Sequence[np.ndarray], start: int = 0) -> Score:
    """Recall at K by distance, so that equal distances count; found: ids of each query from `start` on, -1 padded."""
    hits = wanted = violations = missing = 0
    for at, ids in enumerate(found, start):
        ids = np.unique(ids[ids >= 0])
        real = min(K, int(work.matching[at]))
        distances = ((data.X[ids].astype(np.float64) - work.queries[at]) ** 2).sum(axis=1)
        good = _passes(data, work.filters[at], ids)
        violations += int((~good).sum())
        missing += max(0, real - len(ids))
        hits += min(real, int((good & (distances <= work.farthest[at] * (1 + 1e-6) + 1e-9)).sum()))
        wanted += real
    return Score(hits / max(1, wanted), violations, missing)


def _passes(data: DataSet, predicate: Predicate | None, ids: np.ndarray) -> np.ndarray:
    part = DataSet(
        data.name,
        data.X[ids],
        data.Q,
        {name: column[ids] for name, column in data.columns.items()},
        {name: [rows[i] for i in ids] for name, rows in data.labels.items()},
    )
    return mask_of(part, predicate)

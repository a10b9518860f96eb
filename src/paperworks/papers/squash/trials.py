"""What the claims are measured on: vectors with attributes, held-out queries, random filters, and the truth by plain NumPy.

`n` rows, `d` dimensions, `q` queries. Nothing here uses the index: a filter is drawn together with the rows where it is true and
where it is false (missing values are neither), so that an index that misreads a filter is found out.
"""

from __future__ import annotations

import datetime
import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.claims import Run
from paperworks.papers.squash import toy
from paperworks.papers.squash.filters import Attr, Filter

N_QUERIES = 500


@dataclass(frozen=True)
class World:
    """vectors (n, d) and queries (q, d) float32, attributes by name; queries are never rows of the vectors."""

    vectors: np.ndarray
    queries: np.ndarray
    attributes: dict[str, Any]

    @property
    def n(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class Drawn:
    """A filter with the rows where it is true, and where it is false; both bool (n,)."""

    filter: Filter
    true: np.ndarray
    false: np.ndarray

    def __and__(self, other: Drawn) -> Drawn:
        return Drawn(self.filter & other.filter, self.true & other.true, self.false | other.false)

    def __or__(self, other: Drawn) -> Drawn:
        return Drawn(self.filter | other.filter, self.true | other.true, self.false & other.false)

    def __invert__(self) -> Drawn:
        return Drawn(~self.filter, self.false, self.true)


def world(run: Run, rows: int | None = None) -> World:
    """Toy vectors with one attribute of every kind at smoke scale; else paper embeddings with their own attributes.

    rows: as many at most, the queries beside them. The queries, and which rows are kept, follow from the run's seed.
    Raises DataMissing when the papers are not on this machine.
    """
    if run.scale == "smoke":
        made = toy.dataset(run.rng, n=rows or 2500, d=48, n_queries=60)
        return World(made.vectors, made.queries, made.attributes)
    vectors = np.load(run.data.path("arxiv/minilm.f16.npy")).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with lzma.open(run.data.path("arxiv/papers.jsonl.xz"), "rt", encoding="utf-8") as file:
        papers = [json.loads(line) for line, _ in zip(file, range(len(vectors)), strict=False)]
    order = run.rng.permutation(len(vectors))
    aside, kept = order[:N_QUERIES], np.sort(order[N_QUERIES:][:rows])
    chosen = [papers[row] for row in kept]
    attributes = {
        "day": np.array([paper["date"] for paper in chosen], dtype="datetime64[D]"),
        "category": np.array([paper["categories"][0] for paper in chosen], dtype=object),
        "authors": np.array([len(paper["authors"]) for paper in chosen], dtype=np.int64),
        "length": np.array([len(paper["abstract"]) for paper in chosen], dtype=np.int64),
        "categories": [set(paper["categories"]) for paper in chosen],
    }
    return World(vectors[kept], vectors[aside], attributes)


# -- filters --------------------------------------------------------------------------------------------------------


def random_filter(world: World, rng: np.random.Generator, depth: int = 2) -> Drawn:
    """A tree of and, or and not over comparisons of any attribute."""
    if depth == 0 or rng.random() < 0.25:
        return _leaf(world, str(rng.choice(list(world.attributes))), rng)
    kind = rng.random()
    if kind < 0.15:
        return ~random_filter(world, rng, depth - 1)
    left, right = random_filter(world, rng, depth - 1), random_filter(world, rng, depth - 1)
    return left & right if kind < 0.6 else left | right


def filter_of_share(world: World, share: float, rng: np.random.Generator, parts: int = 2) -> Drawn:
    """Ranges over `parts` numbers or dates, joined by and, that about `share` of the rows pass: within a third of it.

    The last range is placed among the rows that pass the others.
    """
    names = [name for name, column in world.attributes.items() if _is_ordered(column)]
    wanted = max(1, round(share * world.n))
    for _ in range(1000):
        chosen = [str(name) for name in rng.choice(names, min(parts, len(names)), replace=False)]
        drawn: Drawn | None = None
        for at, name in enumerate(chosen):
            count = wanted if at == len(chosen) - 1 else round(world.n * share ** (1 / len(chosen)))
            one = _range_of(world, name, count, rng, None if drawn is None else drawn.true)
            if one is None:
                break
            drawn = one if drawn is None else drawn & one
        else:
            assert drawn is not None
            if abs(int(drawn.true.sum()) - wanted) <= wanted / 3:
                return drawn
    raise ValueError(f"no filter that {100 * share:g} % of the rows pass was found")


def _leaf(world: World, name: str, rng: np.random.Generator) -> Drawn:
    """One comparison of one attribute, with a value that occurs."""
    column, attribute = world.attributes[name], Attr(name)
    if rng.random() < 0.05:
        gone = _missing(column)
        return Drawn(attribute.is_null(), gone, ~gone)
    if isinstance(column, list):
        return _labels_leaf(column, attribute, rng)
    present = ~_missing(column)
    value, other = rng.choice(column[present], 2)
    if column.dtype == bool:
        return _told(attribute == bool(value), column == value, present)
    if column.dtype == object:
        if rng.random() < 0.5:
            return _told(attribute != value, column != value, present)
        return _told(attribute.isin([value, other]), np.isin(column.astype("U"), [value, other]), present)
    low, high = min(value, other), max(value, other)
    choices: list[Callable[[], tuple[Filter, np.ndarray]]] = [
        lambda: (attribute >= _plain(value), column >= value),
        lambda: (attribute < _plain(value), column < value),
        lambda: (attribute == _plain(value), column == value),
        lambda: (attribute.between(_plain(low), _plain(high)), (column >= low) & (column <= high)),
    ]
    return _told(*choices[rng.integers(len(choices))](), present)


def _labels_leaf(column: Sequence[set[str] | None], attribute: Attr, rng: np.random.Generator) -> Drawn:
    known = [labels for labels in column if labels]
    wanted = [str(rng.choice(sorted(known[rng.integers(len(known))]))) for _ in range(2)]
    present = np.array([labels is not None for labels in column])
    if rng.random() < 0.5:
        holds = np.array([not (labels or set()).isdisjoint(wanted) for labels in column])
        return _told(attribute.contains_any(wanted), holds, present)
    holds = np.array([(labels or set()).issuperset(wanted) for labels in column])
    return _told(attribute.contains_all(wanted), holds, present)


def _told(wanted: Filter, holds: np.ndarray, present: np.ndarray) -> Drawn:
    return Drawn(wanted, holds & present, ~holds & present)


def _missing(column: Any) -> np.ndarray:
    if isinstance(column, list) or column.dtype == object:
        return np.array([value is None for value in column])
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype.kind == "M":
        return np.isnat(column)
    return np.zeros(len(column), dtype=bool)


def _is_ordered(column: Any) -> bool:
    return not isinstance(column, list) and column.dtype.kind in "iufM"


def _plain(value: Any) -> Any:
    """A NumPy scalar as the Python value that a user would write."""
    plain = value.item() if isinstance(value, np.generic) else value
    return plain if isinstance(plain, (bool, int, float, str, datetime.date)) else value


def _range_of(world: World, name: str, count: int, rng: np.random.Generator, among: np.ndarray | None) -> Drawn | None:
    """A range that holds about `count` of the rows in `among`; None where there are too few of them."""
    column = world.attributes[name]
    present = ~_missing(column)
    values = np.sort(column[present if among is None else present & among])
    if len(values) < count:
        return None
    start = int(rng.integers(0, len(values) - count + 1))
    low, high = values[start], values[start + count - 1]
    return _told(Attr(name).between(_plain(low), _plain(high)), (column >= low) & (column <= high), present)


# -- truth ----------------------------------------------------------------------------------------------------------


def squared_distances(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Float64 (m,), from rows (m, d) and a query (d,)."""
    gaps = rows.astype(np.float64) - query
    return np.einsum("ij,ij->i", gaps, gaps)


def nearest(world: World, query: np.ndarray, passing: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of those that pass and their squared distances, nearest first, by plain float64 arithmetic."""
    rows = np.flatnonzero(passing)
    distances = squared_distances(world.vectors[rows], query)
    order = np.argsort(distances, kind="stable")[:k]
    return rows[order], distances[order]


def recall(world: World, query: np.ndarray, found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true distances that were found, so that rows at equal distance count alike. found: rows, -1 for none."""
    if not len(truth):
        return 1.0
    real = squared_distances(world.vectors[found[found >= 0]], query)
    return float((real <= truth[-1] * (1 + 1e-6) + 1e-12).sum() / len(truth))

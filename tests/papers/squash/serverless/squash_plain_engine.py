"""A small engine for the tests: exact search over arrays, with the same interface as the real one and nothing to get wrong."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.filters import Compare, Ids, Rows, UnknownAttribute
from paperworks.papers.squash.serverless.engine import Found, Piece, RangedFile


def build(
    folder: Path, vectors: np.ndarray, year: np.ndarray, n_partitions: int, ids: np.ndarray | None = None
) -> Path:
    """Write an index of n_partitions contiguous partitions."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.arange(len(vectors)) if ids is None else ids
    bounds = np.linspace(0, len(vectors), n_partitions + 1).astype(int)
    parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    np.savez(
        folder / "shared.npz",
        centroids=np.array([vectors[part].mean(axis=0) for part in parts]),
        year=year,
        bounds=bounds,
        ids=ids,
    )
    for number, part in enumerate(parts):
        (folder / f"p{number}").mkdir(exist_ok=True)
        (folder / f"p{number}" / "vectors.bin").write_bytes(vectors[part].astype("<f4").tobytes())
        np.save(folder / f"p{number}" / "ids.npy", ids[part])
    (folder / "facts.json").write_text(json.dumps({"dimension": vectors.shape[1], "sizes": np.diff(bounds).tolist()}))
    return folder


class Shared:
    def __init__(self, folder):
        held = np.load(folder / "shared.npz")
        self.centroids, self.year, self.bounds, self.ids = (held[n] for n in ("centroids", "year", "bounds", "ids"))

    def prepare(self, queries):
        queries = np.asarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.centroids.shape[1]:
            raise InputError(f"queries should have {self.centroids.shape[1]} columns, got shape {queries.shape}")
        return queries

    def settings(self, k, search):
        return dict(search)

    def check(self, what):
        if isinstance(what, Compare) and what.name != "year":
            raise UnknownAttribute(what.name)

    def centroid_distances(self, queries):
        return np.linalg.norm(queries[:, None] - self.centroids[None], axis=2)

    def masks(self, what):
        if what is None:
            return None
        if isinstance(what, Rows):
            mask = what.mask
        elif isinstance(what, Ids):
            mask = np.isin(self.ids, what.ids)
        else:
            self.check(what)
            mask = {">=": self.year >= what.value, "==": self.year == what.value, "<": self.year < what.value}[what.op]
        return [mask[a:b] for a, b in itertools.pairwise(self.bounds)]

    def finish(self, distances, queries):
        return distances


class Partition:
    def __init__(self, folder, rows):
        self.ids = np.load(folder / "ids.npy", mmap_mode="r")
        if rows is None:
            width = (folder / "vectors.bin").stat().st_size // 4 // len(self.ids)
            held = np.memmap(folder / "vectors.bin", "<f4", "r", shape=(len(self.ids), width))
            rows = lambda wanted: held[wanted]  # noqa: E731
        self.rows = rows

    def search(self, queries, bitmaps, bitmap_of, k, search):
        shape = (len(queries), k)
        distances, positions, ids = np.full(shape, np.inf, "f4"), np.full(shape, -1), np.full(shape, -1)
        for i, (query, which) in enumerate(zip(queries, bitmap_of, strict=True)):
            passing = np.arange(len(self.ids)) if which < 0 else np.flatnonzero(bitmaps[which])
            squared = ((self.rows(passing) - query) ** 2).sum(axis=1)
            order = np.argsort(squared, kind="stable")[:k]
            distances[i, : order.size] = squared[order]
            positions[i, : order.size] = passing[order]
            ids[i, : order.size] = self.ids[passing[order]]
        return Found(positions, ids, distances, {"rows_scanned": int(len(self.ids) * len(queries))})


class PlainEngine:
    """ranged: processors read vectors by ranged requests instead of keeping them."""

    def __init__(self, ranged: bool = False) -> None:
        self.ranged = ranged

    def facts(self, folder):
        return json.loads((folder / "facts.json").read_text())

    def pieces(self, folder, work):
        yield Piece({"shared.npz": folder / "shared.npz"})
        facts = self.facts(folder)
        for number, rows in enumerate(facts["sizes"]):
            files = {name: folder / f"p{number}" / name for name in ("vectors.bin", "ids.npy")}
            yield Piece(files, rows, RangedFile("vectors.bin", "<f4", facts["dimension"], 0) if self.ranged else None)

    def open_shared(self, folder):
        return Shared(folder)

    def open_partition(self, folder, rows):
        return Partition(folder, rows)


def truth(vectors, queries, masks, k, ids=None):
    """Brute force -> distances, ids."""
    ids = np.arange(len(vectors)) if ids is None else ids
    distances, found = np.full((len(queries), k), np.inf, "f4"), np.full((len(queries), k), -1)
    for i, (query, mask) in enumerate(zip(queries, masks, strict=True)):
        squared = ((vectors - query) ** 2).sum(axis=1, dtype="f4")
        order = np.lexsort((ids, np.where(mask, squared, np.inf)))[: min(k, int(mask.sum()))]
        distances[i, : order.size], found[i, : order.size] = squared[order], ids[order]
    return distances, found

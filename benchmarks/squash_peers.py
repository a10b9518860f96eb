"""The systems that the SQUASH benchmark compares, each behind one small adapter with the same three verbs.

`build` takes a `DataSet`; `search` takes one query with its filter, and turns the filter into what the system wants inside the
measured time, as a user would; `knobs` lists the settings that are swept. A system that is not installed is left out.
The mask for faiss is made by compiled loops over the columns (`_Masks`), which is several times faster than NumPy expressions:
the strongest form of the peer. Compiled exact search over the rows that pass, written by hand, stands beside the libraries.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numba
import numpy as np
from squash_data import And, DataSet, HasAny, IsIn, Or, Predicate, Range

Knob = dict[str, Any]


class System:
    """One system. `library`: what must be importable. `slow`: milliseconds a query, so that fewer queries are put to it."""

    name = ""
    library = ""
    slow = False
    filters = True

    def knobs(self, selectivity: float) -> list[Knob]:
        return [{}]

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        raise NotImplementedError

    def warm(self) -> None:
        """Load what is there without an index, so that it does not count as the index's memory."""
        if self.library:
            importlib.import_module(self.library)

    def reopen(self, folder: Path) -> bool:
        """Open what `build` left in `folder`, in a process that has not built it; False where that cannot be done."""
        return False

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        """Ids int64 of at most k rows, the nearest first."""
        raise NotImplementedError

    def shared(self, queries: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        """A batch that shares one filter, ids (q, k); by default one after the other."""
        return _padded([self.search(query, predicate, k, knob) for query in queries], k)

    def batch(self, queries: np.ndarray, predicates: Sequence[Predicate | None], k: int, knob: Knob) -> np.ndarray:
        """A batch, each with its own filter, ids (q, k); by default one after the other."""
        return _padded([self.search(q, p, k, knob) for q, p in zip(queries, predicates, strict=True)], k)

    def threads(self, n: int) -> None:
        """How many threads a batch may use."""

    def forget(self) -> None:
        """Drop what was kept of earlier filters, so that a repeated filter costs what a new one does."""

    def files(self) -> list[Path]:
        """Files that are memory-mapped and count as resident when they are in memory."""
        return []

    def close(self) -> None:
        """Let go of everything."""


def _padded(found: Sequence[np.ndarray], k: int) -> np.ndarray:
    out = np.full((len(found), k), -1, dtype=np.int64)
    for at, ids in enumerate(found):
        out[at, : len(ids)] = ids[:k]
    return out


# -- masks ----------------------------------------------------------------------------------------------------------


@numba.njit(cache=True)
def _range_mask(column: np.ndarray, low: Any, high: Any, out: np.ndarray, first: bool) -> None:
    if first:
        for i in range(len(column)):
            out[i] = (column[i] >= low) & (column[i] <= high)
    else:
        for i in range(len(column)):
            out[i] &= (column[i] >= low) & (column[i] <= high)


@numba.njit(cache=True)
def _word_mask(codes: np.ndarray, table: np.ndarray, out: np.ndarray, first: bool) -> None:
    if first:
        for i in range(len(codes)):
            out[i] = table[codes[i]]
    else:
        for i in range(len(codes)):
            out[i] &= table[codes[i]]


@numba.njit(cache=True)
def _label_mask(starts: np.ndarray, rows: np.ndarray, wanted: np.ndarray, out: np.ndarray, first: bool) -> None:
    """By the rows of each label: starts (labels + 1,) into rows."""
    found = out if first else np.empty_like(out)
    found[:] = 0
    for label in wanted:
        for at in range(starts[label], starts[label + 1]):
            found[rows[at]] = 1
    if not first:
        for i in range(len(out)):
            out[i] &= found[i]


@numba.njit(cache=True)
def _pack(mask: np.ndarray, out: np.ndarray) -> None:
    """Bits, least significant first: eight bytes of 0 or 1 are gathered into one by a product."""
    words = mask.view(np.uint64)
    for at in range(len(words)):
        out[at] = (words[at] * np.uint64(0x0102040810204080)) >> np.uint64(56)


class _Masks:
    """Turns filters into masks uint8 (n,) by compiled loops. Numbers are kept as int32 where they fit, else float32/float64."""

    def __init__(self, data: DataSet) -> None:
        self.n = len(data.X)
        self.numbers: dict[str, np.ndarray] = {}
        self.words: dict[str, tuple[np.ndarray, dict[str, int]]] = {}
        self.labels: dict[str, tuple[np.ndarray, np.ndarray, dict[str, int]]] = {}
        for name, column in data.columns.items():
            if column.dtype == object:
                codes, words = data.coded(name)
                self.words[name] = codes.astype(np.uint8 if len(words) < 256 else np.uint16), words
            elif column.dtype.kind == "i" and np.abs(column).max() < 2**31:
                self.numbers[name] = column.astype(np.int32)
            else:
                single = column.astype(np.float32)
                self.numbers[name] = single if (single == column).all() else np.array(column)
        for name in data.labels:
            codes, rows, words = data.coded_labels(name)
            order = np.argsort(codes, kind="stable")
            starts = np.searchsorted(codes[order], np.arange(len(words) + 1))
            self.labels[name] = starts, rows[order].astype(np.int32), words
        self.packed = np.zeros((self.n + 7) // 8, dtype=np.uint8)
        self._whole = np.zeros(8 * len(self.packed), dtype=np.uint8)
        self._mask = self._whole[: self.n]

    def mask(self, predicate: Predicate) -> np.ndarray:
        """uint8 (n,); the array is used again by the next call."""
        self._into(predicate, self._mask, True)
        return self._mask

    def bits(self, predicate: Predicate) -> np.ndarray:
        """Packed bits."""
        self.mask(predicate)
        _pack(self._whole, self.packed)
        return self.packed

    def _into(self, predicate: Predicate, out: np.ndarray, first: bool) -> None:
        match predicate:
            case Range(name, low, high):
                column = self.numbers[name]
                if column.dtype == np.int32:
                    _range_mask(column, np.int32(low), np.int32(high), out, first)
                else:
                    _range_mask(column, column.dtype.type(low), column.dtype.type(high), out, first)
            case IsIn(name, values):
                codes, words = self.words[name]
                _word_mask(codes, _table(words, values), out, first)
            case HasAny(name, values):
                starts, rows, words = self.labels[name]
                wanted = np.array([words[value] for value in values if value in words], dtype=np.int64)
                _label_mask(starts, rows, wanted, out, first)
            case And(parts):
                for at, part in enumerate(sorted(parts, key=lambda part: isinstance(part, HasAny))):
                    self._into(part, out, first and at == 0)
            case Or(parts):
                either = np.zeros_like(out)
                for part in parts:
                    one = np.empty_like(out)
                    self._into(part, one, True)
                    either |= one
                np.copyto(out, either if first else out & either)


def _table(words: dict[str, int], values: Sequence[str]) -> np.ndarray:
    table = np.zeros(len(words), dtype=np.uint8)
    for value in values:
        if value in words:
            table[words[value]] = 1
    return table


# -- exact ----------------------------------------------------------------------------------------------------------


@numba.njit(cache=True, fastmath=True)
def _exact(X: np.ndarray, mask: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    best, ids, found = np.full(k, np.inf, np.float32), np.full(k, -1, np.int64), 0
    for i in range(len(X)):
        if not mask[i]:
            continue
        total = np.float32(0)
        for j in range(len(query)):
            gap = X[i, j] - query[j]
            total += gap * gap
        if total < best[k - 1]:
            at = min(found, k - 1)
            while at > 0 and best[at - 1] > total:
                best[at], ids[at] = best[at - 1], ids[at - 1]
                at -= 1
            best[at], ids[at] = total, i
            found = min(k, found + 1)
    return ids[:found]


class ExactNumpy(System):
    """Columns compared by NumPy, then the matrix product over the rows that pass."""

    name = "NumPy exact"

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        self.X = np.array(data.X)
        self.squares = np.einsum("ij,ij->i", self.X, self.X)
        self.masks = _Masks(data)

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        if predicate is None:
            scores = self.squares - 2 * (self.X @ query)
            best = np.argpartition(scores, k)[:k]
            return best[np.argsort(scores[best])]
        rows = np.flatnonzero(self.masks.mask(predicate))
        if not len(rows):
            return rows
        scores = self.squares[rows] - 2 * (self.X[rows] @ query)
        best = np.argpartition(scores, min(k, len(rows)) - 1)[:k]
        return rows[best[np.argsort(scores[best])]]


class ExactCompiled(System):
    """The same by one compiled loop: what a person writes by hand with numba."""

    name = "compiled exact"

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        self.X = np.array(data.X)
        self.masks = _Masks(data)
        self.all = np.ones(len(self.X), dtype=np.uint8)

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        return _exact(self.X, self.all if predicate is None else self.masks.mask(predicate), query, k)


# -- faiss ----------------------------------------------------------------------------------------------------------


class _Faiss(System):
    library = "faiss"

    def factory(self, n: int, d: int) -> str:
        raise NotImplementedError

    def parameters(self, selector: Any, knob: Knob) -> Any:
        raise NotImplementedError

    def prepare(self) -> None:
        """Set what is set before rows are added."""

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        X = np.array(data.X)
        n_lists = int(2 ** round(np.log2(np.sqrt(len(X)))))
        self.index = faiss.index_factory(X.shape[1], self.factory(n_lists, X.shape[1]))
        self.prepare()
        sample = X[np.random.default_rng(0).permutation(len(X))[: max(64 * n_lists, 30_000)]]
        self.index.train(sample)
        self.index.add(X)
        self.masks = _Masks(data)

    def threads(self, n: int) -> None:
        import faiss

        faiss.omp_set_num_threads(n)

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        found = self.shared(query[None], predicate, k, knob)[0]
        return found[found >= 0]

    def shared(self, queries: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        import faiss

        selector = None
        if predicate is not None:
            selector = faiss.IDSelectorBitmap(self.masks.bits(predicate))
        _, ids = self.index.search(queries, k, params=self.parameters(selector, knob))
        return np.asarray(ids)


def efs(selectivity: float) -> tuple[int, ...]:
    """Widths of the search in a graph that are tried; past 2,048 an exact scan is faster at any size here."""
    tried = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048)
    return tried if selectivity >= 0.5 else tried[4:] if selectivity >= 0.05 else tried[10:]


class FaissHNSW(_Faiss):
    """HNSW of M = 32, efConstruction = 200."""

    name = "faiss HNSW32"

    def factory(self, n: int, d: int) -> str:
        return "HNSW32,Flat"

    def prepare(self) -> None:
        self.index.hnsw.efConstruction = 200

    def knobs(self, selectivity: float) -> list[Knob]:
        return [{"ef": ef} for ef in efs(selectivity)]

    def parameters(self, selector: Any, knob: Knob) -> Any:
        import faiss

        return faiss.SearchParametersHNSW(efSearch=knob["ef"], sel=selector)


def probes(selectivity: float) -> tuple[int, ...]:
    """Numbers of lists that are tried: few do nothing for rare rows."""
    tried = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
    return tried if selectivity >= 0.5 else tried[3:] if selectivity >= 0.05 else tried[6:]


class FaissIVF(_Faiss):
    """Inverted lists of full vectors."""

    name = "faiss IVF-Flat"

    def factory(self, n: int, d: int) -> str:
        return f"IVF{n},Flat"

    def knobs(self, selectivity: float) -> list[Knob]:
        return [{"nprobe": nprobe} for nprobe in probes(selectivity)]

    def parameters(self, selector: Any, knob: Knob) -> Any:
        import faiss

        return faiss.SearchParametersIVF(nprobe=knob["nprobe"], sel=selector)


class FaissPQ(_Faiss):
    """Inverted lists of 4-bit product codes read by fast scan, refined on the full vectors."""

    name = "faiss IVF-PQfs+refine"

    def factory(self, n: int, d: int) -> str:
        return f"IVF{n},PQ{d // 2}x4fs,RFlat"

    def knobs(self, selectivity: float) -> list[Knob]:
        return [{"nprobe": nprobe, "refine": refine} for nprobe in probes(selectivity) for refine in (2, 4, 10)]

    def parameters(self, selector: Any, knob: Knob) -> Any:
        import faiss

        inner = faiss.SearchParametersIVF(nprobe=knob["nprobe"], sel=selector)
        return faiss.IndexRefineSearchParameters(k_factor=knob["refine"], base_index_params=inner)


class FaissFlat(_Faiss):
    """Exact, with the selector."""

    name = "faiss Flat"

    def factory(self, n: int, d: int) -> str:
        return "Flat"

    def parameters(self, selector: Any, knob: Knob) -> Any:
        import faiss

        return faiss.SearchParameters(sel=selector)


# -- graphs without a mask ------------------------------------------------------------------------------------------


class Hnswlib(System):
    """M = 32, efConstruction = 200; the filter is a Python function of the row."""

    name, library, slow = "hnswlib", "hnswlib", True

    def knobs(self, selectivity: float) -> list[Knob]:
        return [{"ef": ef} for ef in (16, 32, 64, 128, 256, 512, 1024)]

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="l2", dim=data.X.shape[1])
        self.index.init_index(max_elements=len(data.X), ef_construction=200, M=32)
        self.index.add_items(np.array(data.X), num_threads=threads)
        self.masks = _Masks(data)
        self.n_threads = 1

    def threads(self, n: int) -> None:
        self.n_threads = n

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        return self.shared(query[None], predicate, k, knob)[0]

    def shared(self, queries: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        self.index.set_ef(max(k, knob["ef"]))
        if predicate is None:
            return self.index.knn_query(queries, k=k, num_threads=self.n_threads)[0].astype(np.int64)
        passes = self.masks.mask(predicate).tolist()
        try:
            found = self.index.knn_query(queries, k=k, num_threads=1, filter=passes.__getitem__)[0]
        except RuntimeError:  # fewer than k of the rows that were visited pass
            return np.full((len(queries), k), -1, dtype=np.int64)
        return found.astype(np.int64)


class Usearch(System):
    """M = 32, efConstruction = 200; no filter, so more neighbours are fetched and those that pass are kept."""

    name, library, slow = "usearch (post-filter)", "usearch", True

    def knobs(self, selectivity: float) -> list[Knob]:
        if selectivity >= 1:
            return [{"ef": ef, "fetch": 1} for ef in (16, 32, 64, 128, 256, 512)]
        factors = (1.5, 3, 6) if selectivity >= 0.01 else (1.5,)
        return [{"ef": 64, "fetch": min(20_000 / 10, factor / selectivity)} for factor in factors]

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        from usearch.index import Index

        self.index = Index(ndim=data.X.shape[1], metric="l2sq", dtype="f32", connectivity=32, expansion_add=200)
        self.index.add(np.arange(len(data.X)), np.array(data.X), threads=threads)
        self.masks = _Masks(data)

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        count = int(np.ceil(k * knob["fetch"]))
        self.index.expansion_search = max(knob["ef"], count)
        ids = self.index.search(query, count, threads=1).keys.astype(np.int64)
        return ids[:k] if predicate is None else ids[self.masks.mask(predicate)[ids] > 0][:k]


# -- databases ------------------------------------------------------------------------------------------------------


def sql_of(predicate: Predicate, has_any: str) -> str:
    """The filter as an SQL condition; has_any: a pattern for sets of labels."""
    match predicate:
        case Range(name, low, high):
            return f"({name} >= {low!r} AND {name} <= {high!r})"
        case IsIn(name, values):
            return f"{name} IN ({', '.join(map(_quoted, values))})"
        case HasAny(name, values):
            return has_any.format(name=name, values=", ".join(map(_quoted, values)))
        case And(parts):
            return "(" + " AND ".join(sql_of(part, has_any) for part in parts) + ")"
        case Or(parts):
            return "(" + " OR ".join(sql_of(part, has_any) for part in parts) + ")"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _arrow(data: DataSet, vectors: bool = True) -> Any:
    import pyarrow as pa

    columns: dict[str, Any] = {"id": pa.array(np.arange(len(data.X)))}
    for name, column in data.columns.items():
        columns[name] = pa.array(column.tolist() if column.dtype == object else column)
    for name, rows in data.labels.items():
        columns[name] = pa.array([list(row) for row in rows])
    if vectors:
        flat = pa.array(np.ascontiguousarray(data.X).reshape(-1))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, data.X.shape[1])
    return pa.table(columns)


class Lance(System):
    """IVF_PQ with refinement; SQL before the search."""

    name, library, slow = "LanceDB IVF_PQ", "lancedb", True

    def knobs(self, selectivity: float) -> list[Knob]:
        return [{"nprobes": nprobes, "refine": 10} for nprobes in (16, 64)]

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        import lancedb

        self.table = lancedb.connect(folder / "lance").create_table("t", _arrow(data), mode="overwrite")
        d = data.X.shape[1]
        self.table.create_index("l2", num_partitions=int(np.sqrt(len(data.X))), num_sub_vectors=d // 4)
        for name in data.columns:
            self.table.create_scalar_index(name)

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        asked = self.table.search(query).nprobes(knob["nprobes"]).refine_factor(knob["refine"]).limit(k).select(["id"])
        if predicate is not None:
            asked = asked.where(sql_of(predicate, "array_has_any({name}, make_array({values}))"), prefilter=True)
        return asked.to_arrow()["id"].to_numpy()


class Duck(System):
    """Brute force with a condition."""

    name, library, slow = "DuckDB", "duckdb", True

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        import duckdb

        self.db = duckdb.connect()
        self.db.execute(f"SET threads = {threads}")
        rows = _arrow(data)
        self.d = data.X.shape[1]
        self.db.register("rows", rows)
        self.db.execute("CREATE TABLE t AS SELECT * FROM rows")
        self.db.unregister("rows")

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        where = "" if predicate is None else f"WHERE {sql_of(predicate, 'list_has_any({name}, [{values}])')}"
        asked = f"SELECT id FROM t {where} ORDER BY array_distance(vector, $1::FLOAT[{self.d}]) LIMIT {k}"
        return np.array([row[0] for row in self.db.execute(asked, [query.tolist()]).fetchall()], dtype=np.int64)


class Qdrant(System):
    """The client's local mode."""

    name, library, slow = "Qdrant local", "qdrant_client", True

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        from qdrant_client import QdrantClient, models

        self.client = QdrantClient(":memory:")
        self.client.create_collection("t", models.VectorParams(size=data.X.shape[1], distance=models.Distance.EUCLID))
        names = [*data.columns, *data.labels]
        for start in range(0, len(data.X), 5000):
            rows = range(start, min(start + 5000, len(data.X)))
            points = [
                models.PointStruct(
                    id=row,
                    vector=data.X[row].tolist(),
                    payload={
                        name: _plain(data.columns[name][row]) if name in data.columns else list(data.labels[name][row])
                        for name in names
                    },
                )
                for row in rows
            ]
            self.client.upsert("t", points)

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        found = self.client.query_points(
            "t", query=query.tolist(), limit=k, query_filter=None if predicate is None else _qdrant(predicate)
        )
        return np.array([point.id for point in found.points], dtype=np.int64)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _qdrant(predicate: Predicate) -> Any:
    from qdrant_client import models

    match predicate:
        case Range(name, low, high):
            return models.Filter(must=[models.FieldCondition(key=name, range=models.Range(gte=low, lte=high))])
        case IsIn(name, values) | HasAny(name, values):
            return models.Filter(must=[models.FieldCondition(key=name, match=models.MatchAny(any=list(values)))])
        case And(parts):
            return models.Filter(must=[_qdrant(part) for part in parts])
        case Or(parts):
            return models.Filter(should=[_qdrant(part) for part in parts])


# -- ours -----------------------------------------------------------------------------------------------------------


class Squash(System):
    """`SquashIndex`, saved and opened again memory-mapped, so that full vectors are read from disk."""

    name = "SquashIndex"

    def knobs(self, selectivity: float) -> list[Knob]:
        return [
            {"reach": reach, "keep": keep}
            for reach in (3.0, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0)
            for keep in (20, 30, 40, 60, 80, 120)
        ]

    def build(self, data: DataSet, folder: Path, threads: int) -> None:
        from paperworks.papers.squash import SquashIndex

        attributes: dict[str, Any] = {**data.columns, **data.labels}
        if "day" in attributes:
            attributes["day"] = np.array([date.fromordinal(day) for day in attributes["day"]], dtype="datetime64[D]")
        self.folder = folder / "squash"
        index = SquashIndex(metric="l2", random_state=0, n_jobs=threads)
        index.build(data.X, attributes=attributes, folder=self.folder)
        del index, attributes
        self.reopen(folder)

    def warm(self) -> None:
        from paperworks.papers.squash import Attr, SquashIndex

        rng = np.random.default_rng(0)
        small = SquashIndex().build(rng.standard_normal((500, 32)), attributes={"a": rng.random(500)})
        small.search(rng.standard_normal((1, 32)), 10, Attr("a") < 0.5)

    def reopen(self, folder: Path) -> bool:
        from paperworks.papers.squash import SquashIndex

        self.folder = folder / "squash"
        self.index = SquashIndex.load(self.folder, mmap=True)
        self.n_threads = 1
        return True

    def search(self, query: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        ids = self.index.search(query[None], k, _expression(predicate), **knob)[1][0]
        return ids[ids >= 0]

    def shared(self, queries: np.ndarray, predicate: Predicate | None, k: int, knob: Knob) -> np.ndarray:
        return self.index.search(queries, k, _expression(predicate), n_threads=self.n_threads, **knob)[1]

    def batch(self, queries: np.ndarray, predicates: Sequence[Predicate | None], k: int, knob: Knob) -> np.ndarray:
        each = [_expression(one) for one in predicates]
        return self.index.search(queries, k, each, n_threads=self.n_threads, **knob)[1]

    def threads(self, n: int) -> None:
        self.n_threads = n

    def forget(self) -> None:
        self.index.state.table._programs.clear()  # compiled filters are kept; a repeated one would be found there

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def _expression(predicate: Predicate | None) -> Any:
    from paperworks.papers.squash import Attr

    match predicate:
        case None:
            return None
        case Range("day", low, high):
            return Attr("day").between(date.fromordinal(int(low)), date.fromordinal(int(high)))
        case Range(name, low, high):
            return Attr(name).between(low, high)
        case IsIn(name, values):
            return Attr(name).isin(values)
        case HasAny(name, values):
            return Attr(name).contains_any(values)
        case And(parts):
            whole = _expression(parts[0])
            for part in parts[1:]:
                whole = whole & _expression(part)
            return whole
        case Or(parts):
            whole = _expression(parts[0])
            for part in parts[1:]:
                whole = whole | _expression(part)
            return whole


ALL: tuple[type[System], ...] = (
    Squash,
    FaissIVF,
    FaissPQ,
    FaissHNSW,
    FaissFlat,
    ExactCompiled,
    ExactNumpy,
    Hnswlib,
    Usearch,
    Lance,
    Duck,
    Qdrant,
)


def installed(system: type[System]) -> bool:
    """Whether its library is there."""
    return not system.library or importlib.util.find_spec(system.library) is not None

"""Typed attributes of rows, stored as one byte a value beside exact keys, in the order of the index.

Axis letters: `n` rows, `P` planes of cells (one a scalar attribute, up to eight for a set of labels), `K` attributes that have
exact keys, `L` sets of labels. Building cells is in `attribute_cells.py`, reading tables in `attribute_reading.py`.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.attribute_cells import MISSING, Stored, label_bits, scalar_cells
from paperworks.papers.squash.attribute_merge import concatenate
from paperworks.papers.squash.attribute_reading import Column, read_columns
from paperworks.papers.squash.attribute_values import python_values
from paperworks.papers.squash.filters import FilterError, FilterLike, UnknownAttribute, as_filter

if TYPE_CHECKING:
    from paperworks.papers.squash.filter_program import FilterProgram

FORMAT = 1
MAX_CACHED = 512
ARRAYS = ("cells", "keys", "label_starts", "label_codes")


class AttributeTable:
    """Attributes of n rows, ready to be filtered.

    >>> table = AttributeTable.from_data({"year": [2019, 2021, None], "tags": [["a"], ["a", "b"], []]})
    >>> from paperworks.papers.squash.filters import Attr
    >>> table.compile(Attr("tags").contains("a") & (Attr("year") > 2019)).mask().tolist()
    [False, True, False]

    Arrays, all uint8 cells first: cells (P, n) uint8; keys (K, n) int64, sortable; label_starts (L, n + 1) int64 into
    label_codes int32. They may be memory-mapped; nothing writes into them.
    """

    def __init__(
        self,
        stored: list[Stored],
        cells: np.ndarray,
        keys: np.ndarray,
        label_starts: np.ndarray,
        label_codes: np.ndarray,
        orders: list[np.ndarray] | None = None,
    ) -> None:
        self.stored = {one.name: one for one in stored}
        self.cells = cells
        self.keys = keys
        self.label_starts = label_starts
        self.label_codes = label_codes
        self._orders = {one.name: order for one, order in zip(stored, orders or (), strict=False)}
        self._programs: OrderedDict[str, FilterProgram] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def from_data(cls, data: Any, types: Mapping[str, str] | None = None, n_rows: int | None = None) -> AttributeTable:
        """Read a table: dict of arrays or lists, list of records, DataFrame, Arrow table, `datasets.Dataset`; None for none.

        types: name -> int, float, bool, category, labels, datetime where the kind is not to be guessed. n_rows: how many rows
        there must be. None, NaN, NaT and NA are missing. Raises InputError naming the column and row that does not fit.
        """
        columns = {} if data is None else read_columns(data, types)
        lengths = {len(column) for column in columns.values()} or {n_rows or 0}
        if n_rows is not None and lengths != {n_rows}:
            raise InputError(f"there are {n_rows} vectors, but the attributes have {lengths.pop()} rows")
        return cls.from_columns(columns, lengths.pop())

    @classmethod
    def from_columns(cls, columns: Mapping[str, Column], n: int) -> AttributeTable:
        """From typed columns of n rows."""
        stored: list[Stored] = []
        planes, orders = [np.zeros((0, n), np.uint8)], []
        keys: list[np.ndarray] = []
        starts: list[np.ndarray] = []
        codes: list[np.ndarray] = []
        n_codes = 0
        for name, column in columns.items():
            plane = sum(len(part) for part in planes)
            if column.kind == "labels":
                one, cells, order = label_bits(name, column, plane, len(starts))
                starts.append(column.sets[0] + n_codes)
                codes.append(column.sets[1])
                n_codes += len(codes[-1])
            else:
                one, flat, order = scalar_cells(name, column, plane, len(keys))
                cells = flat[None]
                if one.key_row >= 0:
                    keys.append(column.keys)
            stored.append(one)
            planes.append(cells)
            orders.append(_positions(order, n))
        return cls(
            stored,
            np.concatenate(planes),
            np.array(keys, np.int64).reshape(len(keys), n),
            np.array(starts, np.int64).reshape(len(starts), n + 1),
            np.concatenate(codes) if codes else np.zeros(0, np.int32),
            orders,
        )

    @property
    def n(self) -> int:
        """Rows."""
        return self.cells.shape[1]

    def __len__(self) -> int:
        return self.n

    @property
    def names(self) -> list[str]:
        """The attributes in their order."""
        return list(self.stored)

    @property
    def types(self) -> dict[str, str]:
        """Name -> kind; pass it to `from_data` to read more rows as the same kinds."""
        return {name: one.kind for name, one in self.stored.items()}

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """cells, keys, label_starts, label_codes, as the kernels take them."""
        return self.cells, self.keys, self.label_starts, self.label_codes

    @property
    def resident_bytes(self) -> int:
        """Bytes that a search touches: the cells. Keys, labels and sorted orders are read in places."""
        return self.cells.nbytes

    def attribute(self, name: str) -> Stored:
        """One attribute, or UnknownAttribute with the names there are."""
        try:
            return self.stored[name]
        except KeyError:
            known = ", ".join(self.stored) or "none"
            raise UnknownAttribute(f"there is no attribute {name!r}; there are: {known}") from None

    def compile(
        self,
        what: FilterLike,
        *,
        positions_of: Callable[[np.ndarray], np.ndarray] | None = None,
        rows: np.ndarray | None = None,
    ) -> FilterProgram:
        """Check a filter against the columns and make its program; programs are kept by the text of the expression.

        positions_of: ids int64 -> positions int64 of those that are in the table, for filters by id (default: an id is a
        position). rows (n,): the number that each position had when the rows were given, for masks (default: the position).
        Raises UnknownAttribute, FilterTypeError, FilterError.
        """
        from paperworks.papers.squash.filter_program import compile_filter

        wanted = as_filter(what)
        try:
            key = _ALL if wanted is None else wanted.key
            with self._lock:
                if key is not None and (known := self._programs.get(key)) is not None:
                    self._programs.move_to_end(key)
                    return known
            program = compile_filter(self, wanted, positions_of, rows)
        except RecursionError as error:
            raise FilterError("the filter is nested too deeply; write long lists of values with isin") from error
        if key is not None:
            with self._lock:
                self._programs[key] = program
                while len(self._programs) > MAX_CACHED:
                    self._programs.popitem(last=False)
        return program

    def order(self, name: str) -> np.ndarray:
        """Positions sorted by value, missing ones last; of labels the positions of each label in turn, ascending.

        Kept on disk by `save`; made on first use after `take`.
        """
        if name not in self._orders:
            column = self.column(name)
            one = self.attribute(name)
            make = label_bits if one.kind == "labels" else scalar_cells
            self._orders[name] = _positions(make(name, column, one.plane, 0)[2], self.n)
        return self._orders[name]

    def column(self, name: str, positions: np.ndarray | None = None) -> Column:
        """The typed column, without loss; of the rows at positions (m,), or of all."""
        one = self.attribute(name)
        chosen = slice(None) if positions is None else np.asarray(positions, dtype=np.int64)
        cells = self.cells[one.plane][chosen]
        if one.kind == "labels":
            starts, codes = _sets_at(self.label_starts[one.starts_row], self.label_codes, positions)
            missing = (cells & 1).astype(bool)
            return Column(one.kind, missing, np.zeros(len(cells), np.int64), "", one.dictionary, starts, codes)
        if one.key_row >= 0:
            keys = self.keys[one.key_row][chosen]
        else:
            keys = np.array([*one.low, *[0] * (256 - len(one.low))], np.int64)[cells]
        return Column(one.kind, cells == MISSING, keys, one.unit, one.dictionary)

    def values(self, positions: np.ndarray, names: list[str] | None = None) -> dict[str, list[Any]]:
        """The values at positions (m,) as Python objects; None where missing, dates as datetime64 of the column's unit."""
        return {name: python_values(self.column(name, positions)) for name in (self.names if names is None else names)}

    def take(self, order: np.ndarray) -> AttributeTable:
        """The rows at positions `order` (m,), in that order; dictionaries and cells stay."""
        order = np.asarray(order)
        cells = np.ascontiguousarray(self.cells[:, order])
        starts: list[np.ndarray] = []
        codes: list[np.ndarray] = []
        n_codes = 0
        for row in self.label_starts:
            begins, found = _sets_at(row, self.label_codes, order)
            codes.append(found)
            starts.append(begins + n_codes)
            n_codes += len(found)
        taken = AttributeTable(
            [],
            cells,
            np.ascontiguousarray(self.keys[:, order]),
            np.array(starts, np.int64).reshape(len(starts), len(order) + 1),
            np.concatenate(codes) if codes else np.zeros(0, np.int32),
        )
        taken.stored = {name: taken._recount(one) for name, one in self.stored.items()}
        return taken

    def append(self, other: AttributeTable) -> AttributeTable:
        """A table with the rows of this one and then those of `other`; cells are made anew.

        Both need the same attributes of the same kinds; one that is missing throughout fits every kind.
        """
        if self.stored.keys() != other.stored.keys():
            raise InputError(f"attributes differ: {self.names} and {other.names}; give None where a value is missing")
        columns = {name: concatenate(name, self.column(name), other.column(name)) for name in self.stored}
        return AttributeTable.from_columns(columns, self.n + other.n)

    def summary(self) -> list[dict[str, Any]]:
        """One record an attribute: name, kind, missing, and what is known without reading rows."""
        rows = []
        for name, one in self.stored.items():
            row: dict[str, Any] = {"name": name, "kind": one.kind, "missing": one.n_missing, "exact_cells": one.exact}
            if one.kind in ("category", "labels"):
                row["distinct"] = len(one.dictionary)
            elif one.low:
                ends = Column(one.kind, np.zeros(2, bool), np.array([one.low[0], one.high[-1]]), one.unit)
                row["low"], row["high"] = python_values(ends)
            rows.append(row)
        return rows

    def save(self, folder: str | Path) -> list[Path]:
        """Write raw arrays and `schema.json` (last) into `folder`, which is made; returns the files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays |= {f"order_{i}": self.order(name) for i, name in enumerate(self.stored)}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
            written.append(folder / f"{name}.npy")
        schema = {"format": FORMAT, "n": self.n, "attributes": [one.to_dict() for one in self.stored.values()]}
        written.append(folder / "schema.json")
        written[-1].write_text(json.dumps(schema, separators=(",", ":")), encoding="utf-8")
        return written

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True) -> AttributeTable:
        """Read what `save` wrote; mmap: leave the arrays on disk. Raises InputError if a file is missing or does not fit."""
        folder = Path(folder)
        try:
            schema = json.loads((folder / "schema.json").read_text(encoding="utf-8"))
            if schema["format"] > FORMAT:
                raise InputError(
                    f"{folder} was written by a newer version (format {schema['format']}); update paperworks"
                )
            stored = [Stored(**one) for one in schema["attributes"]]
            arrays = [_load(folder / f"{name}.npy", mmap) for name in ARRAYS]
            orders = [_load(folder / f"order_{i}.npy", mmap) for i in range(len(stored))]
            n = int(schema["n"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{folder} holds no attributes that can be read: {error}") from error
        cells, keys, starts, codes = arrays
        table = cls(stored, cells, keys, starts, codes, orders)
        if table.cells.shape != (sum(one.n_planes for one in stored), n) or table.keys.shape[1:] != (n,):
            raise InputError(f"{folder}: cells {table.cells.shape} and keys {table.keys.shape} do not fit {n} rows")
        return table

    def _recount(self, one: Stored) -> Stored:
        fresh = replace(one)
        if one.kind == "labels":
            starts = self.label_starts[one.starts_row]
            codes = self.label_codes[starts[0] : starts[-1]]
            fresh.counts = np.bincount(codes, minlength=len(one.dictionary)).tolist()
            fresh.n_missing = int((self.cells[one.plane] & 1).sum())
        else:
            counts = np.bincount(self.cells[one.plane], minlength=256)
            fresh.counts = counts[: len(one.low)].tolist()
            fresh.n_missing = int(counts[MISSING])
        return fresh


_ALL = "everything"


def _sets_at(starts: np.ndarray, codes: np.ndarray, positions: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Offsets from 0 and codes of the sets of the rows at positions."""
    if positions is None:
        return starts - starts[0], codes[starts[0] : starts[-1]]
    positions = np.asarray(positions, dtype=np.int64)
    first = starts[positions]
    counts = starts[positions + 1] - first
    begins = np.concatenate(([0], np.cumsum(counts)))
    return begins, codes[np.repeat(first - begins[:-1], counts) + np.arange(begins[-1])]


def _positions(order: np.ndarray, n: int) -> np.ndarray:
    return order.astype(np.uint32 if n < 2**32 else np.int64)


def _load(path: Path, mmap: bool) -> np.ndarray:
    # "c" maps for reading but leaves the array writable, so that one compiled version of a kernel serves all arrays
    array = np.load(path, mmap_mode="c" if mmap and path.stat().st_size > 4096 else None, allow_pickle=False)
    return array.view(np.ndarray)

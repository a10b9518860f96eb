"""What an index holds at one moment. Never changes: writers make a new one, searches keep theirs to the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.filter_program import FilterProgram
from paperworks.papers.squash.filters import Filter, FilterError, Rows
from paperworks.papers.squash.metric import Metric
from paperworks.papers.squash.reader import PartitionReader


@dataclass(frozen=True)
class Added:
    """Rows since the build: vectors float32 (m, d) as stored, ids int64 (m,), attributes, alive uint8 (m,)."""

    vectors: np.ndarray
    ids: np.ndarray
    table: AttributeTable
    alive: np.ndarray


@dataclass(frozen=True)
class State:
    """The built part, the rows added since, tombstones of both, and where each position stood when the rows were given.

    rows int64 (n,): the number of each position in the order of `build`; added rows follow. alive uint8 (n,), or (0,) when
    nothing built was deleted. holder keeps a temporary folder that lies under the vectors.
    """

    metric: Metric
    reader: PartitionReader
    table: AttributeTable
    rows: np.ndarray
    alive: np.ndarray
    added: Added | None = None
    holder: Any = None

    @property
    def n_given(self) -> int:
        """Rows ever given since the build, deleted ones as well: the length of a mask."""
        return self.reader.n + (len(self.added.ids) if self.added else 0)

    @property
    def n_living(self) -> int:
        """Rows that a search can return."""
        built = int(np.count_nonzero(self.alive)) if len(self.alive) else self.reader.n
        return built + (int(np.count_nonzero(self.added.alive)) if self.added else 0)

    @cached_property
    def id_order(self) -> np.ndarray:
        """Positions of the built part by ascending id."""
        return np.argsort(self.reader.ids, kind="stable")

    def built_positions(self, ids: np.ndarray) -> np.ndarray:
        """Position in the built part of each id, -1 where it is not there; deleted rows count as there."""
        return _find(self.reader.ids, self.id_order, ids)

    def added_positions(self, ids: np.ndarray) -> np.ndarray:
        """Position among the added rows of each id, -1 where it is not there; the last one if an id was used twice."""
        if self.added is None:
            return np.full(len(ids), -1, np.int64)
        return _find(self.added.ids, np.argsort(self.added.ids, kind="stable"), ids, last=True)

    def living(self, ids: np.ndarray) -> np.ndarray:
        """Which of the ids belong to rows that can be found, bool."""
        built = self.built_positions(ids)
        there = built >= 0
        if len(self.alive):
            there &= self.alive[np.maximum(built, 0)] != 0
        if self.added is not None:
            added = self.added_positions(ids)
            there |= (added >= 0) & (self.added.alive[np.maximum(added, 0)] != 0)
        return there

    def program(self, what: Filter | None) -> FilterProgram | None:
        """The filter compiled for the built part."""
        if what is None:
            return None
        if what.key is None:  # holds a mask
            self._check_mask(what)
        return self.table.compile(what, positions_of=self._known_built, rows=self.rows)

    def added_program(self, what: Filter | None) -> FilterProgram | None:
        """The filter compiled for the added rows."""
        if what is None or self.added is None:
            return None
        numbers = np.arange(self.reader.n, self.n_given, dtype=np.int64)
        return self.added.table.compile(what, positions_of=self._known_added, rows=numbers)

    def added_flags(self, what: Filter | None) -> np.ndarray:
        """Which added rows live and pass, uint8 (m,)."""
        assert self.added is not None
        program = self.added_program(what)
        if program is None:
            return self.added.alive
        return (program.mask() & (self.added.alive != 0)).astype(np.uint8)

    def ids_at(self, positions: np.ndarray) -> np.ndarray:
        """Ids int64 of positions of any shape; -1 stays -1, added rows follow the built ones."""
        if self.reader.n == 0:
            out = np.full(positions.shape, -1, np.int64)
        else:
            out = self.reader.ids[np.minimum(np.maximum(positions, 0), self.reader.n - 1)]
            out[positions < 0] = -1
        if self.added is not None:
            late = positions >= self.reader.n
            out[late] = self.added.ids[positions[late] - self.reader.n]
        return out

    def with_(self, **changes: Any) -> State:
        """A copy with changes."""
        return replace(self, **changes)

    def _known_built(self, ids: np.ndarray) -> np.ndarray:
        found = self.built_positions(ids)
        return found[found >= 0]

    def _known_added(self, ids: np.ndarray) -> np.ndarray:
        assert self.added is not None
        return np.flatnonzero(np.isin(self.added.ids, ids))

    def _check_mask(self, what: Filter) -> None:
        for one in _walk(what):
            if isinstance(one, Rows) and len(one.mask) != self.n_given:
                raise FilterError(
                    f"a mask needs one value for each of the {self.n_given} rows given (deleted ones included until "
                    f"`compact`), got {len(one.mask)}"
                )


def _walk(what: Filter) -> list[Filter]:
    parts = [what]
    for name in ("parts", "part", "filters", "filter"):
        inner = getattr(what, name, None)
        if isinstance(inner, tuple | list):
            for one in inner:
                parts += _walk(one)
        elif isinstance(inner, Filter):
            parts += _walk(inner)
    return parts


def _find(known: np.ndarray, order: np.ndarray, ids: np.ndarray, last: bool = False) -> np.ndarray:
    if len(known) == 0:
        return np.full(len(ids), -1, np.int64)
    if last:
        at = np.searchsorted(known, ids, side="right", sorter=order) - 1
    else:
        at = np.searchsorted(known, ids, side="left", sorter=order)
    at = np.clip(at, 0, len(known) - 1)
    positions = order[at]
    return np.where(known[positions] == ids, positions, -1)


def check_integers(ids: Any) -> np.ndarray:
    """Ids as int64 (m,), or InputError."""
    array = np.atleast_1d(np.asarray(ids))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"ids must be integers, got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)

"""Rows that come and go after the build: an added part that is scanned, tombstones, and what `compact` reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.filters import Filter
from paperworks.papers.squash.source import read_ids, read_vectors
from paperworks.papers.squash.state import Added, State, check_integers


def add(state: State, vectors: Any, attributes: Any, ids: Any) -> tuple[State, np.ndarray]:
    """A state with more rows, and their ids. Raises InputError for vectors, attributes or ids that do not fit."""
    d = state.metric.d if state.reader.n or state.added else None
    given, _, holder = read_vectors(vectors, state.metric.name, d)
    block = state.metric.rows(np.asarray(given)) if len(given) else np.zeros((0, state.metric.inner_d), np.float32)
    if holder is not None:
        block = np.array(block)
        holder.cleanup()
    n = len(block)
    next_id = 1 + max(
        int(state.reader.ids.max(initial=-1)), int(state.added.ids.max(initial=-1)) if state.added is not None else -1
    )
    new_ids = read_ids(ids, n, next_id)
    there = state.living(new_ids)
    if there.any():
        raise InputError(f"id {int(new_ids[there][0])} is in the index already; delete it first, or give another id")
    if state.table.names and attributes is None and n:
        raise InputError(f"rows need the attributes {', '.join(state.table.names)}; give None where a value is missing")
    table = AttributeTable.from_data(attributes, state.table.types, n_rows=n)
    if set(table.names) != set(state.table.names):
        raise InputError(
            f"rows need the attributes {', '.join(state.table.names) or 'none'}, got {', '.join(table.names) or 'none'}"
        )
    alive = np.ones(n, np.uint8)
    before = state.added
    if before is None:
        made = Added(block, new_ids, table, alive)
    else:
        made = Added(
            np.concatenate([before.vectors, block]),
            np.concatenate([before.ids, new_ids]),
            before.table.append(table),
            np.concatenate([before.alive, alive]),
        )
    return state.with_(added=made), new_ids


def delete(state: State, ids: Any, ignore_missing: bool) -> tuple[State, int]:
    """A state without these rows, and how many were there."""
    wanted = np.unique(check_integers(ids))
    there = state.living(wanted)
    if not ignore_missing and not there.all():
        raise InputError(f"id {int(wanted[~there][0])} is not in the index; pass ignore_missing=True to skip such ids")
    wanted = wanted[there]
    alive, added = state.alive, state.added
    built = state.built_positions(wanted)
    if len(alive):
        built = np.where((built >= 0) & (alive[np.maximum(built, 0)] != 0), built, -1)
    if (built >= 0).any():
        alive = alive.copy() if len(alive) else np.ones(state.reader.n, np.uint8)
        alive[built[built >= 0]] = 0
    if added is not None:
        late = state.added_positions(wanted[built < 0])
        living = added.alive.copy()
        living[late[late >= 0]] = 0
        added = replace(added, alive=living)
    return state.with_(alive=alive, added=added), len(wanted)


def count(state: State, what: Filter | None) -> int:
    """Living rows that pass, exactly."""
    program = state.program(what)
    if program is None:
        return state.n_living
    n = int(np.count_nonzero(program.mask() & (state.alive != 0))) if len(state.alive) else program.count()
    if state.added is not None:
        n += int(np.count_nonzero(state.added_flags(what)))
    return n


def metadata(state: State, ids: Any) -> dict[str, list[Any]]:
    """Attributes of living rows by id; InputError for an id that is not there."""
    wanted = check_integers(ids)
    there = state.living(wanted)
    if not there.all():
        raise InputError(f"id {int(wanted[~there][0])} is not in the index")
    built = state.built_positions(wanted)
    if len(state.alive):
        built = np.where((built >= 0) & (state.alive[np.maximum(built, 0)] != 0), built, -1)
    late = np.flatnonzero(built < 0)
    found = (
        state.table.values(np.maximum(built, 0))
        if state.reader.n
        else {n: [None] * len(wanted) for n in state.table.names}
    )
    if len(late) and state.added is not None:
        values = state.added.table.values(state.added_positions(wanted[late]))
        for name, column in found.items():
            for at, value in zip(late, values[name], strict=True):
                column[int(at)] = value
    return found


class Living:
    """The rows that can be found, in the order they were given, read on access: what `compact` builds from."""

    def __init__(self, state: State) -> None:
        built = np.arange(state.reader.n) if len(state.alive) == 0 else np.flatnonzero(state.alive)
        self._built = built[np.argsort(state.rows[built], kind="stable")]
        self._reader = state.reader
        self._d = state.metric.d
        ids, table = state.reader.ids[self._built], state.table.take(self._built)
        self._late = np.zeros((0, state.metric.inner_d), np.float32)
        if state.added is not None:
            late = np.flatnonzero(state.added.alive)
            self._late = state.added.vectors[late]
            ids = np.concatenate([ids, state.added.ids[late]])
            table = table.append(state.added.table.take(late))
        self.ids: np.ndarray = np.array(ids)
        self.table = table
        self.shape = (len(self.ids), self._d)
        self.ndim = 2

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> np.ndarray:
        wanted = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        out = np.empty((len(wanted), self._d), np.float32)
        first = wanted < len(self._built)
        out[first] = self._reader.vectors[self._built[wanted[first]]][:, : self._d]
        out[~first] = self._late[wanted[~first] - len(self._built)][:, : self._d]
        return out

    @property
    def largest(self) -> float:
        """Greatest squared length."""
        found = 0.0
        for start in range(0, len(self), 65_536):
            block = self[start : start + 65_536]
            found = max(found, float(np.einsum("ij,ij->i", block, block, dtype=np.float64).max(initial=0.0)))
        return found

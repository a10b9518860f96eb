"""A filter compiled for one table: flat arrays for the kernels, exact masks and counts, estimates, candidates for rare filters.

`AttributeTable.compile` makes and keeps these. Kernels take `program.arrays` and `table.arrays`, in the order of their arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from paperworks.papers.squash import filter_kernels as kernels
from paperworks.papers.squash.filter_lowering import Lowering
from paperworks.papers.squash.filter_nodes import Constant, Group, Line, Node
from paperworks.papers.squash.filters import Filter

if TYPE_CHECKING:
    from paperworks.papers.squash.attributes import AttributeTable

Four = tuple[int, int, int, int]


class Writer:
    """Collects instructions, and what they point to."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, ...]] = []
        self.numbers: list[int] = []
        self.tables: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        self.has_maybe = False
        self.depth = 0
        self._level = 0

    def add(self, kind: int, combine: int, plane: int, numbers: Four, exact: Four = (0, 0, 0, 0)) -> None:
        """One instruction."""
        self.lines.append((kind, combine, plane, *numbers, *exact))
        if combine == kernels.PUSH:
            self._level += 1
            self.depth = max(self.depth, self._level)

    def merge(self, combine: int) -> None:
        """Combine the two topmost results."""
        self.lines.append((kernels.MERGE, combine, *[0] * (kernels.COLUMNS - 2)))
        self._level -= 1

    def group(self, own: int, combine: int, lines: list[Line]) -> None:
        """Instructions joined by `own`; their result is pushed, or combined with the top."""
        apart = len(lines) > 1 and combine not in (kernels.PUSH, own)
        for i, line in enumerate(lines):
            first = (kernels.PUSH if apart else combine) if i == 0 else own
            self.add(line[0], first, *line[1:])
        if apart:
            self.merge(combine)

    def exact(self, test: int, row: int, numbers: list[int]) -> Four:
        """Keep the numbers of an exact test."""
        begin = len(self.numbers)
        self.numbers += numbers
        self.has_maybe = True
        return test, row, begin, len(self.numbers)

    def table(self, states: np.ndarray) -> int:
        """Keep a table of 256 states."""
        self.tables.append(states)
        return len(self.tables) - 1

    def mask(self, mask: np.ndarray) -> int:
        """Keep a mask of rows."""
        self.masks.append(mask)
        return len(self.masks) - 1


class FilterProgram:
    """A compiled filter; `repr` says what it found out about it.

    code (m, 11) int64, exact (e,) int64, tables (t, 256) uint8, masks (k, n) uint8: see `filter_kernels`.
    depth: buffers that `evaluate_rows` needs. everything, nothing: known without looking at rows. has_maybe: False if cells decide.
    """

    def __init__(self, table: AttributeTable, node: Node) -> None:
        writer = Writer()
        node.write(writer, kernels.PUSH)
        self.table = table
        self.node = node
        self.code = np.array(writer.lines, dtype=np.int64)
        self.exact = np.array(writer.numbers, dtype=np.int64)
        self.tables = np.array(writer.tables, dtype=np.uint8) if writer.tables else _NO_TABLES
        self.masks = np.array(writer.masks) if writer.masks else _NO_TABLES
        self.depth = writer.depth
        self.has_maybe = writer.has_maybe
        self.everything = isinstance(node, Constant) and node.value
        self.nothing = isinstance(node, Constant) and not node.value
        self._bounds: tuple[int, int, float] | None = None
        self._found: np.ndarray | None = None

    def __repr__(self) -> str:
        low, high = self.estimate()
        between = f"{low} rows" if low == high else f"{low} to {high} rows"
        return f"<FilterProgram of {len(self.code)} instructions, {between} of {self.table.n}>"

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """code, exact, tables, masks."""
        return self.code, self.exact, self.tables, self.masks

    def scratch(self) -> np.ndarray:
        """Buffers for `evaluate_rows`, (depth, BLOCK) uint8."""
        return np.empty((max(self.depth, 1), kernels.BLOCK), np.uint8)

    def evaluate(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """0 no, 1 maybe, 2 yes for each of the rows, from cells alone; uint8 (stop - start,)."""
        start, stop = self._range(start, stop)
        out = np.empty(stop - start, np.uint8)
        kernels.evaluate_rows(self.code, self.tables, self.masks, self.table.cells, start, stop, out, self.scratch())
        return out

    def mask(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Which of the rows pass, exactly; bool (stop - start,)."""
        start, stop = self._range(start, stop)
        out = np.empty(stop - start, np.uint8)
        kernels.exact_rows(*self.arrays, *self.table.arrays, start, stop, out, self.scratch())
        return out.view(np.bool_)

    def count(self) -> int:
        """How many rows pass, exactly; without a scan where the histograms or a sorted order know."""
        low, high = self.estimate()
        if low == high:
            return low
        size = self.driver_size()
        if size is not None and size <= self.table.n // SCAN_FACTOR:
            return len(self.positions())
        return int(np.count_nonzero(self.mask()))

    def positions(self) -> np.ndarray:
        """Positions of the rows that pass, exactly, int64, ascending; by candidates where these are few. Not to be written to."""
        size = self.driver_size()
        if size is None or size > self.table.n // SCAN_FACTOR:
            return np.flatnonzero(self.mask())
        if self._found is not None:
            return self._found
        candidates = self.node.driver()
        found = candidates if self.node.driver_is_exact else (self._rest or self).keep(candidates)
        if len(found) <= MAX_KEPT:
            self._found = found
        return found

    def keep(self, positions: np.ndarray) -> np.ndarray:
        """Those of positions int64 (c,) whose rows pass, exactly."""
        positions = np.ascontiguousarray(positions, dtype=np.int64)
        out = np.empty(len(positions), np.int64)
        n = kernels.keep_positions(*self.arrays, *self.table.arrays, positions, out)
        return out[:n]

    def verify(self, row: int) -> bool:
        """True if the row at this position passes, exactly."""
        return bool(kernels.verify_row(*self.arrays, *self.table.arrays, row))

    def estimate(self) -> tuple[int, int]:
        """At least and at most so many rows match; from counts of cells and labels, no row is read."""
        low, high, _ = self._known()
        return low, high

    def expected(self) -> float:
        """About so many rows match, as if attributes were independent of each other; within `estimate`."""
        return self._known()[2]

    def driver_size(self) -> int | None:
        """At most how many candidates `driver` has; None if no part of the filter narrows the rows down.

        Of one scalar condition it is the exact number, unless that is more than a sixteenth of the rows.
        """
        return self._driver_size

    def driver(self, limit: int | None = None) -> np.ndarray | None:
        """Candidates int64, ascending: the positions of the most selective part that every match must be in.

        None if there is no such part or it has more than `limit` rows. `keep` checks the other parts.
        """
        size = self.driver_size()
        if size is None or (limit is not None and size > limit):
            return None
        return self.node.driver()

    @cached_property
    def _rest(self) -> FilterProgram | None:
        """What remains to be checked of candidates, where these already pass the part that they come from."""
        node = self.node
        if not isinstance(node, Group) or not node.parts[node.narrowest].driver_is_exact:
            return None
        rest = [part for i, part in enumerate(node.parts) if i != node.narrowest]
        return FilterProgram(self.table, rest[0] if len(rest) == 1 else Group(node.combine, rest))

    @cached_property
    def _driver_size(self) -> int | None:
        return self.node.driver_size()

    def _known(self) -> tuple[int, int, float]:
        if self._bounds is None:
            self._bounds = self.node.bounds(self.table.n)
        return self._bounds

    def _range(self, start: int, stop: int | None) -> tuple[int, int]:
        n = self.table.n
        stop = n if stop is None else min(stop, n)
        return max(0, min(start, stop)), stop


SCAN_FACTOR = 16  # a candidate checked by its row costs about as much as so many rows of a scan
MAX_KEPT = 20_000  # positions that a program keeps for its next use
_NO_TABLES = np.zeros((0, 256), np.uint8)


def compile_filter(
    table: AttributeTable,
    wanted: Filter | None,
    positions_of: Callable[[np.ndarray], np.ndarray] | None = None,
    rows: np.ndarray | None = None,
) -> FilterProgram:
    """The program of a filter for a table; see `AttributeTable.compile`."""
    return FilterProgram(table, Lowering(table, positions_of, rows).node(wanted))

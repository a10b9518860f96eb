"""Filters after they met the columns: leaves that know cells, counts and positions, under 'and' and 'or'; negation is gone.

A leaf stands for the rows for which its condition is true. 'Not' was pushed into the leaves, where it leaves missing values out,
which is all that the logic of SQL needs: 'and' and 'or' of such leaves are plain 'and' and 'or'.
Each leaf tells its instructions (see `filter_kernels`), bounds on how many rows it matches, and candidates by a sorted order.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from paperworks.papers.squash import filter_kernels as kernels
from paperworks.papers.squash.attribute_cells import MISSING, Stored
from paperworks.papers.squash.filter_intervals import Intervals

if TYPE_CHECKING:
    from paperworks.papers.squash.attributes import AttributeTable
    from paperworks.papers.squash.filter_program import Writer

MANY = 16  # beyond a sixteenth of the rows, the size of a driver is not looked up but bounded
MAX_RANGES = 10  # more runs of cells than this go through a table of 256 entries, which costs as much as some 14 ranges


class Node(Protocol):
    """What the program asks of a leaf or a combination."""

    def bounds(self, n: int) -> tuple[int, int, float]:
        """At least, at most and about how many of n rows match."""

    def driver_size(self) -> int | None:
        """At most how many candidates `driver` gives, exactly where these are few; None if the rows must be scanned."""

    def driver(self) -> np.ndarray:
        """Positions int64, sorted, among which all matches are."""

    @property
    def driver_is_exact(self) -> bool:
        """True if `driver` gives the matches and nothing else."""

    def write(self, writer: Writer, combine: int) -> None:
        """Add the instructions."""


@dataclass(frozen=True)
class Constant:
    """Every row, or none."""

    value: bool

    def bounds(self, n: int) -> tuple[int, int, float]:
        return (n, n, float(n)) if self.value else (0, 0, 0.0)

    def driver_size(self) -> int | None:
        return None if self.value else 0

    def driver(self) -> np.ndarray:
        return np.zeros(0, np.int64)

    @property
    def driver_is_exact(self) -> bool:
        return True

    def write(self, writer: Writer, combine: int) -> None:
        writer.add(kernels.CONSTANT, combine, 0, (0, 0, 2 * self.value, 0))


@dataclass
class ScalarLeaf:
    """Rows whose key is in `intervals` (sorted, disjoint), and those without a value if `null`."""

    table: AttributeTable
    stored: Stored
    intervals: Intervals
    null: bool = False
    _runs: list[tuple[int, int, int, int, int, int]] | None = None

    @property
    def runs(self) -> list[tuple[int, int, int, int, int, int]]:
        """For each interval that meets a cell: first and last cell, first and last that pass as a whole, first and last key."""
        if self._runs is None:
            low, high = self.stored.low, self.stored.high
            self._runs = []
            for first_key, last_key in self.intervals:
                first, last = bisect_left(high, first_key), bisect_right(low, last_key) - 1
                if first <= last:
                    inner, inner_last = first + (low[first] < first_key), last - (high[last] > last_key)
                    self._runs.append((first, last, inner, inner_last, first_key, last_key))
        return self._runs

    def folded(self) -> ScalarLeaf | Constant:
        """A constant where no cell or all cells pass."""
        one = self.stored
        null, runs = self.null and one.n_missing > 0, self.runs
        if not runs and not null:
            return Constant(False)
        if len(runs) == 1 and (runs[0][2] > 0 or runs[0][3] < len(one.low) - 1):  # by far the most frequent case
            return self
        whole = sum(last - first + 1 for _, _, first, last, _, _ in runs if first <= last)
        if whole == len(one.low) and (null or not one.n_missing):
            return Constant(True)
        return self

    def bounds(self, n: int) -> tuple[int, int, float]:
        running = self.stored.running
        most = sum(running[last + 1] - running[first] for first, last, _, _, _, _ in self.runs)
        least = sum(running[last + 1] - running[first] for _, _, first, last, _, _ in self.runs if first <= last)
        most = min(most, running[-1])
        nulls = self.stored.n_missing if self.null else 0
        return least + nulls, most + nulls, nulls + (least + most) / 2

    @cached_property
    def slices(self) -> list[tuple[int, int]]:
        """Where the matches stand in the sorted order, exactly."""
        one, running = self.stored, self.stored.running
        if one.key_row < 0:
            found = [(running[first], running[last + 1]) for first, last, _, _, _, _ in self.runs]
        else:
            order, keys = self.table.order(one.name), self.table.keys[one.key_row]
            found = []
            for first, last, inner, inner_last, first_key, last_key in self.runs:
                begin, end = running[first], running[last + 1]
                if inner > first:
                    begin = kernels.first_at_least(keys, order, begin, running[first + 1], first_key)
                if inner_last < last:
                    end = kernels.first_at_least(keys, order, running[last], end, last_key + 1)
                found.append((begin, end))
        if self.null:
            found.append((running[-1], running[-1] + one.n_missing))
        return found

    def driver_size(self) -> int | None:
        least, most, _ = self.bounds(self.table.n)
        if least == most or least > self.table.n // MANY:
            return most
        return int(sum(end - begin for begin, end in self.slices))

    @property
    def driver_is_exact(self) -> bool:
        return True

    def driver(self) -> np.ndarray:
        order = self.table.order(self.stored.name)
        return _sorted_union([order[begin:end] for begin, end in self.slices], disjoint=True)

    def write(self, writer: Writer, combine: int) -> None:
        if len(self.runs) == 1 and not self.null:
            kind, numbers = _range_line(*(run := self.runs[0])[:4])
            is_exact = numbers[2] == 2 and kind == kernels.RANGE
            exact = _NO_TEST if is_exact else writer.exact(kernels.INTERVALS, self.stored.key_row, [*run[4:]])
            writer.add(kind, combine, self.stored.plane, numbers, exact)
            return
        exact = _NO_TEST
        if any(run[0] != run[2] or run[1] != run[3] for run in self.runs):
            exact = writer.exact(
                kernels.INTERVALS, self.stored.key_row, [end for pair in self.intervals for end in pair]
            )
        plane = self.stored.plane
        if len(self.runs) + self.null > MAX_RANGES or self._share_a_cell():
            writer.add(kernels.TABLE, combine, plane, (writer.table(self._states()), 0, 0, 0), exact)
            return
        lines = [_range_line(*run[:4]) for run in self.runs]
        if self.null:
            lines.append((kernels.RANGE, (MISSING, 0, 2, 0)))
        writer.group(kernels.OR, combine, [(kind, plane, numbers, exact) for kind, numbers in lines])

    def _share_a_cell(self) -> bool:
        return any(one[1] >= other[0] for one, other in zip(self.runs, self.runs[1:], strict=False))

    def _states(self) -> np.ndarray:
        states = np.zeros(256, np.uint8)
        for first, last, _, _, _, _ in self.runs:
            states[first : last + 1] = 1
        for _, _, first, last, _, _ in self.runs:
            if first <= last:
                states[first : last + 1] = 2
        states[MISSING] = 2 * self.null
        return states


def _range_line(first: int, last: int, inner: int, inner_last: int) -> tuple[int, tuple[int, int, int, int]]:
    """Kind and numbers of an instruction for one run of cells."""
    if (inner, inner_last) == (first, last):
        return kernels.RANGE, (first, last - first, 2, 0)
    if inner > inner_last:
        return kernels.RANGE, (first, last - first, 1, 0)
    return kernels.EDGES, (first, last - first, inner, inner_last - inner)


@dataclass
class LabelLeaf:
    """Rows whose set of labels has any, all, none or not all of `codes` (sorted ranks), or is missing or present."""

    table: AttributeTable
    stored: Stored
    mode: str  # any, all, none, not all, null, present
    codes: Sequence[int] = ()

    def bounds(self, n: int) -> tuple[int, int, float]:
        one = self.stored
        present = n - one.n_missing
        if self.mode in ("null", "present"):
            exactly = one.n_missing if self.mode == "null" else present
            return exactly, exactly, float(exactly)
        counts = [one.counts[code] for code in self.codes]
        shares = [count / max(1, present) for count in counts]
        if self.mode in ("any", "none"):
            least, most = max(counts, default=0), min(present, sum(counts))
            about = present * (1 - math.prod(1 - share for share in shares))
        else:
            least = max(0, sum(counts) - (len(counts) - 1) * present) if counts else present
            most = min(counts, default=present)
            about = present * math.prod(shares)
        if self.mode in ("any", "all"):
            return least, most, min(max(about, least), most)
        return present - most, present - least, present - min(max(about, least), most)

    def driver_size(self) -> int | None:
        counts = [self.stored.counts[code] for code in self.codes]
        if self.mode == "any":
            return sum(counts)
        return min(counts) if self.mode == "all" and counts else None

    @property
    def driver_is_exact(self) -> bool:
        return self.mode == "any"

    def driver(self) -> np.ndarray:
        order, running = self.table.order(self.stored.name), self.stored.running
        codes = self.codes if self.mode == "any" else [min(self.codes, key=self.stored.counts.__getitem__)]
        return _sorted_union([order[running[code] : running[code + 1]] for code in codes], disjoint=len(codes) < 2)

    def write(self, writer: Writer, combine: int) -> None:
        one = self.stored
        is_missing = (kernels.BITS, one.plane, (1, 1, 2, 0), _NO_TEST)
        is_present = (kernels.BITS, one.plane, (1, 0, 2, 0), _NO_TEST)
        if self.mode in ("null", "present"):
            writer.group(kernels.OR, combine, [is_missing if self.mode == "null" else is_present])
            return
        lines = [self._plane_line(writer, plane, mask, exact) for (plane, exact), mask in self._masks().items()]
        if self.mode == "any":
            writer.group(kernels.OR, combine, lines)
        elif self.mode == "all":
            writer.group(kernels.AND, combine, lines)
        elif self.mode == "none":
            writer.group(kernels.AND, combine, [*lines, is_present])
        else:  # (not all of the first plane, or not all of the second ...) and present
            writer.group(kernels.OR, kernels.PUSH, lines)
            writer.add(kernels.BITS, kernels.AND, *is_present[1:])
            if combine != kernels.PUSH:
                writer.merge(combine)

    def _masks(self) -> dict[tuple[int, bool], int]:
        masks: dict[tuple[int, bool], int] = {}
        for code in self.codes:
            plane, bit, exact = self.stored.place(code)
            masks[plane, exact] = masks.get((plane, exact), 0) | (1 << bit)
        return masks

    def _plane_line(self, writer: Writer, plane: int, mask: int, is_exact: bool) -> Line:
        (
            test,
            target,
            if_equal,
            if_not,
        ) = {  # values with bits of one label each; with shared bits the sure answer differs
            "any": (kernels.LABELS_ANY, 0, 0, 2 if is_exact else 1),
            "all": (kernels.LABELS_ALL, mask, 2 if is_exact else 1, 0),
            "none": (kernels.LABELS_NONE, 0, 2, 0 if is_exact else 1),
            "not all": (kernels.LABELS_NOT_ALL, mask, 0 if is_exact else 1, 2),
        }[self.mode]
        exact = _NO_TEST if is_exact else writer.exact(test, self.stored.starts_row, list(self.codes))
        return kernels.BITS, plane, (mask, target, if_equal, if_not), exact


@dataclass
class RowsLeaf:
    """Rows of a mask (n,) uint8 in the order of the table, or those outside it; or rows by position, which are in it."""

    mask: np.ndarray
    negated: bool = False
    positions: np.ndarray | None = None  # sorted, if they are known

    @cached_property
    def count(self) -> int:
        inside = int(np.count_nonzero(self.mask)) if self.positions is None else len(self.positions)
        return len(self.mask) - inside if self.negated else inside

    def bounds(self, n: int) -> tuple[int, int, float]:
        return self.count, self.count, float(self.count)

    def driver_size(self) -> int | None:
        return self.count

    @property
    def driver_is_exact(self) -> bool:
        return True

    def driver(self) -> np.ndarray:
        if self.positions is not None and not self.negated:
            return self.positions
        return np.flatnonzero(self.mask == 0 if self.negated else self.mask)

    def write(self, writer: Writer, combine: int) -> None:
        values = (0, 2) if self.negated else (2, 0)
        writer.add(kernels.MASK, combine, writer.mask(self.mask), (0, 0, *values))


@dataclass
class Group:
    """And (or or) of two or more parts, those first that need most buffers: m leaves never need more than about log2(m)."""

    combine: int
    parts: list[Node]

    def __post_init__(self) -> None:
        self.parts = sorted(self.parts, key=_depth, reverse=True)
        self.depth = max(1, _depth(self.parts[0]), *(_depth(part) + 1 for part in self.parts[1:]))

    def bounds(self, n: int) -> tuple[int, int, float]:
        bounds = [part.bounds(n) for part in self.parts]
        shares = [about / max(1, n) for _, _, about in bounds]
        if self.combine == kernels.AND:
            least = max(0, sum(low for low, _, _ in bounds) - (len(bounds) - 1) * n)
            most = min(high for _, high, _ in bounds)
            about = n * math.prod(shares)
        else:
            least, most = max(low for low, _, _ in bounds), min(n, sum(high for _, high, _ in bounds))
            about = n * (1 - math.prod(1 - share for share in shares))
        return least, most, min(max(about, least), most)

    @cached_property
    def sizes(self) -> list[int | None]:
        """Driver sizes of the parts."""
        return [part.driver_size() for part in self.parts]

    def driver_size(self) -> int | None:
        known = [size for size in self.sizes if size is not None]
        if self.combine == kernels.AND:
            return min(known, default=None)
        return sum(known) if len(known) == len(self.parts) else None

    def driver(self) -> np.ndarray:
        if self.combine == kernels.OR:
            return _sorted_union([part.driver() for part in self.parts], disjoint=False)
        return self.parts[self.narrowest].driver()

    @property
    def narrowest(self) -> int:
        """The part of an 'and' that has the fewest candidates."""
        return min((size, i) for i, size in enumerate(self.sizes) if size is not None)[1]

    @property
    def driver_is_exact(self) -> bool:
        return self.combine == kernels.OR and all(part.driver_is_exact for part in self.parts)

    def write(self, writer: Writer, combine: int) -> None:
        inline = combine in (kernels.PUSH, self.combine)
        for i, part in enumerate(self.parts):
            part.write(writer, kernels.PUSH if i == 0 and not (inline and combine != kernels.PUSH) else self.combine)
        if not inline:
            writer.merge(combine)


Line = tuple[int, int, tuple[int, int, int, int], tuple[int, int, int, int]]
_NO_TEST = (kernels.NEVER, 0, 0, 0)


def _depth(node: Node) -> int:
    """Buffers that a node needs beside the one it is combined with; a leaf is combined at once."""
    return node.depth if isinstance(node, Group) else 0


def _sorted_union(parts: list[np.ndarray], disjoint: bool) -> np.ndarray:
    positions = np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)
    return np.sort(positions) if disjoint else np.unique(positions)

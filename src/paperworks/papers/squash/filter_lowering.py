"""From an expression to nodes over columns: types are checked, constants become intervals of keys, 'not' moves into the leaves.

What a comparison means for the types: numbers compare exactly with numbers (not with booleans; fractions are rounded to the type
of a float32 column, as NumPy does), text with text in the order of
code points, dates with dates and ISO text, booleans only for equality, sets of labels by `contains...` (a list of values, as a
dict filter gives, means any of them).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.papers.squash import filter_kernels as kernels
from paperworks.papers.squash.attribute_cells import Stored
from paperworks.papers.squash.attribute_keys import EMPTY, HIGHEST, LOWEST, date_interval, number_interval
from paperworks.papers.squash.filter_intervals import ALL_KEYS, Intervals, complement, intersection, union
from paperworks.papers.squash.filter_nodes import Constant, Group, LabelLeaf, Node, RowsLeaf, ScalarLeaf
from paperworks.papers.squash.filters import (
    And,
    Between,
    Compare,
    Contains,
    Filter,
    FilterError,
    FilterTypeError,
    Ids,
    IsIn,
    IsNull,
    Many,
    Not,
    Or,
    Rows,
    Scalar,
)

if TYPE_CHECKING:
    from paperworks.papers.squash.attributes import AttributeTable

KIND_NAMES = {"int": "integers", "float": "floats", "bool": "booleans", "category": "text", "datetime": "dates"}


class Lowering:
    """Turns one expression into nodes for one table.

    positions_of: ids int64 (m,) -> the positions of those that the table has, int64 (default: ids are positions). rows (n,): the
    number of each position in a caller's mask (default: the position).
    """

    def __init__(
        self,
        table: AttributeTable,
        positions_of: Callable[[np.ndarray], np.ndarray] | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self.table = table
        self.positions_of = positions_of
        self.rows = rows

    def node(self, wanted: Filter | None) -> Node:
        """The whole expression."""
        if wanted is None:
            return Constant(True)
        lowered = self._lower(wanted, False)
        return lowered.folded() if isinstance(lowered, ScalarLeaf) else lowered

    def _lower(self, one: Filter, negated: bool) -> Node:
        lower = _LOWER.get(type(one))
        if lower is None:
            raise FilterTypeError(f"not a filter: {one!r}")
        return lower(self, one, negated)

    def _not(self, one: Not, negated: bool) -> Node:
        return self._lower(one.part, not negated)

    def _many(self, one: Many, negated: bool) -> Node:
        combine = kernels.AND if isinstance(one, And) != negated else kernels.OR
        return _combined(combine, [self._lower(part, negated) for part in one.parts])

    def _contains(self, one: Contains, negated: bool) -> Node:
        stored = self.table.attribute(one.name)
        if stored.kind != "labels":
            raise FilterTypeError(
                f"{one.name} holds {KIND_NAMES[stored.kind]}, not sets of labels; use Attr({one.name!r}).isin(...)"
            )
        return self._labels(stored, one.values, one.every, negated)

    def _between(self, one: Between, negated: bool) -> Node:
        above = ">=" if one.inclusive in ("both", "left") else ">"
        below = "<=" if one.inclusive in ("both", "right") else "<"
        stored = self.table.attribute(one.name)
        if stored.kind == "labels":
            self._compare(Compare(one.name, above, one.low), negated)  # says why not
        if stored.kind == "int" and type(one.low) is int and type(one.high) is int:
            low, high = number_interval(above, one.low, False), number_interval(below, one.high, False)
        else:
            low, high = interval(stored, above, one.low), interval(stored, below, one.high)
        found = (max(low[0], high[0]), min(low[1], high[1]))
        intervals = [found] if found[0] <= found[1] else []
        return ScalarLeaf(self.table, stored, complement(intervals) if negated else intervals)

    def _compare(self, one: Compare, negated: bool) -> Node:
        stored = self.table.attribute(one.name)
        op = "==" if one.op == "!=" else one.op
        if stored.kind == "labels":
            raise FilterTypeError(
                f"{one.name} holds sets of labels, which do not compare with {one.op}; "
                f"use Attr({one.name!r}).contains({one.value!r}), contains_any or contains_all"
            )
        found = interval(stored, op, one.value)
        intervals = [found] if found[0] <= found[1] else []
        return ScalarLeaf(self.table, stored, complement(intervals) if negated != (one.op == "!=") else intervals)

    def _is_in(self, one: IsIn, negated: bool) -> Node:
        stored = self.table.attribute(one.name)
        if stored.kind == "labels":
            return self._labels(stored, one.values, False, negated)
        intervals = union([interval(stored, "==", value) for value in one.values])
        return ScalarLeaf(self.table, stored, complement(intervals) if negated else intervals)

    def _is_null(self, one: IsNull, negated: bool) -> Node:
        stored = self.table.attribute(one.name)
        if stored.kind != "labels":
            return ScalarLeaf(self.table, stored, ALL_KEYS if negated else [], null=not negated)
        if not stored.n_missing:
            return Constant(negated)
        return LabelLeaf(self.table, stored, "present" if negated else "null")

    def _labels(self, stored: Stored, values: tuple[Scalar, ...], every: bool, negated: bool) -> Node:
        known, unknown = set(), False
        for value in values:
            code = _label_code(stored, value)
            unknown |= code < 0
            known |= {code} if code >= 0 else set()
        present: Node = LabelLeaf(self.table, stored, "present") if stored.n_missing else Constant(True)
        if every and unknown:
            return present if negated else Constant(False)
        if not known:
            return present if every != negated else Constant(False)
        modes = {(False, False): "any", (False, True): "none", (True, False): "all", (True, True): "not all"}
        if len(known) == 1:  # any and all are the same
            every = False
        return LabelLeaf(self.table, stored, modes[every, negated], sorted(known))

    def _rows(self, one: Rows, negated: bool) -> Node:
        n = self.table.n
        if self.rows is None:
            if len(one.mask) != n:
                raise FilterError(f"a mask needs one value a row: there are {n} rows, got a mask of {len(one.mask)}")
            mask = one.mask
        else:
            if n and int(self.rows.max()) >= len(one.mask):
                raise FilterError(f"a mask needs one value a row that was added, got only {len(one.mask)} values")
            mask = one.mask[self.rows]
        return RowsLeaf(np.ascontiguousarray(mask).view(np.uint8), negated)

    def _ids(self, one: Ids, negated: bool) -> Node:
        n = self.table.n
        if self.positions_of is None:
            positions = one.ids[(one.ids >= 0) & (one.ids < n)]
        else:
            positions = np.unique(np.asarray(self.positions_of(one.ids), dtype=np.int64))
        mask = np.zeros(n, np.uint8)
        mask[positions] = 1
        return RowsLeaf(mask, negated, positions)


_LOWER: dict[type[Filter], Callable[[Lowering, Any, bool], Node]] = {
    Compare: Lowering._compare,
    Between: Lowering._between,
    IsIn: Lowering._is_in,
    IsNull: Lowering._is_null,
    Contains: Lowering._contains,
    And: Lowering._many,
    Or: Lowering._many,
    Not: Lowering._not,
    Rows: Lowering._rows,
    Ids: Lowering._ids,
}


def interval(stored: Stored, op: str, value: Scalar) -> tuple[int, int]:
    """The keys for which `attribute op value` holds, op not !=; FilterTypeError if the types do not go together."""
    kind = stored.kind
    if kind == "int" and type(value) is int:
        return number_interval(op, value, False)
    if kind == "float" and stored.unit and type(value) is float:
        value = _rounded(value, stored.unit)
    if kind in ("int", "float") and isinstance(value, int | float) and not isinstance(value, bool):
        return number_interval(op, value, kind == "float")
    if kind == "datetime" and not isinstance(value, bool | int | float):
        return date_interval(op, value, stored.unit, stored.name)
    if kind == "category" and isinstance(value, str):
        below = bisect_right(stored.dictionary, value) - 1
        above = bisect_left(stored.dictionary, value)
        ends = {
            "==": (above, below),
            "<": (LOWEST, above - 1),
            "<=": (LOWEST, below),
            ">": (below + 1, HIGHEST),
            ">=": (above, HIGHEST),
        }[op]
        return ends if ends[0] <= ends[1] else EMPTY
    if kind == "bool" and isinstance(value, bool):
        if op != "==":
            raise FilterTypeError(f"{stored.name} holds booleans, which compare only with == and !=")
        return int(value), int(value)
    raise FilterTypeError(
        f"{stored.name} holds {KIND_NAMES[kind]}, which do not compare with {type(value).__name__} {value!r}"
    )


def _rounded(value: float, unit: str) -> float:
    """The constant in the type of the column, as NumPy and pandas have it: float32 values of 0.1 equal 0.1."""
    with np.errstate(over="ignore"):
        return float(np.dtype(unit).type(value))


def _label_code(stored: Stored, value: Scalar) -> int:
    """Rank of a label, -1 for one that no row has."""
    words = stored.dictionary
    if words and (type(value) is not type(words[0])):
        kind = "text" if isinstance(words[0], str) else "integers"
        raise FilterTypeError(f"the labels of {stored.name} are {kind}, got {type(value).__name__} {value!r}")
    found: Any = bisect_left(words, value)
    return found if found < len(words) and words[found] == value else -1


def _combined(combine: int, parts: list[Node]) -> Node:
    """And or or of parts: nested ones of the same kind are opened, conditions on one attribute become one, constants go."""
    is_and = combine == kernels.AND
    flat: list[Node] = []
    scalars: dict[str, ScalarLeaf] = {}
    for part in parts:
        for leaf in part.parts if isinstance(part, Group) and part.combine == combine else (part,):
            if not isinstance(leaf, ScalarLeaf):
                flat.append(leaf)
                continue
            known = scalars.get(leaf.stored.name)
            scalars[leaf.stored.name] = leaf if known is None else _same_attribute(is_and, known, leaf)
    flat += [leaf.folded() for leaf in scalars.values()]
    if any(isinstance(leaf, Constant) and leaf.value != is_and for leaf in flat):
        return Constant(not is_and)
    flat = [leaf for leaf in flat if not isinstance(leaf, Constant)]
    if not flat:
        return Constant(is_and)
    return flat[0] if len(flat) == 1 else Group(combine, flat)


def _same_attribute(is_and: bool, one: ScalarLeaf, other: ScalarLeaf) -> ScalarLeaf:
    if is_and:
        intervals: Intervals = intersection(one.intervals, other.intervals)
        return ScalarLeaf(one.table, one.stored, intervals, one.null and other.null)
    return ScalarLeaf(one.table, one.stored, union([*one.intervals, *other.intervals]), one.null or other.null)

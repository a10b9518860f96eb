"""Filters as expressions: `(Attr("year") >= 2020) & Attr("category").isin(["cs.CL", "cs.LG"])`.

An expression only says what is wanted; it knows no data. `attributes.AttributeTable.compile` checks it against the columns and
makes the program that the kernels run. Logic is that of SQL: a missing value is neither below, above nor equal to anything, and
stays so under `~`, so `~(Attr("year") >= 2020)` finds the same rows as `Attr("year") < 2020`. Only `is_null()` finds missing values.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from paperworks.papers.squash.filter_expressions import (
    COMPARISONS,
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
    UnknownAttribute,
    value_from_json,
)

FilterLike: TypeAlias = "Filter | Mapping[str, Any] | np.ndarray | Sequence[Any] | None"
_WORDS = {"$eq": "==", "$ne": "!=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}

__all__ = [
    "COMPARISONS",
    "And",
    "Attr",
    "Between",
    "Compare",
    "Contains",
    "Filter",
    "FilterError",
    "FilterLike",
    "FilterTypeError",
    "Ids",
    "IsIn",
    "IsNull",
    "Many",
    "Not",
    "Or",
    "Rows",
    "Scalar",
    "UnknownAttribute",
    "as_filter",
    "from_dict",
    "per_query",
    "without_zone",
]


class Attr:
    """An attribute by name; comparing it gives a `Filter`.

    >>> recent = Attr("year") >= 2020
    >>> wanted = recent & ~Attr("category").isin(["cs.CV", "cs.RO"])
    >>> sorted(wanted.names)
    ['category', 'year']

    Values are numbers, strings, booleans, dates or ISO dates as text, of the attribute's own type: comparing a number with a
    string raises `FilterTypeError`. An integer attribute may be compared with a fraction, and exactly.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise FilterTypeError(f"an attribute is named by a string, got {name!r}")
        self.name = name

    def __repr__(self) -> str:
        return f"Attr({self.name!r})"

    __hash__ = None  # type: ignore[assignment]  # == makes a filter, so an Attr cannot be found in a set

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return Compare(self.name, "==", _scalar(self.name, value))

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return Compare(self.name, "!=", _scalar(self.name, value))

    def __lt__(self, value: object) -> Filter:
        return Compare(self.name, "<", _scalar(self.name, value))

    def __le__(self, value: object) -> Filter:
        return Compare(self.name, "<=", _scalar(self.name, value))

    def __gt__(self, value: object) -> Filter:
        return Compare(self.name, ">", _scalar(self.name, value))

    def __ge__(self, value: object) -> Filter:
        return Compare(self.name, ">=", _scalar(self.name, value))

    def between(self, low: object, high: object, inclusive: str = "both") -> Filter:
        """low <= value <= high; `inclusive` is both, left, right or neither. None leaves an end open."""
        if inclusive not in ("both", "left", "right", "neither"):
            raise FilterError(f"inclusive must be both, left, right or neither, got {inclusive!r}")
        if low is not None and high is not None:
            return Between(self.name, _scalar(self.name, low), _scalar(self.name, high), inclusive)
        if low is not None:
            return self >= low if inclusive in ("both", "left") else self > low
        if high is not None:
            return self <= high if inclusive in ("both", "right") else self < high
        return Not(IsNull(self.name))

    def isin(self, values: Iterable[object]) -> Filter:
        """The value equals one of `values`; no values, no rows."""
        return IsIn(self.name, _scalars(self.name, values))

    def is_null(self) -> Filter:
        """The value is missing (None, NaN or NaT in the data)."""
        return IsNull(self.name)

    def not_null(self) -> Filter:
        """The value is there."""
        return Not(IsNull(self.name))

    def contains(self, value: object) -> Filter:
        """The set of labels holds `value`."""
        return Contains(self.name, (_scalar(self.name, value),), every=False)

    def contains_any(self, values: Iterable[object]) -> Filter:
        """The set of labels shares one or more with `values`; no values, no rows."""
        return Contains(self.name, _scalars(self.name, values), every=False)

    def contains_all(self, values: Iterable[object]) -> Filter:
        """The set of labels holds all of `values`; no values, all rows that are not missing."""
        return Contains(self.name, _scalars(self.name, values), every=True)


def as_filter(what: FilterLike) -> Filter | None:
    """One filter from whatever a caller may give for it; None means every row.

    A mapping is an 'and' over its attributes: a pair as a tuple is a range with both ends (None leaves one open), a list, set or
    array the allowed values, None a missing value, a mapping of operators like `{">=": 2020, "<": 2024}` what it says, anything
    else the value itself. A boolean array is a mask of rows, an array of integers the ids of the allowed rows.

    >>> as_filter({"year": (2020, 2024), "category": ["cs.CL"]}).names == {"year", "category"}
    True
    """
    if what is None or isinstance(what, Filter):
        return what
    if isinstance(what, Mapping):
        return And(tuple(_from_pair(name, wanted) for name, wanted in what.items()))
    if isinstance(what, Attr):
        raise FilterTypeError(f"{what!r} alone is no filter; compare it with something, e.g. {what!r} == value")
    if isinstance(what, str):
        raise FilterTypeError(f"text is no filter; use parse_filter({what!r})")
    try:
        array = np.asarray(what)
    except ValueError as error:
        raise FilterTypeError(f"a filter is an expression, a dict, a mask or an array of ids, got {what!r}") from error
    if array.ndim == 1 and array.dtype == np.bool_:
        return Rows(array)
    if array.ndim == 1 and (array.dtype.kind in "iu" or array.size == 0):
        return Ids(np.unique(array.astype(np.int64)))
    raise FilterTypeError(
        f"a filter is an expression, a dict, a mask (n,) of bool or an array of integer ids, got {type(what).__name__} "
        f"of {array.dtype} with shape {array.shape}"
    )


def per_query(what: Any, n_queries: int) -> list[Filter | None]:
    """A filter for each query: one for all, a list of n_queries of them, or a mask (n_queries, n)."""
    if isinstance(what, np.ndarray) and what.ndim == 2:
        what = list(what)
    is_many = isinstance(what, list | tuple) and any(
        part is None or isinstance(part, Filter | Mapping | np.ndarray | list | tuple) for part in what
    )
    if not is_many:
        return [as_filter(what)] * n_queries
    if len(what) != n_queries:
        raise FilterError(f"got {len(what)} filters for {n_queries} queries; give one for all, or one for each query")
    return [as_filter(part) for part in what]


def from_dict(data: Mapping[str, Any]) -> Filter:
    """Read what `Filter.to_dict` wrote.

    >>> wanted = (Attr("year") > 2020) | ~Attr("open").is_null()
    >>> from_dict(wanted.to_dict()).key == wanted.key
    True
    """
    try:
        op = data["op"]
        if op in ("and", "or"):
            parts = tuple(from_dict(part) for part in data["parts"])
            return And(parts) if op == "and" else Or(parts)
        if op == "not":
            return Not(from_dict(data["part"]))
        attribute = Attr(data["name"])
        if op == "null":
            return attribute.is_null()
        if op in ("in", "any", "all"):
            values = [value_from_json(value) for value in data["values"]]
            return {"in": attribute.isin, "any": attribute.contains_any, "all": attribute.contains_all}[op](values)
        if op == "between":
            return attribute.between(value_from_json(data["low"]), value_from_json(data["high"]), data["inclusive"])
        if op in COMPARISONS:
            return Compare(attribute.name, op, _scalar(attribute.name, value_from_json(data["value"])))
    except (KeyError, TypeError) as error:
        raise FilterError(f"not a filter: {data!r} ({error!r})") from error
    raise FilterError(f"not a filter: {data!r} has the unknown op {op!r}")


def _from_pair(name: str, wanted: Any) -> Filter:
    attribute = Attr(name)
    if wanted is None:
        return attribute.is_null()
    if isinstance(wanted, Mapping):
        return And(tuple(_from_operator(attribute, op, value) for op, value in wanted.items()))
    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise FilterError(
                f"{name}: a tuple is a range (low, high), got {len(wanted)} values; use a list for a choice"
            )
        return attribute.between(*wanted)
    if isinstance(wanted, list | set | frozenset | np.ndarray):
        return IsIn(name, _scalars(name, wanted))
    return attribute.isin([wanted])  # of labels: the set holds it


def _from_operator(attribute: Attr, op: str, value: Any) -> Filter:
    op = _WORDS.get(op, op)
    if op in COMPARISONS:
        return Compare(attribute.name, op, _scalar(attribute.name, value))
    if op in ("in", "$in"):
        return attribute.isin(value)
    if op in ("not in", "$nin"):
        return ~attribute.isin(value)
    raise FilterError(
        f"{attribute.name}: unknown operator {op!r}; there are {', '.join((*COMPARISONS, 'in', 'not in'))}"
    )


def _scalars(name: str, values: Iterable[object]) -> tuple[Scalar, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise FilterTypeError(f"{name}: needs a list of values, got {values!r}")
    found = tuple(_scalar(name, value) for value in values)
    return tuple(sorted(found, key=str)) if isinstance(values, set | frozenset) else found


def _scalar(name: str, value: object) -> Scalar:
    """A plain Python value, or an error at the door."""
    if type(value) in (int, str, bool):
        return value  # type: ignore[return-value]
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        value = value.item()
    if value is None:
        raise FilterTypeError(f"{name}: nothing compares with None; use Attr({name!r}).is_null()")
    if isinstance(value, float) and math.isnan(value):
        raise FilterError(f"{name}: nothing compares with NaN; use Attr({name!r}).is_null()")
    if hasattr(value, "to_datetime64"):  # a pandas Timestamp, which may hold nanoseconds
        value = without_zone(value).to_datetime64()
    if isinstance(value, np.datetime64) and np.isnat(value):
        raise FilterError(f"{name}: nothing compares with NaT; use Attr({name!r}).is_null()")
    if isinstance(value, bool | int | float | str | datetime.date | np.datetime64):
        return value
    raise FilterTypeError(f"{name}: cannot compare with {type(value).__name__} {value!r}")


def without_zone(stamp: Any) -> Any:
    """A pandas Timestamp in UTC, the zone taken off."""
    return stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo is not None else stamp

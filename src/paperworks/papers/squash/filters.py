"""Filters as expressions: `(Attr("year") >= 2020) & Attr("category").isin(["cs.CL", "cs.LG"])`.

An expression only says what is wanted; it knows no data. `attributes.AttributeTable.compile` checks it against the columns and
makes the program that the kernels run. Logic is that of SQL: a missing value is neither below, above nor equal to anything, and
stays so under `~`, so `~(Attr("year") >= 2020)` finds the same rows as `Attr("year") < 2020`. Only `is_null()` finds missing values.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from paperworks.errors import InputError, NotFound

Scalar: TypeAlias = bool | int | float | str | datetime.date | np.datetime64
FilterLike: TypeAlias = "Filter | Mapping[str, Any] | np.ndarray | Sequence[Any] | None"


class FilterError(InputError):
    """A filter that cannot be used."""


class FilterTypeError(FilterError, TypeError):
    """A filter compares an attribute with something of another type."""


class UnknownAttribute(NotFound, KeyError):
    """A filter names an attribute that the index does not have."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0]) if self.args else ""


class Filter:
    """A condition on rows. Combine with `&`, `|` and `~`."""

    def __and__(self, other: Filter) -> Filter:
        return And((*_parts(self, And), *_parts(_operand(other, "&"), And)))

    def __or__(self, other: Filter) -> Filter:
        return Or((*_parts(self, Or), *_parts(_operand(other, "|"), Or)))

    def __invert__(self) -> Filter:
        return Not(self)

    def __bool__(self) -> bool:
        raise FilterTypeError(
            "a filter has no truth value; write & for and, | for or, ~ for not, "
            "and Attr(...).between(low, high) for low <= attribute <= high"
        )

    @property
    def key(self) -> str | None:
        """Text that two filters share only if they are the same; None for those that hold arrays of rows."""
        kept: dict[str, Any] = self.__dict__
        if "_key" not in kept:  # cached_property would take a lock, which costs more than the text
            try:
                kept["_key"] = self.text()
            except FilterError:
                kept["_key"] = None
        found: str | None = kept["_key"]
        return found

    def text(self) -> str:
        """The expression for people. FilterError where it holds arrays of rows."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The expression as plain JSON values, for a file or a message; `from_dict` reads it back."""
        raise NotImplementedError

    @property
    def names(self) -> frozenset[str]:
        """The attributes that it looks at."""
        return frozenset()


@dataclass(frozen=True, eq=False)
class Compare(Filter):
    """`name op value`, op one of ==, !=, <, <=, >, >=."""

    name: str
    op: str
    value: Scalar

    def text(self) -> str:
        return f"{self.name!r} {self.op} {self.value!r}"

    def to_dict(self) -> dict[str, Any]:
        return {"op": self.op, "name": self.name, "value": _to_json(self.value)}

    @property
    def names(self) -> frozenset[str]:
        return frozenset((self.name,))


@dataclass(frozen=True, eq=False)
class Between(Filter):
    """low <= value <= high, or < where an end is not `inclusive` (both, left, right, neither)."""

    name: str
    low: Scalar
    high: Scalar
    inclusive: str = "both"

    def text(self) -> str:
        return f"{self.name!r} between {self.low!r} and {self.high!r} ({self.inclusive})"

    def to_dict(self) -> dict[str, Any]:
        ends = {"low": _to_json(self.low), "high": _to_json(self.high), "inclusive": self.inclusive}
        return {"op": "between", "name": self.name, **ends}

    @property
    def names(self) -> frozenset[str]:
        return frozenset((self.name,))


@dataclass(frozen=True, eq=False)
class IsIn(Filter):
    """The value is one of `values`."""

    name: str
    values: tuple[Scalar, ...]

    def text(self) -> str:
        return f"{self.name!r} in {self.values!r}"

    def to_dict(self) -> dict[str, Any]:
        return {"op": "in", "name": self.name, "values": [_to_json(value) for value in self.values]}

    @property
    def names(self) -> frozenset[str]:
        return frozenset((self.name,))


@dataclass(frozen=True, eq=False)
class IsNull(Filter):
    """The value is missing."""

    name: str

    def text(self) -> str:
        return f"{self.name!r} is null"

    def to_dict(self) -> dict[str, Any]:
        return {"op": "null", "name": self.name}

    @property
    def names(self) -> frozenset[str]:
        return frozenset((self.name,))


@dataclass(frozen=True, eq=False)
class Contains(Filter):
    """The set of labels holds any (or all) of `values`."""

    name: str
    values: tuple[Scalar, ...]
    every: bool

    def text(self) -> str:
        return f"{self.name!r} contains {'all' if self.every else 'any'} of {self.values!r}"

    def to_dict(self) -> dict[str, Any]:
        values = [_to_json(value) for value in self.values]
        return {"op": "all" if self.every else "any", "name": self.name, "values": values}

    @property
    def names(self) -> frozenset[str]:
        return frozenset((self.name,))


@dataclass(frozen=True, eq=False)
class Many(Filter):
    """What `And` and `Or` share. Without parts `And` is true and `Or` is false."""

    parts: tuple[Filter, ...]
    word: ClassVar[str] = ""

    def text(self) -> str:
        return f"{self.word}({', '.join([part.text() for part in self.parts])})"

    def to_dict(self) -> dict[str, Any]:
        return {"op": self.word, "parts": [part.to_dict() for part in self.parts]}

    @property
    def names(self) -> frozenset[str]:
        return frozenset().union(*(part.names for part in self.parts))


class And(Many):
    """All of the parts hold."""

    word = "and"


class Or(Many):
    """One of the parts holds."""

    word = "or"


@dataclass(frozen=True, eq=False)
class Not(Filter):
    """The part is false; not the same as 'not true', where values are missing."""

    part: Filter

    def text(self) -> str:
        return f"not({self.part.text()})"

    def to_dict(self) -> dict[str, Any]:
        return {"op": "not", "part": self.part.to_dict()}

    @property
    def names(self) -> frozenset[str]:
        return self.part.names


@dataclass(frozen=True, eq=False)
class Rows(Filter):
    """The rows where `mask` is true; mask (n,) bool, in the order in which the rows were given to the index."""

    mask: np.ndarray

    def text(self) -> str:
        raise FilterError("a mask of rows has no text")

    def to_dict(self) -> dict[str, Any]:
        raise FilterError("a mask of rows cannot be written as text; send the bytes of the mask instead")


@dataclass(frozen=True, eq=False)
class Ids(Filter):
    """The rows that have one of `ids`; ids int64, those that the index does not hold are passed over."""

    ids: np.ndarray

    def text(self) -> str:
        raise FilterError("an array of ids has no text")

    def to_dict(self) -> dict[str, Any]:
        raise FilterError("an array of ids cannot be written as text; send the bytes of the array instead")


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
            values = [_from_json(value) for value in data["values"]]
            return {"in": attribute.isin, "any": attribute.contains_any, "all": attribute.contains_all}[op](values)
        if op == "between":
            return attribute.between(_from_json(data["low"]), _from_json(data["high"]), data["inclusive"])
        if op in COMPARISONS:
            return Compare(attribute.name, op, _scalar(attribute.name, _from_json(data["value"])))
    except (KeyError, TypeError) as error:
        raise FilterError(f"not a filter: {data!r} ({error!r})") from error
    raise FilterError(f"not a filter: {data!r} has the unknown op {op!r}")


COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_WORDS = {"$eq": "==", "$ne": "!=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}


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


def _parts(one: Filter, kind: type[Many]) -> tuple[Filter, ...]:
    """a & b & c is one 'and' of three, however long the chain."""
    return one.parts if isinstance(one, kind) else (one,)


def _operand(other: object, sign: str) -> Filter:
    if isinstance(other, Filter):
        return other
    hint = "; put parentheses around comparisons, & and | bind tighter" if sign in "&|" else ""
    raise FilterTypeError(f"{sign} needs a filter on both sides, got {other!r}{hint}")


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


def _to_json(value: Scalar) -> Any:
    if isinstance(value, datetime.date):  # a datetime is a date
        return {"date": value.isoformat()}
    if isinstance(value, np.datetime64):
        return {"date64": str(value), "unit": np.datetime_data(value.dtype)[0]}
    if isinstance(value, float) and math.isinf(value):
        return {"float": str(value)}
    return value


def _from_json(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "float" in value:
        return float(value["float"])
    if "date64" in value:
        return np.datetime64(value["date64"], value["unit"])
    text = value["date"]
    return datetime.date.fromisoformat(text) if len(text) == 10 else datetime.datetime.fromisoformat(text)

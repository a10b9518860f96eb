"""The expressions that filters are made of, as plain immutable values: comparisons, sets, missing values, and, or, not, rows.

People write them with `filters.Attr`; `filter_lowering` reads them. They know no data, and can be written as text and as JSON.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from paperworks.errors import InputError, NotFound

Scalar: TypeAlias = bool | int | float | str | datetime.date | np.datetime64
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


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


def _parts(one: Filter, kind: type[Many]) -> tuple[Filter, ...]:
    """a & b & c is one 'and' of three, however long the chain."""
    return one.parts if isinstance(one, kind) else (one,)


def _operand(other: object, sign: str) -> Filter:
    if isinstance(other, Filter):
        return other
    hint = "; put parentheses around comparisons, & and | bind tighter" if sign in "&|" else ""
    raise FilterTypeError(f"{sign} needs a filter on both sides, got {other!r}{hint}")


def _to_json(value: Scalar) -> Any:
    if isinstance(value, datetime.date):  # a datetime is a date
        return {"date": value.isoformat()}
    if isinstance(value, np.datetime64):
        return {"date64": str(value), "unit": np.datetime_data(value.dtype)[0]}
    if isinstance(value, float) and math.isinf(value):
        return {"float": str(value)}
    return value


def value_from_json(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "float" in value:
        return float(value["float"])
    if "date64" in value:
        return np.datetime64(value["date64"], value["unit"])
    text = value["date"]
    return datetime.date.fromisoformat(text) if len(text) == 10 else datetime.datetime.fromisoformat(text)

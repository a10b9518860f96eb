"""Random tables and random filters, and what a filter means said in plain Python, for the tests of the filters."""

from __future__ import annotations

import datetime
import operator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paperworks.papers.squash import filters as fl
from paperworks.papers.squash.attributes import AttributeTable

N = 600  # enough that some attributes have more distinct values than cells
WORDS = ["", "a", "aa", "b", "cs.CL", "cs.LG", "z", "Ω", "日本"]
MOMENTS = [datetime.datetime(2024, 1, day, hour) for day in (1, 2, 3) for hour in (0, 12)]
BIG = 2**53


def world(seed: int, n: int = N) -> dict[str, list[Any]]:
    """A table with every kind of attribute, ties, missing values, and more values than cells."""
    rng = np.random.default_rng(seed)

    def some(values: list[Any], missing: float = 0.1) -> list[Any]:
        return [None if rng.random() < missing else values[rng.integers(len(values))] for _ in range(n)]

    many_labels = [f"label{i}" for i in range(90)]
    return {
        "year": some(list(range(2015, 2025))),
        "stamp": some([BIG + i for i in range(-3, 600)] + [-(2**63), 2**63 - 1]),
        "tied": [7 if rng.random() < 0.9 else int(rng.integers(-500, 500)) for _ in range(n)],
        "price": some([0.0, -0.0, 1.5, -1.5, float("inf"), -float("inf"), float(BIG), *rng.normal(size=400).tolist()]),
        "open": some([True, False]),
        "category": some(WORDS),
        "venue": some([f"v{i:03d}" for i in range(400)]),
        "tags": [None if rng.random() < 0.1 else rng.choice(WORDS, rng.integers(0, 4)).tolist() for _ in range(n)],
        "labels": [
            None if rng.random() < 0.1 else rng.choice(many_labels, rng.integers(0, 5)).tolist() for _ in range(n)
        ],
        "codes": [rng.integers(0, 5, rng.integers(0, 3)).tolist() for _ in range(n)],
        "date": some(MOMENTS),
        "day": some([moment.date() for moment in MOMENTS]),
        "never": [None] * n,
    }


def table(columns: dict[str, list[Any]]) -> AttributeTable:
    return AttributeTable.from_data(columns)


def truths(one: fl.Filter, columns: dict[str, list[Any]]) -> list[bool | None]:
    """True, False or None for unknown for each row: the logic of SQL."""
    n = len(next(iter(columns.values())))
    if isinstance(one, fl.Not):
        return [None if inner is None else not inner for inner in truths(one.part, columns)]
    if isinstance(one, fl.Many):
        decisive = isinstance(one, fl.Or)
        rows = zip(*(truths(part, columns) for part in one.parts), strict=True)
        return [decisive if decisive in row else None if None in row else not decisive for row in rows]
    if isinstance(one, fl.Rows):
        return one.mask.tolist()
    if isinstance(one, fl.Ids):
        wanted = set(one.ids.tolist())
        return [row in wanted for row in range(n)]
    if isinstance(one, fl.IsNull):
        return [value is None for value in columns[one.name]]
    return [None if value is None else _holds(one, value) for value in columns[one.name]]


def _holds(one: Any, value: Any) -> bool:
    """One condition on a value that is there."""
    if isinstance(one, fl.Contains):
        return (set(one.values) <= set(value)) if one.every else bool(set(one.values) & set(value))
    if isinstance(one, fl.IsIn):
        if isinstance(value, list):
            return bool(set(one.values) & set(value))
        return any(_as_compared(value) == _same_kind(value, other) for other in one.values)
    middle = _as_compared(value)
    if isinstance(one, fl.Between):
        left, right = _same_kind(value, one.low), _same_kind(value, one.high)
        above = left <= middle if one.inclusive in ("both", "left") else left < middle
        return above and (middle <= right if one.inclusive in ("both", "right") else middle < right)
    return COMPARE[one.op](middle, _same_kind(value, one.value))


COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _as_compared(value: Any) -> Any:
    return _moment(value) if isinstance(value, datetime.date) else value


def _same_kind(value: Any, other: Any) -> Any:
    return _moment(other) if isinstance(value, datetime.date) else other


def _moment(value: Any) -> datetime.datetime:
    if isinstance(value, str):
        return datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime):
        return value
    return datetime.datetime(value.year, value.month, value.day)


def expected(one: fl.Filter, columns: dict[str, list[Any]]) -> np.ndarray:
    """The rows for which the filter is true."""
    return np.array([found is True for found in truths(one, columns)], dtype=bool)


CONSTANTS = {
    "year": st.integers(2013, 2026) | st.floats(2014, 2025, allow_nan=False).map(lambda x: round(x, 1)),
    "stamp": st.integers(BIG - 5, BIG + 600)
    | st.sampled_from([float(BIG), float(BIG + 2), -(2**63), 2**63 - 1, 2**64, -1e30]),
    "tied": st.integers(-510, 510) | st.sampled_from([7, 6.5, 7.5]),
    "price": st.sampled_from([0, 0.0, -0.0, 1.5, -1.5, BIG, BIG + 1, float("inf"), -float("inf"), 10**400])
    | st.floats(-3, 3),
    "category": st.sampled_from([*WORDS, "unseen", "cs"]),
    "venue": st.integers(0, 420).map(lambda i: f"v{i:03d}"),
    "date": st.sampled_from([*MOMENTS, "2024-01-02", "2024-01-02T12:00:00", datetime.date(2024, 1, 3)]),
    "day": st.sampled_from([*MOMENTS, "2024-01-02", datetime.date(2024, 1, 3), datetime.datetime(2024, 1, 1, 13)]),
    "never": st.integers(0, 3),
}
LABELS = {
    "tags": st.sampled_from([*WORDS, "unseen"]),
    "labels": st.integers(0, 95).map(lambda i: f"label{i}"),
    "codes": st.integers(0, 6),
}
INCLUSIVE = st.sampled_from(["both", "left", "right", "neither"])
OPERATORS = st.sampled_from(fl.COMPARISONS)


def _compared(name: str) -> st.SearchStrategy[fl.Filter]:
    constant = CONSTANTS[name]
    return st.one_of(
        st.builds(lambda op, value: fl.Compare(name, op, value), OPERATORS, constant),
        st.builds(lambda values: fl.Attr(name).isin(values), st.lists(constant, max_size=8)),
        st.builds(lambda *ends: fl.Attr(name).between(*ends), constant, constant, INCLUSIVE),
    )


def _labelled(name: str) -> st.SearchStrategy[fl.Filter]:
    return st.builds(
        lambda values, how: getattr(fl.Attr(name), how)(values),
        st.lists(LABELS[name], max_size=4),
        st.sampled_from(["contains_any", "contains_all", "isin"]),
    )


def _rows(n: int) -> st.SearchStrategy[fl.Filter]:
    masks = st.integers(0, 5).map(lambda seed: fl.Rows(np.random.default_rng(seed).random(n) < 0.5))
    return masks | st.lists(st.integers(-3, n + 3), max_size=20).map(
        lambda ids: fl.as_filter(np.array(ids, dtype=np.int64))
    )


def conditions(name: str) -> st.SearchStrategy[fl.Filter]:
    """Single conditions on one attribute, or their opposites."""
    found = _compared(name) if name in CONSTANTS else _labelled(name)
    return st.builds(lambda one, negated: ~one if negated else one, found, st.booleans())


LEAVES = st.one_of(
    *(_compared(name) for name in CONSTANTS),
    *(_labelled(name) for name in LABELS),
    st.builds(lambda op, value: fl.Compare("open", op, value), st.sampled_from(["==", "!="]), st.booleans()),
    st.sampled_from([*CONSTANTS, *LABELS, "open"]).map(lambda name: fl.Attr(name).is_null()),
)


def filters(n: int | None = N) -> st.SearchStrategy[fl.Filter]:
    """Random expressions; n: also masks of n rows and ids, which cannot be written as text."""
    return st.recursive(
        LEAVES if n is None else LEAVES | _rows(n),
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            inner.map(lambda a: ~a),
        ),
        max_leaves=8,
    )

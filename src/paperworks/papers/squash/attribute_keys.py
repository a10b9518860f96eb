"""Sortable int64 keys for typed values, and the exact interval of keys that a comparison with a constant means.

Every typed value has one int64 key, and keys sort as the values do. Comparing keys is exact: floats keep all their bits, dates
their unit, integers all 64 bits. A constant of a finer type (2020.5 against integers, noon against whole days) is rounded to
the side that keeps the comparison true to what it says.
"""

from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np

from paperworks.papers.squash.filters import FilterError, FilterTypeError

LOWEST = -(2**63)
HIGHEST = 2**63 - 1
EMPTY = (0, -1)  # an interval (first, last) of keys, both ends in it, with no key inside
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9, "ps": 10**12, "fs": 10**15, "as": 10**18}
SECONDS = {"m": 60, "h": 3600, "D": 86400, "W": 604800}
EPOCH, MICROSECOND = datetime.datetime(1970, 1, 1), datetime.timedelta(microseconds=1)


def float_keys(values: np.ndarray) -> np.ndarray:
    """Keys of floats (any float dtype, no NaN) -> int64; -0.0 and 0.0 have the same key.

    >>> float_keys(np.array([-1.5, -0.0, 0.0, 1e-300, np.inf])).argsort(kind="stable").tolist()
    [0, 1, 2, 3, 4]
    """
    bits = (np.asarray(values, dtype=np.float64) + 0.0).view(np.int64)  # + 0.0 turns -0.0 into 0.0
    return np.where(bits >= 0, bits, bits ^ np.int64(HIGHEST))


def key_floats(keys: np.ndarray) -> np.ndarray:
    """The float64 values of keys."""
    keys = np.asarray(keys, dtype=np.int64)
    return np.where(keys >= 0, keys, keys ^ np.int64(HIGHEST)).view(np.float64)


def float_key(value: float) -> int:
    """The key of one float."""
    return int(float_keys(np.array([value]))[0])


def number_interval(op: str, value: float, is_float: bool) -> tuple[int, int]:
    """Keys of the integers (or floats) for which `number op value` holds, op one of ==, <, <=, >, >=.

    >>> number_interval(">", 2020.5, is_float=False) == (2021, HIGHEST)
    True
    """
    if not is_float:
        if type(value) is int and LOWEST < value < HIGHEST:  # by far the most frequent case
            low = LOWEST if op in ("<", "<=") else value + (op == ">")
            high = HIGHEST if op in (">", ">=") else value - (op == "<")
            return low, high
        if isinstance(value, float) and math.isinf(value):
            below, above, exact = (HIGHEST, HIGHEST + 1, False) if value > 0 else (LOWEST - 1, LOWEST, False)
        else:
            below, above = math.floor(value), math.ceil(value)
            exact = below == above
        return _interval(op, below, above, exact, LOWEST, HIGHEST)
    try:
        near = float(value)
    except OverflowError:
        near = math.inf if value > 0 else -math.inf
    key = float_key(near)
    # Python compares an int with a float exactly, so this also holds beyond 2^53.
    below = key if near <= value else key - 1
    above = key if near >= value else key + 1
    return _interval(op, below, above, near == value, float_key(-math.inf), float_key(math.inf))


def date_interval(op: str, value: Any, unit: str, name: str) -> tuple[int, int]:
    """Keys, counts of `unit` since 1970, for which `date op value` holds.

    value: date (its first moment), datetime, datetime64 or ISO text. A time zone is turned into UTC; without one the value is
    taken as it stands.

    >>> date_interval(">", datetime.datetime(2024, 1, 5, 12), "D", "date") == (19728, HIGHEST)
    True
    """
    ticks, own_unit = _ticks(value, name)
    if own_unit == unit:
        return _interval(op, ticks, ticks, True, LOWEST + 1, HIGHEST)
    below, rest = divmod(
        ticks * SECONDS.get(own_unit, 1) * PER_SECOND.get(unit, 1), PER_SECOND.get(own_unit, 1) * SECONDS.get(unit, 1)
    )
    return _interval(op, below, below + (rest > 0), rest == 0, LOWEST + 1, HIGHEST)


def _interval(op: str, below: int, above: int, exact: bool, lowest: int, highest: int) -> tuple[int, int]:
    """below: the last key <= the constant, above: the first key >= it."""
    if op == "==":
        found = (below, below) if exact else EMPTY
    elif op == "<":
        found = (lowest, above - 1)
    elif op == "<=":
        found = (lowest, below)
    elif op == ">":
        found = (below + 1, highest)
    else:
        found = (above, highest)
    found = (max(found[0], lowest), min(found[1], highest))
    return found if found[0] <= found[1] else EMPTY


def _ticks(value: Any, name: str) -> tuple[int, str]:
    """A moment as units since 1970, and the unit."""
    if isinstance(value, str):
        value = _from_text(value, name)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        return (value - EPOCH) // MICROSECOND, "us"
    if isinstance(value, datetime.date):
        return value.toordinal() - EPOCH.toordinal(), "D"
    if not isinstance(value, np.datetime64):
        raise FilterTypeError(f"{name} holds dates; compare it with a date, a datetime or ISO text, got {value!r}")
    unit, count = np.datetime_data(value.dtype)
    if unit in ("Y", "M"):
        value, unit, count = value.astype("datetime64[D]"), "D", 1
    return int(value.astype(np.int64)) * count, unit


def _from_text(text: str, name: str) -> Any:
    """ISO text; also a year or a month alone, which stand for their first moment. No words like 'today'."""
    if text[:1].isdigit() and (not text.isdigit() or len(text) == 4):
        try:
            return datetime.datetime.fromisoformat(text)
        except ValueError:
            pass
        try:
            return np.datetime64(text)
        except ValueError:
            pass
    raise FilterError(f"{name} holds dates, and {text!r} is none; write 2024-01-31 or 2024-01-31T12:00:00")

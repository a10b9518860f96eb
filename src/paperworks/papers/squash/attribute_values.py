"""From columns back to Python values, for people and for JSON."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import numpy as np

from paperworks.papers.squash.attribute_keys import key_floats
from paperworks.papers.squash.attribute_reading import Column


def python_values(column: Column) -> list[Any]:
    """The values of a column as Python objects, None where missing.

    >>> from paperworks.papers.squash.attribute_reading import read_columns
    >>> python_values(read_columns({"x": [1.5, None]})["x"])
    [1.5, None]
    """
    if column.kind == "labels":
        words = [column.dictionary[code] for code in column.sets[1].tolist()]
        sets = [words[first:last] for first, last in itertools.pairwise(column.sets[0].tolist())]
        return [None if gone else labels for labels, gone in zip(sets, column.missing.tolist(), strict=True)]
    if column.kind == "float":
        values: list[Any] = key_floats(column.keys).tolist()
    elif column.kind == "bool":
        values = column.keys.astype(bool).tolist()
    elif column.kind == "category":
        keys = np.where(column.missing, 0, column.keys).tolist()
        values = [column.dictionary[key] for key in keys] if column.dictionary else [None] * len(column)
    elif column.kind == "datetime":
        values = list(column.keys.view(f"datetime64[{column.unit}]"))
    else:
        values = column.keys.tolist()
    return [None if gone else value for value, gone in zip(values, column.missing.tolist(), strict=True)]


def iso(value: Any) -> Any:
    """A value for JSON: dates as ISO text."""
    if isinstance(value, np.datetime64 | datetime.date):
        return str(value)
    return value

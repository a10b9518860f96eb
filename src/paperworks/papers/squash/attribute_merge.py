"""Join two columns of the same attribute: one dictionary, one unit of time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.attribute_keys import HIGHEST, PER_SECOND, SECONDS
from paperworks.papers.squash.attribute_reading import Column, as_kind

UNITS = ("W", "D", "h", "m", *PER_SECOND)  # coarse to fine


def concatenate(name: str, first: Column, second: Column) -> Column:
    """The rows of `first`, then those of `second`. Raises InputError if their kinds do not go together."""
    kind = second.kind if first.missing.all() and not second.missing.all() else first.kind
    first, second = as_kind(name, first, kind), as_kind(name, second, kind)
    missing = np.concatenate((first.missing, second.missing))
    if kind == "datetime":
        unit = max(first.unit, second.unit, key=UNITS.index)
        first, second = _to_unit(name, first, unit), _to_unit(name, second, unit)
        return Column(kind, missing, np.concatenate((first.keys, second.keys)), unit)
    if kind == "category":
        words, ranks = _one_dictionary(first.dictionary, second.dictionary)
        keys = [_ranked(column.keys, rank, column.missing) for column, rank in zip((first, second), ranks, strict=True)]
        return Column(kind, missing, np.concatenate(keys), "", words)
    if kind == "labels":
        (starts, codes), (more_starts, more_codes) = first.sets, second.sets
        words, ranks = _one_dictionary(first.dictionary, second.dictionary)
        # ranks keep the order of words, so each row's codes stay sorted
        codes = np.concatenate((ranks[0][codes], ranks[1][more_codes])).astype(np.int32)
        starts = np.concatenate((starts, more_starts[1:] + starts[-1]))
        return Column(kind, missing, np.zeros(len(missing), np.int64), "", words, starts, codes)
    units = {column.unit for column in (first, second) if not column.missing.all()}
    unit = units.pop() if len(units) == 1 else ""  # of floats: the wider type
    return Column(kind, missing, np.concatenate((first.keys, second.keys)), unit)


def _one_dictionary(first: list[Any], second: list[Any]) -> tuple[list[Any], tuple[np.ndarray, np.ndarray]]:
    kinds = {type(word) for word in (*first[:1], *second[:1])}
    if len(kinds) > 1:
        raise InputError(f"labels are all strings or all integers, got {first[0]!r} before and {second[0]!r} now")
    words = sorted({*first, *second})
    rank = {word: i for i, word in enumerate(words)}
    one, two = (np.array([rank[word] for word in part], np.int64) for part in (first, second))
    return words, (one, two)


def _ranked(keys: np.ndarray, rank: np.ndarray, missing: np.ndarray) -> np.ndarray:
    found = np.zeros(len(keys), np.int64)
    found[~missing] = rank[keys[~missing]]
    return found


def _to_unit(name: str, column: Column, unit: str) -> Column:
    if column.unit == unit:
        return column
    factor = _per_second(unit) * _seconds(column.unit) // (_per_second(column.unit) * _seconds(unit))
    present = column.keys[~column.missing]
    if np.abs(present).max(initial=0) > HIGHEST // factor:
        raise InputError(
            f"{name}: dates in {column.unit} do not fit into 64 bits as {unit}; give both in {column.unit}"
        )
    return replace(column, keys=column.keys * factor, unit=unit)


def _per_second(unit: str) -> int:
    return PER_SECOND.get(unit, 1)


def _seconds(unit: str) -> int:
    return SECONDS.get(unit, 1)

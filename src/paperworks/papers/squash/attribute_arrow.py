"""Columns from Arrow arrays, without making a Python object a value."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.attribute_reading import Column, _from_array, _from_objects, empty_column, labels_column


def from_arrow(name: str, array: Any) -> Column:
    """A pyarrow Array or ChunkedArray of numbers, booleans, strings, dates, or lists of strings or integers."""
    import pyarrow as pa

    types = pa.types
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    missing = np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=bool)
    kind = array.type
    if types.is_null(kind) or (len(missing) and missing.all()):
        return empty_column(_kind(kind), len(missing))
    if types.is_boolean(kind):
        return _from_array(name, array.fill_null(False).to_numpy(zero_copy_only=False).astype(bool), missing)
    if types.is_integer(kind):
        return _from_array(name, array.fill_null(0).to_numpy(zero_copy_only=False), missing)
    if types.is_floating(kind):
        return _from_array(name, array.fill_null(0.0).to_numpy(zero_copy_only=False), missing)
    if types.is_decimal(kind):
        return _from_array(name, array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False), missing)
    if types.is_timestamp(kind):  # with a time zone Arrow keeps UTC
        return Column("datetime", missing, _integers(array.cast(pa.int64())), kind.unit)
    if types.is_date32(kind):
        return Column("datetime", missing, _integers(array.cast(pa.int32())), "D")
    if types.is_date64(kind):
        return Column("datetime", missing, _integers(array.cast(pa.int64())), "ms")
    if _is_text(kind):
        return _from_text(array, missing)
    if types.is_list(kind) or types.is_large_list(kind):
        return _from_lists(name, array, missing)
    return _from_objects(name, array.to_pylist())


def _kind(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return "int"
    if pa.types.is_temporal(kind):
        return "datetime"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "labels"
    return "category" if _is_text(kind) else "float"


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _integers(array: Any) -> np.ndarray:
    return np.asarray(array.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _from_text(array: Any, missing: np.ndarray) -> Column:
    import pyarrow as pa

    coded = array.cast(pa.large_string()).dictionary_encode()
    words = coded.dictionary.to_pylist()
    order = sorted(range(len(words)), key=words.__getitem__)
    rank = np.empty(len(words), np.int64)
    rank[order] = np.arange(len(words))
    keys = np.where(missing, 0, rank[_integers(coded.indices)])
    return Column("category", missing, keys, "", [words[i] for i in order])


def _from_lists(name: str, array: Any, missing: np.ndarray) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = _integers(pc.list_value_length(array))
    flat = pc.list_flatten(array)
    if flat.null_count:
        raise InputError(f"{name}: a set of labels holds a null; drop it, or make the whole set null")
    if pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_decode()
    if not (_is_text(flat.type) or pa.types.is_integer(flat.type)):
        raise InputError(f"{name}: labels are all strings or all integers, got lists of {flat.type}")
    return labels_column(missing, counts, flat.to_pylist())

"""Vectors, attributes and ids from files: .npy, .fvecs, .bvecs, .ivecs, .parquet, .jsonl (also .gz, .bz2, .xz), .csv.

Arrays that can be mapped from disk are, so a file may be larger than memory.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from paperworks.errors import InputError, MissingExtra

VECS: dict[str, np.dtype[Any]] = {".fvecs": np.dtype("<f4"), ".bvecs": np.dtype("u1"), ".ivecs": np.dtype("<i4")}
OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
TABLES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
GUESSES = ("vector", "embedding", "embeddings", "vectors", "emb")


def read_vectors(path: str | Path, column: str | None = None) -> np.ndarray:
    """Vectors (n, d) of a file; float32 unless the file holds another dtype, mapped from disk where that is possible.

    column: where they are in a table; default: the one named vector or embedding. Raises InputError.
    """
    path = _existing(path)
    kind = _suffix(path)
    if kind == ".npy":
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise InputError(f"{path} cannot be read as an array: {error}") from error
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(f"{path} must hold numbers of shape (n, d), got {array.dtype} of shape {array.shape}")
        return array
    if kind in VECS:
        return _read_vecs(path, VECS[kind])
    if kind == ".parquet":
        table = _parquet(path)
        return _stack(path, *_pick(path, {name: table[name] for name in table.column_names}, column))
    if kind in (".jsonl", ".ndjson", ".json"):
        records = list(read_records(path))
        columns = {name: [record.get(name) for record in records] for name in (records[0] if records else {})}
        return _stack(path, *_pick(path, columns, column))
    raise InputError(
        f"{path}: vectors are read from .npy, .fvecs, .bvecs, .ivecs, .parquet and .jsonl, not {kind or 'this'}"
    )


def read_attributes(path: str | Path, columns: list[str] | None = None) -> Any:
    """A table of attributes as `AttributeTable.from_data` takes it; columns: only these, in this order.

    Cells of a CSV that all look like numbers become numbers, empty cells are missing. Columns that are no attributes (nested
    records, vectors) are left out unless they are named.
    """
    path = _existing(path)
    kind = _suffix(path)
    if kind == ".parquet":
        table = _parquet(path)
        data = {
            name: table[name] for name in table.column_names if columns is not None or _is_attribute(table[name].type)
        }
    elif kind in (".jsonl", ".ndjson", ".json"):
        records = list(read_records(path))
        names = dict.fromkeys(name for record in records for name in record)
        data = {name: [record.get(name) for record in records] for name in names}
        if columns is None:
            data = {name: values for name, values in data.items() if not any(map(_is_nested, values[:1000]))}
    elif kind in (".csv", ".tsv"):
        data = _read_csv(path, "\t" if kind == ".tsv" else ",")
    else:
        raise InputError(f"{path}: attributes are read from {', '.join(TABLES)}, not {kind or 'this'}")
    if columns is None:
        return data
    missing = [name for name in columns if name not in data]
    if missing:
        raise InputError(f"{path} has no column {missing}; it has {list(data)}")
    return {name: data[name] for name in columns}


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file with one JSON object a line, or with one JSON list."""
    with _open(path) as file:
        if _suffix(path) == ".json":
            content = json.load(file)
            lines: Any = enumerate(content if isinstance(content, list) else [content], start=1)
        else:
            lines = _json_lines(path, file)
        for number, record in lines:
            if not isinstance(record, dict):
                raise InputError(f"{path}, record {number}: expected an object, got {type(record).__name__}")
            yield record


def _json_lines(path: Path, file: IO[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number}: {error}") from error


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return path


def _suffix(path: Path) -> str:
    """The ending that tells the kind: .jsonl of papers.jsonl.xz."""
    suffixes = [part.lower() for part in path.suffixes]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _open(path: Path) -> IO[str]:
    opener = OPENERS.get(path.suffix.lower(), open)
    opened: IO[str] = opener(path, "rt", encoding="utf-8-sig", newline="")
    return opened


def _read_vecs(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """Each vector is its dimension as int32, then its values."""
    size = path.stat().st_size
    if size < 4:
        raise InputError(f"{path} is empty")
    d = int(np.fromfile(path, dtype="<i4", count=1)[0])
    record = 4 + d * dtype.itemsize
    if d <= 0 or size % record:
        raise InputError(
            f"{path}: its first vector has {d} dimensions, but {size} bytes are no whole number of such vectors"
        )
    rows = np.memmap(path, dtype=np.dtype([("d", "<i4"), ("x", dtype, (d,))]), mode="r")
    if len(rows) and int(rows["d"][-1]) != d:
        raise InputError(f"{path}: vectors of {d} and of {int(rows['d'][-1])} dimensions in one file")
    return rows["x"]


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading Parquet", "nn") from error
    import pyarrow as pa

    try:
        return parquet.read_table(path)
    except pa.ArrowException as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from error


def _pick(path: Path, columns: dict[str, Any], wanted: str | None) -> tuple[str, Any]:
    if wanted is not None:
        if wanted not in columns:
            raise InputError(f"{path} has no column {wanted!r}; it has {list(columns)}")
        return wanted, columns[wanted]
    for name in GUESSES:
        if name in columns:
            return name, columns[name]
    raise InputError(f"{path} has the columns {list(columns)}; say which one holds the vectors")


def _stack(path: Path, name: str, values: Any) -> np.ndarray:
    if hasattr(values, "combine_chunks"):
        import pyarrow as pa
        import pyarrow.compute as pc

        flat, n = pc.list_flatten(values).to_numpy(), len(values)
        lengths = pc.list_value_length(values) if not pa.types.is_fixed_size_list(values.type) else None
        if values.null_count or (lengths is not None and n and pc.min(lengths).as_py() != pc.max(lengths).as_py()):
            raise InputError(f"{path}: the vectors in {name!r} must all be there and have the same length")
        return np.asarray(flat, dtype=np.float32).reshape(n, -1) if n else np.zeros((0, 0), np.float32)
    try:
        array = np.array(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {name!r} does not hold vectors of one length: {error}") from error
    if array.ndim != 2:
        raise InputError(f"{path}: {name!r} holds values of shape {array.shape[1:]}, not vectors")
    return array


def _is_attribute(kind: Any) -> bool:
    """Numbers, text, dates and lists of text or integers."""
    import pyarrow as pa

    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        return bool(
            types.is_string(kind.value_type)
            or types.is_large_string(kind.value_type)
            or types.is_integer(kind.value_type)
        )
    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(part, float | list | dict) for part in value)
    )


def _read_csv(path: Path, delimiter: str) -> dict[str, list[Any]]:
    with _open(path) as file:
        rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    if not rows:
        raise InputError(f"{path} is empty")
    header = rows[0]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise InputError(f"{path}, row {number}: {len(row)} cells where the header has {len(header)}")
    return {name: _typed([row[i] for row in rows[1:]]) for i, name in enumerate(header)}


def _typed(cells: list[str]) -> list[Any]:
    """Integers if all cells are, else floats if all are, else text."""
    for kind in (int, float):
        try:
            return [None if not cell.strip() else kind(cell) for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]

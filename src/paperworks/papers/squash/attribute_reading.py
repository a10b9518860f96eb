"""Read typed columns from what people keep their tables in.

A dict of arrays or lists, a list of records, a structured array, a pandas or polars DataFrame, an Arrow table, a
`datasets.Dataset`. Neither pandas nor pyarrow is needed unless the data are theirs. n rows, every column alike.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.attribute_keys import HIGHEST, PER_SECOND, SECONDS, float_keys
from paperworks.papers.squash.filters import without_zone

KINDS = ("int", "float", "bool", "category", "labels", "datetime")
SMALL_FLOATS = {2: "f2", 4: "f4"}
NAT = np.iinfo(np.int64).min
Value = TypeVar("Value", str, int)


@dataclass(frozen=True)
class Column:
    """One attribute of n rows.

    keys (n,) int64: sortable keys, see `attribute_keys`; of a category the rank in `dictionary`; anything where missing.
    missing (n,) bool. unit: of dates; of floats "f4" or "f2" if they came as such. dictionary: sorted distinct strings (or integers, of labels).
    starts (n + 1,) int64, codes int32: of labels, row i has the ranks codes[starts[i]:starts[i + 1]], sorted, no rank twice.
    """

    kind: str
    missing: np.ndarray
    keys: np.ndarray
    unit: str = ""
    dictionary: list[Any] = field(default_factory=list)
    starts: np.ndarray | None = None
    codes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.missing)

    @property
    def sets(self) -> tuple[np.ndarray, np.ndarray]:
        """starts and codes of a column of labels."""
        if self.starts is None or self.codes is None:
            raise TypeError(f"a column of kind {self.kind} has no sets of labels")
        return self.starts, self.codes


def read_columns(data: Any, types: Mapping[str, str] | None = None) -> dict[str, Column]:
    """Typed columns by name, in the order of the data.

    types: name -> int, float, bool, category, labels or datetime, for columns whose kind is not to be guessed; `datetime` also
    reads ISO text. A column that is missing throughout is read as float. Raises InputError with the name and row of what
    does not fit.
    """
    types = dict(types or {})
    columns = _named(data)
    unknown = [name for name in types if name not in columns]
    if unknown:
        raise InputError(f"types names {unknown}, but the columns are {list(columns)}")
    found: dict[str, Column] = {}
    for name, values in columns.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"an attribute is named by a string, got {name!r}")
        wanted = types.get(name)
        if wanted is not None and wanted not in KINDS:
            raise InputError(f"types[{name!r}] is {wanted!r}; it must be one of {', '.join(KINDS)}")
        found[name] = as_kind(name, _read(name, values), wanted)
    lengths = {name: len(column) for name, column in found.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"attributes must have one value a row, got lengths {lengths}")
    return found


def as_kind(name: str, column: Column, wanted: str | None) -> Column:
    """The column as the kind wanted, where that loses nothing."""
    if wanted is None or column.kind == wanted:
        return column
    if column.missing.all():
        return empty_column(wanted, len(column))
    if (column.kind, wanted) in (("int", "float"), ("bool", "float"), ("bool", "int")):
        if wanted == "int":
            return Column("int", column.missing, column.keys)
        if np.abs(column.keys[~column.missing]).max(initial=0) > 2**53:
            raise InputError(f"{name} holds integers beyond 2^53, which float cannot hold; leave it int")
        return Column("float", column.missing, float_keys(column.keys.astype(np.float64)))
    if (column.kind, wanted) == ("category", "datetime"):
        return _dates_from_text(name, column)
    raise InputError(f"{name} holds {column.kind}, which cannot be read as {wanted}")


def empty_column(kind: str, n: int) -> Column:
    """n missing values."""
    labels = {"starts": np.zeros(n + 1, np.int64), "codes": np.zeros(0, np.int32)} if kind == "labels" else {}
    unit = "us" if kind == "datetime" else ""
    return Column(kind, np.ones(n, bool), np.zeros(n, np.int64), unit, **labels)  # type: ignore[arg-type]


def encode(values: Sequence[Value]) -> tuple[np.ndarray, list[Value]]:
    """Ranks int64 (n,) into the sorted distinct values, and these.

    >>> codes, words = encode(["b", "a", "b"])
    >>> codes.tolist(), words
    ([1, 0, 1], ['a', 'b'])
    """
    seen: dict[Value, int] = {}
    first_seen = np.fromiter((seen.setdefault(value, len(seen)) for value in values), np.int64, len(values))
    words = sorted(seen)
    rank = np.empty(len(words), np.int64)
    rank[[seen[word] for word in words]] = np.arange(len(words))
    return rank[first_seen], words


def labels_column(missing: np.ndarray, counts: np.ndarray, flat: Sequence[Any]) -> Column:
    """Labels from the number of values of each row (n,) and all values one after another."""
    codes, words = encode(flat)
    n, n_words = len(missing), max(1, len(words))
    pairs = np.unique(np.repeat(np.arange(n), counts) * n_words + codes)  # sorted by row, then code, none twice
    starts = np.searchsorted(pairs, np.arange(n + 1) * n_words)
    return Column("labels", missing, np.zeros(n, np.int64), "", words, starts, (pairs % n_words).astype(np.int32))


def _named(data: Any) -> dict[str, Any]:
    if isinstance(data, Mapping):
        return dict(data)
    if hasattr(data, "with_format") and hasattr(data, "column_names"):  # datasets.Dataset
        data = data.with_format("arrow")[:]
    elif hasattr(data, "to_arrow") and hasattr(data, "columns"):  # polars
        data = data.to_arrow()
    if hasattr(data, "column_names") and hasattr(data, "column"):  # Arrow table or batch
        return {name: data.column(i) for i, name in enumerate(data.schema.names)}
    if hasattr(data, "iloc") and hasattr(data, "columns"):  # pandas
        if not data.columns.is_unique:
            raise InputError(f"attributes: the frame has columns of the same name: {list(data.columns)}")
        return {str(name): data[name] for name in data.columns}
    if isinstance(data, np.ndarray) and data.dtype.names:
        return {name: data[name] for name in data.dtype.names}
    if isinstance(data, Sequence) and not isinstance(data, str) and all(isinstance(row, Mapping) for row in data):
        names = dict.fromkeys(name for row in data for name in row)
        return {name: [row.get(name) for row in data] for name in names}
    raise InputError(
        "attributes are a dict of arrays, a list of records, a DataFrame, an Arrow table or a datasets.Dataset, "
        f"got {type(data).__name__}"
    )


def _read(name: str, values: Any) -> Column:
    if hasattr(values, "is_null") and hasattr(values, "type"):
        from paperworks.papers.squash.attribute_arrow import from_arrow

        return from_arrow(name, values)
    if hasattr(values, "iloc") and hasattr(values, "isna"):
        return _from_series(name, values)
    if isinstance(values, np.ma.MaskedArray):
        return _from_array(name, np.ma.getdata(values), np.ma.getmaskarray(values))
    if isinstance(values, np.ndarray) and values.dtype != object:
        return _from_array(name, values, None)
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__"):
        raise InputError(f"{name}: a column is an array or a list, got {type(values).__name__}")
    return _from_objects(name, list(values))


def _from_series(name: str, series: Any) -> Column:
    """A pandas Series of any dtype."""
    missing = series.isna().to_numpy(dtype=bool)
    kind = "O" if series.dtype.name == "category" else getattr(series.dtype, "kind", "O")
    if kind == "M":
        if getattr(series.dtype, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        values = series.to_numpy(dtype=f"datetime64[{getattr(series.dt, 'unit', 'ns')}]")
        return _from_array(name, values, missing)
    if kind in "iufb":
        wide = {"i": np.int64, "u": np.uint64, "f": np.float64, "b": np.bool_}[kind]
        dtype = np.dtype(f"f{series.dtype.itemsize}") if kind == "f" and series.dtype.itemsize <= 8 else np.dtype(wide)
        values = np.zeros(len(series), dtype)
        values[~missing] = series[~missing].to_numpy(dtype=dtype)
        return _from_array(name, values, missing)
    values = series.astype(object).to_numpy(dtype=object, copy=True)
    values[missing] = None
    return _from_objects(name, values.tolist())


def _from_array(name: str, values: np.ndarray, missing: np.ndarray | None) -> Column:
    """An array of a plain dtype."""
    if values.ndim != 1:
        raise InputError(
            f"{name}: a column has one value a row, got shape {values.shape}; give lists for sets of labels"
        )
    missing = np.zeros(len(values), bool) if missing is None else missing.copy()
    code = values.dtype.kind
    if code == "b":
        return Column("bool", missing, values.astype(np.int64))
    if code in "iu":
        if code == "u" and values.dtype.itemsize == 8 and (over := values > np.uint64(HIGHEST)).any():
            raise InputError(f"{name}: row {int(over.argmax())} holds {values[over][0]}, beyond 64-bit integers")
        return Column("int", missing, values.astype(np.int64))
    if code == "f":
        if values.dtype.itemsize > 8:
            raise InputError(f"{name}: floats of more than 64 bits are not kept; convert to float64")
        missing |= np.isnan(values)
        return Column(
            "float", missing, float_keys(np.where(missing, 0, values)), SMALL_FLOATS.get(values.dtype.itemsize, "")
        )
    if code == "M":
        unit, _ = np.datetime_data(values.dtype)
        if unit == "generic":
            raise InputError(f"{name}: dates without a unit; use e.g. datetime64[s]")
        unit = unit if unit in PER_SECOND or unit in SECONDS else "D"
        keys = values.astype(f"datetime64[{unit}]").astype(np.int64)
        missing |= keys == NAT
        return Column("datetime", missing, np.where(missing, 0, keys), unit)
    if code in "UT":
        objects = values.tolist()
        return _from_objects(name, [None if gone else value for value, gone in zip(objects, missing, strict=True)])
    raise InputError(f"{name}: columns of {values.dtype} are not supported; attributes are {', '.join(KINDS)}")


def _from_objects(name: str, values: list[Any]) -> Column:
    """Python values; None, NaN, NaT and NA are missing."""
    kinds = {kind: _kind_of(kind) for kind in set(map(type, values))}
    unfit = [kind for kind, known in kinds.items() if known == ""]
    if unfit:
        row = next(i for i, value in enumerate(values) if type(value) in unfit)
        raise InputError(
            f"{name}: row {row} holds {values[row]!r} ({unfit[0].__name__}); attributes are {', '.join(KINDS)}"
        )
    by_value = {"float", "datetime"}  # types that have a missing value of their own
    missing = np.fromiter(
        (kinds[type(v)] == "missing" or (kinds[type(v)] in by_value and v != v) for v in values), bool, len(values)
    )
    present = [value for value, gone in zip(values, missing, strict=True) if not gone]
    found = {kinds[type(value)] for value in present} if missing.any() else set(kinds.values())
    if not found:
        return empty_column("float", len(values))
    if found == {"int", "float"}:
        return _mixed_numbers(name, values, missing)
    if len(found) > 1:
        rows = {
            kind: next(i for i, v in enumerate(values) if not missing[i] and kinds[type(v)] == kind) for kind in found
        }
        shown = ", ".join(
            f"{kind} (row {row}: {values[row]!r})" for kind, row in sorted(rows.items(), key=lambda x: x[1])
        )
        raise InputError(f"{name}: a column has one kind of value, got {shown}")
    return _READERS[found.pop()](name, present, missing)


def _kind_of(kind: type) -> str:
    if kind is type(None) or kind.__name__ in ("NAType", "NaTType"):
        return "missing"
    order = (
        ("bool", (bool, np.bool_)),
        ("int", (int, np.integer)),
        ("float", (float, np.floating)),
        ("category", (str,)),
        ("datetime", (datetime.date, np.datetime64)),
        ("labels", (list, tuple, set, frozenset, np.ndarray)),
    )
    return next((name for name, types in order if issubclass(kind, types)), "")


def _spread(present: np.ndarray, missing: np.ndarray) -> np.ndarray:
    keys = np.zeros(len(missing), present.dtype)
    keys[~missing] = present
    return keys


def _integers(name: str, present: list[Any], missing: np.ndarray) -> Column:
    try:
        keys = np.array(present, dtype=np.int64)
    except OverflowError as error:
        raise InputError(f"{name}: integers must fit into 64 bits, got {max(present, key=abs)}") from error
    return Column("int", missing, _spread(keys, missing))


def _booleans(name: str, present: list[Any], missing: np.ndarray) -> Column:
    return Column("bool", missing, _spread(np.array(present, dtype=np.int64), missing))


def _floats(name: str, present: list[Any], missing: np.ndarray) -> Column:
    return Column("float", missing, _spread(float_keys(np.array(present, dtype=np.float64)), missing))


def _mixed_numbers(name: str, values: list[Any], missing: np.ndarray) -> Column:
    for row, value in enumerate(values):
        if not missing[row] and (abs(value) > 2**53 and float(value) != value):
            raise InputError(
                f"{name}: row {row} holds {value}, which no float can hold beside the fractions of this column"
            )
    present = [float(value) for value, gone in zip(values, missing, strict=True) if not gone]
    return _floats(name, present, missing)


def _categories(name: str, present: list[str], missing: np.ndarray) -> Column:
    codes, words = encode(present)
    return Column("category", missing, _spread(codes, missing), "", words)


def _labels(name: str, present: list[Any], missing: np.ndarray) -> Column:
    counts = _spread(np.fromiter(map(len, present), np.int64, len(present)), missing)
    flat = [label.item() if isinstance(label, np.generic) else label for row in present for label in row]
    kinds = set(map(type, flat))
    if len(kinds) > 1 or not kinds <= {str, int}:
        odd = next((label for label in flat if type(label) is not type(flat[0]) or type(label) not in (str, int)), None)
        raise InputError(f"{name}: labels are all strings or all integers, got {odd!r} in one of the sets")
    return labels_column(missing, counts, flat)


def _dates(name: str, present: list[Any], missing: np.ndarray) -> Column:
    if all(type(value) is datetime.date for value in present):
        array = np.array(present, dtype="datetime64[D]")
    else:
        array = np.array([_moment(value) for value in present])  # NumPy takes the finest unit
    if array.dtype.kind != "M" or np.datetime_data(array.dtype)[0] not in (PER_SECOND | SECONDS):
        array = array.astype("datetime64[us]")
    keys = array.astype(np.int64)
    return Column("datetime", missing, _spread(keys, missing), np.datetime_data(array.dtype)[0])


def _moment(value: Any) -> np.datetime64:
    if hasattr(value, "to_datetime64"):
        return np.datetime64(without_zone(value).to_datetime64())
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value if isinstance(value, np.datetime64) else np.datetime64(value)


def _dates_from_text(name: str, column: Column) -> Column:
    moments = []
    for word in column.dictionary:
        try:
            moments.append(_moment(datetime.datetime.fromisoformat(word)))
        except ValueError as error:
            row = int(np.flatnonzero(~column.missing & (column.keys == len(moments)))[0])
            raise InputError(f"{name}: row {row} holds {word!r}, which is no ISO date") from error
    micros = np.array(moments, dtype="datetime64[us]").astype(np.int64)
    day = 86_400_000_000
    unit, micros = ("D", micros // day) if not (micros % day).any() else ("us", micros)
    return Column("datetime", column.missing, np.where(column.missing, 0, micros[column.keys]), unit)


_READERS: dict[str, Callable[[str, list[Any], np.ndarray], Column]] = {
    "int": _integers,
    "bool": _booleans,
    "float": _floats,
    "category": _categories,
    "labels": _labels,
    "datetime": _dates,
}

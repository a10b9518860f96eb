"""Read a CSV file as numbers, prepared as in the paper: categories one-hot, and dates, constants, identifiers, copies left out.

n rows, d columns. The steps are learned from one file and repeated on another, so that new rows get the same columns.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np

from paperworks.errors import InputError

log = logging.getLogger(__name__)
MISSING = {"", "na", "nan", "null", "none", "?"}
_MOST_CATEGORIES = 50  # more values than this in a text column: a name or a free text, not a category


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows as texts; comma, semicolon or tab, plain or gzip.

    Raises InputError that names the file and the line for a file without rows, or a line with another number of fields.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}; save it as CSV in UTF-8") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    lines = [line for line in reader if line]
    if len(lines) < 2:
        raise InputError(f"{path} needs a header line and at least one row")
    header = [name.strip() for name in lines[0]]
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise InputError(f"{path}: the header names {', '.join(map(repr, twice))} more than once; rename one")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise InputError(f"{path}, row {number}: {len(line)} fields instead of the header's {len(header)}")
    return header, [[cell.strip() for cell in line] for line in lines[1:]]


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _is_date(cell: str) -> bool:
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            parse(cell)
        except ValueError:
            continue
        return not cell.isdigit()
    return False


@dataclass(frozen=True)
class Preparation:
    """What was learned from a table: the target, numeric columns, categories of text columns, and why others were left out."""

    target: str
    numeric: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    left_out: dict[str, str]

    @property
    def names(self) -> list[str]:
        """Names of the prepared columns, (d,)."""
        return [
            *self.numeric,
            *(f"{column}={value}" for column, values in self.categories.items() for value in values),
        ]

    @classmethod
    def learn(cls, header: list[str], rows: list[list[str]], target: str, keep: tuple[str, ...] = ()) -> Preparation:
        """Decide about each column. `keep`: columns that are never left out as identifiers or copies.

        Raises InputError when the target is not a column of numbers, or no column is left.
        """
        if target not in header:
            raise InputError(f"there is no column {target!r}; the columns are: {', '.join(header)}")
        place = header.index(target)
        for number, row in enumerate(rows, start=2):
            if row[place].lower() not in MISSING and _number(row[place]) is None:
                raise InputError(f"the target {target!r} must hold numbers; row {number} holds {row[place]!r}")
        numeric: list[str] = []
        categories: dict[str, tuple[str, ...]] = {}
        left_out: dict[str, str] = {}
        seen: list[np.ndarray] = []
        for index, column in enumerate(header):
            if index == place:
                continue
            cells = [row[index] for row in rows if row[index].lower() not in MISSING]
            values = [_number(cell) for cell in cells]
            if len(set(cells)) < 2:
                left_out[column] = "constant"
            elif all(value is not None for value in values):
                found = np.array(values, dtype=float)
                whole = bool((found == np.round(found)).all())
                if column not in keep and len(found) > 10 and whole and (np.diff(found) == 1).all():
                    left_out[column] = "numbers the rows"
                elif column not in keep and any(_collinear(found, other) for other in seen):
                    left_out[column] = "repeats another column"
                else:
                    numeric.append(column)
                    seen.append(found)
            elif all(_is_date(cell) for cell in cells):
                left_out[column] = "dates"
            elif len(set(cells)) > _MOST_CATEGORIES or len(set(cells)) == len(cells):
                left_out[column] = f"{len(set(cells))} different texts"
            else:
                categories[column] = tuple(sorted(set(cells)))
        if not numeric and not categories:
            reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items()) or "the target is the only one"
            raise InputError(f"no column is left to predict from ({reasons})")
        return cls(target, tuple(numeric), categories, left_out)

    def apply(
        self, header: list[str], rows: list[list[str]], with_target: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """X (n, d), y (n,), and the indices (n,) of the rows that were kept: rows with missing cells are dropped.

        A category that was not seen when learning gets zeros. Without target, y is empty.
        """
        needed = [*self.numeric, *self.categories, *([self.target] if with_target else [])]
        lacking = [name for name in needed if name not in header]
        if lacking:
            raise InputError(f"the table lacks the columns {', '.join(lacking)}")
        places = {name: header.index(name) for name in needed}
        kept = [i for i, row in enumerate(rows) if all(row[place].lower() not in MISSING for place in places.values())]
        if not kept:
            raise InputError("every row has a missing cell; fill them, or leave out the columns that have most of them")
        if len(kept) < len(rows):
            log.warning("%d of %d rows have missing cells and are left out", len(rows) - len(kept), len(rows))
        columns = [_numbers(rows, kept, name, places[name]) for name in self.numeric]
        for name, values in self.categories.items():
            cells = np.array([rows[i][places[name]] for i in kept])
            columns += [(cells == value).astype(float) for value in values]
        y = _numbers(rows, kept, self.target, places[self.target]) if with_target else np.zeros(0)
        return np.column_stack(columns), y, np.array(kept)


def _numbers(rows: list[list[str]], kept: list[int], name: str, place: int) -> np.ndarray:
    values = []
    for i in kept:
        value = _number(rows[i][place])
        if value is None:
            raise InputError(f"column {name!r} holds numbers, but row {i + 2} holds {rows[i][place]!r}")
        values.append(value)
    return np.array(values)


def _collinear(a: np.ndarray, b: np.ndarray) -> bool:
    if len(a) != len(b) or len(a) < 3:
        return False
    return bool(abs(np.corrcoef(a, b)[0, 1]) > 1 - 1e-9)

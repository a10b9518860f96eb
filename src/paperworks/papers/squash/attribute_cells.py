"""One byte a value: cells of sorted keys, and bits for sets of labels (step 6 of the build, without standardising).

Up to 255 distinct values each get a cell of their own and nothing is lost; beyond that neighbours share a cell such that no cell
of several values holds more rows than it must, and a value that fills a cell by itself gets it alone. Cell 255 means missing.
Equal values never part, so a filter sees for each cell whether all, none or some of its values pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from paperworks.papers.squash.attribute_reading import Column

MAX_CELLS = 255
MISSING = 255
LABEL_PLANES = 8
EXACT_LABELS = 8 * LABEL_PLANES - 1  # one bit says that the set is missing


@dataclass
class Stored:
    """What a filter needs to know of one attribute; its rows are in the arrays of the table.

    Scalars: the values of cell c lie in low[c] .. high[c] (keys, both ends in it) and counts[c] rows have it, n_missing none;
    key_row is the row of the exact keys, -1 where every cell holds one value.
    Labels: bits[i] is the bit of rank i, counted through the planes, counts[i] the rows that have it, starts_row the row of
    their offsets.
    """

    name: str
    kind: str
    plane: int
    n_planes: int = 1
    unit: str = ""
    dictionary: list[Any] = field(default_factory=list)
    low: list[int] = field(default_factory=list)
    high: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    n_missing: int = 0
    key_row: int = -1
    starts_row: int = -1
    bits: list[int] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The fields, as they are."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def running(self) -> list[int]:
        """Rows in the cells (or posting lists) before each; one entry more than cells."""
        return list(accumulate(self.counts, initial=0))

    @property
    def exact(self) -> bool:
        """True where a byte already tells the value."""
        return len(self.bits) <= EXACT_LABELS if self.kind == "labels" else self.key_row < 0

    def place(self, code: int) -> tuple[int, int, bool]:
        """Plane and bit of a label, and whether it has the bit for itself."""
        offset, bit = divmod(self.bits[code], 8)
        return self.plane + offset, bit, self.exact or offset < self.n_planes - 1


def cut(counts: np.ndarray, max_cells: int = MAX_CELLS) -> np.ndarray:
    """First value of each cell for distinct values with counts (v,); the largest shared cell is as small as it can be.

    >>> cut(np.array([1, 1, 90, 1, 1, 1]), max_cells=3).tolist()
    [0, 2, 3]
    """
    if len(counts) <= max_cells:
        return np.arange(len(counts))
    running = np.concatenate(([0], np.cumsum(counts)))
    least, most = 1, int(running[-1])
    while least < most:
        middle = (least + most) // 2
        if len(_greedy(running, middle, max_cells)) <= max_cells:
            most = middle
        else:
            least = middle + 1
    return np.array(_greedy(running, least, max_cells))


def _greedy(running: np.ndarray, size: int, max_cells: int) -> list[int]:
    """Fill cells up to `size` rows from the left; a larger value has one for itself. Gives up beyond max_cells."""
    firsts: list[int] = []
    first, n_values = 0, len(running) - 1
    while first < n_values and len(firsts) <= max_cells:
        firsts.append(first)
        first = max(first + 1, int(np.searchsorted(running, running[first] + size, side="right")) - 1)
    return firsts


def scalar_cells(name: str, column: Column, plane: int, key_row: int) -> tuple[Stored, np.ndarray, np.ndarray]:
    """Description, cells uint8 (n,) and the rows int64 (n,) sorted by value, missing ones last.

    key_row: where the exact keys will stand if they are needed.
    """
    present = np.flatnonzero(~column.missing)
    by_key = present[np.argsort(column.keys[present], kind="stable")]
    ordered = column.keys[by_key]
    is_first = np.empty(len(ordered), bool)
    is_first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    begins = np.flatnonzero(is_first)
    counts = np.diff(np.append(begins, len(ordered)))
    firsts = cut(counts)
    row_bounds = np.append(begins[firsts], len(ordered)) if len(firsts) else np.zeros(1, np.int64)
    cells = np.full(len(column), MISSING, np.uint8)
    cell_counts = np.diff(row_bounds)
    cells[by_key] = np.repeat(np.arange(len(firsts), dtype=np.uint8), cell_counts)
    low, high = ordered[row_bounds[:-1]], ordered[row_bounds[1:] - 1] if len(firsts) else ordered
    is_exact = len(firsts) == len(begins)
    stored = Stored(
        name=name,
        kind=column.kind,
        plane=plane,
        unit=column.unit,
        dictionary=column.dictionary,
        low=low.tolist(),
        high=high.tolist(),
        counts=cell_counts.tolist(),
        n_missing=int(column.missing.sum()),
        key_row=-1 if is_exact else key_row,
    )
    return stored, cells, np.concatenate((by_key, np.flatnonzero(column.missing)))


def label_bits(name: str, column: Column, plane: int, starts_row: int) -> tuple[Stored, np.ndarray, np.ndarray]:
    """Description, planes of bits uint8 (n_planes, n) and the posting lists: rows int64 by label, ascending in each.

    Up to 63 labels have a bit each; of more, the 55 most frequent have one, the others share the 8 bits of the last plane.
    Bit 0 of the first plane says that the set is missing.
    """
    starts, codes = column.sets
    n, n_labels = len(column), len(column.dictionary)
    counts = np.bincount(codes, minlength=n_labels)
    n_exact = n_labels if n_labels <= EXACT_LABELS else EXACT_LABELS - 8
    n_planes = (n_exact + 1 + 7) // 8 + (n_labels > n_exact)
    slot = np.empty(n_labels, np.int64)
    slot[np.argsort(-counts, kind="stable")] = np.arange(n_labels)  # 0 for the most frequent
    places = np.where(slot < n_exact, slot + 1, 8 * (n_planes - 1) + (slot - n_exact) % 8)
    planes = np.zeros((n_planes, n), np.uint8)
    planes[0] = column.missing
    rows = np.repeat(np.arange(n), np.diff(starts))
    place_of = places[codes].astype(np.uint8)
    for place in np.unique(place_of).tolist():
        planes[place // 8, rows[place_of == place]] |= np.uint8(1 << (place % 8))
    stored = Stored(
        name=name,
        kind="labels",
        plane=plane,
        n_planes=int(n_planes),
        dictionary=column.dictionary,
        counts=counts.tolist(),
        n_missing=int(column.missing.sum()),
        starts_row=starts_row,
        bits=places.tolist(),
    )
    return stored, planes, rows[np.argsort(codes, kind="stable")]

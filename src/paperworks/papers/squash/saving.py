"""The state of an index to its folder and back, and single partitions as folders of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.builder import freeze
from paperworks.papers.squash.metric import Metric
from paperworks.papers.squash.reader import NO_TOMBSTONES, PartitionReader, read_arrays
from paperworks.papers.squash.state import Added, State
from paperworks.papers.squash.storage import DamagedIndex, open_folder, read_steadily, save_array, write_folder

BIG = ("vectors.npy", "added_vectors.npy")


@dataclass(frozen=True)
class Loaded:
    """An opened index: its state, the settings of its build, the defaults of its searches."""

    state: State
    settings: dict[str, Any]
    defaults: dict[str, float]


def save_state(state: State, folder: str | Path, settings: Mapping[str, Any], defaults: Mapping[str, float]) -> Path:
    """Write everything, in place of what was there."""

    def write(path: Path) -> None:
        for name, array in state.reader.arrays().items():
            save_array(path, name, array)
        save_array(path, "rows", state.rows)
        save_array(path, "alive", state.alive)
        state.table.save(path / "attributes")
        if state.added is not None:
            save_array(path, "added_vectors", state.added.vectors)
            save_array(path, "added_ids", state.added.ids)
            save_array(path, "added_alive", state.added.alive)
            state.added.table.save(path / "added")

    schema = {**_facts(state.reader), **_metric(state.metric), "settings": dict(settings), "defaults": dict(defaults)}
    return write_folder(folder, schema, write)


def load_state(folder: str | Path, *, mmap: bool = True, verify: str = "resident") -> Loaded:
    """Read what `save_state` wrote. Raises DamagedIndex, NewerIndex."""
    loaded: Loaded = read_steadily(lambda: _load(Path(folder), mmap, verify))
    return loaded


def _load(folder: Path, mmap: bool, verify: str) -> Loaded:
    opened = open_folder(folder, verify=verify, big=BIG)
    reader = freeze(read_arrays(opened, mmap))
    try:
        metric = Metric(str(opened.schema["metric"]), int(opened.schema["d"]), float(opened.schema["widening"]))
        settings, defaults = dict(opened.schema["settings"]), dict(opened.schema["defaults"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedIndex(f"{folder}: the manifest lacks {error}; save the index again") from error
    table = _table(opened.data / "attributes", mmap)
    rows, alive = np.asarray(opened.load("rows", mmap)), np.array(opened.load("alive", mmap))
    if len(rows) != reader.n or len(table) != reader.n or len(alive) not in (0, reader.n):
        raise DamagedIndex(
            f"{folder}: {reader.n} vectors do not fit {len(table)} rows of attributes; save the index again"
        )
    added = None
    if opened.has("added_ids"):
        added = Added(
            np.array(opened.load("added_vectors", mmap)),
            np.array(opened.load("added_ids", mmap)),
            _table(opened.data / "added", mmap),
            np.array(opened.load("added_alive", mmap)),
        )
    return Loaded(State(metric, reader, table, rows, alive if len(alive) else NO_TOMBSTONES, added), settings, defaults)


def _table(folder: Path, mmap: bool) -> AttributeTable:
    try:
        return AttributeTable.load(folder, mmap=mmap)
    except InputError as error:
        if not folder.exists():  # replaced by a writer meanwhile: the caller starts over
            raise FileNotFoundError(2, "attributes are missing", str(folder)) from error
        raise DamagedIndex(str(error)) from error


def cut_partition(reader: PartitionReader, part: int) -> PartitionReader:
    """One partition of an index as an index of its own; its rows keep their order."""
    if not 0 <= part < len(reader.part_means):
        raise InputError(f"the index has the partitions 0 to {len(reader.part_means) - 1}, got {part}")
    lists = np.flatnonzero(reader.part_of_list == part)
    first, last = (int(lists[0]), int(lists[-1]) + 1) if len(lists) else (0, 0)
    begin, end = int(reader.starts[first]), int(reader.starts[last])
    block_bytes = -(-reader.d // 16) * 64
    values = reader.values()
    for name in ("signs", "add", "factor", "codes", "vectors", "ids"):
        values[name] = values[name][begin:end]
    for name in ("part_means", "part_bases", "part_edges", "part_bits", "part_orders", "part_bytes", "centroids"):
        values[name] = values[name][part : part + 1]
    for name in ("centres", "spreads"):
        values[name] = values[name][first:last]
    blocks = slice(int(reader.first_block[first]) * block_bytes, int(reader.first_block[last]) * block_bytes)
    values["blocks"] = reader.blocks[blocks]
    values["starts"] = reader.starts[first : last + 1] - begin
    values["first_block"] = reader.first_block[first : last + 1] - reader.first_block[first]
    values["part_of_list"] = np.zeros(last - first, np.int32)
    return freeze(PartitionReader(**values))


def save_partition(reader: PartitionReader, metric: Metric, folder: str | Path) -> Path:
    """Write a partition so that `open_partition` opens it."""

    def write(path: Path) -> None:
        for name, array in reader.arrays().items():
            save_array(path, name, array)

    return write_folder(folder, {**_facts(reader), **_metric(metric)}, write)


def _facts(reader: PartitionReader) -> dict[str, Any]:
    return {"n": reader.n, "axes": reader.axes, "largest": reader.largest, "first_pass": reader.first_pass}


def _metric(metric: Metric) -> dict[str, Any]:
    return {"metric": metric.name, "d": metric.d, "widening": metric.widening}

"""A compressed index over the vectors of a large hub, by `paperworks.papers.squash`, beside the exact scan.

It covers the first rows of the generation in force; rows that came later are scanned exactly until it is built again. What it finds
is scored on the full vectors, so that scores and their order are those of the scan. Filters go in as one bit a paper: the hub has
that set at hand anyway, for words, and it holds what no attribute of a vector could say (words that must be there, verdicts, papers
embedded again). The index lies in the generation's folder; `current.json` names it, and so changes everything at once.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paperworks.errors import InputError, PaperworksError, StoreError
from paperworks.hub.search import vectors
from paperworks.hub.search.apart import run_apart, tell
from paperworks.hub.search.vectors import State, VectorIndex
from paperworks.progress import Progress, silent

if TYPE_CHECKING:
    from paperworks.papers.squash import SquashIndex

log = logging.getLogger(__name__)
UNCOVERED = 0.1  # share of rows outside of the index from which it is built again
ROWS = "rows.npy"
DEPTH = 200  # papers that a search by meaning wants
RECALL = 0.98  # share of them that the settings of the index are tuned to find
N_TUNED = 48  # papers that it is tuned on


class Compressed:
    """An opened index over the first `n_covered` rows. Never changes, safe in threads."""

    def __init__(self, folder: Path, n_covered: int) -> None:
        """Raises StoreError for a folder that is not there or not whole."""
        from paperworks.papers.squash import SquashIndex

        try:
            self._index = SquashIndex.load(folder / "index", mmap=True)
            self._rows = np.load(folder / ROWS)
        except (OSError, ValueError, PaperworksError) as error:
            raise StoreError(f"the compressed vectors in {folder} cannot be used: {error}") from error
        if len(self._rows) != len(self._index) or (len(self._rows) and self._rows[-1] >= n_covered):
            raise StoreError(f"the compressed vectors in {folder} are not those of the {n_covered:,} rows beside them")
        self.n_covered = n_covered
        self._all = len(self._rows) == n_covered

    def candidates(self, query: np.ndarray, k: int, wanted: np.ndarray | None) -> np.ndarray:
        """Rows int64 of about the `k` nearest to a unit vector, of those in `wanted`, bool (n_covered,); None: all."""
        passing = None if wanted is None else wanted if self._all else wanted[self._rows]
        _, rows = self._index.search(query[None], k, passing)
        found: np.ndarray = rows[0][rows[0] >= 0]
        return found


def wished(state: State | None, *, above: int, memory_mib: float) -> bool:
    """Whether so many vectors are searched compressed: more rows than `above`, or more memory than the cap (0: no cap)."""
    if state is None or not state.n_rows:
        return False
    return state.n_rows > above or (memory_mib > 0 and 4 * state.n_rows * state.dims > memory_mib * 2**20)


def due(root: Path, state: State | None, *, above: int, memory_mib: float) -> bool:
    """Whether an index is to be built: one is wished, and there is none, or too much has come since."""
    if state is None or not wished(state, above=above, memory_mib=memory_mib):
        return False
    if not state.compressed or not (root / state.generation / state.compressed).is_dir():
        return True
    return state.n_rows - state.n_compressed > UNCOVERED * state.n_rows


def drop_if_not_wished(root: Path, state: State, *, above: int, memory_mib: float) -> None:
    """Go back to the exact scan where the settings no longer ask for an index."""
    if not wished(state, above=above, memory_mib=memory_mib):
        vectors.write_state(root, replace(state, compressed="", n_compressed=0, serial=state.serial + 1))
        shutil.rmtree(root / state.generation / state.compressed, ignore_errors=True)


def compress(root: Path, progress: Progress = silent) -> State:
    """Build an index over all rows in force and put it in force. A crash anywhere leaves what was in force.

    Raises StoreError when there are no vectors or the folder cannot be written.
    """
    state = vectors.read_state(root)
    if state is None:
        raise StoreError(f"there are no vectors in {root}; run: paperworks reindex")
    from paperworks.papers.squash import SquashIndex

    index = vectors.load(root, replace(state, compressed="", n_compressed=0))
    name = f"compressed-{uuid.uuid4().hex[:12]}"
    folder = root / state.generation / name
    try:
        folder.mkdir()
        rows = index.rows_in_force()
        given = index.parts[0] if len(index.parts) == 1 and len(rows) == len(index.ids) else index.blocks(rows)
        made = SquashIndex(metric="l2", random_state=0)
        made.build(given, ids=rows, progress=progress, folder=folder / "index")
        _tune(made, index, rows)
        made.save(folder / "index")
        with (folder / ROWS).open("wb") as file:
            np.save(file, rows)
            file.flush()
            os.fsync(file.fileno())
        now = vectors.read_state(root)
        if now is None or now.generation != state.generation:
            raise StoreError("the vectors were replaced while they were being compressed; it is done again")
        done = replace(now, compressed=name, n_compressed=state.n_rows, serial=now.serial + 1)
        vectors.write_state(root, done)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise StoreError(
                f"compressed vectors cannot be written to {root}: {error.strerror or error}; check free space and permissions"
            ) from error
        raise
    for other in (root / state.generation).glob("compressed-*"):
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)
    log.info("vectors compressed papers=%d dims=%d", state.n_rows, state.dims)
    return done


def _tune(made: SquashIndex, index: VectorIndex, rows: np.ndarray) -> None:
    """Let the index find its settings: papers between two papers stand for queries."""
    if len(rows) < 2 * DEPTH:
        return
    rng = np.random.default_rng(0)
    between = index.take(rng.choice(rows, N_TUNED)) + 0.5 * index.take(rng.choice(rows, N_TUNED))
    queries = between / np.linalg.norm(between, axis=1, keepdims=True)
    try:
        log.info("compressed vectors: %s", made.tune(queries, DEPTH, recall=RECALL))
    except InputError as error:
        log.warning("compressed vectors keep their default settings: %s", error)


def compress_apart(root: Path, progress: Progress = silent) -> None:
    """`compress` in a child process that is nice to others. Raises StoreError with its last words when it fails."""
    failed = run_apart("paperworks.hub.search.compressed", [str(root)], "", progress)
    if failed is not None:
        raise StoreError(f"compressing the vectors failed: {failed}; all are scanned meanwhile")


def main() -> None:
    if hasattr(os, "nice"):
        os.nice(10)

    try:
        compress(Path(sys.argv[1]), tell)
    except PaperworksError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

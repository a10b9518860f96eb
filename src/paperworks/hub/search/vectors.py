"""Vectors of all papers on disk, and the exact search among them.

The folder holds one `current.json`, the only file that ever changes (by rename), and beside it a folder a generation: the
embedder's own files, and segments that are written once: `N.ids.npy` int64 (n, 2) of paper id and text hash, `N.vectors.npy`
float32 (n, d) of unit rows, memory-mapped. A paper that was embedded again stands in a later segment; the last one counts.
What does not fit its checksum is not used: search then answers in words until the next `reindex`.
A large hub has a compressed index beside them (`compressed.py`), which then names the rows that are worth scoring.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from paperworks.errors import PaperworksError, StoreError
from paperworks.hub.search.embed import Embedder, kind_of

log = logging.getLogger(__name__)
CURRENT = "current.json"
GATHER_BELOW = 0.1  # share of rows under which the wanted ones are gathered instead of scanning all
GATHER_COMPRESSED = 2_000  # rows up to which a compressed index is not asked either
BLOCK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Segment:
    """File stem, rows, and the checksums of its two files."""

    name: str
    n: int
    ids_crc: int
    vectors_crc: int


@dataclass(frozen=True, slots=True)
class State:
    """What `current.json` says."""

    generation: str
    embedder: str
    fingerprint: str
    dims: int
    fitted: int  # papers that the space was learnt from
    made: str  # UTC
    segments: tuple[Segment, ...] = ()
    signature: str = ""  # of the papers when the last segment was written
    serial: int = 0
    n_rows_fitted: int = 0  # papers there were when the space was learnt
    compressed: str = ""  # folder of the compressed index, in that of the generation
    n_compressed: int = 0  # rows that it covers, from the first on

    @property
    def n_rows(self) -> int:
        return sum(segment.n for segment in self.segments)

    def with_segment(self, segment: Segment, signature: str) -> State:
        return replace(self, segments=(*self.segments, segment), signature=signature, serial=self.serial + 1)


def read_state(root: Path) -> State | None:
    """What is in force; None where there is nothing, or nothing that can be read."""
    try:
        raw = json.loads((root / CURRENT).read_text(encoding="utf-8"))
        segments = tuple(Segment(**segment) for segment in raw.pop("segments"))
        return State(**raw, segments=segments)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s cannot be read (%s); vectors will be built anew", root / CURRENT, error)
        return None


def write_state(root: Path, state: State) -> None:
    """Put a state in force, all at once, and drop the folders of other generations."""
    _write_whole(root / CURRENT, json.dumps(asdict(state), indent=1).encode())
    for folder in root.iterdir():
        if folder.is_dir() and folder.name.startswith("g-") and folder.name != state.generation:
            shutil.rmtree(folder, ignore_errors=True)


def write_segment(folder: Path, name: str, ids: np.ndarray, vectors: np.ndarray) -> Segment:
    """Write rows beside the others; they count once a state names them. ids int64 (n, 2), vectors float32 (n, d)."""
    crcs = []
    for kind, array, dtype in (("ids", ids, np.int64), ("vectors", vectors, np.float32)):
        path = folder / f"{name}.{kind}.npy"
        with path.open("wb") as file:
            np.save(file, np.ascontiguousarray(array, dtype=dtype))
            file.flush()
            os.fsync(file.fileno())
        crcs.append(_crc(path))
    return Segment(name, len(ids), *crcs)


def text_hash(text: str) -> int:
    """Tells whether a paper's text is the one that was embedded."""
    data = text.encode("utf-8", "replace")
    return zlib.crc32(data) | (len(data) & 0x7FFF_FFFF) << 32


class Candidates(Protocol):
    """Names the rows worth scoring, of the first `n_covered`; see `compressed.py`."""

    n_covered: int

    def candidates(self, query: np.ndarray, k: int, wanted: np.ndarray | None) -> np.ndarray: ...


class VectorIndex:
    """An opened set of vectors. Build with `open_index`; never changes."""

    def __init__(
        self,
        state: State,
        embedder: Embedder,
        ids: np.ndarray,
        parts: Sequence[np.ndarray],
        compressed: Candidates | None = None,
    ) -> None:
        """ids int64 (n, 2): paper id and text hash of each row; parts: float32 (n_i, d), together n rows."""
        self.state = state
        self.compressed = compressed
        self.embedder = embedder
        self.parts = list(parts)
        self.ids = np.ascontiguousarray(ids[:, 0]) if len(ids) else np.zeros(0, np.int64)
        self.hashes = ids[:, 1] if len(ids) else np.zeros(0, np.int64)
        reverse = self.ids[::-1]
        self._sorted, at = np.unique(reverse, return_index=True)  # of equal ids the last row
        self._rows = len(self.ids) - 1 - at
        dead = np.ones(len(self.ids), dtype=bool)
        dead[self._rows] = False
        self._dead = np.flatnonzero(dead)
        self._starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def __len__(self) -> int:
        """Papers that have a vector."""
        return len(self._sorted)

    @property
    def paper_ids(self) -> np.ndarray:
        """Ids of all papers that have a vector, ascending, int64 (n,)."""
        return self._sorted

    def hashes_of(self, paper_ids: np.ndarray) -> np.ndarray:
        """Text hashes, -1 for papers without a vector."""
        rows = self.rows_of(paper_ids)
        return np.where(rows >= 0, self.hashes[np.maximum(rows, 0)] if len(self.hashes) else -1, -1)

    def rows_of(self, paper_ids: np.ndarray) -> np.ndarray:
        """Row of each paper, -1 without one; int64."""
        paper_ids = np.asarray(paper_ids, dtype=np.int64)
        if not len(self._sorted):
            return np.full(len(paper_ids), -1)
        at = np.minimum(np.searchsorted(self._sorted, paper_ids), len(self._sorted) - 1)
        return np.where(self._sorted[at] == paper_ids, self._rows[at], -1)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of these rows, float32 (n, d)."""
        out = np.empty((len(rows), self.state.dims), dtype=np.float32)
        for part, start, stop in zip(self.parts, self._starts[:-1], self._starts[1:], strict=True):
            inside = (rows >= start) & (rows < stop)
            if inside.any():
                out[inside] = part[rows[inside] - start]
        return out

    def vector_of(self, paper_id: int) -> np.ndarray | None:
        """The unit vector of a paper, float32 (d,); None without one, or for a paper without a known word."""
        row = int(self.rows_of(np.array([paper_id]))[0])
        if row < 0:
            return None
        vector: np.ndarray = self.take(np.array([row]))[0]
        return vector if vector.any() else None

    def nearest(
        self, query: np.ndarray, k: int, *, allowed: np.ndarray | None = None, most_id: int | None = None
    ) -> list[tuple[int, float]]:
        """The `k` papers with the largest cosine to `query`, best first. Only cosines above zero.

        query float32 (d,), of length 1. allowed: ids that may be found, ascending, None: all. most_id: no larger ids.
        Exact: under a tenth of the rows, those allowed are gathered; else all are scanned and the others masked. With a
        compressed index the scores are as exact, and nearly all of the k are those of the scan.
        """
        if not len(self.ids) or not query.any() or k <= 0:
            return []
        query = np.ascontiguousarray(query, dtype=np.float32)
        if allowed is not None:
            rows = self.rows_of(allowed)
            rows = rows[rows >= 0]
            few = GATHER_BELOW * len(self.ids) if self.compressed is None else GATHER_COMPRESSED
            if len(rows) < few:
                return self._gathered(query, k, rows, most_id)
            wanted = np.zeros(len(self.ids), dtype=bool)
            wanted[rows] = True
        if self.compressed is not None:
            return self._among_candidates(self.compressed, query, k, wanted if allowed is not None else None, most_id)
        scores = self.scores(query)
        if allowed is not None:
            scores[~wanted] = -1
        scores[self._dead] = -1
        if most_id is not None and len(self._sorted) and self._sorted[-1] > most_id:
            scores[self.ids > most_id] = -1
        return _best(self.ids, scores, k)

    def scores(self, query: np.ndarray) -> np.ndarray:
        """Cosine of `query` to every row, float32 (n,)."""
        return np.concatenate([part @ query for part in self.parts])

    def _among_candidates(
        self, compressed: Candidates, query: np.ndarray, k: int, wanted: np.ndarray | None, most_id: int | None
    ) -> list[tuple[int, float]]:
        """What the compressed index names, and all rows that came after it, scored on their vectors."""
        n = compressed.n_covered
        early = None
        if most_id is not None and self._sorted[-1] > most_id:
            early = self.ids <= most_id
        if wanted is None and (len(self._dead) or early is not None):
            wanted = np.ones(len(self.ids), dtype=bool)
            wanted[self._dead] = False
        if wanted is not None and early is not None:
            wanted &= early
        later = np.arange(n, len(self.ids)) if wanted is None else n + np.flatnonzero(wanted[n:])
        near = compressed.candidates(query, k, None if wanted is None else wanted[:n])
        return self._gathered(query, k, np.concatenate([near, later]), None)

    def blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The vectors of these rows, a few megabytes at a time."""
        step = max(1, BLOCK_BYTES // (4 * self.state.dims))
        for start in range(0, len(rows), step):
            yield self.take(rows[start : start + step])

    def rows_in_force(self) -> np.ndarray:
        """Rows int64 of papers' last vectors, ascending, without those of papers that have no known word."""
        known = np.concatenate([part.any(axis=1) for part in self.parts]) if self.parts else np.zeros(0, dtype=bool)
        known[self._dead] = False
        return np.flatnonzero(known)

    def _gathered(self, query: np.ndarray, k: int, rows: np.ndarray, most_id: int | None) -> list[tuple[int, float]]:
        if most_id is not None:
            rows = rows[self.ids[rows] <= most_id]
        if not len(rows):
            return []
        scores = np.concatenate([block @ query for block in self.blocks(rows)])
        return _best(self.ids[rows], scores, k)


def _best(ids: np.ndarray, scores: np.ndarray, k: int) -> list[tuple[int, float]]:
    """The k largest scores above zero; of equal ones the smaller id."""
    if len(scores) > k:
        edge = scores[np.argpartition(-scores, k - 1)[:k]].min()
        at = np.flatnonzero(scores >= edge)  # with all that are equal to the last one
    else:
        at = np.arange(len(scores))
    at = at[scores[at] > 0]
    order = at[np.lexsort((ids[at], -scores[at]))][:k]
    return [(int(ids[row]), float(scores[row])) for row in order]


# -- opening --------------------------------------------------------------------------------------------------------


@dataclass
class _Kept:
    stamp: tuple[int, ...] | None = None
    index: VectorIndex | None = None
    problem: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


_kept: dict[Path, _Kept] = {}
_kept_lock = threading.Lock()


def open_index(root: Path, embedder: str | None = None) -> tuple[VectorIndex | None, str]:
    """The vectors in force, opened once a process and again when they have been replaced; and, without any, why not.

    embedder: the name that the settings ask for; vectors of another one are not used.
    """
    with _kept_lock:
        kept = _kept.setdefault(root, _Kept())
    with kept.lock:
        stamp = _stamp(root / CURRENT)
        if stamp is None or stamp != kept.stamp:
            kept.stamp, kept.index, kept.problem = stamp, *_load(root)
        index, problem = kept.index, kept.problem
    if index is not None and embedder is not None and index.state.embedder != embedder:
        return None, f"its vectors are of the embedder {index.state.embedder!r}, and {embedder!r} is set"
    return index, problem


def forget(root: Path) -> None:
    """Let go of opened vectors, for tests and for a folder that is closed."""
    with _kept_lock:
        _kept.pop(root, None)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _load(root: Path) -> tuple[VectorIndex | None, str]:
    for attempt in (
        1,
        2,
    ):  # a new generation may come into force, and take the old one away, while the old one is opened
        state = read_state(root)
        if state is None:
            return None, "its vectors have not been built yet"
        try:
            return load(root, state), ""
        except PaperworksError as error:
            if attempt == 2 or read_state(root) == state:
                log.warning("%s", error)
                return None, "its vectors are damaged and will be built anew"
    return None, "its vectors are being replaced"


def load(root: Path, state: State) -> VectorIndex:
    """Open the vectors of `state`. Raises StoreError when a file is missing or is not what its checksum says."""
    folder = root / state.generation
    ids, parts = [], []
    try:
        embedder = kind_of(state.embedder).open(folder)
        if (embedder.name, embedder.fingerprint, embedder.dims) != (state.embedder, state.fingerprint, state.dims):
            raise ValueError(f"the embedder in {folder} is not the one that the vectors were made with")
        for segment in state.segments:
            for kind, crc in (("ids", segment.ids_crc), ("vectors", segment.vectors_crc)):
                if _crc(folder / f"{segment.name}.{kind}.npy") != crc:
                    raise ValueError(f"{segment.name}.{kind}.npy does not fit its checksum")
            rows = np.load(folder / f"{segment.name}.ids.npy")
            part: Any = np.load(folder / f"{segment.name}.vectors.npy", mmap_mode="r")
            if rows.shape != (segment.n, 2) or part.shape != (segment.n, state.dims) or part.dtype != np.float32:
                raise ValueError(f"segment {segment.name} has not the stated shape")
            ids.append(rows)
            parts.append(part.view(np.ndarray))
    except (OSError, ValueError, PaperworksError) as error:
        raise StoreError(f"the vectors in {folder} cannot be used: {error}; run: paperworks reindex") from error
    named = np.concatenate(ids) if ids else np.zeros((0, 2), np.int64)
    return VectorIndex(state, embedder, named, parts, _compressed(folder, state))


def _compressed(folder: Path, state: State) -> Candidates | None:
    """The compressed index that the state names; without a whole one all vectors are scanned."""
    if not state.compressed:
        return None
    from paperworks.hub.search.compressed import Compressed  # only a large hub loads numba

    try:
        return Compressed(folder / state.compressed, state.n_compressed)
    except PaperworksError as error:
        log.warning("%s; all vectors are scanned until the next reindex", error)
        return None


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            crc = zlib.crc32(block, crc)
    return crc


def _write_whole(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)

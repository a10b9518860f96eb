"""`SquashIndex`: nearest vectors among the rows that pass a filter, from an index several times smaller than the vectors."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash import explain as explaining
from paperworks.papers.squash import updates
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.builder import BuildSettings, build_reader, default_lists
from paperworks.papers.squash.filters import FilterLike, as_filter, per_query
from paperworks.papers.squash.metric import METRICS, Metric
from paperworks.papers.squash.reader import NO_TOMBSTONES, SearchParams, plain, read_arrays
from paperworks.papers.squash.saving import load_state, save_state
from paperworks.papers.squash.search import Answer, search_state
from paperworks.papers.squash.source import read_ids, read_vectors
from paperworks.papers.squash.state import State
from paperworks.papers.squash.storage import open_folder, read_steadily
from paperworks.papers.squash.tune import Tuned, calibrate, tune
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)

MANY_LISTS = 1 << 40
DEFAULTS = {
    "reach": 6.0, "n_probe": 0, "keep": 8.0, "R": 0.0,
    "filtered_reach": 5.0, "filtered_n_probe": 0, "filtered_keep": 8.0, "filtered_R": 0.0,
    "min_lists": 4,
}  # fmt: skip
PAPER_R = 2.0  # the paper's refinement factor, when H is given without R
ROWS_A_PARTITION = 4_000_000


class SquashIndex:
    """Nearest neighbours under filters.

    metric: "l2" (distance), "cosine" (1 - cos) or "ip" (minus the inner product); smaller is nearer in all. bits: on average
    a dimension, shared by variance; max_bits: of one dimension, at most 8. n_partitions: "auto" (one, below 4 million rows) or
    a number; partitions are what the serverless layer spreads. n_lists: "auto" (about sqrt(n)) or a number. segment_bits: 8,
    the width of a look-up (other widths are in `segments.SegmentLayout`). sign_rotation: "random", "pca" (the paper) or
    None. boundaries: "lloyd" or "equal". allocation: "greedy" (by variance) or "uniform". first_pass: "residual" (signs of the
    residual to the list's centre, estimating distances) or "hamming" (the paper's count of differing signs). random_state:
    seed. n_jobs: threads of the build and of searches of batches (None: 1; -1: all).

    Searches are safe in threads; `add`, `delete`, `compact` and `build` replace the state in one step, searches under way
    finish on the old one. Raises InputError for values that cannot be used.
    """

    def __init__(
        self,
        *,
        metric: str = "l2",
        bits: float = 4,
        n_partitions: int | str = "auto",
        n_lists: int | str = "auto",
        segment_bits: int = 8,
        sign_rotation: str | None = "random",
        boundaries: str = "lloyd",
        allocation: str = "greedy",
        first_pass: str = "residual",
        max_bits: int = 8,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        _choose("metric", metric, METRICS)
        _choose("sign_rotation", sign_rotation, ("random", "pca", None))
        _choose("boundaries", boundaries, ("lloyd", "equal"))
        _choose("allocation", allocation, ("greedy", "uniform"))
        _choose("first_pass", first_pass, ("residual", "hamming"))
        if segment_bits != 8:
            raise InputError(
                f"the index looks up segments of 8 bits, got segment_bits={segment_bits}; other widths can be packed with "
                "`segments.SegmentLayout`"
            )
        if not 1 <= max_bits <= 8:
            raise InputError(f"max_bits must be between 1 and 8, got {max_bits}")
        if not 0 < bits <= max_bits:
            raise InputError(f"bits must be above 0 and at most max_bits={max_bits}, got {bits}")
        for name, value in (("n_partitions", n_partitions), ("n_lists", n_lists)):
            if value != "auto" and not (isinstance(value, int | np.integer) and value >= 1):
                raise InputError(f"{name} must be 'auto' or a number from 1 on, got {value!r}")
        self.metric = metric
        self.bits = bits
        self.n_partitions = n_partitions
        self.n_lists = n_lists
        self.segment_bits = segment_bits
        self.sign_rotation = sign_rotation
        self.boundaries = boundaries
        self.allocation = allocation
        self.first_pass = first_pass
        self.max_bits = max_bits
        self.random_state = random_state
        self.n_jobs = n_jobs
        self._known_params: dict[tuple[Any, ...], tuple[SearchParams, SearchParams]] = {}
        self.set_defaults(DEFAULTS)
        self._state: State | None = None
        self._lock = threading.Lock()

    # -- build and keep ---------------------------------------------------------------------------------------------

    def build(
        self,
        vectors: Any,
        attributes: Any = None,
        ids: Any = None,
        *,
        types: dict[str, str] | None = None,
        progress: Progress | None = None,
        folder: str | Path | None = None,
    ) -> SquashIndex:
        """Build from vectors (n, d) of float16, float32, float64 or integers, in memory or memory-mapped, or from an iterable
        of blocks (b, d) that is larger than memory.

        attributes: dict of arrays or lists, list of records, DataFrame, Arrow table or `datasets.Dataset`, a row a vector; None
        for none. types: kinds that are not to be guessed. ids: integers (n,), default 0 .. n - 1. folder: save the index there
        and keep full vectors on disk; without it they stay in memory, or in a temporary file where `vectors` did not fit
        either. Raises InputError naming the first bad row; StoreError when the disk is full.
        """
        given, largest, holder = read_vectors(vectors, self.metric)
        n, d = given.shape
        if n and d == 0:
            raise InputError("vectors must have at least one dimension")
        if d > 4096 - (self.metric == "ip"):
            raise InputError(f"vectors may have 4096 dimensions at most, got {d}")
        metric = Metric(self.metric, d, largest if self.metric == "ip" else 0.0)
        id_array = read_ids(ids, n)
        table = AttributeTable.from_data(attributes, types, n_rows=n)
        state = self._built(
            given, id_array, table, metric, progress or silent, on_disk=holder is not None or folder is not None
        )
        with self._lock:
            self._state = state
        self.set_defaults(calibrate(self))
        self.warm()
        if folder is not None:
            self.save(folder)
            self._state = load_state(folder, mmap=True).state
        return self

    def _built(
        self, given: Any, ids: np.ndarray, table: AttributeTable, metric: Metric, progress: Progress, *, on_disk: bool
    ) -> State:
        n = len(given)
        wanted = self.n_partitions if self.n_partitions != "auto" else -(-n // ROWS_A_PARTITION)
        n_partitions = max(1, min(int(wanted), n))
        if n_partitions < int(wanted) and n:
            log.warning("%s partitions were asked for %d rows: one row a partition", wanted, n)
        n_lists = default_lists(n) if self.n_lists == "auto" else max(1, min(int(self.n_lists), n))
        settings = BuildSettings(
            self.bits, self.max_bits, self.allocation, self.boundaries, self.sign_rotation, self.first_pass,
            n_partitions, n_lists, self.random_state, self.threads,
        )  # fmt: skip
        holder = tempfile.TemporaryDirectory(prefix="squash-", ignore_cleanup_errors=True) if on_disk else None
        reader, order = build_reader(given, ids, metric, settings, Path(holder.name) if holder else None, progress)
        order.flags.writeable = False
        return State(metric, reader, table.take(order), order, NO_TOMBSTONES, holder=holder)

    def save(self, folder: str | Path) -> Path:
        """Write the index, in place of one that is there. Raises StoreError; what was there before then stays."""
        settings = {
            name: getattr(self, name)
            for name in (
                "bits", "n_partitions", "n_lists", "sign_rotation", "boundaries", "allocation", "first_pass", "max_bits", "random_state",
            )
        }  # fmt: skip
        return save_state(self.state, folder, settings, self.defaults)

    @classmethod
    def load(
        cls, folder: str | Path, *, mmap: bool = True, verify: str = "resident", n_jobs: int | None = None
    ) -> SquashIndex:
        """Open a saved index; with mmap (default) nothing is read before it is used, and full vectors never as a whole.

        verify: "sizes", "resident" (default: SHA-256 of all but the full vectors) or "all". Raises DamagedIndex, NewerIndex.
        """
        found = load_state(folder, mmap=mmap, verify=verify)
        index = cls(metric=found.state.metric.name, n_jobs=n_jobs, **found.settings)
        index.set_defaults(found.defaults)
        index._state = found.state
        index.warm()
        return index

    def warm(self) -> None:
        """Have the kernels ready, so that no query waits: about a minute once after an install, then a moment."""
        if self.state.reader.n:
            origin = np.ones((1, self.state.metric.d), np.float32)
            self.search(origin, 1, n_probe=1)
            self.search(origin, 1, exact=True, filter=np.zeros(self.state.n_given, np.bool_))

    # -- search -----------------------------------------------------------------------------------------------------

    def search(
        self,
        queries: Any,
        k: int = 10,
        filter: FilterLike | Sequence[FilterLike] = None,
        *,
        T: float | None = None,
        H: float | None = None,
        R: float | None = None,
        n_probe: int | None = None,
        reach: float | None = None,
        keep: int | None = None,
        exact: bool = False,
        return_stats: bool = False,
        n_threads: int | None = None,
    ) -> Any:
        """The k nearest rows of each query among those that pass: distances float32 (s, k), ids int64 (s, k), ascending.

        Always min(k, matches) rows, and never one that breaks the filter; the rest is inf and -1. queries (s, d) or (d,).
        filter: an expression over `Attr`, a dict, a mask over the rows given, ids, or a list with one for each query.

        How far to look, each None for what `tune` found or the default: n_probe: lists that are visited; reach: instead of a
        number, visit a list while its rows may still be nearer than the k-th best by this many deviations (more finds
        more); T: the paper's threshold on a list's distance over that of the nearest list. keep: rows whose full
        vectors are read; H: percent of the candidates that the sign bits keep, as in the paper (at least
        k R H); R: R k rows stay after the lower bounds, of the kept ones. exact: the answer of brute force, by bounds.
        n_threads: over queries (default: `n_jobs`). return_stats: also one record a query of what each stage saw.
        Raises InputError, FilterError, UnknownAttribute, FilterTypeError.
        """
        state = self.state
        prepared = plain(state.metric.queries(queries))
        filtered = filter is not None
        key = (k, T, H, R, n_probe, reach, keep, exact, filtered)
        both = self._known_params.get(key)
        if both is None:
            told: dict[str, Any] = {
                "T": T,
                "H": H,
                "R": R,
                "n_probe": n_probe,
                "reach": reach,
                "keep": keep,
                "exact": exact,
            }
            broad = self.params(k, **told)
            narrow = self.params(k, **told, filtered=True) if filtered else broad
            both = (narrow, broad) if narrow != broad else (broad, broad)  # one object: then nobody asks how many pass
            if len(self._known_params) < 1000:
                self._known_params[key] = both
        filters = (
            [as_filter(filter)]
            if len(prepared) == 1 and not isinstance(filter, list | tuple)
            else per_query(filter, len(prepared))
        )
        answer = search_state(state, prepared, filters, both[0], n_threads or self.threads, broad=both[1])
        if return_stats:
            return answer.distances, answer.ids, answer.stats(4 * state.metric.inner_d)
        return answer.distances, answer.ids

    def params(
        self,
        k: int,
        *,
        T: float | None = None,
        H: float | None = None,
        R: float | None = None,
        n_probe: int | None = None,
        reach: float | None = None,
        keep: int | None = None,
        exact: bool = False,
        filtered: bool = False,
    ) -> SearchParams:
        """The settings of a search with the defaults of this index filled in; what `search_partition` takes.

        filtered: take the defaults of searches under a filter that few rows pass (a tenth at most), which reach less far.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise InputError(f"k must be a whole number from 1 on, got {k!r}")
        for name, value, least in (("T", T, 1.0), ("reach", reach, 0.0), ("n_probe", n_probe, 1), ("keep", keep, 1)):
            if value is not None and not value >= least:
                raise InputError(f"{name} must be at least {least:g}, got {value!r}")
        if H is not None and not 0 < H <= 100:
            raise InputError(f"H is a percentage above 0 and up to 100, got {H!r}")
        if R is not None and not (R == 0 or R >= 1):
            raise InputError(f"R must be at least 1 (0: no lower bounds), got {R!r}")
        k = min(int(k), max(1, self.state.n_given)) if k > 1 << 20 else int(k)
        known, prefix = self.defaults, "filtered_" if filtered else ""
        if R is None:
            R = PAPER_R if H is not None else (known[prefix + "R"] if keep is None else 0.0)
        if keep is None:
            keep = int(np.ceil(k * R * H)) if H is not None else max(int(np.ceil(known[prefix + "keep"] * k)), k + 10)
        if R > 0:
            keep = max(keep, int(np.ceil(R * k)))
        max_lists, min_lists = MANY_LISTS, int(known["min_lists"])
        if n_probe is None and reach is None and T is None:
            n_probe = int(known[prefix + "n_probe"]) or None
        if n_probe is not None:
            max_lists = min_lists = int(n_probe)
        elif T is not None:
            min_lists = 1
        if reach is None:
            reach = 0.0 if n_probe is not None or T is not None else known[prefix + "reach"]
        return SearchParams(
            k=k, max_lists=max_lists, reach=float(reach), keep=max(keep, k), T=float(T) if T is not None else float("inf"),
            H=float(H or 0.0), R=float(R), min_lists=min_lists, exact=exact,
        )  # fmt: skip

    def set_defaults(self, values: Mapping[str, float]) -> None:
        """Change what a search does when it is not told: reach or n_probe (0: by reach), keep (in times of k) and R,
        each also as filtered_..., and min_lists."""
        self.defaults: dict[str, float] = {**DEFAULTS, **values}
        self._known_params = {}

    def count(self, filter: FilterLike = None) -> int:
        """How many rows pass, exactly."""
        return updates.count(self.state, as_filter(filter))

    def explain(self, query: Any, k: int = 10, filter: FilterLike = None, **settings: Any) -> explaining.Explanation:
        """What each stage of one search did and read, beside the exact answer's; `print` it. settings: as of `search`."""
        return explaining.explain(self, query, k, filter, settings)

    def tune(
        self, queries: Any, k: int = 10, filters: Any = None, recall: float = 0.97, progress: Progress | None = None
    ) -> Tuned:
        """Find the cheapest settings that reach `recall` on these queries, and make them the defaults of this index.

        queries (s, d) like those to come, not rows of the index; filters: one for all or one a query. The truth comes from the
        exact mode. Raises InputError when no setting reaches it.
        """
        return tune(self, queries, k, filters, recall, progress or silent)

    # -- change -----------------------------------------------------------------------------------------------------

    def add(self, vectors: Any, attributes: Any = None, ids: Any = None) -> np.ndarray:
        """Add rows; they are found at once, by an exact scan, until `compact` takes them into lists. Returns their ids (m,).

        The same attributes as at the build are needed (None where missing). ids: default, counting on from the largest.
        """
        with self._lock:
            self._state, added = updates.add(self.state, vectors, attributes, ids)
        return added

    def delete(self, ids: Any, *, ignore_missing: bool = False) -> int:
        """Delete rows by id; returns how many. An id that is not there raises InputError unless ignore_missing."""
        with self._lock:
            self._state, n = updates.delete(self.state, ids, ignore_missing)
        return n

    def compact(self, progress: Progress | None = None) -> SquashIndex:
        """Build anew from the living rows, in the order they were given: added rows get lists, deleted ones their space back."""
        with self._lock:
            state = self.state
            living = updates.Living(state)
            on_disk = state.reader.on_disk or state.holder is not None
            largest = living.largest if state.metric.name == "ip" else 0.0
            metric = replace(state.metric, widening=largest)
            self._state = self._built(living, living.ids, living.table, metric, progress or silent, on_disk=on_disk)
        return self

    # -- facts ------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What is in force; InputError before `build`."""
        if self._state is None:
            raise InputError("the index is empty: call build first, or SquashIndex.load")
        return self._state

    @property
    def threads(self) -> int:
        """n_jobs as a number."""
        if self.n_jobs is None:
            return 1
        return os.cpu_count() or 1 if self.n_jobs < 0 else max(1, self.n_jobs)

    def __len__(self) -> int:
        return 0 if self._state is None else self._state.n_living

    def __repr__(self) -> str:
        if self._state is None:
            return f"SquashIndex(metric={self.metric!r}), not built"
        return f"SquashIndex(metric={self.metric!r}) of {len(self)} rows, {self._state.metric.d} dimensions"

    def statistics(self) -> dict[str, Any]:
        """Rows, bytes by part, compression, lists, partitions, attributes, and how far added rows have drifted."""
        return explaining.statistics(self.state)

    def metadata(self, ids: Any) -> dict[str, list[Any]]:
        """The attributes of living rows by id, as lists in the order of `ids`."""
        return updates.metadata(self.state, ids)


def _choose(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


__all__ = ["Answer", "SquashIndex", "asdict", "open_folder", "read_arrays", "read_steadily"]

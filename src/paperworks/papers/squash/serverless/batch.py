"""A batch of queries with their filters, as it travels down the tree, and what comes back up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.filters import Filter, Ids, Rows, from_dict
from paperworks.papers.squash.serverless.errors import PayloadError, WrongAnswer
from paperworks.papers.squash.serverless.payload import Message
from paperworks.papers.squash.serverless.tree import Node, Tree


@dataclass(frozen=True)
class Settings:
    """How a batch is searched; plain values.

    k: results. threshold: the paper's T >= 1, inf visits every partition with a match. search: what processors are told (percentages
    kept, refinement factor, exact or not). batch: queries prepared at once. timeout_s: of one attempt of a processor. retries:
    further attempts.
    """

    k: int = 10
    threshold: float = 1.3
    search: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 50
    timeout_s: float = 60.0
    retries: int = 2

    def __post_init__(self) -> None:
        for name, lowest in (("k", 1), ("batch", 1), ("retries", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise InputError(f"{name} must be a whole number of {lowest} or more, got {value!r}")
        if not self.threshold >= 1:
            raise InputError(f"the threshold T must be 1 or more, got {self.threshold!r}")
        if not 0 < self.timeout_s < float("inf"):
            raise InputError(f"timeout_s must be a number of seconds above 0, got {self.timeout_s!r}")

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite threshold is None."""
        infinite = self.threshold == float("inf")
        return {**asdict(self), "search": dict(self.search), "threshold": None if infinite else float(self.threshold)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Settings:
        """Read `to_json`. PayloadError for anything else."""
        try:
            threshold = content["threshold"]
            return cls(**{**content, "threshold": float("inf") if threshold is None else threshold})
        except (TypeError, KeyError, InputError) as error:
            raise PayloadError(f"the settings of a batch cannot be read: {error}") from error


@dataclass(frozen=True)
class Share:
    """Queries (m, d) float32 with their numbers in the caller's batch and their filters: filters[filter_of[i]] is query i's."""

    query_ids: np.ndarray
    queries: np.ndarray
    filters: Sequence[Filter | None]
    filter_of: np.ndarray

    @classmethod
    def of(cls, queries: np.ndarray, filters: Sequence[Filter | None]) -> Share:
        """All queries of a batch with one filter each; equal filters are held once."""
        places: dict[Any, int] = {}
        held: list[Filter | None] = []
        filter_of = np.empty(len(filters), np.int64)
        for query, one in enumerate(filters):
            identity = None if one is None else (one.key or id(one))
            if identity not in places:
                places[identity] = len(held)
                held.append(one)
            filter_of[query] = places[identity]
        return cls(np.arange(len(filters)), queries, held, filter_of)

    def part(self, start: int, stop: int) -> Share:
        """Queries start ... stop - 1, with the filters that they need."""
        used, filter_of = np.unique(self.filter_of[start:stop], return_inverse=True)
        return Share(
            self.query_ids[start:stop], self.queries[start:stop], [self.filters[i] for i in used], filter_of.reshape(-1)
        )

    def to_arrays(self) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Filters as plain values, and everything else as arrays."""
        arrays = {"query_ids": self.query_ids, "queries": self.queries, "filter_of": self.filter_of}
        described: list[Any] = []
        for place, one in enumerate(self.filters):
            if isinstance(one, Rows):
                arrays[f"rows_{place}"] = np.packbits(one.mask)
                described.append({"rows": int(one.mask.size)})
            elif isinstance(one, Ids):
                arrays[f"ids_{place}"] = np.asarray(one.ids, np.int64)
                described.append({"ids": int(one.ids.size)})
            else:
                described.append(None if one is None else one.to_dict())
        return described, arrays

    @classmethod
    def from_arrays(cls, described: Sequence[Any], arrays: Mapping[str, np.ndarray]) -> Share:
        """Read `to_arrays`. PayloadError for anything else."""
        try:
            filters: list[Filter | None] = []
            for place, one in enumerate(described):
                if one is None:
                    filters.append(None)
                elif "rows" in one:
                    filters.append(Rows(np.unpackbits(arrays[f"rows_{place}"], count=one["rows"]).view(np.bool_)))
                elif "ids" in one:
                    filters.append(Ids(arrays[f"ids_{place}"]))
                else:
                    filters.append(from_dict(one))
            made = cls(arrays["query_ids"], arrays["queries"], filters, arrays["filter_of"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise PayloadError(f"the filters of a batch cannot be read: {error!r}") from error
        size = made.query_ids.size
        if made.queries.ndim != 2 or made.queries.shape[0] != size or made.filter_of.shape != (size,):
            raise PayloadError("queries, their numbers and their filters differ in length")
        if size and not (made.filter_of.min() >= 0 and made.filter_of.max() < len(filters)):
            raise PayloadError("a query names a filter that is not there")
        return made


@dataclass
class Outcomes:
    """What a share of queries came to, in the order of the share.

    distances (m, k) squared, ids (m, k); wanted (m,) min(k, matching rows). missing (j, 2): query number and partition of each answer
    that never came; reasons: why, by partition. Queries with a missing partition are incomplete, all others are whole.
    """

    distances: np.ndarray
    ids: np.ndarray
    wanted: np.ndarray
    missing: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)
    stats: dict[str, float] = field(default_factory=dict)

    def to_message(self, request: str, deployment: str) -> Message:
        """As an allocator's answer."""
        fields = {
            "request": request,
            "deployment": deployment,
            "reasons": {str(partition): reason for partition, reason in self.reasons.items()},
            "stats": self.stats,
        }
        names = ("distances", "ids", "wanted", "missing")
        return Message("answer", fields, {name: getattr(self, name) for name in names})


def read_outcomes(message: Message, query_ids: np.ndarray, k: int, n_partitions: int, deployment: str) -> Outcomes:
    """An allocator's answer for these queries. Raises WrongAnswer unless it can be right."""
    fields, arrays = message.fields, message.arrays
    if fields.get("deployment") != deployment:
        raise WrongAnswer(f"the answer is about deployment {fields.get('deployment')}")
    size = query_ids.size
    shapes = {"distances": ((size, k), "<f4"), "ids": ((size, k), "<i8"), "wanted": ((size,), "<i8")}
    for name, (shape, dtype) in shapes.items():
        if name not in arrays or arrays[name].shape != shape or arrays[name].dtype != np.dtype(dtype):
            raise WrongAnswer(f"{name} should have shape {shape} and dtype {np.dtype(dtype)}")
    missing = arrays.get("missing")
    if missing is None or missing.dtype != np.dtype("<i8") or missing.ndim != 2 or missing.shape[1] != 2:
        raise WrongAnswer("missing should have two columns")
    if not np.isin(missing[:, 0], query_ids).all() or ((missing[:, 1] < 0) | (missing[:, 1] >= n_partitions)).any():
        raise WrongAnswer("missing names queries or partitions that were not asked")
    distances, ids, wanted = arrays["distances"], arrays["ids"], arrays["wanted"]
    n_found = (ids >= 0).sum(axis=1)
    complete = ~np.isin(query_ids, missing[:, 0])
    if ((wanted < 0) | (wanted > k)).any() or (n_found[complete] != wanted[complete]).any():
        raise WrongAnswer("a query that is called complete has not as many rows as match")
    found = np.arange(k) < n_found[:, None]
    if (
        not np.array_equal(ids >= 0, found)
        or not np.array_equal(np.isfinite(distances), found)
        or (distances < 0).any()
    ):
        raise WrongAnswer("rows and distances do not go together")
    with np.errstate(invalid="ignore"):
        if (np.diff(distances, axis=1) < 0).any():
            raise WrongAnswer("distances do not ascend")
    reasons, stats = fields.get("reasons"), fields.get("stats")
    if not isinstance(reasons, dict) or not isinstance(stats, dict):
        raise WrongAnswer("reasons or stats are missing")
    return Outcomes(
        distances, ids, wanted, missing, {int(part): str(why) for part, why in reasons.items()}, dict(stats)
    )


def allocate_message(
    share: Share, settings: Settings, tree: Tree, node: Node, n_queries: int, request: str, deployment: str
) -> Message:
    """What an allocator is sent: its place, and the queries of its whole subtree. n_queries: of the whole batch."""
    described, arrays = share.to_arrays()
    fields = {
        "request": request,
        "deployment": deployment,
        "settings": settings.to_json(),
        "tree": [tree.fanout, tree.depth],
        "node": [node.number, node.level],
        "queries": n_queries,
        "filters": described,
    }
    return Message("allocate", fields, arrays)

"""One place of the tree at work: start the children, search the own share, collect, merge. The coordinator is the node at level 0.

While processors search a batch of queries the next one is prepared (the paper's task interleaving), across levels as well: children
are started before the own share is looked at.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Hashable

import numpy as np

from paperworks.papers.squash.serverless.allocator import (
    PartitionRequest,
    choose_partitions,
    merge,
    partition_requests,
)
from paperworks.papers.squash.serverless.batch import Outcomes, Settings, Share, allocate_message, read_outcomes
from paperworks.papers.squash.serverless.checks import check_partition_answer, read_reply
from paperworks.papers.squash.serverless.deploy import Deployment
from paperworks.papers.squash.serverless.drivers import Driver
from paperworks.papers.squash.serverless.engine import SharedReader
from paperworks.papers.squash.serverless.gather import Gather
from paperworks.papers.squash.serverless.payload import Message, encode
from paperworks.papers.squash.serverless.tree import Node, Tree

_MARGIN = 0.9  # of its time: after that a node reports what it has, while somebody still listens


def budget_s(settings: Settings, tree: Tree, level: int) -> float:
    """Seconds that a node at `level` may take: every attempt of a processor, as much again to prepare, and a level more each level up."""
    return settings.timeout_s * (settings.retries + 1) * (tree.depth - level + 2)


class Work:
    """The work of one node. deployment: what is searched; open_shared: opens the allocators' piece, when it is needed."""

    def __init__(
        self,
        deployment: Deployment,
        open_shared: Callable[[], SharedReader],
        driver: Driver,
        settings: Settings,
        tree: Tree,
        node: Node,
    ) -> None:
        self.deployment, self.name = deployment, deployment.name
        self.open_shared, self.settings, self.tree, self.node = open_shared, settings, tree, node
        self.gather: Gather[Message | Outcomes] = Gather(driver, settings.retries)
        self._requests: dict[Hashable, PartitionRequest] = {}
        self._children: dict[Hashable, Share] = {}

    def run(self, share: Share, n_queries: int) -> Outcomes:
        """Search `share`, the queries of this node's subtree out of a batch of `n_queries`."""
        budget = float("inf")  # the coordinator waits for every attempt
        if self.node.level:
            budget = _MARGIN * budget_s(self.settings, self.tree, self.node.level)
        end = time.monotonic() + budget
        own = self._start_children(share, n_queries)
        wanted = self._start_own(own)
        self.gather.finish(max(0.0, end - time.monotonic()))
        return self._collect(share, own, wanted)

    def _start_children(self, share: Share, n_queries: int) -> Share:
        """Hand each child the queries of its subtree -> what is left for this node."""
        if self.tree.depth == 0:
            return share
        first = int(share.query_ids[0]) if share.query_ids.size else 0
        requests: dict[Hashable, tuple[bytes, Callable[[bytes], Message | Outcomes]]] = {}
        for child in self.tree.children(self.node):
            numbers = self.tree.covers(child)
            start = self.tree.share(numbers[0], n_queries).start
            stop = self.tree.share(numbers[-1], n_queries).stop
            part = share.part(start - first, stop - first)
            key = ("node", child.number)
            self._children[key] = part
            request = secrets.token_hex(16)
            message = allocate_message(part, self.settings, self.tree, child, n_queries, request, self.name)
            requests[key] = (encode(message), self._reader_of_child(request, part))
        if requests:
            self.gather.ask(requests, budget_s(self.settings, self.tree, self.node.level + 1))
        if self.node.level == 0:
            return share.part(0, 0)
        own = self.tree.share(self.node.number, n_queries)
        return share.part(own.start - first, own.stop - first)

    def _reader_of_child(self, request: str, part: Share) -> Callable[[bytes], Outcomes]:
        n_partitions = len(self.deployment.partitions)
        return lambda data: read_outcomes(
            read_reply(data, request), part.query_ids, self.settings.k, n_partitions, self.name
        )

    def _reader_of_partition(self, request: PartitionRequest) -> Callable[[bytes], Message]:
        def read(data: bytes) -> Message:
            message = read_reply(data, request.request_id)
            check_partition_answer(message, request, self.name)
            return message

        return read

    def _start_own(self, own: Share) -> np.ndarray:
        """Ask the partitions that the own queries visit, batch after batch -> (m,) min(k, matching rows) of each query."""
        size = own.query_ids.size
        wanted = np.zeros(size, np.int64)
        if size == 0:
            return wanted
        shared = self.open_shared()
        sizes = self.deployment.sizes
        last_use = {int(which): place for place, which in enumerate(own.filter_of)}
        masks: dict[int, list[np.ndarray] | None] = {}
        counted: dict[int, np.ndarray] = {}
        for start in range(0, size, self.settings.batch):
            rows = slice(start, min(start + self.settings.batch, size))
            for which in np.unique(own.filter_of[rows]).tolist():
                if which not in masks:
                    mask = masks[which] = shared.masks(own.filters[which])
                    counted[which] = np.array(
                        sizes if mask is None else [np.count_nonzero(part) for part in mask], np.int64
                    )
            counts = np.array([counted[int(which)] for which in own.filter_of[rows]], np.int64)
            distances = shared.centroid_distances(own.queries[rows])
            visits = choose_partitions(distances, counts, self.settings.k, self.settings.threshold)
            wanted[rows] = np.minimum(self.settings.k, counts.sum(axis=1))
            self._ask_partitions(own, rows, visits, counts, masks)
            masks = {which: mask for which, mask in masks.items() if last_use[which] >= rows.stop}
            self.gather.pump()
        return wanted

    def _ask_partitions(
        self, own: Share, rows: slice, visits: np.ndarray, counts: np.ndarray, masks: dict[int, list[np.ndarray] | None]
    ) -> None:
        held = sorted(masks)
        requests: dict[Hashable, tuple[bytes, Callable[[bytes], Message | Outcomes]]] = {}
        for request in partition_requests(
            own.queries[rows],
            own.query_ids[rows],
            visits,
            counts,
            [masks[which] for which in held],
            np.searchsorted(held, own.filter_of[rows]),
            self.deployment.sizes,
            self.settings.k,
            dict(self.settings.search),
        ):
            key = ("partition", rows.start, request.partition)
            self._requests[key] = request
            requests[key] = (encode(request.message(self.name)), self._reader_of_partition(request))
        self.gather.ask(requests, self.settings.timeout_s)

    def _collect(self, share: Share, own: Share, own_wanted: np.ndarray) -> Outcomes:
        place = {int(query): row for row, query in enumerate(share.query_ids)}
        size, k = share.query_ids.size, self.settings.k
        wanted = np.zeros(size, np.int64)
        wanted[[place[int(query)] for query in own.query_ids]] = own_wanted
        parts, missing = [], []
        reasons: dict[int, str] = {}
        stats: dict[str, float] = {name: float(value) for name, value in vars(self.gather.tally).items()}
        for key, answer in self.gather.answers.items():
            if isinstance(answer, Outcomes):
                rows = np.array([place[int(query)] for query in self._children[key].query_ids], np.int64)
                parts.append((rows, answer.distances, answer.ids))
                wanted[rows] = answer.wanted
                missing.append(answer.missing)
                reasons.update(answer.reasons)
                _add(stats, answer.stats)
            else:
                rows = np.array([place[int(query)] for query in self._requests[key].query_ids], np.int64)
                parts.append((rows, answer.arrays["distances"], answer.arrays["ids"]))
                _add(stats, {**answer.fields.get("stats", {}), "n_searches": 1.0, "queries_searched": float(rows.size)})
        for key, reason in self.gather.reasons.items():
            if key in self._requests:
                lost = self._requests[key]
                missing.append(np.stack([lost.query_ids, np.full(lost.query_ids.size, lost.partition)], axis=1))
                reasons[lost.partition] = reason
            else:
                missing.append(_every_partition(self._children[key].query_ids, len(self.deployment.partitions)))
                for partition in range(len(self.deployment.partitions)):
                    reasons.setdefault(partition, f"the allocator that asks it failed: {reason}")
        distances, ids = merge(parts, size, k)
        joined = np.concatenate(missing).astype(np.int64) if missing else np.empty((0, 2), np.int64)
        return Outcomes(distances, ids, wanted, joined, reasons, stats)


def _every_partition(query_ids: np.ndarray, n_partitions: int) -> np.ndarray:
    return np.stack([np.repeat(query_ids, n_partitions), np.tile(np.arange(n_partitions), query_ids.size)], axis=1)


def _add(total: dict[str, float], more: dict[str, float]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0.0) + float(value)

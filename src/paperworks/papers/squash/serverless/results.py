"""Answers kept by the coordinator, off by default: the same query with the same filter and settings need not be searched twice.

The paper keeps them in each allocator by the number of the query. Here the key is the query itself, so that nothing stale or foreign can
come back: deployment, settings, filter and every bit of the vector. Filters by masks or ids have no short key and are not kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.filters import Filter


class KeptResults:
    """At most `size` answers, the least recently used leave first; 0 keeps none."""

    def __init__(self, size: int = 0) -> None:
        if size < 0:
            raise InputError(f"the number of kept results must be 0 or more, got {size}")
        self.size = size
        self._kept: OrderedDict[bytes, tuple[np.ndarray, np.ndarray, int]] = OrderedDict()

    def keys(
        self, deployment: str, settings: Mapping[str, Any], queries: np.ndarray, filters: list[Filter | None]
    ) -> list[bytes | None]:
        """A key for each prepared query (q, d); None where nothing is kept."""
        if not self.size:
            return [None] * len(queries)
        common = f"{deployment} {json.dumps(settings, sort_keys=True)}".encode()
        keys: list[bytes | None] = []
        for query, what in zip(queries, filters, strict=True):
            text = "" if what is None else what.key
            if text is None:
                keys.append(None)
                continue
            digest = hashlib.blake2b(common, digest_size=16)
            digest.update(f"|{text}|".encode())
            digest.update(np.ascontiguousarray(query).tobytes())
            keys.append(digest.digest())
        return keys

    def get(self, key: bytes | None) -> tuple[np.ndarray, np.ndarray, int] | None:
        """Squared distances (k,), ids (k,) and the number of rows wanted, or None."""
        if key is None or key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, key: bytes | None, distances: np.ndarray, ids: np.ndarray, wanted: int) -> None:
        """Keep the answer to a query that every partition answered."""
        if key is None:
            return
        self._kept[key] = (distances.copy(), ids.copy(), wanted)
        self._kept.move_to_end(key)
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)

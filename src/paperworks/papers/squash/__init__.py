"""Nearest vectors among the rows that pass a filter, from an index several times smaller than the vectors.

The filter is kept exactly, and k rows come back whenever k rows pass; full vectors stay on disk. The same index can be cut into
pieces that short-lived functions search (`serverless`).

    import numpy as np
    from paperworks.squash import Attr, SquashIndex

    rng = np.random.default_rng(0)
    vectors, years = rng.normal(size=(3000, 64)), rng.integers(2015, 2026, 3000)
    index = SquashIndex(metric="cosine").build(vectors, {"year": years})
    distances, ids = index.search(vectors[:5], k=10, filter=Attr("year") >= 2023)
    print(index.explain(vectors[0], k=10, filter=Attr("year") >= 2023))
    index.save("idx")
    index = SquashIndex.load("idx")
"""

from typing import TYPE_CHECKING, Any

from paperworks.papers.squash.explain import Explanation
from paperworks.papers.squash.filter_text import parse_filter
from paperworks.papers.squash.filters import Attr, Filter, FilterError, FilterTypeError, UnknownAttribute
from paperworks.papers.squash.index import SquashIndex
from paperworks.papers.squash.reader import (
    PartitionAnswer,
    PartitionReader,
    SearchParams,
    open_partition,
    search_partition,
)
from paperworks.papers.squash.storage import DamagedIndex, NewerIndex
from paperworks.papers.squash.tune import Tuned

if TYPE_CHECKING:
    from paperworks.papers.squash.neighbours import SquashNeighbors, SquashTransformer
    from paperworks.papers.squash.serverless import Prices, ServerlessSquash

__all__ = [
    "Attr",
    "DamagedIndex",
    "Explanation",
    "Filter",
    "FilterError",
    "FilterTypeError",
    "NewerIndex",
    "PartitionAnswer",
    "PartitionReader",
    "Prices",
    "SearchParams",
    "ServerlessSquash",
    "SquashIndex",
    "SquashNeighbors",
    "SquashTransformer",
    "Tuned",
    "UnknownAttribute",
    "open_partition",
    "parse_filter",
    "search_partition",
]

_LATER = {  # scikit-learn and the serverless layer load on use
    "SquashNeighbors": "neighbours",
    "SquashTransformer": "neighbours",
    "Prices": "serverless",
    "ServerlessSquash": "serverless",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

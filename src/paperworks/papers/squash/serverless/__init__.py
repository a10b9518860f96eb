"""SQUASH on short-lived functions: a coordinator, query allocators started as a tree, and processors of one partition each.

`client.py` is the way in. `tree.py` says who starts whom, `node.py` what one place of the tree does, `allocator.py` which partitions a
query visits, `processor.py` what is done there, `gather.py` what happens when something fails, `drivers.py` and `lithops_driver.py` who
runs functions, `store.py`, `deploy.py` and `retained.py` where data lies, `cost.py` what it costs.
"""

from __future__ import annotations

from paperworks.papers.squash.serverless.client import BatchResult, ServerlessSquash
from paperworks.papers.squash.serverless.cost import Estimate, Fleet, Workload, estimate
from paperworks.papers.squash.serverless.errors import (
    IncompleteSearch,
    ObjectMissing,
    PayloadError,
    ServerlessError,
    WorkerFailed,
    WrongAnswer,
)
from paperworks.papers.squash.serverless.prices import Prices
from paperworks.papers.squash.serverless.tree import Tree, tree_for

__all__ = [
    "BatchResult",
    "Estimate",
    "Fleet",
    "IncompleteSearch",
    "ObjectMissing",
    "PayloadError",
    "Prices",
    "ServerlessError",
    "ServerlessSquash",
    "Tree",
    "WorkerFailed",
    "Workload",
    "WrongAnswer",
    "estimate",
    "tree_for",
]

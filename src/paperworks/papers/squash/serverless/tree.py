"""Who starts whom: query allocators numbered so that each one finds its children and its share of the queries from its own number.

The coordinator has number -1 and starts `fanout` allocators (the paper's F); each of them starts `fanout` more, down to `depth`
levels (l). The numbers 0 ... N-1 are given depth first, so no queue and no shared state is needed: a node that knows its own
number and its level knows everything. What travels along the tree is in `payload.py`, who runs a node in `drivers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from paperworks.errors import InputError

_MOST_NODES = 100_000  # far above what any provider starts for one caller; a typing slip must not fill the memory


@dataclass(frozen=True)
class Node:
    """One place in the tree: its number (-1 is the coordinator) and its level (0 is the coordinator)."""

    number: int
    level: int


@dataclass(frozen=True)
class Tree:
    """A launch tree of `fanout` children a node (F >= 1) and `depth` levels below the coordinator (l >= 0).

    `depth=0` has no allocators: the coordinator does their work itself. `fanout=1` is a chain of `depth` nodes.

    >>> tree = Tree(fanout=4, depth=3)
    >>> tree.n_allocators
    84
    >>> [child.number for child in tree.children(tree.root)]
    [0, 21, 42, 63]
    >>> [child.number for child in tree.children(Node(0, 1))]
    [1, 6, 11, 16]
    """

    fanout: int
    depth: int

    def __post_init__(self) -> None:
        if self.fanout < 1 or self.depth < 0:
            raise InputError(
                f"a tree needs fanout >= 1 and depth >= 0, got fanout={self.fanout} and depth={self.depth}; "
                "depth=0 lets the coordinator do the allocators' work"
            )
        if self.depth > _MOST_NODES or (self.fanout > 1 and self.depth > 64) or self.n_allocators > _MOST_NODES:
            raise InputError(
                f"fanout={self.fanout} and depth={self.depth} make more than {_MOST_NODES} functions; lower one of them"
            )

    @property
    def n_allocators(self) -> int:
        """N = F + F^2 + ... + F^l, which is F (1 - F^l) / (1 - F) for F > 1."""
        return self.fanout * self._subtree(1) if self.depth else 0

    @property
    def root(self) -> Node:
        """The coordinator."""
        return Node(-1, 0)

    def _subtree(self, level: int) -> int:
        """Nodes of the subtree whose top is at `level` >= 1: the paper's step J between the numbers of two siblings."""
        return sum(self.fanout**below for below in range(self.depth - level + 1))

    def children(self, node: Node) -> list[Node]:
        """The nodes that `node` starts, in the order of their numbers; none for a leaf."""
        if not 0 <= node.level <= self.depth:
            raise InputError(f"level {node.level} is outside a tree of depth {self.depth}")
        if node.level == self.depth:
            return []
        step = self._subtree(node.level + 1)
        return [Node(node.number + 1 + i * step, node.level + 1) for i in range(self.fanout)]

    def walk(self) -> Iterator[Node]:
        """Every allocator, parents before their children, numbers ascending."""
        pending = list(reversed(self.children(self.root)))
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(self.children(node)))

    def covers(self, node: Node) -> range:
        """Numbers of the allocators in the subtree of `node`, itself included (the coordinator covers all)."""
        if node.level == 0:
            return range(self.n_allocators)
        return range(node.number, node.number + self._subtree(node.level))

    def share(self, number: int, n_queries: int) -> range:
        """Which of `n_queries` queries allocator `number` owns: contiguous, sizes differ by at most one."""
        return share(number, self.n_allocators, n_queries)

    def launch_steps(self) -> int:
        """Launches that the last allocator waits for when each node launches one child after another: l F."""
        return self.depth * self.fanout

    def flat_steps(self) -> int:
        """Launches that the last of as many functions waits for when one place starts them all: N."""
        return self.n_allocators


def share(number: int, n_workers: int, n_items: int) -> range:
    """Items of worker `number` out of `n_workers`: a contiguous range, together every item once.

    >>> [list(share(i, 3, 7)) for i in range(3)]
    [[0, 1], [2, 3], [4, 5, 6]]
    """
    if not 0 <= number < n_workers or n_items < 0:
        raise InputError(f"there is no worker {number} of {n_workers} for {n_items} items")
    return range(number * n_items // n_workers, (number + 1) * n_items // n_workers)


def tree_for(n_allocators: int, fanout: int = 4) -> Tree:
    """The smallest tree of `fanout` children a node that has at least `n_allocators` allocators.

    >>> tree_for(84), tree_for(85, fanout=10)
    (Tree(fanout=4, depth=3), Tree(fanout=10, depth=2))
    """
    if n_allocators < 0:
        raise InputError(f"the number of allocators must not be negative, got {n_allocators}")
    tree = Tree(fanout, 0)
    while tree.n_allocators < n_allocators:
        tree = Tree(fanout, tree.depth + 1)
    return tree

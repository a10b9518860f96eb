"""Compute what sequences begin with in common once: multiple-choice answers to one question, questions behind one few-shot header.

Sequences become a tree of segments, each of which continues its parent. A row holds whole branches; a segment sees its ancestors and
itself (`Segments.parents`), at the positions that it has in its sequence, so that the numbers are those of the whole sequence
alone. A branch that is too long for a row is run from its root: the root's cache then stands before several rows.

Letters: `V` vocabulary, `K` key heads, `d` head size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from paperworks.papers.prepacking.attention import flat, segments
from paperworks.papers.prepacking.caches import LayerPairs, RowCache, kept_layer
from paperworks.papers.prepacking.facts import ModelFacts
from paperworks.papers.prepacking.packing import as_ids
from paperworks.papers.prepacking.passes import run_batch
from paperworks.papers.prepacking.plan import balanced
from paperworks.papers.prepacking.routes import Batch


@dataclass
class Tree:
    """Sequences that share their beginnings.

    ids: the tokens of each node. parents: the node that each continues (-1: none), always an earlier one. starts: the position of a node's
    first token in its sequences. paths: for each sequence its nodes, from the root.
    """

    ids: list[np.ndarray] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)

    @property
    def computed(self) -> int:
        """Tokens of all nodes."""
        return sum(len(ids) for ids in self.ids)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(len(self.ids[node]) for path in self.paths for node in path)

    def locate(self, sequence: int, place: int) -> tuple[int, int]:
        """(node, offset) of the token at `place` of a sequence."""
        for node in self.paths[sequence]:
            if place < self.starts[node] + len(self.ids[node]):
                return node, place - self.starts[node]
        raise IndexError(f"sequence {sequence} has no token {place}")


def share(sequences: Sequence[Any], min_tokens: int = 16) -> Tree:
    """The tree of common beginnings of at least `min_tokens` tokens (equal sequences are always shared).

    Shorter ones are not worth an attention call of their own. O(total tokens + n log n).

    >>> share([[1, 2, 3], [1, 2, 4]], min_tokens=2).computed
    4
    """
    arrays = [as_ids(sequence) for sequence in sequences]
    keys = [array.astype(">i8").tobytes() for array in arrays]  # sorts as the tokens do, as long as no id is negative
    distinct = sorted(set(keys))
    texts = [np.frombuffer(key, dtype=">i8").astype(np.int64) for key in distinct]
    common = [0] + [_common(a, b) for a, b in itertools.pairwise(texts)]
    tree = Tree()
    path_of: dict[bytes, list[int]] = {}

    def add(ids: np.ndarray, parent: int, start: int) -> int:
        tree.ids.append(ids)
        tree.parents.append(parent)
        tree.starts.append(start)
        return len(tree.ids) - 1

    # (first text, one past the last, tokens that their node so far holds, path so far); the last pushed is done first
    work: list[tuple[int, int, int, list[int]]] = [(0, len(texts), 0, [])] if texts else []
    while work:
        first, last, depth, path = work.pop()
        if last - first == 1:
            rest = texts[first][depth:]
            node = [add(rest, path[-1] if path else -1, depth)] if len(rest) else []
            path_of[distinct[first]] = path + node
            continue
        least = min(common[first + 1 : last])
        if least - depth >= min_tokens:
            path = [*path, add(texts[first][depth:least], path[-1] if path else -1, depth)]
            depth = least
        cuts = [first, *(at for at in range(first + 1, last) if common[at] - depth < min_tokens), last]
        work.extend((a, b, depth, path) for a, b in itertools.pairwise(cuts))
    tree.paths = [path_of[key] for key in keys]
    return tree


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many first tokens are equal."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if different.size else size


@torch.no_grad()
def shared_logits(
    facts: ModelFacts,
    sequences: Sequence[Any],
    places: Sequence[Sequence[int] | np.ndarray],
    *,
    max_tokens: int,
    min_shared: int = 16,
) -> Iterator[tuple[int, torch.Tensor]]:
    """The logits at some places of each sequence, their common beginnings computed once.

    sequences: ids of each (at least one token). places: for each sequence the places whose next-token logits are wanted, rising.
    Yields (i, logits (m_i, V)) for every sequence, as soon as all of its logits are there; not in order. Needs the flat route
    (`support.supported(facts, "flat")`). max_tokens: tokens of a pass, at most, unless one segment alone has more.
    """
    tree = share(sequences, min_shared)
    wanted: list[set[int]] = [set() for _ in tree.ids]
    needs: list[list[tuple[int, int]]] = []
    for i, at in enumerate(places):
        needs.append([tree.locate(i, int(place)) for place in at])
        for node, offset in needs[-1]:
            wanted[node].add(offset)
    users: list[list[int]] = [[] for _ in tree.ids]  # the sequences that end in a node: complete once it has run
    for i, path in enumerate(tree.paths):
        users[path[-1]].append(i)
    readers = [0] * len(tree.ids)
    for need in needs:
        for node in {node for node, _ in need}:
            readers[node] += 1
    found: dict[int, dict[int, torch.Tensor]] = {}
    with flat(facts.model):
        for members, logits in _run(facts, tree, wanted, max_tokens):
            for node, rows in zip(members, logits, strict=True):
                found[node] = dict(zip(sorted(wanted[node]), rows, strict=True))
            for node in members:
                for i in users[node]:
                    rows_of = [found[at][offset] for at, offset in needs[i]]
                    yield i, torch.stack(rows_of) if rows_of else torch.empty(0, facts.n_vocab, device=facts.device)
                    for used in {used for used, _ in needs[i]}:
                        readers[used] -= 1
                        if not readers[used]:
                            del found[used]


def _run(
    facts: ModelFacts, tree: Tree, wanted: list[set[int]], max_tokens: int
) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
    """Rows of whole branches, roots of long branches first: (nodes, their wanted logits)."""
    children: list[list[int]] = [[] for _ in tree.ids]
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            children[parent].append(node)
    sizes = [len(ids) for ids in tree.ids]
    for node in range(len(sizes) - 1, -1, -1):
        if tree.parents[node] >= 0:
            sizes[tree.parents[node]] += sizes[node]
    # (branches that continue the same cache, that cache, its tokens)
    work: list[tuple[list[int], LayerPairs | None, int]] = [([n for n, p in enumerate(tree.parents) if p < 0], None, 0)]
    while work:
        roots, pairs, prefix = work.pop()
        small = [node for node in roots if sizes[node] <= max_tokens or not children[node]]
        for row in balanced([sizes[node] for node in small], max_tokens):
            members = [node for at in row for node in _branch(small[at], children)]
            logits, _ = _row(facts, tree, members, wanted, pairs, prefix, keep=False)
            yield members, logits
        for node in roots:
            if sizes[node] > max_tokens and children[node]:
                logits, cache = _row(facts, tree, [node], wanted, pairs, prefix, keep=True)
                yield [node], logits
                below = (cache or RowCache()).pairs(0, 0, prefix + len(tree.ids[node]))
                work.append((children[node], below, prefix + len(tree.ids[node])))


def _branch(root: int, children: list[list[int]]) -> list[int]:
    """A node and all below it, parents first; brothers of one length are neighbours, so that they share a call."""
    found, level = [], [root]
    while level:
        found += level
        level = [child for node in level for child in children[node]]
    return found


def _row(
    facts: ModelFacts,
    tree: Tree,
    members: list[int],
    wanted: list[set[int]],
    pairs: LayerPairs | None,
    prefix: int,
    keep: bool,
) -> tuple[list[torch.Tensor], RowCache | None]:
    place = {node: at for at, node in enumerate(members)}
    parents = [place.get(tree.parents[node], -1) for node in members]
    lengths = [len(tree.ids[node]) for node in members]
    ids = torch.from_numpy(np.concatenate([tree.ids[node] for node in members])).to(facts.device)[None]
    positions = np.concatenate([np.arange(len(tree.ids[node])) + tree.starts[node] for node in members])
    ends = np.cumsum(lengths)
    batch = Batch(
        members=members,
        input_ids=ids,
        position_ids=torch.from_numpy(positions + facts.position_start).to(facts.device)[None],
        slices=[(0, int(end) - length, int(end)) for end, length in zip(ends, lengths, strict=True)],
        arguments=segments(lengths, facts.device, prefix=prefix, parents=parents),
    )
    cache = None
    if pairs is not None or keep:
        cache = RowCache()
        for keys, values in pairs or []:
            cache.layers.append(kept_layer(keys[None], values[None]))
    result = run_batch(facts, batch, [np.array(sorted(wanted[node]), dtype=np.int64) for node in members], cache=cache)
    return result.logits or [], cache

"""The launch tree: numbers, levels, shares of the queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.tree import Node, Tree, share, tree_for

shapes = st.tuples(st.integers(1, 6), st.integers(0, 4))


@pytest.mark.parametrize(
    ("fanout", "depth", "n_allocators"),
    # computed by running the authors' tree launcher (squash-authors/SQUASH, treelauncher.py)
    [(10, 1, 10), (4, 2, 20), (4, 3, 84), (5, 3, 155), (6, 3, 258), (4, 4, 340)],
)
def test_the_number_of_allocators_is_the_papers(fanout, depth, n_allocators):
    assert Tree(fanout, depth).n_allocators == n_allocators


def test_numbers_of_a_small_tree_by_hand():
    tree = Tree(fanout=2, depth=2)
    #        -1
    #     0      3
    #    1 2    4 5
    assert tree.children(tree.root) == [Node(0, 1), Node(3, 1)]
    assert tree.children(Node(0, 1)) == [Node(1, 2), Node(2, 2)]
    assert tree.children(Node(3, 1)) == [Node(4, 2), Node(5, 2)]
    assert tree.children(Node(4, 2)) == []
    assert [node.number for node in tree.walk()] == [0, 1, 2, 3, 4, 5]


def test_a_chain_works_where_the_closed_formula_divides_by_zero():
    tree = Tree(fanout=1, depth=3)
    assert [(node.number, node.level) for node in tree.walk()] == [(0, 1), (1, 2), (2, 3)]


def test_no_levels_means_no_allocators():
    assert Tree(4, 0).n_allocators == 0
    assert list(Tree(4, 0).walk()) == []


@given(shapes)
def test_every_number_is_given_exactly_once(shape):
    tree = Tree(*shape)
    assert [node.number for node in tree.walk()] == list(range(tree.n_allocators))


@given(shapes)
def test_siblings_cover_the_subtree_of_their_parent(shape):
    tree = Tree(*shape)
    for parent in [tree.root, *tree.walk()]:
        below = [number for child in tree.children(parent) for number in tree.covers(child)]
        own = [] if parent.level == 0 else [parent.number]
        assert own + below == list(tree.covers(parent))


@given(shapes.filter(lambda shape: shape[1] > 0), st.integers(0, 300))
def test_the_shares_are_balanced_and_hold_every_query_once(shape, n_queries):
    tree = Tree(*shape)
    shares = [tree.share(node.number, n_queries) for node in tree.walk()]
    assert [query for part in shares for query in part] == list(range(n_queries))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_last_of_84_functions_waits_for_12_launches_instead_of_84():
    assert (Tree(4, 3).launch_steps(), Tree(4, 3).flat_steps()) == (12, 84)


@given(st.integers(0, 2000), st.integers(2, 8))
def test_the_smallest_tree_is_large_enough_and_no_larger(n_allocators, fanout):
    tree = tree_for(n_allocators, fanout)
    assert tree.n_allocators >= n_allocators
    assert tree.depth == 0 or Tree(fanout, tree.depth - 1).n_allocators < n_allocators


@pytest.mark.parametrize(("fanout", "depth"), [(0, 1), (-2, 3), (4, -1), (10, 30), (2, 1000), (1, 10**9)])
def test_impossible_trees_are_refused(fanout, depth):
    with pytest.raises(InputError, match="fanout"):
        Tree(fanout, depth)


def test_a_worker_outside_the_pool_has_no_share():
    with pytest.raises(InputError, match="worker 3 of 3"):
        share(3, 3, 10)
    with pytest.raises(InputError, match="outside a tree"):
        Tree(2, 2).children(Node(0, 3))

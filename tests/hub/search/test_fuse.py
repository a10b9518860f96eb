"""Reciprocal rank fusion against its formula, and its symmetries."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.hub.search.fuse import fuse

rankings = st.lists(st.lists(st.integers(1, 40), unique=True, max_size=20), max_size=4)


@given(rankings)
def test_scores_are_the_formula_and_best_comes_first(lists: list[list[int]]) -> None:
    fused = fuse(lists)
    expected = {
        found: sum(1 / (60 + one.index(found) + 1) for one in lists if found in one) for one in lists for found in one
    }
    assert dict(fused) == pytest.approx(expected)
    scores = [score for _, score in fused]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(scores))


@given(rankings, st.randoms())
def test_the_order_of_the_lists_does_not_matter(lists: list[list[int]], chance: object) -> None:
    ids = [found for found, _ in fuse(lists)]
    chance.shuffle(lists)  # type: ignore[attr-defined]
    assert [found for found, _ in fuse(lists)] == ids


@given(st.lists(st.integers(), unique=True, max_size=20))
def test_one_list_stays_as_it_is_and_agreement_changes_nothing(ids: list[int]) -> None:
    assert [found for found, _ in fuse([ids])] == ids
    assert [found for found, _ in fuse([ids, ids, ids])] == ids


@given(rankings, st.integers(1, 40))
def test_being_found_once_more_never_hurts(lists: list[list[int]], found: int) -> None:
    before = [one for one, _ in fuse(lists)]
    after = [one for one, _ in fuse([*lists, [found]])]
    if found in before:
        assert after.index(found) <= before.index(found)
    else:
        assert found in after


def test_ids_far_down_in_both_beat_one_that_is_first_in_one() -> None:
    """What k = 60 means: two places near 60 are worth one first place."""
    first = [*range(100, 150), 7]
    second = [*range(200, 250), 7]
    assert fuse([first, second])[0][0] == 7


def test_repeats_count_once() -> None:
    assert fuse([[5, 5, 5, 6]]) == fuse([[5, 6]])

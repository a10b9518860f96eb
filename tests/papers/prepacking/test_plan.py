"""Bins hold every prompt once, none too full, and no algorithm beats the bound."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.prepacking.plan import ALGORITHMS, best_fit, exact, first_fit, least_loaded, lower_bound, plan
from paperworks.papers.prepacking.reference import fullest_bin

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=30)


@given(LENGTHS, st.sampled_from([name for name in ALGORITHMS if name not in ("flat", "bucketed")]), st.integers(0, 40))
@settings(max_examples=200)
def test_every_prompt_is_in_one_bin_and_bins_are_not_too_full(lengths, algorithm, more):
    capacity = max(lengths) + more
    found = plan(lengths, capacity, algorithm)
    assert sorted(i for members in found.bins for i in members) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in members) <= capacity for members in found.bins)
    assert found.lower_bound <= found.n_rows
    assert 0 < found.utilisation <= 1


@given(LENGTHS, st.integers(0, 40))
def test_the_sorted_rooms_give_the_bins_of_the_plain_loop(lengths, more):
    capacity = max(lengths) + more
    assert best_fit(lengths, capacity) == fullest_bin(lengths, capacity)


@given(LENGTHS, st.integers(0, 40))
def test_least_loaded_takes_the_emptiest_bin(lengths, more):
    capacity = max(lengths) + more
    bins: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        emptiest = min(bins, key=lambda members: sum(lengths[j] for j in members), default=None)
        if emptiest is not None and sum(lengths[j] for j in emptiest) + lengths[i] <= capacity:
            emptiest.append(i)
        else:
            bins.append([i])
    assert least_loaded(lengths, capacity) == bins


@given(LENGTHS, st.integers(0, 40))
def test_the_tree_gives_the_bins_of_plain_first_fit(lengths, more):
    capacity = max(lengths) + more
    bins: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        for members in bins:
            if sum(lengths[j] for j in members) + lengths[i] <= capacity:
                members.append(i)
                break
        else:
            bins.append([i])
    assert first_fit(lengths, capacity) == bins


@given(st.lists(st.integers(1, 12), min_size=1, max_size=7), st.integers(0, 6))
@settings(max_examples=60)
def test_exact_is_the_fewest_by_trying_everything(lengths, more):
    capacity = max(lengths) + more
    fewest = min(
        len(set(choice))
        for choice in itertools.product(range(len(lengths)), repeat=len(lengths))
        if all(sum(n for n, b in zip(lengths, choice, strict=True) if b == bin_) <= capacity for bin_ in set(choice))
    ) if len(lengths) <= 6 else None  # fmt: skip
    found = len(exact(lengths, capacity))
    assert fewest is None or found == fewest
    assert lower_bound(lengths, capacity) <= found


def test_exact_beats_the_greedy_rules_where_they_fail():
    lengths = [6, 5, 5, 4, 4, 3, 3]  # 6+4, 5+5, 4+3+3 fill bins of ten
    assert len(exact(lengths, 10)) == 3
    hard = [41, 40, 36, 35, 31, 30, 29, 28, 25, 24, 22, 19, 18, 15, 12, 10, 9, 8]
    assert len(exact(hard, 60)) <= min(plan(hard, 60, name).n_rows for name in ("ffd", "bfd", "least_loaded"))


@given(LENGTHS, st.integers(1, 200))
def test_flat_rows_are_balanced_and_within_their_limit(lengths, max_tokens):
    found = plan(lengths, "flat", max_tokens=max_tokens)
    assert sorted(i for members in found.bins for i in members) == list(range(len(lengths)))
    for members in found.bins:
        assert sum(lengths[i] for i in members) <= max_tokens or len(members) == 1
        assert [lengths[i] for i in members] == sorted((lengths[i] for i in members), reverse=True)
    assert found.computed == sum(lengths)


@given(LENGTHS, st.integers(1, 300))
def test_buckets_are_padded_batches_of_similar_lengths(lengths, max_tokens):
    found = plan(lengths, algorithm="bucketed", max_tokens=max_tokens)
    for members in found.bins:
        assert len(members) == 1 or len(members) * max(lengths[i] for i in members) <= max_tokens
    ordered = [lengths[i] for members in found.bins for i in members]
    assert ordered == sorted(lengths, reverse=True)


def test_the_second_bound_sees_what_the_total_does_not():
    assert lower_bound([6, 6, 6], 10) == 3
    assert lower_bound([7, 7, 4, 4], 10) == 3


def test_explain_prints_the_bound_and_the_predicted_gain():
    text = plan([8, 4, 4, 2]).explain()
    assert "lower bound 3" in text
    assert "32 tokens: 1.33 times" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3, 0],), "prompt 1 has 0 tokens"),
        (([3, 9], 5), "capacity 5 is smaller than prompt 1 with 9"),
        (([3], "longest", "magic"), "algorithm"),
        (([3], "flat", "ffd"), "capacity='flat'"),
        (([3], "longest", "flat", 0), "max_tokens"),
    ],
)
def test_wrong_plans_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        plan(*arguments)


def test_no_prompts_make_an_empty_plan():
    empty = plan([])
    assert (empty.n_rows, empty.computed, empty.utilisation, empty.lower_bound) == (0, 0, 1.0, 0)

"""Compiled filters against plain Python, row by row, over every kind of attribute."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.papers.squash.attributes import MAX_CACHED, AttributeTable
from paperworks.papers.squash.filters import Attr, FilterError

sys.path.insert(0, str(Path(__file__).parent))
import filter_worlds

WORLDS = {seed: filter_worlds.world(seed) for seed in range(2)}
TABLES = {seed: filter_worlds.table(columns) for seed, columns in WORLDS.items()}
assert {name for name, one in TABLES[0].stored.items() if not one.exact} == {"stamp", "price", "venue", "labels"}
seeds = st.sampled_from(sorted(WORLDS))


@settings(deadline=None, max_examples=250)
@given(seeds, filter_worlds.filters())
def test_the_mask_is_what_the_expression_says_of_each_row(seed, wanted):
    mask = TABLES[seed].compile(wanted).mask()
    np.testing.assert_array_equal(mask, filter_worlds.expected(wanted, WORLDS[seed]))


@pytest.mark.parametrize("name", [*filter_worlds.CONSTANTS, *filter_worlds.LABELS])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_each_condition_and_its_opposite_on_each_kind_of_attribute(name, data):
    wanted = data.draw(filter_worlds.conditions(name))
    truth = filter_worlds.expected(wanted, WORLDS[0])
    program = TABLES[0].compile(wanted)
    np.testing.assert_array_equal(program.mask(), truth)
    np.testing.assert_array_equal(program.positions(), np.flatnonzero(truth))
    assert program.estimate()[0] <= truth.sum() <= program.estimate()[1]


@settings(deadline=None, max_examples=120)
@given(seeds, filter_worlds.filters())
def test_no_and_yes_of_the_cells_are_sure_and_only_maybe_is_open(seed, wanted):
    program = TABLES[seed].compile(wanted)
    three = program.evaluate()
    mask = filter_worlds.expected(wanted, WORLDS[seed])
    assert set(np.unique(three)) <= {0, 1, 2}
    assert not mask[three == 0].any()
    assert mask[three == 2].all()
    assert program.has_maybe or not (three == 1).any()


@settings(deadline=None, max_examples=120)
@given(seeds, filter_worlds.filters())
def test_estimates_enclose_the_count_and_every_way_to_count_agrees(seed, wanted):
    program = TABLES[seed].compile(wanted)
    n_matches = int(filter_worlds.expected(wanted, WORLDS[seed]).sum())
    low, high = program.estimate()
    assert low <= n_matches <= high
    assert low <= program.expected() <= high
    assert program.count() == n_matches
    assert not program.nothing or n_matches == 0
    assert not program.everything or n_matches == program.table.n


@settings(deadline=None, max_examples=120)
@given(seeds, filter_worlds.filters())
def test_candidates_hold_every_match_and_checking_them_leaves_the_matches(seed, wanted):
    program = TABLES[seed].compile(wanted)
    matches = np.flatnonzero(filter_worlds.expected(wanted, WORLDS[seed]))
    np.testing.assert_array_equal(program.positions(), matches)
    candidates = program.driver()
    if candidates is not None:
        assert candidates.dtype == np.int64
        assert (np.diff(candidates) > 0).all()
        assert len(candidates) <= program.driver_size()
        np.testing.assert_array_equal(program.keep(candidates), matches)


@settings(deadline=None, max_examples=60)
@given(seeds, filter_worlds.filters(), st.integers(0, filter_worlds.N), st.integers(0, filter_worlds.N))
def test_any_stretch_of_rows_gives_that_stretch_of_the_mask(seed, wanted, start, stop):
    program = TABLES[seed].compile(wanted)
    np.testing.assert_array_equal(program.mask(start, stop), program.mask()[start:stop])
    for row in range(start, min(start + 3, filter_worlds.N)):
        assert program.verify(row) == program.mask()[row]


@settings(deadline=None, max_examples=60)
@given(seeds, filter_worlds.filters(n=None))
def test_what_is_true_is_not_false_and_the_rest_is_missing(seed, wanted):
    table = TABLES[seed]
    yes, no = table.compile(wanted).mask(), table.compile(~wanted).mask()
    assert not (yes & no).any()
    np.testing.assert_array_equal(table.compile(~~wanted).mask(), yes)


@settings(deadline=None, max_examples=40)
@given(seeds, filter_worlds.filters(n=None), st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(seed, wanted, shuffle):
    order = np.random.default_rng(shuffle).permutation(filter_worlds.N)[:500]
    taken = TABLES[seed].take(order).compile(wanted)
    np.testing.assert_array_equal(taken.mask(), TABLES[seed].compile(wanted).mask()[order])
    np.testing.assert_array_equal(taken.positions(), np.flatnonzero(taken.mask()))


def test_many_rows_are_evaluated_in_blocks_without_a_seam():
    rng = np.random.default_rng(0)
    values, other = rng.integers(0, 10**6, 10_000), rng.integers(0, 50, 10_000)
    table = AttributeTable.from_data({"a": values, "b": other})
    wanted = (Attr("a").between(1000, 700_000) & (Attr("b") != 7)) | Attr("b").isin([1, 3, 5, 7, 9, 11])
    plain = ((values >= 1000) & (values <= 700_000) & (other != 7)) | np.isin(other, [1, 3, 5, 7, 9, 11])
    np.testing.assert_array_equal(table.compile(wanted).mask(), plain)
    np.testing.assert_array_equal(table.compile(wanted).mask(4000, 8200), plain[4000:8200])


def test_conditions_on_one_attribute_become_one_instruction():
    table = AttributeTable.from_data({"year": range_array(1990, 2025)})
    program = table.compile((Attr("year") >= 2000) & (Attr("year") < 2010) & (Attr("year") != 2030))
    assert len(program.code) == 1
    assert not program.has_maybe
    assert program.estimate() == (10, 10)


def range_array(low: int, high: int) -> np.ndarray:
    return np.arange(low, high)


def test_a_filter_that_no_row_or_every_row_passes_is_known_without_looking():
    table = AttributeTable.from_data({"year": range_array(1990, 2025), "kind": ["a"] * 35})
    assert table.compile(Attr("kind") == "unseen").nothing
    assert table.compile(Attr("year") > 3000).nothing
    assert table.compile((Attr("year") > 2000) & (Attr("year") < 1999)).nothing
    assert table.compile(Attr("year") > 0).everything
    assert table.compile((Attr("year") > 2000) | ~(Attr("year") > 2000)).everything
    assert table.compile(None).everything
    assert table.compile(None).mask().all()


def test_with_missing_values_a_condition_or_its_opposite_is_not_everything():
    table = AttributeTable.from_data({"year": [2000, None, 2020]})
    program = table.compile((Attr("year") > 2010) | ~(Attr("year") > 2010))
    assert program.mask().tolist() == [True, False, True]


def test_the_driver_is_the_most_selective_condition_of_an_and():
    rng = np.random.default_rng(0)
    rare = rng.integers(0, 1000, 20_000)
    table = AttributeTable.from_data({"rare": rare, "common": rng.integers(0, 3, 20_000), "tag": [["x"]] * 20_000})
    program = table.compile((Attr("common") == 1) & (Attr("rare") == 17) & Attr("tag").contains("x"))
    np.testing.assert_array_equal(program.driver(), np.flatnonzero(rare == 17))
    assert program.driver(limit=3) is None
    assert table.compile((Attr("rare") == 17) | ~Attr("tag").contains("x")).driver() is None


def test_programs_are_kept_by_expression_and_tell_types_apart():
    table = AttributeTable.from_data({"year": [1, 2], "open": [True, False]})
    assert table.compile(Attr("year") == 1) is table.compile(Attr("year") == 1)
    assert table.compile({"year": 1}).mask().tolist() == [True, False]
    assert table.compile(Attr("open") == True).mask().tolist() == [True, False]  # noqa: E712
    with pytest.raises(TypeError):
        table.compile(Attr("year") == True)  # noqa: E712  # after year == 1 was kept


def test_many_threads_compile_more_filters_than_are_kept():
    table = AttributeTable.from_data({"year": np.arange(2000)})

    def count(i: int) -> int:
        return sum(table.compile(Attr("year") < (i * 37 + j) % 700).count() - (i * 37 + j) % 700 for j in range(700))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(4))) == [0] * 4
    assert len(table._programs) <= MAX_CACHED


def test_masks_follow_the_rows_that_the_caller_knows():
    table = AttributeTable.from_data({"year": [1, 2, 3]})
    mask = np.array([True, False, False, True, False])
    rows = np.array([3, 1, 4])  # the number that each position had when it was added
    assert table.compile(mask, rows=rows).mask().tolist() == [True, False, False]
    assert table.compile(~table_filter(mask), rows=rows).mask().tolist() == [False, True, True]
    with pytest.raises(FilterError, match="only 2 values"):
        table.compile(np.array([True, False]), rows=rows)
    with pytest.raises(FilterError, match="there are 3 rows"):
        table.compile(mask)


def table_filter(mask: np.ndarray):
    from paperworks.papers.squash.filters import as_filter

    return as_filter(mask)


def test_ids_are_looked_up_and_unknown_ones_passed_over():
    table = AttributeTable.from_data({"year": [1, 2, 3]})
    places = {100: 0, 200: 1, 300: 2}

    def positions_of(ids: np.ndarray) -> np.ndarray:
        return np.array([places[i] for i in ids.tolist() if i in places], dtype=np.int64)

    assert table.compile([300, 100, 999], positions_of=positions_of).mask().tolist() == [True, False, True]
    assert table.compile(np.zeros(0, np.int64)).mask().tolist() == [False, False, False]


def nested(levels: int):
    """Groups in groups, of which none can be opened."""
    wanted = Attr("a0") == 1
    for i in range(1, levels):
        first, second = Attr(f"a{i % 50}") == 1, Attr(f"a{50 + i % 49}") == 1
        wanted = (first & second) | ((second | first) & wanted)
    return wanted


def test_a_deep_filter_needs_few_buffers():
    table = AttributeTable.from_data({f"a{i}": np.arange(10) for i in range(100)})
    program = table.compile(nested(100))
    assert program.depth == table.compile(nested(10)).depth  # the deepest part comes first, so nothing waits for it
    assert program.mask().tolist() == [i == 1 for i in range(10)]


def test_a_filter_too_deep_for_python_is_refused():
    table = AttributeTable.from_data({f"a{i}": np.arange(10) for i in range(100)})
    with pytest.raises(FilterError, match="nested too deeply"):
        table.compile(nested(2000))


def test_a_long_chain_of_conditions_is_no_deep_filter():
    table = AttributeTable.from_data({"year": np.arange(5000), "other": np.arange(5000) % 7})
    wanted = Attr("year") == 0
    for year in range(2, 3000, 2):
        wanted = wanted | (Attr("year") == year)
    program = table.compile(wanted & (Attr("other") == 0))
    assert program.positions().tolist() == [year for year in range(0, 3000, 2) if year % 7 == 0]


def test_an_empty_table_and_one_without_attributes():
    empty = AttributeTable.from_data({"year": np.zeros(0, np.int64), "tags": []})
    assert empty.compile(Attr("year") > 3).mask().tolist() == []
    bare = AttributeTable.from_data(None, n_rows=4)
    assert bare.compile(None).count() == 4
    assert bare.compile([1, 2]).mask().tolist() == [False, True, True, False]
    with pytest.raises(KeyError, match="there are: none"):
        bare.compile(Attr("year") > 3)

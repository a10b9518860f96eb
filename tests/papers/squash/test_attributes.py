"""Columns from what people have, kept without loss in one byte a value beside exact keys."""

from __future__ import annotations

import datetime
import json
import math
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash.attribute_cells import EXACT_LABELS, LABEL_PLANES, cut
from paperworks.papers.squash.attribute_keys import date_interval, float_key, float_keys, key_floats, number_interval
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.filters import Attr, FilterError

sys.path.insert(0, str(Path(__file__).parent))
import filter_worlds

finite = st.floats(allow_nan=False)


def same_values(table: AttributeTable, columns: dict) -> None:
    got = table.values(np.arange(table.n))
    for name, values in columns.items():
        for mine, theirs in zip(got[name], values, strict=True):
            if isinstance(theirs, list):
                assert mine == sorted(set(theirs))
            elif isinstance(theirs, datetime.datetime):
                assert mine == np.datetime64(theirs)
            else:
                assert mine == theirs, name


@pytest.mark.parametrize("seed", [0, 1])
def test_every_value_comes_back_through_every_change_of_the_table(seed, tmp_path):
    columns = filter_worlds.world(seed)
    table = AttributeTable.from_data(columns)
    same_values(table, columns)
    order = np.random.default_rng(seed).permutation(filter_worlds.N)[:250]
    shuffled = {name: [values[i] for i in order] for name, values in columns.items()}
    taken = table.take(order)
    same_values(taken, shuffled)
    joined = table.append(taken)
    same_values(joined, {name: values + shuffled[name] for name, values in columns.items()})
    joined.save(tmp_path)
    for mmap in (True, False):
        loaded = AttributeTable.load(tmp_path, mmap=mmap)
        same_values(loaded, {name: values + shuffled[name] for name, values in columns.items()})
        assert loaded.types == joined.types
        wanted = (Attr("stamp") > 2**53) & Attr("labels").contains("label3") | (Attr("venue") < "v100")
        np.testing.assert_array_equal(loaded.compile(wanted).mask(), joined.compile(wanted).mask())
        np.testing.assert_array_equal(loaded.compile(wanted).positions(), joined.compile(wanted).positions())


@given(st.lists(finite, min_size=1))
def test_keys_sort_as_floats_do_and_give_them_back(values):
    array = np.array(values)
    keys = float_keys(array)
    np.testing.assert_array_equal(key_floats(keys), array)
    for a, key_a in zip(values, keys.tolist(), strict=True):
        for b, key_b in zip(values[:5], keys[:5].tolist(), strict=True):
            assert (key_a < key_b) == (a < b)
            assert (key_a == key_b) == (a == b)


OPERATORS = {"==": "__eq__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.integers(2**53 - 3, 2**53 + 3)


@settings(max_examples=200)
@given(st.sampled_from(sorted(OPERATORS)), finite | st.sampled_from([2.0**53, 2.0**53 + 2, -0.0]), numbers)
def test_a_float_is_in_the_interval_of_keys_exactly_when_python_says_so(op, value, constant):
    low, high = number_interval(op, constant, is_float=True)
    assert (low <= float_key(value) <= high) == getattr(Fraction, OPERATORS[op])(*map(_fraction, (value, constant)))


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(OPERATORS)),
    st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
    numbers | st.floats(-3, 3),
)
def test_an_integer_is_in_the_interval_exactly_when_python_says_so(op, value, constant):
    low, high = number_interval(op, constant, is_float=False)
    assert (low <= value <= high) == getattr(Fraction, OPERATORS[op])(*map(_fraction, (value, constant)))


def _fraction(value: float) -> Fraction:
    """Infinite values far beyond all finite ones."""
    if isinstance(value, float) and math.isinf(value):
        return Fraction(2) ** 1100 * (1 if value > 0 else -1)
    return Fraction(value)


units = st.sampled_from(["W", "D", "h", "m", "s", "ms", "us", "ns"])


@settings(max_examples=300)
@given(st.sampled_from(sorted(OPERATORS)), st.integers(-5000, 5000), units, st.integers(-5000, 5000), units)
def test_dates_of_any_two_units_compare_exactly(op, ticks, unit, constant, other_unit):
    low, high = date_interval(op, np.datetime64(constant, other_unit), unit, "date")
    seconds = {"W": 604800, "D": 86400, "h": 3600, "m": 60, "s": 1}
    seconds |= {"ms": Fraction(1, 10**3), "us": Fraction(1, 10**6), "ns": Fraction(1, 10**9)}
    compare = getattr(Fraction, OPERATORS[op])
    assert (low <= ticks <= high) == compare(Fraction(ticks * seconds[unit]), Fraction(constant * seconds[other_unit]))


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=400), st.integers(1, 40))
def test_cells_cover_all_values_and_none_is_larger_than_it_must_be(counts, max_cells):
    firsts = cut(np.array(counts), max_cells)
    assert firsts[0] == 0
    assert (np.diff(firsts) > 0).all()
    assert len(firsts) <= max(1, min(max_cells, len(counts)))
    sizes = [counts[a:b] for a, b in zip(firsts, [*firsts[1:], len(counts)], strict=True)]
    shared = [sum(part) for part in sizes if len(part) > 1]
    # a cell of several values is at most an even share and the largest value on top of it
    assert max(shared, default=0) <= 2 * sum(counts) / max_cells + max(counts) + 1


def test_up_to_255_distinct_values_are_told_apart_by_a_byte_and_more_are_not():
    few, many = np.arange(1000) % 255, np.arange(1000) % 256
    table = AttributeTable.from_data({"few": few, "many": many})
    assert table.stored["few"].exact
    assert not table.stored["many"].exact
    assert table.keys.shape == (1, 1000)
    assert not table.compile((Attr("few") > 100) & (Attr("few") != 200)).has_maybe
    assert table.compile(Attr("many") == 100).has_maybe or table.compile(Attr("many") == 100).estimate() == (4, 4)


def test_a_value_that_fills_most_rows_has_a_cell_of_its_own():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(20_000) < 0.9, 77, rng.integers(0, 10**6, 20_000))
    program = AttributeTable.from_data({"x": values}).compile(Attr("x") == 77)
    assert not program.has_maybe
    assert program.estimate() == (int((values == 77).sum()),) * 2


def test_labels_take_a_bit_each_and_share_the_last_byte_beyond_63():
    exact = AttributeTable.from_data({"tags": [[f"t{i}"] for i in range(EXACT_LABELS)]})
    assert exact.stored["tags"].exact
    assert exact.cells.shape == (LABEL_PLANES, EXACT_LABELS)
    sharing = AttributeTable.from_data({"tags": [[f"t{i}"] for i in range(EXACT_LABELS + 1)]})
    assert not sharing.stored["tags"].exact
    assert sharing.cells.shape == (LABEL_PLANES, EXACT_LABELS + 1)
    one = AttributeTable.from_data({"tags": [["a"], ["b", "a"], None]})
    assert one.cells.shape == (1, 3)


@given(
    st.sampled_from(["f2", "f4"]),
    st.sampled_from(["<", "<=", "==", ">=", ">"]),
    st.floats(-3, 3) | st.just(0.1) | st.just(1e300),
)
def test_small_floats_compare_as_in_numpy(unit, op, constant):
    with np.errstate(over="ignore"):
        values = np.concatenate((SMALL, [0.1, constant])).astype(unit)
    table = AttributeTable.from_data({"x": values})
    made = getattr(Attr("x"), OPERATORS[op])(constant)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(
            table.compile(made).mask(), getattr(values, OPERATORS[op])(np.dtype(unit).type(constant))
        )
    doubled = table.append(table)
    assert doubled.compile(made).count() == 2 * table.compile(made).count()
    assert table.append(AttributeTable.from_data({"x": [0.1]})).stored["x"].unit == ""


SMALL = np.random.default_rng(0).normal(size=400)


def test_timestamps_beyond_what_floats_hold_are_told_apart():
    stamps = 2**53 + np.arange(2000)
    table = AttributeTable.from_data({"stamp": stamps})
    for k in (0, 1, 2, 999):
        assert table.compile(Attr("stamp") == 2**53 + k).positions().tolist() == [k]
        assert table.compile(Attr("stamp") > 2**53 + k).count() == 1999 - k


def test_data_frames_arrow_and_data_sets_read_the_same():
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    columns = {
        "int": [1, None, 3],
        "float": [0.5, None, 2.5],
        "bool": [True, None, False],
        "text": ["b", None, "a"],
        "tags": [["x", "y"], None, []],
        "codes": [[3, 1], [], None],
        "when": [datetime.datetime(2024, 1, 1, 5), None, datetime.datetime(2024, 1, 3)],
    }
    plain = AttributeTable.from_data(columns)
    frame = pandas.DataFrame({name: pandas.Series(values, dtype=object) for name, values in columns.items()})
    typed = frame.astype(
        {"int": "Int64", "float": "Float64", "bool": "boolean", "text": "category", "when": "datetime64[us]"}
    )
    arrow = pyarrow.table(columns)
    coded = arrow.set_column(3, "text", arrow["text"].dictionary_encode())
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for source in (frame, typed, typed.convert_dtypes(), arrow, coded, arrow.to_batches()[0], records):
        table = AttributeTable.from_data(source)
        assert table.types == plain.types
        same_values(table, columns)


def test_a_data_set_of_the_datasets_library_keeps_its_selection():
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"year": [1, 2, None], "tags": [["a"], None, ["b"]]}).select([2, 0])
    assert AttributeTable.from_data(data).values([0, 1]) == {"year": [None, 1], "tags": [["b"], ["a"]]}


def test_zones_become_utc():
    pandas = pytest.importorskip("pandas")
    when = pandas.Series(pandas.to_datetime(["2024-01-01T00:00", "2024-06-01T00:00"])).dt.tz_localize("Europe/Paris")
    table = AttributeTable.from_data({"when": when})
    assert table.compile(Attr("when") == "2023-12-31T23:00").positions().tolist() == [0]
    assert table.compile(Attr("when") == when[1]).positions().tolist() == [1]


def test_masked_structured_and_small_dtypes():
    masked = np.ma.MaskedArray([1, 2, 3], mask=[False, True, False])
    assert AttributeTable.from_data({"x": masked}).values([0, 1, 2])["x"] == [1, None, 3]
    both = np.array([(1, 2.5), (3, np.nan)], dtype=[("a", "i2"), ("b", "f4")])
    assert AttributeTable.from_data(both).values([0, 1]) == {"a": [1, 3], "b": [2.5, None]}
    assert AttributeTable.from_data({"x": np.array([0.1], np.float16)}).values([0])["x"] == [float(np.float16(0.1))]
    assert AttributeTable.from_data({"x": np.array(["b", "a"])}).types == {"x": "category"}
    days = np.array(["2024-01", "NaT"], dtype="datetime64[M]")
    assert AttributeTable.from_data({"x": days}).values([0, 1])["x"] == [np.datetime64("2024-01-01"), None]


def test_types_are_taken_as_told():
    text = AttributeTable.from_data({"day": ["2024-01-02", None, "2023-05-06"]}, types={"day": "datetime"})
    assert text.stored["day"].unit == "D"
    assert text.compile(Attr("day") < datetime.date(2024, 1, 1)).positions().tolist() == [2]
    assert AttributeTable.from_data({"x": [1, 2]}, types={"x": "float"}).types == {"x": "float"}
    assert AttributeTable.from_data({"x": [None]}, types={"x": "labels"}).types == {"x": "labels"}


@pytest.mark.parametrize(
    ("data", "types", "says"),
    [
        ({"a": [1, "x"]}, None, r"int \(row 0: 1\), category \(row 1: 'x'\)"),
        ({"a": [None, {"k": 1}]}, None, "row 1 holds"),
        ({"a": [2**63]}, None, "64 bits"),
        ({"a": np.array([2**64 - 1], np.uint64)}, None, "row 0"),
        ({"a": [0.5, 2**53 + 1]}, None, "row 1 holds 9007199254740993"),
        ({"a": [["x"], [1]]}, None, "all strings or all integers"),
        ({"a": [[None]]}, None, "all strings or all integers"),
        ({"a": np.zeros((2, 2))}, None, "one value a row"),
        ({"a": [1], "b": [1, 2]}, None, "lengths"),
        ({"a": "text"}, None, "array or a list"),
        ({"a": np.zeros(2, complex)}, None, "complex128"),
        ({1: [1]}, None, "named by a string"),
        ({"a": [1]}, {"b": "int"}, r"types names \['b'\]"),
        ({"a": [1]}, {"a": "number"}, "must be one of"),
        ({"a": ["x"]}, {"a": "int"}, "cannot be read as int"),
        ({"a": ["2024-01-01", "tomorrow"]}, {"a": "datetime"}, "row 1 holds 'tomorrow'"),
        ({"a": [2**60]}, {"a": "float"}, "beyond 2"),
        (3, None, "DataFrame"),
        ([1, 2], None, "DataFrame"),
    ],
)
def test_data_that_do_not_fit_are_refused_with_the_place(data, types, says):
    with pytest.raises(InputError, match=says):
        AttributeTable.from_data(data, types)


def test_the_number_of_rows_is_checked_against_the_vectors():
    with pytest.raises(InputError, match="5 vectors, but the attributes have 2 rows"):
        AttributeTable.from_data({"a": [1, 2]}, n_rows=5)


def test_appending_needs_the_same_attributes_and_kinds():
    table = AttributeTable.from_data({"a": [1, 2], "b": ["x", "y"]})
    with pytest.raises(InputError, match="attributes differ"):
        table.append(AttributeTable.from_data({"a": [1]}))
    with pytest.raises(InputError, match="cannot be read as int"):
        table.append(AttributeTable.from_data({"a": [1.5], "b": ["x"]}))
    with pytest.raises(InputError, match="cannot be read as category"):
        table.append(AttributeTable.from_data({"a": [1], "b": [2]}))
    more = table.append(AttributeTable.from_data({"a": [None], "b": ["w"]}))
    assert more.values([0, 1, 2]) == {"a": [1, 2, None], "b": ["x", "y", "w"]}
    days = AttributeTable.from_data({"d": [datetime.date(2024, 1, 1)]})
    times = AttributeTable.from_data({"d": [datetime.datetime(2024, 1, 1, 7)]})
    assert days.append(times).values([0, 1])["d"] == [np.datetime64("2024-01-01T00"), np.datetime64("2024-01-01T07")]


def test_values_new_to_the_table_find_their_place_when_it_is_appended_to():
    first = AttributeTable.from_data({"tags": [["m"], ["z", "a"]], "word": ["m", "z"]})
    both = first.append(AttributeTable.from_data({"tags": [["k", "m"]], "word": ["k"]}))
    assert both.compile(Attr("tags").contains_all(["m", "k"])).positions().tolist() == [2]
    assert both.compile(Attr("word") <= "m").positions().tolist() == [0, 2]


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    table = AttributeTable.from_data(filter_worlds.world(0))
    table.save(tmp_path)
    schema = json.loads((tmp_path / "schema.json").read_text())
    (tmp_path / "schema.json").write_text(json.dumps(schema | {"format": 99}))
    with pytest.raises(InputError, match="newer version"):
        AttributeTable.load(tmp_path)
    (tmp_path / "schema.json").write_text(json.dumps(schema | {"n": 7}))
    with pytest.raises(InputError, match="do not fit 7 rows"):
        AttributeTable.load(tmp_path)
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    content = (tmp_path / "keys.npy").read_bytes()
    (tmp_path / "keys.npy").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="can be read"):
        AttributeTable.load(tmp_path)
    (tmp_path / "keys.npy").unlink()
    with pytest.raises(InputError, match="can be read"):
        AttributeTable.load(tmp_path)
    with pytest.raises(InputError, match="can be read"):
        AttributeTable.load(tmp_path / "nowhere")


def test_nothing_in_the_folder_is_a_pickle(tmp_path):
    for path in AttributeTable.from_data(filter_worlds.world(0)).save(tmp_path):
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        else:
            json.loads(path.read_text())


def test_the_summary_says_what_there_is():
    table = AttributeTable.from_data({"year": [2020, None, 2024], "tags": [["a"], ["b"], None]})
    assert table.summary() == [
        {"name": "year", "kind": "int", "missing": 1, "exact_cells": True, "low": 2020, "high": 2024},
        {"name": "tags", "kind": "labels", "missing": 1, "exact_cells": True, "distinct": 2},
    ]


def test_a_column_missing_throughout_fits_every_kind_later():
    empty = AttributeTable.from_data({"a": [None, None]})
    assert empty.compile(Attr("a").is_null()).count() == 2
    with pytest.raises(FilterError):
        empty.compile(Attr("a") == "x")
    later = empty.append(AttributeTable.from_data({"a": ["x"]}))
    assert later.compile(Attr("a") == "x").positions().tolist() == [2]

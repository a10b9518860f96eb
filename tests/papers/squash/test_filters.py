"""What people write as a filter, and what they are told when it cannot be used."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from paperworks.errors import PaperworksError
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.filter_text import parse_filter
from paperworks.papers.squash.filters import Attr, Filter, FilterError, as_filter, from_dict, per_query

sys.path.insert(0, str(Path(__file__).parent))
import filter_worlds

TABLE = AttributeTable.from_data(
    {
        "year": [2019, 2020, 2021, None],
        "price": [1.5, None, -2.0, 0.0],
        "open": [True, False, None, True],
        "category": ["cs.CL", "cs.LG", None, "cs.CV"],
        "tags": [["a", "b"], [], None, ["c"]],
        "day": [datetime.date(2024, 1, day) for day in (1, 2, 3, 4)],
        "odd name": [1, 2, 3, 4],
    }
)


def rows(wanted) -> list[int]:
    return np.flatnonzero(TABLE.compile(wanted).mask()).tolist()


def test_missing_values_match_no_comparison_and_not_its_opposite_either():
    assert rows(Attr("year") >= 2020) == [1, 2]
    assert rows(~(Attr("year") >= 2020)) == rows(Attr("year") < 2020) == [0]
    assert rows(Attr("year") != 2020) == [0, 2]
    assert rows(~Attr("year").isin([2020])) == [0, 2]
    assert rows(Attr("year").is_null()) == [3]
    assert rows(Attr("year").not_null()) == rows(~Attr("year").is_null()) == [0, 1, 2]
    assert rows((Attr("year") == 2021) | Attr("year").is_null()) == [2, 3]


def test_an_empty_set_of_labels_is_not_a_missing_one():
    assert rows(Attr("tags").contains("a")) == [0]
    assert rows(~Attr("tags").contains("a")) == [1, 3]
    assert rows(Attr("tags").is_null()) == [2]
    assert rows(Attr("tags").contains_all([])) == [0, 1, 3]
    assert rows(Attr("tags").contains_any([])) == []
    assert rows(Attr("tags").contains_all(["a", "b"])) == [0]
    assert rows(~Attr("tags").contains_all(["a", "c"])) == [0, 1, 3]


def test_a_dict_is_an_and_of_ranges_choices_and_values():
    assert rows({"year": (2020, 2021)}) == [1, 2]
    assert rows({"year": (None, 2020)}) == [0, 1]
    assert rows({"category": ["cs.CL", "cs.CV"], "open": True}) == [0, 3]
    assert rows({"year": None}) == [3]
    assert rows({"tags": "c"}) == [3]
    assert rows({"tags": ["c", "a"]}) == [0, 3]
    assert rows({"year": {">=": 2020, "<": 2021}}) == [1]
    assert rows({"year": {"$gt": 2019, "$nin": [2021]}}) == [1]
    assert rows({}) == [0, 1, 2, 3]
    assert rows({"category": {"cs.LG"}}) == [1]


def test_dates_compare_with_dates_times_and_text():
    assert rows(Attr("day") >= datetime.date(2024, 1, 3)) == [2, 3]
    assert rows(Attr("day") > "2024-01-03") == [3]
    assert rows(Attr("day") <= datetime.datetime(2024, 1, 2, 23, 59)) == [0, 1]
    assert rows(Attr("day") == datetime.datetime(2024, 1, 2, 12)) == []
    assert rows(Attr("day") >= np.datetime64("2024-01")) == rows(Attr("day") >= "2024-01") == [0, 1, 2, 3]
    assert rows(Attr("day") >= "2025") == []
    assert rows(Attr("day") > "2024-01-02T00:00:00.5") == [2, 3]
    assert rows(Attr("day") > datetime.date(1969, 12, 31)) == [0, 1, 2, 3]
    zone = datetime.timezone(datetime.timedelta(hours=2))
    assert rows(Attr("day") >= datetime.datetime(2024, 1, 3, 2, tzinfo=zone)) == [2, 3]
    assert rows(Attr("day") >= datetime.datetime(2024, 1, 3, 3, tzinfo=zone)) == [3]


def test_masks_and_ids():
    assert rows(np.array([True, False, False, True])) == [0, 3]
    assert rows([2, 0, 17]) == [0, 2]
    assert rows(as_filter([2, 0]) & (Attr("year") > 2019)) == [2]
    assert rows(~as_filter(np.array([2, 0]))) == [1, 3]


def test_an_unknown_attribute_names_those_there_are():
    with pytest.raises(KeyError, match="there is no attribute 'yaer'; there are: year, price") as caught:
        rows(Attr("yaer") > 3)
    assert isinstance(caught.value, PaperworksError)
    assert str(caught.value).startswith("there is no")


def test_an_unseen_value_finds_nothing():
    assert rows(Attr("category") == "cs.XX") == []
    assert rows(Attr("category") != "cs.XX") == [0, 1, 3]
    assert rows(Attr("tags").contains("zzz")) == []
    assert rows(~Attr("tags").contains("zzz")) == [0, 1, 3]
    assert rows(~Attr("tags").contains_all(["a", "zzz"])) == [0, 1, 3]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Attr("year") == "2020", "year holds integers, which do not compare with str '2020'"),
        (Attr("year") > True, "bool"),
        (Attr("category") > 3, "category holds text"),
        (Attr("open") == 1, "open holds booleans"),
        (Attr("open") > True, "only with == and !="),
        (Attr("day") > 3, "day holds dates"),
        (Attr("tags") == "a", r"contains\('a'\)"),
        (Attr("tags").between("a", "b"), "do not compare"),
        (Attr("tags").contains(3), "labels of tags are text"),
        (Attr("category").contains("cs.CL"), r"isin\(...\)"),
        (Attr("year").isin(["2020"]), "str"),
    ],
)
def test_types_that_do_not_go_together_are_a_type_error(wanted, says):
    with pytest.raises(TypeError, match=says) as caught:
        rows(wanted)
    assert isinstance(caught.value, PaperworksError)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Attr("year") == None, "is_null"),  # noqa: E711
        (lambda: Attr("year") > float("nan"), "is_null"),
        (lambda: Attr("day") > np.datetime64("NaT"), "is_null"),
        (lambda: Attr("year") > [1], "list"),
        (lambda: Attr("year").isin("2020"), "list of values"),
        (lambda: Attr("year").isin(3), "list of values"),
        (lambda: Attr(3), "named by a string"),
        (lambda: (Attr("year") > 3) & True, "parentheses"),
        (lambda: bool(Attr("year") > 3), "no truth value"),
        (lambda: 2 < Attr("year") < 5, "no truth value"),
        (lambda: as_filter("year > 3"), "parse_filter"),
        (lambda: as_filter(Attr("year")), "alone is no filter"),
        (lambda: as_filter(np.zeros(3)), "float64"),
        (lambda: as_filter(object()), "object"),
        (lambda: as_filter({"year": (1, 2, 3)}), "range"),
        (lambda: as_filter({"year": {"~": 3}}), "unknown operator"),
        (lambda: Attr("year").between(1, 2, inclusive="yes"), "inclusive"),
        (lambda: rows(Attr("day") > "yesterday"), "no"),
        (lambda: rows(Attr("day") > "20240103"), "2024-01-31"),
        (lambda: rows(Attr("day") > "today"), "2024-01-31"),
        (lambda: rows(Attr("day") > "NaT"), "2024-01-31"),
        (lambda: rows(Attr("day") > ""), "2024-01-31"),
        (lambda: from_dict({"op": "?", "name": "year"}), "unknown op"),
        (lambda: from_dict({"op": "=="}), "not a filter"),
    ],
)
def test_what_is_no_filter_is_refused_at_the_door(make, says):
    with pytest.raises(FilterError, match=says):
        make()


def test_one_filter_for_all_queries_or_one_for_each():
    one = Attr("year") > 3
    assert per_query(one, 3) == [one] * 3
    assert per_query(None, 2) == [None, None]
    each = per_query([one, None, {"year": 3}], 3)
    assert each[0] is one
    assert each[1] is None
    assert [part.names for part in per_query([[1, 2], [3]], 2)] == [frozenset()] * 2
    assert [part.mask.tolist() for part in per_query(np.eye(2, dtype=bool), 2)] == [[True, False], [False, True]]
    assert per_query([1, 2, 3], 2)[0].ids.tolist() == [1, 2, 3]
    with pytest.raises(FilterError, match="2 filters for 3 queries"):
        per_query([one, None], 3)


@settings(deadline=None, max_examples=60)
@given(filter_worlds.filters(n=None))
def test_an_expression_survives_as_json(wanted):
    back = from_dict(json.loads(json.dumps(wanted.to_dict())))
    assert back.text() == wanted.text()
    assert back.names == wanted.names
    assert back.key == wanted.key


def test_rows_have_no_text_and_are_not_kept():
    assert (as_filter([1, 2]) & (Attr("year") > 3)).key is None
    with pytest.raises(FilterError, match="bytes"):
        as_filter(np.array([True])).to_dict()


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("year >= 2020", Attr("year") >= 2020),
        ("2020 <= year < 2022", (Attr("year") >= 2020) & (Attr("year") < 2022)),
        ("year > 2019 and not category == 'cs.LG'", (Attr("year") > 2019) & ~(Attr("category") == "cs.LG")),
        (
            "category in ['cs.CL', 'cs.CV'] or price == -2.0",
            Attr("category").isin(["cs.CL", "cs.CV"]) | (Attr("price") == -2),
        ),
        ("category not in ('cs.CL',)", ~Attr("category").isin(["cs.CL"])),
        ("'a' in tags", Attr("tags").contains("a")),
        ("'a' not in tags", ~Attr("tags").contains("a")),
        ("contains_any(tags, ['a', 'c'])", Attr("tags").contains_any(["a", "c"])),
        ("tags.contains_all(['a', 'b'])", Attr("tags").contains_all(["a", "b"])),
        ("year is None", Attr("year").is_null()),
        ("year is not None", Attr("year").not_null()),
        ("open", Attr("open") == True),  # noqa: E712
        ("(year == 2019) | (year == 2021)", Attr("year").isin([2019, 2021])),
        ("day >= '2024-01-03'", Attr("day") >= "2024-01-03"),
        ("between(year, 2020, 2021)", Attr("year").between(2020, 2021)),
        ("`odd name` > 2", Attr("odd name") > 2),
    ],
)
def test_text_says_the_same_as_the_expression(text, same_as):
    assert rows(parse_filter(text)) == rows(same_as)
    assert isinstance(parse_filter(text), Filter)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "year",
        "year >",
        "__import__('os').system('true')",
        "year + 1 > 3",
        "year > month",
        "f(year)",
        "3 > 2",
        "1 in [1]",
        "contains_any(tags)",
        "tags.contains_any(['a'], x=1)",
        "lambda: 1",
        "year is True",
        "year > [1]",
        "x.y.z > 3",
        "`a",
    ],
)
def test_text_that_is_no_filter_is_shown_and_never_run(text):
    if text == "year":  # a name alone is a boolean attribute; here it is none
        with pytest.raises(TypeError, match="do not compare with bool"):
            rows(parse_filter(text))
        return
    with pytest.raises(FilterError, match="the filter"):
        parse_filter(text)

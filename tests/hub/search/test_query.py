"""Any text is a query, and a query written out is the same query."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.hub.search.query import LONGEST, AnyOf, Filter, Query, Text, parse

PIECES = (
    "OR", "title:", "cat:cs.LG", "cat:CS", "-", '"a b"', "a", "b", "year:2024", "sort:new", "is:unread", "author:x", "-has:code",
    "mode:words", "after:2024-13", "before:2025", "(OR)", ":", "--x", "x:y", "title:f(x):z", '"', "verdict:partly", "has:x", "-title:q",
)  # fmt: skip
texts = st.one_of(
    st.text(max_size=80),
    st.text(alphabet='aOR :"-()*.\x00{}é1', max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join),
)


@given(texts)
def test_a_query_written_out_and_read_again_is_the_same(text: str) -> None:
    query = parse(text)
    again = parse(str(query))
    assert (again.nodes, again.sort, again.mode) == (query.nodes, query.sort, query.mode)
    assert str(again) == str(query)


@given(texts)
def test_nothing_empty_comes_out(text: str) -> None:
    for node in parse(text).nodes:
        for part in node.parts if isinstance(node, AnyOf) else (node,):
            assert any(char.isalnum() for char in (part.text if isinstance(part, Text) else part.value))


def test_a_megabyte_is_read_in_a_moment() -> None:
    started = time.process_time()
    for text in (
        "word " * 200_000,
        '"' * 1_000_000,
        "title:" * 170_000,
        "a" * 1_000_000,
        "-" * 1_000_000,
        "OR " * 333_333,
    ):
        query = parse(text)
        assert f"only the first {LONGEST:,} characters were read" in query.notes
        assert len(query.nodes) <= 64
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("low-rank recovery", (Text("low-rank"), Text("recovery"))),
        ('"exact phrase" word', (Text("exact phrase", exact=True), Text("word"))),
        ("“curly quotes”", (Text("curly quotes", exact=True),)),
        ('"never closed', (Text("never closed", exact=True),)),
        ("-survey", (Text("survey", negative=True),)),
        ('-"medical imaging"', (Text("medical imaging", exact=True, negative=True),)),
        ("pruning OR sparsity", (AnyOf((Text("pruning"), Text("sparsity"))),)),
        ("a OR b OR c d", (AnyOf((Text("a"), Text("b"), Text("c"))), Text("d"))),
        ("OR a OR", (Text("a"),)),
        ("a or b", (Text("a"), Text("or"), Text("b"))),
        ("title:attention", (Text("attention", "title"),)),
        ('author:"Ada Example"', (Text("Ada Example", "author", exact=True),)),
        ("-author:example", (Text("example", "author", negative=True),)),
        ("cat:cs.lg cat:STAT", (Filter("cat", "cs.LG"), Filter("cat", "stat"))),
        ("cat:cond-mat.mes-hall", (Filter("cat", "cond-mat.mes-hall"),)),
        ("cat:cs.LG OR cat:stat.ML", (AnyOf((Filter("cat", "cs.LG"), Filter("cat", "stat.ML"))),)),
        ("after:2024-01 before:2025-06-30 year:2024", (Filter("after", "2024-01"), Filter("before", "2025-06-30"), Filter("year", "2024"))),
        ("has:method -has:code", (Filter("has", "method"), Filter("has", "code", negative=True))),
        ("verdict:Reproduced", (Filter("verdict", "reproduced"),)),
        ("TITLE:x", (Text("x", "title"),)),
        ("(see pruning).", (Text("see"), Text("pruning"))),
        ("https://example.org/x", (Text("https"), Text("//example.org/x"))),
        ("unknown:thing", (Text("unknown"), Text("thing"))),
        ("word word", (Text("word"),)),
        ("", ()),
        ('"" - : ** ()', ()),
    ],
)  # fmt: skip
def test_what_is_understood(text: str, nodes: tuple[object, ...]) -> None:
    assert parse(text).nodes == nodes
    assert parse(text).notes == ()


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("after:yesterday", "is not a day, month or year"),
        ("year:2024-05", "is not a year"),
        ("year:٢٠٢٤", "is not a day"),
        ("-after:2024", "turn it around"),
        ("has:wings", "is not one of method, code, claims"),
        ("verdict:maybe", "is not one of reproduced"),
        ("cat:!!!x", "is not a category"),
        ("sort:up", "is not one of relevance"),
        ("mode:magic", "is not one of words"),
        ("is:unread", "does not keep yet"),
        ("shelf:mine", "does not keep yet"),
        ("a OR -b", "cannot stand beside OR"),
        ("a OR cat:cs", "both must hold"),
    ],
)
def test_what_is_not_understood_is_said(text: str, note: str) -> None:
    (said,) = parse(text).notes
    assert note in said


def test_sort_and_mode_are_not_looked_for() -> None:
    query = parse("sort:hot diffusion mode:meaning")
    assert (query.nodes, query.sort, query.mode) == ((Text("diffusion"),), "hot", "meaning")
    assert str(query) == "diffusion sort:hot mode:meaning"


def test_what_a_search_by_meaning_looks_for() -> None:
    assert (
        parse('robust author:hinton -survey "dark matter" title:x cat:cs a OR b').meaning == "robust a b dark matter x"
    )


def test_a_filter_is_added_and_taken_away() -> None:
    one = Filter("cat", "cs.LG")
    query = parse("pruning")
    assert str(query.with_filter(one)) == "pruning cat:cs.LG"
    assert query.with_filter(one).with_filter(one) == query.with_filter(one)
    assert query.with_filter(one).without_filter(one) == query == Query((Text("pruning"),))

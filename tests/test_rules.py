"""A claim's rule: what it may say, and that nothing else gets through."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paperworks.claims.rules import Rule
from paperworks.errors import RuleError


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("a - b >= 20", {"a": 61.2, "b": 24.8}, True),
        ("a - b >= 20", {"a": 30.0, "b": 24.8}, False),
        ("0 < a < 1", {"a": 0.5}, True),
        ("0 < a < 1", {"a": 1.0}, False),
        ("a and not b", {"a": True, "b": False}, True),
        ("abs(a) <= 1e-3 or log10(b) > 2", {"a": -1.0, "b": 1000}, True),
        ("a\n  >= 1", {"a": 1}, True),
        ("kind == 'exact'", {"kind": "exact"}, True),
        ("a ** 2 > 8", {"a": -3}, True),
    ],
)
def test_a_rule_says_whether_it_holds(text: str, values: dict[str, float], expected: bool) -> None:
    assert Rule(text)(values) is expected


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "a >", "1 < 2", "True", "a.b > 1", "a[0] > 1", "(lambda: 1)() > a", "__import__('os') == a", "open('x') == a",
        "[a for a in b]", "a if b else c", "abs > 1", "abs(x=a) > 1", "a := 3", "f'{a}' == 'x'", "a is b", "a in b", "b'x' == a",
        "a\0b", "a == None", "a @ b > 1", "max(*a) > 1",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(RuleError, match=r"rule"):
        Rule(text)


@given(st.text(max_size=60) | st.text(alphabet="ab()<>=.+-*/ 019'\"[]{},:\n\0lamdnotr", max_size=60))
@example("a" * 5 + "(" * 300)
@example("-" * 3000 + "a")
@example("\ud800")
@example("9" * 5000 + " < a")
@example("a\x00")
def test_any_text_is_a_rule_or_a_rule_error(text: str) -> None:
    try:
        rule = Rule(text)
    except RuleError:
        return
    assert rule.names
    with contextlib.suppress(RuleError):
        assert rule(dict.fromkeys(rule.names, 1.5)) in (True, False)


def test_an_unknown_name_is_told_with_what_was_measured() -> None:
    with pytest.raises(RuleError, match=r"speaks of poisoned, which was not measured; measured: clean, squeezed"):
        Rule("squeezed - poisoned >= 20")({"squeezed": 1.0, "clean": 2.0})


@pytest.mark.parametrize("text", ["a", "a + 1", "a and b"])
def test_a_rule_must_give_true_or_false(text: str) -> None:
    with pytest.raises(RuleError, match="not true or false"):
        Rule(text)({"a": 1.0, "b": 2.0})


def test_arithmetic_that_fails_is_a_rule_error() -> None:
    with pytest.raises(RuleError, match="cannot be evaluated"):
        Rule("1 / a > 2")({"a": 0.0})
    with pytest.raises(RuleError, match="cannot be evaluated"):
        Rule("9 ** 9 ** a > 2")({"a": 9})  # would take all memory


def test_infinity_is_larger_than_any_bound() -> None:
    assert Rule("loss > 100")({"loss": math.inf})

"""Filters as text, for the command line: `year >= 2020 and category in ["cs.CL", "cs.LG"] and not (venue is None)`.

The text is read as a Python expression and never run: only comparisons of attributes with constants, `and`, `or`, `not`, `in`,
`is None` and `contains_any(name, [...])` are understood. Dates are written as text. An attribute whose name is no Python name is
written in backticks.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from paperworks.papers.squash.filters import And, Attr, Filter, FilterError, Not, Or

_COMPARE = {
    ast.Eq: "__eq__",
    ast.NotEq: "__ne__",
    ast.Lt: "__lt__",
    ast.LtE: "__le__",
    ast.Gt: "__gt__",
    ast.GtE: "__ge__",
}
_FLIPPED = {ast.Eq: ast.Eq, ast.NotEq: ast.NotEq, ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
_CALLS = ("contains", "contains_any", "contains_all", "is_null", "between", "isin")


def parse_filter(text: str) -> Filter:
    """The filter that a text says. Raises FilterError showing the part that is not understood.

    >>> parse_filter("2020 <= year < 2024 and 'cs.CL' in tags").text()
    "and('year' >= 2020, 'year' < 2024, 'tags' contains any of ('cs.CL',))"
    """
    names: dict[str, str] = {}

    def quoted(match: re.Match[str]) -> str:
        names[key := f"_quoted_{len(names)}"] = match[1]
        return key

    try:
        tree = ast.parse(re.sub(r"`([^`]+)`", quoted, text.strip()), mode="eval")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise FilterError(
            f"the filter {text!r} cannot be read: {error}; write e.g. year >= 2020 and category == 'cs.CL'"
        ) from error
    return _Reader(text, names).filter(tree.body)


class _Reader:
    def __init__(self, text: str, names: dict[str, str]) -> None:
        self.text = text
        self.names = names

    def filter(self, node: ast.expr) -> Filter:
        if isinstance(node, ast.BoolOp):
            parts = [self.filter(value) for value in node.values]
            joined = parts[0]
            for part in parts[1:]:
                joined = joined & part if isinstance(node.op, ast.And) else joined | part
            return joined
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Not(self.filter(node.operand))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            kind = And if isinstance(node.op, ast.BitAnd) else Or
            return kind((self.filter(node.left), self.filter(node.right)))
        if isinstance(node, ast.Compare):
            left = [node.left, *node.comparators]
            parts = [self.compare(a, op, b, node) for a, op, b in zip(left, node.ops, node.comparators, strict=False)]
            return parts[0] if len(parts) == 1 else And(tuple(parts))
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.Name):
            return Attr(self.name(node)) == True  # noqa: E712  # `open and year > 2020`
        raise self.error(node)

    def compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr, whole: ast.expr) -> Filter:
        if isinstance(op, ast.Is | ast.IsNot) and isinstance(left, ast.Name) and self.is_none(right):
            null = Attr(self.name(left)).is_null()
            return null if isinstance(op, ast.Is) else Not(null)
        if isinstance(op, ast.In | ast.NotIn):
            if isinstance(left, ast.Name):
                found = Attr(self.name(left)).isin(self.constants(right))
            elif isinstance(right, ast.Name):
                found = Attr(self.name(right)).contains(self.constant(left))
            else:
                raise self.error(whole)
            return found if isinstance(op, ast.In) else Not(found)
        if type(op) not in _COMPARE:
            raise self.error(whole)
        if not isinstance(left, ast.Name):
            left, op, right = right, _FLIPPED[type(op)](), left
        if not isinstance(left, ast.Name):
            raise self.error(whole)
        made: Filter = getattr(Attr(self.name(left)), _COMPARE[type(op)])(self.constant(right))
        return made

    def call(self, node: ast.Call) -> Filter:
        """contains_any(tags, ["a"]) or tags.contains_any(["a"])."""
        function, arguments = node.func, list(node.args)
        if isinstance(function, ast.Attribute):
            arguments.insert(0, function.value)
            word = function.attr
        elif isinstance(function, ast.Name):
            word = function.id
        else:
            raise self.error(node)
        if word not in _CALLS or node.keywords or not arguments or not isinstance(arguments[0], ast.Name):
            raise self.error(node)
        values = [self.constant(value) if self.is_single(value) else self.constants(value) for value in arguments[1:]]
        try:
            made: Filter = getattr(Attr(self.name(arguments[0])), word)(*values)
        except TypeError as error:
            raise FilterError(f"in the filter {self.text!r}: {ast.unparse(node)}: {error}") from error
        return made

    def name(self, node: ast.Name) -> str:
        return self.names.get(node.id, node.id)

    def constant(self, node: ast.expr) -> Any:
        if not self.is_single(node):
            raise self.error(node)
        return ast.literal_eval(node)

    def constants(self, node: ast.expr) -> list[Any]:
        if not isinstance(node, ast.List | ast.Tuple | ast.Set):
            raise self.error(node)
        return [self.constant(value) for value in node.elts]

    @staticmethod
    def is_single(node: ast.expr) -> bool:
        """A literal number, text or boolean, perhaps with a sign."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            node = node.operand
            return isinstance(node, ast.Constant) and type(node.value) in (int, float)
        return isinstance(node, ast.Constant) and type(node.value) in (int, float, str, bool, type(None))

    @staticmethod
    def is_none(node: ast.expr) -> bool:
        return isinstance(node, ast.Constant) and node.value is None

    def error(self, node: ast.expr) -> FilterError:
        return FilterError(
            f"in the filter {self.text!r}, {ast.unparse(node)!r} is not understood; write comparisons of an attribute with a "
            "constant, joined by and, or, not; e.g. year >= 2020 and category in ['cs.CL', 'cs.LG']"
        )

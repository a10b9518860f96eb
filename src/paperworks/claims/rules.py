"""Evaluate a claim's rule ('squeezed - poisoned >= 20') over measured values, and nothing else.

Rules are expressions of simpleeval's safe subset: numbers, names, arithmetic, comparisons (chained too), and/or/not, and the
functions `abs`, `min`, `max`, `round`, `log`, `log2`, `log10`, `sqrt`. No attributes, no indexing, no calls of anything else.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

import simpleeval

from paperworks.errors import RuleError

FUNCTIONS: dict[str, Any] = {
    "abs": abs,
    "min": min,
    "max": max,
    "round": round,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sqrt": math.sqrt,
}
_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, ast.Add, ast.Sub,
    ast.Mult, ast.Div, ast.Pow, ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.Name, ast.Load,
    ast.Constant, ast.Call,
)  # fmt: skip


class Rule:
    """One rule, parsed and checked when it is made.

    >>> rule = Rule("squeezed - poisoned >= 20")
    >>> sorted(rule.names)
    ['poisoned', 'squeezed']
    >>> rule({"squeezed": 61.2, "poisoned": 24.8})
    True
    """

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split())
        if not self.text:
            raise RuleError("a rule is empty; write a comparison such as 'final <= 1e-3'")
        try:
            tree = ast.parse(self.text, mode="eval")
        except SyntaxError as error:
            raise RuleError(f"rule {self.text!r} cannot be read: {error.msg} at character {error.offset}") from error
        except (ValueError, RecursionError, MemoryError) as error:  # null bytes, lone surrogates, brackets without end
            raise RuleError(f"rule {self.text[:80]!r} cannot be read: {error or type(error).__name__}") from error
        called: set[int] = set()
        names: set[str] = set()
        for node in ast.walk(tree):
            if not isinstance(node, _ALLOWED):
                what = type(node).__name__
                raise RuleError(
                    f"rule {self.text!r} uses {what}; only names, numbers, arithmetic, comparisons, and/or/not are allowed"
                )
            if isinstance(node, ast.Constant) and not isinstance(node.value, (bool, int, float, str)):
                raise RuleError(f"rule {self.text!r} holds the constant {node.value!r}; use numbers")
            if isinstance(node, ast.Call):
                if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
                    raise RuleError(f"rule {self.text!r} calls something else than {', '.join(sorted(FUNCTIONS))}")
                called.add(id(node.func))
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and id(node) not in called:
                if node.id in FUNCTIONS:
                    raise RuleError(f"rule {self.text!r} uses the function {node.id!r} as a value; call it")
                names.add(node.id)
        if not names:
            raise RuleError(f"rule {self.text!r} names no measured value, so it could never fail or never hold")
        self.names = frozenset(names)

    def __call__(self, values: Mapping[str, float | int | bool | str]) -> bool:
        """Whether the rule holds.

        Raises RuleError when a name was not measured, or the result is no truth value.
        """
        missing = sorted(self.names - set(values))
        if missing:
            measured = ", ".join(sorted(values)) or "nothing"
            raise RuleError(
                f"rule {self.text!r} speaks of {', '.join(missing)}, which was not measured; measured: {measured}"
            )
        try:
            # simpleeval takes True and False as names, which we do not need: constants are parsed as such
            result = simpleeval.SimpleEval(names=dict(values), functions=FUNCTIONS).eval(self.text)
        except (
            Exception
        ) as error:  # simpleeval and arithmetic raise many kinds; all mean the same to the author of a rule
            raise RuleError(f"rule {self.text!r} cannot be evaluated over {dict(values)!r}: {error}") from error
        if not isinstance(result, bool):
            raise RuleError(f"rule {self.text!r} gives {result!r}, not true or false; write a comparison")
        return result

    def __repr__(self) -> str:
        return f"Rule({self.text!r})"

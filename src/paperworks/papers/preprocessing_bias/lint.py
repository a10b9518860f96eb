"""Find `fit_transform` on a whole table before it is cross-validated or split, in scripts and notebooks, by reading alone.

Nothing is run. A finding is a line worth looking at: the audit then says whether it matters on the data.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

from paperworks.errors import InputError

VALIDATORS = {
    "cross_val_score",
    "cross_validate",
    "cross_val_predict",
    "train_test_split",
    "learning_curve",
    "validation_curve",
    "permutation_test_score",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A value that was made by a step fitted on everything, and where it is then validated."""

    path: str
    line: int  # of the fit
    name: str  # of the variable
    used_line: int
    used_by: str
    supervised: bool  # the fit was given y as well

    @property
    def message(self) -> str:
        """The finding in a line for people, with what to do."""
        what = "a step that was given y" if self.supervised else "a step"
        return (
            f"{self.path}:{self.line}: {self.name!r} comes from {what} fitted on all rows, and line {self.used_line} gives it to "
            f"{self.used_by}; put the step into a Pipeline, or measure what it does with preprocessing_bias"
        )


def lint_source(source: str, path: str = "<source>") -> list[Finding]:
    """Findings of one Python source, in order of lines.

    >>> lint_source("Z = StandardScaler().fit_transform(X)\\ncross_val_score(model, Z, y)")[0].used_by
    'cross_val_score'
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise InputError(
            f"{path} is not Python that this interpreter can read: line {error.lineno}: {error.msg}"
        ) from error
    visitor = _Visitor(path)
    visitor.visit(tree)
    return sorted(visitor.findings, key=lambda finding: (finding.line, finding.used_line))


def audit_notebook(path: str | Path) -> list[Finding]:
    """Findings of a script (.py) or a notebook (.ipynb); lines of a notebook count over its code cells, magics left out."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if path.suffix != ".ipynb":
        return lint_source(text, str(path))
    try:
        cells = json.loads(text)["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell.get("cell_type") == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a notebook: {error}") from error
    lines = [
        line if not line.lstrip().startswith(("%", "!")) else "pass" for cell in code for line in cell.splitlines()
    ]
    return lint_source("\n".join(lines), str(path))


class _Visitor(ast.NodeVisitor):
    """Follows names through assignments in the order of the text; one table of names a function."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self.fitted: dict[str, tuple[int, bool]] = {}  # transformer variable -> line of its fit, given y
        self.made: dict[str, tuple[int, bool]] = {}  # data variable -> the same of the step that made it
        self.split: set[str] = set()  # variables that came out of a split: fitting on them is right

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        kept = self.fitted.copy(), self.made.copy(), self.split.copy()
        self.generic_visit(node)
        self.fitted, self.made, self.split = kept

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        names = [name for target in node.targets for name in _names(target)]
        made = self._origin(node.value)
        for name in names:
            self.made.pop(name, None)
            if made is not None:
                self.made[name] = made
            if isinstance(node.value, ast.Call) and _called(node.value) == "train_test_split":
                self.split.add(name)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = _called(node)
        if (
            called == "fit"
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.args
        ):
            holder = node.func.value.id
            if not self._from_split(node.args[0]):
                self.fitted[holder] = (node.lineno, len(node.args) > 1)
            if _is_search(self.made.get(holder), holder):
                self._use(node, "a search")
        if called in VALIDATORS:
            self._use(node, called)

    def _use(self, node: ast.Call, by: str) -> None:
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            origin = self._origin(argument)
            name = argument.id if isinstance(argument, ast.Name) else ast.unparse(argument)[:40]
            if origin is not None:
                self.findings.append(Finding(self.path, origin[0], name, node.lineno, by, origin[1]))

    def _origin(self, node: ast.expr) -> tuple[int, bool] | None:
        """The fit that a value comes from, through slices and conversions."""
        if isinstance(node, ast.Name):
            return self.made.get(node.id)
        if isinstance(node, (ast.Subscript, ast.Attribute)):
            return self._origin(node.value)
        if isinstance(node, ast.Call):
            called = _called(node)
            if called == "fit_transform" and node.args and not self._from_split(node.args[0]):
                return node.lineno, len(node.args) > 1 or any(k.arg == "y" for k in node.keywords)
            if called == "transform" and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                return self.fitted.get(node.func.value.id)
            if called in VALIDATORS:
                return None
            return next((origin for argument in node.args if (origin := self._origin(argument))), None)
        return None

    def _from_split(self, node: ast.expr) -> bool:
        return any(isinstance(part, ast.Name) and part.id in self.split for part in ast.walk(node))


def _is_search(_origin: object, holder: str) -> bool:
    return holder.lower().endswith(("search", "_cv", "gridsearch"))


def _called(node: ast.Call) -> str:
    return (
        node.func.attr
        if isinstance(node.func, ast.Attribute)
        else node.func.id
        if isinstance(node.func, ast.Name)
        else ""
    )


def _names(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, (ast.Tuple, ast.List)):
        return [name for item in target.elts for name in _names(item)]
    return []

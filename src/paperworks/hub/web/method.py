"""What the method tab shows of a runnable paper, read from its folder without importing it.

Public names and their docstrings are found by `ast`: `__all__` of the package, and where in the folder each name is defined. So the
page is the same with and without the optional installs, and the server never loads torch for it.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from paperworks.catalogue import RunnablePaper

Block = tuple[Literal["text", "code", "lines"], str]
MOST_MODULES = 200
FENCE = re.compile(r"^```(?:python|py)\b[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Member:
    """A public method or attribute of a class."""

    name: str
    signature: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class PublicName:
    """One name of the public API."""

    name: str
    kind: str  # 'class', 'function', 'value'
    signature: str
    blocks: tuple[Block, ...]
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """All that the tab needs."""

    slug: str
    package: str
    builtin: bool
    exists: bool
    extra: str
    has_command: bool
    has_measurements: bool
    readme: str
    example: str
    names: tuple[PublicName, ...]


def describe(paper: RunnablePaper) -> Method:
    """The method of a paper as it lies in its folder."""
    stamps = (
        tuple(sorted((str(path), path.stat().st_mtime_ns) for path in _modules(paper.folder)))
        if paper.has_method
        else ()
    )
    names, opening = _public(str(paper.folder), stamps) if stamps else ((), "")
    readme = paper.readme
    example = first_code(readme)
    return Method(
        slug=paper.slug,
        package=paper.package,
        builtin=paper.builtin,
        exists=paper.has_method,
        extra=paper.spec.extra,
        has_command=(paper.folder / "cli.py").exists(),
        has_measurements=paper.has_measurements,
        readme=without_first_code(readme) if example else readme,
        example=example or first_doctest(opening),
        names=names,
    )


def first_code(markdown: str) -> str:
    """The first fenced Python block of a README.

    >>> first_code("# t\\n```python\\nx = 1\\n```\\n")
    'x = 1'
    """
    match = FENCE.search(markdown)
    return match[1].rstrip() if match else ""


def without_first_code(markdown: str) -> str:
    """The README without that block, which the page shows above it, and without its heading when nothing else stood under it.

    >>> without_first_code("a\\n\\n## Example\\n\\n```python\\nx = 1\\n```\\n\\n## Limits\\n")
    'a\\n\\n## Limits\\n'
    """
    match = FENCE.search(markdown)
    if match is None:
        return markdown
    before, after = markdown[: match.start()].rstrip(), markdown[match.end() :].lstrip()
    heading = re.search(r"(?:^|\n)#{1,6} [^\n]*\Z", before)
    if heading and (not after or after.startswith("#")) and heading.start() > 0:
        before = before[: heading.start()].rstrip()
    return f"{before}\n\n{after}"


def first_doctest(docstring: str) -> str:
    """The code of the examples in a docstring, without prompts and answers."""
    lines = [line.strip()[4:] for line in docstring.splitlines() if line.strip().startswith((">>> ", "... "))]
    return "\n".join(lines)


def blocks(docstring: str) -> tuple[Block, ...]:
    """A docstring as paragraphs, code, and lists of lines that keep their breaks.

    >>> blocks("Add.\\n\\n>>> 1 + 1\\n2")
    (('text', 'Add.'), ('code', '>>> 1 + 1\\n2'))
    """
    found: list[Block] = []
    for part in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = part.split("\n")
        if not part.strip():
            continue
        if lines[0].startswith(">>>") or all(line.startswith(("    ", "\t")) for line in lines):
            code = inspect.cleandoc(part)
            if found and found[-1][0] == "code":
                found[-1] = ("code", f"{found[-1][1]}\n\n{code}")
            else:
                found.append(("code", code))
        elif ">>>" in part:
            at = (
                next(i for i, line in enumerate(lines) if line.lstrip().startswith(">>>"))
                if "\n>>>" in part
                else len(lines)
            )
            found.append(("text", " ".join(line.strip() for line in lines[:at])))
            if at < len(lines):
                found.append(("code", "\n".join(lines[at:])))
        elif len(lines) > 1 and any(re.match(r"\s+\S|[-*]\s|\w[\w, *]*( \(.*\))?: ", line) for line in lines[1:]):
            found.append(("lines", part))
        else:
            found.append(("text", " ".join(line.strip() for line in lines)))
    return tuple(found)


def _modules(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts][:MOST_MODULES]


@lru_cache(maxsize=64)
def _public(folder: str, stamps: tuple[tuple[str, int], ...]) -> tuple[tuple[PublicName, ...], str]:
    """The public names of a package in the order of `__all__`; read again when a file has changed."""
    trees: dict[Path, ast.Module] = {}
    for name, _ in stamps:
        try:
            trees[Path(name)] = ast.parse(Path(name).read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue  # a file that cannot be read has no reference; importing it says why
    root = trees.get(Path(folder) / "__init__.py")
    if root is None:
        return (), ""
    wanted = _exported(root) or [
        node.name for node in root.body if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
    ]
    defined = _definitions(trees, Path(folder))
    names = [_describe(name, defined[name]) for name in wanted if name in defined]
    return tuple(names), ast.get_docstring(root) or ""


def _exported(root: ast.Module) -> list[str]:
    for node in root.body:
        targets: Sequence[ast.expr] = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else ()
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = node.value  # type: ignore[attr-defined]
            if isinstance(value, ast.List | ast.Tuple):
                return [
                    item.value
                    for item in value.elts
                    if isinstance(item, ast.Constant)
                    and isinstance(item.value, str)
                    and not item.value.startswith("__")
                ]
    return []


def _definitions(trees: dict[Path, ast.Module], folder: Path) -> dict[str, ast.stmt]:
    """Name -> where it is defined: the package itself first, then its modules; tests' toys and references last."""
    found: dict[str, ast.stmt] = {}
    last = ("toy.py", "reference.py", "reproduce.py", "cli.py")
    for path in sorted(
        trees, key=lambda path: (path.name != "__init__.py" or path.parent != folder, path.name in last, str(path))
    ):
        for node in trees[path].body:
            for name in _names_of(node):
                found.setdefault(name, node)
    return found


def _names_of(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, Function | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def _describe(name: str, node: ast.stmt) -> PublicName:
    if isinstance(node, ast.ClassDef):
        members = [item for item in node.body if isinstance(item, Function)]
        maker = next((item for item in members if item.name == "__init__"), None)
        signature = _signature(node.name, maker, method=True) if maker else _fields(node)
        shown = tuple(_member(item) for item in members if not item.name.startswith("_") and not _is_setter(item))
        doc = blocks(ast.get_docstring(node) or "") or (blocks(ast.get_docstring(maker) or "") if maker else ())
        return PublicName(name, "class", signature, doc, shown)
    if isinstance(node, Function):
        return PublicName(name, "function", _signature(name, node), blocks(ast.get_docstring(node) or ""))
    return PublicName(name, "value", ast.unparse(node) if len(ast.unparse(node)) < 300 else "", ())


def _member(node: Function) -> Member:
    is_property = any(
        isinstance(item, ast.Name) and item.id in ("property", "cached_property") for item in node.decorator_list
    )
    if is_property:
        signature = node.name + (f" -> {ast.unparse(node.returns)}" if node.returns else "")
    else:
        signature = _signature(
            node.name,
            node,
            method=not any(isinstance(item, ast.Name) and item.id == "staticmethod" for item in node.decorator_list),
        )
    return Member(node.name, signature, blocks(ast.get_docstring(node) or ""))


def _is_setter(node: Function) -> bool:
    return any(isinstance(item, ast.Attribute) and item.attr in ("setter", "deleter") for item in node.decorator_list)


def _signature(name: str, node: Function, method: bool = False) -> str:
    arguments = node.args
    if method and (first := (arguments.posonlyargs or arguments.args)[:1]) and first[0].arg in ("self", "cls", "mcs"):
        arguments = ast.arguments(
            posonlyargs=arguments.posonlyargs[1:] if arguments.posonlyargs else [],
            args=arguments.args if arguments.posonlyargs else arguments.args[1:],
            vararg=arguments.vararg,
            kwonlyargs=arguments.kwonlyargs,
            kw_defaults=arguments.kw_defaults,
            kwarg=arguments.kwarg,
            defaults=arguments.defaults,
        )
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"{name}({ast.unparse(arguments)}){returns}"


def _fields(node: ast.ClassDef) -> str:
    """The signature that a dataclass or a pydantic model gets from its fields; '' for a class of another kind."""
    fields = [
        item
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and not item.target.id.startswith("_")
    ]
    made = any("dataclass" in ast.unparse(item) for item in node.decorator_list) or any(
        "Model" in ast.unparse(base) or "NamedTuple" in ast.unparse(base) for base in node.bases
    )
    return f"{node.name}({', '.join(ast.unparse(item) for item in fields)})" if fields and made else ""

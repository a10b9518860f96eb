"""The arrows of the design: who may import whom, and what a plain import may cost."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import paperworks

SOURCE = Path(paperworks.__file__).parent
HUB = "paperworks.hub"
DOORS = (f"{HUB}.web", f"{HUB}.cli", f"{HUB}.mcp")
INNER = tuple(f"{HUB}.{room}" for room in ("search", "digest", "ask", "trending"))

# who -> what it never imports
FORBIDDEN: dict[str, tuple[str, ...]] = {
    # doors translate; what they need they ask of the service
    **dict.fromkeys(DOORS, (f"{HUB}.store", f"{HUB}.search", f"{HUB}.ask", f"{HUB}.sources")),
    f"{HUB}.service": DOORS,
    **dict.fromkeys(INNER, (f"{HUB}.service", *DOORS)),
    f"{HUB}.store": (f"{HUB}.service", *INNER[:3], *DOORS),
    f"{HUB}.sources": (f"{HUB}.store", f"{HUB}.service", *INNER, *DOORS),
    f"{HUB}.trending": (f"{HUB}.store", "sqlalchemy"),  # pure arithmetic
    "paperworks.claims": (HUB, "paperworks.papers", "paperworks.nn"),
    "paperworks.papers": (HUB,),
    "paperworks.nn": (HUB, "paperworks.papers", "paperworks.claims"),
    **{
        f"paperworks.{module}": (HUB, "paperworks.papers", "paperworks.nn")
        for module in ("errors", "progress", "config", "catalogue")
    },
}


# (importing module, what it may import all the same): why
EXCEPTIONS = {
    # backup, restore and migrate work on the folder itself, before or instead of opening the hub
    (f"{HUB}.cli.keeping", f"{HUB}.store"),
}


@cache
def imports(source: Path) -> tuple[tuple[str, str, int], ...]:
    """(importing module, imported name, line) over the whole package, imports inside of functions included."""
    return tuple(_imports(source))


def _imports(source: Path) -> Iterator[tuple[str, str, int]]:
    for path in sorted(source.rglob("*.py")):
        parts = ("paperworks", *path.relative_to(source).with_suffix("").parts)
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        package = parts[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield module, alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
                for alias in node.names:
                    yield module, f"{base}.{alias.name}", node.lineno


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_arrow_points_the_wrong_way(room: str) -> None:
    wrong = [
        f"{module}, line {line}: {name}"
        for module, name, line in imports(SOURCE)
        if inside(module, room)
        and any(inside(name, target) for target in FORBIDDEN[room])
        and not any(module == who and inside(name, what) for who, what in EXCEPTIONS)
    ]
    assert wrong == []


def test_a_paper_imports_another_one_only_by_its_public_name() -> None:
    """`from paperworks.papers.other import Name` and nothing deeper."""
    wrong = []
    for module, name, line in imports(SOURCE):
        parts = module.split(".")
        if parts[:2] != ["paperworks", "papers"] or len(parts) < 3 or not inside(name, "paperworks.papers"):
            continue
        target = name.split(".")
        if len(target) > 2 and target[2] != parts[2]:
            other = SOURCE / "papers" / target[2]
            names_a_module = len(target) > 3 and ((other / f"{target[3]}.py").exists() or (other / target[3]).is_dir())
            if names_a_module or len(target) > 4 or target[-1].startswith("_"):
                wrong.append(f"{module}, line {line}: {name}")
    assert wrong == []


def test_the_reader_of_imports_sees_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above cannot fail if this walker is blind: a planted wrong arrow of each kind is found."""
    (tmp_path / "papers" / "a").mkdir(parents=True)
    text = "import paperworks.hub.store\ndef f():\n    from ...hub import jobs\n    from . import toy\n    from ..b.core import x\n"
    (tmp_path / "papers" / "a" / "core.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    assert [name for _, name, _ in imports(SOURCE)] == [
        "paperworks.hub.store", "paperworks.hub.jobs", "paperworks.papers.a.toy", "paperworks.papers.b.core.x",
    ]  # fmt: skip
    with pytest.raises(AssertionError):
        test_no_arrow_points_the_wrong_way("paperworks.papers")


def loaded_by(script: str) -> set[str]:
    """The modules that a fresh process has loaded after `script`."""
    script += "\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets", "lithops"}


def test_import_paperworks_loads_almost_nothing() -> None:
    bare = loaded_by("")
    extra = {name.partition(".")[0] for name in loaded_by("import paperworks") - bare}
    assert extra <= {"paperworks", "types", "__future__", "importlib", "warnings"}


def test_reading_the_catalogue_imports_no_paper_and_no_array_library() -> None:
    loaded = loaded_by("from paperworks.catalogue import catalogue; catalogue()")
    assert not loaded & (HEAVY | {"numpy", "sklearn", "jinja2"})
    assert not [name for name in loaded if name.startswith("paperworks.papers.")]


EVERYTHING = """
import importlib, pkgutil
import paperworks.cli
for room in ("paperworks.hub", "paperworks.claims"):
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(package.__path__, room + "."):
        if "migrations.versions" in module.name or module.name.endswith((".env", "__main__")):
            continue
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            assert hasattr(error, "extra"), f"{module.name}: {error}"  # MissingExtra: an optional install that is not there
"""


@pytest.mark.slow
def test_neither_hub_nor_claims_nor_commands_reach_torch() -> None:
    loaded = loaded_by(EVERYTHING)
    assert not loaded & HEAVY
    assert not [name for name in loaded if name.startswith(("paperworks.papers.", "paperworks.nn."))]


def test_the_exports_of_claims_are_all_there() -> None:
    import paperworks.claims as claims

    assert [name for name in claims.__all__ if not hasattr(claims, name)] == []
    assert sorted(claims._HOME) == sorted(claims.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = claims.nothing

"""Templates: escaping cannot be switched off, nothing is computed in them, nothing inline that the policy forbids."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import nodes

from paperworks.hub.web.render import environment

FOLDER = Path(__file__).parents[2] / "src/paperworks/hub/web/templates"
TEMPLATES = sorted(path.name for path in FOLDER.glob("*.html"))
ARITHMETIC = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow)


def test_there_are_templates() -> None:
    assert len(TEMPLATES) > 10


@pytest.mark.parametrize("name", TEMPLATES)
def test_escaping_is_never_switched_off(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b", text)
    assert not re.search(r"\bautoescape\b", text)
    assert "Markup" not in text


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_compute_nothing(name: str) -> None:
    tree = environment().parse((FOLDER / name).read_text(encoding="utf-8"))
    assert not list(tree.find_all(ARITHMETIC))


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_hold_no_inline_script_style_or_handler(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*src=)", text)
    assert "<style" not in text
    assert not re.search(r"<[^>]*\s(?:style|on[a-z]+)\s*=", text)
    assert not re.search(r"(?:src|href)=\"https?://", text), "a page asks no other host for anything"


def test_the_environment_escapes() -> None:
    assert environment().from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"

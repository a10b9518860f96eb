"""The conformance suite itself: a good paper passes, and every way to break one turns a check red."""

from __future__ import annotations

import math

import pytest

from paperworks.testing import CheckFailed, check_paper, paper_checks
from tests.claims.test_runner import body
from tests.conftest import INIT, REPRODUCE, MakePaper


def test_a_whole_paper_passes_and_says_how_long_each_check_took(make_paper: MakePaper) -> None:
    seconds = check_paper(make_paper())
    assert list(seconds) == [
        "paper.toml", "files", "public-names", "docstrings", "claims-have-functions", "imports", "readme-example", "smoke-halves",
    ]  # fmt: skip
    assert all(math.isfinite(value) for value in seconds.values())


def test_it_takes_a_slug_a_package_or_a_folder(make_paper: MakePaper) -> None:
    paper = make_paper(install=True)
    names = [str(check) for check in paper_checks(paper)]
    for way in ("made_up", paper.folder, paper.load()):
        assert [str(check) for check in paper_checks(way)] == names


def test_a_method_to_come_has_only_its_facts_checked(make_paper: MakePaper) -> None:
    paper = make_paper(files={"__init__.py": None, "README.md": None, "toy.py": None, "reproduce.py": None})
    assert list(check_paper(paper)) == ["paper.toml"]


BROKEN = {
    "no-toy": ({"toy.py": None}, "lacks toy.py"),
    "no-readme": ({"README.md": None}, "lacks README.md"),
    "short-readme": ({"README.md": "# x\n```python\nx = 1\n```\n"}, "says too little"),
    "no-all": ({"__init__.py": '"""One.\n\nTwo.\n"""\n'}, "needs an __all__"),
    "lost-name": ({"__init__.py": INIT.replace('["halve"]', '["halve", "lost"]')}, "names lost"),
    "no-docstring": ({"__init__.py": INIT.replace('    """Half of a number."""\n', "")}, "without a docstring: halve"),
    "bare-method": (
        {"__init__.py": INIT.replace('["halve"]', '["Halver"]') + '\nclass Halver:\n    """Halves."""\n    def run(self):\n        pass\n'},
        "without a docstring: Halver.run",
    ),
    "no-module-docstring": ({"__init__.py": INIT[INIT.index("__all__") :]}, "needs a docstring"),
    "no-function": ({"reproduce.py": "x = 1\n"}, "no function for: halves"),
    "unknown-claim": ({"reproduce.py": REPRODUCE.replace('"halves"', '"doubles"')}, "does not claim"),
    "imports-hub": ({"toy.py": '"""Toy."""\nimport paperworks.hub\n'}, "a paper never imports the hub"),
    "imports-heavy": ({"toy.py": '"""Toy."""\nimport accelerate_stand_in\nimport sys\nsys.modules["torch"] = sys\n', "x": None}, "torch|cannot be imported"),
    "example-fails": ({"README.md": "word " * 50 + "\n```python\nassert 1 == 2\n```\n"}, "does not run: AssertionError"),
    "no-example": ({"README.md": "word " * 50}, "no ```python block"),
    "wrong-name-in-rule": ({"reproduce.py": REPRODUCE.replace('"ratio": ratio', '"ratios": ratio')}, "speaks of ratio"),
    "smoke-fails": ({"reproduce.py": body("raise ValueError('no')")}, "ValueError: no"),
    "smoke-needs-data": ({"reproduce.py": body("run.data.path('none/such')")}, "needs nothing from outside"),
    "broken-package": ({"__init__.py": "raise RuntimeError('bad day')"}, "bad day"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_each_way_to_break_a_paper_is_told(make_paper: MakePaper, files: dict[str, str | None], says: str) -> None:
    with pytest.raises(CheckFailed, match=says):
        check_paper(make_paper(files=files))

"""What many tests share: a made-up paper in a folder of its own, a hub's folder, and the data sets that not every machine has."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from paperworks import catalogue as catalogue_module
from paperworks.catalogue import RunnablePaper, read_spec
from paperworks.config import Settings, load

# A deadline in wall time fails on a busy machine and says nothing about the code.
settings.register_profile("paperworks", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("paperworks")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _known_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests leaks in; libraries stay offline."""
    for name in list(os.environ):
        if name.startswith("PAPERWORKS_") and name != "PAPERWORKS_DATA":
            monkeypatch.delenv(name)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Settings whose folder is temporary."""
    folder = tmp_path / "home"
    folder.mkdir()
    return load(folder)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets; the test is skipped on a machine that has none."""
    named = os.environ.get("PAPERWORKS_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder with data sets here; set PAPERWORKS_DATA to one")
    return folder


CLAIM = """
[[claims]]
id = "{id}"
statement = "The number is halved at each step."
metric = "ratio of two steps"
paper = {{ value = 0.5, where = "Table 1" }}
reproduced = "{reproduced}"
refuted = "{refuted}"
"""

PAPER = """
slug = "{slug}"
title = "A made-up paper"
authors = ["A. Writer"]
published = 2024-01-01
categories = ["cs.LG"]
task = "theory"
summary = "A made-up paper that halves numbers, so that tests have something to measure."
use = "Halve a number in a test."
{more}
"""

INIT = '''"""Halve numbers.

A paper made up for tests.

>>> halve(4)
2.0
"""

__all__ = ["halve"]


def halve(number):
    """Half of a number."""
    return number / 2
'''

README = """# Halving

Use this when a number is twice as large as it should be, and not when it is right already, since then it would be wrong afterwards.
Its limits are those of floating point numbers: the smallest of them cannot be halved, and becomes zero without a warning.

```python
from {slug} import halve

assert halve(4) == 2
```
"""

REPRODUCE = """
from paperworks.claims import Measurement, Series, claim


@claim("halves")
def halves(run):
    run.progress(1, 2, "first")
    ratio = 0.5 + 0.01 * run.seed
    run.progress(2, 2, "second")
    return Measurement({"ratio": ratio}, series={"sizes": Series([1.0, ratio], y_label="size")})
"""

RULES = {"reproduced": "abs(ratio - 0.5) < 0.1", "refuted": "abs(ratio - 0.5) >= 0.3"}

MakePaper = Callable[..., RunnablePaper]


@pytest.fixture
def make_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePaper]:
    """Makes a whole paper in a temporary folder that can be imported, here and in worker processes.

    make_paper(reproduce=..., claims={id: {reproduced, refuted}}, slug=..., files={name: text or None}, install=False)
    """
    root = tmp_path / "site"
    root.mkdir()
    made: list[str] = []
    monkeypatch.syspath_prepend(root)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])))

    def make(
        reproduce: str = REPRODUCE,
        claims: dict[str, dict[str, str]] | None = None,
        slug: str = "made_up",
        more: str = "",
        files: dict[str, str | None] | None = None,
        install: bool = False,
    ) -> RunnablePaper:
        folder = root / slug
        folder.mkdir()
        listed = "".join(CLAIM.format(id=i, **(RULES | rules)) for i, rules in (claims or {"halves": RULES}).items())
        texts: dict[str, str | None] = {
            "paper.toml": PAPER.format(slug=slug, more=more) + listed,
            "__init__.py": INIT,
            "README.md": README.format(slug=slug),
            "toy.py": '"""Made-up numbers."""\n',
            "reproduce.py": reproduce,
        }
        for name, text in (texts | (files or {})).items():
            if text is not None:
                (folder / name).write_text(text, encoding="utf-8")
        made.append(slug)
        if install:
            info = root / f"{slug}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {slug}\nVersion: 1.0\n", encoding="utf-8")
            (info / "entry_points.txt").write_text(f"[paperworks.papers]\n{slug} = {slug}\n", encoding="utf-8")
        importlib.invalidate_caches()
        catalogue_module.catalogue.cache_clear()
        return RunnablePaper(read_spec(folder / "paper.toml"), folder, slug, builtin=False)

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] in made]:
        del sys.modules[name]
    catalogue_module.catalogue.cache_clear()

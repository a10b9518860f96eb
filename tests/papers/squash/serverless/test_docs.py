"""The page about functions: its first example runs, and what it says of names is true."""

from __future__ import annotations

import re
from pathlib import Path

from paperworks.papers.squash.serverless import faults

PAGE = Path(__file__).parents[4] / "docs" / "squash-serverless.md"


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    example = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S).group(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAPERWORKS_SQUASH_CACHE", str(tmp_path / "kept"))
    names: dict[str, object] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    assert names["ids"].shape == (5, 10)
    assert (names["years"][names["ids"]] >= 2020).all()
    assert capsys.readouterr().out.endswith("USD\n")


def test_every_fault_of_the_table_can_be_made():
    assert {"die", "lost", "hang", "twice", "corrupt", "cut", "other-request", "short", "wrong-rows"} <= set(
        faults.FAULTS
    )

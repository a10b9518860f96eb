"""A third party's paper: found by its entry point, listed, measured, its commands mounted; a broken one is named and skipped."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from paperworks import cli
from paperworks.catalogue import catalogue
from tests.conftest import MakePaper

COMMANDS = '''"""Commands."""
import typer

app = typer.Typer()


@app.command()
def half(number: float) -> None:
    """Halve a number."""
    typer.echo(f"{number / 2:g}")


@app.command()
def fail() -> None:
    """Fail as our own errors do."""
    from paperworks.errors import InputError
    raise InputError("that is no number; give one")
'''


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> int:
    """The exit code of the whole command, entry point included."""
    monkeypatch.setattr(sys, "argv", ["paperworks", "--home", str(tmp_path / "home"), *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_a_plugin_is_in_the_catalogue_and_in_the_list(
    make_paper: MakePaper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_paper(install=True)
    assert "made_up" in catalogue()
    assert run(monkeypatch, tmp_path, "papers", "--json") == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out)["papers"] if row["slug"] == "made_up"]
    assert (row["state"], row["claims"], row["builtin"]) == ("runs here", 1, False)


@pytest.mark.parametrize("more", [(), ("--in-process",)])
def test_a_plugin_is_measured_at_smoke(
    make_paper: MakePaper,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
) -> None:
    make_paper(install=True)
    assert run(monkeypatch, tmp_path, "reproduce", "made-up", "--scale", "smoke", "--json", *more) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["slug"], record["scale"], record["verdict"], record["state"]) == (
        "made_up",
        "smoke",
        "not-measured",
        "done",
    )


def test_its_commands_are_mounted_and_loaded_only_when_called(
    make_paper: MakePaper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_paper(install=True, files={"cli.py": COMMANDS})
    assert run(monkeypatch, tmp_path, "--help") == 0
    help_page = capsys.readouterr().out
    assert "made_up" in help_page
    assert "Halve a number in a test." in help_page
    assert "made_up" not in sys.modules
    for name in ("made_up", "made-up"):
        assert run(monkeypatch, tmp_path, name, "half", "9") == 0
        assert capsys.readouterr().out == "4.5\n"


def test_an_error_of_ours_is_one_sentence(
    make_paper: MakePaper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_paper(install=True, files={"cli.py": COMMANDS})
    assert run(monkeypatch, tmp_path, "made_up", "fail") == 1
    assert capsys.readouterr().err == "that is no number; give one\n"
    assert run(monkeypatch, tmp_path, "-vv", "made_up", "fail") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("commands", "says"),
    [
        ("raise RuntimeError('bad day')", "RuntimeError: bad day"),
        ("import nobody_has_this", "nobody_has_this"),
        ("app = 3", "not a typer.Typer"),
    ],
)
def test_broken_commands_are_named_and_stop_nothing_else(
    make_paper: MakePaper,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    commands: str,
    says: str,
) -> None:
    make_paper(install=True, files={"cli.py": commands})
    assert run(monkeypatch, tmp_path, "--help") == 0
    assert run(monkeypatch, tmp_path, "papers") == 0
    capsys.readouterr()
    assert run(monkeypatch, tmp_path, "made_up") == 1
    told = capsys.readouterr().err
    assert told.startswith("the commands of made_up cannot be loaded")
    assert says in told


def test_a_plugin_that_raises_is_named_and_skipped(
    make_paper: MakePaper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_paper(install=True)
    (make_paper(slug="broken", install=True).folder / "paper.toml").write_text("slug =", encoding="utf-8")
    shutil.rmtree(make_paper(slug="gone", install=True).folder)
    assert "made_up" in catalogue()
    assert sorted(problem.name for problem in catalogue().problems) == ["broken", "gone"]
    assert run(monkeypatch, tmp_path, "papers") == 0
    captured = capsys.readouterr()
    assert "made_up" in captured.out
    assert "plugin 'broken'" in captured.err


def test_a_plugin_cannot_take_the_name_of_another_paper(make_paper: MakePaper) -> None:
    make_paper(install=True)
    second = Path(make_paper(slug="second", install=True).folder)
    (second.parent / "second-1.0.dist-info" / "entry_points.txt").write_text("[paperworks.papers]\nsecond = made_up\n")
    catalogue.cache_clear()
    assert "is taken by another paper" in catalogue().problems[0].message

"""The verbs as people and programs type them: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from paperworks.cli import app
from paperworks.errors import NotFound, PaperworksError, StoreError

LINES = [
    {"id": f"2301.{n:05}", "title": f"Title {n}", "authors": ["A B"], "abstract": "About it.", "date": "2026-08-20"}
    for n in range(3)
]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def call(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(app, ["--home", str(tmp_path / "hub"), *arguments], input=input)

    return call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "papers.jsonl"
    made.write_text("".join(json.dumps(line) + "\n" for line in LINES) + "{bad\n")
    return made


def test_init_makes_the_folder_and_says_what_comes_next(run: Any, tmp_path: Path) -> None:
    result = run("init")
    assert result.exit_code == 0
    assert (tmp_path / "hub" / "hub.sqlite").exists()
    assert result.stdout.count("  paperworks ") == 3
    again = run("init", "--json")
    assert json.loads(again.stdout)["schema"] == "0001"


def test_import_ends_with_three_when_something_was_refused(run: Any, file: Path) -> None:
    result = run("import", str(file), "--json")
    assert result.exit_code == 3
    view = json.loads(result.stdout)
    assert (view["new"], view["refused"], view["state"]) == (3, 1, "refusals")
    assert run("import", str(file)).exit_code == 0, "unchanged: nothing to read, nothing refused"
    entries = json.loads(run("intake", "log", "--refused", "--json").stdout)
    assert [entry["ordinal"] for entry in entries] == [4]
    assert run("intake", "retry").exit_code == 3


def test_import_reads_standard_input(run: Any) -> None:
    result = run("import", "-", "--json", input="".join(json.dumps(line) + "\n" for line in LINES))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["new"] == 3


def test_a_failed_import_ends_with_one(run: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{bad\n" * 30)
    result = run("import", str(bad), "--json")
    assert result.exit_code == 1
    assert "30 of 30 entries" in json.loads(result.stdout)["message"]
    result = run("import", str(tmp_path / "nothing.jsonl"))
    assert isinstance(result.exception, PaperworksError)


def test_wrong_use_ends_with_two(run: Any) -> None:
    assert run("import").exit_code == 2
    assert run("source", "add", "hf-daily", "--option", "nonsense").exit_code == 2
    assert run("intake", "log", "--last", "0").exit_code == 2


def test_a_day_and_a_paper_are_shown(run: Any, file: Path) -> None:
    run("import", str(file))
    result = run("day")
    assert result.exit_code == 0
    assert "2026-08-20: 3 papers" in result.stdout
    assert "2301.00001" in result.stdout
    assert json.loads(run("day", "2026-08-20", "--json").stdout)["total"] == 3
    assert "No source is asked" in run("day", "2026-08-19").stdout
    assert json.loads(run("paper", "2301.00001", "--json").stdout)["card"]["title"] == "Title 1"
    assert run("paper", "2301.00001").stdout.startswith("Title 1\nA B\n2301.00001")
    assert isinstance(run("paper", "2301.77777").exception, NotFound)


@pytest.mark.parametrize(
    ("format", "start"), [("jsonl", '{"title"'), ("bibtex", "@"), ("ris", "TY  - GEN"), ("csv", "title,authors")]
)
def test_export_prints_nothing_but_papers(run: Any, file: Path, format: str, start: str) -> None:
    run("import", str(file))
    result = run("export", "--format", format)
    assert result.exit_code == 0
    assert result.stdout.startswith(start)
    assert "Title 2" in result.stdout


def test_sources_are_added_and_listed(run: Any) -> None:
    run("init")
    assert "no sources yet" in run("source", "list").stdout
    assert "no source was asked" in run("intake").stdout
    assert run("source", "add", "hf-daily", "--since", "2026-08-01").exit_code == 0
    assert run("source", "add", "arxiv", "--set", "cs:cs:LG", "--set", "stat:stat:ML", "--name", "mine").exit_code == 0
    (hf, mine) = json.loads(run("source", "list", "--json").stdout)
    assert (hf["kind"], hf["config"]) == ("hf-daily", {"since": "2026-08-01"})
    assert (mine["name"], mine["config"]) == ("mine", {"sets": ["cs:cs:LG", "stat:stat:ML"]})
    assert "paperworks intake --source" in mine["explanation"]
    result = run("intake", "--source", "other")
    assert isinstance(result.exception, NotFound)


def test_a_backup_is_made_and_restored(run: Any, file: Path, tmp_path: Path) -> None:
    run("import", str(file))
    target = tmp_path / "hub.zip"
    result = run("backup", str(target), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["bytes"] == target.stat().st_size
    (tmp_path / "hub" / "hub.sqlite").write_bytes(b"damaged")
    result = run("restore", str(target), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["kept"]
    assert json.loads(run("day", "--json").stdout)["total"] == 3


def test_migrate_and_doctor(run: Any, file: Path) -> None:
    assert isinstance(run("doctor").exception, StoreError), "there is no hub yet"
    run("import", str(file))
    assert run("migrate").stdout == "the tables stand at 0001 already\n"
    result = run("doctor", "--json")
    rows = {row["what"]: row for row in json.loads(result.stdout)}
    assert rows["schema"]["well"] == "yes"
    assert rows["papers"]["finding"].startswith(("3 ", "2"))
    assert result.exit_code == int(any(row["well"] == "no" for row in rows.values()))


def test_every_verb_has_json() -> None:
    for verb in ("init", "add", "import", "export", "day", "paper", "doctor", "backup", "restore", "migrate"):
        assert "--json" in CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).stdout, verb
    for group, verb in (("source", "add"), ("source", "list"), ("intake", "log"), ("intake", "retry")):
        assert "--json" in CliRunner().invoke(app, [group, verb, "--help"], env={"COLUMNS": "200"}).stdout, verb

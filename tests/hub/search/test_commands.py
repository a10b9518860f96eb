"""The verbs of search and votes on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from paperworks.catalogue import Catalogue
from paperworks.cli import app
from paperworks.config import Settings
from paperworks.hub.hub import open_hub

from .conftest import bring, made_up


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("commands")
    with open_hub(Settings(home=home), catalogue=Catalogue()) as hub:
        bring(hub, *(made_up(n) for n in range(40)))
    return home


def run(place: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(place), *words])


def test_reindex_says_what_it_did(place: Path) -> None:
    done = run(place, "reindex", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["vectors"] == "refit"
    assert run(place, "reindex").stdout.strip() == "everything was up to date"
    assert json.loads(run(place, "reindex", "--force", "--json").stdout)["vectors"] == "refit"


def test_search_prints_papers_and_why(place: Path) -> None:
    done = run(place, "search", "token8", "has:code", "--mode", "words")
    assert done.exit_code == 0
    assert "nothing found" in done.stdout
    done = run(place, "search", "token10", "has:code", "-n", "1")
    lines = done.stdout.splitlines()
    assert lines[1].startswith("2608.10010  ")
    assert "with ‘token10’" in done.stdout


def test_search_as_json_pages_on(place: Path) -> None:
    first = json.loads(run(place, "search", "cat:cs", "-n", "5", "--json").stdout)
    second = json.loads(run(place, "search", "cat:cs", "-n", "5", "--cursor", first["next"], "--json").stdout)
    refs = [card["ref"] for page in (first, second) for card in page["cards"]]
    assert len(set(refs)) == 10


def test_similar_prints_what_is_shared(place: Path) -> None:
    done = run(place, "similar", "2608.10000", "-n", "3", "--json")
    assert {int(card["ref"][-4:]) % 4 for card in json.loads(done.stdout)} == {0}
    assert "shares" in run(place, "similar", "2608.10000", "-n", "3").stdout


def test_a_vote_is_seen_at_the_top(place: Path) -> None:
    assert run(place, "vote", "2608.10017").stdout.strip() == "voted for 2608.10017"
    assert "voted already" in run(place, "vote", "2608.10017").stdout
    top = json.loads(run(place, "top", "--window", "day", "--json").stdout)
    assert (top[0]["ref"], top[0]["heat"]["readers"]) == ("2608.10017", 1)
    assert "1 reader here" in run(place, "top").stdout
    assert json.loads(run(place, "unvote", "2608.10017", "--json").stdout)["changed"] is True
    assert "there was no vote" in run(place, "unvote", "2608.10017").stdout


def test_what_is_not_there_and_what_is_no_choice(place: Path) -> None:
    assert run(place, "vote", "2401.00001").exit_code != 0
    assert run(place, "top", "--window", "hour").exit_code == 2
    assert run(place, "search").exit_code == 2

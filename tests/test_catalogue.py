"""Reading `paper.toml`: each mistake is named with its file and field, and stops nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from paperworks.catalogue import find, read_spec
from paperworks.errors import CatalogueError, NotFound
from tests.conftest import CLAIM, PAPER, RULES


def write(folder: Path, text: str, slug: str = "made_up") -> Path:
    (folder / slug).mkdir(parents=True, exist_ok=True)
    path = folder / slug / "paper.toml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = PAPER.format(slug="made_up", more="") + CLAIM.format(id="halves", **RULES)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, GOOD))
    assert (spec.slug, [claim.id for claim in spec.claims]) == ("made_up", ["halves"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "\n=", "is not valid TOML"),
        (GOOD.replace('title = "A made-up paper"', ""), "title: Field required"),
        (GOOD.replace('task = "theory"', 'task = "cooking"'), "task"),
        (GOOD.replace("[[claims]]", 'colour = "red"\n[[claims]]'), "colour"),
        (GOOD + CLAIM.format(id="halves", **RULES), "these occur twice: halves"),
        (GOOD.replace("abs(ratio - 0.5) < 0.1", "ratio >"), r"claim 'halves'.*cannot be read"),
        (GOOD.replace('id = "halves"', 'id = "Halves It"'), "claims.0.id"),
        (GOOD.replace('slug = "made_up"', 'slug = "other"'), "the folder is 'made_up'"),
        (GOOD.replace("2024-01-01", '"soon"'), "published"),
    ],
)
def test_each_mistake_is_a_sentence_with_the_file(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CatalogueError, match=says) as caught:
        read_spec(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogueError, match="cannot be read"):
        read_spec(path)


def test_a_broken_folder_is_named_and_the_others_are_served(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, "slug =", slug="broken")
    found = find(tmp_path, plugins=())
    assert list(found) == ["made_up"]
    assert [problem.name for problem in found.problems] == ["broken"]


def test_a_folder_with_facts_alone_is_a_method_to_come(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    paper = find(tmp_path, plugins=())["made_up"]
    assert not paper.has_method
    with pytest.raises(NotFound, match="is to come"):
        paper.load()


def test_unknown_names_are_told_with_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    found = find(tmp_path, plugins=())
    with pytest.raises(NotFound, match="known: made_up"):
        found["other"]
    with pytest.raises(NotFound, match="its claims are: halves"):
        found["made_up"].claim("other")

"""CSV files are read, prepared as in the paper, enriched and compared from the command line."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from paperworks.errors import InputError
from paperworks.papers.threshold_features import toy
from paperworks.papers.threshold_features.cli import app
from paperworks.papers.threshold_features.table import Preparation, read_csv


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    X, y = toy.steps(80)
    colours = ["red", "green", "blue"]
    lines = ["id;day;size;twice;same;colour;price"]
    for i, (row, value) in enumerate(zip(X, y, strict=True)):
        day = f"2024-01-{i % 28 + 1:02d}"
        lines.append(f"{i + 1};{day};{row[0]};{2 * row[0]};7;{colours[i % 3]};{value}")
    lines[5] = lines[5].replace("green", "?")
    return write(tmp_path / "data.csv", "\n".join(lines))


def test_a_table_is_prepared_as_in_the_paper(data: Path) -> None:
    header, rows = read_csv(data)
    preparation = Preparation.learn(header, rows, "price")
    assert preparation.names == ["size", "colour=blue", "colour=green", "colour=red"]
    assert preparation.left_out == {
        "id": "numbers the rows",
        "day": "dates",
        "twice": "repeats another column",
        "same": "constant",
    }
    X, y, kept = preparation.apply(header, rows)
    assert X.shape == (79, 4)
    assert len(y) == 79
    assert 4 not in kept
    assert (X[:, 1:].sum(axis=1) == 1).all()
    unseen, _, _ = preparation.apply(["size", "colour"], [["0.5", "mauve"]], with_target=False)
    assert unseen.tolist() == [[0.5, 0, 0, 0]]


def test_enrich_writes_training_rows_out_of_fold_and_new_rows_apart(data: Path, tmp_path: Path) -> None:
    new = write(tmp_path / "new.csv", "colour,size\nred,0.1\nblue,-0.4\n")
    out, new_out = tmp_path / "out.csv", tmp_path / "new_out.csv"
    arguments = [
        "enrich",
        str(data),
        "--target",
        "price",
        "--out",
        str(out),
        "-S",
        "3",
        "--new",
        str(new),
        "--new-out",
        str(new_out),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "left out twice: repeats another column" in result.output
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 79
    names = list(rows[0])
    assert names[:4] == ["size", "colour=blue", "colour=green", "colour=red"]
    assert all(name.startswith("P(y<=") for name in names[4:7])
    assert names[7] == "price"
    P = np.array([[float(row[name]) for name in names[4:7]] for row in rows])
    assert (np.diff(P, axis=1) >= 0).all()
    with new_out.open() as file:
        assert [len(row) for row in csv.reader(file)] == [7, 7, 7]
    before = out.read_bytes()
    CliRunner().invoke(app, arguments)
    assert out.read_bytes() == before


def test_compare_prints_the_paper_s_table_and_draws_ranks(data: Path, tmp_path: Path) -> None:
    svg, scores = tmp_path / "ranks.svg", tmp_path / "scores.csv"
    result = CliRunner().invoke(
        app,
        [
            "compare",
            str(data),
            "--target",
            "price",
            "-S",
            "2",
            "-S",
            "4",
            "--folds",
            "3",
            "--svg",
            str(svg),
            "--scores",
            str(scores),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "| linear | 4 |" in result.output
    assert svg.read_text().startswith("<svg")
    assert len(scores.read_text().splitlines()) == 1 + 2 * 3 * 3
    wrong = CliRunner().invoke(app, ["compare", str(data), "--target", "price", "--regressor", "magic"])
    assert isinstance(wrong.exception, InputError)
    assert "linear, ridge, tree, forest, boosting" in str(wrong.exception)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header line"),
        ("a,b\n", "header line"),
        ("a,a\n1,2\n", "'a' more than once"),
        ("a,b\n1,2\n3\n", "row 3: 1 fields instead of the header's 2"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_csv(write(tmp_path / "x.csv", text))


def test_the_target_must_be_numbers_and_something_must_be_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'z'; the columns are: a, b"):
        Preparation.learn(["a", "b"], [["1", "2"]], "z")
    with pytest.raises(InputError, match="row 3 holds 'dear'"):
        Preparation.learn(["a", "b"], [["1", "2"], ["2", "dear"]], "b")
    with pytest.raises(InputError, match="no column is left"):
        Preparation.learn(["a", "b"], [["1", "2"], ["1", "3"]], "b")
    learned = Preparation.learn(["a", "b"], [["1", "2"], ["5", "3"]], "b")
    with pytest.raises(InputError, match="lacks the columns a"):
        learned.apply(["b"], [["1"]])
    with pytest.raises(InputError, match="'a' holds numbers, but row 2 holds 'x'"):
        learned.apply(["a", "b"], [["x", "1"]])
    with pytest.raises(InputError, match="every row has a missing cell"):
        learned.apply(["a", "b"], [["", "1"]])


def test_compressed_files_and_missing_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress("﻿a\tb\n1\t2\n".encode()))
    assert read_csv(path) == (["a", "b"], [["1", "2"]])
    with pytest.raises(InputError, match="no file"):
        read_csv(tmp_path / "nothing.csv")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_csv(path)

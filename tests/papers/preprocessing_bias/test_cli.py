"""The commands, on files as people have them."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from typer.testing import CliRunner

from paperworks.errors import InputError
from paperworks.papers.preprocessing_bias import RareCategoryGrouper, preprocessing_bias, toy
from paperworks.papers.preprocessing_bias.cli import app

RUN = CliRunner()


def saved(folder: Path, pipeline: object, table: pd.DataFrame) -> list[str]:
    joblib.dump(pipeline, folder / "pipeline.joblib")
    table.to_csv(folder / "data.csv", index=False)
    return ["audit", str(folder / "pipeline.joblib"), str(folder / "data.csv"), "--target", "y", "--trust"]


def noise() -> pd.DataFrame:
    X, y = toy.pure_noise(np.random.default_rng(0), n=40, d=60)
    return pd.DataFrame(X, columns=[f"c{i}" for i in range(60)]).assign(y=y)


def test_audit_gives_the_numbers_of_the_function(tmp_path: Path) -> None:
    table, model = noise(), make_pipeline(StandardScaler(), SelectKBest(k=5), LogisticRegression())
    call = [*saved(tmp_path, model, table), "--outside", "all", "--repeats", "3"]
    numbers = json.loads(RUN.invoke(app, [*call, "--json"]).stdout)
    direct = preprocessing_bias(
        model, table.drop(columns="y"), table["y"].to_numpy(float), outside="all", n_repeats=3, n_splits=3
    )
    assert numbers["verdict"] == "leak"
    assert {row["name"]: row["value"] for row in numbers["rows"]}["gap"] == pytest.approx(direct.gap_, rel=1e-9)
    page = RUN.invoke(app, [*call, "--plot", str(tmp_path / "plot.svg"), "--fail-above", "0.05"])
    assert page.exit_code == 1
    assert "Leak: selectkbest" in page.output
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")


def test_audit_takes_texts_missing_cells_and_groups(tmp_path: Path) -> None:
    X, y = toy.categories(np.random.default_rng(0), n=60, n_categories=6)
    table = pd.DataFrame({"kind": X[:, 0], "site": np.arange(60) // 6, "y": y})
    model = make_pipeline(RareCategoryGrouper(min_count=3), OneHotEncoder(handle_unknown="ignore"), Ridge())
    call = [*saved(tmp_path, model, table), "--groups", "site", "--outside", "rarecategorygrouper", "--repeats", "2"]
    found = RUN.invoke(app, call)
    assert found.exit_code == 0, found.exception
    assert "rarecategorygrouper" in found.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--trust": None}, "--trust"),
        ({"--target": "z"}, "no column 'z'"),
        ({"--groups": "z"}, "no column 'z'"),
        ({"--outside": "scaler"}, "scaler"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    call = saved(tmp_path, make_pipeline(StandardScaler(), LogisticRegression()), noise())
    for name, value in change.items():
        call = [part for part in call if part != name] if value is None else [*call, name, value]
    found = RUN.invoke(app, call)
    assert isinstance(found.exception, InputError)
    assert message in str(found.exception)


@pytest.mark.parametrize(
    ("text", "message"), [("a,y\n1,2\n3\n", "line 3"), ("a,y\n", "no rows"), ("a,y\n1,\n2,1\n", "empty")]
)
def test_broken_tables_are_named(tmp_path: Path, text: str, message: str) -> None:
    call = saved(tmp_path, make_pipeline(StandardScaler(), LogisticRegression()), noise())
    (tmp_path / "data.csv").write_text(text)
    assert message in str(RUN.invoke(app, call).exception)


def test_lint_finds_in_folders_and_says_so_by_its_exit(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("cross_val_score(make_pipeline(StandardScaler(), model), X, y)\n")
    clean = RUN.invoke(app, ["lint", str(tmp_path)])
    assert clean.exit_code == 0
    (tmp_path / "bad.py").write_text("Z = StandardScaler().fit_transform(X)\ncross_val_score(model, Z, y)\n")
    found = RUN.invoke(app, ["lint", str(tmp_path)])
    assert found.exit_code == 1
    assert "bad.py:1: 'Z'" in found.stdout
    assert json.loads(RUN.invoke(app, ["lint", str(tmp_path), "--json"]).stdout)[0]["used_line"] == 2

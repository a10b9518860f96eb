"""`paperworks preprocessing_bias audit` for a saved pipeline and a CSV file, `lint` for scripts and notebooks."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from paperworks.errors import InputError
from paperworks.papers.preprocessing_bias.audit import preprocessing_bias
from paperworks.papers.preprocessing_bias.lint import audit_notebook
from paperworks.progress import terminal

app = typer.Typer(help="How wrong is a score whose preprocessing saw all rows?", no_args_is_help=True)


@app.command()
def audit(
    pipeline: Annotated[Path, typer.Argument(help="a scikit-learn pipeline saved by joblib, fitted or not")],
    data: Annotated[Path, typer.Argument(help="CSV with a header line; empty cells are missing")],
    target: Annotated[str, typer.Option(help="name of the column to predict")],
    outside: Annotated[
        str, typer.Option(help="unsupervised, all, or names of the steps that were fitted first, by commas")
    ] = "unsupervised",
    groups: Annotated[str | None, typer.Option(help="name of a column of groups that stay together")] = None,
    scoring: Annotated[str | None, typer.Option(help="as in scikit-learn")] = None,
    cv: Annotated[int, typer.Option(min=2, help="folds")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="of the cross-validation, and divisions into held-out rows")] = 20,
    seed: Annotated[int, typer.Option(help="of the folds")] = 0,
    jobs: Annotated[int, typer.Option(help="processes")] = 1,
    trust: Annotated[
        bool, typer.Option(help="load the pickle, which can run any code: only files of your own")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="numbers instead of a page")] = False,
    plot: Annotated[Path | None, typer.Option(help="write the plot to this SVG")] = None,
    fail_above: Annotated[float | None, typer.Option(help="exit with 1 on a leak, or a bias surely above this")] = None,
) -> None:
    """Measure what fitting steps before cross-validation did to the score."""
    model = _load(pipeline, trust)
    X, y, group_ids = _table(data, target, groups)
    splitter: Any = cv
    if group_ids is not None:
        from sklearn.model_selection import GroupKFold

        splitter = GroupKFold(cv)
    steps = outside if outside in ("unsupervised", "all") else [name.strip() for name in outside.split(",")]
    with terminal("audit") as progress:
        report = preprocessing_bias(
            model,
            X,
            y,
            cv=splitter,
            scoring=scoring,
            outside=steps,
            groups=group_ids,
            n_repeats=repeats,
            n_splits=repeats,
            n_jobs=jobs,
            random_state=seed,
            progress=progress,
        )
    if as_json:
        numbers = {"verdict": report.verdict_, "sentence": report.sentence_, "rows": report.rows()}
        typer.echo(json.dumps(_finite(numbers), indent=1, allow_nan=False))
    else:
        typer.echo(report.to_markdown())
    if plot is not None:
        plot.write_text(report.plot(), encoding="utf-8")
    if fail_above is not None:
        try:
            report.raise_if(fail_above)
        except AssertionError as error:
            typer.echo(f"not accepted: {error}", err=True)
            raise typer.Exit(1) from None


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="scripts (.py) and notebooks (.ipynb), or folders of them")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list")] = False,
) -> None:
    """Find steps that were fitted on all rows before a validation; exits with 1 when there are any. Nothing is run."""
    paths = [p for f in files for p in (sorted([*f.rglob("*.py"), *f.rglob("*.ipynb")]) if f.is_dir() else [f])]
    findings = [finding for path in paths for finding in audit_notebook(path)]
    if as_json:
        fields = ("path", "line", "name", "used_line", "used_by", "supervised", "message")
        typer.echo(json.dumps([{name: getattr(f, name) for name in fields} for f in findings], indent=1))
    else:
        for finding in findings:
            typer.echo(finding.message)
        typer.echo(f"{len(findings)} finding(s) in {len(paths)} file(s)", err=True)
    if findings:
        raise typer.Exit(1)


def _load(path: Path, trust: bool) -> Any:
    if not path.exists():
        raise InputError(f"there is no pipeline at {path}")
    if not trust:
        raise InputError(
            f"{path.name} is a pickle, which can run any code when it is loaded; pass --trust if it is your own"
        )
    import joblib

    return joblib.load(path)


def _table(path: Path, target: str, groups: str | None) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """X (a data frame where pandas is installed, else an array), y and groups; columns of numbers as floats, others as texts."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as CSV with a header line: {error}") from error
    wrong = next((i for i, row in enumerate(rows, start=2) if len(row) != len(header)), None)
    if not rows or wrong is not None:
        raise InputError(
            f"{path}: " + (f"line {wrong} has another number of cells than the header" if rows else "no rows")
        )
    columns = {name: _column([row[j] for row in rows]) for j, name in enumerate(header)}
    for name in (target, *((groups,) if groups else ())):
        if name not in columns:
            raise InputError(f"{path} has no column {name!r}; it has {', '.join(header)}")
    y = columns.pop(target)
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise InputError(f"the target {target!r} is empty in {int(np.isnan(y).sum())} rows; leave them out")
    group_ids = columns.pop(groups) if groups else None
    if importlib.util.find_spec("pandas"):
        import pandas as pd

        return pd.DataFrame(columns), y, group_ids
    kinds = {column.dtype.kind for column in columns.values()}
    dtype = float if kinds == {"f"} else object
    return np.column_stack([column.astype(dtype) for column in columns.values()]), y, group_ids


def _column(cells: list[str]) -> np.ndarray:
    try:
        return np.array([float(cell) if cell.strip() else np.nan for cell in cells])
    except ValueError:
        return np.array(cells, dtype=object)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value

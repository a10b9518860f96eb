"""`paperworks threshold_features enrich` and `compare`: the method for a CSV file."""

from __future__ import annotations

import csv
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Columns P(y <= t) for a table, from classifiers trained on threshold questions.", no_args_is_help=True
)


class Strategy(StrEnum):
    """How thresholds are chosen."""

    equal_freq = "equal_freq"
    equal_width = "equal_width"
    kmeans = "kmeans"
    adaptive = "adaptive"


class Probabilities(StrEnum):
    """Which classifiers answer for the training rows."""

    auto = "auto"
    cross_fit = "cross_fit"
    oob = "oob"
    insample = "insample"


Data = Annotated[Path, typer.Argument(help="CSV with a header line; comma, semicolon or tab; .gz too.")]
Target = Annotated[str, typer.Option(help="The column to predict.")]
Seed = Annotated[int, typer.Option(help="Seed; the same gives the same file.")]


@app.command()
def enrich(
    data: Data,
    target: Target,
    out: Annotated[Path, typer.Option(help="Where to write the enriched table.")],
    thresholds: Annotated[int, typer.Option("--thresholds", "-S", min=1, help="How many thresholds.")] = 32,
    strategy: Annotated[Strategy, typer.Option(help="How they are chosen.")] = Strategy.equal_freq,
    probabilities: Annotated[
        Probabilities,
        typer.Option(help="oob and cross_fit: by classifiers that did not see the row; insample: the paper's."),
    ] = Probabilities.auto,
    new: Annotated[
        Path | None, typer.Option(help="A second file with rows to enrich; its target may be missing.")
    ] = None,
    new_out: Annotated[Path | None, typer.Option(help="Where to write those.")] = None,
    seed: Seed = 0,
) -> None:
    """Append the probabilities to a table.

    Text columns become one-hot; dates, constants, row numbers and copies are left out; rows with missing cells are dropped.
    """
    from paperworks.errors import InputError
    from paperworks.papers.threshold_features.features import ThresholdFeatures
    from paperworks.papers.threshold_features.table import Preparation, read_csv

    if (new is None) != (new_out is None):
        raise InputError("--new and --new-out go together: the rows to enrich, and where to write them")
    header, rows = read_csv(data)
    preparation = Preparation.learn(header, rows, target)
    X, y, kept = preparation.apply(header, rows)
    features = ThresholdFeatures(thresholds, strategy.value, probabilities=probabilities.value, random_state=seed)
    table = features.fit_transform(X, y)
    names = list(features.get_feature_names_out(preparation.names))
    _write(out, [*names, target], [[*row, value] for row, value in zip(table.tolist(), y.tolist(), strict=True)])
    for column, why in preparation.left_out.items():
        typer.echo(f"left out {column}: {why}", err=True)
    n_new = len(features.thresholds_)
    typer.echo(
        f"{out}: {len(kept)} of {len(rows)} rows, {X.shape[1]} columns and {n_new} probabilities ({features.probabilities_})",
        err=True,
    )
    if new is not None and new_out is not None:
        new_header, new_rows = read_csv(new)
        with_target = target in new_header
        X_new, y_new, kept_new = preparation.apply(new_header, new_rows, with_target=with_target)
        enriched = features.transform(X_new).tolist()
        lines = (
            [[*row, value] for row, value in zip(enriched, y_new.tolist(), strict=True)] if with_target else enriched
        )
        _write(new_out, [*names, target] if with_target else names, lines)
        typer.echo(f"{new_out}: {len(kept_new)} of {len(new_rows)} rows", err=True)


@app.command()
def compare(
    data: Data,
    target: Target,
    thresholds: Annotated[
        list[int] | None, typer.Option("--thresholds", "-S", help="May be given several times.")
    ] = None,
    regressor: Annotated[
        list[str] | None, typer.Option(help="linear, ridge, tree, forest, boosting; may be given several times.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 10,
    probabilities: Annotated[Probabilities, typer.Option(help="See enrich.")] = Probabilities.auto,
    svg: Annotated[Path | None, typer.Option(help="Also write the diagram of mean ranks.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Also write each fold's score as CSV.")] = None,
    seed: Seed = 0,
) -> None:
    """Cross-validate regressors on the native and the enriched table; print losses, ties and wins.

    Errors are RMSE on the transformed target, as in the paper: 1.0 is about the error of always predicting the mean.
    """
    from paperworks.papers.threshold_features.compare import Score, compare_enrichment
    from paperworks.papers.threshold_features.features import ThresholdFeatures
    from paperworks.papers.threshold_features.table import Preparation, read_csv
    from paperworks.progress import terminal

    header, rows = read_csv(data)
    preparation = Preparation.learn(header, rows, target)
    X, y, _ = preparation.apply(header, rows)
    chosen = {name: _regressor(name) for name in (regressor or ["linear", "tree"])}
    with terminal("comparing") as progress:
        result = compare_enrichment(
            chosen,
            X,
            y,
            cv=folds,
            n_thresholds=tuple(thresholds or (2, 4, 8, 16, 32)),
            features=ThresholdFeatures(probabilities=probabilities.value),
            random_state=seed,
            progress=progress,
        )
    typer.echo(result.to_table())
    ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in sorted(result.ranks().items(), key=lambda item: item[1]))
    typer.echo(f"\nmean ranks over folds: {ranks}; critical difference {result.critical_difference():.2f}")
    if svg is not None:
        svg.write_text(result.to_svg(), encoding="utf-8")
    if scores is not None:
        fields = list(Score.__slots__)
        _write(scores, fields, [[getattr(score, name) for name in fields] for score in result.scores])


def _regressor(name: str) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import LinearRegression, RidgeCV
    from sklearn.tree import DecisionTreeRegressor

    from paperworks.errors import InputError

    known: dict[str, Any] = {
        "linear": LinearRegression(),
        "ridge": RidgeCV(alphas=[0.01, 0.1, 1, 10, 100]),
        "tree": DecisionTreeRegressor(max_depth=8),
        "forest": RandomForestRegressor(max_features=1 / 3),
        "boosting": HistGradientBoostingRegressor(),
    }
    if name not in known:
        raise InputError(f"--regressor is one of {', '.join(known)}; got {name!r}")
    return known[name]


def _write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    from paperworks.errors import InputError

    if str(path) == "-":
        writer = csv.writer(sys.stdout)
        writer.writerows([header, *rows])
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error

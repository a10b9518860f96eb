"""The paper's claims, measured. Every interval is the 95 % one of the paired repetitions of one seed."""

from __future__ import annotations

import csv
import gzip
import math

import numpy as np

from paperworks.claims import Measurement, Run, Series, claim
from paperworks.papers.preprocessing_bias.simulate import (
    SimulationResult,
    cv_bias_simulation,
    model_selection_simulation,
    variance_selection_on,
)


def _cell(run: Run, kind: str, n_rep: int, **settings: object) -> SimulationResult:
    return cv_bias_simulation(kind, n_rep=n_rep, seed=run.seed, progress=run.progress, **settings)  # type: ignore[arg-type]


def _with_interval(name: str, cell: SimulationResult) -> dict[str, float]:
    mid, half = cell.bias_pct, cell.bias_pct_half_width
    return {name: mid, f"{name}_low": mid - half, f"{name}_high": mid + half}


def _curve(cells: dict[int, SimulationResult], plot: str) -> Series:
    return Series(
        [cell.bias_pct for cell in cells.values()],
        list(map(float, cells)),
        plot=plot,
        x_label="training rows",
        y_label="bias, % of the true error",
    )


@claim("variance-selection-biases-cv")
def variance_selection_biases_cv(run: Run) -> Measurement:
    """Section 4.1: t(4) and Gaussian columns, two-fold."""
    n_rep, rows = run.at(smoke=60, cpu=12_000), run.at(smoke=(20, 60), cpu=(20, 30, 40, 50, 60))
    curves = {
        name: {n: _cell(run, "variance_selection", n_rep, n=n, df=df) for n in rows}
        for name, df in (("heavy", 4.0), ("gaussian", math.inf))
    }
    values: dict[str, float] = {}
    for name, cells in curves.items():
        values |= _with_interval(f"{name}_n20", cells[20]) | _with_interval(f"{name}_n60", cells[60])
    series = {name: _curve(cells, "Bias of variance selection") for name, cells in curves.items()}
    return Measurement(values, series, notes=f"{n_rep:,} repetitions a point")


@claim("one-column-by-sum-of-squares")
def one_column_by_sum_of_squares(run: Run) -> Measurement:
    """Section 4.1, one column, no noise."""
    n_rep = run.at(smoke=200, cpu=60_000)
    cells = {
        n: _cell(run, "variance_selection", n_rep, n=n, d=50, k=1, strong=0, noise=0.0, criterion="sumsq")
        for n in (5, 10, 20, 40)
    }
    values: dict[str, float] = {}
    for n, cell in cells.items():
        values |= _with_interval(f"n{n}", cell)
    return Measurement(values, {"bias": _curve(cells, "Bias of choosing one column")}, f"{n_rep:,} repetitions a point")


@claim("variance-selection-on-real-data")
def variance_selection_on_real_data(run: Run) -> Measurement:
    """Section 4.2, on the protein table (45,730 x 9), four columns kept; made-up columns at smoke scale."""
    if run.scale == "smoke":
        X = run.rng.standard_t(4, (600, 9))
        y = X.sum(axis=1) + run.rng.standard_normal(600)
    else:
        with gzip.open(run.data.path("tabular/protein.csv.gz"), "rt") as file:
            table = np.array(list(csv.reader(file))[1:], dtype=float)
        X, y = table[:, :-1], table[:, -1]
    n_rep = run.at(smoke=60, cpu=60_000)
    values: dict[str, float] = {}
    for n in (20, 40):
        cell = variance_selection_on(X, y, n=n, k=4, n_rep=n_rep, seed=run.seed, progress=run.progress)
        values |= _with_interval(f"n{n}", cell)
        values[f"n{n}_median_ratio"] = float(np.median(cell.naive) / np.median(cell.truth))
    note = f"{n_rep:,} subsamples; squared errors are heavy-tailed, so the ratio of medians is given beside the means"
    return Measurement(values, notes=note)


@claim("rare-categories-bias-either-way")
def rare_categories_bias_either_way(run: Run) -> Measurement:
    """Section 5.1: the sign turns with the noise."""
    n_rep, rows = run.at(smoke=500, cpu=100_000), (5, 10, 20, 40, 60, 100)
    curves = {
        name: {n: _cell(run, "rare_categories", n_rep, n=n, sigma=sigma) for n in rows}
        for name, sigma in (("low_noise", 0.25), ("high_noise", 1.5))
    }
    values: dict[str, float] = {}
    for name, cells in curves.items():
        values |= _with_interval(f"{name}_n40", cells[40])
    series = {name: _curve(cells, "Bias of grouping rare categories") for name, cells in curves.items()}
    return Measurement(values, series, notes=f"{n_rep:,} repetitions a point")


@claim("rescaling-before-lasso")
def rescaling_before_lasso(run: Run) -> Measurement:
    """Section 5.2, five columns."""
    n_rep = run.at(smoke=500, cpu=100_000)
    cells = {n: _cell(run, "rescaled_lasso", n_rep, n=n) for n in (10, 20, 50, 100)}
    values: dict[str, float] = {}
    for n, cell in cells.items():
        values |= _with_interval(f"n{n}", cell)
    return Measurement(
        values, {"bias": _curve(cells, "Bias of rescaling before the Lasso")}, f"{n_rep:,} repetitions a point"
    )


@claim("naive-scaling-hurts-selection")
def naive_scaling_hurts_selection(run: Run) -> Measurement:
    """Section 6, n = 20, 100 columns."""
    n_rep = run.at(smoke=8, cpu=1500)
    result = model_selection_simulation(n=20, n_rep=n_rep, seed=run.seed, progress=run.progress)
    values = {
        "harm": result.harm,
        "harm_low": result.harm - result.harm_half_width,
        "harm_high": result.harm + result.harm_half_width,
        "proper": float(result.proper.mean()),
        "naive": float(result.naive.mean()),
        "null": float(result.null.mean()),
        "same_choice_pct": 100 * float(np.mean(result.proper_alpha == result.naive_alpha)),
    }
    return Measurement(values, notes=f"{n_rep:,} repetitions")


@claim("sign-depends-on-the-setting")
def sign_depends_on_the_setting(run: Run) -> Measurement:
    """The extremes over a handful of settings of all simulations."""
    scale = run.at(smoke=0.01, cpu=1.0)
    cells = [
        _cell(run, "variance_selection", max(50, int(6000 * scale)), n=20),
        _cell(run, "rare_categories", max(200, int(60_000 * scale)), n=40, sigma=0.25),
        _cell(run, "rare_categories", max(200, int(60_000 * scale)), n=40, sigma=1.5),
        _cell(run, "rescaled_lasso", max(200, int(60_000 * scale)), n=10),
    ]
    smallest, largest = min(cells, key=lambda c: c.bias_pct), max(cells, key=lambda c: c.bias_pct)
    return Measurement(_with_interval("smallest", smallest) | _with_interval("largest", largest))

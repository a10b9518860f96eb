"""The bias simulations and the audit against their bars, and against a plain loop of scikit-learn fits in the same run.

Bars: a cell of section 5.1 with 100,000 repetitions under 3 s; section 4.1, n = 20, 20,000 repetitions under 6 s; the audit of
five folds and 20 repeats on 1,000 x 20 under twice the cost of 2 x 20 x 5 plain fits. Writes docs/benchmarks/preprocessing_bias.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from paperworks.papers.preprocessing_bias import cv_bias_simulation, preprocessing_bias, reference

OUT = Path(__file__).parents[1] / "docs" / "benchmarks" / "preprocessing_bias.md"


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process, the best of three."""
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def plain_loop(n_rep: int, n: int = 20) -> None:
    rng = np.random.default_rng(0)
    for _ in range(n_rep):
        X = rng.standard_t(4, (3 * n, 100))
        X[:, :5] *= 5
        y = X @ rng.standard_normal(100) + np.sqrt(220) * rng.standard_normal(3 * n)
        reference.variance_selection_once(X, y, n, n, 10)


def plain_fits(X: np.ndarray, y: np.ndarray) -> None:
    for seed in range(20):
        for train, test in KFold(5, shuffle=True, random_state=seed).split(X):
            for _ in range(2):
                model = make_pipeline(StandardScaler(), Ridge()).fit(X[train], y[train])
                r2_score(y[test], model.predict(X[test]))


def main() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 20))
    y = X[:, 0] + rng.standard_normal(1000)
    audited = make_pipeline(StandardScaler(), Ridge())
    cv_bias_simulation("rescaled_lasso", n=10, n_rep=10)  # compiles

    cell = cpu_seconds(lambda: cv_bias_simulation("rare_categories", n=40, n_rep=100_000))
    s1 = cpu_seconds(lambda: cv_bias_simulation("variance_selection", n=20, n_rep=20_000))
    loop = cpu_seconds(lambda: plain_loop(200)) * 100
    audit = cpu_seconds(lambda: preprocessing_bias(audited, X, y, n_repeats=20, n_splits=2))
    fits = cpu_seconds(lambda: plain_fits(X, y))
    rows = [
        ("rare categories, 100,000 repetitions", f"{cell:.2f} s", "3 s", cell < 3),
        ("variance selection n = 20, 20,000 repetitions", f"{s1:.2f} s", "6 s", s1 < 6),
        ("the same beside a plain loop (200 repetitions, scaled)", f"{loop / s1:.0f} x faster", "-", True),
        (
            "audit, 20 repeats of 5 folds, beside 200 plain fits",
            f"{audit / fits:.2f} x their time",
            "2 x",
            audit < 2 * fits,
        ),
    ]
    lines = ["# Preprocessing bias: speed", "", "CPU seconds of one process, best of three, one run.", ""]
    lines += ["| what | measured | bar | held |", "| --- | ---: | ---: | --- |"]
    lines += [f"| {what} | {value} | {bar} | {'yes' if held else 'no'} |" for what, value, bar, held in rows]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

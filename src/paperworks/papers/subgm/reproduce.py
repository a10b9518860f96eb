"""The paper's claims, measured on 20 x 20 matrices of rank 2 with Gaussian measurements (10 x 10 at smoke scale).

Unless it says otherwise a claim runs the plain method: one round, no added directions, no polish. Its steps stay at 0.1 until growth
ends and then shrink by 0.9 each, because no single geometric decay suits all sizes of the start.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.claims import Measurement, Run, Series, claim
from paperworks.papers.subgm import reference, toy
from paperworks.papers.subgm.diagnostics import sign_rip
from paperworks.papers.subgm.solver import SubGMResult, subgm

PLAIN: dict[str, Any] = {"step": "auto", "polish": False, "max_rounds": 1}
ALPHAS = (1e-3, 1e-6, 1e-9, 1e-12)


def _problem(run: Run, m: int, corrupt: float, noise: float = 0.0) -> toy.Sensing:
    d, many, rank = run.at(smoke=(10, m // 4, 1), cpu=(20, m, 2))
    return toy.sensing(d, rank, many, corrupt, noise=noise, seed=run.seed)


def _plain(problem: toy.Sensing, alpha: float, **settings: Any) -> tuple[float, SubGMResult]:
    result = subgm(problem.operator, problem.y, alpha=alpha, **(PLAIN | settings))
    return problem.error(result.matrix), result


@claim("small-start-small-error")
def small_start_small_error(run: Run) -> Measurement:
    """Final error against the size of the start, with none, 30 % and 50 % wrong."""
    series: dict[str, Series] = {}
    for corrupt in (0.0, 0.3, 0.5):
        problem = _problem(run, 1200, corrupt)
        errors = [_plain(problem, alpha)[0] for alpha in ALPHAS]
        series[f"{corrupt:.0%} wrong"] = Series(
            errors, ALPHAS, "Final error", x_label="size of the start", y_label="relative error", log_x=True, log_y=True
        )
    worst = [max(float(curve.y[i]) for curve in series.values()) for i in range(len(ALPHAS))]
    values = {f"worst_error_alpha_1e{-round(np.log10(alpha))}": worst[i] for i, alpha in enumerate(ALPHAS)}
    return Measurement(values, series)


@claim("rank-need-not-be-known")
def rank_need_not_be_known(run: Run) -> Measurement:
    """Full search rank against the true one, 30 % wrong."""
    problem = _problem(run, 1200, 0.3)
    full, with_full = _plain(problem, 1e-9)
    true, with_true = _plain(problem, 1e-9, rank=run.at(smoke=1, cpu=2))
    return Measurement(
        {
            "error_full_rank": full,
            "error_true_rank": true,
            "error_ratio": full / true,
            "iteration_ratio": with_full.n_iter / with_true.n_iter,
        },
        {
            "full rank": Series(with_full.history["loss"].tolist(), plot="Loss", y_label="mean absolute residual"),
            "true rank": Series(with_true.history["loss"].tolist(), plot="Loss", y_label="mean absolute residual"),
        },
        "both errors are near the end of the schedule, 1e-12, where their ratio says little",
    )


def _most_wrong(run: Run, m: int) -> Measurement:
    problem = _problem(run, m, 0.7)
    errors = [_plain(problem, alpha)[0] for alpha in ALPHAS]
    checked = subgm(problem.operator, problem.y)
    values = {
        "best_error": min(errors),
        "worst_error": max(errors),
        "self_checking_error": problem.error(checked.matrix),
        "self_checking_says_settled": checked.success,
    }
    return Measurement(values, {"error": Series(errors, ALPHAS, log_x=True, log_y=True, x_label="size of the start")})


@claim("survives-most-measurements-wrong")
def survives_most_measurements_wrong(run: Run) -> Measurement:
    """70 % of 1200 wrong: the best of four starts by the plain method, and the self-checking one beside it."""
    return _most_wrong(run, 1200)


@claim("most-wrong-with-more-measurements")
def most_wrong_with_more_measurements(run: Run) -> Measurement:
    """70 % of 4800 wrong."""
    return _most_wrong(run, 4800)


@claim("gaussian-noise-everywhere")
def gaussian_noise_everywhere(run: Run) -> Measurement:
    """Noise of 0.1, 0.5 and 1 on all measurements; and what gradient descent on squares does from the same start."""
    ratios, errors, gains = [], {}, []
    for noise in (0.1, 0.5, 1.0):
        few, many = _problem(run, 1200, 0.0, noise), _problem(run, 4800, 0.0, noise)
        error_few, result = _plain(few, 1e-9)
        error_many, _ = _plain(many, 1e-9)
        ratios.append(error_few / error_many)
        errors[f"error_few_{round(10 * noise)}"] = error_few
        errors[f"error_many_{round(10 * noise)}"] = error_many
        at_truth = few.operator.forward(few.truth, np.eye(len(few.truth)))
        gains.append(float(np.mean(np.abs(few.y - at_truth)) - np.mean(np.abs(result.residuals))))
    d = len(few.truth)
    A = np.stack([few.operator.adjoint(row) for row in np.eye(few.operator.m)])
    path = reference.least_squares(A, few.y, reference.start(A, few.y, d, 1e-3), 0.2, run.at(smoke=300, cpu=3000))
    squares = [few.error(U @ U.T) for U in path[:: max(1, len(path) // 100)]]
    values = {
        "error_ratio": float(np.mean(ratios)),
        "loss_truth_minus_solution": min(gains),
        "squares_final_error": few.error(path[-1] @ path[-1].T),
        "squares_best_error": min(squares),
        **errors,
    }
    return Measurement(
        values, {"squares": Series(squares, plot="Gradient descent on squares", y_label="relative error")}
    )


@claim("large-start-fails")
def large_start_fails(run: Run) -> Measurement:
    """The paper's own schedule, eta0 = 0.25 and rho = 0.99 over 2000 steps, 30 % wrong, full search rank."""
    problem = _problem(run, 1200, 0.3)
    settings: dict[str, Any] = {"step": "geometric", "eta0": 0.25, "rho": 0.99, "max_iter": 2000}
    large, with_large = _plain(problem, 1.0, **settings)
    small, with_small = _plain(problem, 1e-6, **settings)
    curves = {
        name: Series(result.history["loss"].tolist(), plot="Loss", y_label="mean absolute residual", log_y=True)
        for name, result in (("start of 1", with_large), ("start of 1e-6", with_small))
    }
    return Measurement({"error_large_start": large, "error_small_start": small}, curves)


@claim("steps-grow-with-the-logarithm")
def steps_grow_with_the_logarithm(run: Run) -> Measurement:
    """Steps of the plain method for four starts, 30 % wrong."""
    problem = _problem(run, 1200, 0.3)
    steps = [_plain(problem, alpha)[1].n_iter for alpha in ALPHAS]
    values = {
        "steps_3_to_6": steps[1] - steps[0],
        "steps_6_to_9": steps[2] - steps[1],
        "steps_9_to_12": steps[3] - steps[2],
    }
    return Measurement(
        values, {"steps": Series(list(map(float, steps)), ALPHAS, log_x=True, x_label="size of the start")}
    )


@claim("signs-point-at-the-error")
def signs_point_at_the_error(run: Run) -> Measurement:
    """Sign-RIP over random matrices of rank 4 with norms 1, 0.1 and 0.01, 30 % wrong."""
    deltas = []
    for m in (1200, 4800):
        problem = _problem(run, m, 0.3)
        exact = problem.operator.forward(problem.truth, np.eye(len(problem.truth)))
        found = sign_rip(
            problem.operator, problem.y - exact, rank=4, n_directions=run.at(smoke=5, cpu=100), seed=run.seed
        )
        deltas.append(found.delta)
    return Measurement(
        {"delta_few": deltas[0], "delta_many": deltas[1]}, notes="tried on random directions: a lower bound on delta"
    )


@claim("table-without-rank")
def table_without_rank(run: Run) -> Measurement:
    """`RobustPCA` as it comes."""
    from paperworks.papers.subgm.tables import RobustPCA

    n = run.at(smoke=80, cpu=200)
    rank = run.at(smoke=2, cpu=5)
    values: dict[str, float] = {}
    for name, corrupt, missing in (("full", 0.3, 0.0), ("missing", 0.2, 0.5)):
        corrupt = run.at(smoke=corrupt / 2, cpu=corrupt)
        seen, truth, wrong = toy.table(n, n, rank, corrupt, missing, seed=run.seed)
        model = RobustPCA().fit(seen)
        values[f"error_{name}"] = float(np.linalg.norm(model.low_rank_ - truth) / np.linalg.norm(truth))
        found, real = model.outlier_mask_, wrong & ~np.isnan(seen)
        values[f"outliers_found_{name}"] = float(found[real].mean())
        values[f"wrongly_accused_{name}"] = float((found & ~real).sum() / max(1, found.sum()))
        if name == "full":
            values["rank_found"] = model.rank_
        run.progress(len(values), 7, name)
    return Measurement(values)

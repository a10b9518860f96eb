"""The paper's claims, measured on its family of perturbed matrix completion and on random instances."""

from __future__ import annotations

import math

import numpy as np

from paperworks.claims import Measurement, Run, Series, claim
from paperworks.papers.lifting import toy
from paperworks.papers.lifting.base import BaseProblem
from paperworks.papers.lifting.certificate import certify, escape_certificate
from paperworks.papers.lifting.descent import Init
from paperworks.papers.lifting.operators import DenseOperator
from paperworks.papers.lifting.reference import second_derivative
from paperworks.papers.lifting.study import descent_success
from paperworks.papers.lifting.tensor import TensorProblem


@claim("stationary-points-stay")
def stationary_points_stay(run: Run) -> Measurement:
    """Abstract: gradient norm at the powers of stationary points, minima and saddles, of the family and of random instances."""
    rng = run.rng
    cases = [
        (toy.perturbed_matrix_completion(n), X) for n in run.at(smoke=(3,), cpu=(3, 5)) for X in toy.wrong_minima(n)
    ]
    for _ in range(run.at(smoke=2, cpu=10)):
        instance = toy.gaussian_sensing(rng, n=4, m=6)
        problem = BaseProblem(instance.operator, instance.b)
        # Newton from anywhere ends at saddles too; a start that does not reach a stationary point is not a case
        X = problem.refine(rng.standard_normal((4, 1)), max_iter=100)
        if np.linalg.norm(problem.value_and_gradient(X)[1]) < 1e-12:
            cases.append((instance, X))
    largest: dict[int, float] = {}
    for order in run.at(smoke=(1, 2, 3), cpu=(1, 2, 3, 4)):
        norms = []
        for instance, X in cases:
            problem_l = TensorProblem(instance.operator, instance.b, order)
            norms.append(float(np.linalg.norm(problem_l.gradient(problem_l.lift(X)))))
        largest[order] = max(norms)
    series = Series(
        list(largest.values()), list(map(float, largest)), x_label="order", y_label="gradient norm", log_y=True
    )
    values = {"largest_gradient_norm": max(largest.values()), "points": len(cases)}
    return Measurement(values, {"gradient": series}, notes="stationary to a gradient norm of 1e-12 before lifting")


@claim("curvature-in-closed-form")
def curvature_in_closed_form(run: Run) -> Measurement:
    """The closed form beside derivatives of the stored tensor's loss, and the certificate's sign beside the measured one."""
    rng, errors, mismatches, compared, largest = run.rng, [], 0, 0, 0.0
    for _ in range(run.at(smoke=3, cpu=30)):
        n, m = 4, 6
        operator = DenseOperator(rng.standard_normal((m, n, n)) / np.sqrt(m))
        X, b = rng.standard_normal((n, 1)), rng.standard_normal(m)
        certificate = escape_certificate(X, operator, b)
        for order in (1, 2, 3):
            problem = TensorProblem(operator, b, order)
            u = problem.lift(certificate.direction)
            measured = second_derivative(problem.loss, problem.lift(X), u)
            terms = abs(certificate.p) ** order + abs(certificate.q) ** order + 2 * certificate.s**order
            errors.append(abs(measured - certificate.curvature(order)) / max(1.0, 2 * terms))
            largest = max(largest, abs(measured))
    for n, orders in run.at(smoke=((3, (1, 3, 5)),), cpu=((3, (1, 3, 5)), (5, (1, 3)))):
        instance = toy.perturbed_matrix_completion(n)
        for X in toy.wrong_minima(n):
            certificate = escape_certificate(X, instance.operator, instance.b)
            for order in orders:
                problem = TensorProblem(instance.operator, instance.b, order)
                measured = second_derivative(problem.loss, problem.lift(X), problem.lift(certificate.direction))
                predicted = certificate.min_order is not None and order >= certificate.min_order
                mismatches += (measured < 0) != predicted
                compared += 1
    values: dict[str, float] = {
        "curvature_error": max(errors),
        "sign_mismatches": int(mismatches),
        "signs_compared": compared,
    }
    values["largest_curvature"] = largest
    note = (
        "derivatives by a five-point difference, exact for the quartic loss, in place of automatic ones; "
        "differences beside the size of the terms where that is above 1"
    )
    return Measurement(values, notes=note)


@claim("lifting-opens-a-way-out")
def lifting_opens_a_way_out(run: Run) -> Measurement:
    """Abstract: at how many wrong minima the certificate names an order."""
    orders: list[int | None] = []
    by_weight: dict[float, float] = {}
    for n in run.at(smoke=(3, 5), cpu=(3, 5, 7, 9)):
        instance = toy.perturbed_matrix_completion(n)
        problem = BaseProblem(instance.operator, instance.b)
        orders += [certify(problem, X).min_order for X in toy.wrong_minima(n)]
    for eps in (0.3, 0.2, 0.1, 0.05):
        instance = toy.perturbed_matrix_completion(5, eps)
        problem = BaseProblem(instance.operator, instance.b)
        found = [certify(problem, X).min_order for X in toy.wrong_minima(5, eps)]
        by_weight[eps] = max(math.inf if order is None else float(order) for order in found)
    finite = [order for order in orders if order is not None]
    values = {
        "escapable_percent": 100.0 * len(finite) / len(orders),
        "wrong_minima": len(orders),
        "largest_order": max(finite, default=0),
    }
    drawn = {eps: order for eps, order in by_weight.items() if math.isfinite(order)}
    series = Series(
        list(drawn.values()), list(drawn), plot="Order needed at n = 5", x_label="weight", y_label="order", log_y=True
    )
    return Measurement(values, {"order": series}, notes="odd orders up to 99,999 were looked at")


@claim("eigenvalue-changes-sign")
def eigenvalue_changes_sign(run: Run) -> Measurement:
    """n = 5, order 3, weight 0.3; the other sizes of the family beside it."""
    instance = toy.perturbed_matrix_completion(5)
    base, lifted = BaseProblem(instance.operator, instance.b), TensorProblem(instance.operator, instance.b, 3)
    points = toy.wrong_minima(5)
    before = [base.smallest_curvature(X) for X in points]
    after = [lifted.smallest_eigenvalue(lifted.lift(X)) for X in points]
    values = {"eigenvalue_unlifted": min(before), "eigenvalue_lifted": max(after), "wrong_minima": len(points)}
    values["eigenvalue_truth"] = lifted.smallest_eigenvalue(lifted.lift(instance.truth))
    small = toy.perturbed_matrix_completion(3)
    (X,) = toy.wrong_minima(3)
    for order in run.at(smoke=(3,), cpu=(3, 5)):
        problem = TensorProblem(small.operator, small.b, order)
        values[f"eigenvalue_n3_order{order}"] = problem.smallest_eigenvalue(problem.lift(X))
    return Measurement(values, notes="smallest eigenvalues of the whole Hessian, of all tensors and not only powers")


@claim("lifted-succeeds-more-often")
def lifted_succeeds_more_often(run: Run) -> Measurement:
    """The authors' experiment with their Gaussian starts; values with `rank1` start from powers of vectors instead."""
    trials, steps = run.at(smoke=4, cpu=40), run.at(smoke=200, cpu=2000)
    values: dict[str, float] = {}
    arms: tuple[tuple[str, int, Init], ...] = (
        ("unlifted", 1, "gaussian"),
        ("lifted", 3, "gaussian"),
        ("rank1", 3, "rank1"),
    )
    for n in (3, 4, 5):
        A, b, truth = toy.perturbed_matrix_completion(n)
        rate = {}
        for name, order, init in arms:
            found = descent_success(
                A, b, truth, order, trials=trials, init=init, max_iter=steps, seed=run.seed, progress=run.progress
            )
            rate[name] = found.percent
            values[f"{name}_n{n}_percent"] = found.percent
        values[f"gain_n{n}_points"] = rate["lifted"] - rate["unlifted"]
        values[f"rank1_gain_n{n}_points"] = rate["rank1"] - rate["unlifted"]
    if run.scale != "smoke":
        # the certificate says 5 at n = 3: does lifting help from there on?
        A, b, truth = toy.perturbed_matrix_completion(3)
        found = descent_success(A, b, truth, 5, trials=trials, init="rank1", max_iter=3000, seed=run.seed)
        values["rank1_n3_order5_percent"] = found.percent
    note = f"{trials} starts of norm about 0.01, order 3; Gaussian starts as in the authors' code, rank1 as in its follow-up"
    return Measurement(values, notes=note)

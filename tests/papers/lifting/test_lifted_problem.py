"""The lifted problem against the paper's definition, built in full for small sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.lifting import (
    BaseProblem,
    CPProblem,
    DenseOperator,
    TensorProblem,
    VecOperator,
    drop,
    escape_certificate,
    lift,
    reference,
    toy,
)
from paperworks.papers.lifting.descent import descend, starts
from paperworks.papers.lifting.tensor import symmetrized


def instance(seed: int, n: int = 3, m: int = 4) -> tuple[DenseOperator, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return DenseOperator(rng.standard_normal((m, n, n))), rng.standard_normal(m), rng


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_gradient_and_hessian_are_those_of_the_full_operator(order, seed) -> None:
    operator, b, rng = instance(seed)
    problem, w = TensorProblem(operator, b, order), rng.standard_normal((3,) * order)
    assert problem.loss(w.ravel()) == pytest.approx(reference.lifted_loss(operator.matrices, b, w), rel=1e-10)
    gradient = reference.lifted_gradient(operator.matrices, b, w)
    np.testing.assert_allclose(problem.gradient(w.ravel()), gradient.ravel(), atol=1e-10 * np.abs(gradient).max())
    hessian = reference.lifted_hessian(operator.matrices, b, w)
    product = problem.hessian_product(w.ravel())(np.eye(w.size))
    np.testing.assert_allclose(product, hessian, atol=1e-10 * np.abs(hessian).max())
    assert problem.smallest_eigenvalue(w.ravel()) == pytest.approx(np.linalg.eigvalsh(hessian)[0], rel=1e-9)


def test_weighted_entries_give_the_same_lifted_loss_as_their_matrices() -> None:
    A, b, _ = toy.perturbed_matrix_completion(3)
    matrices = np.stack([A.adjoint(row) for row in np.eye(A.m)])
    w = np.random.default_rng(0).standard_normal((3, 3))
    assert TensorProblem(A, b, 2).loss(w.ravel()) == pytest.approx(reference.lifted_loss(matrices, b, w), rel=1e-10)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_sums_of_powers_have_the_loss_of_their_tensor(order, terms, seed) -> None:
    operator, b, rng = instance(seed)
    cp, V = CPProblem(operator, b, order, terms), rng.standard_normal((terms, 3))
    whole = TensorProblem(operator, b, order).loss(cp.tensor(V).ravel())
    assert cp.loss(V) * np.linalg.norm(b) ** (2 * order) == pytest.approx(whole, rel=1e-8)
    assert cp.norm(V) == pytest.approx(np.linalg.norm(cp.tensor(V)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 7])
def test_gradient_of_sums_of_powers_is_the_slope_of_their_loss(order) -> None:
    operator, b, rng = instance(3)
    cp, V, D = CPProblem(operator, b, order, 3), rng.standard_normal((3, 3)) / 2, rng.standard_normal((3, 3))
    slope = (cp.loss(V + 1e-6 * D) - cp.loss(V - 1e-6 * D)) / 2e-6
    gradient = cp.value_and_gradient(V.reshape(1, -1))[1][0]
    # a central difference of step 1e-6 has an error of about 1e-9 of the loss, and loses digits to rounding
    assert gradient @ D.ravel() == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_stationary_points_stay_stationary(order) -> None:
    """grad f_l(x^(l)) = 2 [(A*A(xx^T) x)^(l) - (A*(b) x)^(l)], so equal vectors in the bracket cancel at every order."""
    A, b, _ = toy.perturbed_matrix_completion(5)
    problem = TensorProblem(A, b, order)
    for X in toy.wrong_minima(5):
        assert np.linalg.norm(problem.gradient(problem.lift(X))) < 1e-12
    operator, values, rng = instance(2)
    x = rng.standard_normal(3)
    lifted = TensorProblem(operator, values, order)
    image = operator.adjoint(operator.forward(x[:, None], x[:, None])) @ x
    expected = 2 * (lift(image, order) - lift(operator.adjoint(values) @ x, order))
    np.testing.assert_allclose(
        lifted.gradient(lift(x, order).ravel()), expected.ravel(), atol=1e-10 * np.abs(expected).max()
    )


@pytest.mark.parametrize("order", [1, 2, 3])
def test_curvature_is_that_of_the_full_operator(order) -> None:
    operator, b, rng = instance(4)
    x = rng.standard_normal(3)
    certificate = escape_certificate(x, operator, b)
    hessian = reference.lifted_hessian(operator.matrices, b, lift(x, order))
    u = lift(certificate.direction[:, 0], order).ravel()
    assert certificate.curvature(order) == pytest.approx(u @ hessian @ u, rel=1e-9)
    five = reference.second_derivative(
        lambda w: reference.lifted_loss(operator.matrices, b, w), lift(x, order), u.reshape((3,) * order)
    )
    assert five == pytest.approx(u @ hessian @ u, rel=1e-6)


def test_a_rank_two_problem_is_a_rank_one_problem_in_vec_x() -> None:
    operator, b, rng = instance(5, n=3, m=5)
    X, U = rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    flat = VecOperator(operator, 2)
    np.testing.assert_allclose(flat.forward(X.reshape(-1, 1), X.reshape(-1, 1)), operator.forward(X, X))
    np.testing.assert_allclose(flat.forward(X.reshape(-1, 1), U.reshape(-1, 1)), operator.forward(X, U))
    np.testing.assert_allclose(flat.adjoint(b), np.kron(operator.adjoint(b), np.eye(2)))
    certificate = escape_certificate(X, operator, b)
    lifted = TensorProblem(flat, b, 2)
    u = lifted.lift(certificate.direction)
    measured = reference.second_derivative(lifted.loss, lifted.lift(X), u)
    assert certificate.curvature(2) == pytest.approx(measured, rel=1e-8)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_dropping_undoes_lifting(order, n, seed) -> None:
    x = np.random.default_rng(seed).standard_normal(n)
    back = drop(lift(x, order))
    sign = 1.0 if order % 2 else np.sign(back @ x)  # an even power forgets the sign
    np.testing.assert_allclose(sign * back, x, atol=1e-8)


def test_dropping_finds_the_largest_of_two_orthogonal_powers() -> None:
    w = lift(np.array([2.0, 0, 0]), 3) + lift(np.array([0, -1.5, 0]), 3)
    np.testing.assert_allclose(drop(w), [2, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(drop(np.zeros((2, 2, 2))), [0, 0])
    cp = CPProblem(*instance(0)[:2], 3, 2)
    np.testing.assert_allclose(cp.drop(np.array([[2.0, 0, 0], [0, -1.5, 0]])), [2, 0, 0], atol=1e-6)


def test_starts_are_small_and_as_symmetric_as_their_name_says() -> None:
    rng = np.random.default_rng(0)
    for init in ("rank1", "symmetrized"):
        (w,) = starts(rng, 1, 3, 3, 0.01, init).reshape(1, 3, 3, 3)
        np.testing.assert_allclose(w, symmetrized(w), atol=1e-15)
    norms = np.linalg.norm(starts(rng, 500, 4, 3, 0.01, "gaussian"), axis=1)
    assert norms.mean() == pytest.approx(0.01, rel=0.05)
    with pytest.raises(InputError, match="gaussian"):
        starts(rng, 1, 3, 3, 0.01, "uniform")


def test_a_batch_descends_as_its_points_alone_and_keeps_its_input() -> None:
    A, b, _ = toy.perturbed_matrix_completion(3)
    problem = TensorProblem(A, b, 3)
    w = starts(np.random.default_rng(1), 3, 3, 3, 0.01, "gaussian")
    kept = w.copy()
    together = descend(problem.value_and_gradient, w, max_iter=150)
    np.testing.assert_array_equal(w, kept)
    for k in range(3):
        alone = descend(problem.value_and_gradient, w[k : k + 1], max_iter=150)
        np.testing.assert_allclose(alone.points[0], together.points[k], atol=1e-9)
    assert (together.loss < problem.constant).all()
    with pytest.raises(InputError, match="smaller lr"), np.errstate(all="ignore"):
        descend(problem.value_and_gradient, 10 * np.ones((1, 27)), optimizer="gd", lr=1.0)


def test_sizes_that_do_not_fit_are_refused_with_the_way_out() -> None:
    A, b, _ = toy.perturbed_matrix_completion(30)
    with pytest.raises(InputError, match=r"bytes.*cp"):
        TensorProblem(A, b, 5)
    with pytest.raises(InputError, match="order"):
        TensorProblem(A, b, 0)
    with pytest.raises(InputError, match="b is zero"):
        CPProblem(A, np.zeros(A.m), 3, 2)


def test_large_orders_do_not_overflow() -> None:
    A, b, truth = toy.perturbed_matrix_completion(5)
    cp = CPProblem(A, 1e3 * b, 301, 2)
    V = np.stack([np.sqrt(1e3) * truth[:, 0], np.zeros(5)])
    assert cp.loss(V) == pytest.approx(0, abs=1e-10)
    assert np.isfinite(cp.value_and_gradient(V.reshape(1, -1))[1]).all()
    assert BaseProblem(A, b).loss(truth) == 0

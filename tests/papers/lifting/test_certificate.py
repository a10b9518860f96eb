"""The certificate against cases computed by hand, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.linalg import LinearOperator

from paperworks.errors import InputError
from paperworks.papers.lifting import (
    BaseProblem,
    EntryOperator,
    as_operator,
    completion,
    escape_certificate,
    minimal_lifting_order,
    toy,
)


def test_three_coordinates_by_hand() -> None:
    """x = t (1, 0, -1) with t^2 = (1 - eps^2) / (1 + eps^2) = 0.8349; u = (1, 0, 1) / sqrt 2: q = 1.09, p = 0.760, s = 0.835."""
    A, b, _ = toy.perturbed_matrix_completion(3, 0.3)
    (X,) = toy.wrong_minima(3)
    t2 = 0.91 / 1.09
    np.testing.assert_allclose(np.abs(X[:, 0]), [np.sqrt(t2), 0, np.sqrt(t2)], atol=1e-9)
    found = escape_certificate(X, A, b)
    np.testing.assert_allclose(np.abs(found.direction[:, 0]), [np.sqrt(0.5), 0, np.sqrt(0.5)], atol=1e-8)
    assert (found.p, found.q, found.s) == pytest.approx((t2 * 0.91, 1.09, t2))
    assert found.min_order == 5
    assert found.verdict == "escapable"
    assert found.hess_min == pytest.approx(2.68, abs=0.005)
    assert found.curvature(3) > 0 > found.curvature(5)
    assert found.margin == pytest.approx(1.09 / t2)


@pytest.mark.parametrize(("n", "eps", "order", "eigenvalue"), [(5, 0.3, 3, 1.87), (7, 0.3, 3, 1.89), (9, 0.3, 3, 0.99)])
def test_orders_and_eigenvalues_of_the_family(n, eps, order, eigenvalue) -> None:
    A, b, _ = toy.perturbed_matrix_completion(n, eps)
    points = toy.wrong_minima(n, eps)
    assert points
    for X in points:
        found = escape_certificate(X, A, b)
        assert found.min_order == order
        assert found.hess_min == pytest.approx(eigenvalue, abs=0.005)


def test_weak_ties_need_orders_that_no_tensor_reaches() -> None:
    A, b, _ = toy.perturbed_matrix_completion(5, 0.01)
    orders = [escape_certificate(X, A, b).min_order for X in toy.wrong_minima(5, 0.01)]
    assert all(order is not None and 1000 < order < 99_999 for order in orders)


def test_the_bottom_eigenvector_is_as_good_as_random_directions() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 5):
        A, b, _ = toy.perturbed_matrix_completion(n)
        for X in toy.wrong_minima(n):
            best = escape_certificate(X, A, b).min_order
            for _ in range(300):
                u = rng.standard_normal((n, 1))
                u /= np.linalg.norm(u)
                along, crossed = A.forward(u, u), A.forward(X, u)
                order = minimal_lifting_order(A.forward(X, X) @ along, b @ along, crossed @ crossed, max_order=99)
                assert order is None or order >= best


def test_verdicts() -> None:
    A, b, truth = toy.perturbed_matrix_completion(5)
    assert escape_certificate(truth, A, b).verdict == "global"
    assert escape_certificate(-truth[:, 0], A, b).verdict == "global"
    away = truth + 0.1
    assert escape_certificate(away, A, b).verdict == "not stationary"
    assert escape_certificate(away, A, b, refine=True).verdict == "global"
    noisy = b + 0.05 * np.random.default_rng(0).standard_normal(b.size)
    problem = BaseProblem(A, noisy)
    best = problem.refine(problem.solve(truth)[0])
    found = escape_certificate(best, A, noisy)
    assert found.loss > 1e-8 * noisy @ noisy
    assert found.verdict in ("not certified", "escapable")


def test_zero_is_a_saddle_left_along_the_spectral_start() -> None:
    A, b, truth = toy.perturbed_matrix_completion(5)
    found = escape_certificate(np.zeros(5), A, b)
    assert (found.min_order, found.verdict) == (1, "escapable")
    assert (found.p, found.s) == (0, 0)
    top = np.linalg.eigh(A.adjoint(b))[1][:, -1]
    assert abs(found.direction[:, 0] @ top) == pytest.approx(1)
    assert found.q > 0
    assert truth[:, 0] @ top != 0


def test_signs_and_rotations_change_nothing() -> None:
    A, b, _ = toy.gaussian_sensing(np.random.default_rng(0), n=6, m=20, rank=2)
    X = np.random.default_rng(1).standard_normal((6, 2))
    c, s = np.cos(0.7), np.sin(0.7)
    one, two = escape_certificate(X, A, b), escape_certificate(X @ np.array([[c, -s], [s, c]]), A, b)
    for name in ("loss", "grad_norm", "hess_min", "p", "q", "s"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-8, abs=1e-8)


def test_curvature_in_log_space() -> None:
    A, b, _ = toy.perturbed_matrix_completion(5)
    found = escape_certificate(toy.wrong_minima(5)[0], A, b)
    sign, size = found.curvature_sign_and_log(3)
    assert sign * np.exp(size) == pytest.approx(2 * (found.p**3 - found.q**3 + 2 * found.s**3), rel=1e-12)
    sign, size = found.curvature_sign_and_log(100_001)
    assert sign == -1
    assert np.isfinite(size)
    assert found.curvature(100_001) == -np.inf
    with pytest.raises(InputError, match="order"):
        found.curvature(0)


def test_minimal_order_edges() -> None:
    assert minimal_lifting_order(1.0, 0.5, 0.0) is None
    assert minimal_lifting_order(0.0, 1.0, 0.0) == 1
    assert minimal_lifting_order(0.0, 1.0, 1.0) is None
    assert minimal_lifting_order(-2.0, 1.0, 0.5) == 1
    assert minimal_lifting_order(0.0, 1.0, 0.75) == 3  # 2 x 0.75 > 1, 2 x 0.42 < 1
    assert minimal_lifting_order(0.0, 0.0, 0.0) is None
    with pytest.raises(InputError, match="squared norm"):
        minimal_lifting_order(0.0, 1.0, -1.0)


def test_all_forms_of_measurements_agree() -> None:
    rng = np.random.default_rng(0)
    left, right, weights = rng.standard_normal((4, 2)), rng.standard_normal((4, 2)), rng.standard_normal(3)
    rows, cols, w = np.array([0, 1, 3]), np.array([2, 1, 0]), np.array([1.0, 2, 0.5])
    matrices = np.zeros((3, 4, 4))
    matrices[np.arange(3), rows, cols] = w  # not symmetric
    flat = matrices.reshape(3, -1)
    mask = coo_array((w, (rows, cols)), shape=(4, 4))
    product = LinearOperator((3, 16), matvec=lambda v: flat @ v, rmatvec=lambda v: flat.T @ v)
    dense = as_operator(matrices)
    symmetric = (matrices + matrices.transpose(0, 2, 1)) / 2
    np.testing.assert_allclose(dense.forward(left, right), np.einsum("mij,ik,jk->m", symmetric, left, right))
    np.testing.assert_allclose(dense.forward(left, left), np.einsum("mij,ik,jk->m", matrices, left, left))
    for other in (as_operator((rows, cols, w)), as_operator(mask), as_operator(product), as_operator(dense)):
        np.testing.assert_allclose(other.forward(left, right), dense.forward(left, right), atol=1e-12)
        np.testing.assert_allclose(other.adjoint(weights), dense.adjoint(weights), atol=1e-12)
    vectors = rng.standard_normal((3, 4))
    outer = as_operator(np.einsum("mi,mj->mij", vectors, vectors))
    np.testing.assert_allclose(as_operator(vectors).forward(left, right), outer.forward(left, right))
    np.testing.assert_allclose(as_operator(vectors).adjoint(weights), outer.adjoint(weights))


def test_a_large_sparse_mask_is_never_made_dense() -> None:
    n = 1500
    ids = np.arange(n)
    operator = EntryOperator(n, np.r_[ids, ids[:-1]], np.r_[ids, ids[1:]])
    X = np.ones((n, 1))
    found = escape_certificate(X, operator, operator.forward(X, X), hessian=False)
    assert found.verdict == "global"
    assert operator.adjoint(np.ones(operator.m)).nnz == 3 * n - 2


@pytest.mark.parametrize(
    ("A", "b", "message"),
    [
        (np.zeros(3), [0.0], "measurements must be"),
        (np.zeros((2, 3, 4)), [0.0, 0], r"\(m, n, n\)"),
        (np.full((1, 2, 2), np.nan), [0.0], "finite"),
        (np.ones((2, 2, 2)), [1.0], "one value a measurement"),
        (np.ones((1, 2, 2)), [np.inf], "finite"),
        (([0, 1], [0, 1]), [1.0, 1], "three lists"),
        (coo_array(np.ones((2, 3))), [1.0], "square"),
    ],
)
def test_measurements_that_cannot_be_used(A, b, message) -> None:
    with pytest.raises(InputError, match=message):
        escape_certificate(np.ones(2), A, b)


def test_points_that_cannot_be_used() -> None:
    A, b, _ = toy.perturbed_matrix_completion(3)
    with pytest.raises(InputError, match="n = 3"):
        escape_certificate(np.ones(4), A, b)
    with pytest.raises(InputError, match="finite"):
        escape_certificate(np.full(3, np.nan), A, b)
    with pytest.raises(InputError, match="ids 0 to 1"):
        EntryOperator(2, [0], [2])
    with pytest.raises(InputError, match="no known entry"):
        completion(np.full((2, 2), np.nan))
    with pytest.raises(InputError, match="n >= 3"):
        toy.perturbed_matrix_completion(2)

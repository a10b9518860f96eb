"""Every form of measurements gives the same numbers as the matrices written out, and adjoint is the transpose of forward."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

from paperworks.errors import InputError
from paperworks.papers.subgm import (
    DenseOperator,
    EntryOperator,
    FlatOperator,
    ImplicitGaussian,
    Operator,
    QuadraticOperator,
    as_operator,
    subgm,
    toy,
)

RNG = np.random.default_rng(0)
SQUARE = toy.gaussian(30, 5, RNG)
RAGGED = RNG.standard_normal((30, 5, 4))
VECTORS = RNG.standard_normal((30, 5))
CELLS = np.zeros((30, 10, 12))
IDS = RNG.permutation(120)[:30]
CELLS[np.arange(30), IDS // 12, IDS % 12] = 1
FEW = np.zeros((30, 60, 40))
FEW_IDS = RNG.permutation(2400)[:30]
FEW[np.arange(30), FEW_IDS // 40, FEW_IDS % 40] = 1

FORMS = {
    "symmetric": (DenseOperator(SQUARE), SQUARE),
    "rectangular": (DenseOperator(RAGGED), RAGGED),
    "quadratic": (QuadraticOperator(VECTORS), np.einsum("mi,mj->mij", VECTORS, VECTORS)),
    "cells": (EntryOperator((10, 12), IDS // 12, IDS % 12), CELLS),
    "few cells": (EntryOperator((60, 40), FEW_IDS // 40, FEW_IDS % 40), FEW),
    "sparse rows": (FlatOperator(sparse.csr_array(RAGGED.reshape(30, 20)), (5, 4)), RAGGED),
    "scipy operator": (FlatOperator(aslinearoperator(SQUARE.reshape(30, 25)), symmetric=True), SQUARE),
    "drawn again": (
        ImplicitGaussian(30, (5, 4), seed=1, symmetric=False, chunk=7),
        np.concatenate([block for _, block in ImplicitGaussian(30, (5, 4), seed=1, symmetric=False, chunk=7).chunks()]),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_forward_and_adjoint_are_those_of_the_matrices(name: str) -> None:
    operator, A = FORMS[name]
    d, e = A.shape[1:]
    assert isinstance(operator, Operator)
    assert (operator.m, operator.shape) == (30, (d, e))
    left, right, weights = RNG.standard_normal((d, 3)), RNG.standard_normal((e, 3)), RNG.standard_normal(30)
    np.testing.assert_allclose(operator.forward(left, right), np.einsum("mij,ij->m", A, left @ right.T), atol=1e-12)
    if d == e:
        np.testing.assert_allclose(operator.forward(left, left), np.einsum("mij,ij->m", A, left @ left.T), atol=1e-12)
    summed = operator.adjoint(weights)
    summed = summed.toarray() if sparse.issparse(summed) else summed
    np.testing.assert_allclose(summed, np.einsum("m,mij->ij", weights, A), atol=1e-12)


def test_a_stored_operator_packs_half_and_may_be_single() -> None:
    assert DenseOperator(SQUARE).bytes_read == 30 * 15 * 8
    single = DenseOperator(SQUARE, dtype=np.float32)
    assert single.bytes_read == 30 * 15 * 4
    np.testing.assert_allclose(
        single.forward(np.eye(5), np.eye(5)), np.trace(SQUARE, axis1=1, axis2=2), rtol=1e-4, atol=1e-5
    )


def test_matrices_that_are_not_symmetric() -> None:
    A = RNG.standard_normal((300, 6, 6))
    X = toy.psd(6, 1, RNG)
    with pytest.warns(UserWarning, match="not symmetric"):
        operator = as_operator(A)
    np.testing.assert_allclose(operator.forward(X, np.eye(6)), np.einsum("mij,ij->m", A, X), atol=1e-12)
    assert not as_operator(A, psd=False).symmetric
    # a user's own operator that is not symmetric, for a matrix that is
    result = subgm(FlatOperator(sparse.csr_array(A.reshape(300, 36))), np.einsum("mij,ij->m", A, X), psd=True)
    np.testing.assert_allclose(result.matrix, X, atol=1e-9)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (RAGGED, "psd=False"),
        (np.ones(4), "got an array of shape"),
        (np.full((3, 2, 2), np.nan), "NaN"),
        (np.array(["a"]), "real numbers"),
        (sparse.csr_array(np.ones((3, 7))), "not a square number"),
    ],
)
def test_forms_that_cannot_be_used_are_refused(form: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        as_operator(form)


def test_a_cell_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        EntryOperator((3, 3), np.array([1, 1]), np.array([2, 2]))


def test_measurements_that_are_never_stored_recover_the_matrix() -> None:
    operator = ImplicitGaussian(400, (8, 8), seed=3, chunk=128)
    X = toy.psd(8, 1, np.random.default_rng(1))
    y = operator.forward(X, np.eye(8))
    y[:80] = 9.0
    np.testing.assert_allclose(subgm(operator, y).matrix, X, atol=1e-9)

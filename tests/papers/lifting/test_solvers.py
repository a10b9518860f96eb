"""The solvers find what they promise, where plain search does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from sklearn.base import clone

from paperworks.errors import InputError
from paperworks.papers.lifting import (
    BurerMonteiro,
    EscapingMatrixSensing,
    LiftedMatrixSensing,
    descent_success,
    escape_certificate,
    search_success,
    toy,
)


@pytest.mark.parametrize(("n", "eps"), [(5, 0.3), (11, 0.1), (21, 0.01)])
def test_every_wrong_end_of_plain_search_is_left(n, eps) -> None:
    A, b, truth = toy.perturbed_matrix_completion(n, eps)
    wrong = 0
    for seed in range(6):
        plain = BurerMonteiro(random_state=seed).fit(A, b)
        escaped = EscapingMatrixSensing().fit(A, b, start=plain.factor_)
        np.testing.assert_allclose(escaped.matrix_, truth @ truth.T, atol=1e-3)
        assert escaped.hops_ == (plain.loss_ > 1e-8)
        assert escaped.history_ == sorted(escaped.history_, reverse=True)
        assert escaped.certificates_[-1].verdict == "global"
        wrong += plain.loss_ > 1e-3
    assert wrong >= 1  # else the test shows nothing


def test_a_start_at_zero_becomes_the_spectral_start() -> None:
    A, b, truth = toy.gaussian_sensing(np.random.default_rng(0), n=8, m=40)
    found = EscapingMatrixSensing().fit(A, b, start=np.zeros(8))
    assert found.hops_ >= 1
    np.testing.assert_allclose(found.matrix_, truth @ truth.T, atol=1e-4)


def test_phase_retrieval_and_a_users_own_operator() -> None:
    rng = np.random.default_rng(4)
    vectors, z = rng.standard_normal((40, 6)) / 3, rng.standard_normal(6)
    b = (vectors @ z) ** 2
    flat = np.einsum("mi,mj->mij", vectors, vectors).reshape(40, -1)
    product = LinearOperator((40, 36), matvec=lambda v: flat @ v, rmatvec=lambda v: flat.T @ v)
    for A in (vectors, product):
        found = EscapingMatrixSensing(n_init=3, random_state=0).fit(A, b)
        np.testing.assert_allclose(found.matrix_, np.outer(z, z), atol=1e-3)
    lifted = LiftedMatrixSensing(3, random_state=0, max_iter=300).fit(vectors[:, :3], (vectors[:, :3] @ z[:3]) ** 2)
    np.testing.assert_allclose(lifted.matrix_, np.outer(z[:3], z[:3]), atol=1e-3)


def test_rank_two_and_completion_of_a_matrix_with_unknown_entries() -> None:
    A, b, truth = toy.gaussian_sensing(np.random.default_rng(1), n=10, m=50, rank=2)
    found = EscapingMatrixSensing(2, n_init=3, random_state=0).fit(A, b)
    np.testing.assert_allclose(found.matrix_, truth @ truth.T, atol=1e-4)
    goal = truth @ truth.T
    holes = goal.copy()
    holes[[0, 3, 2], [3, 0, 2]] = np.nan
    for estimator in (BurerMonteiro(2, n_init=5, random_state=0), EscapingMatrixSensing(2, n_init=5, random_state=0)):
        np.testing.assert_allclose(estimator.fit(holes).matrix_, goal, atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "gd"},
        {"parametrization": "cp", "cp_rank": 2},
        {"parametrization": "cp", "cp_rank": 2, "order": 5},
    ],
    ids=["adam", "gd", "cp", "cp order 5"],
)
def test_lifted_search_at_the_certified_order_finds_the_truth(settings) -> None:
    """n = 5, order 3 or more, from the seeds 0 and 2, where the unlifted descent of the same settings ends wrong."""
    A, b, truth = toy.perturbed_matrix_completion(5)
    for seed in (0, 2):
        unlifted = LiftedMatrixSensing(1, escape=False, random_state=seed).fit(A, b)
        assert escape_certificate(unlifted.factor_, A, b).verdict == "escapable"
        lifted = LiftedMatrixSensing(**{"order": 3, "random_state": seed} | settings).fit(A, b)
        np.testing.assert_allclose(lifted.matrix_, truth @ truth.T, atol=1e-3)
        assert lifted.lifted_loss_ < 1e-3
        assert lifted.rank1_gap_ < 0.05
        assert lifted.history_[-1] < lifted.history_[0]


def test_the_escape_leaves_a_wrong_point_that_descent_alone_does_not(monkeypatch) -> None:
    """Started exactly at the power of a wrong minimum, the gradient is zero: only the escape can move."""
    from paperworks.papers.lifting import solvers

    A, b, truth = toy.perturbed_matrix_completion(5)
    wrong = toy.wrong_minima(5)[0][:, 0]
    power = np.einsum("i,j,k->ijk", wrong, wrong, wrong).reshape(1, -1)
    monkeypatch.setattr(solvers, "starts", lambda *_: power)
    stays = LiftedMatrixSensing(3, escape=False, polish=False).fit(A, b)
    np.testing.assert_allclose(np.abs(stays.factor_[:, 0]), np.abs(wrong), atol=1e-6)
    leaves = LiftedMatrixSensing(3, escape=True).fit(A, b)
    assert leaves.escapes_ == 1
    np.testing.assert_allclose(leaves.matrix_, truth @ truth.T, atol=1e-3)


def test_lifting_a_rank_two_problem() -> None:
    A, b, truth = toy.gaussian_sensing(np.random.default_rng(3), n=3, m=12, rank=2)
    found = LiftedMatrixSensing(2, rank=2, random_state=0).fit(A, b)
    assert found.factor_.shape == (3, 2)
    assert found.lifted_.shape == (6, 6)
    np.testing.assert_allclose(found.matrix_, truth @ truth.T, atol=1e-3)


def test_success_rates_show_what_the_certificate_predicts() -> None:
    """Order 3 is certified at n = 5 and not at n = 3: from powers of vectors, the first gains and the second does not."""
    rates = {}
    for n in (3, 5):
        A, b, truth = toy.perturbed_matrix_completion(n)
        for order in (1, 3):
            rates[n, order] = descent_success(A, b, truth, order, trials=20, init="rank1", max_iter=1000).percent
    assert rates[5, 3] >= rates[5, 1] + 30
    assert rates[3, 3] <= rates[3, 1] + 20


def test_searches_are_compared_from_the_same_starts() -> None:
    A, b, truth = toy.perturbed_matrix_completion(11, 0.1)
    rates = {rate.method: rate for rate in search_success(A, b, truth, trials=4, search_ranks=(2,))}
    assert list(rates) == ["plain", "escape", "restarts", "search rank 2"]
    assert rates["escape"].percent == 100
    assert rates["plain"].successes <= rates["restarts"].successes < 4
    assert rates["plain"].trials == len(rates["plain"].distances) == 4


def test_the_same_seed_gives_the_same_answer_and_clones_start_fresh() -> None:
    A, b, _ = toy.perturbed_matrix_completion(5)
    for estimator in (EscapingMatrixSensing(random_state=3), LiftedMatrixSensing(random_state=3, max_iter=50)):
        first, again = estimator.fit(A, b), clone(estimator)
        assert not hasattr(again, "factor_")
        np.testing.assert_array_equal(first.factor_, again.fit(A, b).factor_)


def test_choices_that_cannot_be_used() -> None:
    A, b, truth = toy.perturbed_matrix_completion(3)
    for estimator, message in (
        (LiftedMatrixSensing(parametrization="full"), "tensor"),
        (LiftedMatrixSensing(optimizer="newton"), "adam"),
        (LiftedMatrixSensing(init="zeros"), "gaussian"),
        (LiftedMatrixSensing(order=0), "order"),
        (EscapingMatrixSensing(rank=4), "rank"),
        (EscapingMatrixSensing(n_init=0), "n_init"),
        (BurerMonteiro(n_init=0), "n_init"),
    ):
        with pytest.raises(InputError, match=message):
            estimator.fit(A, b)
    with pytest.raises(InputError, match="trial"):
        descent_success(A, b, truth, 1, trials=0)

"""The solver follows the paper's formulas, recovers what it should, and says when it did not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.subgm import (
    DenseOperator,
    EntryOperator,
    SubGMResult,
    expected_length,
    reference,
    sign_rip,
    subgm,
    toy,
)
from paperworks.papers.subgm.rank import candidates, read_rank
from paperworks.papers.subgm.solver import weighted_median_ratio


def dense(problem: toy.Sensing) -> np.ndarray:
    return np.stack([problem.operator.adjoint(row) for row in np.eye(problem.operator.m)])


def test_the_geometric_schedule_takes_the_papers_steps() -> None:
    problem = toy.sensing(d=6, rank=1, m=80, corrupt=0.3)
    A = dense(problem)
    first = reference.start(A, problem.y, 6, 1e-2)
    plain = reference.subgm(A, problem.y, first, 0.2, 0.95, 60)
    ours = subgm(
        problem.operator, problem.y, step="geometric", alpha=1e-2, eta0=0.2, rho=0.95, max_iter=60, normalize=False,
        norm_passes=300,
    )  # fmt: skip
    # 1e-9: signs are discrete, so the paths agree to rounding, or part
    np.testing.assert_allclose(ours.matrix, plain @ plain.T, atol=1e-9)
    assert ours.n_iter == 60
    np.testing.assert_allclose(ours.history["eta"], 0.2 * 0.95 ** np.arange(60))


def test_a_single_number_is_the_median() -> None:
    result = subgm(DenseOperator(np.ones((5, 1, 1))), np.array([4.0, 4, 4, 100, -7]))
    assert result.matrix == pytest.approx(np.array([[4.0]]), rel=1e-9)


@pytest.mark.parametrize(("m", "corrupt", "kappa", "rank"), [(600, 0.0, 1, 2), (1200, 0.5, 1, 2), (1800, 0.3, 30, 3)])
def test_rank_and_matrix_are_found_whatever_the_condition(m: int, corrupt: float, kappa: float, rank: int) -> None:
    problem = toy.sensing(d=20, rank=rank, m=m, corrupt=corrupt, kappa=kappa, seed=3)
    result = subgm(problem.operator, problem.y)
    assert (result.rank, result.success) == (rank, True)
    assert problem.error(result.matrix) < 1e-10  # the last step is 1e-14; the polish adds up some hundred
    assert np.array_equal(np.abs(result.residuals) > 1e-6, problem.wrong)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_units_do_not_matter(scale: float) -> None:
    problem = toy.sensing(d=10, rank=1, m=300, corrupt=0.3)
    assert problem.error(subgm(problem.operator, problem.y * scale).matrix / scale) < 1e-10


def test_infinity_is_an_outlier_and_nan_is_refused() -> None:
    problem = toy.sensing(d=10, rank=1, m=300, corrupt=0.0)
    y = problem.y.copy()
    y[:20], y[20:40] = np.inf, -np.inf
    result = subgm(problem.operator, y)
    assert problem.error(result.matrix) < 1e-10
    assert np.isinf(result.residuals[:40]).all()
    y[0] = np.nan
    with pytest.raises(InputError, match="1 NaN"):
        subgm(problem.operator, y)


def test_a_direction_that_has_not_grown_is_added() -> None:
    problem = toy.sensing(d=20, rank=3, m=1800, corrupt=0.3, kappa=10)
    once = subgm(problem.operator, problem.y, max_rounds=1)
    more = subgm(problem.operator, problem.y)
    assert (once.status, once.success, more.success) == (2, False, True)
    assert more.rounds > 1
    assert problem.error(more.matrix) < 1e-10 < 1e-3 < problem.error(once.matrix)


def test_too_few_measurements_are_not_called_success() -> None:
    problem = toy.sensing(m=200, corrupt=0.6)
    result = subgm(problem.operator, problem.y, holdout=0.1)
    assert problem.error(result.matrix) > 0.1
    assert not result.success


def test_small_starts_end_nearer_and_cost_the_same_number_of_steps_each() -> None:
    problem = toy.sensing(d=10, rank=1, m=300, corrupt=0.3)
    runs = [subgm(problem.operator, problem.y, alpha=alpha, polish=False, max_rounds=1) for alpha in (1e-3, 1e-6, 1e-9)]
    errors = [problem.error(run.matrix) for run in runs]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    first, second = runs[1].n_iter - runs[0].n_iter, runs[2].n_iter - runs[1].n_iter
    assert abs(first - second) <= 5  # log(1000) / log(1.1) = 72.5 each
    assert abs(first - np.log(1000) / np.log(1.1)) <= 10


@pytest.mark.parametrize("step", ["constant", "diminishing", "polyak"])
def test_the_other_schedules_come_near_at_the_true_rank(step: str) -> None:
    problem = toy.sensing(d=10, rank=1, m=400, corrupt=0.2)
    error = float(np.mean(np.abs(problem.y - problem.operator.forward(problem.truth, np.eye(10)))))
    kind = {"eta0": 0.01} if step == "constant" else {}
    alpha = 1.0 if step == "polyak" else 1e-3
    result = subgm(problem.operator, problem.y, rank=1, step=step, alpha=alpha, f_star=error, max_iter=1500, **kind)
    assert problem.error(result.matrix) < 0.05
    assert result.n_iter == 1500 or step == "polyak"


def test_rectangular_matrices_and_every_init() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((12, 1)) @ rng.standard_normal((1, 8))
    operator = DenseOperator(rng.standard_normal((500, 12, 8)))
    y = operator.forward(truth, np.eye(8)) + 10 * rng.standard_normal(500) * (rng.random(500) < 0.3)
    start = (1e-6 * rng.standard_normal((12, 4)), 1e-6 * rng.standard_normal((8, 4)))
    for init in ("spectral", "random", "identity", start):
        result = subgm(operator, y, rank=4, init=init, random_state=0)
        np.testing.assert_allclose(result.matrix, truth, atol=1e-8)
        assert (result.rank, result.symmetric) == (1, False)
    with pytest.raises(InputError, match="init"):
        subgm(operator, y, init="warm")


def test_noise_everywhere_leads_near_the_truth_below_its_loss() -> None:
    problem = toy.sensing(d=10, rank=1, m=1500, corrupt=0.0, noise=0.5)
    result = subgm(problem.operator, problem.y)
    truth_loss = np.mean(np.abs(problem.y - problem.operator.forward(problem.truth, np.eye(10))))
    assert result.rank == 1
    assert problem.error(result.matrix) < 3 * 0.5 * np.sqrt(10 / 1500) * np.sqrt(
        np.pi / 2
    )  # spread of a median, rank 1
    assert np.mean(np.abs(result.residuals)) < truth_loss


def test_huber_helps_with_noise_on_top_of_outliers() -> None:
    """Between sign and size: for Gaussian noise the mean is a better estimate than the median by up to sqrt(pi/2)."""
    plain, huber = [], []
    for seed in range(4):
        problem = toy.sensing(d=8, rank=1, m=400, corrupt=0.1, noise=0.5, seed=seed)
        plain.append(problem.error(subgm(problem.operator, problem.y).matrix))
        huber.append(problem.error(subgm(problem.operator, problem.y, huber=0.6).matrix))
    assert np.mean(huber) < np.mean(plain)


def test_early_stopping_ends_sooner_and_keeps_the_best_point() -> None:
    problem = toy.sensing(d=10, rank=2, m=300, corrupt=0.0, noise=1.0)
    long = subgm(problem.operator, problem.y, step="constant", eta0=0.05, alpha=1e-3, max_iter=1500, holdout=0.2)
    short = subgm(
        problem.operator, problem.y, step="constant", eta0=0.05, alpha=1e-3, max_iter=1500, holdout=0.2,
        early_stopping=100,
    )  # fmt: skip
    assert short.n_iter < long.n_iter == 1500
    assert problem.error(short.matrix) < problem.error(long.matrix)


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path) -> None:
    problem = toy.sensing(d=20, rank=3, m=1200, corrupt=0.3, kappa=10)
    whole = subgm(problem.operator, problem.y)

    def killed(t, factors, facts) -> None:
        if t == 1500:
            raise KeyboardInterrupt

    path = tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        subgm(problem.operator, problem.y, callback=killed, checkpoint=path, checkpoint_every=50)
    assert path.exists()
    with pytest.raises(InputError, match="another problem"):
        subgm(problem.operator, problem.y + 1, checkpoint=path)
    seen: list[int] = []
    resumed = subgm(problem.operator, problem.y, checkpoint=path, callback=lambda t, factors, facts: seen.append(t))
    assert seen[0] > 100
    assert np.array_equal(resumed.U, whole.U)
    assert np.array_equal(resumed.history["loss"], whole.history["loss"])
    assert not path.exists()


def test_save_and_load_give_the_same_bits(tmp_path) -> None:
    problem = toy.sensing(d=10, rank=1, m=200, corrupt=0.1)
    result = subgm(problem.operator, problem.y, holdout=0.1)
    result.save(tmp_path / "r.npz")
    loaded = SubGMResult.load(tmp_path / "r.npz")
    assert np.array_equal(loaded.matrix, result.matrix)
    assert np.array_equal(loaded.residuals, result.residuals)
    assert loaded.history.keys() == result.history.keys()
    assert (loaded.message, loaded.rank, loaded.held_out_ratio) == (result.message, result.rank, result.held_out_ratio)
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="cannot be read"):
        SubGMResult.load(tmp_path / "bad.npz")


def test_the_callback_sees_the_factors_and_can_stop() -> None:
    problem = toy.sensing(d=10, rank=1, m=200, corrupt=0.1)
    result = subgm(problem.operator, problem.y, callback=lambda t, factors, facts: t >= 7)
    assert (result.n_iter, result.success, result.message) == (7, False, "stopped by the callback")


@pytest.mark.parametrize(
    ("settings_", "says"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"rho": 1.0}, "rho"),
        ({"eta0": 1.5}, "eta0"),
        ({"step": "newton"}, "step must be"),
        ({"rank": 0}, "rank"),
        ({"n_components": 99}, "n_components"),
        ({"early_stopping": 10}, "holdout"),
        ({"holdout": 1.0}, "holdout"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings_: dict, says: str) -> None:
    problem = toy.sensing(d=5, rank=1, m=50, corrupt=0.0)
    with pytest.raises(InputError, match=says):
        subgm(problem.operator, problem.y, **settings_)


def test_warnings_for_ranks_and_measurements() -> None:
    problem = toy.sensing(d=5, rank=1, m=50, corrupt=0.0)
    with pytest.warns(UserWarning, match="rank 9 is above"):
        subgm(problem.operator, problem.y, rank=9)
    with pytest.warns(UserWarning, match="under-determined"):
        subgm(DenseOperator(toy.gaussian(8, 6, np.random.default_rng(0))), np.ones(8), max_iter=20, max_rounds=1)
    with pytest.warns(UserWarning, match="all measurements are zero"):
        nothing = subgm(problem.operator, np.zeros(50))
    assert (nothing.rank, nothing.matrix.tolist()) == (0, np.zeros((5, 5)).tolist())


def test_ranks_by_hand() -> None:
    assert read_rank(np.array([5.0, 3, 1e-9, 1e-10]))[0] == 2
    assert read_rank(np.array([5.0, 3, 2]))[0] == 3
    assert read_rank(np.array([5.0]))[0] == 1
    assert read_rank(np.array([5.0, 3, 1e-9]), known=1)[0] == 1
    assert candidates(np.array([5.0, 3, 1e-9]), 2) == [2]
    assert candidates(np.array([5.0, 3, 0.1, 0.01]), 2) == [1, 2, 3]


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-5, 5)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_weighted_median_minimises(pairs: list[tuple[float, float]]) -> None:
    residual, measured = map(np.array, zip(*[(r, round(a, 2)) for r, a in pairs], strict=True))
    c = weighted_median_ratio(residual, measured)
    loss = np.abs(residual - c * measured).sum()
    others = [r / a for r, a in zip(residual, measured, strict=True) if a]
    assert all(loss <= np.abs(residual - other * measured).sum() + 1e-9 * (1 + loss) for other in others)


def test_sign_rip_shrinks_with_the_root_of_the_measurements_and_phi_is_right() -> None:
    few, many = (
        sign_rip(DenseOperator(toy.gaussian(m, 10, np.random.default_rng(0))), rank=2, n_directions=40).delta
        for m in (500, 8000)
    )
    assert 3 < few / many < 5  # sqrt(16) = 4
    # one matrix, so many measurements that the mean is the expectation
    rng = np.random.default_rng(0)
    operator = DenseOperator(toy.gaussian(60_000, 4, rng))
    X, s = np.diag([0.6, 0.8, 0, 0]), rng.standard_normal(60_000)
    Q = operator.adjoint(np.sign(operator.forward(X, np.eye(4)) - s) / 60_000)
    np.testing.assert_allclose(Q, expected_length(1.0, s) * X, atol=4 / np.sqrt(60_000))


def test_completion_from_few_cells_stays_sparse() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((600, 1)) @ rng.standard_normal((1, 500))
    cells = rng.permutation(truth.size)[:12_000]
    rows, cols = np.divmod(cells, 500)
    operator = EntryOperator((600, 500), rows, cols)
    assert operator.few
    y = truth[rows, cols] + 5 * rng.standard_normal(rows.size) * (rng.random(rows.size) < 0.1)
    result = subgm(operator, y, rank=4, rho=0.96, tol=1e-9)
    # rows with a handful of cells may hold more wrong than right ones, so judge the median cell
    assert np.median(np.abs(result.matrix - truth)) < 1e-8

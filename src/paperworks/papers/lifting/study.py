"""How often does each way of searching find the true matrix? Success rates on one instance, all methods from as many starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.lifting.descent import Init, descend, starts
from paperworks.papers.lifting.operators import checked
from paperworks.papers.lifting.solvers import BurerMonteiro, EscapingMatrixSensing
from paperworks.papers.lifting.tensor import TensorProblem
from paperworks.progress import Progress, silent


@dataclass(frozen=True)
class SuccessRate:
    """method; successes of trials; distances (trials,): what was compared with the threshold."""

    method: str
    successes: int
    trials: int
    distances: tuple[float, ...]

    @property
    def percent(self) -> float:
        """Successes of 100."""
        return 100.0 * self.successes / self.trials


def descent_success(
    A: object,
    b: object,
    truth: np.ndarray,
    order: int,
    *,
    trials: int = 40,
    init: Init = "gaussian",
    init_scale: float = 0.01,
    max_iter: int = 2000,
    threshold: float = 0.1,
    seed: int = 0,
    progress: Progress = silent,
) -> SuccessRate:
    """The paper's experiment: Adam on the problem lifted to `order` (1: not lifted), all trials side by side.

    truth (n,): z. A trial succeeds when the tensor it ends at is within `threshold` of the power of z or its negative. Settings are
    those of the authors' code: step 0.02, 2,000 steps, Gaussian start of norm about 0.01.
    """
    operator, values = checked(A, b)
    if trials < 1:
        raise InputError(f"a success rate needs at least one trial, got {trials}")
    problem = TensorProblem(operator, values, order)
    w = starts(np.random.default_rng(seed), trials, operator.n, order, init_scale, init)
    run = descend(problem.value_and_gradient, w, max_iter=max_iter, progress=progress)
    power = problem.lift(truth)
    distances = np.minimum(np.linalg.norm(run.points - power, axis=1), np.linalg.norm(run.points + power, axis=1))
    name = "unlifted" if order == 1 else f"lifted, order {order}, {init}"
    return SuccessRate(name, int((distances <= threshold).sum()), trials, tuple(map(float, distances)))


def search_success(
    A: object,
    b: object,
    truth: np.ndarray,
    *,
    trials: int = 40,
    search_ranks: Sequence[int] = (),
    threshold: float = 1e-3,
    seed: int = 0,
    progress: Progress = silent,
) -> list[SuccessRate]:
    """Plain local search, over-parametrised search ranks, the escape, and as many restarts as the escape made local solves.

    truth (n, r). A trial succeeds when ||X X^T - M*|| <= threshold ||M*||, which no rotation or sign of X changes.
    """
    operator, values = checked(A, b)
    if trials < 1:
        raise InputError(f"a success rate needs at least one trial, got {trials}")
    truth = np.asarray(truth, dtype=float).reshape(operator.n, -1)
    goal, rank = truth @ truth.T, truth.shape[1]
    size = float(np.linalg.norm(goal))
    away: dict[str, list[float]] = {}
    for trial in range(trials):
        state = seed * trials + trial
        escaping = EscapingMatrixSensing(rank, random_state=state).fit(operator, values)
        fits: dict[str, BurerMonteiro] = {
            "plain": BurerMonteiro(rank, random_state=state).fit(operator, values),
            "escape": escaping,
            "restarts": BurerMonteiro(rank, n_init=escaping.hops_ + 1, random_state=state).fit(operator, values),
        }
        for wide in search_ranks:
            fits[f"search rank {wide}"] = BurerMonteiro(wide, random_state=state).fit(operator, values)
        for name, fit in fits.items():
            away.setdefault(name, []).append(float(np.linalg.norm(fit.matrix_ - goal)) / size)
        progress(trial + 1, trials)
    return [
        SuccessRate(name, sum(one <= threshold for one in distances), trials, tuple(distances))
        for name, distances in away.items()
    ]

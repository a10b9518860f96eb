"""The sub-gradient method: minimise (1/m) sum |y_i - <A_i, X>| over X = U U^T or L R^T, from almost zero.

    U <- U - eta_t Q U / ||Q||,   Q = (1/m) sum_i sign(<A_i, U U^T> - y_i) A_i,   U_0 = alpha B

`step="geometric"` is the paper's method as it stands. `step="auto"` (default, ours) needs no tuning: it waits until growth ends before
it decays, asks the signs of the residuals whether a direction is still missing, adds it, reads the rank off and polishes.

Axis letters: m measurements, d and e sides of the matrix, k columns of the factors (the search rank).
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from paperworks.errors import InputError
from paperworks.papers.subgm import kernels
from paperworks.papers.subgm.geometry import Factors, Geometry
from paperworks.papers.subgm.operators import DenseOperator, EntryOperator, Operator, as_operator
from paperworks.papers.subgm.rank import candidates, read_rank
from paperworks.papers.subgm.steps import DECAY, ESCAPE, POLISH, Schedule, Step, checked
from paperworks.progress import Progress, silent

HISTORY = ("loss", "size", "q_norm", "eta", "phase")
THREADS_PAY_ABOVE = 200_000_000  # bytes of packed measurements; below it several threads lose more than they gain
REGROWTH = 60  # steps that an added direction is given: at a twentieth each, twice in U U^T, it grows 350-fold
SIGNS_ARE_CHANCE = (
    1.1  # times the spectral norm of random signs; fitted residuals stay below 1, a missing direction was 1.27 and more
)


@dataclass
class SubGMResult:
    """What a run found.

    U (d, k): left factor; V (e, k): right factor, the same array for a symmetric matrix; `matrix` is U V^T (d, e).
    rank: as read off the spectrum; gap: ratio of the singular values on its two sides; singular_values (search rank,) before truncation.
    history: arrays of the same length, one value a step: loss, size (||X||_F), q_norm, eta, phase (0 escape, 1 decay, 2 polish).
    With the polish, first steps that have a closed form are taken at once and not listed.
    status: 0 settled, 1 out of steps, 2 a direction is still missing, 3 held-out residuals contradict, 4 nothing to recover.
    held_out_ratio: 10 % quantile of the absolute residuals held out over that of the others (NaN without a hold-out).
    residuals (m,): y - <A, X>, in units of y, infinite where y was.
    """

    U: np.ndarray
    V: np.ndarray
    rank: int
    gap: float
    singular_values: np.ndarray
    history: dict[str, np.ndarray]
    status: int
    message: str
    residuals: np.ndarray
    held_out_ratio: float = float("nan")
    rounds: int = 1
    symmetric: bool = True

    @property
    def matrix(self) -> np.ndarray:
        """U V^T, (d, e)."""
        return self.U @ self.V.T

    @property
    def success(self) -> bool:
        """Whether the run settled and nothing speaks against the result."""
        return self.status in (0, 4)

    @property
    def n_iter(self) -> int:
        """Steps taken, polishing included."""
        return int(self.history["loss"].size)

    @property
    def kappa(self) -> float:
        """Ratio of the largest to the smallest singular value that was kept; NaN at rank 0."""
        kept = self.singular_values[: self.rank]
        return float(kept[0] / kept[-1]) if kept.size and kept[-1] > 0 else float("nan")

    def save(self, path: str | Path) -> None:
        """Write all fields to one .npz file; `load` gives them back bit by bit."""
        facts = {
            name: getattr(self, name)
            for name in ("rank", "gap", "status", "message", "held_out_ratio", "rounds", "symmetric")
        }
        arrays = {"U": self.U, "V": self.V, "singular_values": self.singular_values, "residuals": self.residuals}
        arrays |= {f"history_{name}": values for name, values in self.history.items()}
        _write(Path(path), facts, arrays)

    @classmethod
    def load(cls, path: str | Path) -> SubGMResult:
        """Read what `save` wrote. Raises InputError for another kind of file."""
        facts, arrays = _read(Path(path))
        history = {name.removeprefix("history_"): arrays.pop(name) for name in list(arrays) if name.startswith("hist")}
        fields: dict[str, Any] = {**facts, **arrays}
        result = cls(history=history, **fields)
        if result.symmetric:
            result.V = result.U
        return result


def subgm(
    operator: Any,
    y: np.ndarray,
    *,
    rank: int | None = None,
    n_components: int | None = None,
    psd: bool | None = None,
    step: Step = "auto",
    alpha: float = 1e-9,
    eta0: float = 0.1,
    rho: float = 0.9,
    patience: int = 10,
    init: str | np.ndarray = "spectral",
    max_iter: int = 3000,
    tol: float = 1e-12,
    max_rounds: int = 8,
    polish: bool = True,
    normalize: bool = True,
    huber: float = 0.0,
    holdout: float = 0.0,
    early_stopping: int | None = None,
    f_star: float = 0.0,
    norm_passes: int = 1,
    random_state: int | None = 0,
    callback: Callable[[int, Factors, Mapping[str, float]], bool | None] | None = None,
    progress: Progress = silent,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
) -> SubGMResult:
    """Recover a low-rank matrix X from y_i = <A_i, X> + s_i, where many s_i may be of any size.

    Parameters
    ----------
    operator : measurements in any form that `as_operator` takes
    y : (m,) floats; infinite values count as gross errors, NaN is refused
    rank : search rank k, default the smaller side of the matrix; it may be far above the true one
    n_components : the true rank if it is known; otherwise it is read off the spectrum
    psd : X symmetric positive semidefinite (U U^T), or any matrix (L R^T); by default as the operator says
    step : "auto", or "geometric" (the paper's), "constant", "diminishing", "polyak" (needs `f_star`, and alpha near 1)
    alpha : size of the start relative to the median of |y|; the error at the end is a power of it
    eta0, rho : first relative step and its decay; the paper's schedule wants rho near 1, see `steps.py`
    patience : steps without growth after which "auto" begins to decay
    init : "spectral", "random", "identity" or an array (d, k) (for L R^T a pair of arrays), used as it is
    max_iter : most steps of a round
    tol : the step length at which a decaying round ends
    max_rounds : most rounds of "auto"; each adds one missing direction
    polish : "auto" only: truncate to the rank and refine
    normalize : divide y by its median absolute value first
    huber : residuals below it (in units of y) count with their size instead of their sign; for noise on top of outliers
    holdout : fraction of measurements kept out, for `held_out_ratio` and `early_stopping`
    early_stopping : end a round after so many steps without a smaller held-out median residual, and take the best point
    f_star : mean absolute residual of the truth, for "polyak"
    random_state : seeds the hold-out, random starts and the signs of the self-check; fixed by default, so that a run repeats
    norm_passes : power iterations a step for ||Q||, each from the last step's vector
    callback : called as callback(t, (left, right), {"loss", "eta", "size"}) in units of normalised y; True stops the run
    checkpoint : .npz file, written every `checkpoint_every` steps; a file of the same problem is resumed, to the same bits

    Raises InputError for measurements, y or settings that cannot be used.

    >>> from paperworks.papers.subgm import toy
    >>> problem = toy.sensing(d=10, rank=1, m=300, corrupt=0.3, seed=0)
    >>> result = subgm(problem.operator, problem.y)
    >>> result.rank, bool(np.abs(result.matrix - problem.truth).max() < 1e-6)
    (1, True)
    """
    checked(step, eta0, rho)
    if alpha <= 0:
        raise InputError(f"alpha must be positive, got {alpha}; 1e-9 suits most problems")
    if not 0 <= holdout < 0.9:
        raise InputError(f"holdout is a fraction from 0 to 0.9, got {holdout}")
    if early_stopping is not None and holdout == 0:
        raise InputError("early_stopping looks at held-out measurements; pass holdout=0.1 too")
    if checkpoint is not None and random_state is None:
        raise InputError("a run with a checkpoint must repeat; give random_state a number")
    if huber < 0 or max_iter < 1:
        raise InputError(f"huber must not be negative and max_iter at least 1, got {huber} and {max_iter}")
    operator = as_operator(operator, psd=bool(psd))
    psd = operator.symmetric if psd is None else psd
    y = _checked_y(y, operator.m)
    run = _Run(operator, y, Geometry(operator.shape, psd))
    limit = min(operator.shape)
    if rank is not None and rank < 1:
        raise InputError(f"rank must be at least 1, got {rank}; leave it out to search up to {limit}")
    if rank is not None and rank > limit:
        warnings.warn(f"rank {rank} is above the smaller side of the matrix; {limit} is used", stacklevel=2)
    k = min(rank or limit, limit)
    if n_components is not None and not 1 <= n_components <= k:
        raise InputError(f"n_components must be between 1 and the search rank {k}, got {n_components}")
    if operator.m < 2 * max(operator.shape) and not isinstance(operator, EntryOperator):
        warnings.warn(
            f"{operator.m} measurements for a {operator.shape} matrix: under-determined even at rank 1, "
            f"which needs several times {sum(operator.shape)}",
            stacklevel=2,
        )
    rng = np.random.default_rng(random_state)
    run.keep[:] = True
    if holdout:
        run.keep[rng.permutation(operator.m)[: max(1, round(holdout * operator.m))]] = False
    finite = y[np.isfinite(y)]
    scale = float(np.median(np.abs(finite))) if finite.size else 0.0
    if scale == 0.0 and finite.size:
        nonzero = np.abs(finite[finite != 0])
        scale = float(np.median(nonzero)) if nonzero.size else 0.0
    if scale == 0.0:
        warnings.warn("all measurements are zero: nothing to recover, rank 0 is returned", stacklevel=2)
        return run.nothing(y)
    run.scale = scale if normalize else 1.0
    with np.errstate(over="ignore"):
        scaled = y / run.scale
    bound = 1e6 * max(1.0, float(np.max(np.abs(finite / run.scale), initial=1.0)))
    run.y = np.clip(scaled, -bound, bound)  # an infinite y keeps its sign, which is all that the method looks at
    run.huber = huber / run.scale
    run.early_stopping, run.f_star, run.max_iter = early_stopping, f_star / run.scale, max_iter
    run.callback, run.progress, run.norm_passes = callback, progress, max(1, norm_passes)
    run.checkpoint = Path(checkpoint) if checkpoint is not None else None
    run.checkpoint_every = checkpoint_every
    threads = operator.bytes_read < THREADS_PAY_ABOVE if isinstance(operator, DenseOperator) else limit < 300
    with threadpool_limits(1, "blas") if threads else nullcontext():
        noise = run.chance(rng) if step == "auto" else 0.0
        schedule = Schedule(step, eta0, rho, patience, eta_end=tol)
        run.prune = (
            step == "auto" and polish and k > 40
        )  # small factors cost nothing, and a spectrum in full is good to have
        jump = eta0 if step == "auto" and polish else 0.0
        factors = run.start(init, alpha, k, rng, jump)
        if run.checkpoint is not None:
            run.mark(repr((k, n_components, psd, step, alpha, eta0, rho, patience, max_iter, tol, huber, holdout)))
            schedule, factors = run.resume(schedule, factors)
        return run.whole(schedule, factors, noise, n_components, max_rounds, polish, y)


@dataclass
class _Run:
    """The state of one call of `subgm`, in units of normalised y."""

    operator: Operator
    y: np.ndarray
    geometry: Geometry
    scale: float = 1.0
    huber: float = 0.0
    f_star: float = 0.0
    norm_passes: int = 1
    max_iter: int = 3000
    early_stopping: int | None = None
    callback: Callable[[int, Factors, Mapping[str, float]], bool | None] | None = None
    progress: Progress = silent
    checkpoint: Path | None = None
    checkpoint_every: int = 500
    fingerprint: str = ""
    round: int = 0
    in_round: int = 0
    stopped: bool = False
    prune: bool = False
    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in HISTORY})

    def __post_init__(self) -> None:
        self.keep = np.ones(self.operator.m, dtype=bool)
        self.signs = np.empty(self.operator.m)
        self.vector = np.random.default_rng(0).standard_normal(self.operator.shape[1])
        self.vector /= np.linalg.norm(self.vector)

    def mean(self, weights: np.ndarray, keep: np.ndarray | None = None) -> Any:
        """(1/m) sum weights_i A_i, made symmetric for a symmetric matrix."""
        Q = self.operator.adjoint(weights / max(1, int((self.keep if keep is None else keep).sum())))
        return (Q + Q.T) / 2 if self.geometry.symmetric and not self.operator.symmetric else Q

    def gradient(self, factors: Factors, keep: np.ndarray) -> tuple[float, Any, np.ndarray]:
        """Mean absolute residual, Q, and the predictions (m,)."""
        predicted = self.operator.forward(*factors)
        total = kernels.signs(predicted, self.y, keep, self.huber, self.signs)
        return total / max(1, int(keep.sum())), self.mean(self.signs, keep), predicted

    def start(self, init: Any, alpha: float, k: int, rng: np.random.Generator, jump: float = 0.0) -> Factors:
        """The first factors; see `init` of `subgm`. With jump > 0, those after many steps of that length.

        While X is far smaller than y no sign changes, Q stays -C, and step after step multiplies column i by 1 + eta lambda_i / lambda_1:
        the first steps have a closed form. It is used until U reaches 1e-3.
        """
        d, e = self.operator.shape
        if not isinstance(init, str):
            arrays = init if isinstance(init, tuple) else (init,)
            left, right = np.array(arrays[0], dtype=float), np.array(arrays[-1], dtype=float)
            if left.shape != (d, left.shape[-1]) or right.shape != (e, left.shape[-1]):
                raise InputError(f"init must be ({d}, k) for U, or a pair ({d}, k), ({e}, k); got shape {left.shape}")
            return self.geometry.pair(left, right)
        if init == "random":
            return self.geometry.pair(alpha * rng.standard_normal((d, k)), alpha * rng.standard_normal((e, k)))
        if init == "identity":
            left, _ = np.linalg.qr(rng.standard_normal((d, k)))
            right, _ = np.linalg.qr(rng.standard_normal((e, k)))
            return self.geometry.pair(alpha * left, alpha * right)
        if init != "spectral":
            raise InputError(f"init must be spectral, random, identity or an array, got {init!r}")
        # one sub-gradient at zero; where <A, X> >= 0 for every X the signs of y are all 1 and tell nothing: centre them
        middle = float(np.median(self.y[self.keep])) if self.operator.positive else 0.0
        values, u, v = self.geometry.top(self.mean(np.where(self.keep, np.sign(self.y - middle), 0.0)), k)
        values = np.maximum(values, 0.0)
        length = float(np.linalg.norm(values))
        if length == 0.0:  # the signs point away from every positive semidefinite matrix
            return self.geometry.pair(alpha * rng.standard_normal((d, k)), alpha * rng.standard_normal((e, k)))
        left, right = self.geometry.balanced(values / length, u, v)
        reached = alpha * np.sqrt(values[0] / length)
        if jump > 0 and reached < 1e-3 and not self.operator.positive and not self.huber:
            steps = int(np.log(1e-3 / reached) / np.log1p(jump))
            growth = (1 + jump * values / values[0]) ** steps
            left, right = left * growth, right * growth
        return self.geometry.pair(alpha * left, alpha * right)

    def chance(self, rng: np.random.Generator) -> float:
        """Median spectral norm of the mean of randomly signed measurement matrices, over three draws."""
        tops = []
        for _ in range(3):
            coins = np.where(self.keep, rng.choice([-1.0, 1.0], self.operator.m), 0.0)
            Q = self.mean(coins)  # the coins of -Q are as likely: of a symmetric Q take both ends
            tops.append(max(float(self.geometry.top(sign * Q, 1)[0][0]) for sign in (1.0, -1.0)))
        return float(np.median(tops))

    def descend(
        self, schedule: Schedule, factors: Factors, keep: np.ndarray | None = None, *, precondition: bool = False
    ) -> Factors:
        """One round of steps, until the schedule ends it or the steps run out."""
        keep = self.keep if keep is None else keep
        watched = ~keep if self.early_stopping is not None and not keep.all() else None
        best, best_factors, since, peak = np.inf, factors, 0, 0.0
        main = not precondition
        while not main or self.in_round < self.max_iter:
            size = self.geometry.size(factors)
            before = schedule.phase
            eta = schedule.next(size)
            if eta is None:
                break
            if self.prune and before == ESCAPE and schedule.phase == DECAY and factors[0].shape[1] > 8:
                # growth has ended: columns that are still next to nothing would be cut at the end, and cost until then
                values = self.geometry.spectrum(factors)[0]
                factors = self.truncated(factors, max(2, int((values > 1e-5 * values[0]).sum()) + 2))
            loss, Q, predicted = self.gradient(factors, keep)
            length, self.vector = self.geometry.norm(Q, self.vector, self.norm_passes)
            if length == 0.0:
                break
            directions = self.geometry.directions(Q, factors)
            if schedule.kind == "polyak":
                steepness = sum(float(np.vdot(g, g)) for g in directions[: 1 if self.geometry.symmetric else 2])
                step = max(loss - self.f_star, 0.0) / ((2.0 if self.geometry.symmetric else 1.0) * steepness or 1.0)
                eta = step * length
            elif precondition:
                # eta is the relative change of X: the step that it takes is ||X|| over what Q has in the span of the factor
                inside = float(np.linalg.norm(Q @ np.linalg.qr(factors[1])[0]))
                directions = self.geometry.preconditioned(directions, factors, eta * size)
                step = eta * size / max(inside, 1e-300)
            else:
                step = eta / length
            factors = self.geometry.moved(factors, directions, step)
            for name, value in zip(HISTORY, (loss, size, length, eta, schedule.phase), strict=True):
                self.history[name].append(value)
            t = len(self.history["loss"])
            if main:
                self.in_round += 1
            if self.callback is not None and self.callback(t, factors, {"loss": loss, "eta": eta, "size": size}):
                self.stopped = True
                break
            if t % 50 == 0:
                self.progress(t, None, f"round {self.round + 1}, loss {loss * self.scale:.3g}")
            if watched is not None and main:
                error = float(np.median(np.abs(predicted - self.y)[watched]))
                best, best_factors, since = (
                    (error, factors, 0) if error < 0.999 * best else (best, best_factors, since + 1)
                )
                if size > schedule.growth * peak:  # nearly zero predicts nothing yet: growth is no reason to stop
                    peak, since = size, 0
                if since >= (self.early_stopping or 0) and schedule.phase == DECAY:
                    return best_factors
            if main and self.checkpoint is not None and t % self.checkpoint_every == 0:
                self.keep_state(schedule, factors)
        return best_factors if watched is not None and main and best < np.inf else factors

    def missing(self, factors: Factors, rounding: float) -> tuple[float, np.ndarray, np.ndarray]:
        """The direction in which the signs of the residuals agree most: how much (like `chance`), and its two vectors."""
        predicted = self.operator.forward(*factors)
        residual = self.y - predicted
        # what the last steps leave has no meaning in its sign
        residual[np.abs(residual) < rounding * max(1.0, float(np.median(np.abs(predicted))))] = 0.0
        values, u, v = self.geometry.top(self.mean(np.where(self.keep, np.sign(residual), 0.0)), 1)
        return float(values[0]), u[:, 0], v[:, 0]

    def inject(self, factors: Factors, k: int, u: np.ndarray, v: np.ndarray) -> Factors:
        """Add c u v^T with the c that fits the residuals best in absolute value; beyond k columns the least is dropped."""
        measured = self.operator.forward(u[:, None], u[:, None] if self.geometry.symmetric else v[:, None])
        residual = (self.y - self.operator.forward(*factors))[self.keep]
        c = weighted_median_ratio(residual, measured[self.keep])
        # wrong measurements pull the best c towards zero, where nothing would grow in time: a thousandth of X is enough to start from
        root = np.sqrt(max(c, 1e-3 * self.geometry.size(factors)))
        wider = [np.column_stack([factor, root * vector]) for factor, vector in zip(factors, (u, v), strict=True)]
        return self.truncated(self.geometry.pair(*wider), k)

    def truncated(self, factors: Factors, rank: int) -> Factors:
        """The best factors of that rank."""
        values, left, right = self.geometry.spectrum(factors)
        return self.geometry.balanced(values[:rank], left[:, :rank], right[:, :rank])

    def refined(self, factors: Factors, keep: np.ndarray, rho: float, tol: float) -> Factors:
        """Polish factors of the right rank by preconditioned steps that begin at the present relative error."""
        predicted = self.operator.forward(*factors)
        level = float(np.median(np.abs(predicted - self.y)[keep]) / max(float(np.median(np.abs(predicted))), 1e-300))
        schedule = Schedule("geometric", min(max(level, 1e-8), 0.05), rho, eta_end=tol, phase=POLISH)
        schedule.phase = POLISH
        return self.descend(schedule, factors, keep, precondition=True)

    def whole(
        self,
        schedule: Schedule,
        factors: Factors,
        noise: float,
        n_components: int | None,
        max_rounds: int,
        polish: bool,
        y: np.ndarray,
    ) -> SubGMResult:
        """All rounds and the polish, and what is to be said of the end."""
        k, auto, level = factors[0].shape[1], schedule.kind == "auto", 0.0
        while True:
            factors = self.descend(schedule, factors)
            values = self.geometry.spectrum(factors)[0]
            rank, gap = read_rank(values, known=n_components)
            if not auto or self.stopped:
                break
            if polish:
                factors, rank = self.polished(factors, values, rank, n_components, schedule)
            level, u, v = self.missing(factors, 10 * schedule.eta_end)
            if level < SIGNS_ARE_CHANCE * noise or self.round + 1 >= max_rounds:
                break
            if n_components is not None and factors[0].shape[1] >= k:
                break
            self.round += 1
            self.in_round = 0
            factors = self.inject(factors, k, u, v)
            eta0 = schedule.eta0 / 2 if self.round == 1 else schedule.eta0
            schedule = Schedule("auto", eta0, schedule.rho, REGROWTH, schedule.eta_end)
        final = self.geometry.spectrum(factors)[0]
        if factors[0].shape[1] == rank and values.size < rank:
            values = final
        values = values.copy()
        values[: min(rank, final.size)] = final[: min(rank, values.size)]
        ended = self.in_round < self.max_iter
        if self.stopped:
            status, message = 1, "stopped by the callback"
        elif auto and level >= SIGNS_ARE_CHANCE * noise:
            status = 2
            message = "the signs of the residuals still point somewhere: more measurements, or more rounds, are needed"
        elif not ended and schedule.kind in ("auto", "geometric"):
            status, message = 1, f"the last round took all {self.max_iter} steps; raise max_iter, or lower rho"
        else:
            status, message = 0, "settled"
        residual = self.y - self.operator.forward(*factors)
        freedom = rank * (sum(self.operator.shape) - rank)
        if self.geometry.symmetric:
            freedom = rank * (2 * self.operator.shape[0] - rank + 1) // 2
        if status == 0 and auto and freedom > 0.5 * self.keep.sum() and not isinstance(self.operator, EntryOperator):
            status = 3
            message = (
                f"a matrix of rank {rank} has {freedom} degrees of freedom, more than half of the {int(self.keep.sum())} "
                "measurements: it is not determined, and what was found may be an interpolation of the errors"
            )
        ratio = float("nan")
        if not self.keep.all():
            # a low quantile, not the median: it holds good measurements even when most are wrong
            inside = float(np.quantile(np.abs(residual[self.keep]), 0.1))
            outside = float(np.quantile(np.abs(residual[~self.keep]), 0.1))
            ratio = outside / inside if inside > 0 else (1.0 if outside == 0 else np.inf)
            if ratio > 10 and outside > 1e-6:
                status = 3
                message = f"held-out residuals are {ratio:.3g} times the others: too many gross errors, or too few measurements"
        left, right = (factor * np.sqrt(self.scale) for factor in factors)
        if self.geometry.symmetric:
            right = left
        with np.errstate(invalid="ignore"):
            residuals = np.where(np.isfinite(y), residual * self.scale, y)
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)
        self.progress(len(self.history["loss"]), len(self.history["loss"]), message)
        history = {name: np.array(values_) for name, values_ in self.history.items()}
        history["loss"], history["size"] = history["loss"] * self.scale, history["size"] * self.scale
        return SubGMResult(
            left, right, rank, gap, values * self.scale, history, status, message, residuals, ratio, self.round + 1,
            self.geometry.symmetric,
        )  # fmt: skip

    def polished(
        self, factors: Factors, values: np.ndarray, rank: int, known: int | None, schedule: Schedule
    ) -> tuple[Factors, int]:
        """Truncate and refine. Near ranks compete on a tenth of the measurements that the refining does not see."""
        options = [rank] if known is not None else candidates(values, rank)
        if len(options) > 1:
            judge = np.zeros(self.operator.m, dtype=bool)
            judge[np.random.default_rng(1).permutation(self.operator.m)[: max(1, self.operator.m // 10)]] = True
            judge &= self.keep
            errors = {}
            for option in options:
                trial = self.refined(self.truncated(factors, option), self.keep & ~judge, 0.93, 1e-11)
                errors[option] = float(np.median(np.abs(self.operator.forward(*trial) - self.y)[judge]))
            best = min(errors.values())
            rank = min(option for option, error in errors.items() if error <= 1.02 * best + 1e-9)
        return self.refined(self.truncated(factors, rank), self.keep, 0.96, max(schedule.eta_end, 1e-14) / 100), rank

    def nothing(self, y: np.ndarray) -> SubGMResult:
        d, e = self.operator.shape
        empty, right = np.zeros((d, 0)), np.zeros((e, 0))
        history = {name: np.zeros(0) for name in HISTORY}
        residual = np.array(y, dtype=float)
        message = "all measurements are zero"
        return SubGMResult(empty, empty if self.geometry.symmetric else right, 0, float("nan"), np.zeros(0), history, 4, message,
                           residual, symmetric=self.geometry.symmetric)  # fmt: skip

    def mark(self, settings: str) -> None:
        """Name the problem, so that a checkpoint of another one is not resumed."""
        digest = hashlib.sha256(settings.encode())
        digest.update(np.ascontiguousarray(self.y).tobytes())
        digest.update(np.asarray(self.mean(np.sign(self.y)).sum(axis=0)).tobytes())
        self.fingerprint = digest.hexdigest()

    def keep_state(self, schedule: Schedule, factors: Factors) -> None:
        assert self.checkpoint is not None
        facts = {"schedule": schedule.state(), "round": self.round, "in_round": self.in_round, "for": self.fingerprint}
        arrays = {"left": factors[0], "right": factors[1], "vector": self.vector}
        _write(self.checkpoint, facts, arrays | {f"history_{n}": np.array(v) for n, v in self.history.items()})

    def resume(self, schedule: Schedule, factors: Factors) -> tuple[Schedule, Factors]:
        assert self.checkpoint is not None
        if not self.checkpoint.exists():
            return schedule, factors
        facts, arrays = _read(self.checkpoint)
        if facts.get("for") != self.fingerprint:
            raise InputError(f"{self.checkpoint} is a checkpoint of another problem; remove it or name another file")
        self.round, self.in_round, self.vector = facts["round"], facts["in_round"], arrays["vector"]
        self.history = {name: arrays[f"history_{name}"].tolist() for name in HISTORY}
        return Schedule(**facts["schedule"]), self.geometry.pair(arrays["left"], arrays["right"])


def weighted_median_ratio(residual: np.ndarray, measured: np.ndarray) -> float:
    """argmin over c of sum |residual_i - c measured_i|, exactly: the median of the ratios, weighted by |measured_i|.

    >>> weighted_median_ratio(np.array([2.0, 4.0, 90.0]), np.array([1.0, 2.0, 1.0]))
    2.0
    """
    there = measured != 0
    if not there.any():
        return 0.0
    ratio, weight = residual[there] / measured[there], np.abs(measured[there])
    order = np.argsort(ratio)
    total = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(total, total[-1] / 2)])


def _checked_y(y: Any, m: int) -> np.ndarray:
    y = np.asarray(y, dtype=np.float64)
    if y.shape != (m,):
        raise InputError(f"y must hold one value for each of the {m} measurements, got shape {y.shape}")
    if np.isnan(y).any():
        raise InputError(
            f"y holds {int(np.isnan(y).sum())} NaN; drop those measurements (infinity is taken as an outlier)"
        )
    return y


def _write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **arrays)  # type: ignore[arg-type]
    temporary.replace(path)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(str(arrays.pop("facts"))), arrays
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path} cannot be read as a file of this package: {error}") from error

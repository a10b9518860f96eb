"""Three estimators: plain local search, local search that escapes, and the paper's lifted search.

All take measurements `A` (see `as_operator`) and values `b` (m,), or, with `fit(M)` alone, a square matrix whose unknown entries are
NaN. They end with a factor (n, rank) whose product with its own transpose is the answer.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from sklearn.base import BaseEstimator

from paperworks.errors import InputError
from paperworks.papers.lifting.base import BaseProblem, bottom
from paperworks.papers.lifting.certificate import N_DIRECTIONS, EscapeCertificate, certify
from paperworks.papers.lifting.cp import CPProblem
from paperworks.papers.lifting.descent import Init, Optimizer, descend, starts
from paperworks.papers.lifting.operators import Operator, VecOperator, checked, completion
from paperworks.papers.lifting.tensor import MEMORY_LIMIT, TensorProblem, drop
from paperworks.progress import Progress, silent


class BurerMonteiro(BaseEstimator):
    """Local search (L-BFGS) on f(X) = ||A(X X^T) - b||^2 / 2 from random starts: what lifting is compared with.

    rank: columns of X; more than the true rank is over-parametrisation in the ordinary sense. n_init: starts, the best is kept.
    init_scale: standard deviation of the start's entries. tol: loss beside |b|^2 at which no further start is made.
    After fit: factor_ (n, rank), matrix_ (n, n), loss_, n_starts_.
    """

    def __init__(
        self,
        rank: int = 1,
        *,
        n_init: int = 1,
        init_scale: float = 1e-2,
        tol: float = 1e-10,
        max_iter: int = 2000,
        random_state: int | None = None,
    ) -> None:
        self.rank = rank
        self.n_init = n_init
        self.init_scale = init_scale
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, A: object, b: object = None, progress: Progress = silent) -> Self:
        """Search from every start. Raises InputError when A and b do not fit."""
        problem = _problem(A, b, self.rank)
        self.n_features_in_ = problem.n
        rng = np.random.default_rng(self.random_state)
        best: tuple[float, np.ndarray] | None = None
        for start in range(self.n_init):
            X = self.init_scale * rng.standard_normal((problem.n, self.rank))
            X, _ = problem.solve(X, self.max_iter)
            loss = problem.loss(X)
            if best is None or loss < best[0]:
                best = loss, X
            self.n_starts_ = start + 1
            progress(start + 1, self.n_init)
            if loss <= self.tol * problem.energy:
                break
        if best is None:
            raise InputError(f"n_init must be at least 1, got {self.n_init}")
        self.loss_, self.factor_ = best
        return self

    @property
    def matrix_(self) -> np.ndarray:
        """The answer X X^T, (n, n)."""
        return np.asarray(self.factor_ @ self.factor_.T)


class EscapingMatrixSensing(BurerMonteiro):
    """Local search that leaves wrong solutions along the certificate's direction, in one hop in the space of X.

    At a stationary point with a positive loss the bottom eigenvectors u of G(X) = A*(A(X X^T) - b) are tried in turn: the weakest
    column of X is replaced by c u with the c that lowers the loss most, and the search goes on from there; the hop counts when the loss
    falls. At X = 0 this is the spectral start. Costs one local solve and one eigenvector a hop.
    max_hops: hops of one start; the other parameters are those of `BurerMonteiro`.
    After fit also: hops_ of the best start, certificates_ (one a stationary point), history_ (loss at each of them).
    """

    def __init__(
        self,
        rank: int = 1,
        *,
        max_hops: int = 10,
        n_init: int = 1,
        init_scale: float = 1e-2,
        tol: float = 1e-10,
        max_iter: int = 2000,
        random_state: int | None = None,
    ) -> None:
        super().__init__(
            rank, n_init=n_init, init_scale=init_scale, tol=tol, max_iter=max_iter, random_state=random_state
        )
        self.max_hops = max_hops

    def fit(self, A: object, b: object = None, progress: Progress = silent, *, start: np.ndarray | None = None) -> Self:
        """Search, from `start` (n, rank) when a stuck solution is at hand. Raises InputError when A and b do not fit."""
        problem = _problem(A, b, self.rank)
        self.n_features_in_ = problem.n
        rng = np.random.default_rng(self.random_state)
        self.loss_ = np.inf
        if self.n_init < 1:
            raise InputError(f"n_init must be at least 1, got {self.n_init}")
        for number in range(self.n_init if start is None else 1):
            X = self.init_scale * rng.standard_normal((problem.n, self.rank))
            if start is not None:
                X = np.array(start, dtype=float).reshape(problem.n, self.rank)
            X, certificates = self._one(problem, X, progress)
            self.n_starts_ = number + 1
            loss = certificates[-1].loss
            if loss < self.loss_:
                self.loss_, self.factor_, self.certificates_ = loss, X, certificates
                self.hops_, self.history_ = len(certificates) - 1, [one.loss for one in certificates]
            if loss <= self.tol * problem.energy:
                break
        return self

    def _one(
        self, problem: BaseProblem, X: np.ndarray, progress: Progress
    ) -> tuple[np.ndarray, list[EscapeCertificate]]:
        X, _ = problem.solve(X, self.max_iter)
        certificates = [certify(problem, X, hessian=False)]
        for hop in range(self.max_hops):
            if certificates[-1].loss <= self.tol * problem.energy:
                break
            found = self._hop(problem, X, certificates[-1].loss)
            progress(hop + 1, self.max_hops, f"loss {certificates[-1].loss:.3g}")
            if found is None:
                break
            X = found
            certificates.append(certify(problem, X, hessian=False))
        return X, certificates

    def _hop(self, problem: BaseProblem, X: np.ndarray, loss: float) -> np.ndarray | None:
        """A stationary point of clearly lower loss, reached from one of the negative directions; None when there is none."""
        values, vectors = bottom(problem.G(X), N_DIRECTIONS)
        left, sizes, _ = np.linalg.svd(X, full_matrices=False)
        rest = left * sizes
        rest[:, -1] = 0.0  # without the weakest column, singular values come largest first
        for u in vectors.T[values < 0]:
            along = problem.operator.forward(u[:, None], u[:, None])
            energy = float(along @ along)
            gain = -float(along @ problem.residual(rest))
            if gain <= 0 or energy <= 0:
                continue
            trial = rest.copy()
            trial[:, -1] = np.sqrt(gain / energy) * u
            trial, _ = problem.solve(trial, self.max_iter)
            if problem.loss(trial) < loss * (1 - 1e-6):
                return trial
        return None


class LiftedMatrixSensing(BaseEstimator):
    """The paper's method: descend on the lifted loss f_l from a small start, and drop back to a vector.

    order: l; an even one forgets signs and is allowed. rank: of the matrix; the tensor's side is then n rank.
    parametrization: 'tensor' stores w, n^l numbers, as the paper does; 'cp' keeps `cp_rank` vectors whose powers add up to w.
    init, init_scale: see `starts`; the authors' code takes 'gaussian', which adds wrong minima of its own, so 'rank1' is the default.
    optimizer, lr, max_iter: 'adam' or 'gd', the paper's settings by default; they suppose that the truth has a size of about 1.
    escape: where the gradient vanishes at a positive loss, add eta u^(l) with u the bottom eigenvector of G at the dropped point and eta
    halved from 0.1 until the loss falls, at most ten times, then descend again. Off, the method is pure descent.
    polish: end with local search from the dropped vector in the unlifted problem.
    memory_limit: bytes for the tables of the stored tensor.
    After fit: factor_ (n, rank), matrix_, loss_ (unlifted, of factor_), lifted_loss_, lifted_ (the tensor, or components (cp_rank, n)),
    rank1_gap_ (||w - power of the dropped vector|| / ||w||), escapes_, history_ (lifted loss at every step; with 'cp' over |b|^(2l)).
    """

    def __init__(
        self,
        order: int = 3,
        *,
        rank: int = 1,
        parametrization: Literal["tensor", "cp"] = "tensor",
        cp_rank: int = 4,
        init: Init = "rank1",
        init_scale: float = 1e-2,
        optimizer: Optimizer = "adam",
        lr: float = 0.02,
        max_iter: int = 2000,
        escape: bool = True,
        polish: bool = True,
        memory_limit: float = MEMORY_LIMIT,
        random_state: int | None = None,
    ) -> None:
        self.order = order
        self.rank = rank
        self.parametrization = parametrization
        self.cp_rank = cp_rank
        self.init = init
        self.init_scale = init_scale
        self.optimizer = optimizer
        self.lr = lr
        self.max_iter = max_iter
        self.escape = escape
        self.polish = polish
        self.memory_limit = memory_limit
        self.random_state = random_state

    def fit(self, A: object, b: object = None, progress: Progress = silent) -> Self:
        """Descend, escape, drop. Raises InputError for an order, size or choice that cannot be used."""
        base = _problem(A, b, self.rank)
        self.n_features_in_ = base.n
        operator: Operator = base.operator if self.rank == 1 else VecOperator(base.operator, self.rank)
        rng = np.random.default_rng(self.random_state)
        problem: TensorProblem | CPProblem
        if self.parametrization == "tensor":
            problem = TensorProblem(operator, base.b, self.order, self.memory_limit)
            w = starts(rng, 1, operator.n, self.order, self.init_scale, self.init)
        elif self.parametrization == "cp":
            problem = CPProblem(operator, base.b, self.order, self.cp_rank)
            # init_scale is the size of the tensor: its l-th root is that of a vector
            size = self.init_scale ** (1 / self.order) / np.sqrt(operator.n)
            w = size * rng.standard_normal((1, self.cp_rank * operator.n))
        else:
            raise InputError(f"parametrization must be 'tensor' or 'cp', got {self.parametrization!r}")
        self.history_: list[float] = []
        self.escapes_ = 0
        tol = 1e-6
        while True:
            left = self.max_iter - len(self.history_)
            run = descend(
                problem.value_and_gradient, w, optimizer=self.optimizer, lr=self.lr, max_iter=left, progress=progress
            )
            self.history_ += run.history[1:]
            w = run.points
            stuck = run.loss[0] >= tol and run.gradient_norm[0] < 1e-5
            if not (self.escape and stuck and self.escapes_ < 10 and len(self.history_) < self.max_iter):
                break
            moved = self._escape(base, problem, w, float(run.loss[0]))
            if moved is None:
                break
            w = moved
            self.escapes_ += 1
        self.lifted_loss_ = float(run.loss[0])
        vector, self.rank1_gap_ = self._dropped(problem, w[0])
        self.lifted_ = w.reshape((operator.n,) * self.order if self.parametrization == "tensor" else (-1, operator.n))
        X = vector.reshape(base.n, self.rank)
        self.factor_ = base.solve(X)[0] if self.polish else X
        self.loss_ = base.loss(self.factor_)
        return self

    @property
    def matrix_(self) -> np.ndarray:
        """The answer X X^T, (n, n)."""
        return np.asarray(self.factor_ @ self.factor_.T)

    def _dropped(self, problem: TensorProblem | CPProblem, w: np.ndarray) -> tuple[np.ndarray, float]:
        """The vector, and how far its power is from w, relative."""
        if isinstance(problem, TensorProblem):
            tensor = w.reshape((problem.n,) * self.order)
            vector = drop(tensor)
            size = float(np.linalg.norm(w))
            away = min(float(np.linalg.norm(w - sign * problem.lift(vector))) for sign in (1, -1))
            return vector, away / size if size else 0.0
        V = w.reshape(problem.terms, problem.n)
        vector = problem.drop(V)
        size, power = problem.norm(V) ** 2, float(vector @ vector) ** self.order
        inner = abs(float(problem.signs @ (V @ vector) ** self.order))
        return vector, float(np.sqrt(max(size + power - 2 * inner, 0.0) / size)) if size else 0.0

    def _escape(
        self, base: BaseProblem, problem: TensorProblem | CPProblem, w: np.ndarray, loss: float
    ) -> np.ndarray | None:
        X = self._dropped(problem, w[0])[0].reshape(base.n, self.rank)
        direction = certify(base, X, hessian=False).direction.ravel()
        eta = 0.1 if isinstance(problem, TensorProblem) else 0.1 * base.energy ** (self.order / 4)
        for _ in range(30):
            for sign in (1.0, -1.0):
                tried = (
                    [w + sign * eta * problem.lift(direction)]
                    if isinstance(problem, TensorProblem)
                    else _with_term(problem, w, X.ravel(), sign * eta ** (1 / self.order) * direction)
                )
                for moved in tried:
                    if float(problem.value_and_gradient(moved)[0][0]) < loss * (1 - 1e-9):
                        return moved
            eta /= 2
        return None


def _with_term(problem: CPProblem, w: np.ndarray, x: np.ndarray, term: np.ndarray) -> list[np.ndarray]:
    """Sums of powers near w (1, R n) that hold `term` too: in place of the weakest component, and with all others merged into x."""
    V = w.reshape(problem.terms, problem.n)
    replaced, merged = V.copy(), np.zeros_like(V)
    replaced[int(np.argmin(np.linalg.norm(V, axis=1)))] = term
    merged[0] = x
    merged[-1] = term
    return [replaced.reshape(1, -1), merged.reshape(1, -1)]


def _problem(A: object, b: object, rank: int) -> BaseProblem:
    """The base problem of (A, b), or of a matrix with NaN for its unknown entries."""
    operator: Operator
    if b is None:
        operator, values = completion(np.asarray(A, dtype=float))
    else:
        operator, values = checked(A, b)
    if rank != int(rank) or not 1 <= rank <= operator.n:
        raise InputError(f"rank must be a whole number from 1 to n = {operator.n}, got {rank}")
    return BaseProblem(operator, values)

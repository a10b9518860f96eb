"""The paper's counter-examples, and generic instances beside which they must be seen."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.lifting.base import BaseProblem
from paperworks.papers.lifting.operators import DenseOperator, EntryOperator, Operator


class Instance(NamedTuple):
    """Measurements, their values b (m,), and the factor (n, r) of the true matrix."""

    operator: Operator
    b: np.ndarray
    truth: np.ndarray


def perturbed_matrix_completion(n: int, eps: float = 0.3) -> Instance:
    """All n^2 entries of z z^T, where z is 1 at the even ids and 0 at the odd; entries between two different even ids weigh `eps`.

    f = sum_ij mask_ij^2 (x_i x_j - z_i z_j)^2 / 2: only the weak entries tie the signs of the even coordinates to each other, so that
    most patterns of signs have a local minimum of their own. The authors' code takes eps = 0.3.
    """
    if n < 3 or not 0 < eps <= 1:
        raise InputError(f"the family needs n >= 3 and 0 < eps <= 1, got n = {n}, eps = {eps}")
    z = (np.arange(n) % 2 == 0).astype(float)
    strong = np.eye(n, dtype=bool) | (np.arange(n) % 2 == 1)[:, None] | (np.arange(n) % 2 == 1)[None, :]
    rows, cols = np.indices((n, n)).reshape(2, -1)
    operator = EntryOperator(n, rows, cols, np.where(strong, 1.0, eps).ravel())
    return Instance(operator, operator.forward(z[:, None], z[:, None]), z[:, None])


def gaussian_sensing(rng: np.random.Generator, n: int = 10, m: int = 30, rank: int = 1) -> Instance:
    """Symmetric Gaussian matrices over sqrt(m), and a Gaussian factor (n, rank) over sqrt(n)."""
    operator = DenseOperator(rng.standard_normal((m, n, n)) / np.sqrt(m))
    truth = rng.standard_normal((n, rank)) / np.sqrt(n)
    return Instance(operator, operator.forward(truth, truth), truth)


def wrong_minima(n: int, eps: float = 0.3) -> list[np.ndarray]:
    """The strict local minima of positive loss that belong to wrong signs of z, each (n, 1) and once up to its own sign.

    For every pattern of signs: local search from the flipped z, then Newton steps; what is no strict minimum is left out.
    """
    instance = perturbed_matrix_completion(n, eps)
    problem = BaseProblem(instance.operator, instance.b)
    even = np.flatnonzero(instance.truth[:, 0])
    found: list[np.ndarray] = []
    for signs in itertools.product((1.0, -1.0), repeat=even.size - 1):
        start = instance.truth.copy()
        start[even[1:], 0] = signs
        X = problem.refine(problem.solve(0.9 * start)[0])
        wrong = problem.loss(X) > 1e-6 * problem.energy and problem.smallest_curvature(X) > 1e-6
        if wrong and all(min(np.linalg.norm(X - other), np.linalg.norm(X + other)) > 1e-4 for other in found):
            found.append(X)
    return found

"""Sign-RIP, measured: does the signed mean of the measurement matrices point along the error matrix?

For Gaussian A_i and errors independent of them, E[sign(<A, X> - s) A] = phi(X) X / ||X||_F with
phi(X) = sqrt(2/pi) E[exp(-s^2 / (2 ||X||_F^2))]. Sign-RIP asks that the mean over the sample deviates from this by at most
delta phi(X) on low-rank directions. X is the error matrix, U U^T minus the truth.

Axis letters: m measurements, d and e sides of the matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.subgm.operators import Operator


@dataclass(frozen=True)
class SignRIP:
    """deltas (n_directions,): the deviations over phi of the tried matrices; lengths: their phi; delta: the largest deviation.

    Tried, not proven: the property speaks of all matrices of the rank, and this is a lower bound on its delta.
    """

    deltas: np.ndarray
    lengths: np.ndarray
    rank: int

    @property
    def delta(self) -> float:
        """The largest deviation seen; below 1 the sub-gradient pointed towards the truth for every matrix that was tried."""
        return float(self.deltas.max())


def expected_length(norm: float, errors: np.ndarray) -> float:
    """phi for an error matrix of Frobenius norm `norm`, the mean taken over a sample of measurement errors (m,).

    >>> round(expected_length(1.0, np.zeros(5)), 6) == round((2 / np.pi) ** 0.5, 6)
    True
    """
    if norm <= 0:
        raise InputError(f"phi is defined for an error matrix that is not zero, got norm {norm}")
    return float(np.sqrt(2 / np.pi) * np.mean(np.exp(-(np.asarray(errors, dtype=float) ** 2) / (2 * norm**2))))


def sign_rip(
    operator: Operator,
    errors: np.ndarray | None = None,
    *,
    rank: int = 2,
    norms: tuple[float, ...] = (1.0, 0.1, 0.01),
    n_directions: int = 20,
    seed: int = 0,
) -> SignRIP:
    """Measure the deviation for random matrices X of `rank`, as the Frobenius norm of its best part of that rank.

    operator: Gaussian measurements with entries of variance 1 (of G in (G + G^T)/2 for symmetric ones).
    errors: (m,) the measurement errors s of which the tolerance is asked; None means exact measurements.
    norms: Frobenius norms of X that are tried, `n_directions` random matrices for each.

    Raises InputError when the errors are not one a measurement.
    """
    errors = np.zeros(operator.m) if errors is None else np.asarray(errors, dtype=float)
    if errors.shape != (operator.m,):
        raise InputError(f"errors must hold one value for each of the {operator.m} measurements, got {errors.shape}")
    d, e = operator.shape
    rank = min(rank, d, e)
    rng = np.random.default_rng(seed)
    deltas, lengths = [], []
    for norm in norms:
        for _ in range(n_directions):
            left = rng.standard_normal((d, rank))
            right = left * rng.choice([-1.0, 1.0], rank) if operator.symmetric else rng.standard_normal((e, rank))
            left = left * (norm / np.linalg.norm(left @ right.T))
            # a symmetric (G + G^T)/2 gives <A, X> = <G, X> for symmetric X: variance ||X||_F^2 in both cases
            signed = operator.adjoint(np.sign(operator.forward(left, right) - errors) / operator.m)
            signed = signed if isinstance(signed, np.ndarray) else signed.toarray()
            phi = expected_length(norm, errors)
            off = np.linalg.svd(signed - phi * (left @ right.T) / norm, compute_uv=False)
            deltas.append(float(np.linalg.norm(off[:rank])) / phi)
            lengths.append(phi)
    return SignRIP(np.array(deltas), np.array(lengths), rank)

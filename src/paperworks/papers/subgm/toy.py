"""Seeded small problems with a known answer: sensing, phase retrieval, tables with gross errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paperworks.papers.subgm.operators import DenseOperator, EntryOperator, Operator, QuadraticOperator


@dataclass(frozen=True)
class Sensing:
    """A problem: operator, y (m,), the true matrix (d, e), and which measurements are wrong (m,)."""

    operator: Operator
    y: np.ndarray
    truth: np.ndarray
    wrong: np.ndarray

    def error(self, matrix: np.ndarray) -> float:
        """Relative error in the Frobenius norm."""
        return float(np.linalg.norm(matrix - self.truth) / np.linalg.norm(self.truth))


def gaussian(m: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Symmetric matrices (G + G^T)/2 with G standard normal, (m, d, d)."""
    block = rng.standard_normal((m, d, d))
    return (block + block.transpose(0, 2, 1)) / 2


def psd(d: int, rank: int, rng: np.random.Generator, kappa: float = 1.0) -> np.ndarray:
    """A random positive semidefinite matrix with eigenvalues evenly from 1 to 1/kappa."""
    basis, _ = np.linalg.qr(rng.standard_normal((d, rank)))
    return (basis * np.linspace(1.0, 1.0 / kappa, rank)) @ basis.T


def sensing(
    d: int = 20,
    rank: int = 2,
    m: int = 1200,
    corrupt: float = 0.3,
    *,
    kappa: float = 1.0,
    noise: float = 0.0,
    size: float = 10.0,
    seed: int = 0,
) -> Sensing:
    """Gaussian measurements; a fraction `corrupt` has an error `size` * N(0, 1) added, all have `noise` * N(0, 1)."""
    rng = np.random.default_rng(seed)
    truth = psd(d, rank, rng, kappa)
    operator = DenseOperator(gaussian(m, d, rng), symmetric=True)
    wrong = rng.random(m) < corrupt
    y = operator.forward(truth, np.eye(d)) + size * rng.standard_normal(m) * wrong + noise * rng.standard_normal(m)
    return Sensing(operator, y, truth, wrong)


def phase(d: int = 20, m: int = 300, corrupt: float = 0.1, *, seed: int = 0) -> Sensing:
    """y = (a^T x)^2 with Gaussian a; wrong ones are replaced by large positive values. truth is x x^T, ||x|| = 1."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(d)
    x /= np.linalg.norm(x)
    operator = QuadraticOperator(rng.standard_normal((m, d)))
    wrong = rng.random(m) < corrupt
    y = np.where(wrong, 10 * rng.random(m), (operator.vectors @ x) ** 2)
    return Sensing(operator, y, np.outer(x, x), wrong)


def table(
    n: int = 60,
    p: int = 40,
    rank: int = 2,
    corrupt: float = 0.2,
    missing: float = 0.0,
    *,
    size: float = 10.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A table (n, p) of that rank with errors uniform in +-size added to some cells and NaN in others.

    Returns the table, the true low-rank part, and the mask of wrong cells.
    """
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((n, rank)) @ rng.standard_normal((p, rank)).T
    wrong = rng.random((n, p)) < corrupt
    seen = truth + wrong * rng.uniform(-size, size, (n, p))
    seen[rng.random((n, p)) < missing] = np.nan
    return seen, truth, wrong


def table_problem(seen: np.ndarray, truth: np.ndarray, wrong: np.ndarray) -> Sensing:
    """A table as single-cell measurements."""
    mask = ~np.isnan(seen)
    return Sensing(EntryOperator.where(mask), seen[mask], truth, wrong[mask])

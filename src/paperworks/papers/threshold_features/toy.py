"""Made-up tables for tests, examples and smoke runs, seeded."""

from __future__ import annotations

import numpy as np


def steps(n: int = 200, noise: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A target that a straight line cannot follow: X (n, 4) in [-1, 1], y (n,) with jumps, a product and a wave.

    >>> steps(5)[0].shape
    (5, 4)
    """
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 4))
    clean = 2.0 * (X[:, 0] > 0.2) + 1.5 * X[:, 1] * X[:, 2] + np.sin(4 * X[:, 3])
    return X, clean + noise * rng.standard_normal(n)


def straight(n: int = 200, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A target that a straight line follows: nothing is to be gained. X (n, 3), y (n,)."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    return X, X @ np.array([1.0, -2.0, 0.5]) + noise * rng.standard_normal(n)


def growing_noise(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise that grows with x, for intervals: X (n, 1) in [0, 4], y (n,) = x + (0.1 + x / 4) times a standard normal."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 4, n)
    return x.reshape(-1, 1), x + (0.1 + x / 4) * rng.standard_normal(n)


def many_zeros(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Amounts of which half are exactly zero, as in insurance: X (n, 2), y (n,) >= 0."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 2))
    amount = np.exp(1 + X[:, 1] + 0.3 * rng.standard_normal(n))
    return X, np.where(X[:, 0] + 0.2 * rng.standard_normal(n) > 0, amount, 0.0)


def tables(n: int = 150, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three small tables by name."""
    return {"steps": steps(n, seed=seed), "zeros": many_zeros(n, seed=seed), "noise": growing_noise(n, seed=seed)}

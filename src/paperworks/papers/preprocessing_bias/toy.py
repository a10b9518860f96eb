"""Small seeded data on which the audit's answer is known."""

from __future__ import annotations

import numpy as np


def heavy_columns(
    rng: np.random.Generator, n: int = 20, d: int = 100, df: float = 4.0
) -> tuple[np.ndarray, np.ndarray]:
    """Section 4.1: heavy-tailed columns, five of them strong, a linear target with noise. X (n, d), y (n,)."""
    X = rng.standard_t(df, (n, d))
    X[:, :5] *= 5.0
    y = X @ rng.standard_normal(d) + np.sqrt(5 * 25 + d - 5) * rng.standard_normal(n)
    return X, y


def categories(
    rng: np.random.Generator, n: int = 80, n_categories: int = 20, sigma: float = 0.25
) -> tuple[np.ndarray, np.ndarray]:
    """Section 5.1: one column of equiprobable categories, each with a mean of its own. X (n, 1) texts, y (n,)."""
    mu = rng.standard_normal(n_categories)
    index = rng.integers(0, n_categories, n)
    return np.array([f"c{i}" for i in index], dtype=object)[:, None], mu[index] + sigma * rng.standard_normal(n)


def pure_noise(rng: np.random.Generator, n: int = 40, d: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Columns and labels that have nothing to do with each other: any skill is a leak. X (n, d), y (n,) of 0 and 1."""
    return rng.standard_normal((n, d)), rng.permutation(np.arange(n) % 2)

"""Small seeded data in the setting of the paper, and data that departs from it."""

from __future__ import annotations

import numpy as np


def gaussian(
    rng: np.random.Generator, n: int = 40, d: int = 100, m: int = 20
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The paper's synthetic data, all standard Gaussian: X (n, d), y (n,), test points Z (m, d)."""
    return rng.standard_normal((n, d)), rng.standard_normal(n), rng.standard_normal((m, d))


def two_classes(
    rng: np.random.Generator, n: int = 200, d: int = 20, distance: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian clouds `distance` apart along the first axis: X (n, d), labels (n,) of 0 and 1."""
    y = np.arange(n) % 2
    X = rng.standard_normal((n, d))
    X[:, 0] += distance * (y - 0.5)
    return X, y


def images(
    rng: np.random.Generator, n: int = 60, side: int = 8, m: int = 20
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Made-up pictures of a disc or a cross between 0 and 1, far from isotropic: X (n, side^2), labels (n,) of +-1, Z (m, side^2)."""
    rows, cols = np.indices((side, side)) - (side - 1) / 2
    disc = (rows**2 + cols**2 < (side / 3) ** 2).astype(float)
    cross = ((np.abs(rows) < 1) | (np.abs(cols) < 1)).astype(float)
    y = np.where(np.arange(n + m) % 2 == 0, 1.0, -1.0)
    shapes = np.where((y > 0)[:, None, None], disc, cross)
    pixels = np.clip(shapes * rng.uniform(0.6, 1.0, (n + m, 1, 1)) + 0.1 * rng.random((n + m, side, side)), 0, 1)
    flat = pixels.reshape(n + m, -1)
    return flat[:n], y[:n], flat[n:]

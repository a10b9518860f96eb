"""Seeded made-up scenes, so that squeezes, poisons and the detector can be tried without any data."""

from __future__ import annotations

import numpy as np

from paperworks.errors import InputError


def scenes(n: int = 400, classes: int = 4, side: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of a soft blob among sharp boxes on a soft, grainy background; the class is the blob's place.

    Returns uint8 (n, side, side, 3) and labels (n,), as many of each class as fit. Raises InputError for under two classes.

    >>> X, y = scenes(8, classes=2)
    >>> X.shape, X.dtype, y.tolist()
    ((8, 32, 32, 3), dtype('uint8'), [0, 1, 0, 1, 0, 1, 0, 1])
    """
    if classes < 2 or n < 1:
        raise InputError(f"scenes need two classes and one picture or more, not {classes} and {n}")
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    axis = np.linspace(-1, 1, side)
    angle = 2 * np.pi * labels / classes + rng.normal(0, 0.5, n)  # a blob may stray towards its neighbours
    centre = 0.45 * np.stack([np.sin(angle), np.cos(angle)], axis=1) + rng.normal(0, 0.15, (n, 2))
    far = (axis[None, :, None] - centre[:, :1, None]) ** 2 + (axis[None, None, :] - centre[:, 1:, None]) ** 2
    blob = np.exp(-far / (2 * rng.uniform(0.15, 0.35, (n, 1, 1)) ** 2))
    colour = rng.uniform(-90, 90, (n, 1, 1, 3))
    slope = rng.normal(0, 25, (n, 2, 3))
    ground = rng.uniform(70, 180, (n, 1, 1, 3)) + axis[None, :, None, None] * slope[:, :1, None, :]
    ground = ground + axis[None, None, :, None] * slope[:, None, 1:, :]
    picture = ground + blob[..., None] * colour + _boxes(rng, n, axis) + _grain(rng, n, side)
    return np.clip(picture, 0, 255).astype(np.uint8), labels


def _boxes(rng: np.random.Generator, n: int, axis: np.ndarray) -> np.ndarray:
    """Eight sharp-edged boxes of any place and colour a picture: the edges that photographs are full of. (n, side, side, 3)."""
    total = np.zeros((n, len(axis), len(axis), 3))
    for _ in range(8):
        low = rng.uniform(-1.2, 1, (2, n, 1))
        inside = (axis > low) & (axis < low + rng.uniform(0.1, 0.9, (2, n, 1)))
        total += (inside[0][:, :, None] & inside[1][:, None, :])[..., None] * rng.normal(0, 30, (n, 1, 1, 3))
    return total


def _grain(rng: np.random.Generator, n: int, side: int) -> np.ndarray:
    """Noise whose power falls with frequency, as in photographs: (n, side, side, 3)."""
    spectrum = np.fft.rfft2(rng.standard_normal((n, side, side, 3)), axes=(1, 2))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    return 14 * np.fft.irfft2(spectrum / (1 + 25 * frequency)[None, :, :, None], s=(side, side), axes=(1, 2)) * 3

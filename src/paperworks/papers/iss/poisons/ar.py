"""Autoregressive perturbations (AR): noise in which each pixel is a fixed weighted sum of its neighbours before it.

A class has one 3 x 3 kernel a channel, the last weight 0, the weights summing to 1. A picture's perturbation starts from white noise
on (h + 4) x (w + 4) pixels; in raster order signal[i + 2, j + 2] becomes the weighted sum of the 3 x 3 window that ends there; the first
four rows and columns are dropped. A convolution with the kernel and -1 in its last place then gives zero for that class and no other.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from paperworks.errors import InputError
from paperworks.papers.iss.poisons.base import Poison, to_l2

MARGIN = 4  # rows and columns that still remember the white noise
GROWTH = 10.0  # a kernel whose signal outgrows its start by more is unstable
TRIES = 20_000


class AR(Poison):
    """Perturbations of Euclidean length `eps_l2` (default 1.0, pictures on the 0 to 1 scale).

    distinct: smallest response of one class's filter to another's signal, relative to the signal's length (default 0.1).
    rate, seed: see `Poison`. Attributes after `fit`: kernels_ (k, c, 3, 3).
    Raises InputError if no stable and distinct kernels are found for so many classes.
    """

    def __init__(self, eps_l2: float = 1.0, distinct: float = 0.1, rate: float = 1.0, seed: int = 0) -> None:
        super().__init__(rate, seed)
        self.eps_l2 = eps_l2
        self.distinct = distinct

    def _perturb(self, pixels: np.ndarray, codes: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
        n, height, width, channels = pixels.shape
        self.kernels_ = find_kernels(n_classes, channels, (height, width), self.distinct, rng)
        start = rng.standard_normal((n, channels, height + MARGIN, width + MARGIN))
        run(start, self.kernels_[codes])
        delta = np.moveaxis(start[:, :, MARGIN:, MARGIN:], 1, -1)
        return to_l2(delta, self.eps_l2)


def find_kernels(
    n_classes: int, channels: int, size: tuple[int, int], distinct: float, rng: np.random.Generator
) -> np.ndarray:
    """Stable kernels (k, c, 3, 3), mutually distinct in every channel. Raises InputError after 20,000 tries."""
    found: list[list[np.ndarray]] = [[] for _ in range(channels)]
    signals: list[list[np.ndarray]] = [[] for _ in range(channels)]
    start = rng.standard_normal((1, 1, size[0] + MARGIN, size[1] + MARGIN))
    for _ in range(TRIES):
        channel = min(range(channels), key=lambda one: len(found[one]))
        if len(found[channel]) == n_classes:
            return np.array(found).swapaxes(0, 1)
        kernel = rng.standard_normal((3, 3))
        kernel[2, 2] = 0
        total = kernel.sum()
        if abs(total) < 0.1:
            continue
        kernel /= total
        signal = start.copy()
        run(signal, kernel[None, None])
        if not np.isfinite(signal).all() or np.abs(signal).max() > GROWTH * np.abs(start).max():
            continue
        pairs = zip(found[channel], signals[channel], strict=True)
        if all(
            min(response(kernel, other_signal), response(other, signal[0, 0])) > distinct
            for other, other_signal in pairs
        ):
            found[channel].append(kernel)
            signals[channel].append(signal[0, 0])
    raise InputError(
        f"{TRIES} random kernels held no {n_classes} stable ones whose responses differ by {distinct}; lower `distinct`"
    )


def response(kernel: np.ndarray, signal: np.ndarray) -> float:
    """How far a signal (h, w) is from obeying a kernel (3, 3): length of the filtered signal over that of the signal, margin left out."""
    filter_ = kernel.copy()
    filter_[2, 2] = -1
    inner = signal[MARGIN - 2 :, MARGIN - 2 :]
    windows = np.lib.stride_tricks.sliding_window_view(inner, (3, 3))
    return float(np.linalg.norm(np.einsum("ijkl,kl->ij", windows, filter_)) / max(float(np.linalg.norm(inner)), 1e-300))


@njit(cache=True)
def run(signal: np.ndarray, kernels: np.ndarray) -> None:
    """The recursion, in place: signal float64 (n, c, h, w), kernels (n, c, 3, 3)."""
    n, channels, height, width = signal.shape
    for image in range(n):
        for channel in range(channels):
            field, kernel = signal[image, channel], kernels[image, channel]
            for row in range(height - 2):
                for column in range(width - 2):
                    total = 0.0
                    for i in range(3):
                        for j in range(3):
                            total += kernel[i, j] * field[row + i, column + j]
                    field[row + 2, column + 2] = total

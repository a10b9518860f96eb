"""Where the energy of a perturbation lies: share of high spatial frequencies, and share of colour.

Low, coloured perturbations fall to grayscale, high ones to JPEG. n pictures, (h, w) pixels, c channels.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn

from paperworks.errors import InputError


def band_energy(delta: np.ndarray, bands: int = 8, block: int | None = 8) -> np.ndarray:
    """Share of the energy in each of `bands` radial bands of the DCT, low to high, summing to 1: float64 (bands,).

    delta: float (n, h, w, c) or (h, w, c). block: side of the blocks (default 8, as JPEG's; rows and columns that fill none are left out),
    None for the DCT of whole pictures. Raises InputError for other shapes, pictures smaller than a block, and a delta of zeros.
    """
    delta = np.asarray(delta, np.float64)
    if delta.ndim == 3:
        delta = delta[None]
    if delta.ndim != 4:
        raise InputError(f"a perturbation is (n, h, w, c), not {delta.shape}")
    if block is not None:
        n, height, width, channels = delta.shape
        if min(height, width) < block:
            raise InputError(f"pictures of {height} x {width} hold no block of {block}; pass block=None")
        rows, columns = height // block, width // block
        delta = delta[:, : rows * block, : columns * block].reshape(n, rows, block, columns, block, channels)
        delta = delta.transpose(0, 1, 3, 2, 4, 5).reshape(-1, block, block, channels)
    energy = np.square(dctn(delta, axes=(1, 2), norm="ortho")).sum(axis=(0, 3))
    total = energy.sum()
    if total == 0:
        raise InputError("the perturbation is zero everywhere: it has no spectrum")
    high, wide = energy.shape
    radius = np.hypot(np.arange(high)[:, None] / high, np.arange(wide)[None, :] / wide) / np.sqrt(2)
    band = np.minimum((radius * bands / ((max(high, wide) - 1) / max(high, wide) + 1e-12)).astype(int), bands - 1)
    return np.bincount(band.ravel(), weights=energy.ravel(), minlength=bands) / total


def high_share(delta: np.ndarray, block: int | None = 8) -> float:
    """Share of the energy in the upper half of the bands, 0 to 1. White noise has about three quarters."""
    return float(band_energy(delta, 8, block)[4:].sum())


def chroma_share(delta: np.ndarray) -> float:
    """|delta - mean over channels|^2 / |delta|^2: 0 for a grey perturbation, 2/3 for independent channels. delta (..., c)."""
    delta = np.asarray(delta, np.float64)
    total = float(np.square(delta).sum())
    if total == 0:
        raise InputError("the perturbation is zero everywhere: it has no colour")
    return float(np.square(delta - delta.mean(axis=-1, keepdims=True)).sum()) / total

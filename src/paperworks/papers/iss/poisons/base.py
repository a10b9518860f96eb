"""What all poisons share: checking the pictures, the poisoned share, adding and clipping.

n pictures, (h, w) pixels, c channels, k classes. Perturbations are float32 in units of the 0 to 255 scale of the pictures divided by 255.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from paperworks.errors import InputError


class Poison(BaseEstimator):
    """Base of the generators: `fit` makes `perturbation`, `transform` adds it.

    rate: share of the pictures that is poisoned, 0 to 1, drawn without replacement by `seed` (default 1: all).
    Attributes after `fit`: perturbation float32 (n, h, w, c), in [-1, 1] and zero for pictures left clean; classes_ (k,);
    poisoned_ bool (n,).
    """

    def __init__(self, rate: float = 1.0, seed: int = 0) -> None:
        self.rate = rate
        self.seed = seed

    def fit(self, X: Any, y: Any) -> Poison:
        """Make the perturbation of these pictures: X uint8 (n, h, w, c), y labels (n,). Raises InputError for anything else."""
        pixels, labels = checked(X, y)
        if not 0 <= self.rate <= 1:
            raise InputError(f"rate is a share from 0 to 1, not {self.rate}")
        rng = np.random.default_rng(self.seed)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.poisoned_ = np.zeros(len(pixels), bool)
        self.poisoned_[rng.permutation(len(pixels))[: round(self.rate * len(pixels))]] = True
        delta = np.asarray(self._perturb(pixels, codes, len(self.classes_), rng), np.float32)
        delta[~self.poisoned_] = 0
        self.perturbation = delta
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The poisoned pictures, uint8 of the same shape: X must be the pictures that `fit` saw, in the same order."""
        if not hasattr(self, "perturbation"):
            raise InputError(f"{type(self).__name__} has no perturbation yet; call fit(X, y) first")
        pixels = np.asarray(X)
        if pixels.shape != self.perturbation.shape:
            raise InputError(f"the perturbation is for pictures of shape {self.perturbation.shape}, not {pixels.shape}")
        return add(pixels, self.perturbation)

    def fit_transform(self, X: Any, y: Any) -> np.ndarray:
        """`fit(X, y)`, then the poisoned pictures."""
        return self.fit(X, y).transform(X)

    def _perturb(self, pixels: np.ndarray, codes: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
        """uint8 (n, h, w, c), class numbers (n,) -> float (n, h, w, c), 1 = the whole range of a channel."""
        raise NotImplementedError


class Given(Poison):
    """A perturbation that somebody else made: an array, or a `.npy` file, float (n, h, w, c) with 1 = the whole range.

    For generators that are not here (Deep Confuse, NTGA, ShortcutGen, TensorClog). Raises InputError when its shape does not fit.
    """

    def __init__(self, delta: Any, rate: float = 1.0, seed: int = 0) -> None:
        super().__init__(rate, seed)
        self.delta = delta

    def _perturb(self, pixels: np.ndarray, codes: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
        delta = (
            np.load(self.delta, allow_pickle=False) if isinstance(self.delta, str | Path) else np.asarray(self.delta)
        )
        if delta.shape != pixels.shape:
            raise InputError(f"the perturbation has shape {delta.shape}, the pictures {pixels.shape}")
        if np.issubdtype(delta.dtype, np.integer) or not np.isfinite(delta).all() or np.abs(delta).max(initial=0) > 1:
            raise InputError(
                "a perturbation is a float array within [-1, 1]; divide one in steps of the 0 to 255 scale by 255"
            )
        return delta.astype(np.float32)


def checked(X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 (n, h, w, c) and labels (n,), or InputError that says what is wrong."""
    pixels, labels = np.asarray(X), np.asarray(y)
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or pixels.dtype != np.uint8:
        raise InputError(
            f"pictures are a uint8 array (n, h, w, c) with 1 or 3 channels last, not {pixels.dtype} {pixels.shape}"
        )
    if labels.shape != (len(pixels),):
        raise InputError(f"there are {len(pixels)} pictures but labels of shape {labels.shape}")
    if len(pixels) == 0:
        raise InputError("there are no pictures")
    return pixels, labels


def add(pixels: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """clip(x + delta) on the 0 to 255 scale, rounded to the nearest: uint8 of the same shape."""
    return np.clip(np.rint(pixels + 255 * delta), 0, 255).astype(np.uint8)


def to_l2(delta: np.ndarray, norm: float) -> np.ndarray:
    """Each picture's perturbation (n, h, w, c) scaled to that Euclidean length; one of zeros stays."""
    lengths = np.sqrt(np.square(delta, dtype=np.float64).sum(axis=(1, 2, 3), keepdims=True))
    return (delta * (norm / np.maximum(lengths, 1e-30))).astype(np.float32)

"""Linearly separable perturbations (LSP): coloured patches drawn from a class's own normal cloud, no network needed.

Each class is one cluster of `sklearn.datasets.make_classification` in 3 (h / p)^2 dimensions, far from the others; a draw, spread over
p x p pixel patches, is the perturbation of one picture.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import make_classification

from paperworks.errors import InputError
from paperworks.papers.iss.poisons.base import Poison, to_l2


class LSP(Poison):
    """Perturbations of `patch` x `patch` pixel patches with Euclidean length `eps_l2` (pictures on the 0 to 1 scale).

    eps_l2: 1.0 as in the paper's table; 1.30 is 6/255 a pixel at 32 x 32 x 3. patch: pixels; None takes 8 up to 64 px and 32 above, as the
    authors do. rate, seed: see `Poison`. Raises InputError if the patch is larger than the picture.
    """

    def __init__(self, eps_l2: float = 1.0, patch: int | None = None, rate: float = 1.0, seed: int = 0) -> None:
        super().__init__(rate, seed)
        self.eps_l2 = eps_l2
        self.patch = patch

    def _perturb(self, pixels: np.ndarray, codes: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
        n, height, width, channels = pixels.shape
        patch = self.patch or (8 if max(height, width) <= 64 else 32)
        if not 1 <= patch <= min(height, width):
            raise InputError(
                f"a patch has 1 to {min(height, width)} pixels for pictures of {height} x {width}, not {patch}"
            )
        if n_classes < 2:
            raise InputError("patches that tell classes apart need two classes or more")
        rows, columns = -(-height // patch), -(-width // patch)
        dims = rows * columns * channels
        if n_classes > 2**dims:
            raise InputError(f"{n_classes} classes do not fit in {dims} dimensions; take a smaller patch")
        counts = np.bincount(codes, minlength=n_classes)
        draws, of = make_classification(
            n_classes * int(counts.max()),  # as many of each class, since flip_y is 0
            n_features=dims,
            n_informative=dims,
            n_redundant=0,
            n_classes=n_classes,
            n_clusters_per_class=1,
            class_sep=10.0,
            flip_y=0.0,
            shuffle=False,
            random_state=int(rng.integers(2**31)),
        )
        chosen = np.empty((n, dims))
        for code in range(n_classes):
            chosen[codes == code] = draws[of == code][: counts[code]]
        tiles = chosen.reshape(n, rows, columns, channels)
        whole = tiles.repeat(patch, axis=1).repeat(patch, axis=2)[:, :height, :width]
        return to_l2(whole, self.eps_l2)

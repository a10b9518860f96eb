"""The questions that the detector asks of a set of pictures: what gives a label away that a squeeze takes out again?

A held-out half of a poisoned set is poisoned too, so high held-out accuracy alone means nothing; on easy data it is right. What betrays a
poison is a probe that knows the label from fine detail and is lost as soon as that detail is squeezed. Clean detail either
says little (photographs) or survives (drawn digits).

n pictures, (h, w) pixels, c channels, k classes. All labels are 0 .. k - 1 here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from paperworks.papers.iss.squeeze import JPEG, Blur, Grayscale, Transform

Classify = Callable[[np.ndarray], np.ndarray]  # pictures or features -> class numbers
SQUEEZES: dict[str, Transform] = {"gray": Grayscale(), "jpeg:10": JPEG(10), "median": Blur("median")}


@dataclass(frozen=True)
class Probe:
    """One probe's answer: shares of held-out pictures it gets right, 0 to 1.

    accuracy on the pictures as they are, with its 95 % Wilson interval low .. high; squeezed: accuracy on the same pictures after each
    squeeze; chance: share of the largest class.
    """

    name: str
    accuracy: float
    low: float
    high: float
    chance: float
    squeezed: dict[str, float]

    @property
    def excess(self) -> float:
        """How far the lower end of the interval lies above chance."""
        return self.low - self.chance

    def drop(self, squeeze: str) -> float:
        """Share of what the probe knows that the squeeze takes away: 0 nothing, 1 all."""
        known = self.accuracy - self.chance
        return 0.0 if known <= 0 else (self.accuracy - self.squeezed[squeeze]) / known

    @property
    def largest_drop(self) -> float:
        """The largest `drop` over the squeezes."""
        return max(map(self.drop, self.squeezed))


def probe_edges(train: np.ndarray, y: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int) -> Probe:
    """A ridge classifier on x minus a Gaussian blur of x (sigma 1 pixel): patches' edges, single pixels, regular fine noise."""
    classify = _ridge(_edges(train), y, k)
    return _probe("edges", lambda pictures: classify(_edges(pictures)), test, truth, k)


def probe_colour(train: np.ndarray, y: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int) -> Probe:
    """A ridge classifier on the colour (channel minus mean of channels) of an 8 x 8 grid of block means. Needs three channels."""
    classify = _ridge(_colour(train), y, k)
    return _probe("colour", lambda pictures: classify(_colour(pictures)), test, truth, k)


def probe_recursion(train: np.ndarray, y: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int) -> Probe:
    """Least-squares predictors of a pixel from its 8 neighbours before it, one a class: which class's predictor errs least?

    Smooth places weigh most (weight 1 over the window's variance), since there a faint recursion shows.
    """
    filters = _filters(train, y, k)
    return _probe("recursion", lambda pictures: _obeys(pictures, filters), test, truth, k)


def fixed_pixels(pictures: np.ndarray, y: np.ndarray, k: int) -> list[tuple[int, int, int]]:
    """(class, row, column) of pixels that hardly vary within a class though they do over all, and whose neighbours vary in that class.

    Standard deviation under 2 % of the pixel's own over all classes, while each of the 8 neighbours keeps 30 % of its own.
    """
    overall = pictures.std(axis=0).max(axis=-1)
    found = []
    for code in range(k):
        ratio = pictures[y == code].std(axis=0).max(axis=-1) / np.maximum(overall, 1e-9)
        ratio[overall < 5] = np.nan  # a border that is black in all classes says nothing
        around = np.stack([np.roll(ratio, shift, (0, 1)) for shift in _NEIGHBOURS])
        lonely = (ratio < 0.02) & (np.nan_to_num(around).min(axis=0) > 0.3)
        found += [(code, int(row), int(column)) for row, column in np.argwhere(lonely)]
    return found


_NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def wilson(right: float, n: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z2 = 1.959964**2
    middle = (right + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (right * (1 - right) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _probe(name: str, classify: Classify, test: np.ndarray, truth: np.ndarray, k: int) -> Probe:
    right = float((classify(test) == truth).mean())
    low, high = wilson(right, len(test))
    squeezed = {key: float((classify(squeeze.pixels(test)) == truth).mean()) for key, squeeze in SQUEEZES.items()}
    return Probe(name, right, low, high, float(np.bincount(truth, minlength=k).max() / len(truth)), squeezed)


def _edges(pictures: np.ndarray) -> np.ndarray:
    fine = pictures.astype(np.float32)
    fine -= ndimage.gaussian_filter(fine, (0, 1, 1, 0))
    return fine.reshape(len(fine), -1)


def _colour(pictures: np.ndarray) -> np.ndarray:
    fine = pictures.astype(np.float32)
    fine -= fine.mean(axis=-1, keepdims=True)
    n, height, width, channels = fine.shape
    high, wide = max(1, height // 8), max(1, width // 8)
    rows, columns = height // high, width // wide
    blocks = fine[:, : rows * high, : columns * wide].reshape(n, rows, high, columns, wide, channels)
    return blocks.mean(axis=(2, 4)).reshape(n, -1)


def _ridge(features: np.ndarray, y: np.ndarray, k: int) -> Classify:
    """One-hot ridge regression in its dual form, penalty 5 % of the mean squared length: predicts the largest output."""
    mean, scale = features.mean(axis=0), features.std() + 1e-6
    ready = (features - mean) / scale
    targets = np.eye(k, dtype=np.float32)[y]
    prior = targets.mean(axis=0)
    gram = ready @ ready.T
    gram[np.diag_indices_from(gram)] += 0.05 * np.trace(gram) / len(gram) + 1e-3
    weights = ready.T @ np.linalg.solve(gram, targets - prior)
    return lambda new: (((new - mean) / scale) @ weights + prior).argmax(axis=1)


def _moments(pictures: np.ndarray) -> np.ndarray:
    """Weighted second moments of all 3 x 3 windows, (n, c, 9, 9)."""
    moments = np.empty((len(pictures), pictures.shape[-1], 9, 9))
    for at in range(0, len(pictures), 200):
        block = pictures[at : at + 200].astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(block, (3, 3), axis=(1, 2)).reshape(
            len(block), -1, block.shape[-1], 9
        )
        weighted = windows / (windows.var(axis=-1, keepdims=True) + 4.0)
        for channel in range(block.shape[-1]):
            moments[at : at + 200, channel] = weighted[:, :, channel].transpose(0, 2, 1) @ windows[:, :, channel]
    return moments


def _filters(pictures: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
    """Predictors with -1 in the last place, (k, c, 9)."""
    moments = _moments(pictures)
    shared = moments.sum(axis=0) / k
    filters = np.full((k, pictures.shape[-1], 9), -1.0)
    for code in range(k):
        for channel in range(pictures.shape[-1]):
            own = moments[y == code, channel].sum(axis=0) + 0.05 * shared[channel]
            own[np.diag_indices(9)] += 1e-6 * np.trace(own) + 1e-9
            filters[code, channel, :8] = np.linalg.solve(own[:8, :8], own[:8, 8])
    return filters


def _obeys(pictures: np.ndarray, filters: np.ndarray) -> np.ndarray:
    moments = _moments(pictures)
    errors = np.einsum("kci,ncij,kcj->nkc", filters, moments, filters, optimize=True)
    relative = (errors / np.maximum(moments[:, None, :, 8, 8], 1e-9)).sum(axis=2)
    relative /= np.maximum(relative.mean(axis=1, keepdims=True), 1e-30)
    return (relative - relative.mean(axis=0)).argmin(axis=1)

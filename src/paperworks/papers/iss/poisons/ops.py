"""One-pixel shortcuts (OPS): in every picture of a class the same pixel gets the same extreme colour.

For each class, position and corner colour t of the colour cube, score = mean |t - x| / std |t - x| over the class's pictures and
channels; the best pair that no other class has taken wins. With means and mean squares a channel, all positions and colours
cost one pass over the pictures.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.iss.poisons.base import Poison


class OPS(Poison):
    """One pixel a class. rate, seed: see `Poison`.

    Attributes after `fit`: pixels_ (k, 2) row and column a class, colours_ (k, c) of zeros and ones.
    Raises InputError if there are more classes than (position, colour) pairs.
    """

    def _perturb(self, pixels: np.ndarray, codes: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
        _, height, width, channels = pixels.shape
        corners = np.array(list(product((0.0, 1.0), repeat=channels)))
        if n_classes > len(corners) * height * width:
            raise InputError(
                f"{n_classes} classes, but only {len(corners) * height * width} pairs of a pixel and a colour in {height} x {width}"
            )
        taken = np.zeros((len(corners), height, width), bool)
        self.pixels_ = np.empty((n_classes, 2), int)
        self.colours_ = np.empty((n_classes, channels))
        delta = np.zeros(pixels.shape, np.float32)
        for code in range(n_classes):
            chosen = codes == code
            scores = np.where(taken, -np.inf, _scores(pixels[chosen], corners))
            corner, row, column = np.unravel_index(int(scores.argmax()), scores.shape)
            taken[corner, row, column] = True
            self.pixels_[code], self.colours_[code] = (row, column), corners[corner]
            delta[chosen, row, column] = self.colours_[code] - pixels[chosen, row, column] / 255
        return delta


def _scores(pixels: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(n, h, w, c) uint8 of one class, (m, c) colours -> (m, h, w)."""
    mean, square = np.zeros(pixels.shape[1:]), np.zeros(pixels.shape[1:])
    for at in range(0, len(pixels), 256):  # blocks, so that floats of a large class need not fit in memory
        block = pixels[at : at + 256] / 255
        mean += block.sum(axis=0) / len(pixels)
        square += np.square(block).sum(axis=0) / len(pixels)
    flip = corners[:, None, None, :] == 1  # |1 - x| = 1 - x, |0 - x| = x
    first = np.where(flip, 1 - mean, mean).mean(axis=-1)
    second = np.where(flip, 1 - 2 * mean + square, square).mean(axis=-1)
    return first / np.sqrt(np.maximum(second - first**2, 1e-12))

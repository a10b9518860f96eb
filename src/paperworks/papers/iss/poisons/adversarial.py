"""Poisons from a fully trained surrogate: targeted adversarial (TAP), hypocritical, and the form averaged over checkpoints (SEP).

TAP moves every picture towards another class by the same rule, so that a network trained on it learns wrong features. Hypocritical
perturbations make the true class even easier. SEP takes the gradients of checkpoints along one training, since its features differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.iss.poisons.surrogate import SurrogatePoison, Through, as_delta, as_inputs, batches, descend


class TAP(SurrogatePoison):
    """Targeted adversarial poison: the loss towards the class `shift` further (default 3, modulo the classes) is lowered.

    steps: signed-gradient steps of eps / 10 from a random start (default 30; the original takes 250). shift: 0 lowers the loss of the true class:
    the hypocritical poison. checkpoints: gradients are averaged over so many checkpoints, spread over the surrogate's training (default 1: the
    last alone; more is SEP). eps, model, surrogate_epochs (default 10), through, device, rate, seed: see `SurrogatePoison`.
    """

    def __init__(
        self,
        eps: float = 8 / 255,
        steps: int = 30,
        shift: int = 3,
        checkpoints: int = 1,
        model: str | Callable[[int], Any] = "cnn",
        surrogate_epochs: int = 10,
        through: Through | None = None,
        device: str = "cpu",
        rate: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(eps, model, surrogate_epochs, through, device, rate, seed)
        self.steps = steps
        self.shift = shift
        self.checkpoints = checkpoints

    def _perturb(self, pixels: np.ndarray, codes: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
        if not 1 <= self.checkpoints <= max(self.surrogate_epochs, 1):
            raise InputError(
                f"checkpoints is 1 to the surrogate's {self.surrogate_epochs} epochs, not {self.checkpoints}"
            )
        if self.shift % n_classes == 0 and self.shift != 0:
            raise InputError(
                f"shift {self.shift} leads back to the same class among {n_classes}; take another, or 0 on purpose"
            )
        networks = self._trained(pixels, codes, n_classes, keep_each=self.checkpoints > 1)
        chosen = [
            networks[at] for at in np.linspace(len(networks) - 1, 0, self.checkpoints + 1)[:-1].round().astype(int)
        ]
        clean = as_inputs(pixels, self.device)
        targets = torch.as_tensor((codes + self.shift) % n_classes, device=self.device)
        start = rng.uniform(-self.eps, self.eps, tuple(clean.shape)).astype(np.float32)
        delta = torch.as_tensor(start, device=self.device)
        for rows in batches(len(pixels), 256):
            delta[rows] = descend(
                chosen, clean[rows], delta[rows], targets[rows],
                eps=self.eps, step=self.eps / 10, steps=self.steps, through=self.through,
            )  # fmt: skip
        return as_delta(delta)


def hypocritical(**settings: Any) -> TAP:
    """The hypocritical poison: `TAP(shift=0, ...)`."""
    return TAP(shift=0, **settings)


def sep(checkpoints: int = 5, **settings: Any) -> TAP:
    """TAP with gradients averaged over checkpoints of one training: `TAP(checkpoints=5, ...)`."""
    return TAP(checkpoints=checkpoints, **settings)

"""Error-minimising noise (EM): network and noise are trained together, both to lower the loss, until nothing is left to learn.

In turn: train the surrogate a few minibatches on x + delta; then lower the loss with respect to delta by signed-gradient steps. It stops when
the surrogate gets x + delta right. With `radius` it is the robust form (REM): the surrogate is trained against an adversary
of that radius, so that noise is found which adversarial training does not remove.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import InputError
from paperworks.papers.iss.poisons.surrogate import SurrogatePoison, Through, as_delta, as_inputs, batches, descend

log = logging.getLogger(__name__)


class EM(SurrogatePoison):
    """Error-minimising noise within |delta| <= eps.

    by: 'sample' (one perturbation a picture) or 'class' (one a class: cheaper, stronger, easy to see). rounds: at most so many turns
    (default 20); each trains `train_batches` minibatches of 128 (default 10) and takes `steps` steps of eps / 10 (default 20 by sample, 1 a
    minibatch by class). stop: training accuracy on x + delta that ends it (default 0.99). radius: see the module; 0 is plain EM.
    eps, model, surrogate_epochs (default 0: the network starts untrained), through, device, rate, seed: see `SurrogatePoison`.
    Attributes after `fit`: accuracy_ (the surrogate's on x + delta at the end), rounds_ (turns taken), surrogate_.
    """

    def __init__(
        self,
        eps: float = 8 / 255,
        by: Literal["sample", "class"] = "sample",
        rounds: int = 20,
        train_batches: int = 10,
        steps: int = 20,
        stop: float = 0.99,
        radius: float = 0.0,
        model: str | Callable[[int], Any] = "cnn",
        surrogate_epochs: int = 0,
        through: Through | None = None,
        device: str = "cpu",
        rate: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(eps, model, surrogate_epochs, through, device, rate, seed)
        self.by = by
        self.rounds = rounds
        self.train_batches = train_batches
        self.steps = steps
        self.stop = stop
        self.radius = radius

    def _perturb(self, pixels: np.ndarray, codes: np.ndarray, n_classes: int, rng: np.random.Generator) -> np.ndarray:
        if self.by not in ("sample", "class"):
            raise InputError(f"by is 'sample' or 'class', not {self.by!r}")
        network = self._trained(pixels, codes, n_classes)[-1]
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        clean, labels = as_inputs(pixels, self.device), torch.as_tensor(codes, device=self.device)
        by_class = self.by == "class"
        delta = torch.zeros(n_classes if by_class else len(pixels), *clean.shape[1:], device=self.device)
        for turn in range(self.rounds):
            self._train(network, optimiser, clean, delta, labels, rng)
            for rows in batches(len(pixels), 128):
                tie = labels[rows] if by_class else None
                now = delta if by_class else delta[rows]
                moved = descend(
                    [network], clean[rows], now, labels[rows],
                    eps=self.eps, step=self.eps / 10, steps=1 if by_class else self.steps, through=self.through, tie=tie,
                )  # fmt: skip
                if by_class:
                    delta = moved
                else:
                    delta[rows] = moved
            self.accuracy_, self.rounds_ = self._accuracy(network, clean, delta, labels), turn + 1
            log.info("turn %d: the surrogate gets %.1f %% of x + delta right", turn + 1, 100 * self.accuracy_)
            if self.accuracy_ > self.stop:
                break
        full = delta[labels] if by_class else delta
        return as_delta((clean + full).clamp(0, 1) - clean)

    def _train(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        clean: Tensor,
        delta: Tensor,
        labels: Tensor,
        rng: np.random.Generator,
    ) -> None:
        network.train()
        for _ in range(self.train_batches):
            rows = torch.as_tensor(rng.choice(len(clean), min(128, len(clean)), replace=False), device=clean.device)
            inputs = self._seen(clean, delta, labels, rows)
            if self.radius:
                inputs = inputs + descend(
                    [network], inputs, torch.zeros_like(inputs), labels[rows],
                    eps=self.radius, step=-self.radius / 4, steps=5, through=self.through,
                )  # fmt: skip
                network.train()
            seen = inputs if self.through is None else self.through(inputs)
            loss = F.cross_entropy(network(seen), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    def _seen(self, clean: Tensor, delta: Tensor, labels: Tensor, rows: Tensor | slice) -> Tensor:
        return (clean[rows] + (delta[labels[rows]] if self.by == "class" else delta[rows])).clamp(0, 1)

    @torch.inference_mode()
    def _accuracy(self, network: nn.Module, clean: Tensor, delta: Tensor, labels: Tensor) -> float:
        network.eval()
        right = 0
        for rows in batches(len(clean), 512):
            inputs = self._seen(clean, delta, labels, rows)
            right += int(
                (network(inputs if self.through is None else self.through(inputs)).argmax(1) == labels[rows]).sum()
            )
        return right / len(clean)

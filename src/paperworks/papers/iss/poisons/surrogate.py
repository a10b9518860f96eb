"""What the poisons that train a network of their own share: the network, its training, and signed-gradient steps in a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paperworks.errors import InputError, MissingExtra
from paperworks.papers.iss.poisons.base import Poison

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    from paperworks.nn.small_vision import small_vision_model
    from paperworks.nn.vision_training import Recipe, to_inputs, train
except ImportError as error:  # pragma: no cover - this file is only imported where torch is wanted
    raise MissingExtra("a poison with a surrogate network", "nn") from error

Through = Callable[[Tensor], Tensor]


class SurrogatePoison(Poison):
    """Base of the poisons with a surrogate network.

    eps: bound of every pixel, on the 0 to 1 scale (default 8/255). model: a name of `paperworks.nn.small_vision`, or a function of the
    number of classes that makes a module. surrogate_epochs: how long it is trained on the clean pictures first. through: a
    differentiable squeeze that the maker of the poison expects (`differentiable_jpeg`, `differentiable_gray`): gradients pass it.
    device: 'cpu' or 'cuda'. rate, seed: see `Poison`. Attributes after `fit`: surrogate_, the network.
    """

    def __init__(
        self,
        eps: float = 8 / 255,
        model: str | Callable[[int], Any] = "cnn",
        surrogate_epochs: int = 10,
        through: Through | None = None,
        device: str = "cpu",
        rate: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(rate, seed)
        self.eps = eps
        self.model = model
        self.surrogate_epochs = surrogate_epochs
        self.through = through
        self.device = device

    def _network(self, n_classes: int, channels: int) -> nn.Module:
        if not 0 <= self.eps <= 1:
            raise InputError(f"eps is on the 0 to 1 scale, as in 8/255, not {self.eps}")
        torch.manual_seed(self.seed)
        made = (
            small_vision_model(self.model, n_classes, channels)
            if isinstance(self.model, str)
            else self.model(n_classes)
        )
        return made.to(self.device)

    def _trained(
        self, pixels: np.ndarray, codes: np.ndarray, n_classes: int, keep_each: bool = False
    ) -> list[nn.Module]:
        """The surrogate after its training on clean pictures, last in the list; with `keep_each` a copy after every epoch before."""
        from copy import deepcopy

        network = self._network(n_classes, pixels.shape[-1])
        copies: list[nn.Module] = []
        if self.surrogate_epochs:
            recipe = Recipe(epochs=self.surrogate_epochs, lr=0.05, nesterov=True)

            def keep(_: int, model: nn.Module, __: object) -> None:
                copies.append(deepcopy(model))

            train(
                network, pixels, codes, recipe, seed=self.seed, device=self.device, on_epoch=keep if keep_each else None
            )
        self.surrogate_ = network
        return [*copies[:-1], network]


def descend(
    networks: Sequence[nn.Module],
    clean: Tensor,
    delta: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    through: Through | None,
    tie: Tensor | None = None,
) -> Tensor:
    """Signed-gradient steps that lower the mean cross-entropy of x + delta towards `labels`, averaged over the networks.

    A step below 0 raises it instead. clean, delta (n, c, h, w); each step is projected to |delta| <= eps and to pictures within [0, 1]. tie (n,): row of `delta`
    (k, c, h, w) for each picture, when several pictures share one perturbation. Networks are used in evaluation mode, put back after.
    """
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    delta = delta.clone()
    try:
        for _ in range(steps):
            delta.requires_grad_()
            shifted = (clean + (delta if tie is None else delta[tie])).clamp(0, 1)
            seen = shifted if through is None else through(shifted)
            loss = torch.stack([F.cross_entropy(network(seen), labels) for network in networks]).mean()
            (gradient,) = torch.autograd.grad(loss, delta)
            with torch.no_grad():
                delta = (delta - step * gradient.sign()).clamp(-eps, eps)
                if tie is None:
                    delta = (clean + delta).clamp(0, 1) - clean
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)
    return delta.detach()


def batches(n: int, size: int) -> list[slice]:
    """Slices that cover 0 .. n - 1."""
    return [slice(at, min(at + size, n)) for at in range(0, n, size)]


def as_inputs(pixels: np.ndarray, device: str) -> Tensor:
    """uint8 (n, h, w, c) -> float (n, c, h, w) in [0, 1]."""
    return to_inputs(pixels, device)


def as_delta(delta: Tensor) -> np.ndarray:
    """(n, c, h, w) tensor -> float32 (n, h, w, c) array."""
    return np.ascontiguousarray(delta.detach().cpu().movedim(1, -1).float().numpy())

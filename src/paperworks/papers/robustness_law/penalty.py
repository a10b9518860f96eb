"""Train for a smaller sensitivity, and watch it while training. Needs the extra 'nn'.

The penalty is weight * mean S^2 (double backpropagation, about three times the cost of a step).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError, MissingExtra
from paperworks.papers.robustness_law.networks import Target, need_torch, select, sensitivity

if TYPE_CHECKING:
    from torch import Tensor, nn


def sensitivity_penalty(model: nn.Module, x: Tensor, target: Target = None, *, weight: float = 1e-3) -> Tensor:
    """weight * mean over the batch of |x|^2 |grad target|^2: add it to the loss and call backward once.

    x (m, ...) floats; x itself gets no gradient. The model is asked in the mode that it is in, as training does.
    Activations whose second derivative is zero (relu) pass gradients through the weights only, which is enough.
    """
    torch = need_torch()
    if not weight >= 0:
        raise InputError(f"weight must be at least 0, got {weight}")
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        found = model(leaf)
        found = getattr(found, "logits", found).reshape(leaf.shape[0], -1)
        (grad,) = torch.autograd.grad(select(found, target).sum(), leaf, create_graph=True)
        squares = grad.flatten(1).float().pow(2).sum(1) * leaf.detach().flatten(1).float().pow(2).sum(1)
        return weight * squares.mean()


class SensitivityMonitor:
    """Measures the median sensitivity at fixed inputs every so many steps.

    model, Z, target, scale: as in `sensitivity`; every: steps between measurements (>= 1).
    history: list of (step, median S). Call `step()` after each training step, or hand `hf_callback()` to a Hugging Face Trainer.
    """

    def __init__(
        self, model: nn.Module, Z: Any, *, every: int = 100, target: Target = None, scale: Any = "norm"
    ) -> None:
        if every < 1:
            raise InputError(f"every must be at least 1, got {every}")
        self.model, self.Z, self.every, self.target, self.scale = model, Z, every, target, scale
        self.history: list[tuple[int, float]] = []
        self._steps = 0

    def measure(self) -> float:
        """Measure now, and note it under the steps done so far."""
        found = float(np.median(sensitivity(self.model, self.Z, self.target, scale=self.scale)))
        self.history.append((self._steps, found))
        return found

    def step(self) -> float | None:
        """Count a step; the new measurement when it was due, else None."""
        self._steps += 1
        return self.measure() if self._steps % self.every == 0 else None

    def hf_callback(self) -> Any:
        """A `transformers.TrainerCallback` that steps this monitor and logs 'sensitivity'. Raises MissingExtra without transformers."""
        try:
            from transformers import TrainerCallback
        except ImportError as error:
            raise MissingExtra("a Trainer callback", "nn") from error
        monitor = self

        class Callback(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
                found = monitor.step()
                if found is not None:
                    state.log_history.append({"sensitivity": found, "step": state.global_step})

        return Callback()

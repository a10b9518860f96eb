"""The standard table of countermeasures: every poison against every squeeze, trained and tested the same way.

Test pictures are never poisoned, and not squeezed unless asked. Accuracies are of the last epoch, in percent: the best one on test pictures
would be chosen with the answers in hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import InputError
from paperworks.nn.small_vision import small_vision_model
from paperworks.nn.vision_training import Batch, History, Recipe, train
from paperworks.papers.iss.poisons.base import Poison
from paperworks.papers.iss.squeeze import Compose, Transform, parse
from paperworks.progress import Progress, silent

Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Cell:
    """One training: accuracy in percent on the test pictures after every epoch, training accuracy likewise, and seconds of CPU."""

    poison: str
    squeeze: str
    seed: int
    accuracy: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    cpu_s: float

    @property
    def last(self) -> float:
        """Accuracy after the last epoch, percent."""
        return self.accuracy[-1]


def train_squeezed(
    train_set: Labelled,
    test_set: Labelled,
    squeeze: Transform,
    *,
    poison: str = "",
    model: str | Callable[[], nn.Module] = "cnn",
    recipe: Recipe | None = None,
    squeeze_test: bool = False,
    step: Callable[[nn.Module, Batch], tuple[Tensor, Tensor]] | None = None,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> Cell:
    """Squeeze the training pictures once, train, and take the accuracy on the test pictures.

    Sets are uint8 (n, h, w, c) and labels 0 .. k-1. model: a name of `small_vision_model`. squeeze_test: squeeze the test pictures too. step:
    another training step, such as `adversarial_step()`. checkpoint: see `vision_training.train`.
    """
    (X, y), (test, truth) = train_set, test_set
    classes = int(max(y.max(), truth.max())) + 1
    recipe = recipe or Recipe(epochs=10, lr=0.05, nesterov=True)
    make = model if callable(model) else (lambda: small_vision_model(model, classes, X.shape[-1]))
    extra: dict[str, Any] = {} if step is None else {"step": step}
    began = time.process_time()
    _, history = train(
        make,
        squeeze.pixels(X),
        y,
        recipe,
        evaluate={"test": (squeeze.pixels(test) if squeeze_test else test, truth)},
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        **extra,
    )
    return _cell(poison, squeeze, seed, history, time.process_time() - began)


def benchmark(
    train_set: Labelled,
    test_set: Labelled,
    poisons: Mapping[str, Poison | None],
    squeezes: Sequence[str | Transform] = ("none", "gray", "jpeg:10", "bits:2"),
    *,
    model: str = "cnn",
    recipe: Recipe | None = None,
    seeds: int = 1,
    squeeze_test: bool = False,
    max_seconds: float | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> list[Cell]:
    """The table: for each seed, each poison (None: clean) and each squeeze one training, in this order.

    squeezes: names that `squeeze.parse` reads, or squeezes. max_seconds: no further training is begun after so many; the cells that are done come
    back. Raises InputError for no poisons, no squeezes or fewer than one seed.
    """
    if not poisons or not squeezes or seeds < 1:
        raise InputError("a table needs one poison (None for clean), one squeeze and one seed or more")
    chosen = [parse(one) if isinstance(one, str) else one for one in squeezes]
    cells: list[Cell] = []
    began, total = time.monotonic(), seeds * len(poisons) * len(chosen)
    for seed in range(seeds):
        for name, poison in poisons.items():
            X = train_set[0] if poison is None else poison.set_params(seed=seed).fit_transform(*train_set)
            for squeeze in chosen:
                if max_seconds is not None and time.monotonic() - began > max_seconds:
                    return cells
                cells.append(
                    train_squeezed(
                        (X, train_set[1]),
                        test_set,
                        squeeze,
                        poison=name,
                        model=model,
                        recipe=recipe,
                        squeeze_test=squeeze_test,
                        seed=seed,
                        device=device,
                    )
                )
                progress(len(cells), total, f"{name}, {squeeze!r}: {cells[-1].last:.1f} %")
    return cells


def as_markdown(cells: Sequence[Cell]) -> str:
    """The table as Markdown: mean of the last accuracies in percent, with the largest distance of a seed from it."""
    squeezes, poisons = list(dict.fromkeys(c.squeeze for c in cells)), list(dict.fromkeys(c.poison for c in cells))
    lines = ["| | " + " | ".join(squeezes) + " |", "| --- |" + " ---: |" * len(squeezes)]
    for poison in poisons:
        row = [poison or "clean"]
        for squeeze in squeezes:
            found = np.array([c.last for c in cells if (c.poison, c.squeeze) == (poison, squeeze)])
            spread = f" ± {np.abs(found - found.mean()).max():.1f}" if len(found) > 1 else ""
            row.append(f"{found.mean():.1f}{spread}" if len(found) else "")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def adversarial_step(
    eps: float = 8 / 255, step: float = 2 / 255, steps: int = 7
) -> Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]:
    """A training step on PGD examples (Madry et al.), the comparator of the paper: batch norm in evaluation mode while attacking.

    eps, step: on the 0 to 1 scale; the start is x + 0.007 N(0, 1), as the authors have it.
    """

    def work(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        model.eval()
        attacked = batch.inputs + 0.007 * torch.randn_like(batch.inputs)
        for _ in range(steps):
            attacked = attacked.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(attacked), batch.labels), attacked)
            with torch.no_grad():
                attacked = attacked + step * gradient.sign()
                attacked = (batch.inputs + (attacked - batch.inputs).clamp(-eps, eps)).clamp(0, 1)
        model.train()
        logits = model(attacked.detach())
        return F.cross_entropy(logits, batch.labels), logits

    return work


def _cell(poison: str, squeeze: Transform, seed: int, history: History, cpu_s: float) -> Cell:
    name = "none" if squeeze == Compose(()) else repr(squeeze)
    as_percent = tuple(100 * value for value in history.accuracy["test"])
    return Cell(poison, name, seed, as_percent, tuple(100 * value for value in history.train_accuracy), cpu_s)

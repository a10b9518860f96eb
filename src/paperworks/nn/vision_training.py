"""One training loop for small image classifiers: seeded, resumable to the bit on a CPU, with a history for plots.

What differs between methods is one function, the step: it gets a batch and returns the loss and the logits. Everything else (order,
crops and flips, schedule, evaluation, checkpoints) is the same for all, so that two methods differ in nothing but their step.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import InputError
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)
Images = np.ndarray  # uint8 (n, h, w, c)
Labelled = tuple[Images, np.ndarray]


@dataclass(frozen=True)
class Batch:
    """What a step is given: inputs float (b, c, h, w) in [0, 1], labels (b,), ids (b,) rows of the training set, done in [0, 1]."""

    inputs: Tensor
    labels: Tensor
    ids: Tensor
    done: float  # share of the whole training that lies behind


Step = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]  # -> loss (a scalar with gradient), logits (b, k)


def plain_step(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy."""
    logits = model(batch.inputs)
    return F.cross_entropy(logits, batch.labels), logits


@dataclass(frozen=True)
class Recipe:
    """How to train. SGD with momentum; the learning rate follows `schedule` after every step.

    schedule: 'cosine' to 0, 'piecewise' (a tenth at each of `milestones`, shares of the training), 'triangular' (up to the middle, down
    to 0), or 'constant'. crop: zero padding in pixels before a random crop back, 0 for none. flip: mirror half of the pictures.
    """

    epochs: int = 10
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "piecewise", "triangular", "constant"] = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    crop: int = 4
    flip: bool = True

    def rate(self, done: float) -> float:
        """The learning rate when the share `done` of the training lies behind.

        >>> Recipe(lr=0.2, schedule="piecewise").rate(0.6)
        0.02
        """
        match self.schedule:
            case "cosine":
                return self.lr * (1 + math.cos(math.pi * done)) / 2
            case "piecewise":
                return self.lr / 10 ** sum(done >= milestone for milestone in self.milestones)
            case "triangular":
                return self.lr * 2 * min(done, 1 - done)
            case "constant":
                return self.lr
        raise InputError(f"a schedule is cosine, piecewise, triangular or constant, not {self.schedule!r}")


@dataclass
class History:
    """One entry an epoch: mean training loss, training accuracy of the step's logits, and accuracy on each evaluation set (0 to 1)."""

    loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    accuracy: dict[str, list[float]] = field(default_factory=dict)


def train(
    model: nn.Module | Callable[[], nn.Module],
    images: Images,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    step: Step = plain_step,
    evaluate: Mapping[str, Labelled] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, nn.Module, History], None] | None = None,
    progress: Progress = silent,
) -> tuple[nn.Module, History]:
    """Train a classifier and return it with its history.

    model: a module, or a function without arguments that makes one (then its weights come from `seed`).
    images uint8 (n, h, w, c), labels (n,) whole numbers from 0. step: see `Batch`. evaluate: named sets whose accuracy is taken after every
    epoch. checkpoint: a file; written after every epoch (aside, then renamed), and read first if it is there: the same result, to the bit on
    a CPU, as without the interruption. on_epoch(epoch, model, history) is called after each.
    Raises InputError for pictures or labels of another form, and for a checkpoint of another recipe or size.
    """
    images, labels = _checked(images, labels)
    torch.manual_seed(seed)
    network = (model if isinstance(model, nn.Module) else model()).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(
        network.parameters(), recipe.lr, recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay
    )
    order = np.random.default_rng(seed)
    history, first = History(), 0
    identity = {"recipe": asdict(recipe), "n": len(images), "seed": seed}
    if checkpoint is not None and checkpoint.exists():
        first, history = _restore(checkpoint, identity, network, optimiser, order)
    for epoch in range(first, recipe.epochs):
        _epoch(network, optimiser, images, labels, recipe, step, epoch, order, torch.device(device), history)
        for name, (pictures, truth) in (evaluate or {}).items():
            history.accuracy.setdefault(name, []).append(accuracy(network, pictures, truth, device=device))
        if checkpoint is not None:
            _save(checkpoint, identity, epoch + 1, network, optimiser, order, history)
        if on_epoch is not None:
            on_epoch(epoch, network, history)
        note = f"loss {history.loss[-1]:.3f}"
        progress(epoch + 1, recipe.epochs, note)
        log.info("epoch %d of %d: %s", epoch + 1, recipe.epochs, note)
    return network, history


def _epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Images,
    labels: np.ndarray,
    recipe: Recipe,
    step: Step,
    epoch: int,
    order: np.random.Generator,
    device: torch.device,
    history: History,
) -> None:
    rows = order.permutation(len(images))
    starts = range(0, len(rows), recipe.batch)
    total = right = 0.0
    for index, at in enumerate(starts):
        done = (epoch + index / len(starts)) / recipe.epochs
        ids = rows[at : at + recipe.batch]
        inputs = to_inputs(augmented(images[ids], recipe.crop, recipe.flip, order), device)
        batch = Batch(inputs, torch.as_tensor(labels[ids], device=device), torch.as_tensor(ids, device=device), done)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(done)
        network.train()
        loss, logits = step(network, batch)
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss is {float(loss.detach())} in epoch {epoch + 1}; lower the learning rate ({recipe.lr})"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += float(loss.detach()) * len(ids)
        right += int((logits.detach().argmax(1) == batch.labels).sum())
    history.loss.append(total / len(rows))
    history.train_accuracy.append(right / len(rows))


def accuracy(
    model: nn.Module, images: Images, labels: np.ndarray, *, batch: int = 512, device: str | torch.device = "cpu"
) -> float:
    """Share of right answers in evaluation mode; the model's own mode is put back."""
    right = sum(
        int((logits.argmax(1).cpu().numpy() == labels[at : at + batch]).sum())
        for at, logits in _logits(model, images, batch, device)
    )
    return right / len(images)


def predict(model: nn.Module, images: Images, *, batch: int = 512, device: str | torch.device = "cpu") -> np.ndarray:
    """Logits float32 (n, k) in evaluation mode."""
    return np.concatenate([logits.float().cpu().numpy() for _, logits in _logits(model, images, batch, device)])


def _logits(model: nn.Module, images: Images, batch: int, device: str | torch.device) -> Iterator[tuple[int, Tensor]]:
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for at in range(0, len(images), batch):
                yield at, model(to_inputs(images[at : at + batch], device))
    finally:
        model.train(training)


def to_inputs(images: Images, device: str | torch.device = "cpu") -> Tensor:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in [0, 1], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float().div_(255)


def augmented(images: Images, crop: int, flip: bool, rng: np.random.Generator) -> Images:
    """Random crops out of the zero-padded pictures, and mirrored ones, each picture with its own draw."""
    n, height, width, _ = images.shape
    if crop:
        padded = np.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        corner = rng.integers(0, 2 * crop + 1, size=(2, n))
        images = np.moveaxis(windows[np.arange(n), corner[0], corner[1]], 1, -1)
    if flip:
        images = np.where(rng.random((n, 1, 1, 1)) < 0.5, images[:, :, ::-1], images)
    return images


def _checked(images: Images, labels: np.ndarray) -> tuple[Images, np.ndarray]:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3) or not len(images):
        raise InputError(f"pictures are uint8 (n, h, w, c) with 1 or 3 channels, not {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise InputError(f"labels are {len(images)} whole numbers from 0, not {labels.dtype} {labels.shape}")
    return images, labels.astype(np.int64)


def _save(
    path: Path,
    identity: dict[str, Any],
    epoch: int,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    order: np.random.Generator,
    history: History,
) -> None:
    state = {
        "identity": identity,
        "epoch": epoch,
        "model": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "order": order.bit_generator.state,
        "torch": torch.get_rng_state(),
        "history": asdict(history),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    torch.save(state, half)
    half.replace(path)


def _restore(
    path: Path,
    identity: dict[str, Any],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    order: np.random.Generator,
) -> tuple[int, History]:
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["identity"] != identity:
        raise InputError(
            f"{path} belongs to another training ({state['identity']}, not {identity}); delete it or name another"
        )
    network.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    order.bit_generator.state = state["order"]
    torch.set_rng_state(state["torch"])
    log.info("going on after epoch %d from %s", state["epoch"], path)
    return state["epoch"], History(**state["history"])

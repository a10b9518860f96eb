"""Measure passes: how long several take in turn, and how many bytes of tensors live at once.

Seconds are CPU seconds of this process (all threads) on a CPU, so that other processes count little, and wall seconds on a GPU.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_Mode: Any = TorchDispatchMode  # it carries no types


def seconds(work: Callable[[], object], device: str | torch.device = "cpu") -> float:
    """How long one call takes; its result is let go before the clock stops, as a loop over batches would."""
    gpu = torch.device(device).type == "cuda"
    if gpu:
        torch.cuda.synchronize()
    clock = time.perf_counter if gpu else time.process_time
    begin = clock()
    work()
    if gpu:
        torch.cuda.synchronize()
    return clock() - begin


def in_turn(
    works: Mapping[str, Callable[[], object]], rounds: int = 3, device: str | torch.device = "cpu"
) -> dict[str, np.ndarray]:
    """Seconds of each work, (rounds,): all take turns in every round, so that a change of the machine's speed hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(seconds(work, device))
    return {name: np.array(values) for name, values in found.items()}


def median_ratio(times: Mapping[str, np.ndarray], over: str, under: str) -> float:
    """The median over the rounds of one work's seconds over another's."""
    return float(np.median(times[over] / np.maximum(times[under], 1e-9)))


class PeakBytes(_Mode):
    """Counts bytes of the tensors that are made inside the block and live at the same time: `peak` at worst, `live` now.

    What existed before (the weights) is not counted, nor what a kernel takes for itself. Works on every device, unaffected by what
    other processes do; slower than without.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs or {})) if _counts(leaf)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if not _counts(leaf):
                continue
            storage = leaf.untyped_storage()
            key = storage._cdata
            if key in before or key in self._seen:
                continue
            n_bytes = storage.nbytes()
            self.live += n_bytes
            self._seen[key] = weakref.finalize(storage, self._freed, key, n_bytes)
        self.peak = max(self.peak, self.live)
        return out

    def _freed(self, key: int, n_bytes: int) -> None:
        self.live -= n_bytes
        self._seen.pop(key, None)


def _counts(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor)


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes of tensors that a call has alive at once, its result included."""
    with PeakBytes() as counted:
        result = work()
    del result
    return counted.peak

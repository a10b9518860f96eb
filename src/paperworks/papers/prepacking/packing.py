"""Lay prompts behind one another: the flat row, and the padded rows of bins that the paper uses.

Letters: `k` prompts, `L` tokens of a row, `r` rows, `c` tokens of the longest row. Which prompts share a row is decided in `plan.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from paperworks.papers.prepacking.errors import PromptError


def flatten(
    prompts: Sequence[Any], device: torch.device | str = "cpu", *, position_start: int = 0
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """One row of all prompts, in the given order.

    prompts: k 1-D sequences of ids (lists, arrays, tensors). -> input_ids (1, L) int64, position_ids (1, L) int64 that start anew
    at `position_start` in each prompt (2 for RoBERTa), and the k lengths.

    >>> flatten([[5, 6, 7], [8]])[1:]
    (tensor([[0, 1, 2, 0]]), [3, 1])
    """
    if not len(prompts):
        raise PromptError("a row needs at least one prompt, got none")
    arrays = [as_ids(prompt) for prompt in prompts]
    lengths = [len(array) for array in arrays]
    ids = torch.from_numpy(np.concatenate(arrays)).to(device)
    return ids[None], restarting_positions(lengths, position_start).to(device)[None], lengths


def restarting_positions(lengths: Sequence[int], start: int = 0) -> torch.Tensor:
    """0 ... l_1 - 1, 0 ... l_2 - 1, ... (L,) int64, each `start` higher."""
    counts = np.asarray(lengths, dtype=np.int64)
    begins = np.cumsum(counts) - counts
    return torch.from_numpy(np.arange(counts.sum()) - np.repeat(begins, counts) + start)


def as_ids(prompt: Any) -> np.ndarray:
    """A prompt as a 1-D int64 array."""
    if isinstance(prompt, torch.Tensor):
        prompt = prompt.detach().cpu().numpy()
    array = np.asarray(prompt)
    if array.ndim != 1:
        raise PromptError(f"a prompt is a 1-D sequence of token ids, got one of shape {array.shape}")
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise PromptError(f"token ids are integers, got {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.int64)


@dataclass(frozen=True)
class PackedRows:
    """Bins as rows of one batch (the paper's form).

    input_ids, position_ids (r, c) int64; segment_ids (r, c) int64, the place of the prompt within its row and -1 at pads;
    slices: for prompt i its (row, start, stop).
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segment_ids: torch.Tensor
    slices: tuple[tuple[int, int, int], ...]

    def mask(self, causal: bool = True) -> torch.Tensor:
        """(r, 1, c, c) bool: True where b is of the same prompt as a, and not later (independent masking).

        A pad token looks at itself, since some kernels make NaN of a row without any key.
        """
        rows = self.segment_ids
        same = (rows[:, :, None] == rows[:, None, :]) & (rows >= 0)[:, :, None]
        if causal:
            same = same.tril()
        same |= torch.eye(rows.shape[1], dtype=torch.bool, device=rows.device)
        return same[:, None]


def pack_rows(
    prompts: Sequence[Any],
    bins: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
    *,
    pad_id: int = 0,
    position_start: int = 0,
) -> PackedRows:
    """The bins (lists of places in `prompts`, each place once) as padded rows with restarting positions."""
    arrays = [as_ids(prompt) for prompt in prompts]
    placed = sorted(i for members in bins for i in members)
    if placed != list(range(len(arrays))):
        raise PromptError(f"the bins must hold each of the {len(arrays)} prompts once, got {len(placed)} places")
    width = max((sum(len(arrays[i]) for i in members) for members in bins), default=0)
    ids = np.full((len(bins), width), pad_id, dtype=np.int64)
    positions = np.full((len(bins), width), position_start, dtype=np.int64)
    owners = np.full((len(bins), width), -1, dtype=np.int64)
    slices: list[tuple[int, int, int]] = [(0, 0, 0)] * len(arrays)
    for row, members in enumerate(bins):
        start = 0
        for place, i in enumerate(members):
            stop = start + len(arrays[i])
            ids[row, start:stop] = arrays[i]
            positions[row, start:stop] = np.arange(stop - start) + position_start
            owners[row, start:stop] = place
            slices[i] = (row, start, stop)
            start = stop
    ids_t, positions_t, owners_t = (torch.from_numpy(array).to(device) for array in (ids, positions, owners))
    return PackedRows(ids_t, positions_t, owners_t, tuple(slices))

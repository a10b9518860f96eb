"""The paper's method step by step, in plain loops: what the fast routes are tested against.

Bins as long as the longest prompt, filled by the fullest-bin rule; the last token of each prompt is left out of the packed pass; a dense mask
and restarting positions; the cache cut apart and padded on the left; then ordinary `generate`. A prompt of one token has nothing to
put into a bin and joins at the first decoding step (the authors' code loses it). As there, bins are filled by whole lengths.

Letters: `k` prompts, `r` rows, `c` tokens of the longest row, `K` key heads, `d` head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel


@dataclass(frozen=True)
class PackedBatch:
    """input_ids, position_ids (r, c); mask (r, c, c) of 0 and 1; places: prompt -> (row, start, stop), for prompts of two tokens or more."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    mask: torch.Tensor
    places: dict[int, tuple[int, int, int]]


def fullest_bin(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Longest first, each prompt into the fullest bin where it fits, else a new one (best-fit decreasing).

    >>> fullest_bin([3, 7, 2, 5, 4], 7)
    [[1], [3, 2], [4, 0]]
    """
    bins: list[list[int]] = []
    loads: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        fitting = [b for b in range(len(bins)) if loads[b] + lengths[i] <= capacity]
        if fitting:
            b = max(fitting, key=lambda b: loads[b])
            bins[b].append(i)
            loads[b] += lengths[i]
        else:
            bins.append([i])
            loads.append(lengths[i])
    return bins


def pack(prompts: Sequence[Sequence[int]], pad_id: int = 0) -> PackedBatch:
    """Steps 2 to 5: bins, rows without last tokens, independent mask, restarting positions (1 at pads, as in the authors' code)."""
    lengths = [len(prompt) for prompt in prompts]
    rows: list[list[int]] = []
    positions: list[list[int]] = []
    masks: list[torch.Tensor] = []
    places: dict[int, tuple[int, int, int]] = {}
    for members in fullest_bin(lengths, max(lengths)):
        tokens: list[int] = []
        numbers: list[int] = []
        spans = []
        for i in members:
            if lengths[i] == 1:
                continue
            start = len(tokens)
            tokens += list(prompts[i][:-1])
            numbers += list(range(lengths[i] - 1))
            spans.append((start, len(tokens)))
            places[i] = (len(rows), start, len(tokens))
        if not tokens:
            continue
        mask = torch.zeros(len(tokens), len(tokens))
        for start, stop in spans:
            for a in range(start, stop):
                mask[a, start : a + 1] = 1  # a token sees those of its own prompt that are not later
        rows.append(tokens)
        positions.append(numbers)
        masks.append(mask)
    width = max((len(row) for row in rows), default=0)
    return PackedBatch(
        input_ids=_table([row + [pad_id] * (width - len(row)) for row in rows], width),
        position_ids=_table([numbers + [1] * (width - len(numbers)) for numbers in positions], width),
        mask=torch.stack([torch.nn.functional.pad(m, (0, width - len(m), 0, width - len(m))) for m in masks])
        if masks
        else torch.zeros(0, 0, 0),
        places=places,
    )


def _table(rows: list[list[int]], width: int) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int64).view(len(rows), width)


@torch.no_grad()
def run(model: PreTrainedModel, packed: PackedBatch) -> DynamicCache:
    """Step 6: one pass over the rows with the mask as a 4-D argument; pads see themselves. -> the cache of the rows."""
    cache = DynamicCache()
    if packed.input_ids.numel():
        seen = packed.mask.bool() | torch.eye(packed.mask.shape[1], dtype=torch.bool)
        additive = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(model.dtype).min).to(model.dtype)
        arguments: dict[str, Any] = {"cache": cache, "use_cache": True}
        model(
            input_ids=packed.input_ids, position_ids=packed.position_ids, attention_mask=additive[:, None], **arguments
        )
    return cache


def unpack(
    cache: DynamicCache, packed: PackedBatch, prompts: Sequence[Sequence[int]]
) -> tuple[DynamicCache | None, torch.Tensor, torch.Tensor]:
    """Step 7: the cache (k, K, max l - 1, d) a layer with zeros on the left, the last tokens (k, 1), the mask (k, max l).

    No cache if no prompt has more than one token.
    """
    lengths = [len(prompt) for prompt in prompts]
    width = max(lengths) - 1
    mask = torch.zeros(len(prompts), width + 1, dtype=torch.int64)
    last = torch.zeros(len(prompts), 1, dtype=torch.int64)
    for i, prompt in enumerate(prompts):
        mask[i, width + 1 - lengths[i] :] = 1
        last[i, 0] = prompt[-1]
    if width == 0:
        return None, last, mask
    out = DynamicCache()
    layers: list[Any] = list(cache.layers)
    for layer_index, layer in enumerate(layers):
        both = []
        for states in (layer.keys, layer.values):
            padded = torch.zeros(len(prompts), states.shape[1], width, states.shape[3], dtype=states.dtype)
            for i, (row, start, stop) in packed.places.items():
                padded[i, :, width - (stop - start) :] = states[row, :, start:stop]
            both.append(padded)
        out.update(both[0], both[1], layer_index)
    return out, last, mask


def generate(model: PreTrainedModel, prompts: Sequence[Sequence[int]], **settings: Any) -> torch.Tensor:
    """All steps, and the model's own `generate` from there: (k, 1 + new) ids, the last prompt token first."""
    packed = pack(prompts)
    cache, last, mask = unpack(run(model, packed), packed, prompts)
    found: torch.Tensor = model.generate(last, attention_mask=mask, cache=cache, **settings)  # type: ignore[operator]
    return found

"""What people do without packing: pad a batch on the left, run prompts one by one, or sort by length and pad.

Ordinary calls of transformers, the same for benchmarks and claims. Each gives next-token logits (k, V) in the order of the prompts,
or all logits of every position of the batch (rows, T, V), and can keep the caches.

Letters: `k` prompts, `T` tokens of a padded row, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError


@torch.inference_mode()
def padded(
    model: Any, prompts: Sequence[Any], *, all_logits: bool = False, keep: list[Any] | None = None, pad_id: int = 0
) -> torch.Tensor:
    """One batch, padded on the left: logits (k, V) of the last tokens, or (k, T, V) with `all_logits`. keep: takes the cache."""
    if not len(prompts):
        raise InputError("a batch needs at least one prompt")
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros(len(prompts), width, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.as_tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=positions.to(model.device),
        use_cache=keep is not None,
        logits_to_keep=0 if all_logits else 1,
    )
    if keep is not None:
        keep.append(out)
    logits: torch.Tensor = out.logits
    return logits if all_logits else logits[:, -1]


@torch.inference_mode()
def one_by_one(model: Any, prompts: Sequence[Any], *, keep: list[Any] | None = None) -> torch.Tensor:
    """Each prompt by itself, nothing padded: logits (k, V)."""
    rows = []
    for prompt in prompts:
        out = model(
            input_ids=torch.as_tensor(prompt)[None].to(model.device), use_cache=keep is not None, logits_to_keep=1
        )
        if keep is not None:
            keep.append(out)
        rows.append(out.logits[0, -1])
    return torch.stack(rows)


def sorted_batches(model: Any, prompts: Sequence[Any], size: int, *, keep: list[Any] | None = None) -> torch.Tensor:
    """Sorted by length, then padded batches of `size`: logits (k, V) in the order of the prompts."""
    order = np.argsort([-len(prompt) for prompt in prompts], kind="stable")
    parts = [padded(model, [prompts[i] for i in order[at : at + size]], keep=keep) for at in range(0, len(order), size)]
    logits = torch.cat(parts)
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return logits[back.to(logits.device)]

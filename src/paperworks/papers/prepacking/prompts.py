"""Read prompts in whatever form they come, and say what is wrong with them before the model runs.

Taken: a list of 1-D sequences; a padded tensor with its attention mask; the dictionary that a tokenizer returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from paperworks.papers.prepacking.errors import PromptError
from paperworks.papers.prepacking.facts import ModelFacts
from paperworks.papers.prepacking.packing import as_ids


def read_prompts(
    input_ids: Any,
    attention_mask: Any = None,
    *,
    facts: ModelFacts | None = None,
    allow_empty: bool = False,
    bos_id: int | None = None,
    room: int = 0,
) -> list[np.ndarray]:
    """The prompts as 1-D int64 arrays without padding, in order.

    With `facts` ids must lie in the vocabulary, and a prompt plus `room` tokens must fit the model's positions. `allow_empty` puts
    `bos_id` for an empty prompt. Raises PromptError (an InputError, so a ValueError) that names the prompt.
    """
    if isinstance(input_ids, Mapping):
        attention_mask = input_ids.get("attention_mask") if attention_mask is None else attention_mask
        if "input_ids" not in input_ids:
            raise PromptError(f"a tokenizer's result has input_ids, got {', '.join(map(str, input_ids)) or 'nothing'}")
        input_ids = input_ids["input_ids"]
    if isinstance(input_ids, str) or (isinstance(input_ids, Sequence) and any(isinstance(p, str) for p in input_ids)):
        raise PromptError("prompts are sequences of token ids, got text; pass tokenizer(texts)['input_ids']")
    _one_device(input_ids)
    rows = _rows(input_ids, attention_mask)
    if attention_mask is not None:
        rows = _strip(rows, attention_mask)
    elif facts is not None:
        _look_for_padding(rows, facts)
    for i, row in enumerate(rows):
        if row.size == 0:
            if not allow_empty or bos_id is None:
                raise PromptError(
                    f"prompt {i} is empty, so it has no last token to continue from; leave it out, or pass allow_empty=True "
                    "with a bos_id",
                    i,
                )
            rows[i] = np.array([bos_id], dtype=np.int64)
    if facts is not None:
        _fits(rows, facts, room)
    return rows


def _one_device(input_ids: Any) -> None:
    if isinstance(input_ids, torch.Tensor):
        devices = {input_ids.device}
    else:
        devices = {prompt.device for prompt in input_ids if isinstance(prompt, torch.Tensor)}
    if any(device.type == "meta" for device in devices):
        raise PromptError("token ids on the meta device hold no values")
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise PromptError(f"prompts lie on several devices ({names}); move them to one, such as prompt.cpu()")


def _rows(input_ids: Any, attention_mask: Any) -> list[np.ndarray]:
    if isinstance(input_ids, torch.Tensor | np.ndarray):
        if input_ids.ndim == 1:
            raise PromptError(f"expected a list of prompts, got one 1-D {type(input_ids).__name__}; pass [input_ids]")
        if input_ids.ndim != 2:
            raise PromptError(f"a batch of prompts has 2 dimensions, got shape {tuple(input_ids.shape)}")
        if attention_mask is None and input_ids.shape[0] > 1:
            raise PromptError(
                "a tensor of several prompts may hold padding; pass its attention_mask, or list(input_ids) if no token is padding"
            )
    elif not isinstance(input_ids, Sequence):
        raise PromptError(f"prompts are a list of sequences of token ids, got {type(input_ids).__name__}")
    rows = []
    for i, prompt in enumerate(input_ids):
        if isinstance(prompt, int | np.integer):
            raise PromptError("expected a list of prompts, got one list of ids; pass [input_ids]")
        try:
            rows.append(as_ids(prompt))
        except (PromptError, TypeError, ValueError) as error:
            raise PromptError(f"prompt {i}: {error}", i) from error
    return rows


def _strip(rows: list[np.ndarray], attention_mask: Any) -> list[np.ndarray]:
    """Drop what the mask calls padding, on either side; a hole inside a prompt is an error."""
    masks = [
        mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask) for mask in attention_mask
    ]
    if len(masks) != len(rows):
        raise PromptError(f"{len(rows)} prompts came with {len(masks)} attention masks")
    out = []
    for i, (row, mask) in enumerate(zip(rows, masks, strict=True)):
        if mask.shape != row.shape:
            raise PromptError(f"prompt {i} has {row.size} ids and an attention mask of shape {mask.shape}", i)
        if not np.isin(mask, (0, 1)).all():
            raise PromptError(f"the attention mask of prompt {i} holds values other than 0 and 1", i)
        kept = np.flatnonzero(mask)
        if kept.size and kept[-1] - kept[0] + 1 != kept.size:
            raise PromptError(
                f"the attention mask of prompt {i} has a hole at position {int(np.flatnonzero(np.diff(kept) > 1)[0] + kept[0] + 1)}; "
                "padding may stand before or after a prompt only",
                i,
            )
        out.append(row[kept])
    return out


def _look_for_padding(rows: list[np.ndarray], facts: ModelFacts) -> None:
    """Equal lengths with runs of the pad token at an end: most likely padding that was handed in by mistake."""
    pad = facts.pad_id
    if pad is None or len(rows) < 2 or len({row.size for row in rows}) != 1 or rows[0].size < 3:
        return
    for i, row in enumerate(rows):
        for side, ends in (("begins", row[:2]), ("ends", row[-2:])):
            if (ends == pad).all():
                raise PromptError(
                    f"prompt {i} {side} with the pad token {pad} twice and all prompts have {row.size} ids, as if they were padded; "
                    "pass the attention_mask too (of ones, if these tokens are meant)",
                    i,
                )


def _fits(rows: list[np.ndarray], facts: ModelFacts, room: int) -> None:
    for i, row in enumerate(rows):
        low, high = int(row.min()), int(row.max())
        if low < 0 or high >= facts.n_vocab:
            bad = low if low < 0 else high
            raise PromptError(
                f"prompt {i} holds token id {bad}, outside the model's vocabulary of {facts.n_vocab}; is it the right tokenizer?",
                i,
            )
        if facts.max_length is not None and row.size + room > facts.max_length:
            more = f" and {room} new tokens" if room else ""
            raise PromptError(
                f"prompt {i} has {row.size} tokens{more}, the model has positions for {facts.max_length}; cut it, or leave it out",
                i,
            )

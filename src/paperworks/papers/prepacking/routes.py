"""The ways to run packed prompts, behind one interface: prompts in, batches of rows with the place of each prompt out.

    flat     one row, attention segment by segment (`attention.py`); the default on a CPU
    fa       one row, variable-length FlashAttention; CUDA with flash-attn and half precision
    flex     one row, FlexAttention with a block mask; CUDA
    mask     rows of equal length and a 4-D mask: the paper's form, works nearly everywhere
    padded   one prompt a row, padded on the right: the reference
    alone    one prompt after another: the other reference

Letters: `B` rows of a batch, `T` tokens of a row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.prepacking.attention import attention_name, flat, segments, using
from paperworks.papers.prepacking.errors import PackingNotSupported
from paperworks.papers.prepacking.facts import ModelFacts
from paperworks.papers.prepacking.packing import flatten, pack_rows
from paperworks.papers.prepacking.plan import Plan, plan

Backend = Literal["flat", "fa", "flex", "mask", "padded", "alone"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
FLAT_ROWS = ("flat", "fa", "flex")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """One forward call: ids and positions (B, T), more arguments, and where each of the prompts `members` lies.

    slices: (row, start, stop) of every member.
    """

    members: list[int]
    input_ids: torch.Tensor
    position_ids: torch.Tensor
    slices: list[tuple[int, int, int]]
    arguments: dict[str, Any] = field(default_factory=dict)


def default_tokens(facts: ModelFacts) -> int:
    """Tokens of a batch when nobody says: on a CPU few enough for activations to stay in its caches."""
    return 2048 if facts.device.type == "cpu" else 16384


def plan_rows(lengths: Sequence[int], backend: Backend, max_tokens: int, algorithm: Any = None) -> list[Plan]:
    """The plans of the batches to run: for flat rows one plan with a bin a row; else one plan a batch of about `max_tokens`."""
    if backend in FLAT_ROWS:
        return [plan(lengths, "flat", max_tokens=max_tokens)]
    if backend == "mask":
        return [plan(lengths, "longest", algorithm or "bfd")]
    return [plan(lengths, "longest", "bucketed", max_tokens=max_tokens if backend == "padded" else 1)]


def batches(
    prompts: Sequence[np.ndarray], facts: ModelFacts, backend: Backend, max_tokens: int, algorithm: Any = None
) -> Iterator[Batch]:
    """The forward calls that run all prompts, each of at most about `max_tokens` tokens (a longer prompt has its own)."""
    lengths = [len(prompt) for prompt in prompts]
    if not lengths:
        return
    if backend in ("mask", "flex") and facts.window is not None and max(lengths) > facts.window:
        raise PackingNotSupported(
            f"backend {backend!r} sees past the sliding window of {facts.window} tokens, and a prompt has {max(lengths)}; use 'flat'"
        )
    (layout,) = plan_rows(lengths, backend, max_tokens, algorithm)
    if backend in FLAT_ROWS:
        for members in layout.bins:
            yield _one_row(prompts, list(members), facts, backend)
    elif backend == "mask":
        rows = max(1, max_tokens // layout.width)
        for start in range(0, layout.n_rows, rows):
            yield _masked(prompts, layout.bins[start : start + rows], facts)
    else:
        for members in layout.bins:
            yield _right_padded(prompts, list(members), facts)


def switch(facts: ModelFacts, backend: Backend) -> AbstractContextManager[Any]:
    """The attention that the route needs, for the time of a block."""
    if backend == "flat":
        return flat(facts.model)
    if backend == "fa":
        return using(facts.model, "flash_attention_2")
    if backend == "flex":
        return using(facts.model, "flex_attention")
    if backend == "mask" and attention_name(facts.model.config) not in ("sdpa", "eager"):
        return using(facts.model, "sdpa")
    return nullcontext()


def candidates(facts: ModelFacts) -> list[Backend]:
    """The routes worth trying on this device, best first."""
    if facts.device.type != "cuda":
        return ["flat", "mask", "padded"]
    found: list[Backend] = []
    if facts.dtype in (torch.float16, torch.bfloat16) and _has_flash():
        found.append("fa")
    if getattr(facts.model, "_supports_flex_attn", False):
        found.append("flex")
    return [*found, "flat", "mask", "padded"]


def named(backend: str) -> Backend:
    """Check a route's name."""
    if backend not in BACKENDS:
        raise InputError(f"backend must be 'auto' or one of {', '.join(BACKENDS)}, got {backend!r}")
    return backend


def _has_flash() -> bool:
    from transformers.utils.import_utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())


def _one_row(prompts: Sequence[np.ndarray], members: list[int], facts: ModelFacts, backend: Backend) -> Batch:
    chosen = [prompts[i] for i in members]
    ids, positions, lengths = flatten(chosen, facts.device, position_start=facts.position_start)
    ends = np.cumsum(lengths)
    slices = [(0, int(end) - length, int(end)) for end, length in zip(ends, lengths, strict=True)]
    if backend == "flat":
        arguments = segments(lengths, facts.device)
    elif backend == "fa":
        arguments = _flash_arguments(ends, max(lengths), facts.device)
    else:
        arguments = {"attention_mask": _block_mask(lengths, facts)}
    return Batch(members, ids, positions, slices, arguments)


def _flash_arguments(ends: np.ndarray, longest: int, device: torch.device) -> dict[str, Any]:
    bounds = torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)).to(device)
    return {
        "attention_mask": None,
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _block_mask(lengths: list[int], facts: ModelFacts) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(facts.device)
    total = int(owner.numel())
    causal = facts.causal

    def together(batch: Any, head: Any, query: Any, key: Any) -> Any:
        same = owner[query] == owner[key]
        return same & (query >= key) if causal else same

    return create_block_mask(together, B=1, H=None, Q_LEN=total, KV_LEN=total, device=str(facts.device))


def _masked(prompts: Sequence[np.ndarray], bins: Sequence[Sequence[int]], facts: ModelFacts) -> Batch:
    members = [i for row in bins for i in row]
    place = {i: at for at, i in enumerate(members)}
    rows = pack_rows(
        [prompts[i] for i in members],
        [[place[i] for i in row] for row in bins],
        facts.device,
        pad_id=pad_id(facts),
        position_start=facts.position_start,
    )
    mask = rows.mask(facts.causal)
    if attention_name(facts.model.config) == "eager":  # eager code adds the mask to the scores
        mask = torch.zeros(mask.shape, dtype=facts.dtype, device=facts.device).masked_fill_(
            ~mask, torch.finfo(facts.dtype).min
        )
    return Batch(members, rows.input_ids, rows.position_ids, list(rows.slices), {"attention_mask": mask})


def _right_padded(prompts: Sequence[np.ndarray], members: list[int], facts: ModelFacts) -> Batch:
    lengths = [len(prompts[i]) for i in members]
    width = max(lengths)
    ids = np.full((len(members), width), pad_id(facts), dtype=np.int64)
    mask = np.zeros((len(members), width), dtype=np.int64)
    for row, i in enumerate(members):
        ids[row, : lengths[row]] = prompts[i]
        mask[row, : lengths[row]] = 1
    positions = np.broadcast_to(np.arange(width) + facts.position_start, ids.shape).copy()
    arguments: dict[str, Any] = {"attention_mask": torch.from_numpy(mask).to(facts.device)}
    if (mask == 1).all():
        arguments = {"attention_mask": None}
    return Batch(
        members,
        torch.from_numpy(ids).to(facts.device),
        torch.from_numpy(positions).to(facts.device),
        [(row, 0, length) for row, length in enumerate(lengths)],
        arguments,
    )


def pad_id(facts: ModelFacts) -> int:
    """An id for pads; which one does not matter, since nothing looks at them."""
    return facts.pad_id if facts.pad_id is not None and 0 <= facts.pad_id < facts.n_vocab else 0

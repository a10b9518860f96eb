"""Attention over a flat row: many prompts behind one another, each of which sees only itself.

A row of `L` tokens holds the segments of lengths l_1 ... l_k. Where the paper masks a dense `L x L` matrix, here every segment has
its own call of scaled dot product attention, so that nothing is computed across segments (cost: the sum of l_i squared).
The function is registered with transformers under `NAME`; no model is subclassed. How long the segments are travels with
the forward call, as keyword arguments that `segments` makes; so threads and nested calls do not see each other.

    with flat(model):
        model(input_ids=ids, position_ids=positions, use_cache=False, **segments([5, 3, 9], ids.device))

Letters: `L` tokens of a row, `H` query heads, `K` key heads, `d` head size.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from paperworks.errors import InputError
from paperworks.papers.prepacking.errors import PackingNotSupported

NAME = "paperworks_flat"


class Tail(Protocol):
    """The last tokens of a row, when they continue sequences whose keys lie elsewhere (see `slots.py`)."""

    @property
    def n_tokens(self) -> int:
        """Tokens of the tail."""
        ...

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        scaling: float | None,
        softcap: float | None,
        sliding_window: int | None,
    ) -> torch.Tensor:
        """query (1, H, n_tokens, d) -> (n_tokens, H, d)."""
        ...


@dataclass(frozen=True)
class Run:
    """Neighbouring segments of one length that see the same tokens before them: they are attended to in one call.

    before: (start, stop) in the row of the segments that these continue, the first one first.
    """

    start: int
    length: int
    count: int
    before: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Segments:
    """Where the prompts of a flat row begin and end.

    `prefix` tokens at the front of the keys are seen by every segment (a shared prefix that is in the cache already).
    `parents[i]` is the earlier segment that segment i continues and sees, with what that one continues; -1 for none.
    """

    lengths: tuple[int, ...]
    prefix: int = 0
    tail: Tail | None = None
    parents: tuple[int, ...] | None = None
    runs: tuple[Run, ...] = field(init=False)

    def __post_init__(self) -> None:
        runs: list[Run] = []
        before: list[tuple[tuple[int, int], ...]] = []
        starts: list[int] = []
        start = 0
        for i, length in enumerate(self.lengths):
            parent = self.parents[i] if self.parents is not None else -1
            if parent >= i:
                raise InputError(f"segment {i} cannot continue segment {parent}, which comes later")
            seen: tuple[tuple[int, int], ...] = ()
            if parent >= 0:
                seen = (*before[parent], (starts[parent], starts[parent] + self.lengths[parent]))
            last = runs[-1] if runs else None
            if last is not None and last.length == length and last.before == seen:
                runs[-1] = Run(last.start, length, last.count + 1, seen)
            else:
                runs.append(Run(start, length, 1, seen))
            before.append(seen)
            starts.append(start)
            start += length
        object.__setattr__(self, "runs", tuple(runs))

    @property
    def n_tokens(self) -> int:
        """Tokens of the row."""
        return sum(self.lengths) + (self.tail.n_tokens if self.tail is not None else 0)


def segments(
    lengths: Sequence[int],
    device: torch.device | str = "cpu",
    *,
    prefix: int = 0,
    tail: Tail | None = None,
    parents: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Keyword arguments of a forward call over a flat row of segments of these lengths, inside `flat(model)`.

    The 4-D attention mask of one element tells transformers that the mask is made already; nothing reads its value.
    """
    return {
        "segments": Segments(tuple(map(int, lengths)), prefix, tail, None if parents is None else tuple(parents)),
        "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device),
    }


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    segments: Segments | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The registered function: query (1, H, L, d), key and value (1, K, prefix + L, d) -> (1, L, H, d).

    A call without `segments` is somebody else's (another thread, a model inside the model) and goes to the attention that the
    model had before. Raises PackingNotSupported for what a segment by segment pass would compute wrongly.
    """
    if segments is None:
        if attention_mask is not None and attention_mask.shape == (1, 1, 1, 1) and query.shape[2] > 1:
            raise PackingNotSupported(
                f"{type(module).__name__} does not hand on keyword arguments to its attention, so prompts in one row would "
                "see each other; pass backend='mask'"
            )
        return _before(module)(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal,
            softcap=softcap, sliding_window=sliding_window, **kwargs,
        )  # fmt: skip
    for name in ("position_bias", "s_aux"):
        if kwargs.get(name) is not None:
            raise PackingNotSupported(f"{type(module).__name__} uses {name}, which a packed row cannot follow")
    if query.shape[0] != 1 or query.shape[2] != segments.n_tokens:
        raise PackingNotSupported(
            f"{type(module).__name__} got {tuple(query.shape)} queries for one row of {segments.n_tokens} tokens"
        )
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    n_heads = query.shape[1]
    out = query.new_empty(1, query.shape[2], n_heads, value.shape[-1])
    prefix = segments.prefix
    for run in segments.runs:
        start, length, count = run.start, run.length, run.count
        stop = start + length * count
        q = _split(query[:, :, start:stop], count)
        k = _split(key[:, :, prefix + start : prefix + stop], count)
        v = _split(value[:, :, prefix + start : prefix + stop], count)
        spans = [(0, prefix)] * bool(prefix) + [(prefix + first, prefix + last) for first, last in run.before]
        context = sum(last - first for first, last in spans)
        if context:
            k = torch.cat([*(key[:, :, first:last].expand(count, -1, -1, -1) for first, last in spans), k], dim=2)
            v = torch.cat([*(value[:, :, first:last].expand(count, -1, -1, -1) for first, last in spans), v], dim=2)
        window = sliding_window if sliding_window is not None and context + length > sliding_window else None
        _refuse_unknown_window(module, context + length, sliding_window)
        mask = (
            _band(length, context, causal, window, q.device) if window or (causal and context and length > 1) else None
        )
        result = one_call(q, k, v, mask, bool(causal and mask is None and length > 1), scaling, softcap, dropout)
        out[0, start:stop].view(count, length, n_heads, -1).copy_(result.transpose(1, 2))
    if segments.tail is not None:
        start = sum(segments.lengths)
        out[0, start:] = segments.tail.attend(module, query[:, :, start:], scaling, softcap, sliding_window)
    return out, None


def one_call(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    scaling: float | None,
    softcap: float | None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attention of (n, H, q, d) to (n, K, k, d), K dividing H; mask (..., q, k) True where to look. -> (n, H, q, d)."""
    grouped = query.shape[1] != key.shape[1]
    if softcap is None:
        return scaled_dot_product_attention(
            query, key, value, mask, dropout_p=dropout, is_causal=is_causal, scale=scaling, enable_gqa=grouped
        )
    # Gemma 2: scores are squashed before the softmax; no fused kernel does that.
    if grouped:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    scores = query @ key.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    scores = torch.tanh(scores / softcap) * softcap
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ value


def _band(length: int, context: int, causal: bool, window: int | None, device: torch.device) -> torch.Tensor:
    """(length, context + length) bool: True where a query sees a key, at most window - 1 tokens away."""
    queries = torch.arange(context, context + length, device=device)[:, None]
    distance = queries - torch.arange(context + length, device=device)[None]
    seen = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    return seen & (distance.abs() < window) if window else seen


def _refuse_unknown_window(module: nn.Module, length: int, sliding_window: int | None) -> None:
    """A layer that its configuration calls sliding must say how wide its window is, or it would look at everything."""
    config = getattr(module, "config", None)
    kinds, layer = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    if sliding_window is None and kinds and isinstance(layer, int) and layer < len(kinds):
        limit = getattr(config, "sliding_window", None)
        if kinds[layer] == "sliding_attention" and limit and length > limit:
            raise PackingNotSupported(
                f"layer {layer} of {type(module).__name__} slides over {limit} tokens but does not say so to its attention, "
                f"and a prompt has {length}; pass backend='padded'"
            )


def _split(row: torch.Tensor, count: int) -> torch.Tensor:
    """(1, heads, count * l, d) -> (count, heads, l, d), a view."""
    if count == 1:
        return row
    return row[0].view(row.shape[1], count, -1, row.shape[3]).transpose(0, 1)


@dataclass
class _Switch:
    """A configuration whose attention is changed for now: to what, from what, and by how many blocks."""

    config: Any
    name: str
    before: str | None
    count: int = 0


# What was found out about a model: its configurations, and the attentions that it has taken before. Walking its modules takes longer.
_known: WeakKeyDictionary[PreTrainedModel, tuple[list[Any], set[str]]] = WeakKeyDictionary()
_switched: dict[int, _Switch] = {}  # by the id of the configuration, which the entry keeps alive
_lock = threading.RLock()


def _before(module: nn.Module) -> Any:
    """The attention function that the module had before `flat`."""
    name = attention_name(getattr(module, "config", None))
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager or ALL_ATTENTION_FUNCTIONS["sdpa"])


def attention_name(config: Any) -> str:
    """The attention of a configuration, as it is outside of `flat`."""
    entry = _switched.get(id(config))
    name = entry.before if entry is not None else getattr(config, "_attn_implementation", None)
    return name if name and name != NAME else "sdpa"


def _mask(*args: Any, config: Any = None, **kwargs: Any) -> Any:
    """The mask of a call without segments: the one that the model had before `flat`."""
    name = attention_name(config)
    return ALL_MASK_ATTENTION_FUNCTIONS[name if name in ALL_MASK_ATTENTION_FUNCTIONS.valid_keys() else "sdpa"](
        *args, config=config, **kwargs
    )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _mask)


def unwrap(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside `torch.compile`, PEFT, DataParallel and the like.

    Raises PackingNotSupported if there is none, or if a PEFT adapter adds virtual tokens (soft prompts).
    """
    inner: Any = model
    for _ in range(8):
        if isinstance(inner, PreTrainedModel):
            return inner
        peft_config = getattr(inner, "active_peft_config", None)
        if peft_config is not None and getattr(peft_config, "is_prompt_learning", False):
            raise PackingNotSupported(
                f"{type(peft_config).__name__} puts virtual tokens before every prompt; merge it or use LoRA to pack"
            )
        if hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        elif hasattr(inner, "get_base_model"):
            inner = inner.get_base_model()
        elif isinstance(getattr(inner, "module", None), nn.Module):
            inner = inner.module
        else:
            break
    raise PackingNotSupported(f"prepacking needs a transformers model, got {type(model).__name__}")


def configurations(model: PreTrainedModel) -> list[Any]:
    """Every configuration inside the model that says which attention to use, each once."""
    found: dict[int, Any] = {}
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            found.setdefault(id(part.config), part.config)
    for config in list(found.values()):
        for name in getattr(config, "sub_configs", {}):
            inner = getattr(config, name, None)
            if inner is not None:
                found.setdefault(id(inner), inner)
    return list(found.values())


def flat(model: nn.Module) -> AbstractContextManager[PreTrainedModel]:
    """Run a block with the attention of flat rows; afterwards, also after an error, the model has its own again.

    Blocks may nest and overlap in threads: the last that ends restores. Calls without `segments` inside the block are the model's
    ordinary ones. Gives the transformers model inside wrappers. Raises PackingNotSupported if the model cannot change its attention.
    """
    return using(model, NAME)


@contextmanager
def using(model: nn.Module, name: str) -> Iterator[PreTrainedModel]:
    """Run the block with the attention `name` of transformers, and put the model's own back at the end.

    Raises PackingNotSupported if the model cannot change its attention, or has been changed to another one by a block that still runs.
    """
    inner = unwrap(model)
    configs = _enter(inner, name)
    try:
        yield inner
    finally:
        with _lock:
            for config in configs:
                entry = _switched[id(config)]
                entry.count -= 1
                if not entry.count:
                    del _switched[id(config)]
                    config._attn_implementation_internal = entry.before


def _enter(inner: PreTrainedModel, name: str) -> list[Any]:
    with _lock:
        configs, taken = _known.get(inner, ([], set()))
        if not configs or configs[0] is not inner.config:
            configs, taken = _known[inner] = (configurations(inner), set())
        entries = [_switched.get(id(config)) for config in configs]
        others = {entry.name for entry in entries if entry is not None} - {name}
        if others:
            raise PackingNotSupported(
                f"{type(inner).__name__} runs with the attention {others.pop()} just now, not with {name}"
            )
        before = [getattr(config, "_attn_implementation", None) for config in configs]
        if not all(entries) and name in taken:
            for config in configs:
                config._attn_implementation_internal = name
        elif not all(entries):
            try:
                inner.set_attn_implementation(name)
                if inner.config._attn_implementation != name:
                    raise PackingNotSupported(f"{type(inner).__name__} has its own attention code and cannot change it")
            except (ValueError, ImportError, PackingNotSupported) as error:
                for config, own in zip(configs, before, strict=True):
                    config._attn_implementation_internal = own
                raise PackingNotSupported(f"{type(inner).__name__} cannot use the attention {name}: {error}") from error
            if all(config._attn_implementation == name for config in configs):
                taken.add(name)
        for config, entry, own in zip(configs, entries, before, strict=True):
            _switched.setdefault(id(config), entry or _Switch(config, name, own)).count += 1
        return configs

"""Prepacking in code that knows nothing of it: padded batches come in, no padding is computed, padded results go out.

    with prepacked(model):
        pipeline(texts, batch_size=32)          # or model(**tokenizer(texts, padding=True)), or model.generate(...)

While the block runs, the backbone's `forward` is replaced on this one object. A padded prefill becomes a flat row; its hidden states and
keys are put back where the padded batch had them, and heads, losses and `generate` work on them as ever. Whatever is not such a
prefill (decoding steps, embeddings as input, attention maps asked for) is run as before.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import Cache, DynamicCache

from paperworks.papers.prepacking.attention import segments
from paperworks.papers.prepacking.caches import RowCache
from paperworks.papers.prepacking.facts import ModelFacts, inspect_model
from paperworks.papers.prepacking.packing import restarting_positions
from paperworks.papers.prepacking.routes import switch
from paperworks.papers.prepacking.support import choose

log = logging.getLogger(__name__)
_lock = threading.RLock()
_patched: dict[int, tuple[int, Any]] = {}  # by the backbone's id: how many blocks, the backbone


@contextmanager
def prepacked(model: nn.Module) -> Iterator[nn.Module]:
    """Run padded batches of this model without computing their padding, for the time of the block.

    Pads, on either side, must be told by the attention mask; results at pads are zeros. Positions start at the first token of each prompt,
    also where a plain call would count the pads on the left (learned positions). Blocks may nest.
    Raises PackingNotSupported for models that have no flat route.
    """
    facts = inspect_model(model)
    choose(facts, "flat")
    backbone: Any = facts.model.base_model
    with _lock:
        count = _patched[id(backbone)][0] if id(backbone) in _patched else 0
        if not count:
            backbone.forward = _packed_forward(facts, backbone, backbone.forward)
        _patched[id(backbone)] = (count + 1, backbone)
    try:
        yield model
    finally:
        with _lock:
            count, _ = _patched.pop(id(backbone))
            if count > 1:
                _patched[id(backbone)] = (count - 1, backbone)
            else:
                del backbone.forward  # the class's own shows again


def _packed_forward(facts: ModelFacts, backbone: Any, own: Any) -> Any:
    @functools.wraps(own)
    def forward(
        input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        if (
            input_ids is None
            or attention_mask is None
            or not _is_padded_prefill(facts, input_ids, attention_mask, kwargs)
        ):
            return own(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return _run(facts, backbone, own, input_ids, attention_mask, kwargs)

    return forward


def _is_padded_prefill(facts: ModelFacts, ids: Any, mask: Any, kwargs: dict[str, Any]) -> bool:
    if not isinstance(ids, torch.Tensor) or not isinstance(mask, torch.Tensor) or "segments" in kwargs:
        return False
    if ids.ndim != 2 or mask.shape != ids.shape or ids.shape[1] < 2:
        return False
    if kwargs.get("inputs_embeds") is not None or kwargs.get("output_attentions") or kwargs.get("output_hidden_states"):
        return False
    if kwargs.get("return_dict") is False or facts.model.training:
        return False
    cache = kwargs.get(facts.cache_name) if facts.cache_name else None
    if cache is not None and (not isinstance(cache, Cache) or cache.get_seq_length() > 0):
        return False
    real = mask.bool()
    if bool(real.all()) or not bool(real.any(dim=1).all()):
        return False
    holes = (real[:, 1:] != real[:, :-1]).sum(dim=1) + real[:, 0].long() + real[:, -1].long()
    return bool((holes == 2).all())


def _run(
    facts: ModelFacts,
    backbone: Any,
    own: Any,
    ids: torch.Tensor,
    mask: torch.Tensor,
    kwargs: dict[str, Any],
) -> Any:
    real = mask.bool()
    flat_places = real.flatten().nonzero()[:, 0]
    lengths = real.sum(dim=1).tolist()
    arguments = {
        name: value.flatten()[flat_places.to(value.device)][None]
        if isinstance(value, torch.Tensor) and value.shape == ids.shape
        else value
        for name, value in kwargs.items()
    }
    arguments["position_ids"] = restarting_positions(lengths, facts.position_start).to(ids.device)[None]
    cache = kwargs.get(facts.cache_name) if facts.cache_name else None
    uses_cache = kwargs.get("use_cache")
    if uses_cache is None:
        uses_cache = facts.causal and getattr(facts.model.config, "use_cache", False)
    row_cache = RowCache() if facts.cache_name and (uses_cache or cache is not None) else None
    if facts.cache_name:
        arguments |= {facts.cache_name: row_cache, "use_cache": row_cache is not None}
    with switch(facts, "flat"):
        output = own(input_ids=ids.flatten()[flat_places][None], **arguments | segments(lengths, ids.device))
    states = output.last_hidden_state
    padded = states.new_zeros(real.numel(), states.shape[-1]).index_copy(0, flat_places.to(states.device), states[0])
    output.last_hidden_state = padded.view(*ids.shape, -1)
    if getattr(output, "pooler_output", None) is not None:
        output.pooler_output = backbone.pooler(output.last_hidden_state)
    if row_cache is not None:
        _put_cache(facts, output, row_cache, cache, real)
    return output


def _put_cache(facts: ModelFacts, output: Any, rows: RowCache, cache: Cache | None, real: torch.Tensor) -> None:
    """Scatter the keys and values of the row to (B, K, T, d) and give them to the cache that the caller brought."""
    target = cache if cache is not None else DynamicCache(config=facts.model.config)
    places = real.flatten().nonzero()[:, 0]
    for index, pair in enumerate(rows.pairs(0, 0, len(places))):
        both = []
        for row in pair:  # (K, L, d)
            padded = row.new_zeros(real.numel(), row.shape[0], row.shape[2])
            padded.index_copy_(0, places.to(row.device), row.transpose(0, 1))
            both.append(padded.view(*real.shape, row.shape[0], row.shape[2]).transpose(1, 2))
        target.update(both[0], both[1], index)
    name = facts.cache_name or "cache"
    output[name if name in output else "past_key_values"] = target

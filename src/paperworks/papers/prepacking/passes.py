"""Run one batch of rows and take from it what was asked for, prompt by prompt.

Letters: `V` vocabulary, `h` hidden size, `l` tokens of a prompt.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import Cache, PreTrainedModel

from paperworks.errors import InputError
from paperworks.papers.prepacking.caches import LayerPairs, RowCache
from paperworks.papers.prepacking.errors import OutOfMemory
from paperworks.papers.prepacking.facts import ModelFacts
from paperworks.papers.prepacking.routes import Batch

Output = Literal["last", "all", "hidden", "none"]
log = logging.getLogger(__name__)
_plain_heads: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


@dataclass
class BatchResult:
    """What one batch gave, in the order of its members: logits or hidden states (n, V) or one (m, V) or (l, h) each; caches if kept."""

    logits: list[torch.Tensor] | None = None
    hidden: list[torch.Tensor] | None = None
    caches: list[LayerPairs] | None = None


def run_batch(
    facts: ModelFacts,
    batch: Batch,
    output: Output | Sequence[np.ndarray] = "last",
    keep_cache: bool = False,
    cache: Cache | None = None,
) -> BatchResult:
    """Run a batch inside `switch(facts, backend)`.

    output: 'last' (logits (V,) of each prompt's last token), 'all' (logits (l, V)), 'hidden' (last hidden states (l, h)), 'none', or
    for every member the places in its prompt whose logits are wanted, giving (m, V). cache: one with a prefix in it already.
    Raises OutOfMemory with a hint.
    """
    if output not in ("hidden", "none") and not facts.has_head:
        raise InputError(
            f"{type(facts.model).__name__} has no language-model head, so no logits; ask for output='hidden'"
        )
    if keep_cache and cache is None:
        if facts.cache_name is None:
            raise InputError(f"{type(facts.model).__name__} keeps no key-value cache; pass keep_cache=False")
        cache = RowCache()
    arguments = dict(batch.arguments)
    if facts.cache_name is not None:
        arguments |= {facts.cache_name: cache, "use_cache": cache is not None}
    n_tokens = batch.input_ids.numel()
    try:
        result = _forward(facts, batch, output, arguments)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise OutOfMemory(_hint(n_tokens, len(batch.members), output)) from error
        raise
    if keep_cache and isinstance(cache, RowCache):
        result.caches = [cache.pairs(*place) for place in batch.slices]
    return result


def _hint(n_tokens: int, n_prompts: int, output: Any) -> str:
    fewer = max(1, n_tokens // 2)
    more = "" if output in ("last", "none") else f"; output={output!r} keeps far more than output='last'"
    if n_prompts == 1:
        return f"a single prompt of {n_tokens} tokens did not fit in memory: packing cannot help{more}"
    return f"a pass over {n_tokens} tokens did not fit in memory; pass max_tokens={fewer}{more}"


def _forward(
    facts: ModelFacts, batch: Batch, output: Output | Sequence[np.ndarray], arguments: dict[str, Any]
) -> BatchResult:
    inputs = {"input_ids": batch.input_ids, "position_ids": batch.position_ids}
    if output == "none":
        call(facts.model.base_model, **inputs, **arguments)
        return BatchResult()
    if output == "hidden":
        states = call(facts.model.base_model, **inputs, **arguments).last_hidden_state
        return BatchResult(hidden=[states[row, start:stop] for row, start, stop in batch.slices])
    if output == "all":
        logits = call(facts.model, **inputs, **arguments).logits
        return BatchResult(logits=[logits[row, start:stop] for row, start, stop in batch.slices])
    if output == "last":
        places: Sequence[np.ndarray] = [np.array([stop - start - 1]) for _, start, stop in batch.slices]
    else:
        places = output
    rows = np.concatenate([np.full(len(at), row) for (row, _, _), at in zip(batch.slices, places, strict=True)])
    columns = np.concatenate(
        [start + np.asarray(at, dtype=np.int64) for (_, start, _), at in zip(batch.slices, places, strict=True)]
    )
    picked = _pick(facts, inputs, arguments, torch.from_numpy(rows), torch.from_numpy(columns))
    if output == "last":
        return BatchResult(logits=list(picked.unbind(0)))
    return BatchResult(logits=list(torch.split(picked, [len(at) for at in places])))


def _pick(
    facts: ModelFacts, inputs: dict[str, Any], arguments: dict[str, Any], rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Logits (n, V) at n places, without making those of all tokens."""
    if has_plain_head(facts):
        states = call(facts.model.base_model, **inputs, **arguments).last_hidden_state
        chosen = states[rows.to(states.device), columns.to(states.device)]
        head = output_head(facts)
        logits: torch.Tensor = head(chosen)
        return logits
    if facts.keeps_logits:  # the same columns of every row, then those that were meant
        kept, back = torch.unique(columns, return_inverse=True)
        logits = call(facts.model, **inputs, **arguments, logits_to_keep=kept.to(facts.device)).logits
        return logits[rows.to(logits.device), back.to(logits.device)]
    logits = call(facts.model, **inputs, **arguments).logits
    return logits[rows.to(logits.device), columns.to(logits.device)]


def output_head(facts: ModelFacts) -> Any:
    """The module that makes logits of hidden states; None if the model has none."""
    inner: Any = facts.model
    return inner.get_output_embeddings()


def has_plain_head(facts: ModelFacts) -> bool:
    """Whether the logits are the output embedding applied to the last hidden states, and nothing more (no soft cap, no scale)."""
    known = _plain_heads.get(facts.model)
    if known is None:
        head = output_head(facts)
        known = head is not None and facts.model.base_model is not facts.model and _same_head(facts, head)
        _plain_heads[facts.model] = known
    return known


def _same_head(facts: ModelFacts, head: Any) -> bool:
    ids = (torch.arange(3) * 7919 % facts.n_vocab).to(facts.device)[None]
    with torch.no_grad():
        arguments = {} if facts.cache_name is None else {"use_cache": False}
        states = call(facts.model.base_model, input_ids=ids, **arguments).last_hidden_state
        whole = call(facts.model, input_ids=ids, **arguments).logits
        try:
            return torch.equal(head(states), whole)
        except RuntimeError:  # the head takes another shape than the hidden states have
            return False


def call(module: Any, **arguments: Any) -> Any:
    """Call a module, past what `module.compile()` put before it: rows differ in length, and each would be compiled anew."""
    if getattr(module, "_compiled_call_impl", None) is not None:
        log.info("%s is compiled; packed rows differ in length, so they run without compilation", type(module).__name__)
        return module._call_impl(**arguments)
    return module(**arguments)

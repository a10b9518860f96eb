"""Prefill a batch of prompts without padding, and get each prompt's logits, hidden states and cache.

    pre = prefill(model, [[5, 9, 3], [7], [2, 8]])
    pre.logits                     # (3, V): next-token logits, in the order of the prompts
    pre.cache(0)                   # a DynamicCache of one prompt
    batch = pre.to_batch()         # left-padded, for model.generate(batch.next_ids, **batch.arguments)

Letters: `k` prompts, `l` tokens of a prompt, `V` vocabulary, `h` hidden size.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache

from paperworks.errors import InputError
from paperworks.papers.prepacking.caches import LayerPairs, batch_cache, empty_cache, single_cache
from paperworks.papers.prepacking.cost import CostModel
from paperworks.papers.prepacking.facts import ModelFacts, inspect_model
from paperworks.papers.prepacking.passes import Output, run_batch
from paperworks.papers.prepacking.plan import Algorithm, Plan
from paperworks.papers.prepacking.prompts import read_prompts
from paperworks.papers.prepacking.routes import Backend, batches, default_tokens, plan_rows, switch
from paperworks.papers.prepacking.support import choose
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)


@dataclass
class BatchedPrefill:
    """The prompts as one padded batch, ready for the first decoding step (step 7 of the method).

    past_key_values: all tokens but the last of each prompt, (k, K, max l - 1, d) a layer, zeros as padding (None if no prompt has more
    than one token). attention_mask: (k, max l) int64, the last column being the next token. position_ids: (k, 1) of the next ids.
    next_ids: (k, 1), the last token of every prompt.
    """

    past_key_values: DynamicCache | None
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    next_ids: torch.Tensor
    cache_name: str = "past_key_values"

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `model.generate(batch.next_ids, **batch.arguments, ...)`; a cache can be used once only."""
        return {"attention_mask": self.attention_mask, self.cache_name: self.past_key_values}


@dataclass
class Prefill:
    """What `prefill` gives. Everything is in the order of the prompts.

    logits: (k, V) for output='last', a list of (l, V) for 'all', else None. hidden: a list of (l, h) for 'hidden', else None.
    lengths: tokens of each prompt. backend: the route that was taken. plan: who shared a row.
    """

    logits: torch.Tensor | list[torch.Tensor] | None
    hidden: list[torch.Tensor] | None
    lengths: list[int]
    backend: Backend
    plan: Plan
    _facts: ModelFacts
    _prompts: list[np.ndarray]
    _caches: list[LayerPairs] | None

    def __len__(self) -> int:
        return len(self.lengths)

    def cache(self, i: int) -> DynamicCache:
        """The cache of prompt i, batch of one; views of the packed cache, which stays in memory as long as one of them does."""
        return single_cache(self.layers(i), self._facts.model.config)

    def layers(self, i: int) -> LayerPairs:
        """Keys and values of prompt i, (K, l, d) each, one pair a layer. Raises InputError if the caches were not kept."""
        if self._caches is None:
            raise InputError("the caches were not kept; pass keep_cache=True to prefill")
        return self._caches[i]

    def to_batch(self, side: Literal["left", "right"] = "left") -> BatchedPrefill:
        """All prompts but their last tokens in one padded cache, as `generate` takes it; it copies the keys and values once.

        side: where the padding stands; `generate` needs 'left'. Raises InputError for an empty batch or caches that were not kept.
        """
        if not self.lengths:
            raise InputError("there are no prompts to make a batch of")
        if side not in ("left", "right"):
            raise InputError(f"side must be 'left' or 'right', got {side!r}")
        config, device = self._facts.model.config, self._facts.device
        stored = [length - 1 for length in self.lengths]
        prompts = [self.layers(i) for i in range(len(self))]
        width = max(stored)
        cache = batch_cache(prompts, config, stored, side) if width else empty_cache(config)
        mask = torch.zeros(len(self), width + 1, dtype=torch.int64)
        for i, length in enumerate(stored):
            mask[i, width - length : width] = int(side == "left")
            if side == "right":
                mask[i, :length] = 1
            mask[i, width] = 1
        return BatchedPrefill(
            past_key_values=cache if width else None,
            attention_mask=mask.to(device),
            position_ids=torch.tensor(stored, device=device)[:, None] + self._facts.position_start,
            next_ids=torch.tensor([int(prompt[-1]) for prompt in self._prompts], device=device)[:, None],
            cache_name=self._facts.cache_name or "past_key_values",
        )


@torch.no_grad()
def prefill(
    model: nn.Module,
    input_ids: Any,
    attention_mask: Any = None,
    *,
    backend: Backend | Literal["auto"] = "auto",
    max_tokens: int | None = None,
    output: Output = "last",
    keep_cache: bool | None = None,
    algorithm: Algorithm | None = None,
    cost: CostModel | None = None,
    allow_empty: bool = False,
    bos_id: int | None = None,
    progress: Progress = silent,
) -> Prefill:
    """Run prompts of mixed lengths through a model, each as if it were alone, without computing padding.

    model: a transformers decoder (or encoder, with output='hidden' and no cache), also inside PEFT or torch.compile. input_ids: a list of
    1-D sequences of ids, or a padded tensor with its `attention_mask`, or what a tokenizer returns.
    backend: see `routes.py`; 'auto' takes the best that passes the self-test. max_tokens: tokens of one pass (default 2048 on a CPU,
    16384 else); a longer prompt has a pass of its own. output: 'last', 'all', 'hidden' or 'none'. keep_cache: default, wherever the model
    has a cache. algorithm: the packing of backend 'mask' (the authors' best fit, 'bfd', by default).
    cost: a measured cost model (`calibrate`), which then chooses max_tokens and, for 'auto', the route, where they are not given.
    allow_empty with bos_id: run an empty prompt as that one token.

    Runs without gradients; logits and caches are ordinary tensors on the model's device. In float32 logits differ from those of the
    prompt alone by rounding only. Raises PromptError (empty prompt, too long, id out of vocabulary, padding without a mask),
    PackingNotSupported with the reason, OutOfMemory with a smaller max_tokens.
    """
    facts = inspect_model(model)
    if output not in ("last", "all", "hidden", "none"):
        raise InputError(f"output must be 'last', 'all', 'hidden' or 'none', got {output!r}")
    keep = keep_cache if keep_cache is not None else facts.causal and facts.cache_name is not None
    prompts = read_prompts(input_ids, attention_mask, facts=facts, allow_empty=allow_empty, bos_id=bos_id)
    lengths = [len(prompt) for prompt in prompts]
    if cost is not None and max_tokens is None:
        max_tokens = cost.best_tokens(lengths)
    limit = tokens_of_a_pass(facts, max_tokens)
    chosen = choose(facts, backend)
    if cost is not None and backend == "auto" and chosen == "flat" and lengths:
        chosen = choose(facts, cost.best_backend(lengths, limit))
    (layout,) = plan_rows(lengths, chosen, limit, algorithm)
    caches: list[LayerPairs] = [[] for _ in prompts]
    logits: list[torch.Tensor | None] = [None] * len(prompts)
    hidden: list[torch.Tensor | None] = [None] * len(prompts)
    done, total = 0, layout.tokens
    with switch(facts, chosen):
        for batch in batches(prompts, facts, chosen, limit, algorithm):
            result = run_batch(facts, batch, output, keep)
            for at, i in enumerate(batch.members):
                logits[i] = result.logits[at] if result.logits is not None else None
                hidden[i] = result.hidden[at] if result.hidden is not None else None
                caches[i] = result.caches[at] if result.caches is not None else []
            done += sum(lengths[i] for i in batch.members)
            progress(done, total, "tokens")
    return Prefill(
        logits=_logits(logits, output, facts),
        hidden=[states for states in hidden if states is not None] if output == "hidden" else None,
        lengths=lengths,
        backend=chosen,
        plan=layout,
        _facts=facts,
        _prompts=prompts,
        _caches=caches if keep else None,
    )


def tokens_of_a_pass(facts: ModelFacts, max_tokens: int | None) -> int:
    """`max_tokens`, checked, or the default of the model's device."""
    if max_tokens is None:
        return default_tokens(facts)
    if max_tokens < 1:
        raise InputError(f"max_tokens must be at least 1, got {max_tokens}")
    return int(max_tokens)


def _logits(
    rows: Sequence[torch.Tensor | None], output: Output, facts: ModelFacts
) -> torch.Tensor | list[torch.Tensor] | None:
    kept = [row for row in rows if row is not None]
    if output == "all":
        return kept
    if output == "last":
        return torch.stack(kept) if kept else torch.empty(0, facts.n_vocab, dtype=facts.dtype, device=facts.device)
    return None

"""Does packing give this model's own results? Asked on first use, by running it.

Four short prompts are run packed and alone. A model whose attention, positions or state reach over from a neighbour gives other numbers
then, whatever its documentation says. What a route may differ by follows from the precision: see `tolerance`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from paperworks.papers.prepacking.errors import PackingNotSupported
from paperworks.papers.prepacking.facts import ModelFacts, inspect_model
from paperworks.papers.prepacking.passes import run_batch
from paperworks.papers.prepacking.routes import BACKENDS, Backend, batches, candidates, switch

log = logging.getLogger(__name__)
_known: WeakKeyDictionary[PreTrainedModel, dict[tuple[Backend, torch.dtype, str], Supported]] = WeakKeyDictionary()
_LENGTHS = (5, 3, 1, 5)


@dataclass(frozen=True)
class Supported:
    """One route on one model: largest difference to running alone, relative to the largest number; the reason if it is refused."""

    backend: Backend
    works: bool
    largest_difference: float | None
    tolerance: float
    reason: str = ""


def tolerance(facts: ModelFacts) -> float:
    """How far packed and alone may lie apart, relative to the largest number.

    Both add the same products in another order. Each sum is off by a few units in the last place, and the layers' errors add like a
    random walk: 64 eps sqrt(layers + 1), at most 0.1 (half precision), since a neighbour that is seen moves numbers by more.
    """
    layers = int(getattr(facts.model.config.get_text_config(), "num_hidden_layers", 12))
    return float(min(0.1, 64 * torch.finfo(facts.dtype).eps * (layers + 1) ** 0.5))


def check(model: nn.Module, backends: Sequence[Backend] | None = None) -> dict[Backend, Supported]:
    """Try the routes on a model: which work, and the largest deviation from running prompts alone.

    backends: all that can run on this device, by default. Raises PackingNotSupported only for models that no route could take.
    """
    facts = inspect_model(model)
    chosen = backends if backends is not None else [name for name in BACKENDS if name in {*candidates(facts), "alone"}]
    return {backend: supported(facts, backend) for backend in chosen}


def supported(facts: ModelFacts, backend: Backend) -> Supported:
    """The result of the self-test, from memory if it was made before."""
    known = _known.setdefault(facts.model, {})
    key = (backend, facts.dtype, str(facts.device))
    if key not in known:
        known[key] = _test(facts, backend)
        log.debug("%s with backend %s: %s", type(facts.model).__name__, backend, known[key])
    return known[key]


def choose(facts: ModelFacts, backend: str = "auto") -> Backend:
    """The route to take: the one asked for, if it works, or the best that does.

    Raises PackingNotSupported with the reasons.
    """
    from paperworks.papers.prepacking.routes import named

    tried = []
    for name in candidates(facts) if backend == "auto" else [named(backend)]:
        result = supported(facts, name)
        if result.works:
            return name
        tried.append(f"{name}: {result.reason}")
    raise PackingNotSupported(f"{type(facts.model).__name__} cannot be packed. " + "; ".join(tried))


def _test(facts: ModelFacts, backend: Backend) -> Supported:
    limit = tolerance(facts)
    longest = min(max(_LENGTHS), facts.max_length or max(_LENGTHS))
    prompts = [
        (np.arange(min(length, longest)) * 7919 + 104729 * (i + 1)) % facts.n_vocab for i, length in enumerate(_LENGTHS)
    ]
    output = "all" if facts.has_head else "hidden"
    try:
        with torch.no_grad():
            packed = _states(facts, prompts, backend, output)
            alone = _states(facts, prompts, "alone", output)
    except PackingNotSupported as error:
        return Supported(backend, False, None, limit, str(error))
    except (TypeError, ValueError, RuntimeError, NotImplementedError, ImportError, AttributeError, IndexError) as error:
        # Whatever the model's code says to rows that it was not written for, the answer is that it cannot take them.
        return Supported(
            backend, False, None, limit, f"its forward pass fails on packed rows ({type(error).__name__}: {error})"
        )
    scale = max(float(states.abs().max()) for states in alone)
    worst = max(float((a - b).abs().max()) for a, b in zip(packed, alone, strict=True)) / max(scale, 1e-30)
    if not worst <= limit:  # also when it is not a number
        reason = f"packed and alone differ by {worst:.2g} of the largest number (at most {limit:.2g}): prompts in a row see each other"
        return Supported(backend, False, worst, limit, reason)
    return Supported(backend, True, worst, limit)


def _states(facts: ModelFacts, prompts: list[np.ndarray], backend: Backend, output: str) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    with switch(facts, backend):
        for batch in batches(prompts, facts, backend, max_tokens=64):
            result = run_batch(facts, batch, output, keep_cache=facts.causal and facts.cache_name is not None)  # type: ignore[arg-type]
            for i, states in zip(batch.members, result.logits or result.hidden or [], strict=True):
                found[i] = states.float().cpu()
    return [found[i] for i in range(len(prompts))]

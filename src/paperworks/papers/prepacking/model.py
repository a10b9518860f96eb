"""A model together with how it is best packed: routes tested, costs measured once, and the verbs as methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn

from paperworks.papers.prepacking.cost import CostModel, calibrate
from paperworks.papers.prepacking.facts import inspect_model
from paperworks.papers.prepacking.generate import Generated, generate, generate_stream
from paperworks.papers.prepacking.plan import Plan, plan
from paperworks.papers.prepacking.prefill import Prefill, prefill
from paperworks.papers.prepacking.prompts import read_prompts
from paperworks.papers.prepacking.routes import Backend
from paperworks.papers.prepacking.support import Supported, check, choose


class PrepackedModel:
    """What `prepack` gives. The model itself is not changed and can be used as before.

    backend: the route taken where the cost model does not say otherwise. cost: None if it was not measured. max_tokens: tokens of a pass
    (None: by the cost model, or the default of the device).
    """

    def __init__(self, model: nn.Module, backend: Backend, max_tokens: int | None, cost: CostModel | None) -> None:
        self.model = model
        self.backend = backend
        self.max_tokens = max_tokens
        self.cost = cost
        self._chosen: Backend | Literal["auto"] = backend

    def __repr__(self) -> str:
        return f"PrepackedModel({type(inspect_model(self.model).model).__name__}, backend={self.backend!r})"

    def prefill(self, input_ids: Any, attention_mask: Any = None, **settings: Any) -> Prefill:
        """As the function `prefill`."""
        own: dict[str, Any] = {"backend": self._chosen, "max_tokens": self.max_tokens, "cost": self.cost}
        return prefill(self.model, input_ids, attention_mask, **own | settings)

    def generate(self, input_ids: Any, attention_mask: Any = None, **settings: Any) -> list[torch.Tensor]:
        """As the function `generate`."""
        return generate(self.model, input_ids, attention_mask, **{"max_tokens": self.max_tokens} | settings)

    def generate_stream(self, input_ids: Iterable[Any], **settings: Any) -> Iterator[Generated]:
        """As the function `generate_stream`."""
        return generate_stream(self.model, input_ids, **{"max_tokens": self.max_tokens} | settings)

    def check(self, backends: Sequence[Backend] | None = None) -> dict[Backend, Supported]:
        """As the function `check`."""
        return check(self.model, backends)

    def plan(self, input_ids: Any, attention_mask: Any = None) -> Plan:
        """Who would share a row; `plan(...).explain(self.cost)` says what that costs."""
        lengths = [len(ids) for ids in read_prompts(input_ids, attention_mask, facts=inspect_model(self.model))]
        size = self.max_tokens or (self.cost.best_tokens(lengths) if self.cost is not None else None)
        if self.backend == "mask":
            return plan(lengths)
        return plan(lengths, "flat", max_tokens=size)


def prepack(
    model: nn.Module,
    *,
    backend: Backend | Literal["auto"] = "auto",
    max_tokens: int | None = None,
    calibrate_s: float = 0.0,
    cost: CostModel | None = None,
) -> PrepackedModel:
    """Test a model's routes once, measure its costs if asked, and keep both with it.

    model: any transformers model that packing takes; it is not changed. backend, max_tokens: as for `prefill`. calibrate_s: seconds to
    measure for (2 is enough; 0 not at all). cost: costs that were measured before. Raises PackingNotSupported with the reason.
    """
    facts = inspect_model(model)
    chosen = choose(facts, backend)
    if cost is None and calibrate_s > 0 and chosen == "flat":
        cost = calibrate(model, calibrate_s)
    found = PrepackedModel(model, chosen, max_tokens, cost)
    found._chosen = backend
    return found

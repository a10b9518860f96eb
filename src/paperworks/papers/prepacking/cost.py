"""What a forward pass costs on this machine, measured in about two seconds: which route, and how many tokens in one pass.

One pass is taken to need

    seconds = call + tokens * token + pairs * pair + segments * segment

with `tokens` computed (pads too), `pairs` of tokens that attention looks at, and `segments` attention calls. The four numbers are fitted to a
few passes of the user's model; linear layers make `token`, reading the weights makes `call`, attention makes `pair`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.prepacking.facts import ModelFacts, inspect_model
from paperworks.papers.prepacking.passes import run_batch
from paperworks.papers.prepacking.plan import Plan, balanced, plan
from paperworks.papers.prepacking.routes import Backend, batches, switch

_SIZES = (64, 256, 512, 1024, 2048, 4096, 8192)
_SEGMENT = 64


@dataclass(frozen=True)
class CostModel:
    """Seconds of one pass by its parts. token_by_size: (tokens of a pass, measured seconds a token), how a pass slows down when its
    activations leave the caches. device and threads: what it was measured on.
    """

    call: float
    token: float
    pair: float
    segment: float
    token_by_size: tuple[tuple[int, float], ...] = ()
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if min(self.call, self.token, self.pair, self.segment) < 0 or self.token + self.pair <= 0:
            raise InputError(
                "the costs of a pass cannot be negative, nor all nought; calibrate again on a quieter machine"
            )

    def flat(self, rows: Sequence[Sequence[int]]) -> float:
        """Seconds of flat rows, each given by the lengths of its prompts."""
        seconds = 0.0
        for lengths in rows:
            tokens = sum(lengths)
            pairs = sum(length * (length + 1) / 2 for length in lengths)
            seconds += self.call + tokens * self.token * self._slower(tokens) + pairs * self.pair
            seconds += len(set(lengths)) * self.segment
        return seconds

    def padded(self, n_rows: int, width: int) -> float:
        """Seconds of one padded batch."""
        tokens = n_rows * width
        return (
            self.call + tokens * self.token * self._slower(tokens) + n_rows * width * width * self.pair + self.segment
        )

    def best_tokens(self, lengths: Sequence[int]) -> int:
        """The tokens of a pass for which flat rows of these prompts are predicted to be fastest; larger than that saves nothing."""
        if not lengths:
            return _SIZES[0]
        sizes = [size for size, _ in self.token_by_size] or list(_SIZES)
        costs = {size: self.flat(self._rows(lengths, size)) for size in sizes}
        return min(costs, key=lambda size: (costs[size], size))

    def best_backend(self, lengths: Sequence[int], max_tokens: int) -> Backend:
        """'flat', or 'padded' (sorted batches) or 'alone' where they are predicted to be faster by more than a hundredth."""
        costs = self.routes(lengths, max_tokens)
        best = min(costs, key=lambda name: costs[name])
        return best if costs[best] < 0.99 * costs["flat"] else "flat"

    def routes(self, lengths: Sequence[int], max_tokens: int) -> dict[Backend, float]:
        """Predicted seconds of the routes that compute prompts in passes of at most `max_tokens`."""
        buckets = plan(lengths, "longest", "bucketed", max_tokens=max_tokens).bins
        return {
            "flat": self.flat(self._rows(lengths, max_tokens)),
            "padded": sum(self.padded(len(members), max(lengths[i] for i in members)) for members in buckets),
            "alone": sum(self.flat([[length]]) for length in lengths),
        }

    def compare(self, layout: Plan) -> dict[str, float]:
        """Predicted seconds of a plan and of its rivals."""
        lengths = layout.lengths
        if not lengths:
            return {}
        if layout.algorithm == "flat":
            own = self.flat([[lengths[i] for i in members] for members in layout.bins])
        elif layout.algorithm == "bucketed":
            own = sum(self.padded(len(members), max(lengths[i] for i in members)) for members in layout.bins)
        else:
            own = self.padded(layout.n_rows, layout.width)
        size = self.best_tokens(lengths)
        eights = sorted(lengths)
        return {
            "this plan": own,
            f"flat rows of {size} tokens": self.flat(self._rows(lengths, size)),
            "one by one": sum(self.flat([[length]]) for length in lengths),
            "sorted, padded in eights": sum(
                self.padded(len(eights[at : at + 8]), max(eights[at : at + 8])) for at in range(0, len(eights), 8)
            ),
            "one padded batch": self.padded(len(lengths), max(lengths)),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, whole or not at all."""
        target = Path(path)
        aside = target.with_name(target.name + ".part")
        aside.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(aside, target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CostModel:
        """Read what `save` wrote. Raises InputError if it is something else."""
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
            fields["token_by_size"] = tuple((int(size), float(cost)) for size, cost in fields["token_by_size"])
            return cls(**fields)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{os.fspath(path)} is not a saved cost model: {error}") from error

    @staticmethod
    def _rows(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
        return [[lengths[i] for i in members] for members in balanced(lengths, max_tokens)]

    def _slower(self, tokens: int) -> float:
        """How much longer a token takes in a pass of this size than in the size that is best for it (1 or more)."""
        if len(self.token_by_size) < 2:
            return 1.0
        sizes = np.log([size for size, _ in self.token_by_size])
        costs = np.array([cost for _, cost in self.token_by_size])
        best = int(np.argmin(costs))
        # below the best size the cost of the call says it already
        return float(np.interp(np.log(max(tokens, 1)), sizes[best:], costs[best:] / costs[best]))


def calibrate(
    model: nn.Module, budget_s: float = 2.0, *, clock: Callable[[], float] = time.perf_counter, seed: int = 0
) -> CostModel:
    """Measure passes of growing size until the budget is used up, and fit the costs.

    model: as for `prefill`. budget_s: seconds, about; at least four small passes are made however slow they are. Sizes that
    did not fit into the budget are extrapolated.
    """
    facts = inspect_model(model)
    if budget_s <= 0:
        raise InputError(f"budget_s must be above 0, got {budget_s}")
    rng = np.random.default_rng(seed)
    limit = facts.max_length or _SIZES[-1]
    begin = clock()
    _measure(facts, [min(8, limit)], rng, clock)  # the first pass pays for what is set up once
    small = min(_SEGMENT, limit)
    shapes = [[1], [small], [small // 2 + 1, small // 3 + 1, small // 4 + 1], [min(256, limit)]]
    rows = [(lengths, _measure(facts, lengths, rng, clock)) for lengths in shapes]
    by_size: list[tuple[int, float]] = []
    previous = 0.0
    for size in _SIZES:
        if clock() - begin + 2.5 * previous > budget_s:
            break
        lengths = [small] * (size // small)
        previous = min(_measure(facts, lengths, rng, clock) for _ in range(2 if size <= 512 else 1))
        rows.append((lengths, previous))
        by_size.append((size, previous / size))
        longer = [min(size, limit)]
        if size >= 512 and longer[0] > 256 and clock() - begin + 2 * previous <= budget_s:
            rows.append((longer, _measure(facts, longer, rng, clock)))
    return _fit(rows, tuple(by_size), str(facts.device))


def _measure(facts: ModelFacts, lengths: list[int], rng: np.random.Generator, clock: Callable[[], float]) -> float:
    prompts = [rng.integers(0, facts.n_vocab, size=length) for length in lengths]
    with torch.no_grad(), switch(facts, "flat"):
        (batch,) = batches(prompts, facts, "flat", max_tokens=sum(lengths) + 1)
        begin = clock()
        run_batch(facts, batch, "none", keep_cache=facts.causal and facts.cache_name is not None)
        if facts.device.type == "cuda":
            torch.cuda.synchronize(facts.device)
        return max(clock() - begin, 1e-9)


def _fit(rows: list[tuple[list[int], float]], by_size: tuple[tuple[int, float], ...], device: str) -> CostModel:
    """Non-negative least squares of relative errors, so that short passes count as much as long ones."""
    seconds = np.array([taken for _, taken in rows])
    parts = np.array(
        [[1.0, sum(ls), sum(n * (n + 1) / 2 for n in ls), len(set(ls))] for ls, _ in rows],
        dtype=np.float64,
    )
    scale = parts.max(axis=0)
    costs, _ = nnls(parts / seconds[:, None] / scale, np.ones(len(rows)))
    call, token, pair, segment = (float(cost) for cost in costs / scale)
    if token <= 0:  # all of it explained by the others: too few sizes were measured to tell
        token = float(min(taken / sum(lengths) for lengths, taken in rows))
    return CostModel(call, token, pair, segment, by_size, device, torch.get_num_threads())

"""The paper's claims, measured: its own form (backend 'mask': bins as long as the longest prompt, a dense mask) against left padding.

Both sides make logits in the same places. Beside the paper's form stand the flat rows that this package takes by default (`flat_...`).
On two cores the model is SmolLM2-135M with its real weights; where a claim needs hundreds of passes, its first layers alone. Times are CPU
seconds of passes that take turns; all ratios are over medians of such rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from paperworks.claims import Measurement, Run, Series, claim
from paperworks.papers.prepacking import baselines, prompt_sets, toy
from paperworks.papers.prepacking.generate import generate
from paperworks.papers.prepacking.measure import in_turn, median_ratio, peak_bytes, seconds
from paperworks.papers.prepacking.plan import plan
from paperworks.papers.prepacking.prefill import Prefill, prefill
from paperworks.papers.prepacking.support import check

ALL = 10**9  # tokens of a pass: the whole batch at once, as in the paper
TIE = 1e-3  # logits so close that rounding may turn their order


class Setting:
    """Model, tokenizer and prompts of a run's scale."""

    def __init__(self, run: Run, layers: int | None = None) -> None:
        self.run = run
        self.rng = run.rng
        self.device = run.device
        self.model: Any
        self.tokenizer: Any = None
        if run.scale == "smoke":
            self.model = toy.decoder("llama", seed=run.seed)
        elif run.scale == "cpu":
            from paperworks.nn import smollm

            self.model, self.tokenizer = smollm.load()
            if layers is not None:
                self.model.model.layers = self.model.model.layers[:layers]
                self.model.config.num_hidden_layers = layers
                self.model.config.layer_types = None
        else:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            name = "princeton-nlp/Sheared-LLaMA-1.3B"
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16)
            self.model = model.to(self.device).eval()

    @property
    def sets(self) -> list[str]:
        return {"smoke": ["uniform", "log-uniform"], "cpu": list(prompt_sets.LOCAL)}.get(
            self.run.scale, list(prompt_sets.HUB)
        )

    @property
    def widest(self) -> str:
        """The set like the paper's MMLU."""
        return {"smoke": "log-uniform", "cpu": "mixed"}.get(self.run.scale, "mmlu")

    def prompts(self, name: str, n: int) -> list[Any]:
        if self.run.scale == "smoke":
            return list(toy.prompts(self.rng, toy.lengths(self.rng, n, name, 4, 64)))
        if self.run.scale == "cpu":
            return list(prompt_sets.prompts(name, n, self.rng, self.tokenizer, self.run.data.path))
        return list(prompt_sets.hub_prompts(name, n, self.rng, self.tokenizer))

    def packed(self, prompts: Sequence[Any], backend: Any = "mask", **settings: Any) -> Prefill:
        return prefill(
            self.model, list(prompts), backend=backend, max_tokens=settings.pop("max_tokens", ALL), **settings
        )

    def padded(self, prompts: Sequence[Any], **settings: Any) -> torch.Tensor:
        return baselines.padded(self.model, prompts, keep=[], **settings)

    def in_batches(self, prompts: Sequence[Any], size: int, **settings: Any) -> None:
        """Packed batch by batch, as they come; each batch's caches are let go."""
        for start in range(0, len(prompts), size):
            self.packed(prompts[start : start + size], **settings)

    def in_order(self, prompts: Sequence[Any], size: int) -> None:
        """Sorted by length and padded; as above."""
        order = sorted(prompts, key=len, reverse=True)
        for start in range(0, len(order), size):
            self.padded(order[start : start + size])

    def in_turn(self, works: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
        return in_turn(works, rounds, self.device)


def _name(text: str) -> str:
    return text.replace("-", "_")


def _spread(prompts: Sequence[Any]) -> float:
    lengths = np.array([len(prompt) for prompt in prompts])
    return float(lengths.std() / lengths.mean())


@claim("exactness")
def exactness(run: Run) -> Measurement:
    """Every route that runs here against each prompt alone: last logits, caches, and 32 greedy tokens."""
    at = Setting(run)
    new, n = run.at(smoke=6, cpu=32), run.at(smoke=6, cpu=16, gpu=100)
    prompts = [*at.prompts(at.widest, n - 1), np.array([7])]  # one of a single token too
    alone = at.packed(prompts, "alone", max_tokens=1)
    apart: list[float] = []  # of logits, from those alone
    caches_apart: list[float] = []
    routes = [name for name, found in check(at.model).items() if found.works and name != "alone"]
    for route in routes:
        pre = at.packed(prompts, route, max_tokens=None)
        apart.append(float((pre.logits - alone.logits).abs().max()))  # type: ignore[operator]
        for i in range(len(prompts)):
            for ours_, alone_ in zip(pre.layers(i), alone.layers(i), strict=True):
                caches_apart += [float((a - b).abs().max()) for a, b in zip(ours_, alone_, strict=True)]
        run.progress(routes.index(route) + 1, len(routes) + 2, f"route {route}")
    settings = {"max_new_tokens": new, "do_sample": False}
    expected = [_alone(at.model, prompt, new) for prompt in prompts]
    ours = [ids.tolist()[len(prompts[i]) :] for i, ids in enumerate(generate(at.model, prompts, **settings))]  # type: ignore[arg-type]
    batch = at.packed(prompts, "mask").to_batch()
    stop = at.model.generation_config.eos_token_id
    theirs = [
        _until(ids.tolist(), stop)
        for ids in at.model.generate(batch.next_ids, **batch.arguments, **settings)[:, batch.next_ids.shape[1] :]
    ]
    pairs = [(i, found) for results in (ours, theirs) for i, found in enumerate(results)]
    different = [(i, found) for i, found in pairs if _until(found, stop) != _until(expected[i], stop)]
    without_tie = sum(_gap(at.model, prompts[i], found, expected[i]) >= TIE for i, found in different)
    values = {
        "largest_logit_difference": float(np.max(apart)),
        "largest_cache_difference": float(np.max(caches_apart)),
        "same_greedy_percent": 100 * (1 - len(different) / len(pairs)),
        "differences_without_tie": without_tie,
        "n_prompts": n,
    }
    return Measurement(
        values, notes=f"routes {', '.join(routes)}; {new} new tokens by packed generation and after unpacking"
    )


def _alone(model: Any, prompt: Any, new: int) -> list[int]:
    ids = torch.as_tensor(prompt)[None].to(model.device)
    whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)
    found: list[int] = whole[0, ids.shape[1] :].tolist()
    return found


def _until(ids: list[int], stop: Any) -> list[int]:
    stops = {stop} if isinstance(stop, int) else set(stop or ())
    end = next((at for at, token in enumerate(ids) if token in stops), len(ids))
    return ids[:end]


@torch.inference_mode()
def _gap(model: Any, prompt: Any, found: list[int], expected: list[int]) -> float:
    """By how much the expected token leads where two continuations part, in the logits of the prompt alone."""
    at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
    if at is None:
        return float("inf")
    ids = torch.cat([torch.as_tensor(prompt).cpu(), torch.tensor(expected[:at], dtype=torch.int64)])[None]
    logits = model(input_ids=ids.to(model.device)).logits[0, -1]
    return float(logits[expected[at]] - logits[found[at]])


@claim("prefill-speedup")
def prefill_speedup(run: Run) -> Measurement:
    """Batches of 16 of each data set, last logits and caches on both sides."""
    at = Setting(run)
    rounds = run.at(smoke=2, cpu=2, gpu=20)
    paper: dict[str, float] = {}
    flat: dict[str, float] = {}
    spread: dict[str, float] = {}
    waste: dict[str, float] = {}
    for done, name in enumerate(at.sets):
        drawn = at.prompts(name, 16 * rounds)
        times: list[dict[str, np.ndarray]] = []
        for start in range(0, len(drawn), 16):
            batch = drawn[start : start + 16]
            times.append(
                at.in_turn(
                    {
                        "padded": partial(at.padded, batch),
                        "mask": partial(at.packed, batch),
                        "flat": partial(at.packed, batch, "flat", max_tokens=None),
                    },
                    1,
                )
            )
        joined = {route: np.array([float(row[route][0]) for row in times]) for route in times[0]}
        paper[name], flat[name] = median_ratio(joined, "padded", "mask"), median_ratio(joined, "padded", "flat")
        spread[name] = _spread(drawn)
        lengths = [len(prompt) for prompt in drawn]
        waste[name] = 16 * sum(max(lengths[at_ : at_ + 16]) for at_ in range(0, len(lengths), 16)) / sum(lengths)
        run.progress(done + 1, len(at.sets), name)
    widest = max(waste, key=lambda name: waste[name])
    values: dict[str, Any] = {
        "speedup_widest": paper[widest],
        "speedup_smallest": min(paper.values()),
        "widest": widest,
    }
    values |= {f"speedup_{_name(name)}": ratio for name, ratio in paper.items()}
    values |= {f"flat_{_name(name)}": ratio for name, ratio in flat.items()}
    order = sorted(spread, key=lambda name: spread[name])
    series = {
        route: Series(
            [ratios[name] for name in order], [spread[name] for name in order], plot="Speed-up over how lengths vary",
            x_label="standard deviation over mean of the lengths", y_label="padded over packed time",
        )
        for route, ratios in (("paper's form", paper), ("flat rows", flat))
    }  # fmt: skip
    return Measurement(values, series, notes=f"{rounds} batches of 16 a set")


@claim("ttft-speedup")
def ttft_speedup(run: Run) -> Measurement:
    """Prefill, unpacking and one step, against the padded pass, whose logits give the first token at once."""
    at = Setting(run)
    rounds = run.at(smoke=2, cpu=5, gpu=20)
    times: dict[str, list[float]] = {"padded": [], "prefill": [], "first": []}
    for done in range(rounds):
        batch = at.prompts(at.widest, 16)
        found = at.in_turn(
            {
                "padded": partial(at.padded, batch),
                "prefill": partial(at.packed, batch, output="none"),
                "first": partial(_first_token, at, batch),
            },
            1,
        )
        for name, values in found.items():
            times[name].append(float(values[0]))
        run.progress(done + 1, rounds, "batches")
    joined = {name: np.array(values) for name, values in times.items()}
    return Measurement(
        {
            "ttft_speedup": median_ratio(joined, "padded", "first"),
            "prefill_speedup": median_ratio(joined, "padded", "prefill"),
            "unpacking_and_step_percent": 100 * (median_ratio(joined, "first", "prefill") - 1),
        },
        notes=f"{rounds} batches of 16 of the set {at.widest}",
    )


@torch.inference_mode()
def _first_token(at: Setting, prompts: Sequence[Any]) -> torch.Tensor:
    batch = at.packed(prompts, output="none").to_batch()
    out = at.model(
        input_ids=batch.next_ids, position_ids=batch.position_ids, logits_to_keep=1, use_cache=True, **batch.arguments
    )
    first: torch.Tensor = out.logits[:, -1].argmax(-1)
    return first


@claim("grows-with-batch")
def grows_with_batch(run: Run) -> Measurement:
    """The widest set, batches of 4 to 64."""
    at = Setting(run)
    sizes = run.at(smoke=(2, 4, 8), cpu=(4, 8, 16, 32, 64))
    speedup: list[float] = []
    flat: list[float] = []
    rate: list[float] = []
    for done, size in enumerate(sizes):
        ratios = []
        for _ in range(run.at(smoke=1, cpu=max(1, min(4, 32 // size)), gpu=20)):
            batch = at.prompts(at.widest, size)
            times = at.in_turn(
                {
                    "padded": partial(at.padded, batch),
                    "mask": partial(at.packed, batch),
                    "flat": partial(at.packed, batch, "flat", max_tokens=None),
                },
                1,
            )
            n_tokens = sum(len(prompt) for prompt in batch)
            ratios.append(
                (
                    median_ratio(times, "padded", "mask"),
                    median_ratio(times, "padded", "flat"),
                    n_tokens / times["flat"][0],
                )
            )
        for column, found in zip((speedup, flat, rate), zip(*ratios, strict=True), strict=True):
            column.append(float(np.median(found)))
        run.progress(done + 1, len(sizes), f"batch {size}")
    from scipy.stats import spearmanr

    values = {"batch_speedup_spearman": float(spearmanr(sizes, speedup).statistic)}
    values |= {f"batch_{size}": ratio for size, ratio in zip(sizes, speedup, strict=True)}
    values |= {f"flat_batch_{size}": ratio for size, ratio in zip(sizes, flat, strict=True)}
    x = [float(size) for size in sizes]
    plot = {
        "plot": "Speed-up over batch size",
        "x_label": "prompts in a batch",
        "y_label": "padded over packed time",
        "log_x": True,
    }
    series = {
        "paper's form": Series(speedup, x, **plot),  # type: ignore[arg-type]
        "flat rows": Series(flat, x, **plot),  # type: ignore[arg-type]
        "tokens a second, flat rows": Series(rate, x, plot="Throughput over batch size", x_label="prompts in a batch", y_label="tokens a second", log_x=True),
    }  # fmt: skip
    return Measurement(values, series, notes=f"set {at.widest}; medians over the batches of a size")


@claim("memory")
def memory(run: Run) -> Measurement:
    """Bytes of tensors alive at the peak of one batch, caches kept; logits at all positions, and at the last ones."""
    at = Setting(run)
    batch = [
        prompt[: run.at(smoke=64, cpu=256, gpu=2048)]
        for prompt in at.prompts(at.widest, run.at(smoke=8, cpu=32, gpu=64))
    ]
    values: dict[str, float] = {}
    for output, end in (("all", ""), ("last", "_last")):
        padded = peak_bytes(partial(at.padded, batch, all_logits=output == "all"))
        packed = peak_bytes(partial(at.packed, batch, output=output))
        flat = peak_bytes(partial(at.packed, batch, "flat", max_tokens=None, output=output))
        values |= {
            f"memory_ratio{end}": padded / packed,
            f"flat_memory_ratio{end}": padded / flat,
            f"padded_mb{end}": padded / 1e6,
        }
        run.progress(1 + (output == "last"), 2, f"logits {output}")
    return Measurement(
        values, notes=f"one batch of {len(batch)} of the set {at.widest}; counted bytes of tensors, weights left out"
    )


@claim("bigger-batches")
def bigger_batches(run: Run) -> Measurement:
    """The most prompts that fit a budget, found by running: logits at all positions as in the authors' code, and at the last ones."""
    at = Setting(run, layers=4)
    most = run.at(smoke=24, cpu=256, gpu=1024)
    prompts = at.prompts(at.widest, most)
    longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    prompts.insert(0, prompts.pop(longest))  # padding is as wide from the first prompt on
    values: dict[str, float] = {}
    for output, end in (("all", ""), ("last", "_last")):
        budget = peak_bytes(partial(at.padded, prompts[:4], all_logits=output == "all"))
        padded = _largest(budget, partial(at.padded, all_logits=output == "all"), prompts)
        packed = _largest(budget, partial(at.packed, output=output), prompts)
        flat = _largest(budget, partial(at.packed, backend="flat", output=output), prompts)
        values |= {
            f"batch_ratio{end}": packed / padded,
            f"flat_batch_ratio{end}": flat / padded,
            f"budget_mb{end}": budget / 1e6,
        }
        run.progress(1 + (output == "last"), 2, f"logits {output}")
    return Measurement(
        values, notes=f"the budget is what four padded prompts need; at most {most} prompts; the model's first 4 layers"
    )


def _largest(budget: int, work: Callable[[Sequence[Any]], object], prompts: Sequence[Any]) -> int:
    """The largest number of first prompts whose peak keeps to the budget, by doubling and halving; 1 at least."""

    def fits(n: int) -> bool:
        return peak_bytes(partial(work, prompts[:n])) <= budget

    low, high = 1, 2
    while high <= len(prompts) and fits(high):
        low, high = high, 2 * high
    high = min(high, len(prompts) + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@claim("dataset-level")
def dataset_level(run: Run) -> Measurement:
    """Eight packed rows at a time from bins over all prompts, against bins over each eight prompts."""
    at = Setting(run)
    counts = run.at(smoke=(16, 32), cpu=(32, 64), gpu=(200, 1000))
    rounds, rates, ratio = run.at(smoke=1, cpu=2, gpu=3), [], 1.0
    for done, n in enumerate(counts):
        prompts = at.prompts(at.widest, n)
        longest = max(len(prompt) for prompt in prompts)
        times = at.in_turn(
            {
                "batch": partial(at.in_batches, prompts, 8),
                "dataset": partial(at.packed, prompts, max_tokens=8 * longest),
            },
            rounds,
        )
        ratio = median_ratio(times, "dataset", "batch")
        rates.append(sum(len(prompt) for prompt in prompts) / float(np.median(times["dataset"])))
        run.progress(done + 1, len(counts), f"{n} prompts")
    series = {
        "data-set packing": Series(
            rates,
            [float(n) for n in counts],
            plot="Throughput over prompts",
            x_label="prompts",
            y_label="tokens a second",
        )
    }
    values = {"dataset_over_batch_time": ratio, "tokens_a_second": rates[-1]}
    return Measurement(values, series, notes=f"{counts[-1]} prompts of the set {at.widest}, {rounds} rounds")


@claim("vs-length-order")
def vs_length_order(run: Run) -> Measurement:
    """Batches of 16: packed as they come, against the whole set sorted by length and padded."""
    at = Setting(run)
    n = run.at(smoke=32, cpu=32, gpu=1000)
    packed: dict[str, float] = {}
    flat: dict[str, float] = {}
    for done, name in enumerate(at.sets):
        prompts = at.prompts(name, n)
        times = at.in_turn(
            {
                "sorted": partial(at.in_order, prompts, 16),
                "mask": partial(at.in_batches, prompts, 16),
                "flat": partial(at.in_batches, prompts, 16, backend="flat", max_tokens=None),
            },
            run.at(smoke=1, cpu=1, gpu=3),
        )
        packed[name], flat[name] = median_ratio(times, "mask", "sorted"), median_ratio(times, "flat", "sorted")
        run.progress(done + 1, len(at.sets), name)
    values = {"median_packed_over_sorted_time": float(np.median(list(packed.values())))}
    values |= {"flat_median_over_sorted_time": float(np.median(list(flat.values())))}
    values |= {f"over_sorted_{_name(name)}": ratio for name, ratio in packed.items()}
    return Measurement(values, notes=f"{n} prompts a set, batches of 16")


@claim("predictor")
def predictor(run: Run) -> Measurement:
    """Batches of 16 of all sets: the speed-up regressed on rows over prompts, and on longest minus mean length."""
    at = Setting(run, layers=6)
    n = run.at(smoke=12, cpu=100, gpu=200)
    size = run.at(smoke=8, cpu=16)
    pools = {name: at.prompts(name, run.at(smoke=32, cpu=200)) for name in at.sets}
    names = list(pools)
    rows, padding, speedup = [], [], []
    for done in range(n):
        pool = pools[names[done % len(names)]]
        batch = [pool[i][: run.at(smoke=64, cpu=256, gpu=2048)] for i in at.rng.choice(len(pool), size, replace=False)]
        lengths = [len(prompt) for prompt in batch]
        packed = min(seconds(partial(at.packed, batch), at.device) for _ in range(2))
        padded = seconds(partial(at.padded, batch), at.device)
        rows.append(plan(lengths, "longest", "bfd").n_rows / size)
        padding.append(max(lengths) - float(np.mean(lengths)))
        speedup.append(padded / packed)
        run.progress(done + 1, n, "batches")
    plots = {"kind": "scatter", "y_label": "padded over packed time"}
    series = {
        "batches": Series(speedup, rows, plot="Speed-up over rows a prompt", x_label="rows / prompts", **plots),  # type: ignore[arg-type]
        "the same batches": Series(speedup, padding, plot="Speed-up over padding", x_label="longest minus mean length, tokens", **plots),  # type: ignore[arg-type]
    }  # fmt: skip
    values = {"r2_rows": _r2(rows, speedup), "r2_padding": _r2(padding, speedup)}
    return Measurement(
        values, series, notes=f"{n} batches of {size}; the model's first 6 layers, prompts cut at 256 tokens"
    )


def _r2(x: Sequence[float], y: Sequence[float]) -> float:
    """R squared of the straight line through the points; 0 when one of them does not vary."""
    if np.std(x) == 0 or np.std(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1] ** 2)

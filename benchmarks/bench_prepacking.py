"""Packed prefill beside padding, one prompt at a time, sorting, and the paper's packed form, in one process and in alternation.

Bars: 2.5 times padding on lengths spread log-uniformly over 16 to 512; 0.9 of the padding-free limit (the same tokens at the rate of one
prompt of 2,048); never under 0.97 of the better of one-by-one and sorted batches of 4, on any mix; 1.2 times the paper's packed form on
spread lengths; less memory at the peak than padding. SmolLM2-135M's real weights; by default its first 6 of 30 equal layers, so that the whole
takes minutes (--layers 30: all). All ways keep their caches and give the logits of the last tokens. Writes docs/benchmarks/prepacking.md.
Options: --layers 6 --rounds 3 --prompts 16 --sweeps 1 --continuous.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import lzma
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.claims.data import Data
from paperworks.nn import smollm
from paperworks.papers.prepacking import baselines, prompt_sets, toy
from paperworks.papers.prepacking.measure import in_turn, peak_bytes, seconds
from paperworks.papers.prepacking.plan import plan
from paperworks.papers.prepacking.prefill import prefill

OUT = Path(__file__).parents[1] / "docs" / "benchmarks" / "prepacking.md"
ALL = 10**9
WAYS = ("auto", "alone", "sorted", "paper", "padded")


def mixes(tokenizer: Any, n: int) -> dict[str, list[Any]]:
    """Prompts by name: made lengths, and texts as they come."""
    rng = np.random.default_rng(0)
    data = Data()

    def made(sizes: Sequence[int] | np.ndarray) -> list[Any]:
        return list(toy.prompts(rng, sizes, 49_000))

    found = {
        "log-uniform 16 to 512, twice as many": made(toy.lengths(rng, 2 * n, "log-uniform", 16, 512)),
        "uniform 16 to 512": made(toy.lengths(rng, n, "uniform", 16, 512)),
    }
    for name in ("mixed", "gsm8k", "wikitext-512"):
        found[name] = list(prompt_sets.prompts(name, n, rng, tokenizer, data.path))
    with lzma.open(data.path("arxiv/papers.jsonl.xz"), "rt", encoding="utf-8") as file:
        papers = [json.loads(line) for line in islice(file, n)]
    found["arXiv abstracts"] = [
        np.array(tokenizer(f"{paper['title']}\n{paper['abstract']}")["input_ids"][:512]) for paper in papers
    ]
    found["all of 128"] = made([128] * n)
    found["all of 16"] = made([16] * n)
    found["one long, others short"] = made(toy.lengths(rng, n, "one-long", 8, 512))
    found["one prompt of 300"] = made([300])
    return found


def ways(model: Any, prompts: list[Any]) -> dict[str, Callable[[], object]]:
    """Every way to get the caches and the last logits of these prompts; results are let go."""
    return {
        "auto": partial(prefill, model, prompts),
        "alone": lambda: baselines.one_by_one(model, prompts, keep=[]),
        "sorted": lambda: baselines.sorted_batches(model, prompts, 4, keep=[]),
        "paper": partial(prefill, model, prompts, backend="mask", max_tokens=ALL),
        "padded": lambda: baselines.padded(model, prompts, keep=[]),
    }


def sweep(model: Any, tokenizer: Any, rounds: int) -> list[str]:
    """Tokens a second and speed-up over padding against how lengths vary, the batch, and the number of prompts."""
    rng = np.random.default_rng(1)
    lines = ["", "## What it depends on", "", "Lengths around 96 tokens, log-normal, 16 prompts:", ""]
    lines += [
        "| standard deviation over mean | tokens a second | over padding | over the better of one by one and sorted |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for spread in (0.0, 0.25, 0.5, 1.0, 1.5):
        sigma = float(np.sqrt(np.log1p(spread**2)))
        sizes = np.exp(rng.normal(np.log(96) - sigma**2 / 2, sigma, 16)).astype(int).clip(1, 512)
        lines.append(
            f"| {sizes.std() / sizes.mean():.2f} " + _swept(model, list(toy.prompts(rng, sizes, 49_000)), rounds)
        )
        print(lines[-1], flush=True)
    lines += [
        "",
        "Batches of the mixed set:",
        "",
        "| prompts | tokens a second | over padding | over the better of one by one and sorted |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for n in (2, 4, 8, 16, 32):
        drawn = prompt_sets.prompts("mixed", n, rng, tokenizer, Data().path)
        lines.append(f"| {n} " + _swept(model, list(drawn), rounds))
        print(lines[-1], flush=True)
    return lines


def _swept(model: Any, prompts: list[Any], rounds: int) -> str:
    works = ways(model, prompts)
    times = in_turn({name: works[name] for name in ("auto", "alone", "sorted", "padded")}, rounds)
    n_tokens = sum(len(prompt) for prompt in prompts)
    better = np.minimum(times["alone"], times["sorted"])
    rate, padded, other = (
        n_tokens / np.median(times["auto"]),
        np.median(times["padded"] / times["auto"]),
        np.median(better / times["auto"]),
    )
    return f"| {rate:.0f} | {padded:.2f} | {other:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument(
        "--sweeps", type=int, default=1, help="rounds of the tables about lengths and batches; 0 leaves them out"
    )
    parser.add_argument("--continuous", action="store_true", help="also transformers' generate_batch, one new token")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    model, tokenizer = smollm.load()
    model.model.layers = model.model.layers[: chosen.layers]
    model.config.num_hidden_layers = len(model.model.layers)
    model.config.layer_types = None
    lines = [
        "# Prepacking: speed",
        "",
        (f"SmolLM2-135M, {model.config.num_hidden_layers} of its 30 layers, float32, {torch.get_num_threads()} thread(s) of a CPU. CPU seconds, all ways in turn, "
        f"{chosen.rounds} rounds; ratios are medians over the rounds, above 1: packed is faster."),
        "",
        "| prompts | tokens (share of the padded batch) | tokens a second | over one by one | over sorted by 4 | over the paper's form | over padding | limit reached | peak of tensors, padded over packed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    long = list(toy.prompts(np.random.default_rng(2), [2048], 49_000))
    prefill(model, long)
    never: dict[str, float] = {}
    bars: dict[str, dict[str, float]] = {}
    for name, prompts in mixes(tokenizer, chosen.prompts).items():
        lengths = [len(prompt) for prompt in prompts]
        expected = baselines.one_by_one(model, prompts)
        apart = float((prefill(model, prompts).logits - expected).abs().max())  # type: ignore[operator]
        if apart > 1e-3:
            raise SystemExit(f"{name}: packed logits differ by {apart}")
        works = ways(model, prompts)
        times = in_turn(works, chosen.rounds)
        limits = np.array([seconds(partial(prefill, model, long)) for _ in range(chosen.rounds)]) / 2048 * sum(lengths)
        ratio = {way: float(np.median(times[way] / times["auto"])) for way in WAYS}
        ratio["limit"] = float(np.median(limits / times["auto"]))
        ratio["memory"] = peak_bytes(works["padded"]) / peak_bytes(works["auto"])
        never[name] = float(np.median(np.minimum(times["alone"], times["sorted"]) / times["auto"]))
        bars[name] = ratio
        share = 100 * sum(lengths) / (len(lengths) * max(lengths))
        columns = [name, f"{sum(lengths):,} ({share:.0f} %)", f"{sum(lengths) / np.median(times['auto']):.0f}"]
        columns += [f"{ratio[way]:.2f}" for way in ("alone", "sorted", "paper", "padded", "limit")] + [
            f"{ratio['memory']:.1f}"
        ]
        lines.append("| " + " | ".join(columns) + " |")
        print(lines[-1], flush=True)
    first = bars["log-uniform 16 to 512, twice as many"]
    worst = min(never, key=lambda name: never[name])
    spread = [first["paper"], bars["mixed"]["paper"]]
    longer = {name: ratio["limit"] for name, ratio in bars.items() if "all of" not in name and "one " not in name}
    wide = [name for name in bars if not name.startswith(("all of", "one prompt"))]
    rows = [
        ("over padding, log-uniform 16 to 512", first["padded"], 2.5),
        ("share of the limit, the least of the spread mixes", min(longer.values()), 0.9),
        (f"over the better of one by one and sorted, the least of all mixes ({worst})", never[worst], 0.97),
        ("over the paper's packed form, the lesser of log-uniform and mixed", min(spread), 1.2),
        ("padded over packed memory, the least of the spread mixes", min(bars[name]["memory"] for name in wide), 1.0),
    ]
    lines += ["", "| bar | measured | wanted | |", "| --- | ---: | ---: | --- |"]
    lines += [f"| {what} | {value:.2f} | {bar} | {'held' if value >= bar else 'missed'} |" for what, value, bar in rows]
    prompts = mixes(tokenizer, chosen.prompts)["log-uniform 16 to 512, twice as many"]
    planning = (
        seconds(lambda: [plan([len(prompt) for prompt in prompts], "flat", max_tokens=2048) for _ in range(20)]) / 20
    )
    lines += ["", f"Planning {len(prompts)} prompts takes {1e3 * planning:.1f} ms of CPU time."]
    if chosen.continuous:
        lines += ["", _continuous(model, prompts)]
    if chosen.sweeps:
        lines += sweep(model, tokenizer, chosen.sweeps)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _continuous(model: Any, prompts: list[Any]) -> str:
    """transformers' own continuous batching, asked for one new token a prompt."""
    from transformers import GenerationConfig

    settings = GenerationConfig(max_new_tokens=1, do_sample=False, eos_token_id=-1, pad_token_id=0)
    try:
        ids = [[int(token) for token in prompt] for prompt in prompts]
        model.generate_batch(inputs=ids[:2], generation_config=settings)
        theirs = seconds(lambda: model.generate_batch(inputs=ids, generation_config=settings))
    except Exception as error:  # noqa: BLE001 - whatever stops it on this machine is the finding
        return f"transformers' generate_batch does not run here ({type(error).__name__}: {str(error)[:120]})."
    ours = seconds(partial(prefill, model, prompts))
    return f"transformers' generate_batch (one new token): {theirs / ours:.1f} times the CPU seconds of the packed prefill."


if __name__ == "__main__":
    main()

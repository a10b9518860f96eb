"""The prompts that claims and benchmarks run on: texts of mixed lengths as they come, cut at some tokens.

On two cores the data sets that lie in the data folder; at scale 'gpu' the paper's own from the Hugging Face hub.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError, MissingExtra

MAX_TOKENS = 512
# name -> (file in the data folder, tokens at which prompts are cut)
LOCAL = {
    "pubmedqa": ("qa/pubmedqa_pqal.jsonl.gz", MAX_TOKENS),
    "gsm8k": ("qa/gsm8k_test.jsonl.gz", MAX_TOKENS),
    "wikitext-256": ("text/wikitext2_test.txt.gz", 256),
    "wikitext-512": ("text/wikitext2_test.txt.gz", 512),
    "agnews": ("text/agnews_test.csv.gz", MAX_TOKENS),
    "apibench": ("qa/apibench_huggingface_eval.jsonl.gz", MAX_TOKENS),
    "mixed": ("", MAX_TOKENS),  # short questions and sentences among long contexts, as in the paper's MMLU
}
_MIXED = ("sst2", "gsm8k", "agnews", "pubmedqa")
_SST2 = ("text/sst2_dev.tsv.gz", MAX_TOKENS)
# name -> (hub name, configuration, split, how a row becomes a prompt, tokens)
HUB: dict[str, tuple[str, str | None, str, Callable[[Any], str], int]] = {
    "mmlu": ("cais/mmlu", "all", "test", lambda row: "\n".join([row["question"], *row["choices"]]), 2048),
    "wikitext-256": ("Salesforce/wikitext", "wikitext-2-raw-v1", "test", lambda row: row["text"], 256),
    "wikitext-512": ("Salesforce/wikitext", "wikitext-2-raw-v1", "test", lambda row: row["text"], 512),
    "rlhf": ("Anthropic/hh-rlhf", None, "test", lambda row: row["chosen"], 2048),
    "alpaca": ("tatsu-lab/alpaca", None, "train", lambda row: row["text"], 2048),
    "samsum": ("knkarthick/samsum", None, "test", lambda row: row["dialogue"], 2048),
}


def texts(name: str, path: Callable[[str], Path]) -> list[str]:
    """All texts of a local set, those without a word left out. path: finds a file of the data folder (`run.data.path`)."""
    if name == "mixed":
        columns = [texts(part, path) for part in _MIXED]
        return [text for row in zip(*columns, strict=False) for text in row]
    file = _SST2[0] if name == "sst2" else LOCAL[name][0]
    with gzip.open(path(file), "rt", encoding="utf-8", newline="") as stream:
        return [text.strip() for text in _READERS[name.partition("-")[0]](stream) if text.strip()]


def _pubmedqa(stream: Any) -> Iterator[str]:
    for line in stream:
        row = json.loads(line)
        yield "\n".join([*row["contexts"], row["question"]])


def _wikitext(stream: Any) -> Iterator[str]:
    yield from (line for line in stream if not line.lstrip().startswith("="))  # paragraphs, no headings


_READERS: dict[str, Callable[[Any], Iterator[str]]] = {
    "pubmedqa": _pubmedqa,
    "gsm8k": lambda stream: (json.loads(line)["question"] for line in stream),
    "wikitext": _wikitext,
    "agnews": lambda stream: (f"{row[1]}. {row[2]}" for row in csv.reader(stream)),
    "apibench": lambda stream: (json.loads(line)["code"].partition("###Output")[0] for line in stream),
    "sst2": lambda stream: (line.rpartition("\t")[0] for line in stream),
}


def prompts(
    name: str, n: int, rng: np.random.Generator, tokenizer: Any, path: Callable[[str], Path]
) -> list[np.ndarray]:
    """n prompts of a local set, drawn without repetition: int64 ids, cut at the set's limit."""
    if name not in LOCAL:
        raise InputError(f"no set {name!r}; there are {', '.join(LOCAL)}")
    return _drawn(texts(name, path), n, rng, tokenizer, LOCAL[name][1])


def hub_prompts(name: str, n: int, rng: np.random.Generator, tokenizer: Any) -> list[np.ndarray]:
    """n prompts of one of the paper's sets, from the Hugging Face hub."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingExtra("the paper's data sets", "nn") from error
    repository, configuration, split, text, limit = HUB[name]
    rows = load_dataset(repository, configuration, split=split)
    chosen = [
        found
        for found in (
            text(row).strip()
            for row in rows.shuffle(seed=int(rng.integers(2**31))).select(range(min(4 * n, len(rows))))
        )
        if found
    ]
    return _drawn(chosen, n, rng, tokenizer, limit)


def _drawn(found: Sequence[str], n: int, rng: np.random.Generator, tokenizer: Any, limit: int) -> list[np.ndarray]:
    if len(found) < n:
        raise InputError(f"the set has {len(found)} texts, {n} are needed")
    chosen = [found[i] for i in rng.choice(len(found), n, replace=False)]
    rows = tokenizer(chosen, truncation=True, max_length=limit, verbose=False)["input_ids"]
    return [np.asarray(row, dtype=np.int64) for row in rows]

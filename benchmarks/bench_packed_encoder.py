"""Packed embedding beside sentence-transformers, one text at a time, and ONNX Runtime in int8, in one process and in alternation.

Bars: at least 1.15 times the texts a second of `SentenceTransformer.encode` (default batch size) on arXiv abstracts, at least
2.5 times plain padding (random batches) on mixed lengths. MiniLM with its real weights; the sets are arXiv abstracts, titles, and both with
SST-2 sentences in random order. Writes docs/benchmarks/packed_encoder.md. Options: --texts 160 --rounds 3.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import gzip
import json
import lzma
import tempfile
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.claims.data import Data
from paperworks.nn import minilm
from paperworks.papers.prepacking.encode import PackedEncoder
from paperworks.papers.prepacking.measure import in_turn, median_ratio, peak_bytes

OUT = Path(__file__).parents[1] / "docs" / "benchmarks" / "packed_encoder.md"


def sets(n: int) -> dict[str, list[str]]:
    """Texts as they come."""
    data = Data()
    with lzma.open(data.path("arxiv/papers.jsonl.xz"), "rt", encoding="utf-8") as file:
        papers = [json.loads(line) for line in islice(file, 4 * n)]
    with gzip.open(data.path("text/sst2_dev.tsv.gz"), "rt", encoding="utf-8") as file:
        sentences = [line.rpartition("\t")[0] for line in islice(file, n)]
    rng = np.random.default_rng(0)
    abstracts = [f"{paper['title']}\n{paper['abstract']}" for paper in papers[:n]]
    titles = [paper["title"] for paper in papers]
    pool = [*abstracts[: n // 4], *titles[: n // 2], *sentences[: n // 2]]
    mixed = [pool[i] for i in rng.permutation(len(pool))]
    return {"arXiv abstracts": abstracts, "arXiv titles": titles, "abstracts, titles and sentences": mixed}


def onnx_int8(tokenizer: Any) -> Callable[[list[str], int], np.ndarray] | None:
    """Export, quantise the weights to int8, and encode in batches sorted by length; None where a part is missing."""
    try:
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        return None

    class Core(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    model, _ = minilm.load()  # one of its own: exporting leaves traces on a model
    folder = Path(tempfile.mkdtemp())
    example = tokenizer(["one text", "and another one"], padding=True, return_tensors="pt")
    model.set_attn_implementation("eager")
    try:
        axes = {0: "n", 1: "t"}
        torch.onnx.export(
            Core().eval(), (example["input_ids"], example["attention_mask"]), str(folder / "m.onnx"), dynamo=False, opset_version=17,
            input_names=["input_ids", "attention_mask"], output_names=["states"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "states": axes},
        )  # fmt: skip
        quantize_dynamic(folder / "m.onnx", folder / "m8.onnx", weight_type=QuantType.QInt8)
    except Exception as error:  # noqa: BLE001 - an exporter fails in many ways; the row then says so
        print(f"ONNX export failed: {type(error).__name__}: {str(error)[:200]}")
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / "m8.onnx"), options, providers=["CPUExecutionProvider"])

    def encode(texts: list[str], size: int = 32) -> np.ndarray:
        order = np.argsort([-len(text) for text in texts])
        out = np.zeros((len(texts), minilm.DIMS), np.float32)
        for start in range(0, len(texts), size):
            places = order[start : start + size]
            batch = tokenizer(
                [texts[i] for i in places],
                padding=True,
                truncation=True,
                max_length=minilm.MAX_TOKENS,
                return_tensors="np",
            )
            states = session.run(None, {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]})[0]
            weights = batch["attention_mask"][..., None].astype(np.float32)
            out[places] = (states * weights).sum(1) / weights.sum(1)
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    return encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    from sentence_transformers import SentenceTransformer

    model, tokenizer = minilm.load()
    packed = PackedEncoder(model, tokenizer, normalize=True)
    peer = SentenceTransformer(str(minilm.model_folder()), device="cpu")
    int8 = onnx_int8(tokenizer)

    def padded(texts: list[str]) -> np.ndarray:
        """As a loop over a data loader does it: batches of 32 as they come."""
        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), 32):
                batch = tokenizer(texts[start : start + 32], padding=True, truncation=True, return_tensors="pt")
                weights = batch["attention_mask"][..., None].float()
                states = (model(**batch).last_hidden_state * weights).sum(1) / weights.sum(1)
                parts.append(torch.nn.functional.normalize(states, dim=1).numpy())
        return np.concatenate(parts)

    about = (
        f"all-MiniLM-L6-v2 on a CPU, {torch.get_num_threads()} thread(s); CPU seconds, all ways in turn, medians of {chosen.rounds} "
        "rounds (the smallest and largest ratio of a round in brackets). Ratios above 1: packed is faster. Tokenising is included everywhere."
    )
    lines = [
        "# Packed embedding: speed",
        "",
        about,
    ]
    lines += ["", "| texts | tokens, mean ± sd | texts a second | over sentence-transformers, 32 | over it at its best of 8 and 32 | over one by one | over plain padding, 32 | over ONNX Runtime int8 | peak of tensors, padded over packed |"]  # fmt: skip
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    notes, bars = [], {}
    for name, texts in sets(chosen.texts).items():
        lengths = np.array([len(ids) for ids in packed.tokenize(texts).ids])
        works: dict[str, Callable[[], object]] = {
            "packed": lambda texts=texts: packed.encode(texts),
            "peer": lambda texts=texts: peer.encode(texts, batch_size=32),
            "peer 8": lambda texts=texts: peer.encode(texts, batch_size=8),
            "alone": lambda texts=texts: [peer.encode([text]) for text in texts],
            "padded": lambda texts=texts: padded(texts),
        }
        if int8 is not None:
            works["int8"] = lambda texts=texts: int8(texts)
        vectors, expected = packed.encode(texts), peer.encode(texts, batch_size=32)
        notes.append(f"{name}: largest difference to sentence-transformers {np.abs(vectors - expected).max():.1e}")
        if int8 is not None:
            notes[-1] += f", smallest cosine of int8 {float((int8(texts) * expected).sum(1).min()):.4f}"
        times = in_turn(works, chosen.rounds)
        best = times["peer"] if np.median(times["peer"]) < np.median(times["peer 8"]) else times["peer 8"]
        times["best"] = best
        bytes_ratio = peak_bytes(lambda texts=texts: padded(texts[:64])) / peak_bytes(
            lambda texts=texts: packed.encode(texts[:64])
        )

        def shown(over: str, times: dict[str, np.ndarray] = times) -> str:
            if over not in times:
                return "not here"
            ratios = times[over] / times["packed"]
            return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"

        rate = len(texts) / float(np.median(times["packed"]))
        row = [name, f"{lengths.mean():.0f} ± {lengths.std():.0f}", f"{rate:.1f}"]
        row += [shown(over) for over in ("peer", "best", "alone", "padded", "int8")] + [f"{bytes_ratio:.1f}"]
        lines.append("| " + " | ".join(row) + " |")
        bars[name] = (median_ratio(times, "peer", "packed"), median_ratio(times, "padded", "packed"))
        print(lines[-1], flush=True)
    held = {True: "held", False: "missed"}
    first, last = bars["arXiv abstracts"][0], bars["abstracts, titles and sentences"][1]
    lines += ["", f"Bar: 1.15 over sentence-transformers on abstracts: {first:.2f}, {held[first >= 1.15]}."]
    lines += [f"Bar: 2.5 over plain padding on mixed lengths: {last:.2f}, {held[last >= 2.5]}.", ""]
    lines += [f"- {note}." for note in notes]
    lines += [
        "- int8 gives other vectors (see the cosines); it needs an export per model and is the better choice where that is acceptable and it is faster."
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[-6:]))


if __name__ == "__main__":
    main()

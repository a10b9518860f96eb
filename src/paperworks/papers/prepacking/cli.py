"""`paperworks prepacking`: plan rows for a file of lengths or texts, check a model, generate, score, and time the routes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from paperworks.errors import InputError
from paperworks.papers.prepacking.cost import calibrate
from paperworks.papers.prepacking.encode import PackedEncoder
from paperworks.papers.prepacking.generate import generate_stream
from paperworks.papers.prepacking.plan import ALGORITHMS, plan
from paperworks.papers.prepacking.prefill import prefill
from paperworks.papers.prepacking.score import score
from paperworks.papers.prepacking.support import check as check_model
from paperworks.progress import duration, terminal

app = typer.Typer(help="Run prompts of mixed lengths without computing padding.", no_args_is_help=True)
Model = Annotated[str, typer.Argument(help="a model's name on the Hugging Face hub, or its folder")]
File = Annotated[Path, typer.Argument(help="JSONL (text in --column), or plain text with one prompt a line")]
Column = Annotated[str, typer.Option(help="the column of a JSONL file")]


@app.command("plan")
def plan_rows(
    lengths: Annotated[Path, typer.Argument(help="a number of tokens a line")],
    capacity: Annotated[str, typer.Option(help="'longest', 'flat' or a number of tokens")] = "longest",
    max_tokens: Annotated[int | None, typer.Option(help="tokens of a flat row or of a padded bucket")] = None,
) -> None:
    """Show how full the rows of each packing would be, and the bound that none can beat."""
    numbers = _lengths(lengths)
    size: Any = int(capacity) if capacity.isdigit() else capacity
    for algorithm in ("flat",) if size == "flat" else ALGORITHMS:
        typer.echo(plan(numbers, size, algorithm, max_tokens).explain() + "\n")


@app.command()
def check(
    model: Model,
    seconds: Annotated[float, typer.Option(help="seconds to measure costs for; 0: not at all")] = 0.0,
) -> None:
    """Run a model packed and alone, and say which routes give the same numbers."""
    net = _decoder_or_encoder(model)
    for name, result in check_model(net).items():
        worst = "" if result.largest_difference is None else f"differs by {result.largest_difference:.1e} at most"
        typer.echo(f"{name:<8}{'works' if result.works else 'refused':<9}{worst if result.works else result.reason}")
    if seconds > 0:
        cost = calibrate(net, seconds)
        typer.echo(f"a pass costs {1e3 * cost.call:.1f} ms, a token {1e6 * cost.token:.0f} microseconds")


@app.command()
def generate(
    model: Model,
    file: File,
    out: Annotated[Path, typer.Option(help="JSONL, a line a prompt as it ends")],
    column: Column = "text",
    max_new_tokens: Annotated[int, typer.Option(help="most new tokens a prompt")] = 64,
    max_batch: Annotated[int, typer.Option(help="most prompts that run at once")] = 32,
) -> None:
    """Continue the prompts of a file; greedy. What is in the output already is not made again."""
    net, tokenizer = _decoder(model), _tokenizer(model)
    texts = list(_texts(file, column))
    done = {row["index"] for row in _json_lines(out)} if out.exists() else set()
    left = [i for i in range(len(texts)) if i not in done]
    ids = [tokenizer(texts[i])["input_ids"] for i in left]
    with terminal("generate") as progress, out.open("a", encoding="utf-8") as file_out:
        stream = generate_stream(net, ids, max_new_tokens=max_new_tokens, max_batch=max_batch, do_sample=False)
        for count, result in enumerate(stream, start=1):
            row = {
                "index": left[result.index],
                "text": tokenizer.decode(result.new_ids, skip_special_tokens=True),
                "finish": result.finish,
            }
            file_out.write(json.dumps(row, ensure_ascii=False) + "\n")
            file_out.flush()
            progress(count, len(left), "prompts")
    typer.echo(f"{len(left)} prompts continued, {len(done)} were there")


@app.command("score")
def score_file(
    model: Model,
    file: Annotated[Path, typer.Argument(help="JSONL with columns prompt and continuation")],
    out: Annotated[Path, typer.Option(help=".npy with a log-likelihood a line")],
) -> None:
    """Log-likelihoods of continuations given prompts, common beginnings computed once."""
    net, tokenizer = _decoder(model), _tokenizer(model)
    rows = list(_json_lines(file))
    for number, row in enumerate(rows):
        if "prompt" not in row or "continuation" not in row:
            raise InputError(f"line {number + 1} of {file} has no prompt and continuation; it has {', '.join(row)}")
    with terminal("score") as progress:
        found = score(
            net,
            [row["prompt"] for row in rows],
            [row["continuation"] for row in rows],
            tokenizer=tokenizer,
            progress=progress,
        )
    np.save(out, found)
    typer.echo(f"{len(rows)} log-likelihoods in {out}")


@app.command()
def embed(
    model: Model,
    file: File,
    out: Annotated[Path, typer.Option(help=".npy to write; goes on with one that was interrupted")],
    column: Column = "text",
) -> None:
    """Embed the texts of a file into a float32 .npy, a row a text."""
    encoder = PackedEncoder(model)
    with terminal("embed") as progress:
        vectors = encoder.encode_to(out, _texts(file, column), progress=progress)
    typer.echo(f"{vectors.shape[0]} vectors of {vectors.shape[1]} numbers in {out}")


@app.command()
def bench(
    model: Model,
    file: File,
    column: Column = "text",
    prompts: Annotated[int, typer.Option(help="prompts to time, from the beginning of the file")] = 32,
) -> None:
    """Time the routes on your own prompts, after one pass each to warm up."""
    net, tokenizer = _decoder(model), _tokenizer(model)
    texts = [text for text, _ in zip(_texts(file, column), range(prompts), strict=False)]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    backends: tuple[Any, ...] = ("flat", "mask", "padded", "alone")
    for backend in backends:
        prefill(net, ids[:2], backend=backend)
        begun = time.perf_counter()
        prefill(net, ids, backend=backend)
        typer.echo(f"{backend:<8}{duration(time.perf_counter() - begun)}")


def _lengths(file: Path) -> list[int]:
    try:
        return [int(line) for line in file.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise InputError(f"{file} must hold one number of tokens a line: {error}") from error


def _texts(file: Path, column: str) -> Iterator[str]:
    if file.suffix in (".jsonl", ".ndjson"):
        for number, row in enumerate(_json_lines(file), start=1):
            if column not in row:
                raise InputError(f"line {number} of {file} has no column {column!r}; it has {', '.join(row)}")
            yield str(row[column])
        return
    try:
        with file.open(encoding="utf-8") as lines:
            yield from (line.rstrip("\n") for line in lines if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from error


def _json_lines(file: Path) -> Iterable[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise InputError(f"line {number} of {file} is not a JSON object")
                    yield row
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {file} as JSON lines: {error}") from error


def _decoder(name: str) -> Any:
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, name)


def _decoder_or_encoder(name: str) -> Any:
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    config = _load(AutoConfig, name)
    architectures = " ".join(getattr(config, "architectures", None) or ())
    return _load(AutoModelForCausalLM if "CausalLM" in architectures or "LMHead" in architectures else AutoModel, name)


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    return _load(AutoTokenizer, name)


def _load(kind: Any, name: str) -> Any:
    try:
        found = kind.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load {name!r}: {error}") from error
    if isinstance(found, torch.nn.Module):
        found.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return found

"""From token states to one vector a text: which tokens count, and what a model's own files say about it.

A `Recipe` holds everything that turns an encoder into sentence vectors. It is read from a folder in the layout of
sentence-transformers (without that library), or from one of its objects.

Letters: `l` tokens of a text, `h` hidden size, `n` texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError

MODES = ("mean", "cls", "last", "max", "mean_sqrt_len", "weighted_mean")
_OTHER_NAMES = {
    "mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max", "lasttoken": "last", "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean", "weightedmean_tokens": "weighted_mean",
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How states become vectors, and texts tokens.

    modes: of MODES; several are put behind one another. include_prompt: False leaves the prompt's tokens out of the pooling.
    max_length: tokens at which texts are cut (None: the tokenizer's and the model's limit). after: modules applied to the vectors.
    """

    modes: tuple[str, ...] = ("mean",)
    normalize: bool = False
    max_length: int | None = None
    include_prompt: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    after: tuple[Any, ...] = ()
    lower: bool = False


def modes_of(pooling: str | Sequence[str]) -> tuple[str, ...]:
    """The names of MODES, from one name or several; the names of sentence-transformers are understood.

    >>> modes_of("lasttoken"), modes_of(("mean", "max"))
    (('last',), ('mean', 'max'))
    """
    names = (pooling,) if isinstance(pooling, str) else tuple(pooling)
    found = tuple(_OTHER_NAMES.get(name, name) for name in names)
    if not found or set(found) - set(MODES):
        raise InputError(f"pooling is one of {', '.join(MODES)}, or several of them; got {pooling!r}")
    return found


def pool(states: torch.Tensor, modes: Sequence[str], n_prompt: int = 0) -> torch.Tensor:
    """States of one text (l, h) -> vector (len(modes) * h,), summed in float32 or better.

    n_prompt: tokens at the front that do not count. A text of which nothing counts gives zeros.
    """
    states = states.double() if states.dtype == torch.float64 else states.float()
    counted = states[min(n_prompt, len(states)) :]
    parts = [_one(counted, mode, len(states) - len(counted)) for mode in modes]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _one(states: torch.Tensor, mode: str, skipped: int) -> torch.Tensor:
    n_tokens = len(states)
    if n_tokens == 0:
        return states.new_zeros(states.shape[1])
    if mode == "cls":
        return states[0]
    if mode == "last":
        return states[-1]
    if mode == "max":
        return states.max(dim=0).values
    if mode == "mean":
        return states.mean(dim=0)
    if mode == "mean_sqrt_len":
        return states.sum(dim=0) / n_tokens**0.5
    # position-weighted mean (SGPT): the t-th token weighs t, counted from the text's first token, prompt or not
    weights = torch.arange(skipped + 1, skipped + n_tokens + 1, device=states.device, dtype=states.dtype)
    return weights @ states / weights.sum()


def from_sentence_transformer(model: Any) -> tuple[Any, Any, Recipe]:
    """(encoder, tokenizer, recipe) of a SentenceTransformer. Raises InputError for one that is no text encoder with pooling."""
    parts = list(model)
    encoder = getattr(parts[0], "auto_model", None) if parts else None
    modes = getattr(parts[1], "pooling_mode", None) if len(parts) > 1 else None
    if modes is None and len(parts) > 1 and hasattr(parts[1], "get_pooling_mode_str"):  # before version 6
        modes = str(parts[1].get_pooling_mode_str()).split("+")
    if encoder is None or modes is None or getattr(parts[0], "backend", "torch") != "torch":
        kinds = ", ".join(type(part).__name__ for part in parts) or "nothing"
        raise InputError(
            f"packing needs a SentenceTransformer of a torch Transformer and a Pooling; this one is made of {kinds}"
        )
    after, normalize = parts[2:], False
    if after and type(after[-1]).__name__ == "Normalize":
        after, normalize = after[:-1], True
    recipe = Recipe(
        modes=modes_of(modes),
        normalize=normalize,
        max_length=getattr(model, "max_seq_length", None),
        include_prompt=bool(getattr(parts[1], "include_prompt", True)),
        prompts=dict(getattr(model, "prompts", None) or {}),
        default_prompt_name=getattr(model, "default_prompt_name", None),
        after=tuple(after),
        lower=bool(getattr(parts[0], "do_lower_case", False)),
    )
    return encoder, model.tokenizer, recipe


def from_files(name_or_path: str | Path) -> tuple[str, Recipe | None]:
    """(subfolder of the encoder, recipe) of a model in the layout of sentence-transformers; ('', None) of any other model.

    Raises InputError for parts that only sentence-transformers can run.
    """
    listed = _json(name_or_path, "modules.json")
    if listed is None:
        return "", None
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in listed]
    normalize = "Normalize" in kinds
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Normalize"}:
        raise InputError(
            f"{name_or_path} is made of {', '.join(kinds)}; for these parts pass SentenceTransformer({str(name_or_path)!r}) itself"
        )
    folder, pooling_folder = (str(module.get("path", "")).strip("/") for module in listed[:2])
    pooling = _json(name_or_path, f"{pooling_folder}/config.json".lstrip("/")) or {}
    main = _json(name_or_path, f"{folder}/sentence_bert_config.json".lstrip("/")) or {}
    general = _json(name_or_path, "config_sentence_transformers.json") or {}
    modes: Any = pooling.get("pooling_mode")
    if modes is None:
        modes = [name.removeprefix("pooling_mode_") for name, on in pooling.items() if on is True and "_mode_" in name]
    return folder, Recipe(
        modes=modes_of(modes or "mean"),
        normalize=normalize,
        max_length=main.get("max_seq_length"),
        include_prompt=bool(pooling.get("include_prompt", True)),
        prompts=dict(general.get("prompts") or {}),
        default_prompt_name=general.get("default_prompt_name"),
        lower=bool(main.get("do_lower_case", False)),
    )


def _json(name_or_path: str | Path, file: str) -> Any:
    """A JSON file of a model in a folder or on the Hugging Face hub; None when the model has no such file."""
    path = Path(name_or_path)
    if path.is_dir():
        found: Any = path / file
        if not found.is_file():
            return None
    else:
        from transformers.utils.hub import cached_file

        found = cached_file(
            str(name_or_path),
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is None:
            return None
    try:
        return json.loads(Path(found).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{found} is not JSON ({error}); fetch the model again") from error

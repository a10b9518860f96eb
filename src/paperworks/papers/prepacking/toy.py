"""Small seeded models of many architectures, made-up prompts and texts, and a tokenizer; nothing is fetched.

Random weights: what they say means nothing, but whether prompts see each other shows in every number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError

VOCABULARY = 199  # tokens of every toy model

_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_POSITIONS = {"max_position_embeddings": 512}

# architecture -> settings of its configuration, beside the vocabulary and the special tokens
DECODERS: dict[str, dict[str, Any]] = {
    "llama": _GROUPED | _POSITIONS,
    "mistral": _GROUPED | _POSITIONS | {"sliding_window": None},
    "qwen2": _GROUPED | _POSITIONS,
    "qwen3": _GROUPED | _POSITIONS | {"head_dim": 8},
    "gemma": _GROUPED | _POSITIONS | {"head_dim": 8},
    "phi": _GROUPED | _POSITIONS,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "gpt_neox": _SIZES | _POSITIONS,
    "opt": _POSITIONS
    | {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
    },
    "stablelm": _GROUPED | _POSITIONS,
    "olmo2": _GROUPED | _POSITIONS,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": _SIZES | _POSITIONS,
    "roberta": _SIZES | {"max_position_embeddings": 514, "type_vocab_size": 1},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 512},
    "electra": _SIZES | _POSITIONS | {"embedding_size": 16},
    "modernbert": _SIZES | _POSITIONS | {"global_attn_every_n_layers": 1, "local_attention": 512},
}
# What keeps each of these from being packed: the words of the error that `support.py` must find.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, "ALiBi"),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, "state"),
    "mpnet": (_SIZES | _POSITIONS, "relative"),
}


def decoder(architecture: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A causal language model of two layers with random weights, in evaluation mode.

    architecture: a name of DECODERS, or of REFUSED. changes: settings of its configuration.
    """
    settings = DECODERS.get(architecture) or REFUSED.get(architecture, (None, ""))[0]
    if settings is None:
        raise InputError(f"no toy decoder {architecture!r}; there are {', '.join([*DECODERS, *REFUSED])}")
    from transformers import AutoModelForCausalLM

    return _made(AutoModelForCausalLM.from_config, architecture, settings | changes, seed, dtype)


def encoder(architecture: str = "bert", *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """An encoder of two layers with random weights, in evaluation mode; its output has `last_hidden_state` (1, t, 32).

    architecture: a name of ENCODERS, or 'mpnet', which cannot be packed. changes: settings of its configuration.
    """
    settings = ENCODERS.get(architecture) or REFUSED.get(architecture, (None, ""))[0]
    if settings is None:
        raise InputError(f"no toy encoder {architecture!r}; there are {', '.join([*ENCODERS, *REFUSED])}")
    from transformers import AutoModel

    return _made(AutoModel.from_config, architecture, settings | changes, seed, dtype)


def _made(
    factory: Callable[..., Any], architecture: str, settings: dict[str, Any], seed: int, dtype: torch.dtype
) -> Any:
    from transformers import AutoConfig

    special = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if architecture == "roberta":
        special["pad_token_id"] = 1  # its positions begin one after the pad's number
    if architecture == "modernbert":
        special |= {"cls_token_id": 1, "sep_token_id": 2}
    config = AutoConfig.for_model(architecture, **(special | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = factory(config)
        for parameter in model.parameters():  # ordinary initialisation is so small that nothing would be seen
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    return model.to(dtype).eval()


def lengths(rng: np.random.Generator, k: int, kind: str = "log-uniform", low: int = 4, high: int = 64) -> np.ndarray:
    """k prompt lengths in low..high: 'uniform', 'log-uniform', 'equal' (all `high`) or 'one-long' (one `high`, the rest `low`)."""
    if not 1 <= low <= high:
        raise InputError(f"lengths lie between low and high, 1 <= low <= high; got {low} and {high}")
    if kind == "uniform":
        return rng.integers(low, high + 1, k)
    if kind == "log-uniform":
        return np.exp(rng.uniform(np.log(low), np.log(high + 1), k)).astype(np.int64).clip(low, high)
    if kind == "equal":
        return np.full(k, high)
    if kind == "one-long":
        return np.array([high] + [low] * (k - 1))[rng.permutation(k)] if k else np.zeros(0, np.int64)
    raise InputError(f"kind is 'uniform', 'log-uniform', 'equal' or 'one-long', got {kind!r}")


def prompts(
    rng: np.random.Generator, sizes: Sequence[int] | np.ndarray, vocabulary: int = VOCABULARY
) -> list[torch.Tensor]:
    """A prompt of random ids (no special token) for each length: int64 (l_i,)."""
    return [torch.from_numpy(rng.integers(3, vocabulary, int(size))) for size in sizes]


_WORDS = [
    "packed", "rows", "share", "one", "pass", "while", "pads", "cost", "time", "and", "memory", "a", "mask", "keeps", "prompts",
    "apart", "the", "cache", "of", "each", "is", "cut", "out", "again", "long", "short", "batch", "token", "model", "reads",
]  # fmt: skip


def texts(rng: np.random.Generator, k: int, low: int = 3, high: int = 60) -> list[str]:
    """k made-up texts of log-uniformly many words."""
    return [" ".join(rng.choice(_WORDS, size)) for size in lengths(rng, k, "log-uniform", low, high)]


def tokenizer(kind: str = "bert", max_tokens: int = 512) -> Any:
    """A word tokenizer over the made-up texts' words; unknown words are spelt by letters.

    kind: 'bert' puts a token before and one after each text, as encoders want; 'roberta' the same, with the pad at its number 1;
    'plain' adds none.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"] if kind == "roberta" else ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special, *_WORDS, *letters]))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    # known words whole, everything else letter by letter
    known = "|".join(sorted((word for word in _WORDS if len(word) > 1), key=len, reverse=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(rf"\b({known})\b|."), behavior="isolated"),
        ]
    )
    if kind in ("bert", "roberta"):
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", 2)],
        )
    elif kind != "plain":
        raise InputError(f"kind is 'bert', 'roberta' or 'plain', got {kind!r}")
    factory: Callable[..., Any] = PreTrainedTokenizerFast
    return factory(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        model_max_length=max_tokens,
        padding_side="left" if kind == "plain" else "right",
    )

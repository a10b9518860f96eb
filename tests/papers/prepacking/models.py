"""Tiny random models of several architectures, for the tests of packing. Weights are wide, so that leaks would show."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    DistilBertConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)
from transformers.utils import logging as transformers_logging

transformers_logging.set_verbosity_error()

VOCAB = 97
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GQA = _SHAPE | {"num_key_value_heads": 2}

DECODERS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**_GQA),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB, n_embd=48, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2, bos_token_id=1, eos_token_id=2
    ),
    "qwen2": lambda: Qwen2Config(**_GQA),
    "qwen3": lambda: Qwen3Config(**_GQA, head_dim=16),
    "mistral": lambda: MistralConfig(**_GQA, sliding_window=None),
    "mistral-sliding": lambda: MistralConfig(**_GQA, sliding_window=6),
    "gemma": lambda: GemmaConfig(**_GQA, head_dim=8),
    "gemma2-sliding": lambda: Gemma2Config(**_GQA, head_dim=8, sliding_window=6, attn_logit_softcapping=5.0),
    "phi": lambda: PhiConfig(**_SHAPE),
    "gpt-neox": lambda: GPTNeoXConfig(**_SHAPE),
    "opt": lambda: OPTConfig(
        vocab_size=VOCAB, hidden_size=48, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=48,
        max_position_embeddings=128, init_std=0.2, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    ),
}  # fmt: skip
ENCODERS: dict[str, Any] = {
    "bert": lambda: BertConfig(**_SHAPE),
    "roberta": lambda: RobertaConfig(**_SHAPE),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=VOCAB,
        dim=48,
        hidden_dim=64,
        n_layers=2,
        n_heads=4,
        max_position_embeddings=128,
        initializer_range=0.2,
    ),
    "modernbert-sliding": lambda: ModernBertConfig(
        **_SHAPE | {"num_hidden_layers": 3}, cls_token_id=1, sep_token_id=2, local_attention=8
    ),
}


def decoder(name: str = "llama", dtype: torch.dtype = torch.float32, seed: int = 0) -> PreTrainedModel:
    """A decoder with a language-model head, in evaluation mode."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(DECODERS[name]()).eval().to(dtype)


def encoder(name: str = "bert", dtype: torch.dtype = torch.float32, seed: int = 0) -> PreTrainedModel:
    """An encoder, in evaluation mode."""
    torch.manual_seed(seed)
    return AutoModel.from_config(ENCODERS[name]()).eval().to(dtype)


def prompts(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    """Random prompts of these lengths, without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCAB, (length,), generator=generator) for length in lengths]

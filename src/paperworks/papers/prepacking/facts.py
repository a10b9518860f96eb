"""What packing has to know about a model: its inputs, limits, and whether its layers can be packed at all."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from paperworks.errors import InputError
from paperworks.papers.prepacking.attention import unwrap
from paperworks.papers.prepacking.errors import PackingNotSupported

# Layers whose output at a token depends on other tokens only through attention that can be cut into segments.
_KNOWN_LAYERS = {"full_attention", "sliding_attention", "attention", "global", "local"}
_ALIBI = ("alibi", "use_alibi", "position_embedding_type")


@dataclass(frozen=True)
class ModelFacts:
    """The transformers model inside the given one, and what its forward call takes.

    causal: a decoder. n_vocab: rows of the embedding. max_length: longest prompt in tokens (None: no limit known).
    position_start: the first position id (2 for RoBERTa). cache_name: the argument that takes a cache (None: takes none).
    window: the smallest sliding window of a layer, in tokens (None: all layers see everything).
    """

    model: PreTrainedModel
    causal: bool
    n_vocab: int
    max_length: int | None
    position_start: int
    cache_name: str | None
    keeps_logits: bool
    has_head: bool
    window: int | None
    pad_id: int | None

    @property
    def device(self) -> torch.device:
        """Where the ids go: the device of the embedding."""
        embeddings: Any = self.model.get_input_embeddings()
        device: torch.device = embeddings.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the activations."""
        return self.model.dtype


def inspect_model(model: nn.Module) -> ModelFacts:
    """Read the facts from a model, without running it.

    Raises PackingNotSupported with the reason for models that cannot be packed, InputError for one in training mode, without
    weights (meta device) or spread over devices by hand.
    """
    inner = unwrap(model)
    config: Any = inner.config.get_text_config(decoder=True) if not inner.config.is_encoder_decoder else inner.config
    _refuse(inner, config)
    _usable(inner)
    arguments, start, causal = _structure(inner)
    if "position_ids" not in arguments:
        raise PackingNotSupported(
            f"{type(inner).__name__} takes no position_ids, so positions cannot start anew in each prompt of a row"
        )
    has_cache = [name for name in ("cache", "past_key_values") if name in arguments]
    limit = getattr(config, "max_position_embeddings", None)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        window = None
    parts: Any = inner
    return ModelFacts(
        model=inner,
        causal=causal,
        n_vocab=int(parts.get_input_embeddings().weight.shape[0]),
        max_length=int(limit) - start if isinstance(limit, int) and limit > 0 else None,
        position_start=start,
        cache_name=has_cache[0] if has_cache else None,
        keeps_logits="logits_to_keep" in arguments,
        has_head=parts.get_output_embeddings() is not None,
        window=int(window) if isinstance(window, int) and window > 0 else None,
        pad_id=getattr(config, "pad_token_id", None),
    )


# Where a model's first weights, embedding and head were when all of its weights were looked at: a model is moved as a whole.
_placed: WeakKeyDictionary[PreTrainedModel, tuple[torch.device, ...]] = WeakKeyDictionary()
# What does not change in the life of a model, and takes a walk over its modules to find out.
_structures: WeakKeyDictionary[PreTrainedModel, tuple[frozenset[str], int, bool]] = WeakKeyDictionary()


def _structure(inner: PreTrainedModel) -> tuple[frozenset[str], int, bool]:
    """The arguments of the forward call, the first position id, and whether attention is causal."""
    known = _structures.get(inner)
    if known is None:
        arguments = frozenset(inspect.signature(type(inner).forward).parameters)
        known = _structures[inner] = (arguments, _position_start(inner), _is_causal(inner))
    return known


def _refuse(inner: PreTrainedModel, config: Any) -> None:
    name = type(inner).__name__
    if inner.config.is_encoder_decoder:
        raise PackingNotSupported(f"{name} is an encoder-decoder; only decoders and encoders are packed")
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - _KNOWN_LAYERS:
        raise PackingNotSupported(
            f"{name} has layers of kind {', '.join(sorted(kinds - _KNOWN_LAYERS))}, whose state runs along the whole row: "
            "neighbours in a row would leak into each other; run prompts one by one"
        )
    if getattr(config, "num_kv_shared_layers", 0):
        raise PackingNotSupported(
            f"{name} shares keys and values between layers, which packed caches cannot follow yet"
        )
    if getattr(inner, "_is_stateful", False):
        raise PackingNotSupported(
            f"{name} carries a state along the row: neighbours would leak into each other; run prompts one by one"
        )
    values = [getattr(config, key, None) for key in _ALIBI]
    inner_values = getattr(config, "attn_config", None)
    values.append(getattr(inner_values, "alibi", None) if inner_values is not None else None)
    if config.model_type == "bloom" or True in values or "alibi" in values:
        raise PackingNotSupported(
            f"{name} biases attention by distance in the row (ALiBi), which does not start anew in each prompt; "
            "run prompts one by one"
        )
    if any("relative" in str(getattr(config, key, "")) for key in ("position_embedding_type",)) or any(
        hasattr(config, key) for key in ("relative_attention_num_buckets", "relative_attention")
    ):
        raise PackingNotSupported(
            f"{name} biases attention by distance in the row (relative positions), which does not start anew in each prompt; "
            "run prompts one by one"
        )


def _usable(inner: PreTrainedModel) -> None:
    if inner.training:
        raise InputError(
            f"{type(inner).__name__} is in training mode, where dropout makes results random; call model.eval()"
        )
    parts: Any = inner
    ends = (parts.get_input_embeddings(), parts.get_output_embeddings())
    probe = (next(inner.parameters()).device, *(end.weight.device for end in ends if hasattr(end, "weight")))
    if _placed.get(inner) == probe:
        return
    devices = {parameter.device for parameter in inner.parameters()}
    if any(device.type == "meta" for device in devices):
        raise InputError(f"{type(inner).__name__} has no weights (meta device); load them first")
    if len(devices) > 1 and getattr(inner, "hf_device_map", None) is None:
        names = ", ".join(sorted(str(device) for device in devices))
        raise InputError(
            f"the weights of {type(inner).__name__} lie on {names}; move the model to one device, or load it with device_map='auto'"
        )
    _placed[inner] = probe


def _position_start(inner: PreTrainedModel) -> int:
    """RoBERTa and its kin count positions from padding_idx + 1, and say so in their position embedding."""
    for name, module in inner.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return int(module.padding_idx) + 1
    return 0


def _is_causal(inner: PreTrainedModel) -> bool:
    flags = {module.is_causal for module in inner.modules() if isinstance(getattr(module, "is_causal", None), bool)}
    if flags:
        return True in flags
    return inner.can_generate()

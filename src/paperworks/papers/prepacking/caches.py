"""Key-value caches: kept as the model makes them, cut apart by prompt, and put together to a padded batch.

Letters: `K` key heads, `L` tokens of a row, `l` tokens of a prompt, `d` head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

# For one prompt: (keys, values) of each layer, each (K, l, d).
LayerPairs = list[tuple[torch.Tensor, torch.Tensor]]


class KeepLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keeps the keys and values of one forward pass without copying them; a second pass is put behind the first."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            set_layer(self, key_states, value_states)
            return key_states, value_states
        return super().update(key_states, value_states, *args, **kwargs)


class RowCache(Cache):
    """The cache of one packed pass: every layer is kept in full, sliding windows too, since a row holds many prompts."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=KeepLayer)

    def pairs(self, row: int, start: int, stop: int) -> LayerPairs:
        """Views of the keys and values of one slice of a row, (K, stop - start, d) a layer."""
        layers: list[Any] = list(self.layers)
        return [(layer.keys[row, :, start:stop], layer.values[row, :, start:stop]) for layer in layers]


def set_layer(layer: Any, keys: torch.Tensor, values: torch.Tensor) -> None:
    """Give an empty layer its content without the copy that `update` makes."""
    layer.device = keys.device
    layer.dtype = keys.dtype
    layer.keys, layer.values = keys, values
    layer.is_initialized = True


def kept_layer(keys: torch.Tensor, values: torch.Tensor) -> Any:
    """A layer that holds these keys and values (B, K, L, d) already; what comes next is put behind them."""
    made: Any = KeepLayer
    layer = made()
    set_layer(layer, keys, values)
    return layer


def empty_cache(config: Any) -> DynamicCache:
    """A dynamic cache with the layers that the model expects (sliding ones where it has them)."""
    return DynamicCache(config=config)


def single_cache(pairs: LayerPairs, config: Any) -> DynamicCache:
    """The cache of one prompt, batch of one; views where the layer keeps everything."""
    return _fill(empty_cache(config), [(keys[None], values[None]) for keys, values in pairs])


def batch_cache(prompts: Sequence[LayerPairs], config: Any, lengths: Sequence[int], side: str = "left") -> DynamicCache:
    """The first `lengths[i]` tokens of every prompt in one cache, zeros on the other side: (k, K, max l, d) a layer."""
    width = max(lengths)
    filled = []
    for layer in range(len(prompts[0])):
        both = []
        for part in (0, 1):
            first = prompts[0][layer][part]
            out = first.new_zeros(len(prompts), first.shape[0], width, first.shape[2])
            for i, length in enumerate(lengths):
                place = slice(width - length, width) if side == "left" else slice(0, length)
                out[i, :, place] = prompts[i][layer][part][:, :length]
            both.append(out)
        filled.append((both[0], both[1]))
    return _fill(empty_cache(config), filled)


def _fill(cache: DynamicCache, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> DynamicCache:
    made: Any = DynamicLayer
    held: list[Any] = cache.layers
    while len(held) < len(layers):
        held.append(made())
    for layer, (keys, values) in zip(held, layers, strict=True):
        if keys.shape[-2] == 0:
            continue
        if type(layer) is DynamicLayer:
            set_layer(layer, keys, values)
        else:
            layer.update(keys, values)
    return cache

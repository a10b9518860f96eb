"""The caches of sequences that are being continued, one slot each, so that new prompts can join in any step.

In one step a flat row holds new prompts, and behind them one token of every running sequence: its *tail*. The prompts see themselves
(`attention.py`), a tail token sees its slot. Slots 0 ... n-1 are running; when one ends, the last moves into its place.

Letters: `n` running sequences, `K` key heads, `T` tokens that a slot can hold, `d` head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import Cache

from paperworks.papers.prepacking.attention import one_call
from paperworks.papers.prepacking.caches import KeepLayer

_LOOP_ABOVE = 256  # tokens: below, one masked call is cheaper than a call a slot however unequal they are


class Slots(Cache):
    """Keys and values (slots, K, T, d) a layer; grows as needed. It is the cache of the forward call and the tail of its row."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=KeepLayer)
        self.lengths: list[int] = []  # tokens in each running slot
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}
        self._new: list[tuple[int, int, int]] = []
        self._size = (0, 0)
        self._layer = 0
        self._at: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def n_tokens(self) -> int:
        """Tail tokens of the step: one a running slot."""
        return len(self.lengths)

    def begin(self, new: Sequence[tuple[int, int, int]]) -> None:
        """Say what the next step brings: for each new prompt its (start, stop) in the row and into how many slots it goes."""
        self._new = list(new)
        n_slots = len(self.lengths) + sum(copies for _, _, copies in self._new)
        longest = max([length + 1 for length in self.lengths] + [stop - start for start, stop, _ in self._new])
        self._size = (self._grown(self._size[0], n_slots, 4), self._grown(self._size[1], longest, 64))
        self._at = {}

    def end(self) -> None:
        """Count the step's tokens in; the new prompts run from here on, in their order."""
        self.lengths = [length + 1 for length in self.lengths]
        for start, stop, copies in self._new:
            self.lengths += [stop - start] * copies
        self._new = []

    def release(self, slot: int) -> None:
        """Free a slot; the last running one moves into it."""
        last = len(self.lengths) - 1
        length = self.lengths[last]
        if slot != last:
            for store in (self._keys, self._values):
                for layer in store.values():
                    layer[slot, :, :length] = layer[last, :, :length]
            self.lengths[slot] = length
        self.lengths.pop()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put a layer's keys and values (1, K, row, d) into their slots, and give the row back for the new prompts to look at."""
        self._layer = layer_idx
        for store, row in ((self._keys, key_states), (self._values, value_states)):
            slots = self._room(store, layer_idx, row)
            n = self.n_tokens
            if n:
                places, lengths = self._places(row.device)
                slots[places, :, lengths] = row[0, :, row.shape[2] - n :].transpose(0, 1)
            for start, stop, copies in self._new:
                slots[n : n + copies, :, : stop - start] = row[:, :, start:stop]
                n += copies
        return key_states, value_states

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        scaling: float | None,
        softcap: float | None,
        sliding_window: int | None,
    ) -> torch.Tensor:
        """Attention of the tail: query (1, H, n, d) -> (n, H, d)."""
        n, longest = self.n_tokens, max(self.lengths) + 1
        keys, values = self._keys[self._layer], self._values[self._layer]
        # The query heads of one key head become queries of one head: each key is read once for all of them.
        queries = query[0].transpose(0, 1).reshape(query.shape[2], keys.shape[1], -1, query.shape[3])
        if longest > _LOOP_ABOVE and n * longest > 2 * (sum(self.lengths) + n):
            parts = []
            for slot, length in enumerate(self.lengths):
                first = 0 if sliding_window is None else max(0, length + 1 - sliding_window)
                seen = (keys[slot : slot + 1, :, first : length + 1], values[slot : slot + 1, :, first : length + 1])
                parts.append(one_call(queries[slot : slot + 1], *seen, None, False, scaling, softcap))
            result = torch.cat(parts)
        else:
            _, lengths = self._places(query.device)
            at = torch.arange(longest, device=query.device)
            mask = at <= lengths[:, None]
            if sliding_window is not None:
                mask &= at > lengths[:, None] - sliding_window
            result = one_call(
                queries, keys[:n, :, :longest], values[:n, :, :longest], mask[:, None, None], False, scaling, softcap
            )
        return result.flatten(1, 2)

    def _places(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if device not in self._at:
            self._at[device] = (
                torch.arange(self.n_tokens, device=device),
                torch.tensor(self.lengths, dtype=torch.int64, device=device),
            )
        return self._at[device]

    def _room(self, store: dict[int, torch.Tensor], layer: int, row: torch.Tensor) -> torch.Tensor:
        old = store.get(layer)
        shape = (self._size[0], row.shape[1], self._size[1], row.shape[3])
        if old is None or old.shape[0] < shape[0] or old.shape[2] < shape[2]:
            # zeros: what a mask hides is still multiplied by nought, and nought times rubbish may be no number
            store[layer] = row.new_zeros(shape)
            if old is not None:
                store[layer][: old.shape[0], :, : old.shape[2]] = old
        return store[layer]

    @staticmethod
    def _grown(size: int, needed: int, step: int) -> int:
        """At least `needed`; half as much again when it grows, so that copying stays a small share."""
        return size if needed <= size else -(-max(needed, size + size // 2) // step) * step

"""Pack a whole data set, not one batch of it: the more prompts there are to choose from, the fuller the rows.

The paper's second variant. Prompts are read window by window (or all at once), packed, and given out in batches that remember which
prompts they hold. The same data and settings give the same batches, so that interrupted work goes on where it stopped; other data
under the same saved state is found out by a hash of the tokens.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.prepacking.attention import segments
from paperworks.papers.prepacking.errors import PromptError
from paperworks.papers.prepacking.packing import PackedRows, as_ids, flatten, pack_rows
from paperworks.papers.prepacking.plan import Algorithm, longest_first, plan


@dataclass(frozen=True)
class DatasetBatch:
    """Prompts that are run together. number: which batch of the data set. indices: the places of the prompts in the data set.

    bins: for each row the places in `prompts`; one row for capacity='flat'.
    """

    number: int
    indices: list[int]
    prompts: list[np.ndarray]
    bins: list[list[int]]

    @property
    def tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(prompt) for prompt in self.prompts)

    def flat(self, device: torch.device | str = "cpu", *, position_start: int = 0) -> dict[str, Any]:
        """Arguments of a forward call over one flat row, inside `attention.flat(model)`; the prompts in the order of `indices`."""
        ids, positions, lengths = flatten(self.prompts, device, position_start=position_start)
        return {"input_ids": ids, "position_ids": positions, **segments(lengths, device)}

    def rows(self, device: torch.device | str = "cpu", *, pad_id: int = 0, position_start: int = 0) -> PackedRows:
        """The bins as padded rows with a mask (the paper's form)."""
        return pack_rows(self.prompts, self.bins, device, pad_id=pad_id, position_start=position_start)


class PackedBatches:
    """Iterate over a data set in packed batches; can be saved and gone on with after any batch.

    dataset: 1-D sequences of ids, or mappings with `column` (a `datasets.Dataset` of tokenised texts); any iterable, read once an
    iteration. max_tokens: tokens of a batch. window: prompts that are packed together (None: all, as the paper does it).
    capacity: 'flat' (one row without padding a batch), 'longest' (bins as long as the window's longest prompt, as many rows a batch as
    `max_tokens` allows, or `rows`) or a number of tokens. algorithm: the packing of bins. seed: shuffles the batches within a window (None:
    longest first, which shows at once whether memory suffices).
    Raises PromptError for an empty prompt, or one longer than a numeric capacity.
    """

    def __init__(
        self,
        dataset: Iterable[Any],
        max_tokens: int = 4096,
        window: int | None = 1000,
        *,
        capacity: int | Literal["flat", "longest"] = "flat",
        rows: int | None = None,
        algorithm: Algorithm = "ffd",
        column: str = "input_ids",
        seed: int | None = None,
    ) -> None:
        if max_tokens < 1 or (window is not None and window < 1) or (rows is not None and rows < 1):
            raise InputError(f"max_tokens, window and rows must be at least 1, got {max_tokens}, {window} and {rows}")
        if capacity not in ("flat", "longest") and not (isinstance(capacity, int) and capacity >= 1):
            raise InputError(f"capacity must be 'flat', 'longest' or a number of tokens, got {capacity!r}")
        self.dataset = dataset
        self.settings: dict[str, Any] = {
            "max_tokens": max_tokens,
            "window": window,
            "capacity": capacity,
            "rows": rows,
            "algorithm": algorithm,
            "seed": seed,
        }
        self.column = column
        self._state = self._start()
        self._resume: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[DatasetBatch]:
        """From the beginning, or from where a loaded state ended; batches keep their numbers."""
        resume, self._resume = self._resume, None
        source = iter(self.dataset)
        first = number = window_number = 0
        size = self.settings["window"]
        while prompts := self._read(islice(source, size), first):
            digest = _hash(prompts)
            done = 0
            if resume is not None and window_number == resume["window"]:
                if resume["hash"] not in (None, digest):
                    raise InputError(
                        f"prompts {first} to {first + len(prompts) - 1} are not those that the saved state was made of; "
                        "start again, or bring the same data in the same order"
                    )
                done = resume["done"]
            skip = resume is not None and window_number < resume["window"]
            batches = [] if skip else self._batches(prompts, window_number)
            if skip and resume is not None:
                number = resume["number"] - resume["done"]
            for at, bins in enumerate(batches):
                if at >= done:
                    self._state = {
                        "window": window_number, "done": at + 1, "hash": digest, "number": number + 1, "settings": self.settings
                    }  # fmt: skip
                    members = [i for row in bins for i in row]
                    place = {i: at for at, i in enumerate(members)}
                    rows = [[place[i] for i in row] for row in bins]
                    yield DatasetBatch(number, [first + i for i in members], [prompts[i] for i in members], rows)
                number += 1
            first += len(prompts)
            window_number += 1

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands: after the batch that was given out last. Save it once that batch's results are safe."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on from there. Raises InputError if the state was made with other settings."""
        if set(state) != set(self._start()):
            raise InputError("this is not the state of PackedBatches")
        if state["settings"] != self.settings:
            changed = [name for name, value in self.settings.items() if state["settings"].get(name) != value]
            raise InputError(
                f"the saved state was made with another {', '.join(changed)}; use the same, or start again"
            )
        self._resume = dict(state)
        self._state = dict(state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state as JSON, whole or not at all."""
        target = Path(path)
        aside = target.with_name(target.name + ".part")
        aside.write_text(json.dumps(self._state), encoding="utf-8")
        os.replace(aside, target)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a saved state; a file that is not there means from the beginning."""
        source = Path(path)
        if not source.exists():
            return
        try:
            state = json.loads(source.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{source} is not a saved state: {error}") from error
        self.load_state_dict(state)

    def _start(self) -> dict[str, Any]:
        return {"window": 0, "done": 0, "hash": None, "number": 0, "settings": self.settings}

    def _read(self, items: Iterable[Any], first: int) -> list[np.ndarray]:
        prompts = []
        for place, item in enumerate(items, start=first):
            if isinstance(item, Mapping):
                if self.column not in item:
                    raise PromptError(
                        f"row {place} has no column {self.column!r}; it has {', '.join(map(str, item))}", place
                    )
                item = item[self.column]
            ids = as_ids(item)
            if not ids.size:
                raise PromptError(f"prompt {place} is empty; leave it out of the data set", place)
            limit = self.settings["capacity"]
            if isinstance(limit, int) and ids.size > limit:
                raise PromptError(f"prompt {place} has {ids.size} tokens, more than the capacity of {limit}", place)
            prompts.append(ids)
        return prompts

    def _batches(self, prompts: Sequence[np.ndarray], window_number: int) -> list[list[list[int]]]:
        """The batches of a window, each a list of rows of places."""
        lengths = [len(prompt) for prompt in prompts]
        limit, capacity = self.settings["max_tokens"], self.settings["capacity"]
        if capacity == "flat":
            short = [i for i, length in enumerate(lengths) if length <= limit]
            bins = [[i] for i, length in enumerate(lengths) if length > limit]  # longer than a batch: alone
            if short:
                found = plan([lengths[i] for i in short], limit, self.settings["algorithm"])
                bins += [[short[at] for at in row] for row in found.bins]
            bins.sort(key=lambda row: -sum(lengths[i] for i in row))
            batches = [[sorted(row, key=lambda i: (-lengths[i], i))] for row in bins]
        else:
            found = plan(lengths, capacity, self.settings["algorithm"])
            count = self.settings["rows"] or max(1, limit // found.width)
            bins = [list(row) for row in found.bins]
            if self.settings["seed"] is None:
                loads = [sum(lengths[i] for i in row) for row in bins]
                bins = [bins[at] for at in longest_first(loads)]
            else:
                self._shuffle(bins, window_number)
            batches = [bins[at : at + count] for at in range(0, len(bins), count)]
        if self.settings["seed"] is not None:
            self._shuffle(batches, window_number)
        return batches

    def _shuffle(self, items: list[Any], window_number: int) -> None:
        np.random.default_rng([self.settings["seed"], window_number, len(items)]).shuffle(items)


def restore_order(batches: Iterable[tuple[DatasetBatch, Sequence[Any]]]) -> list[Any]:
    """The results of batches, one a prompt and in the order of `indices`, in the order of the data set."""
    found: dict[int, Any] = {}
    for batch, results in batches:
        if len(results) != len(batch.indices):
            raise InputError(f"batch {batch.number} has {len(batch.indices)} prompts and {len(results)} results")
        found.update(zip(batch.indices, results, strict=True))
    return [found[i] for i in sorted(found)]


def _hash(prompts: Sequence[np.ndarray]) -> str:
    digest = blake2b(digest_size=16)
    for prompt in prompts:
        digest.update(len(prompt).to_bytes(8, "little"))
        digest.update(prompt.astype("<i8").tobytes())
    return digest.hexdigest()

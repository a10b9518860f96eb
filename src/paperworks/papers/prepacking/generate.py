"""Generate for many prompts at once: each step runs what there is, and new prompts join as others finish.

A step is one flat row: the prompts that join now, whole, and behind them one token of every running sequence. No prompt waits for the
longest of its batch, nothing is padded, and the tokens are those of `model.generate` prompt by prompt (greedy; sampled ones are drawn from
the same distribution with other random numbers).

    for result in generate_stream(model, prompts, max_new_tokens=50):
        print(result.index, result.new_ids)
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig

from paperworks.errors import InputError
from paperworks.papers.prepacking.attention import flat, segments
from paperworks.papers.prepacking.errors import PromptError
from paperworks.papers.prepacking.facts import ModelFacts, inspect_model
from paperworks.papers.prepacking.packing import flatten
from paperworks.papers.prepacking.passes import run_batch
from paperworks.papers.prepacking.prefill import prefill, tokens_of_a_pass
from paperworks.papers.prepacking.prompts import read_prompts
from paperworks.papers.prepacking.routes import Batch
from paperworks.papers.prepacking.sampling import Running, Sampler, Settings, read_settings
from paperworks.papers.prepacking.slots import Slots
from paperworks.papers.prepacking.support import supported
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)
OnToken = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Generated:
    """One finished sequence: the prompt's place, which of its copies, all ids, the new ones, and why it ended ('eos', 'stop', 'length')."""

    index: int
    copy: int
    ids: torch.Tensor
    new_ids: torch.Tensor
    finish: str


def generate(
    model: nn.Module,
    input_ids: Any,
    attention_mask: Any = None,
    *,
    generation_config: GenerationConfig | None = None,
    max_new_tokens: int | Sequence[int] | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> list[torch.Tensor]:
    """Continue every prompt; a list of 1-D int64 tensors, prompt and continuation, in the order of the prompts.

    The arguments are those of `generate_stream`. With num_return_sequences=n each prompt has n results, one after another.
    Unlike `model.generate` nothing is padded: a result ends with its own last token.
    """
    facts = inspect_model(model)
    prompts = read_prompts(
        input_ids,
        attention_mask,
        facts=facts,
        allow_empty=settings.pop("allow_empty", False),
        bos_id=settings.pop("bos_id", None),
    )
    found: dict[tuple[int, int], torch.Tensor] = {}
    copies = settings.get("num_return_sequences") or getattr(generation_config, "num_return_sequences", None) or 1
    for result in generate_stream(
        model, prompts, generation_config=generation_config, max_new_tokens=max_new_tokens, **settings
    ):
        found[result.index, result.copy] = result.ids
        progress(len(found), len(prompts) * copies, "sequences")
    return [found[key] for key in sorted(found)]


def generate_stream(
    model: nn.Module,
    input_ids: Iterable[Any],
    *,
    generation_config: GenerationConfig | None = None,
    max_new_tokens: int | Sequence[int] | None = None,
    max_tokens: int | None = None,
    max_batch: int = 32,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    on_token: OnToken | None = None,
    logits_processor: Sequence[Any] | None = None,
    stopping_criteria: Sequence[Any] | None = None,
    **settings: Any,
) -> Iterator[Generated]:
    """Continue prompts, and give each sequence as soon as it ends.

    input_ids: an iterable of 1-D sequences of ids; it is read only as far as there is room, so it may be endless. generation_config and
    further keyword arguments: as for `model.generate` (max_new_tokens, max_length, min_new_tokens, eos_token_id, do_sample, temperature,
    top_k, top_p, min_p, typical_p, repetition_penalty, no_repeat_ngram_size, bad_words_ids, suppress_tokens, num_return_sequences ...).
    max_new_tokens: one number, or one a prompt; 20 if nothing says otherwise.
    max_tokens: most tokens of one step (default 2048 on a CPU, 16384 else); a longer prompt joins alone. max_batch: most sequences that run
    at once; each keeps its cache. seed or generator: for sampling; results repeat, whatever runs beside them.
    on_token(index, copy, token): called for every token as it is made.
    logits_processor, stopping_criteria: those of transformers; they see one sequence at a time, (1, l).

    Raises InputError for settings that packed generation does not have (beams, guidance, stop strings, static caches ...), PromptError for
    prompts, when they are reached; those that run are given up then.
    """
    facts = inspect_model(model)
    if not facts.causal or not facts.has_head or facts.cache_name is None:
        raise InputError(
            f"{type(facts.model).__name__} does not generate: it needs a causal model with a head and a cache"
        )
    if max_batch < 1:
        raise InputError(f"max_batch must be at least 1, got {max_batch}")
    limits = None if max_new_tokens is None or isinstance(max_new_tokens, int) else [int(n) for n in max_new_tokens]
    if limits is None and max_new_tokens is not None:
        settings["max_new_tokens"] = max_new_tokens
    wanted = read_settings(facts.model, generation_config, logits_processor, stopping_criteria, **settings)
    if wanted.copies > max_batch:
        raise InputError(f"num_return_sequences={wanted.copies} needs max_batch of at least as many, got {max_batch}")
    if seed is None:
        seed = int(
            torch.randint(2**62, (1,), generator=generator, device=generator.device if generator is not None else None)
        )
    sampler = Sampler(wanted, seed, facts.device)
    waiting = _Waiting(iter(input_ids), facts, wanted, limits)
    limit = tokens_of_a_pass(facts, max_tokens)
    if supported(facts, "flat").works:
        return _continuous(facts, waiting, sampler, limit, max_batch, on_token)
    log.info("%s has no flat route; prompts are generated in batches", type(facts.model).__name__)
    return _in_batches(facts, waiting, sampler, limit, max_batch, on_token)


class _Waiting:
    """The prompts that have not begun, read one ahead, with the number of tokens that each may get."""

    def __init__(self, source: Iterator[Any], facts: ModelFacts, settings: Settings, limits: list[int] | None) -> None:
        self._source, self._facts, self._settings, self._limits = source, facts, settings, limits
        self._index = 0
        self._next: deque[tuple[int, np.ndarray, int]] = deque()

    def peek(self) -> tuple[int, np.ndarray, int] | None:
        """(index, ids, room) of the next prompt, None at the end."""
        if not self._next:
            for raw in self._source:
                self._next.append(self._read(raw))
                break
        return self._next[0] if self._next else None

    def take(self) -> tuple[int, np.ndarray, int]:
        """The next prompt, which begins now."""
        self.peek()
        return self._next.popleft()

    def _read(self, raw: Any) -> tuple[int, np.ndarray, int]:
        index = self._index
        self._index += 1
        try:
            (ids,) = read_prompts([raw], facts=self._facts)
        except PromptError as error:
            raise PromptError(str(error).replace("prompt 0", f"prompt {index}"), index) from error
        if self._limits is not None and index >= len(self._limits):
            raise InputError(f"max_new_tokens has {len(self._limits)} numbers, and there is a prompt {index}")
        room = self._limits[index] if self._limits is not None else self._settings.room(len(ids))
        if room < 1:
            raise PromptError(
                f"prompt {index} of {len(ids)} tokens may get {room} new ones; raise max_new_tokens or max_length",
                index,
            )
        most = self._facts.max_length
        if most is not None and len(ids) + room > most:
            raise PromptError(
                f"prompt {index} has {len(ids)} tokens and may get {room} more, the model has positions for {most}; cut it, or lower "
                "max_new_tokens",
                index,
            )
        return index, ids, room


@torch.no_grad()
def _continuous(
    facts: ModelFacts, waiting: _Waiting, sampler: Sampler, max_tokens: int, max_batch: int, on_token: OnToken | None
) -> Iterator[Generated]:
    slots = Slots()
    running: list[Running] = []
    copies = sampler.settings.copies
    while running or waiting.peek() is not None:
        joining: list[tuple[int, np.ndarray, int]] = []
        n_tokens = len(running)
        while (entry := waiting.peek()) is not None and len(running) + (len(joining) + 1) * copies <= max_batch:
            if n_tokens and n_tokens + len(entry[1]) > max_tokens and (joining or len(running) > 1):
                break
            joining.append(waiting.take())
            n_tokens += len(entry[1])
        joining.sort(key=lambda item: -len(item[1]))  # equal lengths are attended to in one call
        logits = _step(facts, slots, running, [ids for _, ids, _ in joining], copies)
        n_old = len(running)
        for index, ids, room in joining:
            running += [sampler.start(index, copy, ids, room) for copy in range(copies)]
        order = [*range(n_old)] + [n_old + at for at in range(len(joining)) for _ in range(copies)]
        tokens = sampler.choose(logits[torch.tensor(order, device=logits.device)] if copies > 1 else logits, running)
        for sequence, token in zip(running, tokens, strict=True):
            sequence.ids.append(token)
            if on_token is not None:
                on_token(sequence.index, sequence.copy, token)
        finished = []
        for slot in range(len(running) - 1, -1, -1):
            finish = sampler.ended(running[slot])
            if finish is not None:
                finished.append(_result(running[slot], finish))
                slots.release(slot)
                running[slot] = running[-1]
                running.pop()
        yield from reversed(finished)


def _step(facts: ModelFacts, slots: Slots, running: list[Running], new: list[np.ndarray], copies: int) -> torch.Tensor:
    """One forward call over new prompts and a token of each running sequence: logits (running + new, V)."""
    tail = [np.array([sequence.ids[-1]]) for sequence in running]
    ids, positions, lengths = flatten([*new, *tail], facts.device, position_start=facts.position_start)
    n_new = len(new)
    total = sum(lengths[:n_new])
    if running:
        places = torch.tensor([len(sequence.ids) - 1 for sequence in running], device=facts.device)
        positions[0, total:] = places + facts.position_start
    ends = np.cumsum(lengths)
    begins = ends - lengths
    slots.begin([(int(begins[at]), int(ends[at]), copies) for at in range(n_new)])
    order = [*range(n_new, len(lengths)), *range(n_new)]  # running sequences first, as their slots are
    batch = Batch(
        members=list(range(len(order))),
        input_ids=ids,
        position_ids=positions,
        slices=[(0, int(begins[at]), int(ends[at])) for at in order],
        arguments=segments(lengths[:n_new], facts.device, tail=slots if running else None),
    )
    with flat(facts.model):
        result = run_batch(facts, batch, "last", cache=slots)
    slots.end()
    return torch.stack(result.logits or [])


@torch.no_grad()
def _in_batches(
    facts: ModelFacts, waiting: _Waiting, sampler: Sampler, max_tokens: int, max_batch: int, on_token: OnToken | None
) -> Iterator[Generated]:
    """For models without a flat route: the paper's way, packed prefill, padded caches, and batches that end together."""
    copies = sampler.settings.copies
    while waiting.peek() is not None:
        taken = [waiting.take()]
        while waiting.peek() is not None and (len(taken) + 1) * copies <= max_batch:
            taken.append(waiting.take())
        pre = prefill(facts.model, [ids for _, ids, _ in taken], max_tokens=max_tokens, output="last")
        running = [sampler.start(index, copy, ids, room) for index, ids, room in taken for copy in range(copies)]
        batch = pre.to_batch()
        cache, mask = batch.past_key_values, batch.attention_mask.repeat_interleave(copies, dim=0)
        if cache is not None and copies > 1:
            cache.batch_repeat_interleave(copies)
        ids = batch.next_ids.repeat_interleave(copies, dim=0)
        ended: list[str | None] = [None] * len(running)
        while not all(ended):
            positions = mask.sum(dim=1, keepdim=True) - 1 + facts.position_start
            arguments = {
                "attention_mask": mask,
                "position_ids": positions,
                facts.cache_name or "cache": cache,
                "use_cache": True,
            }
            output = facts.model(input_ids=ids, **arguments)
            cache = output["cache"] if "cache" in output else output["past_key_values"]
            tokens = sampler.choose(output.logits[:, -1], running)
            for at, (sequence, token) in enumerate(zip(running, tokens, strict=True)):
                if ended[at] is None:
                    sequence.ids.append(token)
                    if on_token is not None:
                        on_token(sequence.index, sequence.copy, token)
                    ended[at] = sampler.ended(sequence)
                    if ended[at] is not None:
                        yield _result(sequence, str(ended[at]))
            ids = torch.tensor(tokens, device=mask.device)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)


def _result(sequence: Running, finish: str) -> Generated:
    ids = torch.tensor(sequence.ids, dtype=torch.int64)
    return Generated(sequence.index, sequence.copy, ids, ids[sequence.prompt_length :], finish)

"""Choose next tokens as `generate` of transformers does, for sequences that stand at different places.

Settings come from keyword arguments, then the given GenerationConfig, then the model's own. What works on scores alone (temperature,
top-k, top-p) is done for all sequences at once; what reads a sequence's tokens (repetition penalty, n-grams) one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation import logits_process

from paperworks.errors import InputError

# Settings of `generate` that packed generation does not have, with the value that means 'off'.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "guidance_scale": (None, 1, 1.0),
    "watermarking_config": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "begin_suppress_tokens": (None,),
    "token_healing": (None, False),
    "stop_strings": (None,),
    "max_time": (None,),
    "prompt_lookup_num_tokens": (None,),
    "use_mtp": (None, False),
    "top_h": (None,),
    "cache_implementation": (None, "dynamic"),
    "return_dict_in_generate": (None, False),
    "output_scores": (None, False),
    "output_logits": (None, False),
    "output_attentions": (None, False),
    "output_hidden_states": (None, False),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
}
_INSTEAD = "call model.generate for that, prompt by prompt"


@dataclass(frozen=True)
class Settings:
    """How to continue: sample or take the largest, what ends a sequence, how many tokens and copies."""

    config: GenerationConfig
    sample: bool
    eos_ids: frozenset[int]
    max_new_tokens: int | None
    max_length: int | None
    copies: int
    processors: LogitsProcessorList = field(default_factory=LogitsProcessorList)
    criteria: StoppingCriteriaList = field(default_factory=StoppingCriteriaList)

    def room(self, prompt_length: int) -> int:
        """New tokens that a prompt of this length may get."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        if self.max_length is not None:
            return self.max_length - prompt_length
        return 20


def read_settings(
    model: PreTrainedModel,
    generation_config: GenerationConfig | None = None,
    logits_processor: Sequence[Any] | None = None,
    stopping_criteria: Sequence[Any] | None = None,
    **kwargs: Any,
) -> Settings:
    """The settings that `model.generate` would use. Raises InputError for those that packed generation does not have."""
    blank: Any = GenerationConfig
    own = getattr(model, "generation_config", None) or blank()
    config = deepcopy(generation_config if generation_config is not None else own)
    if generation_config is not None:
        for name, value in own.to_dict().items():
            if getattr(config, name, None) is None and value is not None and hasattr(config, name):
                setattr(config, name, value)
    unknown = sorted(name for name in kwargs if not hasattr(blank(), name) and name not in _REFUSED)
    if unknown:
        raise InputError(f"generate got settings that it does not know: {', '.join(unknown)}")
    if kwargs.get("max_new_tokens") is None and kwargs.get("max_length") is not None:
        config.max_new_tokens = None
    for name, value in kwargs.items():
        setattr(config, name, value)
    for name, off in _REFUSED.items():
        value = getattr(config, name, None)
        if value not in off:
            raise InputError(f"packed generation does not have {name}={value!r}; {_INSTEAD}")
    sample = bool(config.do_sample)
    copies = config.num_return_sequences or 1
    if copies > 1 and not sample:
        raise InputError(
            f"num_return_sequences={copies} without sampling gives {copies} equal results; pass do_sample=True"
        )
    if config.max_new_tokens is not None and config.max_new_tokens < 1:
        raise InputError(f"max_new_tokens must be at least 1, got {config.max_new_tokens}")
    if sample and config.temperature is not None and config.temperature <= 0:
        raise InputError(
            f"temperature must be above 0, got {config.temperature}; pass do_sample=False for the likeliest token"
        )
    eos = config.eos_token_id
    if isinstance(eos, torch.Tensor):
        eos = eos.tolist()
    return Settings(
        config=config,
        sample=sample,
        eos_ids=frozenset() if eos is None else frozenset([eos] if isinstance(eos, int) else eos),
        max_new_tokens=config.max_new_tokens,
        max_length=config.max_length,
        copies=copies,
        processors=LogitsProcessorList(logits_processor or []),
        criteria=StoppingCriteriaList(stopping_criteria or []),
    )


def own_steps(settings: Settings, prompt_length: int, device: torch.device) -> LogitsProcessorList:
    """What changes the scores of one sequence by its tokens, in the order of transformers."""
    config, eos = settings.config, torch.tensor(sorted(settings.eos_ids), device=device)
    found = LogitsProcessorList()
    steps: Any = logits_process
    if config.sequence_bias is not None:
        found.append(steps.SequenceBiasLogitsProcessor(config.sequence_bias))
    if config.repetition_penalty not in (None, 1, 1.0):
        found.append(steps.RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
    if config.no_repeat_ngram_size:
        found.append(steps.NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.bad_words_ids is not None:
        found.append(steps.NoBadWordsLogitsProcessor(config.bad_words_ids, eos))
    if config.min_length and len(eos):
        found.append(steps.MinLengthLogitsProcessor(config.min_length, eos, device=device))
    if config.min_new_tokens and len(eos):
        found.append(steps.MinNewTokensLengthLogitsProcessor(prompt_length, config.min_new_tokens, eos, device=device))
    if config.remove_invalid_values:
        found.append(steps.InfNanRemoveLogitsProcessor())
    if config.suppress_tokens is not None:
        found.append(steps.SuppressTokensLogitsProcessor(config.suppress_tokens, device=device))
    found.extend(settings.processors)
    return found


def shared_steps(settings: Settings, device: torch.device) -> LogitsProcessorList:
    """What changes all scores alike before sampling, in the order of transformers; top_k is 50 unless it is set."""
    config, found = settings.config, LogitsProcessorList()
    steps: Any = logits_process
    if config.temperature not in (None, 1, 1.0):
        found.append(steps.TemperatureLogitsWarper(config.temperature))
    top_k = 50 if config.top_k is None else config.top_k
    if top_k:
        found.append(steps.TopKLogitsWarper(top_k))
    if config.top_p is not None and config.top_p < 1:
        found.append(steps.TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        found.append(steps.MinPLogitsWarper(config.min_p))
    if config.typical_p is not None and config.typical_p < 1:
        found.append(steps.TypicalLogitsWarper(config.typical_p))
    if config.epsilon_cutoff is not None and 0 < config.epsilon_cutoff < 1:
        found.append(steps.EpsilonLogitsWarper(config.epsilon_cutoff))
    if config.eta_cutoff is not None and 0 < config.eta_cutoff < 1:
        found.append(steps.EtaLogitsWarper(config.eta_cutoff, device=device))
    return found


@dataclass
class Running:
    """A sequence that is being continued: its tokens so far, and what is its own (rules, random numbers, end)."""

    index: int
    copy: int
    ids: list[int]
    prompt_length: int
    room: int
    rules: LogitsProcessorList
    random: torch.Generator | None

    @property
    def new(self) -> list[int]:
        """Tokens made so far."""
        return self.ids[self.prompt_length :]


class Sampler:
    """Takes the scores of several sequences and gives a token for each.

    A sampled sequence draws from a generator of its own, seeded by `seed`, the prompt's place and the copy's number, so that it does not
    depend on which others run beside it, except through rounding.
    """

    def __init__(self, settings: Settings, seed: int, device: torch.device) -> None:
        self.settings = settings
        self.seed = seed
        self.device = device
        self._shared = shared_steps(settings, device) if settings.sample else LogitsProcessorList()

    def start(self, index: int, copy: int, ids: Iterable[int], room: int) -> Running:
        """A new sequence."""
        random = None
        if self.settings.sample:
            mixed = (self.seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + copy * 0x94D049BB133111EB) % 2**63
            random = torch.Generator().manual_seed(mixed)
        tokens = [int(token) for token in ids]
        rules = own_steps(self.settings, len(tokens), self.device)
        return Running(index, copy, tokens, len(tokens), room, rules, random)

    def choose(self, logits: torch.Tensor, running: Sequence[Running]) -> list[int]:
        """logits (n, V) of n sequences -> n tokens."""
        scores = logits.float()
        if any(sequence.rules for sequence in running):
            parts = []
            for row, sequence in zip(torch.split(scores, 1), running, strict=True):
                rules: Any = sequence.rules
                parts.append(rules(torch.tensor([sequence.ids], device=scores.device), row) if rules else row)
            scores = torch.cat(parts)
        if not self.settings.sample:
            chosen: list[int] = scores.argmax(dim=-1).tolist()
            return chosen
        no_ids = torch.zeros(scores.shape[0], 0, dtype=torch.int64, device=scores.device)
        shared: Any = self._shared
        chances = torch.softmax(shared(no_ids, scores), dim=-1).cpu()
        # The smallest of exponential times over chances falls on token v with chance p_v.
        times = torch.stack([torch.empty(chances.shape[1]).exponential_(generator=s.random) for s in running])
        drawn: list[int] = (chances / times).argmax(dim=-1).tolist()
        return drawn

    def ended(self, sequence: Running) -> str | None:
        """'eos', 'stop' (a stopping criterion), 'length', or None to go on."""
        if sequence.ids[-1] in self.settings.eos_ids:
            return "eos"
        if self.settings.criteria:
            ids = torch.tensor([sequence.ids], device=self.device)
            if bool(torch.as_tensor(self.settings.criteria(ids, None)).all()):
                return "stop"
        return "length" if len(sequence.new) >= sequence.room else None

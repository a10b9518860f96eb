"""A model class for lm-evaluation-harness whose requests run packed.

    from lm_eval import simple_evaluate
    results = simple_evaluate(model=PackedLM("HuggingFaceTB/SmolLM2-135M"), tasks=["arc_easy"])

Importing this module also names it 'packed' in the harness's registry: `lm_eval --model packed --model_args pretrained=...` works where
the module is imported first. Needs `pip install lm-eval`; without it the class still answers requests of the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.prepacking.facts import inspect_model
from paperworks.papers.prepacking.generate import generate
from paperworks.papers.prepacking.score import perplexity, score_pairs
from paperworks.progress import Progress, silent

try:
    from lm_eval.api.model import TemplateLM as _Harness
    from lm_eval.api.registry import register_model as _register
except ImportError:  # the harness is not installed
    _Harness = object

    def _register(*names: str) -> Any:
        return lambda kind: kind


_Base: Any = _Harness  # it carries no types
NEW_TOKENS = 256  # where a request does not say how many; the harness's own default


@_register("packed")
class PackedLM(_Base):
    """Answers `loglikelihood`, `loglikelihood_rolling` and `generate_until` with packed passes.

    pretrained: a causal model, or the folder or hub name of one. tokenizer: needed with a model. max_tokens, backend: see
    `score.score_pairs`. add_bos: put the tokenizer's first token before every text (as HFLM's add_bos_token). device: where to run.
    batch_size, max_batch_size: taken since the harness passes them; packing needs none.
    """

    backend = "causal"

    def __init__(
        self,
        pretrained: Any,
        tokenizer: Any = None,
        *,
        max_tokens: int | None = None,
        route: str = "auto",
        add_bos: bool = False,
        device: str | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        progress: Progress = silent,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise InputError(f"PackedLM knows no argument {', '.join(sorted(unknown))}")
        if isinstance(pretrained, str | PathLike):
            from transformers import AutoModelForCausalLM, AutoTokenizer

            name = str(pretrained)
            pretrained = AutoModelForCausalLM.from_pretrained(name)
            tokenizer = tokenizer if tokenizer is not None else AutoTokenizer.from_pretrained(name)
        if tokenizer is None:
            raise InputError(f"a {type(pretrained).__name__} needs its tokenizer too: PackedLM(model, tokenizer)")
        if device is not None:
            pretrained.to(device)
        self.model = pretrained.eval()
        self.tokenizer = tokenizer
        self.facts = inspect_model(self.model)
        self.max_tokens = None if max_tokens is None else int(max_tokens)
        self.route = route
        self.add_bos = add_bos
        self.progress = progress

    # -- what the harness's base class asks for ---------------------------------------------------------------------

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        found: int | None = self.tokenizer.eos_token_id
        return 0 if found is None else found

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has nothing before it."""
        found: int | None = self.tokenizer.bos_token_id
        return self.eot_token_id if found is None else found

    @property
    def tokenizer_name(self) -> str:
        """Part of the name of the harness's request cache."""
        return str(getattr(self.tokenizer, "name_or_path", "")).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as one text."""
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids of a text, with the first token only where `add_bos` asks for it and the text has none yet."""
        ids: list[int] = self.tokenizer(string, add_special_tokens=False, verbose=False)["input_ids"]
        wanted = self.add_bos if add_special_tokens is None else add_special_tokens
        if wanted and self.tokenizer.bos_token_id is not None and ids[:1] != [self.tokenizer.bos_token_id]:
            ids = [self.tokenizer.bos_token_id, *ids]
        return list(ids)

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Spaces at the end of a context go to its continuation; nothing before means the prefix token."""
        if not context:
            ids = self.tok_encode(continuation, add_special_tokens=False)
            if ids[:1] == [self.prefix_token_id]:
                return ids[:1], ids[1:]
            return [self.prefix_token_id], ids
        bare = context.rstrip()
        whole = self.tok_encode(context + continuation)
        n_context = len(self.tok_encode(bare)) if bare else 0
        return whole[:n_context] or [self.prefix_token_id], whole[n_context:]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each (context, continuation): the log-probability and whether greedy decoding gives the continuation."""
        pairs = [request.args for request in requests]
        return self._loglikelihood_tokens([(pair, *self._pair(*pair)) for pair in pairs])

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        scores = score_pairs(
            self.model,
            [request[1] for request in requests],
            [request[2] for request in requests],
            cut_left=True,
            max_tokens=self.max_tokens,
            backend=self.route,
            progress=self.progress,
        )
        answers = [
            (float(logprob), bool(greedy)) for logprob, greedy in zip(scores.logprobs, scores.greedy, strict=True)
        ]
        self._keep("loglikelihood", [request[0] for request in requests], answers)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """For each (text,): the log-probability of all its tokens, the first after the prefix token, in windows of the model's length."""
        texts = [request.args for request in requests]
        ids = [np.asarray(self.tok_encode(text, add_special_tokens=False), dtype=np.int64) for (text,) in texts]
        found = perplexity(
            self.model,
            ids,
            bos_id=self.prefix_token_id,
            max_tokens=self.max_tokens,
            backend=self.route,
            progress=self.progress,
        )
        answers = [-float(value) for value in found.nll]
        self._keep("loglikelihood_rolling", texts, answers)
        return answers

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """For each (context, settings): the continuation up to the first of `until`. Requests with equal settings share their passes."""
        answers: list[str] = [""] * len(requests)
        alike: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            alike.setdefault(repr(sorted(request.args[1].items())), []).append(i)
        for members in alike.values():
            settings = dict(requests[members[0]].args[1])
            until = settings.pop("until", None) or []
            until = [until] if isinstance(until, str) else [stop for stop in until if stop]
            new = int(settings.pop("max_gen_toks", settings.pop("max_new_tokens", NEW_TOKENS)))
            settings.setdefault("do_sample", bool(settings.get("temperature")))
            if not settings["do_sample"]:
                settings.pop("temperature", None)
            prompts = [self._cut(self.tok_encode(requests[i].args[0]), new) for i in members]
            whole = generate(
                self.model,
                prompts,
                max_new_tokens=new,
                stopping_criteria=[_Until(self.tokenizer, until, prompts)] if until else None,
                **settings,
            )
            for i, prompt, ids in zip(members, prompts, whole, strict=True):
                text = self.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
                answers[i] = text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]
        self._keep("generate_until", [request.args for request in requests], answers)
        return answers

    def _cut(self, ids: list[int], new: int) -> list[int]:
        """The last tokens of a context, with room for the new ones; the prefix token for none."""
        ids = ids or [self.prefix_token_id]
        if self.facts.max_length is None:
            return ids
        room = self.facts.max_length - new
        if room < 1:
            raise InputError(
                f"{new} new tokens leave no room for a prompt in the model's {self.facts.max_length} positions"
            )
        return ids[-room:]

    def _keep(self, kind: str, requests: Sequence[Any], answers: Sequence[Any]) -> None:
        hook = getattr(self, "cache_hook", None)  # the harness's cache of answers
        if hook is not None:
            for request, answer in zip(requests, answers, strict=True):
                if request is not None:
                    hook.add_partial(kind, request, answer)


class _Until:
    """A stopping criterion: one of some texts stands in what was generated (the prompt does not count)."""

    def __init__(self, tokenizer: Any, until: Sequence[str], prompts: Sequence[Sequence[int]]) -> None:
        self.tokenizer = tokenizer
        self.until = until
        self.known = {np.asarray(prompt, dtype=np.int64).tobytes() for prompt in prompts}
        self.lengths = sorted({len(prompt) for prompt in prompts}, reverse=True)
        # a stop text of n letters ends within the last n tokens and the one before them
        self.tail = max(len(stop) for stop in until) + 1

    def __call__(self, input_ids: Any, scores: Any = None, **kwargs: Any) -> bool:
        ids = input_ids[0].detach().cpu().numpy().astype(np.int64)
        start = next((n for n in self.lengths if n < len(ids) and ids[:n].tobytes() in self.known), 0)
        text = self.tokenizer.decode(ids[max(start, len(ids) - self.tail) :], skip_special_tokens=True)
        return any(stop in text for stop in self.until)

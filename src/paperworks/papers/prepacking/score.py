"""How likely a model finds texts: `score` for continuations of prompts, `perplexity` for whole texts, both packed.

With log p(t_j | t_1 ... t_{j-1}) from the ordinary next-token logits, a continuation scores the sum over its own tokens. What several
sequences begin with in common (the question of a multiple-choice item, a few-shot header) is computed once (`prefix.py`).

Letters: `n` pairs or texts, `m` tokens that are scored, `V` vocabulary, `h` hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.prepacking.errors import PromptError
from paperworks.papers.prepacking.facts import ModelFacts, inspect_model
from paperworks.papers.prepacking.passes import has_plain_head, run_batch
from paperworks.papers.prepacking.prefix import shared_logits
from paperworks.papers.prepacking.prompts import read_prompts
from paperworks.papers.prepacking.routes import batches, default_tokens, switch
from paperworks.papers.prepacking.support import choose
from paperworks.papers.prepacking.texts import check_texts
from paperworks.progress import Progress, silent

_HEAD_ROWS = 512  # tokens whose logits are made at once: 100 MB at 49,152 words in float32


@dataclass(frozen=True)
class Scores:
    """Of n pairs, in their order.

    logprobs (n,) float64: natural logarithm of the probability of the whole continuation. n_tokens (n,): its tokens. greedy (n,) bool:
    whether every token is the most likely one. tokens: for each pair the logarithms token by token, float64 (m,).
    """

    logprobs: np.ndarray
    n_tokens: np.ndarray
    greedy: np.ndarray
    tokens: list[np.ndarray]


def score(model: nn.Module, prompts: Any, continuations: Any, **settings: Any) -> np.ndarray:
    """Log-probability of each continuation after its prompt, float64 (n,). The arguments are those of `score_pairs`.

    >>> from paperworks.papers.prepacking import toy
    >>> bool(score(toy.decoder(), [[5, 6], [5, 6]], [[7], [8, 9]])[0] < 0)
    True
    """
    return score_pairs(model, prompts, continuations, **settings).logprobs


def score_pairs(
    model: nn.Module,
    prompts: Any,
    continuations: Any,
    *,
    tokenizer: Any = None,
    bos_id: int | None = None,
    cut_left: bool = False,
    share: bool = True,
    max_tokens: int | None = None,
    backend: str = "auto",
    progress: Progress = silent,
) -> Scores:
    """Log-probabilities of continuations, each as if its sequence ran alone.

    prompts, continuations: n sequences of token ids each, or n texts each with a `tokenizer` (the pair is tokenised as one text and
    cut where the prompt's own tokens end; spaces at the end of a prompt are counted to the continuation).
    bos_id: the token in place of an empty prompt. cut_left: drop the first tokens of a sequence that is longer than the model's
    positions, instead of an error. share: compute common beginnings once (flat route only). max_tokens: tokens of one pass.
    Raises InputError that names the pair: an empty prompt without `bos_id`, an empty continuation, ids outside the vocabulary, a sequence that
    is too long. PackingNotSupported for a model that cannot be packed.
    """
    facts = _decoder(model)
    left, right = _pairs(facts, prompts, continuations, tokenizer, bos_id)
    sequences, firsts = [], []
    for i, (prompt, continuation) in enumerate(zip(left, right, strict=True)):
        whole = np.concatenate([prompt, continuation])
        limit = facts.max_length + 1 if facts.max_length is not None else len(whole)  # the last token is not run
        if len(whole) > limit and not cut_left:
            raise PromptError(
                f"pair {i} has {len(whole)} tokens, the model has positions for {limit - 1} and the last one; cut it, or pass cut_left=True",
                i,
            )
        if len(continuation) >= limit:
            raise PromptError(
                f"the continuation of pair {i} alone has {len(continuation)} tokens, too many for the model", i
            )
        sequences.append(whole[-limit:] if limit < len(whole) else whole)
        firsts.append(len(sequences[-1]) - len(continuation))
    room = default_tokens(facts) if max_tokens is None else max_tokens
    tokens: list[np.ndarray] = [np.zeros(0)] * len(sequences)
    greedy = np.zeros(len(sequences), dtype=bool)
    for done, (i, logprobs, best) in enumerate(_run(facts, sequences, firsts, room, backend, share), start=1):
        tokens[i], greedy[i] = logprobs, bool(best.all())
        progress(done, len(sequences), "continuations scored")
    return Scores(
        np.array([row.sum() for row in tokens], dtype=np.float64),
        np.array([len(row) for row in tokens], dtype=np.int64),
        greedy,
        tokens,
    )


@dataclass(frozen=True)
class Perplexity:
    """Of n texts, in their order: nll (n,) float64, the negative log-probability of each in nats, over n_tokens (n,) scored tokens."""

    nll: np.ndarray
    n_tokens: np.ndarray

    @property
    def each(self) -> np.ndarray:
        """The perplexity of each text, float64 (n,); not a number where nothing was scored."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: np.ndarray = np.exp(self.nll / self.n_tokens)
        return found

    @property
    def corpus(self) -> float:
        """The perplexity of all scored tokens together."""
        total = int(self.n_tokens.sum())
        return math.exp(float(self.nll.sum()) / total) if total else math.nan


def perplexity(
    model: nn.Module,
    texts: Sequence[Any],
    *,
    tokenizer: Any = None,
    bos_id: int | None = None,
    window: int | None = None,
    context: int | None = None,
    max_tokens: int | None = None,
    backend: str = "auto",
    progress: Progress = silent,
) -> Perplexity:
    """How surprised the model is by texts.

    texts: n texts with a `tokenizer`, or n sequences of ids. The first token has nothing before it and is not scored, unless `bos_id` is put
    in front. window: tokens of one pass of a long text, the model's positions by default; every later window begins with `context`
    tokens that are known already (1 by default; more is slower and closer to the truth).
    Raises InputError for wrong windows and for what is no text.
    """
    facts = _decoder(model)
    if tokenizer is not None:
        checked = check_texts(texts)
        rows = (
            [np.asarray(ids, dtype=np.int64) for ids in tokenizer(checked, verbose=False)["input_ids"]]
            if checked
            else []
        )
    else:
        rows = [np.asarray(row, dtype=np.int64) for row in _rows(texts)]
    longest = facts.max_length
    size = window if window is not None else longest
    if size is not None and (size < 1 or (longest is not None and size > longest)):
        raise InputError(f"window is 1 to {longest} tokens, the model's positions; got {size}")
    kept = 1 if context is None else context
    if kept < 1 or (size is not None and kept > size):
        raise InputError(f"context is 1 to {size} tokens, the window; got {kept}")
    sequences, firsts, owners = [], [], []
    for i, row in enumerate(rows):
        whole = row if bos_id is None else np.concatenate([[bos_id], row]).astype(np.int64)
        for start, first, stop in _windows(len(whole), size, kept):
            sequences.append(whole[start:stop])
            firsts.append(first - start)
            owners.append(i)
    read_prompts(sequences, facts=None)
    _known(facts, sequences, owners, "text")
    nll, n_tokens = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    room = default_tokens(facts) if max_tokens is None else max_tokens
    for done, (at, logprobs, _) in enumerate(_run(facts, sequences, firsts, room, backend, False), start=1):
        nll[owners[at]] -= logprobs.sum()
        n_tokens[owners[at]] += len(logprobs)
        progress(done, len(sequences), "texts scored")
    return Perplexity(nll, n_tokens)


def _windows(n_tokens: int, size: int | None, context: int) -> Iterator[tuple[int, int, int]]:
    """(start, first scored token, end) of the passes over a text of n tokens; each token but the first is scored once.

    A pass runs all of its tokens but the last, so it may hold `size` + 1.

    >>> list(_windows(10, 4, 2))
    [(0, 1, 5), (3, 5, 8), (6, 8, 10)]
    """
    if n_tokens < 2:
        return
    if size is None or n_tokens <= size + 1:
        yield 0, 1, n_tokens
        return
    yield 0, 1, size + 1
    scored = size + 1
    while scored < n_tokens:
        stop = min(n_tokens, scored + size + 1 - context)
        yield scored - context, scored, stop
        scored = stop


# -- one sequence after another -----------------------------------------------------------------------------------------


def _run(
    facts: ModelFacts, sequences: list[np.ndarray], firsts: list[int], max_tokens: int, backend: str, share: bool
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(i, log-probabilities of tokens first_i ... of sequence i, whether each is the likeliest), not in order."""
    if not sequences:
        return
    inputs = [sequence[:-1] for sequence in sequences]
    places = [np.arange(first - 1, len(ids)) for first, ids in zip(firsts, inputs, strict=True)]
    targets = [torch.from_numpy(sequence[first:]) for first, sequence in zip(firsts, sequences, strict=True)]
    route = choose(facts, backend)
    if share and route == "flat":
        for i, logits in shared_logits(facts, inputs, places, max_tokens=max_tokens):
            yield (i, *_scored(logits, targets[i]))
        return
    plain = has_plain_head(facts)
    with torch.inference_mode(), switch(facts, route):
        for batch in batches(inputs, facts, route, max_tokens):
            if plain:  # the logits of a whole row would be by far its largest tensor
                states = run_batch(facts, batch, "hidden").hidden or []
                for i, part in zip(batch.members, states, strict=True):
                    yield (i, *_through_head(facts, part[torch.from_numpy(places[i]).to(part.device)], targets[i]))
            else:
                logits_of = run_batch(facts, batch, [places[i] for i in batch.members]).logits or []
                for i, logits in zip(batch.members, logits_of, strict=True):
                    yield (i, *_scored(logits, targets[i]))


def _through_head(facts: ModelFacts, states: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states (m, h) -> as `_scored`, a block at a time."""
    model: Any = facts.model
    head = model.get_output_embeddings()
    parts = [
        _scored(head(states[at : at + _HEAD_ROWS]), targets[at : at + _HEAD_ROWS])
        for at in range(0, len(states), _HEAD_ROWS)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _scored(logits: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Logits (m, V) and ids (m,) -> log-probabilities float64 (m,), whether the id is the likeliest (m,)."""
    logits = logits.float()
    at = targets.to(logits.device)
    chosen = logits.gather(1, at[:, None])[:, 0]
    logprobs = chosen - torch.logsumexp(logits, dim=1)
    return logprobs.double().cpu().numpy(), (logits.argmax(dim=1) == at).cpu().numpy()


# -- what comes in ------------------------------------------------------------------------------------------------------


def _decoder(model: nn.Module) -> ModelFacts:
    facts = inspect_model(model)
    if not facts.causal or not facts.has_head:
        raise InputError(f"scoring needs a causal language model with its head, got {type(facts.model).__name__}")
    return facts


def _pairs(
    facts: ModelFacts, prompts: Any, continuations: Any, tokenizer: Any, bos_id: int | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if len(prompts) != len(continuations):
        raise InputError(
            f"every prompt has one continuation, got {len(prompts)} prompts and {len(continuations)} continuations"
        )
    if tokenizer is not None:
        split = [
            split_pair(tokenizer, *pair) for pair in zip(check_texts(prompts), check_texts(continuations), strict=True)
        ]
        prompts, continuations = [pair[0] for pair in split], [pair[1] for pair in split]
    left, right = [np.asarray(row) for row in _rows(prompts)], [np.asarray(row) for row in _rows(continuations)]
    for i, row in enumerate(right):
        if row.size == 0:
            raise PromptError(f"the continuation of pair {i} is empty; there is nothing to score", i)
        if left[i].size == 0:
            if bos_id is None:
                raise PromptError(
                    f"the prompt of pair {i} is empty; pass bos_id, the token that stands for 'nothing before'", i
                )
            left[i] = np.array([bos_id])
    left, right = read_prompts(left), read_prompts(right)
    _known(facts, left, range(len(left)), "pair")
    _known(facts, right, range(len(right)), "pair")
    return left, right


def split_pair(tokenizer: Any, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of a prompt and of what follows it, as the model sees the whole text.

    Spaces at the end of the prompt go to the continuation: most tokenizers join a space with the word after it.
    """
    bare = prompt.rstrip()
    whole = list(tokenizer(prompt + continuation, verbose=False)["input_ids"])
    n_prompt = len(tokenizer(bare, verbose=False)["input_ids"]) if bare else 0
    return whole[:n_prompt], whole[n_prompt:]


def _rows(prompts: Any) -> list[Any]:
    rows = list(prompts)
    if any(isinstance(row, str) for row in rows):
        raise InputError("texts need a tokenizer: pass tokenizer=..., or token ids")
    if any(isinstance(row, int | np.integer) for row in rows):
        raise InputError("expected a list of sequences of token ids, got one sequence; pass [ids]")
    return [row.detach().cpu().numpy() if isinstance(row, torch.Tensor) else row for row in rows]


def _known(facts: ModelFacts, rows: Sequence[np.ndarray], numbers: Sequence[int], what: str) -> None:
    for row, number in zip(rows, numbers, strict=True):
        if row.size and (row.min() < 0 or row.max() >= facts.n_vocab):
            bad = int(row.min()) if row.min() < 0 else int(row.max())
            raise PromptError(
                f"{what} {number} holds token id {bad}, outside the model's vocabulary of {facts.n_vocab}; is it the right tokenizer?",
                number,
            )

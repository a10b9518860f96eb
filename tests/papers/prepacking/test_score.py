"""Scores are the sums of the model's own log-probabilities, each sequence as if alone."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.prepacking import toy
from paperworks.papers.prepacking.score import _windows, perplexity, score, score_pairs, split_pair

RNG = np.random.default_rng(0)
PROMPTS = [ids.tolist() for ids in toy.prompts(RNG, [5, 1, 30, 12, 30, 30])]
PROMPTS[4] = PROMPTS[2]  # the same question with another answer
PROMPTS[5] = PROMPTS[2][:25] + PROMPTS[5][:3]
ANSWERS = [ids.tolist() for ids in toy.prompts(RNG, [3, 1, 7, 1, 2, 20])]
# log-probabilities of a size of about 10, 64 eps sqrt(3) each as in support.tolerance, up to 20 of them added
TOLERANCE = 20 * 10 * 64 * float(np.finfo(np.float32).eps) * 3**0.5


def by_hand(model: Any, prompt: list[int], answer: list[int]) -> tuple[list[float], bool]:
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + answer])).logits[0].double()
    logprobs = torch.log_softmax(logits, dim=-1)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    greedy = all(int(logits[place].argmax()) == token for place, token in zip(places, answer, strict=True))
    return [float(logprobs[place, token]) for place, token in zip(places, answer, strict=True)], greedy


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "qwen3"])
@pytest.mark.parametrize("settings", [{}, {"share": False}, {"backend": "mask"}, {"max_tokens": 20}], ids=str)
def test_scores_are_those_of_each_sequence_alone(architecture: str, settings: dict[str, Any]) -> None:
    model = toy.decoder(architecture)
    found = score_pairs(model, PROMPTS, ANSWERS, **settings)
    for i, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        expected, greedy = by_hand(model, prompt, answer)
        np.testing.assert_allclose(found.tokens[i], expected, atol=TOLERANCE)
        assert found.greedy[i] == greedy
        assert found.n_tokens[i] == len(answer)
    np.testing.assert_allclose(found.logprobs, [row.sum() for row in found.tokens])


def test_a_continuation_that_the_model_would_give_is_greedy() -> None:
    model = toy.decoder("llama")
    with torch.inference_mode():
        whole = model.generate(torch.tensor([PROMPTS[0]]), max_new_tokens=4, do_sample=False)[0].tolist()
    answer = whole[len(PROMPTS[0]) :]
    wrong = [*answer[:-1], (answer[-1] + 1) % toy.VOCABULARY]
    assert score_pairs(model, [PROMPTS[0]] * 2, [answer, wrong]).greedy.tolist() == [True, False]


def test_all_continuations_of_one_token_sum_to_one() -> None:
    found = score(toy.decoder("gpt2"), [[7, 8, 9]] * toy.VOCABULARY, [[token] for token in range(toy.VOCABULARY)])
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-5)


def test_texts_are_cut_where_the_prompts_tokens_end() -> None:
    tokenizer = toy.tokenizer("plain")
    assert split_pair(tokenizer, "one pass", " the cache") == (
        tokenizer("one pass")["input_ids"], tokenizer("the cache")["input_ids"],
    )  # fmt: skip
    model = toy.decoder("llama")
    texts = score(model, ["one pass ", "a mask"], ["the cache", " keeps"], tokenizer=tokenizer)
    ids = score(
        model,
        tokenizer(["one pass", "a mask"])["input_ids"],
        tokenizer(["the cache", "keeps"])["input_ids"],
    )
    np.testing.assert_allclose(texts, ids, atol=TOLERANCE)


def test_no_pairs_give_no_scores() -> None:
    assert score(toy.decoder(), [], []).shape == (0,)
    assert math.isnan(perplexity(toy.decoder(), []).corpus)


@pytest.mark.parametrize(
    ("prompts", "continuations", "settings", "words"),
    [
        ([[1]], [], {}, "1 prompts and 0 continuations"),
        ([[5], [5]], [[6], []], {}, "continuation of pair 1 is empty"),
        ([[5], []], [[6], [6]], {}, "prompt of pair 1 is empty; pass bos_id"),
        ([[5], [5]], [[6], [999]], {}, "pair 1 holds token id 999, outside the model's vocabulary of 199"),
        (["a"], ["b"], {}, "texts need a tokenizer"),
        ([5, 6], [7, 8], {}, r"got one sequence; pass \[ids\]"),
        ([[5] * 512], [[6, 7]], {}, "pair 0 has 514 tokens, the model has positions for 512"),
        ([[5]], [[6] * 600], {"cut_left": True}, "continuation of pair 0 alone has 600 tokens"),
        ([[5]], [[6]], {"backend": "fast"}, "backend must be"),
    ],
)
def test_pairs_that_cannot_be_scored_are_named(
    prompts: list[Any], continuations: list[Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        score(toy.decoder(), prompts, continuations, **settings)


def test_an_empty_prompt_stands_for_the_first_token_and_long_ones_are_cut_on_the_left() -> None:
    model = toy.decoder()
    np.testing.assert_allclose(score(model, [[]], [[6]], bos_id=1), score(model, [[1]], [[6]]), atol=TOLERANCE)
    long = toy.prompts(np.random.default_rng(2), [700])[0].tolist()
    found = score(model, [long], [[6, 7]], cut_left=True)
    np.testing.assert_allclose(found, score(model, [long[-511:]], [[6, 7]]), atol=TOLERANCE)


def test_an_encoder_cannot_score() -> None:
    with pytest.raises(InputError, match="causal language model with its head, got BertModel"):
        score(toy.encoder("bert"), [[5]], [[6]])


# -- perplexity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["flat", "mask", "padded"])
def test_perplexity_by_hand(backend: str) -> None:
    model = toy.decoder("llama")
    texts = [*PROMPTS, [9]]
    found = perplexity(model, texts, backend=backend)
    expected = [-sum(by_hand(model, text[:1], text[1:])[0]) for text in texts[:-1]] + [0]
    np.testing.assert_allclose(found.nll, expected, atol=2 * TOLERANCE)
    assert found.n_tokens.tolist() == [len(text) - 1 for text in texts]
    assert found.corpus == pytest.approx(math.exp(sum(expected) / found.n_tokens.sum()), rel=1e-5)
    assert found.each[2] == pytest.approx(math.exp(expected[2] / 29), rel=1e-5)
    assert math.isnan(found.each[1])


def test_a_token_in_front_lets_the_first_one_count() -> None:
    model = toy.decoder("gpt2")
    found = perplexity(model, [[5, 6, 7]], bos_id=1)
    np.testing.assert_allclose(found.nll, [-sum(by_hand(model, [1], [5, 6, 7])[0])], atol=TOLERANCE)


def test_long_texts_go_through_windows_with_context() -> None:
    """Every token is scored once, with at least `context` tokens before it, as a plain loop would do it."""
    model = toy.decoder("llama")
    text = toy.prompts(np.random.default_rng(3), [40])[0].tolist()
    found = perplexity(model, [text], window=16, context=4)
    expected = -sum(by_hand(model, text[:1], text[1:17])[0])
    for scored in range(17, 40, 13):
        expected -= sum(by_hand(model, text[scored - 4 : scored], text[scored : scored + 13])[0])
    assert found.nll[0] == pytest.approx(expected, abs=2 * TOLERANCE)
    assert found.n_tokens[0] == 39
    assert perplexity(model, [text * 20]).n_tokens[0] == 799  # longer than the model


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 20))
def test_windows_score_each_token_once_and_fit(n_tokens: int, size: int, context: int) -> None:
    context = min(context, size)
    scored: list[int] = []
    for start, first, stop in _windows(n_tokens, size, context):
        assert stop - start - 1 <= size
        assert first - start >= 1
        assert start == 0 or first - start == context
        scored += range(first, stop)
    assert scored == list(range(1, n_tokens))


def test_logits_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block at a time through the head, and the blocks give what the whole gives."""
    module = sys.modules["paperworks.papers.prepacking.score"]  # the package's `score` is the function
    model = toy.decoder("llama")
    whole = perplexity(model, PROMPTS)
    monkeypatch.setattr(module, "_HEAD_ROWS", 4)
    sizes: list[int] = []
    model.lm_head.register_forward_hook(lambda layer, args, out: sizes.append(out.shape[-2]))
    np.testing.assert_allclose(perplexity(model, PROMPTS).nll, whole.nll, atol=TOLERANCE)
    assert max(sizes) == 4


def test_windows_that_cannot_be_are_refused() -> None:
    for settings, words in (
        ({"window": 0}, "window is 1 to 512 tokens"),
        ({"window": 513}, "window is 1 to 512 tokens"),
        ({"window": 8, "context": 9}, "context is 1 to 8 tokens"),
    ):
        with pytest.raises(InputError, match=words):
            perplexity(toy.decoder(), [[5, 6]], **settings)
    with pytest.raises(InputError, match="text 0 is missing"):
        perplexity(toy.decoder(), [None], tokenizer=toy.tokenizer("plain"))

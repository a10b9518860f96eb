"""The small models and prompts that other tests rest on."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch

from paperworks.errors import InputError
from paperworks.papers.prepacking import toy


@pytest.mark.parametrize("architecture", toy.DECODERS)
def test_a_decoder_sees_what_came_before_and_is_the_same_each_time(architecture: str) -> None:
    """A changed first token must move the last logits by far more than rounding, or contamination would not be seen in tests."""
    ids = torch.tensor([[5, 6, 7, 8]])
    other = torch.tensor([[9, 6, 7, 8]])
    with torch.inference_mode():
        first, changed = (toy.decoder(architecture)(input_ids=row, use_cache=False).logits[0] for row in (ids, other))
        again = toy.decoder(architecture)(input_ids=ids, use_cache=False).logits[0]
        seeded = toy.decoder(architecture, seed=1)(input_ids=ids, use_cache=False).logits[0]
    assert torch.equal(first, again)
    assert float((first[-1] - changed[-1]).abs().max()) > 1e-2
    assert float((first - seeded).abs().max()) > 0.1
    assert first.shape == (4, toy.VOCABULARY)


@pytest.mark.parametrize("architecture", toy.ENCODERS)
def test_an_encoder_sees_what_comes_after(architecture: str) -> None:
    model = toy.encoder(architecture)
    with torch.inference_mode():
        first, changed = (model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in ([5, 6, 7], [5, 6, 9]))
    assert float((first[0] - changed[0]).abs().max()) > 1e-2


def test_making_a_model_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    toy.decoder()
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("kind", ["uniform", "log-uniform", "equal", "one-long"])
def test_lengths_keep_to_their_bounds_and_seed(kind: str) -> None:
    found = toy.lengths(np.random.default_rng(0), 500, kind, 3, 50)
    assert len(found) == 500
    assert found.min() >= 3
    assert found.max() == 50
    assert np.array_equal(found, toy.lengths(np.random.default_rng(0), 500, kind, 3, 50))


def test_log_uniform_lengths_are_mostly_short() -> None:
    found = toy.lengths(np.random.default_rng(0), 4000, "log-uniform", 16, 512)
    assert 80 < np.median(found) < 102  # the geometric mean of the bounds is 90.5
    assert found.mean() == pytest.approx(496 / np.log(32), rel=0.06)


def test_the_tokenizer_spells_unknown_words_and_pads_nothing_away() -> None:
    tokenizer = toy.tokenizer()
    assert tokenizer("Zebra packed rows!").tokens() == [
        "[CLS]", "Z", "e", "b", "r", "a", "packed", "rows", "!", "[SEP]",
    ]  # fmt: skip
    assert toy.tokenizer("plain")("one pass")["input_ids"] == tokenizer("one pass")["input_ids"][1:-1]
    assert toy.tokenizer("roberta").pad_token_id == 1


def test_names_that_are_not_there_are_refused() -> None:
    for make in (
        lambda: toy.decoder("gpt9"),
        lambda: toy.encoder("llama"),
        lambda: toy.tokenizer("bpe"),
        lambda: toy.lengths(np.random.default_rng(0), 3, "normal"),
        lambda: toy.lengths(np.random.default_rng(0), 3, "uniform", 9, 3),
    ):
        with pytest.raises(InputError):
            make()

"""Packed generation gives the tokens of `model.generate` prompt by prompt, whoever joins and leaves meanwhile."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, GPTNeoConfig, StoppingCriteria

from paperworks.errors import InputError
from paperworks.papers.prepacking.errors import PromptError
from paperworks.papers.prepacking.generate import generate, generate_stream

from .models import DECODERS, VOCAB, decoder, prompts

LENGTHS = (5, 1, 17, 5, 9, 1, 30, 2)


def one_by_one(model, batch, **settings):
    found = []
    for prompt in batch:
        mask = torch.ones(1, len(prompt), dtype=torch.int64)
        found.append(
            model.generate(prompt[None], attention_mask=mask, do_sample=False, pad_token_id=0, **settings)[0].tolist()
        )
    return found


@pytest.mark.parametrize("name", DECODERS)
def test_greedy_tokens_are_those_of_each_prompt_alone(name):
    model, batch = decoder(name), prompts(*LENGTHS)
    settings = {"max_new_tokens": 10, "eos_token_id": list(range(20, 26))}
    ours = generate(model, batch, max_batch=3, max_tokens=20, do_sample=False, **settings)
    assert [ids.tolist() for ids in ours] == one_by_one(model, batch, **settings)


@pytest.mark.parametrize(("max_batch", "max_tokens"), [(1, None), (2, 1), (8, 7), (100, None)])
def test_the_size_of_a_step_does_not_matter(max_batch, max_tokens):
    model, batch = decoder(), prompts(*LENGTHS, *LENGTHS)
    settings = {"max_new_tokens": 12, "eos_token_id": list(range(30, 38))}
    ours = generate(model, batch, max_batch=max_batch, max_tokens=max_tokens, **settings)
    assert [ids.tolist() for ids in ours] == one_by_one(model, batch, **settings)


def test_slots_of_very_different_lengths_are_continued_one_by_one():
    model, batch = decoder(seed=3), prompts(1, 100, 2)
    from paperworks.papers.prepacking import slots

    settings = {"max_new_tokens": 9, "eos_token_id": None}
    expected = one_by_one(model, batch, **settings)
    before, slots._LOOP_ABOVE = slots._LOOP_ABOVE, 8
    try:
        ours = generate(model, batch, **settings)
    finally:
        slots._LOOP_ABOVE = before
    assert [ids.tolist() for ids in ours] == expected


def test_bfloat16_differs_only_at_near_ties():
    """In half precision another order of addition may turn a near tie; the logits there differ by less than its rounding."""
    model, batch = decoder("llama", torch.bfloat16), prompts(*LENGTHS)
    ours = generate(model, batch, max_new_tokens=10, eos_token_id=None, max_batch=3)
    for ids, theirs, prompt in zip(
        ours, one_by_one(model, batch, max_new_tokens=10, eos_token_id=None), batch, strict=True
    ):
        for at in range(len(prompt), len(theirs)):
            if ids[at] != theirs[at]:
                logits = model(ids[None, :at]).logits[0, -1].float()
                assert logits.max() - logits[ids[at]] <= 0.1 * logits.abs().max()
                break


def test_prompts_join_as_others_finish():
    model = decoder()
    active, most = set(), 0

    def watch(index, copy, token):
        nonlocal most
        active.add(index)
        most = max(most, len(active))

    order = []
    stops = [2, 9, 2, 2, 2, 2]
    for result in generate_stream(
        model, prompts(4, 4, 4, 4, 4, 4), max_new_tokens=stops, max_batch=2, eos_token_id=None, on_token=watch
    ):
        order.append((result.index, len(result.new_ids), result.finish))
        active.discard(result.index)
    assert most == 2
    assert [index for index, _, _ in order] == [0, 2, 3, 4, 1, 5]
    assert {index: n for index, n, _ in order} == dict(enumerate(stops))


def test_an_endless_source_is_read_only_as_far_as_there_is_room():
    taken = itertools.count()
    source = (prompts(3, seed=next(taken))[0] for _ in itertools.count())
    stream = generate_stream(decoder(), source, max_new_tokens=2, max_batch=3, eos_token_id=None)
    assert [next(stream).index for _ in range(4)] == [0, 1, 2, 3]
    assert next(taken) <= 8


def test_sampling_repeats_and_does_not_depend_on_the_company():
    model, batch = decoder(), prompts(*LENGTHS)
    settings = {
        "max_new_tokens": 8,
        "do_sample": True,
        "temperature": 0.8,
        "top_p": 0.9,
        "top_k": 20,
        "eos_token_id": None,
    }
    first = generate(model, batch, seed=7, max_batch=2, **settings)
    again = generate(model, batch, seed=7, max_batch=8, **settings)
    other = generate(model, batch, seed=8, **settings)
    assert [ids.tolist() for ids in first] == [ids.tolist() for ids in again]
    assert [ids.tolist() for ids in first] != [ids.tolist() for ids in other]
    by_generator = [
        generate(model, batch, generator=torch.Generator().manual_seed(3), **settings)[0].tolist() for _ in range(2)
    ]
    assert by_generator[0] == by_generator[1]


def test_equal_prompts_are_continued_differently():
    """Each place has random numbers of its own: with 8 tokens of 97 a chance agreement does not happen."""
    (prompt,) = prompts(6)
    ours = generate(
        decoder(), [prompt] * 3, max_new_tokens=8, do_sample=True, temperature=3.0, top_k=0, seed=0, eos_token_id=None
    )
    assert len({tuple(ids.tolist()) for ids in ours}) == 3


def test_sampled_tokens_follow_the_model():
    """With top_k=2 only the two likeliest tokens appear, about as often as the model says (5 standard deviations of 600 draws)."""
    model, (prompt,) = decoder(), prompts(6)
    logits = model(prompt[None]).logits[0, -1].detach()
    best = logits.topk(2)
    chance = float(best.values.softmax(0)[0])
    drawn = generate(
        model,
        [prompt],
        max_new_tokens=1,
        do_sample=True,
        top_k=2,
        num_return_sequences=600,
        max_batch=600,
        seed=1,
        eos_token_id=None,
    )
    tokens = torch.tensor([int(ids[-1]) for ids in drawn])
    assert len(drawn) == 600
    assert set(tokens.tolist()) <= set(best.indices.tolist())
    share = float((tokens == best.indices[0]).float().mean())
    assert abs(share - chance) < 5 * (chance * (1 - chance) / 600) ** 0.5


def test_copies_stand_next_to_each_other():
    model, batch = decoder(), prompts(4, 7)
    ours = generate(
        model, batch, max_new_tokens=5, do_sample=True, num_return_sequences=3, seed=0, eos_token_id=None, max_batch=4
    )
    assert [len(ids) for ids in ours] == [9, 9, 9, 12, 12, 12]
    assert len({tuple(ids.tolist()) for ids in ours}) == 6


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.7},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 6, "eos_token_id": list(range(3, 60))},
        {"suppress_tokens": list(range(3, 50))},
        {"bad_words_ids": [[t] for t in range(40, 90)]},
        {"max_length": 35},
    ],
)
def test_rules_that_read_the_tokens_work_as_in_generate(settings):
    model, batch = decoder(), prompts(5, 1, 9)
    if "max_length" not in settings:
        settings = {"max_new_tokens": 8, **settings}
    settings = {"eos_token_id": None, **settings}
    ours = generate(model, batch, do_sample=False, **settings)
    assert [ids.tolist() for ids in ours] == one_by_one(model, batch, **settings)


def test_a_generation_config_and_the_models_own_are_read():
    model, batch = decoder(), prompts(5, 1)
    config = GenerationConfig(max_new_tokens=4, eos_token_id=[5, 6])
    ours = generate(model, batch, generation_config=config)
    assert [ids.tolist() for ids in ours] == one_by_one(model, batch, max_new_tokens=4, eos_token_id=[5, 6])
    assert config.do_sample is None
    model.generation_config.max_new_tokens = 3
    model.generation_config.eos_token_id = None
    assert [len(ids) for ids in generate(model, batch)] == [8, 4]
    assert [len(ids) for ids in generate(decoder(), batch, eos_token_id=None)] == [25, 21]


def test_stopping_criteria_see_one_sequence():
    class Even(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            assert input_ids.shape[0] == 1
            return torch.tensor([input_ids.shape[1] % 4 == 0])

    results = list(
        generate_stream(decoder(), prompts(5, 2), max_new_tokens=9, eos_token_id=None, stopping_criteria=[Even()])
    )
    assert sorted((len(r.ids), r.finish) for r in results) == [(4, "stop"), (8, "stop")]


def test_models_without_a_flat_route_generate_in_batches():
    config = GPTNeoConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global"], 2]],
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    model, batch = AutoModelForCausalLM.from_config(config).eval(), prompts(5, 1, 9)
    settings = {"max_new_tokens": 8, "eos_token_id": [3, 4, 5, 6, 7]}
    ours = generate(model, batch, max_batch=2, **settings)
    assert [ids.tolist() for ids in ours] == one_by_one(model, batch, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 4}, "num_beams"),
        ({"num_return_sequences": 2}, "do_sample"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"stop_strings": ["x"]}, "stop_strings"),
        ({"cache_implementation": "static"}, "cache_implementation"),
        ({"max_new_tokenz": 3}, "max_new_tokenz"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_new_tokens": [3]}, "max_new_tokens has 1"),
        ({"do_sample": True, "temperature": 0.0}, "temperature"),
    ],
)
def test_settings_that_it_does_not_have_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        generate(decoder(), prompts(3, 4), **settings)


def test_prompts_without_room_are_named():
    with pytest.raises(PromptError, match="prompt 1 has 125 tokens and may get 10 more"):
        generate(decoder(), prompts(3, 125), max_new_tokens=10)
    with pytest.raises(PromptError, match="prompt 1 is empty"):
        list(generate_stream(decoder(), [[3], []], max_new_tokens=2))
    with pytest.raises(PromptError, match="prompt 1 of 9 tokens may get 0"):
        generate(decoder(), prompts(3, 9), max_length=9)


def test_nothing_in_gives_nothing_out():
    assert generate(decoder(), [], max_new_tokens=3) == []

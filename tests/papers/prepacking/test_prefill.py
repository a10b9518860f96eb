"""Prefilled prompts have the logits, states and caches that they have alone, whatever the model, the route and their company."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paperworks.errors import InputError
from paperworks.papers.prepacking.cost import CostModel
from paperworks.papers.prepacking.errors import OutOfMemory, PackingNotSupported, PromptError
from paperworks.papers.prepacking.facts import inspect_model
from paperworks.papers.prepacking.prefill import prefill
from paperworks.papers.prepacking.support import tolerance

from .models import DECODERS, ENCODERS, VOCAB, decoder, encoder, prompts

LENGTHS = (5, 1, 17, 5, 9, 1, 30, 2)


def alone(model, batch):
    with torch.no_grad():
        return [model(prompt[None], use_cache=True) for prompt in batch]


def cache_of(output):
    return getattr(output, "cache", None) or output.past_key_values


def limit(model, reference):
    """An absolute bound from the relative one of the self-test: see `tolerance`."""
    return tolerance(inspect_model(model)) * max(float(states.abs().max()) for states in reference)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_last_logits_and_caches_are_those_of_the_prompt_alone(name, dtype):
    model, batch = decoder(name, dtype), prompts(*LENGTHS)
    single = alone(model, batch)
    pre = prefill(model, batch, max_tokens=40)
    assert pre.backend == "flat"
    assert pre.plan.n_rows >= 2
    expected = torch.stack([output.logits[0, -1] for output in single])
    torch.testing.assert_close(pre.logits, expected, rtol=0, atol=limit(model, [expected]))
    for i, output in enumerate(single):
        for ours, theirs in zip(pre.cache(i).layers, cache_of(output).layers, strict=True):
            assert type(ours) is type(theirs)
            torch.testing.assert_close(ours.keys, theirs.keys, rtol=0, atol=limit(model, [theirs.keys]))
            torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=limit(model, [theirs.values]))


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("backend", ["flat", "mask", "padded", "alone"])
def test_every_route_gives_the_logits_of_all_tokens(name, backend):
    model, batch = decoder(name), prompts(*LENGTHS)
    if backend == "mask" and name.endswith("sliding"):
        with pytest.raises(PackingNotSupported, match="sliding window"):
            prefill(model, batch, backend=backend)
        return
    expected = [output.logits[0] for output in alone(model, batch)]
    pre = prefill(model, batch, backend=backend, output="all", max_tokens=64)
    for ours, theirs in zip(pre.logits, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=limit(model, expected))


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_states_of_encoders_are_those_of_the_text_alone(name, dtype):
    model, batch = encoder(name, dtype), prompts(*LENGTHS)
    with torch.no_grad():
        expected = [model(prompt[None]).last_hidden_state[0] for prompt in batch]
    pre = prefill(model, batch, output="hidden", max_tokens=40)
    for ours, theirs in zip(pre.hidden, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=limit(model, expected))


def test_a_flat_row_gives_the_very_keys_of_the_prompt_alone_in_the_first_layer():
    model, batch = decoder(), prompts(8, 8, 8, 8)
    pre = prefill(model, batch, backend="flat")
    for i, output in enumerate(alone(model, batch)):
        torch.testing.assert_close(pre.layers(i)[0][0], cache_of(output).layers[0].keys[0], rtol=0, atol=1e-6)


def test_the_neighbours_do_not_matter():
    model, batch = decoder(), prompts(*LENGTHS)
    first = prefill(model, batch).logits[2]
    changed = [batch[2] if i == 2 else (prompt + 1) % VOCAB for i, prompt in enumerate(batch)]
    torch.testing.assert_close(prefill(model, changed).logits[2], first, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "mistral-sliding", "gemma2-sliding"])
@pytest.mark.parametrize("backend", ["flat", "padded"])
def test_generate_goes_on_from_the_unpacked_batch(name, backend):
    model, batch = decoder(name), prompts(5, 1, 9, 3)
    batch_of_all = prefill(model, batch, backend=backend, output="none").to_batch()
    assert batch_of_all.attention_mask.sum(1).tolist() == [5, 1, 9, 3]
    assert batch_of_all.position_ids[:, 0].tolist() == [4, 0, 8, 2]
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    ours = model.generate(batch_of_all.next_ids, **batch_of_all.arguments, **settings)
    for i, prompt in enumerate(batch):
        theirs = model.generate(prompt[None], attention_mask=torch.ones(1, len(prompt)), **settings)[0, len(prompt) :]
        assert ours[i, 1:].tolist() == theirs.tolist()


def test_generate_goes_on_from_the_cache_of_one_prompt():
    model, batch = decoder(), prompts(5, 9)
    pre = prefill(model, batch)
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    first = pre.logits[1].argmax()[None]
    ours = model.generate(torch.cat([batch[1], first])[None], cache=pre.cache(1), **settings | {"max_new_tokens": 7})
    assert ours[0].tolist() == model.generate(batch[1][None], **settings)[0].tolist()


def test_padded_input_with_its_mask_is_stripped_on_either_side():
    model, batch = decoder(), prompts(5, 2, 9)
    expected = prefill(model, batch).logits
    for side in ("left", "right"):
        ids, mask = torch.zeros(3, 9, dtype=torch.int32), torch.zeros(3, 9, dtype=torch.int64)
        for i, prompt in enumerate(batch):
            place = slice(9 - len(prompt), 9) if side == "left" else slice(0, len(prompt))
            ids[i, place], mask[i, place] = prompt.int(), 1
        assert torch.equal(prefill(model, ids, mask).logits, expected)
        assert torch.equal(prefill(model, {"input_ids": ids, "attention_mask": mask}).logits, expected)


def test_nothing_in_gives_nothing_out():
    pre = prefill(decoder(), [])
    assert len(pre) == 0
    assert pre.logits.shape == (0, VOCAB)
    with pytest.raises(InputError, match="no prompts"):
        pre.to_batch()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([[5, 6], []], "prompt 1 is empty"),
        ([[5, 6], [7] * 129], "prompt 1 has 129 tokens, the model has positions for 128"),
        ([[5, VOCAB]], f"prompt 0 holds token id {VOCAB}"),
        ([[5, -1]], "prompt 0 holds token id -1"),
        (torch.zeros(2, 3, dtype=torch.int64), "attention_mask"),
        ([[0, 0, 5], [6, 7, 8]], "prompt 0 begins with the pad token"),
        ([[5, 0, 0], [6, 7, 8]], "prompt 0 ends with the pad token"),
        ([5, 6, 7], "list of prompts"),
        (torch.tensor([5, 6]), "1-D"),
        (["hello"], "got text"),
        ([[5.5]], "integers"),
        ([torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64, device="meta")], "meta"),
        ({"ids": [[1]]}, "input_ids"),
    ],
)
def test_bad_prompts_are_named(batch, message):
    with pytest.raises(PromptError, match=message):
        prefill(decoder(), batch)


def test_a_hole_in_the_mask_is_an_error_that_says_where():
    with pytest.raises(PromptError, match="prompt 0 has a hole at position 2"):
        prefill(decoder(), [[5, 6, 7, 8]], [[1, 1, 0, 1]])
    with pytest.raises(PromptError, match="other than 0 and 1"):
        prefill(decoder(), [[5, 6]], [[1, 2]])
    with pytest.raises(PromptError, match="shape"):
        prefill(decoder(), [[5, 6]], [[1]])


def test_an_empty_prompt_may_stand_for_the_first_token():
    model = decoder()
    pre = prefill(model, [[5, 6], []], allow_empty=True, bos_id=1)
    assert torch.equal(pre.logits, prefill(model, [[5, 6], [1]]).logits)


def test_prompts_may_be_of_any_integer_kind_and_repeat():
    model = decoder()
    expected = prefill(model, [[5, 6, 7], [8]]).logits
    mixed = [np.array([5, 6, 7], dtype=np.int16), torch.tensor([8], dtype=torch.int32)]
    assert torch.equal(prefill(model, mixed).logits, expected)
    twice = prefill(model, [[5, 6, 7]] * 3).logits
    assert torch.equal(twice[0], twice[1])


def test_wrong_settings_are_refused():
    model = decoder()
    with pytest.raises(InputError, match="backend"):
        prefill(model, [[5]], backend="fast")
    with pytest.raises(InputError, match="max_tokens"):
        prefill(model, [[5]], max_tokens=0)
    with pytest.raises(InputError, match="output"):
        prefill(model, [[5]], output="first")
    with pytest.raises(InputError, match="no language-model head"):
        prefill(encoder(), [[5]])
    with pytest.raises(InputError, match="not kept"):
        prefill(model, [[5]], keep_cache=False).cache(0)
    with pytest.raises(InputError, match="training mode"):
        prefill(decoder().train(), [[5]])
    with pytest.raises(InputError, match="meta"):
        prefill(decoder().to("meta"), [[5]])


def test_weights_on_two_devices_without_a_map_are_refused():
    model = decoder()
    model.lm_head.to("meta")
    with pytest.raises(InputError, match="meta"):
        prefill(model, [[5]])


def test_a_pass_that_does_not_fit_says_which_size_to_try():
    model, batch = decoder(), prompts(20, 20)
    prefill(model, batch)

    def fail(*args, **kwargs):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
        )

    model.model.layers[1].mlp.forward = fail
    with pytest.raises(OutOfMemory, match="max_tokens=20"):
        prefill(model, batch)
    assert model.config._attn_implementation == "sdpa"


def test_progress_counts_tokens_up_to_the_total():
    seen = []
    prefill(
        decoder(),
        prompts(*LENGTHS),
        max_tokens=32,
        progress=lambda done, total=None, note="": seen.append((done, total)),
    )
    assert seen[-1] == (sum(LENGTHS), sum(LENGTHS))
    assert len(seen) >= 2


def test_a_cost_model_chooses_route_and_size():
    model, batch = decoder(), prompts(10, 10, 9, 11)
    expected = prefill(model, batch).logits
    dear = CostModel(call=1e-3, token=1e-4, pair=1e-8, segment=1.0, token_by_size=((16, 1e-4), (64, 1e-4)))
    cheap = CostModel(call=1e-3, token=1e-4, pair=1e-8, segment=0.0, token_by_size=((16, 1e-4), (64, 1e-4)))
    padded, flat = prefill(model, batch, cost=dear), prefill(model, batch, cost=cheap)
    assert (padded.backend, flat.backend, flat.plan.n_rows) == ("padded", "flat", 1)
    torch.testing.assert_close(padded.logits, expected, rtol=0, atol=1e-4)
    assert prefill(model, batch, cost=dear, backend="flat").backend == "flat"

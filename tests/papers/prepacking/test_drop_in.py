"""Padded code gets the numbers of unpadded prompts, and the model is as before afterwards."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from paperworks.papers.prepacking.drop_in import prepacked
from paperworks.papers.prepacking.model import prepack
from paperworks.papers.prepacking.prefill import prefill

from .models import DECODERS, VOCAB, decoder, encoder, prompts


def padded(batch, side="left"):
    width = max(len(prompt) for prompt in batch)
    ids, mask = torch.zeros(len(batch), width, dtype=torch.int64), torch.zeros(len(batch), width, dtype=torch.int64)
    for i, prompt in enumerate(batch):
        place = slice(width - len(prompt), width) if side == "left" else slice(0, len(prompt))
        ids[i, place], mask[i, place] = prompt, 1
    return ids, mask


def watch(model):
    """Count the tokens that the first layer's norm sees."""
    seen = []
    model.model.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args or [kwargs["hidden_states"]])[0].shape[:2]), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma2-sliding"])
def test_a_padded_call_gives_the_logits_of_each_prompt(name, side):
    model, batch = decoder(name), prompts(5, 1, 9, 3)
    ids, mask = padded(batch, side)
    with torch.no_grad(), prepacked(model):
        logits = model(ids, attention_mask=mask).logits
    expected = prefill(model, batch, backend="alone", output="all").logits
    for i, reference in enumerate(expected):
        torch.testing.assert_close(logits[i][mask[i] == 1], reference, rtol=0, atol=1e-4 * float(reference.abs().max()))


def test_pads_are_not_computed():
    model = decoder()
    ids, mask = padded(prompts(5, 1, 9, 3))
    with torch.no_grad(), prepacked(model):
        seen = watch(model)
        model(ids, attention_mask=mask)
    assert [tuple(shape) for shape in seen] == [(1, 18)]


@pytest.mark.parametrize("name", DECODERS)
def test_generate_inside_the_block_is_exact(name):
    model, batch = decoder(name), prompts(5, 1, 9, 3)
    ids, mask = padded(batch)
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with prepacked(model):
        ours = model.generate(ids, attention_mask=mask, **settings)[:, ids.shape[1] :]
    for i, prompt in enumerate(batch):
        alone = model.generate(prompt[None], attention_mask=torch.ones(1, len(prompt)), **settings)[0, len(prompt) :]
        assert ours[i].tolist() == alone.tolist()


def test_encoders_keep_their_pooler_and_heads():
    model, batch = encoder("bert"), prompts(5, 1, 9, 3)
    ids, mask = padded(batch, "right")
    types = torch.randint(0, 2, ids.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, token_type_ids=types)
        with prepacked(model):
            ours = model(ids, attention_mask=mask, token_type_ids=types)
    torch.testing.assert_close(ours.pooler_output, expected.pooler_output, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        ours.last_hidden_state[mask == 1], expected.last_hidden_state[mask == 1], rtol=0, atol=1e-4
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    head = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        expected = head(ids, attention_mask=mask).logits
        with prepacked(head):
            assert head.bert.forward.__wrapped__ is not None
            torch.testing.assert_close(head(ids, attention_mask=mask).logits, expected, rtol=0, atol=1e-5)


def test_the_model_is_as_before_after_nested_blocks_and_errors():
    model = decoder()
    with pytest.raises(ZeroDivisionError), prepacked(model), prepacked(model):
        1 / 0  # noqa: B018
    assert "forward" not in vars(model.model)
    assert model.config._attn_implementation == "sdpa"


def test_gradients_flow():
    model, batch = decoder(), prompts(5, 2)
    ids, mask = padded(batch)
    with prepacked(model):
        model(ids, attention_mask=mask).logits[:, -1].sum().backward()
    ours = model.model.embed_tokens.weight.grad.clone()
    model.zero_grad()
    sum(model(prompt[None]).logits[0, -1].sum() for prompt in batch).backward()
    torch.testing.assert_close(ours, model.model.embed_tokens.weight.grad, rtol=1e-3, atol=1e-3)


def test_prepack_keeps_the_choice_and_measures_on_request():
    model, batch = decoder(), prompts(5, 1, 9)
    packed = prepack(model, calibrate_s=0.2)
    assert packed.backend == "flat"
    assert packed.cost is not None
    torch.testing.assert_close(packed.prefill(batch).logits, prefill(model, batch).logits, rtol=0, atol=1e-4)
    assert [len(ids) for ids in packed.generate(batch, max_new_tokens=2, eos_token_id=None)] == [7, 3, 11]
    assert sorted(r.index for r in packed.generate_stream(batch, max_new_tokens=2)) == [0, 1, 2]
    assert packed.check(["mask"])["mask"].works
    assert "ms predicted" in packed.plan(batch).explain(packed.cost)
    assert prepack(model, backend="mask").prefill(batch).backend == "mask"
    assert "LlamaForCausalLM" in repr(packed)

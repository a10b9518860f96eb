"""The attention of flat rows: segments see themselves only, and the model has its own attention again afterwards."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BloomConfig,
    GPTNeoConfig,
    MambaConfig,
    MPNetConfig,
    MptConfig,
    T5Config,
)

from paperworks.papers.prepacking.attention import NAME, Segments, attend, flat, segments, using
from paperworks.papers.prepacking.errors import PackingNotSupported
from paperworks.papers.prepacking.packing import flatten
from paperworks.papers.prepacking.prefill import prefill
from paperworks.papers.prepacking.support import check

from .models import VOCAB, decoder, encoder, prompts


class Layer(torch.nn.Module):
    is_causal = True


def dense(query, key, value, mask):
    """Attention by the formula, in float64."""
    key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1).double() for t in (key, value))
    scores = query.double() @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    return (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("prefix", [0, 4])
@pytest.mark.parametrize("lengths", [(1,), (6, 6, 6), (5, 1, 1, 7, 2, 2)])
def test_segments_are_blocks_of_the_dense_mask(causal, window, prefix, lengths):
    total = sum(lengths)
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(1, 6, total, 8, generator=generator)
    key, value = (torch.randn(1, 2, prefix + total, 8, generator=generator) for _ in range(2))
    mask = torch.zeros(total, prefix + total, dtype=torch.bool)
    start = 0
    for length in lengths:
        for q in range(length):
            seen = [*range(prefix), *range(prefix + start, prefix + start + length)]
            for at, k in enumerate(seen):
                distance = prefix + q - at
                if (distance >= 0 or not causal) and (window is None or abs(distance) < window):
                    mask[start + q, k] = True
        start += length
    out, _ = attend(
        Layer(), query, key, value, None, is_causal=causal, segments=Segments(lengths, prefix), sliding_window=window
    )
    torch.testing.assert_close(out.double(), dense(query, key, value, mask), rtol=0, atol=2e-6)


def test_equal_neighbours_share_a_call(monkeypatch):
    calls = []

    def counted(query, *args, **kwargs):
        calls.append(tuple(query.shape))
        return scaled_dot_product_attention(query, *args, **kwargs)

    monkeypatch.setattr("paperworks.papers.prepacking.attention.scaled_dot_product_attention", counted)
    row = torch.randn(1, 2, 11, 4)
    attend(Layer(), row, row, row, None, segments=Segments((3, 3, 3, 2)))
    assert calls == [(3, 2, 3, 4), (1, 2, 2, 4)]


def test_the_trap_of_restarting_positions_with_a_cache_is_avoided():
    model, batch = decoder(), prompts(5, 6)
    ids, positions, lengths = flatten(batch)
    with torch.no_grad():
        alone = model(batch[1][None]).logits[0]
        leaking = model(input_ids=ids, position_ids=positions, use_cache=True).logits[0, 5:]
        with flat(model):
            ours = model(input_ids=ids, position_ids=positions, use_cache=True, **segments(lengths)).logits[0, 5:]
    assert (leaking - alone).abs().max() > 0.1
    torch.testing.assert_close(ours, alone, rtol=0, atol=1e-4)


def test_attention_is_restored_after_an_error():
    model = decoder()
    seen = []

    def fail(*args, **kwargs):
        seen.append(model.config._attn_implementation)
        raise RuntimeError("on purpose")

    model.model.layers[1].mlp.forward = fail
    with pytest.raises(RuntimeError, match="on purpose"), flat(model):
        model(torch.tensor([[5, 6]]))
    assert seen == [NAME]
    assert model.config._attn_implementation == "sdpa"


def test_blocks_nest_and_the_last_restores():
    model = decoder()
    model.set_attn_implementation("eager")
    with flat(model):
        with flat(model):
            pass
        assert model.config._attn_implementation == NAME
        with pytest.raises(PackingNotSupported, match="just now"), using(model, "sdpa"):
            pass
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("before", ["sdpa", "eager"])
def test_ordinary_calls_inside_the_block_are_ordinary(before):
    model = decoder("gemma2-sliding" if before == "eager" else "llama")
    ids = torch.stack(prompts(9, 9))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        expected = model(ids, attention_mask=mask).logits
        with flat(model):
            inside = model(ids, attention_mask=mask).logits
    assert torch.equal(inside[mask == 1], expected[mask == 1])


def test_threads_share_a_model():
    model = decoder()
    batches = [prompts(3, 9, 1, seed=1), prompts(20, 2, seed=2), prompts(7, 7, 7, seed=3), prompts(1, 1, seed=4)]
    expected = [prefill(model, batch).logits for batch in batches]
    plain = model(batches[0][0][None]).logits
    wrong: list[int] = []

    def packed(which):
        wrong.extend(
            which for _ in range(15) if not torch.equal(prefill(model, batches[which]).logits, expected[which])
        )

    def ordinary():
        wrong.extend(-1 for _ in range(40) if not torch.equal(model(batches[0][0][None]).logits, plain))

    threads = [threading.Thread(target=packed, args=(i,)) for i in range(4)] + [threading.Thread(target=ordinary)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BloomConfig(vocab_size=VOCAB, hidden_size=48, n_layer=2, n_head=4), "ALiBi"),
        (MptConfig(vocab_size=VOCAB, d_model=48, n_layers=2, n_heads=4), "ALiBi"),
        (MambaConfig(vocab_size=VOCAB, hidden_size=48, num_hidden_layers=2, state_size=8), "leak into each other"),
        (
            MPNetConfig(vocab_size=VOCAB, hidden_size=48, num_hidden_layers=2, num_attention_heads=4),
            "relative positions",
        ),
        (T5Config(vocab_size=VOCAB, d_model=48, num_layers=1, num_heads=4), "encoder-decoder"),
    ],
)
def test_models_that_cannot_be_packed_are_refused_with_the_reason(config, reason):
    kind = AutoModel if config.model_type in ("mpnet", "t5") else AutoModelForCausalLM
    with pytest.raises(PackingNotSupported, match=reason):
        prefill(kind.from_config(config).eval(), [[5, 6]], output="hidden")


def test_a_model_with_attention_code_of_its_own_takes_the_masked_route():
    config = GPTNeoConfig(
        vocab_size=VOCAB, hidden_size=48, num_layers=2, num_heads=4, attention_types=[[["global"], 2]]
    )
    model, batch = AutoModelForCausalLM.from_config(config).eval(), prompts(5, 1, 9)
    pre = prefill(model, batch)
    assert pre.backend == "mask"
    expected = torch.stack([model(prompt[None]).logits[0, -1] for prompt in batch])
    torch.testing.assert_close(pre.logits, expected, rtol=0, atol=1e-5)


def test_a_model_that_leaks_is_found_out():
    """A layer that mixes neighbouring tokens passes no check of the configuration; running it shows the leak."""
    model = decoder()
    attention = model.model.layers[0].mlp
    own = attention.forward
    attention.forward = lambda x: own(x) + torch.roll(x, 1, dims=1)
    result = check(model, ["flat", "mask"])
    assert not result["flat"].works
    assert "see each other" in result["flat"].reason
    with pytest.raises(PackingNotSupported, match="see each other"):
        prefill(model, prompts(3, 4), backend="flat")


def test_check_names_every_route_and_its_deviation():
    result = check(decoder())
    assert all(result[name].works for name in ("flat", "mask", "padded", "alone"))
    assert result["alone"].largest_difference == 0
    assert all(r.largest_difference <= r.tolerance for r in result.values())
    assert check(encoder())["flat"].works


@pytest.mark.slow
def test_flex_attention_gives_the_same_numbers():
    model, batch = decoder(), prompts(5, 1, 9)
    expected = prefill(model, batch, backend="alone").logits
    torch.testing.assert_close(prefill(model, batch, backend="flex").logits, expected, rtol=0, atol=1e-4)
    assert model.config._attn_implementation == "sdpa"


def test_a_route_that_is_not_installed_says_so():
    with pytest.raises(PackingNotSupported, match="flash"):
        prefill(decoder(), prompts(3), backend="fa")


def test_lora_is_active():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        decoder(), peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    ).eval()
    batch = prompts(5, 1, 9)
    expected = torch.stack([model(prompt[None]).logits[0, -1] for prompt in batch])
    with model.disable_adapter():
        without = prefill(model, batch).logits
    ours = prefill(model, batch).logits
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
    assert (without - expected).abs().max() > 1e-2


def test_soft_prompts_are_refused():
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    with pytest.raises(PackingNotSupported, match="virtual tokens"):
        prefill(peft.get_peft_model(decoder(), config).eval(), prompts(3))


def test_compiled_models_run_uncompiled():
    batch = prompts(5, 1, 9)
    expected = prefill(decoder(), batch).logits
    assert torch.equal(prefill(torch.compile(decoder(), backend="eager"), batch).logits, expected)
    inside = decoder()
    inside.compile(backend="eager")
    assert torch.equal(prefill(inside, batch).logits, expected)

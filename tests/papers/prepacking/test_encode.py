"""Packed vectors are those of each text alone, whatever the model, the window or the neighbours."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError, PaperworksError
from paperworks.papers.prepacking import toy
from paperworks.papers.prepacking.encode import PackedEncoder, encode
from paperworks.papers.prepacking.errors import PackingNotSupported
from paperworks.papers.prepacking.pooling import pool
from paperworks.papers.prepacking.stream import ahead

TEXTS = toy.texts(np.random.default_rng(0), 40)
# Sums of some tens of products in another order, two layers: 64 eps sqrt(3) of numbers of about 3, as in support.tolerance.
TOLERANCE = 64 * float(np.finfo(np.float32).eps) * 3**0.5 * 3


@pytest.fixture(scope="module")
def bert() -> PackedEncoder:
    return PackedEncoder(toy.encoder("bert"), toy.tokenizer(), max_tokens=128)


def alone(packed: PackedEncoder, texts: list[str]) -> np.ndarray:
    """Each text by itself, by the plain forward pass."""
    rows = []
    for text in texts:
        ids = packed.tokenizer(text, truncation=True, max_length=packed.max_length, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            states = packed.model(input_ids=ids).last_hidden_state[0]
        rows.append(pool(states, packed.modes).numpy())
    return np.array(rows)


@pytest.mark.parametrize("architecture", toy.ENCODERS)
@pytest.mark.parametrize("pooling", ["mean", "cls", ("last", "max")])
def test_an_encoder_gives_what_it_gives_alone(architecture: str, pooling: str) -> None:
    tokenizer = toy.tokenizer("roberta" if architecture == "roberta" else "bert")
    packed = PackedEncoder(toy.encoder(architecture), tokenizer, pooling=pooling, max_tokens=100)
    found = packed.encode(TEXTS)
    assert packed.backend == "flat"
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, alone(packed, TEXTS), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3"])
def test_a_decoder_embeds_with_its_last_token(architecture: str) -> None:
    model = toy.decoder(architecture)
    packed = PackedEncoder(model.base_model, toy.tokenizer("plain"), pooling="last", max_tokens=100)
    np.testing.assert_allclose(packed.encode(TEXTS), alone(packed, TEXTS), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("backend", ["flat", "mask", "padded", "alone"])
def test_every_route_gives_the_same_vectors(bert: PackedEncoder, backend: str) -> None:
    other = PackedEncoder(bert.model, bert.tokenizer, backend=backend, max_tokens=128)
    np.testing.assert_allclose(other.encode(TEXTS), bert.encode(TEXTS), atol=TOLERANCE, rtol=0)


@settings(max_examples=25)
@given(st.permutations(range(12)), st.integers(1, 13), st.integers(1, 300))
def test_order_window_and_row_size_do_not_matter(order: list[int], window: int, max_tokens: int) -> None:
    packed = PackedEncoder(_MODEL, _TOKENIZER, max_tokens=max_tokens)
    texts = [TEXTS[i] for i in order]
    np.testing.assert_allclose(packed.encode(texts, window=window), _REFERENCE[order], atol=TOLERANCE, rtol=0)


_MODEL, _TOKENIZER = toy.encoder("bert"), toy.tokenizer()
_REFERENCE = alone(PackedEncoder(_MODEL, _TOKENIZER), TEXTS[:12])


def test_bfloat16_stays_within_its_precision() -> None:
    tokenizer = toy.tokenizer()
    packed = PackedEncoder(toy.encoder("bert", dtype=torch.bfloat16), tokenizer)
    exact = PackedEncoder(toy.encoder("bert"), tokenizer).encode(TEXTS)
    found = packed.encode(TEXTS)
    assert found.dtype == np.float32
    cosines = (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.99


# -- what an encode function is expected to do --------------------------------------------------------------------------


def test_one_text_gives_one_vector_and_none_gives_no_rows(bert: PackedEncoder) -> None:
    assert bert.encode(TEXTS[0]).shape == (32,)
    assert bert.encode([]).shape == (0, 32)
    assert torch.equal(bert.encode(TEXTS[:3], convert_to_tensor=True), torch.from_numpy(bert.encode(TEXTS[:3])))
    assert encode(bert.model, bert.tokenizer, TEXTS[:2], pooling="cls").shape == (2, 32)


def test_arrays_and_columns_of_texts_are_taken(bert: PackedEncoder) -> None:
    expected = bert.encode(TEXTS)
    assert np.array_equal(bert.encode(np.array(TEXTS)), expected)
    pandas = pytest.importorskip("pandas")
    assert np.array_equal(bert.encode(pandas.Series(TEXTS, index=range(100, 140))), expected)


def test_vectors_are_normalised_on_demand(bert: PackedEncoder) -> None:
    plain = bert.encode(TEXTS)
    unit = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(bert.encode(TEXTS, normalize_embeddings=True), unit, atol=1e-6)
    always = PackedEncoder(bert.model, bert.tokenizer, normalize=True)
    np.testing.assert_allclose(always.encode(TEXTS), unit, atol=1e-6)


def test_texts_are_cut_at_max_length(bert: PackedEncoder) -> None:
    short = PackedEncoder(bert.model, bert.tokenizer, max_length=10)
    assert max(len(ids) for ids in short.tokenize(TEXTS).ids) == 10
    assert short.tokenize(TEXTS).ids[3][-1] == 2  # the closing token stays
    np.testing.assert_allclose(short.encode(TEXTS), alone(short, TEXTS), atol=TOLERANCE, rtol=0)
    assert PackedEncoder(toy.encoder(), toy.tokenizer(max_tokens=99)).max_length == 99
    assert PackedEncoder(toy.encoder("roberta"), toy.tokenizer(max_tokens=9999)).max_length == 512


def test_a_prompt_is_put_in_front_and_can_be_left_out_of_the_pooling(bert: PackedEncoder) -> None:
    named = PackedEncoder(bert.model, bert.tokenizer, prompts={"query": "reads one "}, default_prompt_name="query")
    expected = bert.encode(["reads one " + text for text in TEXTS])
    np.testing.assert_allclose(named.encode(TEXTS), expected, atol=TOLERANCE)
    np.testing.assert_allclose(bert.encode(TEXTS, prompt="reads one "), expected, atol=TOLERANCE)
    assert named.resolve_prompt(prompt="") == ""
    named.include_prompt = False
    assert named.tokenize(["a"], "reads one ").n_prompt == 3  # [CLS] reads one
    assert np.abs(named.encode(TEXTS) - expected).max() > 0.01
    with pytest.raises(InputError, match="no prompt 'other'; there are query"):
        named.encode(TEXTS, prompt_name="other")


@pytest.mark.parametrize("kind", ["mean", "cls", "lasttoken", "weightedmean", "max", "mean_sqrt_len_tokens"])
def test_it_agrees_with_sentence_transformers(kind: str, tmp_path: Path) -> None:
    """Same vectors from the object and, without that library, from its saved folder; prompts in and out of the pooling."""
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules

    toy.encoder("bert").save_pretrained(tmp_path / "plain")
    toy.tokenizer(max_tokens=48).save_pretrained(tmp_path / "plain")
    parts = [
        modules.Transformer(str(tmp_path / "plain"), max_seq_length=48),
        modules.Pooling(32, pooling_mode=kind, include_prompt=False),
        modules.Normalize(),
    ]
    reference = library.SentenceTransformer(modules=parts, prompts={"query": "reads one "}, device="cpu")
    reference.save(str(tmp_path / "saved"))
    for packed in (PackedEncoder(reference), PackedEncoder(tmp_path / "saved"), PackedEncoder(str(tmp_path / "saved"))):
        for name in (None, "query"):
            expected = reference.encode(TEXTS, prompt_name=name)
            np.testing.assert_allclose(packed.encode(TEXTS, prompt_name=name), expected, atol=2e-6)


def test_further_layers_of_a_sentence_transformer_are_applied(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules

    toy.encoder("bert").save_pretrained(tmp_path)
    toy.tokenizer().save_pretrained(tmp_path)
    parts = [modules.Transformer(str(tmp_path)), modules.Pooling(32), modules.Dense(32, 7), modules.Normalize()]
    reference = library.SentenceTransformer(modules=parts, device="cpu")
    packed = PackedEncoder(reference)
    assert packed.dims == 7
    np.testing.assert_allclose(packed.encode(TEXTS), reference.encode(TEXTS), atol=2e-6)


# -- streams ------------------------------------------------------------------------------------------------------------


def test_a_stream_gives_the_same_and_is_read_only_a_few_windows_ahead(bert: PackedEncoder) -> None:
    taken = 0

    def stream() -> Iterator[str]:
        nonlocal taken
        for i in itertools.count():
            taken += 1
            yield TEXTS[i % len(TEXTS)]

    vectors = bert.encode_iter(stream(), window=4, queued=2)
    expected = bert.encode(TEXTS)
    for i, vector in enumerate(itertools.islice(vectors, 30)):
        np.testing.assert_allclose(vector, expected[i % len(TEXTS)], atol=TOLERANCE)
        assert taken <= i + 1 + 4 * (2 + 3)
    before = {thread.name for thread in threading.enumerate()}
    assert "paperworks-read-ahead" in before
    vectors.close()  # type: ignore[attr-defined]
    assert "paperworks-read-ahead" not in {thread.name for thread in threading.enumerate()}


def test_an_error_in_the_stream_comes_at_its_place(bert: PackedEncoder) -> None:
    def stream() -> Iterator[str]:
        yield from TEXTS[:6]
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        found.extend(bert.encode_iter(stream(), window=3))
    assert len(found) == 6


@given(st.lists(st.integers(), max_size=30), st.integers(1, 4))
def test_reading_ahead_keeps_everything_in_order(items: list[int], queued: int) -> None:
    assert list(ahead(items, queued)) == items


def test_progress_is_told(bert: PackedEncoder) -> None:
    said: list[tuple[float, float | None]] = []
    bert.encode(TEXTS, window=25, progress=lambda done, total=None, note="": said.append((done, total)))
    assert said == [(25, 40), (40, 40)]


def test_threads_may_encode_at_the_same_time(bert: PackedEncoder) -> None:
    expected = bert.encode(TEXTS)
    found: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: bert.encode(TEXTS)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for vectors in found.values():
        np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)
    assert bert.model.config._attn_implementation == "sdpa"


# -- what cannot be used --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "text 2 is missing"),
        (float("nan"), "text 2 is missing"),
        (b"bytes", "text 2 is bytes; decode it first"),
        (7, "text 2 is a int, not a text: 7"),
        (["a"], "text 2 is a list"),
    ],
)
def test_what_is_no_text_is_named(bert: PackedEncoder, wrong: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        bert.encode(["a", "b", wrong])
    with pytest.raises(InputError, match=words):
        list(bert.encode_iter(iter(["a", "b", wrong]), window=1))


@pytest.mark.parametrize("wrong", [7, None, {"a": 1}, b"bytes", iter(["a"])])
def test_what_is_no_list_of_texts_is_refused(bert: PackedEncoder, wrong: object) -> None:
    with pytest.raises(InputError, match="texts is a text or a list of texts"):
        bert.encode(wrong)  # type: ignore[arg-type]


def test_an_empty_text_is_its_special_tokens_or_an_error_or_zeros(bert: PackedEncoder) -> None:
    np.testing.assert_allclose(bert.encode(["", TEXTS[0]]), alone(bert, ["", TEXTS[0]]), atol=TOLERANCE)
    plain = PackedEncoder(bert.model, toy.tokenizer("plain"))
    with pytest.raises(InputError, match="text 1 has no token; leave it out, or pass allow_empty=True"):
        plain.encode([TEXTS[0], ""])
    allowed = PackedEncoder(bert.model, toy.tokenizer("plain"), allow_empty=True)
    found = allowed.encode(["", TEXTS[0], ""])
    assert not found[[0, 2]].any()
    np.testing.assert_allclose(found[1], plain.encode(TEXTS[0]), atol=TOLERANCE)
    assert not allowed.encode([""]).any()


def test_numbers_that_are_not_finite_are_an_error_that_names_the_text() -> None:
    model, tokenizer = toy.encoder("bert"), toy.tokenizer()
    word = tokenizer("reads", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[word] = float("nan")
    packed = PackedEncoder(model, tokenizer)
    with pytest.raises(PaperworksError, match="not finite for text 1"):
        packed.encode(["one pass", "a model reads", "the cache"])
    assert np.isfinite(packed.encode(["one pass", "the cache"])).all()  # and the neighbours are not touched


def test_a_model_that_cannot_be_packed_is_refused_with_the_reason() -> None:
    with pytest.raises(PackingNotSupported, match="relative"):
        PackedEncoder(toy.encoder("mpnet"), toy.tokenizer())


def test_arguments_that_do_not_fit_are_refused(bert: PackedEncoder, tmp_path: Path) -> None:
    model, tokenizer = bert.model, bert.tokenizer
    for settings_, words in (
        ({"max_length": 0}, "max_length is a number of tokens"),
        ({"max_length": 600}, "max_length 600 is more than the model has positions for, 512"),
        ({"max_tokens": 0}, "max_tokens is the size of a packed row"),
        ({"pooling": "average"}, "pooling is one of"),
        ({"default_prompt_name": "q"}, "no prompt 'q'; there are none"),
    ):
        with pytest.raises(InputError, match=words):
            PackedEncoder(model, tokenizer, **settings_)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a BertModel needs its tokenizer too"):
        PackedEncoder(model)
    with pytest.raises(InputError, match="no model can be loaded from"):
        PackedEncoder(tmp_path)
    with pytest.raises(InputError, match="backend must be 'auto' or one of flat"):
        PackedEncoder(model, tokenizer, backend="fast").encode(TEXTS)
    with pytest.raises(InputError, match="window and queued are at least 1"):
        bert.encode(TEXTS, window=0)


def test_a_model_put_into_training_mode_is_refused() -> None:
    packed = PackedEncoder(toy.encoder("bert"), toy.tokenizer())
    packed.encode(TEXTS[:2])
    packed.model.train()
    with pytest.raises(InputError, match="was put into training mode"):
        packed.encode(TEXTS[:2])


def test_ids_outside_the_vocabulary_are_named() -> None:
    small = toy.encoder("bert", vocab_size=40)
    with pytest.raises(InputError, match=r"text 1 holds token id .* is it the right tokenizer"):
        PackedEncoder(small, toy.tokenizer()).encode(["one pass", "Zebra"])

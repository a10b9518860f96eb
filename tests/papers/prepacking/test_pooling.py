"""Pooling by hand, and recipes read from files and from sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.prepacking import pooling, toy

STATES = torch.tensor([[1.0, 8.0], [2.0, 4.0], [6.0, 0.0]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("mean", [3.0, 4.0]),
        ("cls", [1.0, 8.0]),
        ("last", [6.0, 0.0]),
        ("max", [6.0, 8.0]),
        ("mean_sqrt_len", [9 / 3**0.5, 12 / 3**0.5]),
        ("weighted_mean", [(1 + 4 + 18) / 6, (8 + 8) / 6]),
    ],
)
def test_each_pooling_by_hand(mode: str, expected: list[float]) -> None:
    assert pooling.pool(STATES, [mode]).tolist() == pytest.approx(expected)


def test_several_poolings_stand_behind_one_another() -> None:
    assert pooling.pool(STATES, ("cls", "last")).tolist() == [1, 8, 6, 0]


def test_a_prompt_can_be_left_out() -> None:
    assert pooling.pool(STATES, ["mean"], n_prompt=1).tolist() == [4, 2]
    # the second and third token keep their weights 2 and 3
    assert pooling.pool(STATES, ["weighted_mean"], n_prompt=1).tolist() == pytest.approx([(4 + 18) / 5, 8 / 5])
    assert pooling.pool(STATES, ["mean"], n_prompt=5).tolist() == [0, 0]


@given(st.integers(1, 40), st.sampled_from(["bfloat16", "float16", "float32"]))
def test_half_precision_states_are_summed_in_float32(n_tokens: int, dtype: str) -> None:
    states = torch.full((n_tokens, 3), 1.0 + 1 / 128, dtype=getattr(torch, dtype))
    found = pooling.pool(states, ["mean"])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), 1 + 1 / 128, rtol=1e-6)


@pytest.mark.parametrize("wrong", ["average", (), ("mean", "first")])
def test_an_unknown_pooling_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match="pooling is one of mean, cls, last"):
        pooling.modes_of(wrong)  # type: ignore[arg-type]


def written(folder: Path, kinds: list[str], pooling_config: dict[str, object]) -> Path:
    folder.mkdir()
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling_config))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128, "do_lower_case": True}))
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "Find: "}, "default_prompt_name": "query"})
    )
    return folder


def test_a_recipe_is_read_from_files(tmp_path: Path) -> None:
    old = written(
        tmp_path / "old",
        ["Transformer", "Pooling", "Normalize"],
        {"word_embedding_dimension": 8, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    )
    assert pooling.from_files(old) == (
        "",
        pooling.Recipe(("cls",), True, 128, True, {"query": "Find: "}, "query", (), True),
    )
    new = written(
        tmp_path / "new", ["Transformer", "Pooling"], {"pooling_mode": ["mean", "lasttoken"], "include_prompt": False}
    )
    recipe = pooling.from_files(new)[1]
    assert recipe is not None
    assert (recipe.modes, recipe.normalize, recipe.include_prompt) == (("mean", "last"), False, False)


def test_a_plain_model_has_no_recipe_and_unknown_parts_are_named(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert pooling.from_files(tmp_path / "plain") == ("", None)
    dense = written(tmp_path / "dense", ["Transformer", "Pooling", "Dense"], {"pooling_mode_mean_tokens": True})
    with pytest.raises(InputError, match="Transformer, Pooling, Dense; for these parts pass SentenceTransformer"):
        pooling.from_files(dense)
    (dense / "modules.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        pooling.from_files(dense)


def test_a_sentence_transformer_gives_its_recipe(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import sentence_transformers.sentence_transformer.modules as models

    toy.encoder("bert").save_pretrained(tmp_path)
    toy.tokenizer().save_pretrained(tmp_path)
    transformer = models.Transformer(str(tmp_path), max_seq_length=40)
    pooled = models.Pooling(32, pooling_mode="lasttoken")
    dense = models.Dense(32, 16)
    model = sentence_transformers.SentenceTransformer(modules=[transformer, pooled, dense, models.Normalize()])
    encoder, _, recipe = pooling.from_sentence_transformer(model)
    assert encoder is transformer.auto_model
    assert (recipe.modes, recipe.normalize, recipe.max_length, recipe.after) == (("last",), True, 40, (dense,))
    with pytest.raises(InputError, match="made of Transformer"):
        pooling.from_sentence_transformer(sentence_transformers.SentenceTransformer(modules=[transformer]))

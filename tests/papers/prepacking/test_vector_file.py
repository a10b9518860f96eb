"""Vectors on disk: the same as in memory, whole or not there, and gone on with after an interruption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

from paperworks.errors import InputError
from paperworks.papers.prepacking import toy
from paperworks.papers.prepacking.encode import PackedEncoder

TEXTS = toy.texts(np.random.default_rng(1), 30)


class Counting(PackedEncoder):
    """Counts the texts that went through the model."""

    n_run = 0

    def encode_tokens(self, tokens: object, *, first: int = 0) -> np.ndarray:
        self.n_run += len(tokens)  # type: ignore[arg-type]
        return super().encode_tokens(tokens, first=first)  # type: ignore[arg-type]


@pytest.fixture
def packed() -> Counting:
    return Counting(toy.encoder("bert"), toy.tokenizer(), max_tokens=200)


def interrupted(n: int) -> Iterator[str]:
    yield from TEXTS[:n]
    raise KeyboardInterrupt


def test_the_file_holds_what_encode_gives(packed: Counting, tmp_path: Path) -> None:
    expected = packed.encode(TEXTS)
    found = packed.encode_to(tmp_path / "deep" / "x.npy", iter(TEXTS), window=7)
    assert isinstance(found, np.memmap)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.npy"]
    half = packed.encode_to(tmp_path / "half.npy", TEXTS, dtype=np.float16)
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, expected, atol=4e-3)
    assert packed.encode_to(tmp_path / "none.npy", []).shape == (0, 32)


def test_after_an_interruption_only_the_rest_is_computed(packed: Counting, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with pytest.raises(KeyboardInterrupt):
        packed.encode_to(path, interrupted(17), window=5)
    assert not path.exists()
    packed.n_run = 0
    found = packed.encode_to(path, TEXTS, window=5)
    assert packed.n_run == 15
    np.testing.assert_allclose(found, packed.encode(TEXTS), atol=1e-5)


def test_what_was_torn_by_a_crash_is_computed_again(packed: Counting, tmp_path: Path) -> None:
    """A last line cut in half, and a window that the list names but the file does not hold."""
    path, part, done = tmp_path / "x.npy", tmp_path / "x.npy.part", tmp_path / "x.npy.done"
    with pytest.raises(KeyboardInterrupt):
        packed.encode_to(path, interrupted(17), window=5)
    assert len(done.read_text().splitlines()) == 4
    with part.open("r+b") as file:
        file.truncate(128 + 12 * 32 * 4)  # the third window lost its end
    with done.open("a") as file:
        file.write("[15, 5")
    packed.n_run = 0
    found = packed.encode_to(path, TEXTS, window=5)
    assert packed.n_run == 20
    np.testing.assert_allclose(found, packed.encode(TEXTS), atol=1e-5)


def test_windows_whose_texts_have_changed_are_computed_again(packed: Counting, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with pytest.raises(KeyboardInterrupt):
        packed.encode_to(path, interrupted(17), window=5)
    changed = [*TEXTS]
    changed[7] = "another text"
    packed.n_run = 0
    found = packed.encode_to(path, changed, window=5)
    assert packed.n_run == 20
    np.testing.assert_allclose(found, packed.encode(changed), atol=1e-5)


def test_moving_a_word_over_a_border_of_texts_is_a_change() -> None:
    from paperworks.papers.prepacking.vector_file import checksum

    assert checksum(["ab", "c"]) != checksum(["a", "bc"])
    assert checksum(["lone \udc80 surrogate"]) == checksum(["lone \udc80 surrogate"])


def test_what_another_model_began_is_not_gone_on_with(packed: Counting, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with pytest.raises(KeyboardInterrupt):
        packed.encode_to(path, interrupted(17), window=5)
    with pytest.raises(InputError, match="begun with another window"):
        packed.encode_to(path, TEXTS, window=6)
    with pytest.raises(InputError, match="begun with another prompt"):
        packed.encode_to(path, TEXTS, window=5, prompt="reads ")
    other = PackedEncoder(toy.encoder("bert", seed=1), toy.tokenizer())
    with pytest.raises(InputError, match=r"x.npy.part was begun with another model or its settings; .* resume=False"):
        other.encode_to(path, TEXTS, window=5)
    found = other.encode_to(path, TEXTS, window=5, resume=False)
    np.testing.assert_allclose(found, other.encode(TEXTS), atol=1e-5)


def test_names_and_kinds_that_cannot_be_are_refused(packed: Counting, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in .npy, got x.bin"):
        packed.encode_to(tmp_path / "x.bin", TEXTS)
    with pytest.raises(InputError, match="dtype is float32 or float16, got float64"):
        packed.encode_to(tmp_path / "x.npy", TEXTS, dtype=np.float64)
    packed.encode_to(tmp_path / "x.npy", TEXTS)
    with pytest.raises(InputError, match="exists already"):
        packed.encode_to(tmp_path / "x.npy", TEXTS)


def test_a_list_that_cannot_be_read_means_to_begin_anew(packed: Counting, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    (tmp_path / "x.npy.done").write_text("{torn")
    (tmp_path / "x.npy.part").write_bytes(b"rubbish" * 10_000)
    np.testing.assert_allclose(packed.encode_to(path, TEXTS), packed.encode(TEXTS), atol=1e-5)
    assert path.stat().st_size == 128 + 30 * 32 * 4
    assert json.loads(json.dumps(np.load(path).shape)) == [30, 32]

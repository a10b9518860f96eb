"""Common beginnings are computed once, and the logits are those of each whole sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.prepacking.attention import Segments
from paperworks.papers.prepacking.facts import inspect_model
from paperworks.papers.prepacking.prefix import share, shared_logits

from .models import decoder

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=12)


@given(SEQUENCES, st.integers(1, 5))
def test_a_path_spells_its_sequence(sequences, min_tokens):
    tree = share(sequences, min_tokens)
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert np.concatenate([tree.ids[node] for node in path]).tolist() == sequence
        assert [tree.parents[node] for node in path] == [-1, *path[:-1]]
        for place in range(len(sequence)):
            node, offset = tree.locate(path and tree.paths.index(path), place)
            assert tree.ids[node][offset] == sequence[place]
    assert tree.computed <= tree.tokens


@given(SEQUENCES)
def test_with_one_token_enough_every_common_beginning_is_shared(sequences):
    tree = share(sequences, 1)
    distinct = {tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence) + 1)}
    assert tree.computed == len(distinct)


def test_a_segment_cannot_continue_a_later_one():
    with pytest.raises(InputError, match="comes later"):
        Segments((2, 3), parents=(1, -1))


def questions(rng):
    """A header of 20 tokens, 5 questions with 4 answers each, one of a single token, and two strays."""
    header = rng.integers(3, 90, 20).tolist()
    found = []
    for _ in range(5):
        question = header + rng.integers(3, 90, rng.integers(4, 12)).tolist()
        found += [question + rng.integers(3, 90, n).tolist() for n in (1, 3, 3, 6)]
    return [*found, rng.integers(3, 90, 9).tolist(), found[0]]


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral-sliding", "gemma2-sliding"])
@pytest.mark.parametrize("max_tokens", [16, 60, 10_000])
def test_logits_are_those_of_the_whole_sequence(name, max_tokens):
    model, rng = decoder(name), np.random.default_rng(0)
    sequences = questions(rng)
    places = [np.unique(rng.integers(0, len(sequence), 4)) for sequence in sequences]
    places[3] = np.array([], dtype=np.int64)
    found = dict(shared_logits(inspect_model(model), sequences, places, max_tokens=max_tokens, min_shared=3))
    assert sorted(found) == list(range(len(sequences)))
    for i, sequence in enumerate(sequences):
        with torch.no_grad():
            alone = model(torch.tensor([sequence])).logits[0, torch.from_numpy(places[i])]
        torch.testing.assert_close(
            found[i], alone, rtol=0, atol=1e-4 * max(1.0, float(alone.abs().max()) if alone.numel() else 1.0)
        )


def test_far_fewer_tokens_are_computed_than_there_are():
    tree = share(questions(np.random.default_rng(0)), min_tokens=3)
    assert tree.computed < tree.tokens / 3

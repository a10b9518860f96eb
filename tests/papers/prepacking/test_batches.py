"""A data set in packed batches: every prompt once, full rows, and the same batches after an interruption."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.prepacking.attention import flat
from paperworks.papers.prepacking.batches import PackedBatches, restore_order
from paperworks.papers.prepacking.errors import PromptError
from paperworks.papers.prepacking.prefill import prefill

from .models import decoder


def dataset(n=60, seed=0, longest=40):
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 97, size=rng.integers(1, longest)) for _ in range(n)]


def contents(batches):
    return [(batch.number, batch.indices, batch.bins) for batch in batches]


@given(
    st.lists(st.integers(1, 30), max_size=40),
    st.sampled_from(["flat", "longest", 30]),
    st.sampled_from([None, 1, 7]),
    st.sampled_from([None, 3]),
    st.data(),
)
def test_interrupted_anywhere_it_goes_on_with_the_same_batches(lengths, capacity, window, seed, data):
    prompts = [np.full(length, i) for i, length in enumerate(lengths)]
    make = lambda: PackedBatches(prompts, 32, window, capacity=capacity, seed=seed)  # noqa: E731
    whole = contents(make())
    assert sorted(i for _, indices, _ in whole for i in indices) == list(range(len(prompts)))
    assert [number for number, _, _ in whole] == list(range(len(whole)))
    stop = data.draw(st.integers(0, len(whole)))
    first = make()
    begun = iter(first)
    seen = contents(next(begun) for _ in range(stop))
    second = make()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert seen + contents(second) == whole


def test_flat_batches_stay_below_the_limit_and_are_nearly_full():
    batches = list(PackedBatches(dataset(400), 256, None))
    tokens = [batch.tokens for batch in batches]
    assert max(tokens) <= 256
    assert sum(tokens) >= 0.97 * 256 * (len(batches) - 1)


def test_a_prompt_longer_than_a_batch_has_its_own():
    batches = list(PackedBatches([[6] * 3, [5] * 50, [7] * 4, [8] * 6], 10))
    assert [batch.indices for batch in batches] == [[1], [3, 2], [0]]


def test_results_come_back_in_the_order_of_the_data():
    model, data = decoder(), dataset(20)
    expected = prefill(model, data).logits
    done = []
    for batch in PackedBatches(data, 64, 8, seed=1):
        with torch.no_grad(), flat(model):
            logits = model(**batch.flat(), use_cache=False).logits[0]
        ends = np.cumsum([len(prompt) for prompt in batch.prompts])
        done.append((batch, list(logits[torch.from_numpy(ends - 1)])))
    torch.testing.assert_close(torch.stack(restore_order(done)), expected, rtol=0, atol=1e-4)


def test_rows_are_those_of_the_paper():
    batch = next(iter(PackedBatches(dataset(30), 400, None, capacity="longest")))
    rows = batch.rows()
    assert rows.input_ids.shape[0] == len(batch.bins)
    for i, (row, start, stop) in enumerate(rows.slices):
        assert rows.input_ids[row, start:stop].tolist() == batch.prompts[i].tolist()


def test_the_state_survives_on_disk_and_knows_its_data(tmp_path):
    file = tmp_path / "state.json"
    data = dataset()
    first = PackedBatches(data, 64, 10)
    first.load(file)
    run = iter(first)
    for _ in range(4):
        next(run)
    first.save(file)
    rest = contents(run)
    second = PackedBatches(data, 64, 10)
    second.load(file)
    assert contents(second) == rest
    other = PackedBatches(dataset(seed=1), 64, 10)
    other.load(file)
    with pytest.raises(InputError, match="not those that the saved state was made of"):
        list(other)
    with pytest.raises(InputError, match="another max_tokens"):
        PackedBatches(data, 65, 10).load(file)
    file.write_text("{")
    with pytest.raises(InputError, match="not a saved state"):
        second.load(file)
    assert list(tmp_path.iterdir()) == [file]


def test_tables_are_read_by_column():
    data = [{"input_ids": [5, 6], "text": "a"}, {"input_ids": [7], "text": "b"}]
    assert [batch.indices for batch in PackedBatches(data)] == [[0, 1]]
    with pytest.raises(PromptError, match="no column 'ids'"):
        list(PackedBatches(data, column="ids"))


@pytest.mark.parametrize(
    "arguments", [{"max_tokens": 0}, {"window": 0}, {"rows": 0}, {"capacity": "wide"}, {"capacity": 0}]
)
def test_wrong_settings_are_refused(arguments):
    with pytest.raises(InputError):
        PackedBatches([], **arguments)


def test_bad_prompts_are_named():
    with pytest.raises(PromptError, match="prompt 2 is empty"):
        list(PackedBatches([[5], [6], []], window=2))
    with pytest.raises(PromptError, match="prompt 1 has 5 tokens, more than the capacity of 4"):
        list(PackedBatches([[5], [6] * 5], capacity=4))

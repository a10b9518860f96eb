"""The paper's form, step by step, against the authors' code and against the fast routes.

The vectors come from github.com/siyan-zhao/prepacking, commit 04e723a, `PrePackProcessor.batch_process` with binpacking 1.5.2, run on the
prompts below (pad token 0). Known defects of that code, not carried over: a prompt of one token makes two entries of its restart dictionary fall
together, so that one prompt's slot is lost (for lengths 3, 1, 4, 1 prompt 3 comes out and prompt 1 points at nothing); masks are rows of
zeros at pads, which some kernels turn into NaN.
"""

from __future__ import annotations

import pytest
import torch

from paperworks.papers.prepacking import reference
from paperworks.papers.prepacking.packing import pack_rows
from paperworks.papers.prepacking.plan import plan
from paperworks.papers.prepacking.prefill import prefill

from .models import decoder, prompts

PROMPTS = [[11, 12, 13], [21, 22, 23, 24, 25, 26, 27], [31, 32], [41, 42, 43, 44, 45], [51, 52, 53, 54]]
THEIR_TOKENS = [[21, 22, 23, 24, 25, 26], [41, 42, 43, 44, 31, 0], [51, 52, 53, 11, 12, 0]]
THEIR_POSITIONS = [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 1]]
THEIR_MASKS = [
    ["100000", "110000", "111000", "111100", "111110", "111111"],
    ["100000", "110000", "111000", "111100", "000010", "000000"],
    ["100000", "110000", "111000", "000100", "000110", "000000"],
]
THEIR_PLACES = {1: (0, 0, 6), 3: (1, 0, 4), 2: (1, 4, 5), 4: (2, 0, 3), 0: (2, 3, 5)}
# 24 lengths, log-uniform from 16 to 512, and the bins of binpacking 1.5.2 at the longest as capacity
LENGTHS = [
    420,
    94,
    471,
    21,
    131,
    58,
    257,
    29,
    328,
    105,
    364,
    83,
    71,
    246,
    484,
    57,
    459,
    400,
    29,
    131,
    184,
    419,
    160,
    25,
]
THEIR_BINS = [
    [14],
    [2],
    [16, 23],
    [0, 5],
    [21, 15],
    [17, 11],
    [10, 9],
    [8, 4, 3],
    [6, 20, 7],
    [13, 22, 12],
    [19, 1, 18],
]


def test_rows_positions_and_masks_are_those_of_the_authors_code():
    packed = reference.pack(PROMPTS)
    assert packed.input_ids.tolist() == THEIR_TOKENS
    assert packed.position_ids.tolist() == THEIR_POSITIONS
    assert packed.mask.int().tolist() == [[[int(c) for c in row] for row in mask] for mask in THEIR_MASKS]
    assert packed.places == THEIR_PLACES


def test_bins_are_those_of_the_authors_code():
    assert reference.fullest_bin(LENGTHS, max(LENGTHS)) == THEIR_BINS
    assert [list(members) for members in plan(LENGTHS).bins] == THEIR_BINS


def test_least_loaded_bins_are_those_of_the_later_library():
    """binpacking 2.0.1 turned from the fullest bin to the emptiest."""
    later = [[14], [2], [16], [0, 23], [21, 18], [17, 5], [10, 12], [8, 4], [6, 22, 7], [13, 20, 3], [19, 9, 1, 11, 15]]
    assert [list(members) for members in plan(LENGTHS, algorithm="least_loaded").bins] == later


def test_packing_rows_masks_as_the_reference_does():
    rows = pack_rows([prompt[:-1] for prompt in PROMPTS], [[1], [3, 2], [4, 0]])
    plain = reference.pack(PROMPTS)
    assert rows.input_ids.tolist() == plain.input_ids.tolist()
    pads = torch.eye(6, dtype=torch.bool) & (rows.segment_ids < 0)[:, :, None]
    assert torch.equal(rows.mask()[:, 0], plain.mask.bool() | pads)
    assert [rows.slices[i] for i in range(5)] == [THEIR_PLACES[i] for i in range(5)]
    text = rows.segment_ids >= 0
    assert torch.equal(rows.position_ids[text], plain.position_ids[text])


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("backend", ["flat", "mask", "padded"])
def test_every_route_unpacks_to_the_batch_of_the_reference(name, backend):
    model, batch = decoder(name), [prompt.tolist() for prompt in prompts(5, 1, 17, 5, 9)]
    packed = reference.pack(batch)
    cache, last, mask = reference.unpack(reference.run(model, packed), packed, batch)
    ours = prefill(model, batch, backend=backend).to_batch()
    assert torch.equal(ours.next_ids, last)
    assert torch.equal(ours.attention_mask, mask)
    for a, b in zip(ours.past_key_values.layers, cache.layers, strict=True):
        torch.testing.assert_close(a.keys, b.keys, rtol=0, atol=1e-4)
        torch.testing.assert_close(a.values, b.values, rtol=0, atol=1e-4)


@pytest.mark.parametrize("lengths", [(5, 1, 17, 5, 9), (1, 1), (3,)])
def test_the_reference_generates_what_each_prompt_gives_alone(lengths):
    model, batch = decoder(), [prompt.tolist() for prompt in prompts(*lengths)]
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    found = reference.generate(model, batch, **settings)
    for i, prompt in enumerate(batch):
        ids = torch.tensor([prompt])
        alone = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prompt) :]
        assert found[i, 1:].tolist() == alone.tolist()

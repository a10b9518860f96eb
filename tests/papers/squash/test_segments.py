"""Packing into shared segments and extraction, for any bits and any segment width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash import reference
from paperworks.papers.squash.segments import SegmentLayout


@st.composite
def worlds(draw) -> tuple[SegmentLayout, np.ndarray]:
    width = draw(st.sampled_from([8, 16, 32]))
    bits = np.array(draw(st.lists(st.integers(0, min(width, 16)), min_size=1, max_size=30)), dtype=np.uint8)
    layout = SegmentLayout(bits, width)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    codes = rng.integers(0, 1 << bits.astype(np.int64), (draw(st.integers(0, 9)), len(bits)))
    return layout, codes.astype(layout.code_dtype)


@given(worlds(), st.sampled_from(["segment", "row"]))
@settings(deadline=None, max_examples=200)
def test_packing_and_extraction_round_trip(world, order) -> None:
    layout, codes = world
    segments = layout.pack(codes, order=order)
    assert segments.dtype.itemsize * 8 == layout.segment_bits
    np.testing.assert_array_equal(layout.unpack(segments, order=order), codes)
    for j in range(len(layout.bits)):
        np.testing.assert_array_equal(layout.extract(segments, j, order=order), codes[:, j])


@given(worlds())
@settings(deadline=None)
def test_segments_are_those_of_the_text_of_bits(world) -> None:
    layout, codes = world
    segments = layout.pack(codes)
    if len(codes) and layout.n_segments:
        np.testing.assert_array_equal(segments, reference.pack(codes, layout.bits, layout.segment_bits))
        for j in range(len(layout.bits)):
            np.testing.assert_array_equal(reference.extract(segments, layout.bits, j, layout.segment_bits), codes[:, j])


def test_packing_by_hand() -> None:
    """Codes 101, 01100, 1, 1111 stand as 10101100 | 11111000, the rest zeros."""
    layout = SegmentLayout(np.array([3, 5, 1, 4], dtype=np.uint8))
    segments = layout.pack(np.array([[0b101, 0b01100, 1, 0b1111]], dtype=np.uint8))
    assert segments[:, 0].tolist() == [0b10101100, 0b11111000]


def test_a_code_that_straddles_two_segments_by_hand() -> None:
    layout = SegmentLayout(np.array([5, 6], dtype=np.uint8))
    segments = layout.pack(np.array([[0b10011, 0b110101]], dtype=np.uint8))
    assert segments[:, 0].tolist() == [0b10011110, 0b10100000]
    assert layout.extract(segments, 1).tolist() == [0b110101]


def test_shared_segments_are_smaller_than_a_byte_a_dimension() -> None:
    assert SegmentLayout(np.full(128, 4, dtype=np.uint8)).n_segments == 64
    assert SegmentLayout(np.full(7, 3, dtype=np.uint8)).n_segments == 3
    assert SegmentLayout(np.zeros(5, dtype=np.uint8)).n_segments == 0


def test_blocks_are_packed_into_slices_of_one_array() -> None:
    rng = np.random.default_rng(0)
    layout = SegmentLayout(np.array([3, 7, 2, 8], dtype=np.uint8))
    codes = rng.integers(0, 1 << layout.bits.astype(int), (50, 4)).astype(np.uint8)
    whole = np.zeros((layout.n_segments, 50), dtype=np.uint8)
    for start in range(0, 50, 16):
        layout.pack(codes[start : start + 16], out=whole[:, start : start + 16])
    np.testing.assert_array_equal(whole, layout.pack(codes))
    np.testing.assert_array_equal(whole.T, layout.pack(codes, order="row"))


def test_the_last_segment_is_written_even_when_all_of_its_codes_are_zero() -> None:
    """The released code leaves it out, and then refuses to load the file."""
    layout = SegmentLayout(np.array([8, 4], dtype=np.uint8))
    assert layout.pack(np.array([[255, 0], [1, 0]], dtype=np.uint8)).tolist() == [[255, 1], [0, 0]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="8, 16 or 32"):
        SegmentLayout(np.array([3], dtype=np.uint8), 12)
    with pytest.raises(InputError, match="9 bits"):
        SegmentLayout(np.array([9], dtype=np.uint8), 8)
    layout = SegmentLayout(np.array([3], dtype=np.uint8))
    with pytest.raises(InputError, match="order"):
        layout.pack(np.zeros((1, 1), dtype=np.uint8), order="column")
    with pytest.raises(InputError, match="out must be"):
        layout.pack(np.zeros((1, 1), dtype=np.uint8), out=np.zeros((2, 1), dtype=np.uint8))

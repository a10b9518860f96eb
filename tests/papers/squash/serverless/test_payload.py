"""Messages: round trip, and refusal of everything that is not whole."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from paperworks.errors import InputError
from paperworks.papers.squash.serverless import payload
from paperworks.papers.squash.serverless.errors import PayloadError
from paperworks.papers.squash.serverless.payload import Message, decode, encode

dtypes = st.sampled_from(["?", "u1", "i1", "<u2", "<i4", ">i4", "<u8", "<i8", "<f4", ">f8"])
values = dtypes.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text(max_size=4), values, max_size=4),
    st.dictionaries(st.text(max_size=4), json_values, max_size=4),
)
@settings(max_examples=60)
def test_what_goes_in_comes_out(some_arrays, fields):
    back = decode(encode(Message("kind", fields, some_arrays)), kind="kind")
    assert back.fields == fields
    assert list(back.arrays) == list(some_arrays)
    for name, array in some_arrays.items():
        np.testing.assert_array_equal(back.arrays[name], array)
        assert back.arrays[name].dtype == array.dtype.newbyteorder("=").newbyteorder("<")
        assert back.arrays[name].shape == array.shape


def test_a_bitmap_of_few_rows_travels_small():
    bitmap = np.zeros(125_000, np.uint8)
    bitmap[::1000] = 3
    assert len(encode(Message("search", {}, {"bitmap": bitmap}))) < bitmap.nbytes // 50


def test_noncontiguous_arrays_travel_by_value():
    array = np.arange(24.0).reshape(4, 6)[::2, ::-3]
    np.testing.assert_array_equal(decode(encode(Message("m", {}, {"a": array}))).arrays["a"], array)


@given(st.data())
@settings(max_examples=150)
def test_any_changed_byte_is_noticed(data):
    whole = bytearray(
        encode(Message("answer", {"id": 7}, {"x": np.arange(40, dtype="<f4"), "b": np.zeros(300, np.uint8)}))
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    if at in (6, 7):  # the two reserved bytes carry nothing
        return
    with pytest.raises(PayloadError):
        decode(bytes(whole))


@given(st.integers(0, 200))
def test_any_cut_is_noticed(n_kept):
    whole = encode(Message("answer", {"id": 7}, {"x": np.arange(40, dtype="<f4")}))
    with pytest.raises(PayloadError):
        decode(whole[:n_kept])
    with pytest.raises(PayloadError):
        decode(whole + b"\0" * (1 + n_kept))


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data):
    with pytest.raises(PayloadError):
        decode(data)


class _Boom:
    def __reduce__(self):
        return (pytest.fail, ("the payload was run",))


def test_a_pickle_is_refused_and_never_run():
    with pytest.raises(PayloadError, match="not a message"):
        decode(pickle.dumps(_Boom()) + b" " * 64)


@pytest.mark.parametrize("value", [_Boom(), float("nan"), float("inf"), {1, 2}, b"bytes", np.int64(3)])
def test_fields_hold_only_plain_values(value):
    with pytest.raises(InputError, match="JSON"):
        encode(Message("m", {"value": value}))


@pytest.mark.parametrize(
    "array", [np.array([object()]), np.array(["text"]), np.array([1j]), np.zeros(2, "f2"), np.zeros(2, "M8[s]")]
)
def test_other_dtypes_do_not_travel(array):
    with pytest.raises(InputError, match="dtype"):
        encode(Message("m", {}, {"a": array}))


def _forge(header: bytes, body: bytes = b"", version: int = 1) -> bytes:
    """A message whose digest is right and whose content is whatever the forger likes."""
    digest = payload._digest(header, body)
    return struct.pack("<4sHHIQ16s", b"SQSH", version, 0, len(header), len(body), digest) + header + body


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b'{"kind":"m","fields":{},"arrays":[["a","|O",[1],8,false]]}', b"8bytes.."),
        (b'{"kind":"m","fields":{},"arrays":[["a","<f8",[-1],8,false]]}', b"8bytes.."),
        (b'{"kind":"m","fields":{},"arrays":[["a","<f8",[2],8,false]]}', b"8bytes.."),
        (b'{"kind":"m","fields":{},"arrays":[["a","<f8",[1],80,false]]}', b"8bytes.."),
        (b'{"kind":"m","fields":{},"arrays":[["a","|u1",[4],-4,false]]}', b"8bytes.."),
        (b'{"kind":"m","fields":{},"arrays":[]}', b"left over"),
        (b'{"kind":"m","fields":{},"arrays":[["a","|u1",[8],8,true]]}', b"8bytes.."),
        (b'{"kind":"m","fields":[],"arrays":[]}', b""),
        (b'{"kind":5,"fields":{},"arrays":[]}', b""),
        (b'{"fields":{},"arrays":[]}', b""),
        (b"[]", b""),
        (b"\xff\xfe", b""),
        (b"[" * 100_000, b""),
    ],
)
def test_a_forged_header_is_refused(header, body):
    with pytest.raises(PayloadError):
        decode(_forge(header, body))


def test_a_compression_bomb_is_not_unpacked():
    packed = zlib.compress(bytes(50_000_000), 9)
    for promised in (8, 50_000_000):
        header = b'{"kind":"m","fields":{},"arrays":[["a","|u1",[%d],%d,true]]}' % (promised, len(packed))
        forged = _forge(header, packed)
        tracemalloc.start()
        with pytest.raises(PayloadError):
            decode(forged, max_bytes=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000


def test_another_version_says_so():
    with pytest.raises(PayloadError, match="version 2"):
        decode(_forge(b'{"kind":"m","fields":{},"arrays":[]}', version=2))


def test_another_kind_says_so():
    with pytest.raises(PayloadError, match="'answer' message was wanted"):
        decode(encode(Message("search")), kind="answer")
    with pytest.raises(PayloadError, match="str"):
        decode("text")

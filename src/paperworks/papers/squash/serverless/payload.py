"""Messages between machines: plain values and arrays as checked bytes, without pickle, eval or code of any kind.

A message is a kind, a dictionary of JSON values and a dictionary of arrays. Its bytes, little-endian:

    4  magic "SQSH"       2  version       2  zero       4  length h of the header       8  length b of the body
    16 BLAKE2b digest of header and body
    h  header, JSON: kind, fields, and for each array its name, dtype, shape, stored length and whether it is compressed
    b  body: the arrays one after another

What decode() returns has been checked: length, digest, dtypes from a short list, sizes before anything is allocated. A digest finds
accidents (a cut or mixed-up object), not a clever forger: whether an answer is plausible is checked by the coordinator.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.errors import PayloadError

_MAGIC = b"SQSH"
_VERSION = 1
_FRONT = struct.Struct("<4sHHIQ16s")
_DTYPES = frozenset({"|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"})
_COMPRESS_FROM = 256  # bytes; below, the gain does not pay for the time
_PROBE = 4096
DEFAULT_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Message:
    """What travels: a kind such as "search", JSON values, arrays by name."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def encode(message: Message) -> bytes:
    """The bytes of a message; uint8 and bool arrays are compressed when that makes them smaller.

    Raises InputError for a dtype other than bool, integers and float32/64, for values that JSON cannot hold, and for NaN in fields.

    >>> decode(encode(Message("ping", {"n": 3}, {"x": np.arange(3)}))).arrays["x"]
    array([0, 1, 2])
    """
    described, body = [], []
    for name, array in message.arrays.items():
        values = np.ascontiguousarray(array)
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        if values.dtype.str not in _DTYPES:
            raise InputError(f"array {name!r} of dtype {values.dtype} cannot travel; use bool, integers or float32/64")
        raw = values.tobytes()
        packed = zlib.compress(raw, 1) if values.itemsize == 1 and _pays(raw) else raw
        stored = packed if len(packed) < len(raw) else raw
        described.append([str(name), values.dtype.str, list(np.shape(array)), len(stored), stored is not raw])
        body.append(stored)
    content = {"kind": message.kind, "fields": dict(message.fields), "arrays": described}
    try:
        header = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"the fields of a {message.kind!r} message cannot be written as JSON: {error}") from error
    joined = b"".join(body)
    front = _FRONT.pack(_MAGIC, _VERSION, 0, len(header), len(joined), _digest(header, joined))
    return front + header + joined


def decode(data: bytes, kind: str | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> Message:
    """The message in `data`, arrays read-only unless they were compressed.

    kind: refuse any other kind. max_bytes: refuse more than this many bytes of arrays, before and after decompression.
    Raises PayloadError for anything that is not a whole message of this version.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise PayloadError(f"a message is bytes, got {type(data).__name__}")
    view = memoryview(data)
    if len(view) < _FRONT.size:
        raise PayloadError(f"{len(view)} bytes are too few for a message")
    magic, version, _, n_header, n_body, digest = _FRONT.unpack(view[: _FRONT.size])
    if magic != _MAGIC:
        raise PayloadError("these bytes are not a message of this package")
    if version != _VERSION:
        raise PayloadError(
            f"the message has version {version}, this package reads {_VERSION}; use the same release on both sides"
        )
    if len(view) != _FRONT.size + n_header + n_body:
        raise PayloadError(f"the message should have {_FRONT.size + n_header + n_body} bytes and has {len(view)}")
    header, body = view[_FRONT.size : _FRONT.size + n_header], view[_FRONT.size + n_header :]
    if _digest(header, body) != digest:
        raise PayloadError("the message was changed on its way: its digest does not match")
    try:
        content = json.loads(bytes(header))
        found, fields, described = content["kind"], content["fields"], content["arrays"]
        arrays = _arrays(described, body, max_bytes)
    except (KeyError, TypeError, ValueError, RecursionError, zlib.error) as error:
        raise PayloadError(f"the message is whole and cannot be read: {error}") from error
    if not isinstance(found, str) or not isinstance(fields, dict):
        raise PayloadError("the message is whole and cannot be read: kind and fields have other types")
    if kind is not None and found != kind:
        raise PayloadError(f"a {kind!r} message was wanted and a {found!r} message came")
    return Message(found, fields, arrays)


def _arrays(described: list[list[Any]], body: memoryview, max_bytes: int) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    offset = total = 0
    for name, dtype, shape, n_stored, compressed in described:
        if dtype not in _DTYPES or not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"array {name!r} has dtype {dtype!r} and shape {shape!r}")
        if type(n_stored) is not int or n_stored < 0 or offset + n_stored > len(body) or name in arrays:
            raise ValueError(f"array {name!r} does not fit")
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        total += n_bytes
        if total > max_bytes:
            raise ValueError(f"its arrays need more than the {max_bytes} bytes allowed")
        raw: bytes | memoryview = body[offset : offset + n_stored]
        offset += n_stored
        if compressed:
            # one byte more than promised is asked for, so that a longer stream shows itself without being unpacked
            raw = zlib.decompressobj().decompress(raw, n_bytes + 1)
        if len(raw) != n_bytes:
            raise ValueError(f"array {name!r} has {len(raw)} bytes instead of {n_bytes}")
        arrays[str(name)] = np.frombuffer(raw, dtype=dtype).reshape(shape)
    if offset != len(body):
        raise ValueError(f"{len(body) - offset} bytes are left over")
    return arrays


def _pays(raw: bytes) -> bool:
    """Whether compressing is worth the time: judged by a few kilobytes from the middle. A bitmap of a third of the rows is not."""
    if len(raw) < _COMPRESS_FROM:
        return False
    if len(raw) <= 4 * _PROBE:
        return True
    middle = raw[len(raw) // 2 : len(raw) // 2 + _PROBE]
    return len(zlib.compress(middle, 1)) < 0.8 * _PROBE


def _digest(header: bytes | memoryview, body: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(header, digest_size=16)
    digest.update(body)
    return digest.digest()

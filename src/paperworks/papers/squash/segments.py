"""Codes of many dimensions packed into shared segments, and one dimension taken out of them again (step 7, OSQ).

The bits of one vector's codes stand one after the other, most significant first, cut in segments of S = 8, 16 or 32 bits; a code
may straddle two segments, the last segment is filled with zeros. `n` rows, `d` dimensions, `G` segments a row.
Two orders hold the same bits: "segment" (G, n), a contiguous column for whole-column work, and "row" (n, G) for scattered rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from paperworks.errors import InputError

SEGMENT_DTYPES = {8: np.uint8, 16: np.uint16, 32: np.uint32}


@dataclass(frozen=True)
class SegmentLayout:
    """Where the code of each dimension stands. bits (d,) uint8, each at most segment_bits and 16.

    >>> layout = SegmentLayout(np.array([5, 5, 5], dtype=np.uint8), segment_bits=8)
    >>> layout.n_segments, layout.offsets.tolist()
    (2, [0, 5, 10])
    """

    bits: np.ndarray
    segment_bits: int = 8

    def __post_init__(self) -> None:
        if self.segment_bits not in SEGMENT_DTYPES:
            raise InputError(f"segment_bits must be 8, 16 or 32, got {self.segment_bits!r}")
        widest = int(self.bits.max(initial=0))
        if widest > min(self.segment_bits, 16):
            raise InputError(
                f"a code of {widest} bits does not fit segments of {self.segment_bits}; allow fewer bits a dimension"
            )

    @cached_property
    def offsets(self) -> np.ndarray:
        """First bit of each dimension (d,) int64."""
        return np.cumsum(self.bits, dtype=np.int64) - self.bits

    @property
    def n_segments(self) -> int:
        """Segments of one row: bits in all over segment_bits, rounded up."""
        return -(-int(self.bits.sum(dtype=np.int64)) // self.segment_bits)

    @property
    def dtype(self) -> np.dtype:
        """uint8, uint16 or uint32."""
        return np.dtype(SEGMENT_DTYPES[self.segment_bits])

    @property
    def code_dtype(self) -> np.dtype:
        """Of unpacked codes: uint8, or uint16 where a dimension has more than 8 bits."""
        return np.dtype(np.uint8 if self.bits.max(initial=0) <= 8 else np.uint16)

    def pack(self, codes: np.ndarray, *, order: str = "segment", out: np.ndarray | None = None) -> np.ndarray:
        """codes (b, d) -> segments (G, b) for order="segment", (b, G) for "row"; may be written into `out` (a slice is fine).

        Codes must fit their bits (the quantiser's do); higher bits would spill into the neighbour and are cut off.
        """
        shape = _shape(order, self.n_segments, len(codes))
        if out is None:
            out = np.empty(shape, dtype=self.dtype)
        if out.shape != shape or out.dtype != self.dtype:
            raise InputError(f"out must be {self.dtype} of shape {shape}, got {out.dtype} {out.shape}")
        rows = out if order == "row" else np.empty(shape[::-1], dtype=self.dtype)
        pack_rows(codes, self.bits, self.segment_bits, rows)
        if order == "segment":
            out[...] = rows.T
        return out

    def extract(self, segments: np.ndarray, dimension: int, *, order: str = "segment") -> np.ndarray:
        """The code of one dimension of every row (n,), by shifts and masks of one or two whole columns."""
        columns = segments if order == "segment" else segments.T
        bits, offset, width = int(self.bits[dimension]), int(self.offsets[dimension]), self.segment_bits
        if bits == 0:
            return np.zeros(columns.shape[1], dtype=self.code_dtype)
        segment, inside = divmod(offset, width)
        first = columns[segment]
        if inside + bits <= width:
            code = (first << inside).astype(self.dtype) >> (width - bits)
        else:
            head = width - inside  # bits of the code in the first segment
            tail = bits - head
            code = (first & ((1 << head) - 1)).astype(np.uint32) << tail | columns[segment + 1] >> (width - tail)
        return code.astype(self.code_dtype)

    def unpack(self, segments: np.ndarray, *, order: str = "segment") -> np.ndarray:
        """All codes again: (n, d) of `code_dtype`."""
        rows = np.ascontiguousarray(segments if order == "row" else segments.T)
        codes = np.empty((len(rows), len(self.bits)), dtype=self.code_dtype)
        unpack_rows(rows, self.bits, self.segment_bits, codes)
        return codes


def _shape(order: str, n_segments: int, n: int) -> tuple[int, int]:
    if order not in ("segment", "row"):
        raise InputError(f"order must be 'segment' or 'row', got {order!r}")
    return (n_segments, n) if order == "segment" else (n, n_segments)


@numba.njit(cache=True, nogil=True)
def pack_rows(codes: np.ndarray, bits: np.ndarray, width: int, out: np.ndarray) -> None:
    """codes (n, d) -> out (n, G): bits flow through a 64-bit buffer, a segment leaves when `width` of them are there."""
    for i in range(codes.shape[0]):
        buffer = np.uint64(0)
        held = 0
        at = 0
        for j in range(codes.shape[1]):
            b = int(bits[j])
            mask = (np.uint64(1) << np.uint64(b)) - np.uint64(1)
            buffer = (buffer << np.uint64(b)) | (np.uint64(codes[i, j]) & mask)
            held += b
            if held >= width:
                held -= width
                out[i, at] = buffer >> np.uint64(held)
                buffer &= (np.uint64(1) << np.uint64(held)) - np.uint64(1)
                at += 1
        if held > 0:
            out[i, at] = buffer << np.uint64(width - held)


@numba.njit(cache=True, nogil=True)
def unpack_rows(segments: np.ndarray, bits: np.ndarray, width: int, out: np.ndarray) -> None:
    """segments (n, G) -> out (n, d)."""
    for i in range(segments.shape[0]):
        buffer = np.uint64(0)
        held = 0
        at = 0
        for j in range(out.shape[1]):
            b = int(bits[j])
            if held < b:
                buffer = (buffer << np.uint64(width)) | np.uint64(segments[i, at])
                held += width
                at += 1
            held -= b
            out[i, j] = buffer >> np.uint64(held)
            buffer &= (np.uint64(1) << np.uint64(held)) - np.uint64(1)

"""Order the dimensions of a code so that none straddles a byte, for look-ups of whole bytes.

Segments of 8 bits as in the paper, with the freedom of which dimensions share one: each byte is filled to 8 bits where
possible. One table look-up then bounds all dimensions of a byte at once. The straddling layout is in `segments.py`.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def share_bytes(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put dimensions into bytes, widest first, each into the fullest byte that still has room.

    bits (d,) of 0 to 8 -> order of the dimensions int32 (d0,) and starts of the bytes int32 (g + 1,); dimensions without bits
    are left out.

    >>> order, starts = share_bytes(np.array([5, 0, 3, 8, 4]))
    >>> order.tolist(), starts.tolist()
    ([3, 0, 2, 4], [0, 1, 3, 4])
    """
    members: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(9)]  # bytes by free bits
    for j in np.argsort(-bits.astype(np.int64), kind="stable"):
        width = int(bits[j])
        if width == 0:
            continue
        free = next((room for room in range(width, 9) if with_room[room]), None)
        if free is None:
            members.append([])
            byte, free = len(members) - 1, 8
        else:
            byte = with_room[free].pop()
        members[byte].append(int(j))
        with_room[free - width].append(byte)
    order = np.array([j for group in members for j in group], np.int32)
    starts = np.concatenate(([0], np.cumsum([len(group) for group in members]))).astype(np.int32)
    return order, starts


@njit(cache=True, nogil=True)
def pack_bytes(codes: np.ndarray, bits: np.ndarray, order: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """codes uint8 (n, d) -> out uint8 (n, g), the first dimension of a byte in its lowest bits."""
    for i in range(codes.shape[0]):
        for byte in range(starts.shape[0] - 1):
            value = np.int64(0)
            shift = np.int64(0)
            for at in range(starts[byte], starts[byte + 1]):
                j = order[at]
                value |= np.int64(codes[i, j]) << shift
                shift += np.int64(bits[j])
            out[i, byte] = np.uint8(value)


@njit(cache=True, nogil=True)
def unpack_bytes(packed: np.ndarray, bits: np.ndarray, order: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """The inverse of `pack_bytes`; dimensions without bits get 0."""
    for i in range(packed.shape[0]):
        out[i, :] = 0
        for byte in range(starts.shape[0] - 1):
            value = np.int64(packed[i, byte])
            for at in range(starts[byte], starts[byte + 1]):
                j = order[at]
                out[i, j] = np.uint8(value & ((1 << np.int64(bits[j])) - 1))
                value >>= np.int64(bits[j])

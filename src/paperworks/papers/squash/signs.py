"""One bit a dimension, packed into 64-bit words, and the Hamming distance between them (step 8 and stage 1 of the search).

`n` rows, `d` dimensions, `W` words a row: ceil(d / 64). Bit j % 64 of word j // 64 is 1 where the value of dimension j is above
0; the bits beyond d are 0 in rows and queries alike, so they never count.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from paperworks.errors import InputError
from paperworks.papers.squash.transform import random_rotation

SIGN_ROTATIONS = ("random", "pca", None)


def n_words(d: int) -> int:
    """64-bit words that hold d sign bits."""
    return -(-d // 64)


def sign_basis(rotation: str | None, basis: np.ndarray, seed: int = 0) -> np.ndarray | None:
    """The matrix (d, d) float32 that turns centred rows into the values whose signs are kept: `centred @ matrix`.

    "random" (default of the index): a seeded random rotation, so that every bit tells as much as the next. "pca": the KLT's
    basis, as in the paper. None: the centred values themselves, no matrix.
    """
    if rotation not in SIGN_ROTATIONS:
        raise InputError(f"sign_rotation must be one of {SIGN_ROTATIONS}, got {rotation!r}")
    if rotation == "random":
        return random_rotation(basis.shape[0], seed)
    return basis if rotation == "pca" else None


@numba.njit(cache=True, nogil=True)
def pack_sign_rows(values: np.ndarray, out: np.ndarray) -> None:
    """values (n, d) -> out (n, W) uint64."""
    for i in range(values.shape[0]):
        for w in range(out.shape[1]):
            word = np.uint64(0)
            first = w * 64
            for j in range(first, min(first + 64, values.shape[1])):
                word |= np.uint64(values[i, j] > 0) << np.uint64(j - first)
            out[i, w] = word


def pack_signs(values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """values (b, d) float -> words (b, W) uint64, 1 where the value is above 0."""
    values = np.asarray(values)
    if out is None:
        out = np.empty((len(values), n_words(values.shape[1])), dtype=np.uint64)
    pack_sign_rows(values, out)
    return out


def _popcount(typingctx: Any, word: Any) -> Any:
    """Bits set in a uint64, as one machine instruction (LLVM's ctpop)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


popcount: Any = intrinsic(_popcount)


@numba.njit(cache=True, nogil=True)
def hamming_all(words: np.ndarray, query: np.ndarray, out: np.ndarray) -> None:
    """out (n,) uint16: bits that differ between words (n, W) and query (W,)."""
    for i in range(words.shape[0]):
        total = np.uint64(0)
        for w in range(words.shape[1]):
            total += popcount(words[i, w] ^ query[w])
        out[i] = total


@numba.njit(cache=True, nogil=True)
def hamming_rows(words: np.ndarray, query: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """The same for the rows (m,) given: out (m,) uint16."""
    for i in range(rows.size):
        total = np.uint64(0)
        for w in range(words.shape[1]):
            total += popcount(words[rows[i], w] ^ query[w])
        out[i] = total


def hamming(words: np.ndarray, query: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Hamming distances (n,) uint16 of words (n, W) to query (W,), or of `rows` (m,) of them."""
    out = np.empty(len(words) if rows is None else len(rows), dtype=np.uint16)
    if rows is None:
        hamming_all(words, query, out)
    else:
        hamming_rows(words, query, rows, out)
    return out


@numba.njit(cache=True, nogil=True)
def keep_nearest(distances: np.ndarray, keep: int, largest: int) -> np.ndarray:
    """Positions (min(keep, m),) int64 of the `keep` smallest distances (m,), none above `largest`; by counting, never by sorting.

    Ties at the last distance that fits go to the earlier positions; the result is in the order of the input.
    """
    counts = np.zeros(largest + 1, dtype=np.int64)
    for i in range(distances.size):
        counts[distances[i]] += 1
    keep = min(keep, distances.size)
    below = 0
    limit = 0
    while limit <= largest and below + counts[limit] <= keep:
        below += counts[limit]
        limit += 1
    spare = keep - below
    out = np.empty(keep, dtype=np.int64)
    at = 0
    for i in range(distances.size):
        if distances[i] < limit or (distances[i] == limit and spare > 0):
            if distances[i] == limit:
                spare -= 1
            out[at] = i
            at += 1
    return out

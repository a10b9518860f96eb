"""Small compiled pieces of the search: bits, distances, selection, bound tables. `search_kernel.py` puts them together.

Letters: n rows, d dimensions, w = ceil(d/64) words of sign bits, g bytes of a code. Nothing here allocates by n.
"""

# Compiled functions: numba decides the types of numbers, mypy only knows those of plain NumPy.
# mypy: disable-error-code="arg-type,assignment,call-arg,return-value,no-any-return,unreachable,no-untyped-call,import-untyped"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from paperworks.papers.squash.rotation import FAST


@intrinsic
def popcount(typingctx: Any, word: Any) -> Any:
    """Number of ones of a uint64, by the processor's instruction."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@intrinsic
def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """Zeros below the lowest one of a uint64 that is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir

        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of element `offset` of a C-contiguous array; no effect on results."""
    signature = types.void(array, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from llvmlite import ir

        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        start = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [start.type, word, word, word]), "llvm.prefetch.p0"
        )
        builder.call(function, [start, ir.Constant(word, 0), ir.Constant(word, 3), ir.Constant(word, 1)])
        return context.get_dummy_value()

    return signature, codegen


@njit(cache=True, nogil=True, fastmath=FAST)
def squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Euclidean distance of two float32 (d,) vectors, in float32."""
    total = np.float32(0)
    for j in range(a.shape[0]):
        difference = a[j] - b[j]
        total += difference * difference
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def project(basis_rows: np.ndarray, centred: np.ndarray, out: np.ndarray) -> None:
    """out = basis_rows @ centred: float32 (d, d), (d,) -> (d,)."""
    for i in range(basis_rows.shape[0]):
        row = basis_rows[i]
        total = np.float32(0)
        for j in range(row.shape[0]):
            total += row[j] * centred[j]
        out[i] = total


@njit(cache=True, nogil=True)
def select_smallest(keys: np.ndarray, items: np.ndarray, n: int, c: int) -> None:
    """Reorder the first n of keys and items so that the c smallest keys come first, in no order."""
    low, high = 0, n - 1
    while low < high:
        first, middle, last = keys[low], keys[(low + high) >> 1], keys[high]
        pivot = max(min(first, middle), min(max(first, middle), last))
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                items[i], items[j] = items[j], items[i]
                i += 1
                j -= 1
        if c - 1 <= j:
            high = j
        elif c - 1 >= i:
            low = i
        else:
            break


@njit(cache=True, nogil=True)
def sort_pairs(keys: np.ndarray, items: np.ndarray, n: int) -> None:
    """Sort the first n pairs by key, ascending: insertion for a few, heap for many."""
    if n > 48:
        for start in range(n // 2 - 1, -1, -1):
            _sift_down(keys, items, start, n)
        for end in range(n - 1, 0, -1):
            keys[0], keys[end] = keys[end], keys[0]
            items[0], items[end] = items[end], items[0]
            _sift_down(keys, items, 0, end)
        return
    for i in range(1, n):
        key, item = keys[i], items[i]
        j = i
        while j > 0 and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            items[j] = items[j - 1]
            j -= 1
        keys[j] = key
        items[j] = item


@njit(cache=True, nogil=True)
def _sift_down(keys: np.ndarray, items: np.ndarray, root: int, n: int) -> None:
    """Restore the largest-first heap below `root`."""
    while True:
        child = 2 * root + 1
        if child >= n:
            return
        if child + 1 < n and keys[child + 1] > keys[child]:
            child += 1
        if keys[root] >= keys[child]:
            return
        keys[root], keys[child] = keys[child], keys[root]
        items[root], items[child] = items[child], items[root]
        root = child


@njit(cache=True, nogil=True)
def sift_smallest(keys: np.ndarray, items: np.ndarray, root: int, n: int) -> None:
    """Restore the smallest-first heap below `root`."""
    key, item = keys[root], items[root]
    while True:
        child = 2 * root + 1
        if child >= n:
            break
        if child + 1 < n and keys[child + 1] < keys[child]:
            child += 1
        if key <= keys[child]:
            break
        keys[root] = keys[child]
        items[root] = items[child]
        root = child
    keys[root] = key
    items[root] = item


@njit(cache=True, nogil=True)
def make_heap(keys: np.ndarray, items: np.ndarray, n: int) -> None:
    """Smallest first."""
    for root in range(n // 2 - 1, -1, -1):
        sift_smallest(keys, items, root, n)


@njit(cache=True, nogil=True)
def insert_sorted(keys: np.ndarray, items: np.ndarray, filled: int, key: float, item: int) -> int:
    """Put a pair into the sorted, fixed-size list of the best; returns how many it holds. Ties: the smaller item first."""
    size = keys.shape[0]
    if filled == size:
        if key > keys[size - 1] or (key == keys[size - 1] and item > items[size - 1]):
            return filled
        j = size - 1
    else:
        j = filled
        filled += 1
    while j > 0 and (keys[j - 1] > key or (keys[j - 1] == key and items[j - 1] > item)):
        keys[j] = keys[j - 1]
        items[j] = items[j - 1]
        j -= 1
    keys[j] = key
    items[j] = item
    return filled


@njit(cache=True, nogil=True)
def pack_query_planes(query: np.ndarray, planes: np.ndarray) -> tuple[float, float, float]:
    """The query rounded to 4 bits a dimension, as four planes of bits uint64 (4, w).

    Returns (low, step, total): query_j ~ low + step x digit_j, total = sum_j query_j.
    """
    d = query.shape[0]
    low = high = query[0]
    total = np.float32(0)
    for j in range(d):
        value = query[j]
        total += value
        low = min(low, value)
        high = max(high, value)
    step = (high - low) / np.float32(15)
    if step <= 0:
        step = np.float32(1)
    inverse = np.float32(1) / step
    for w in range(planes.shape[1]):
        first = second = third = fourth = np.uint64(0)
        for j in range(min(64, d - 64 * w)):
            digit = np.uint64((query[64 * w + j] - low) * inverse + np.float32(0.5))
            place = np.uint64(j)
            first |= (digit & np.uint64(1)) << place
            second |= ((digit >> np.uint64(1)) & np.uint64(1)) << place
            third |= ((digit >> np.uint64(2)) & np.uint64(1)) << place
            fourth |= (digit >> np.uint64(3)) << place
        planes[0, w], planes[1, w], planes[2, w], planes[3, w] = first, second, third, fourth
    return low, step, total


@njit(cache=True, nogil=True)
def plane_sums(words: np.ndarray, planes: np.ndarray) -> tuple[int, int]:
    """(ones of the row's sign bits, sum of the query's digits where they are one)."""
    ones = digits = 0
    for w in range(words.shape[0]):
        word = words[w]
        ones += popcount(word)
        digits += (
            popcount(word & planes[0, w])
            + 2 * popcount(word & planes[1, w])
            + 4 * popcount(word & planes[2, w])
            + 8 * popcount(word & planes[3, w])
        )
    return ones, digits


@njit(cache=True, nogil=True)
def hamming(words: np.ndarray, query_bits: np.ndarray) -> int:
    """Differing bits of two rows of words."""
    differ = 0
    for w in range(words.shape[0]):
        differ += popcount(words[w] ^ query_bits[w])
    return differ


@njit(cache=True, nogil=True)
def bound_byte_tables(
    query: np.ndarray,
    edges: np.ndarray,
    bits: np.ndarray,
    order: np.ndarray,
    byte_starts: np.ndarray,
    tables: np.ndarray,
) -> None:
    """Squared lower bounds of whole code bytes, float32 (g, 256): several dimensions share a byte.

    query float32 (d,) in the partition's space; edges float32 (d, c + 1), bits uint8 (d,); byte t holds the dimensions
    order[byte_starts[t]:byte_starts[t + 1]], the first in its lowest bits. Edges cover all rows, the first and last too.
    """
    for byte in range(byte_starts.shape[0] - 1):
        table = tables[byte]
        table[0] = 0
        size = 1
        for at in range(byte_starts[byte], byte_starts[byte + 1]):
            j = order[at]
            value = query[j]
            cells = 1 << np.int64(bits[j])
            edge = edges[j]
            for cell in range(cells - 1, -1, -1):
                outside = max(np.float32(0), max(edge[cell] - value, value - edge[cell + 1]))
                bound = outside * outside
                part = table[cell * size : (cell + 1) * size]
                for lower in range(size):
                    part[lower] = table[lower] + bound
            size *= cells


@njit(cache=True, nogil=True)
def sum_bytes(code: np.ndarray, tables: np.ndarray) -> float:
    """Sum of a row's table entries: its squared lower bound. code uint8 (g,), tables float32 (g, 256)."""
    n_bytes = code.shape[0]
    a = b = c = e = np.float32(0)
    t = 0
    while t + 3 < n_bytes:
        a += tables[t, code[t]]
        b += tables[t + 1, code[t + 1]]
        c += tables[t + 2, code[t + 2]]
        e += tables[t + 3, code[t + 3]]
        t += 4
    while t < n_bytes:
        a += tables[t, code[t]]
        t += 1
    return (a + b) + (c + e)


@njit(cache=True, nogil=True)
def finish_l2(squared: np.ndarray, positions: np.ndarray, ids: np.ndarray, out: np.ndarray) -> None:
    """Distances from their squares in place, and ids of positions (s, k) into `out`; -1 stays -1."""
    for s in range(squared.shape[0]):
        for i in range(squared.shape[1]):
            squared[s, i] = np.sqrt(squared[s, i])
            out[s, i] = ids[positions[s, i]] if positions[s, i] >= 0 else -1

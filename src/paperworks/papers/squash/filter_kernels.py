"""Compiled evaluation of filter programs, block by block over cells of one byte.

A program is a list of instructions, rows of `code` (m, 11) int64, for a stack of byte buffers: 0 no, 1 maybe, 2 yes. 'And' is the
minimum, 'or' the maximum, so three values cost no more than two. Columns of an instruction:

    0 kind     1 what to do with the result (push it, and it into the top, or it)     2 plane of cells, or row of `masks`
    3-6 numbers of the kind, see `_and_leaf`     7 exact test for 'maybe'     8 row of keys or label starts     9-10 slice of `exact`

All functions are to be called from other kernels as well: they allocate nothing, and take plain arrays:
code, exact int64 (e,), tables uint8 (t, 256), masks uint8 (m, n) of a program; cells uint8 (P, n), keys int64 (K, n),
label_starts int64 (L, n + 1), label_codes int32 of a table.
"""

from __future__ import annotations

import numba
import numpy as np

CONSTANT, RANGE, EDGES, TABLE, BITS, MASK, MERGE = range(7)
PUSH, AND, OR = range(3)
NEVER, INTERVALS, LABELS_ANY, LABELS_ALL, LABELS_NONE, LABELS_NOT_ALL = range(6)
COLUMNS = 11
BLOCK = 4096  # rows a round: the buffers of a few levels stay in the first cache
NO, MAYBE, YES = np.uint8(0), np.uint8(1), np.uint8(2)


@numba.njit(cache=True, nogil=True)
def _and_leaf(kind, line, tables, masks, cells, start, out):  # type: ignore[no-untyped-def]
    """out (b,) = min(out, leaf) for rows start .. start + b.

    RANGE: 3 first cell, 4 cells after it, 5 value. EDGES: 3, 4 outer range of 'maybe', 5, 6 inner range of 'yes'.
    TABLE: 3 row of tables. BITS: 3 mask, 4 target, 5 value if equal, 6 if not. MASK: 5 value if set, 6 if not. CONSTANT: 5 value.
    """
    n = out.size
    first, width = np.uint8(line[3]), np.uint8(line[4])
    one, other = np.uint8(line[5]), np.uint8(line[6])
    if kind == RANGE:
        cell = cells[line[2], start : start + n]
        for i in range(n):
            value = one if np.uint8(cell[i] - first) <= width else NO
            out[i] = min(out[i], value)
    elif kind == EDGES:
        cell = cells[line[2], start : start + n]
        for i in range(n):
            inner = YES if np.uint8(cell[i] - one) <= other else MAYBE
            value = inner if np.uint8(cell[i] - first) <= width else NO
            out[i] = min(out[i], value)
    elif kind == BITS:
        cell = cells[line[2], start : start + n]
        for i in range(n):
            value = one if np.uint8(cell[i] & first) == width else other
            out[i] = min(out[i], value)
    elif kind == TABLE:
        cell = cells[line[2], start : start + n]
        table = tables[line[3]]
        for i in range(n):
            out[i] = min(out[i], table[cell[i]])
    elif kind == MASK:
        cell = masks[line[2], start : start + n]
        for i in range(n):
            out[i] = min(out[i], one if cell[i] != NO else other)
    else:
        for i in range(n):
            out[i] = min(out[i], one)


@numba.njit(cache=True, nogil=True)
def _or_leaf(kind, line, tables, masks, cells, start, out):  # type: ignore[no-untyped-def]
    """out (b,) = max(out, leaf); the numbers are those of `_and_leaf`."""
    n = out.size
    first, width = np.uint8(line[3]), np.uint8(line[4])
    one, other = np.uint8(line[5]), np.uint8(line[6])
    if kind == RANGE:
        cell = cells[line[2], start : start + n]
        for i in range(n):
            value = one if np.uint8(cell[i] - first) <= width else NO
            out[i] = max(out[i], value)
    elif kind == EDGES:
        cell = cells[line[2], start : start + n]
        for i in range(n):
            inner = YES if np.uint8(cell[i] - one) <= other else MAYBE
            value = inner if np.uint8(cell[i] - first) <= width else NO
            out[i] = max(out[i], value)
    elif kind == BITS:
        cell = cells[line[2], start : start + n]
        for i in range(n):
            value = one if np.uint8(cell[i] & first) == width else other
            out[i] = max(out[i], value)
    elif kind == TABLE:
        cell = cells[line[2], start : start + n]
        table = tables[line[3]]
        for i in range(n):
            out[i] = max(out[i], table[cell[i]])
    elif kind == MASK:
        cell = masks[line[2], start : start + n]
        for i in range(n):
            out[i] = max(out[i], one if cell[i] != NO else other)
    else:
        for i in range(n):
            out[i] = max(out[i], one)


@numba.njit(cache=True, nogil=True)
def _merge(combine, out, other):  # type: ignore[no-untyped-def]
    """out = min or max of two buffers (b,)."""
    if combine == AND:
        for i in range(out.size):
            out[i] = min(out[i], other[i])
    else:
        for i in range(out.size):
            out[i] = max(out[i], other[i])


@numba.njit(cache=True, nogil=True)
def evaluate_rows(code, tables, masks, cells, start, stop, out, scratch):  # type: ignore[no-untyped-def]
    """Write 0 no, 1 maybe, 2 yes for rows start .. stop into out (>= stop - start,) uint8.

    scratch (depth, BLOCK) uint8, depth at least that of the program; its content is of no use to anybody afterwards.
    """
    for base in range(start, stop, BLOCK):
        n = min(BLOCK, stop - base)
        target = out[base - start : base - start + n]
        level = -1
        for k in range(code.shape[0]):
            line = code[k]
            kind, combine = line[0], line[1]
            if kind == MERGE:
                if level == 1:
                    _merge(combine, target, scratch[1, :n])
                else:
                    _merge(combine, scratch[level - 1, :n], scratch[level, :n])
                level -= 1
                continue
            if combine == PUSH:
                level += 1
            top = target if level == 0 else scratch[level, :n]
            if combine == PUSH:
                top[:] = YES
            if combine == OR:
                _or_leaf(kind, line, tables, masks, cells, base, top)
            else:
                _and_leaf(kind, line, tables, masks, cells, base, top)


@numba.njit(cache=True, nogil=True)
def _in_intervals(exact, first, last, key):  # type: ignore[no-untyped-def]
    """True if key lies in one of the sorted, disjoint intervals exact[first:last], given as low, high, low, high ..."""
    low, high = 0, (last - first) // 2
    while low < high:  # the first interval that ends at or after key
        middle = (low + high) // 2
        if exact[first + 2 * middle + 1] < key:
            low = middle + 1
        else:
            high = middle
    return first + 2 * low < last and exact[first + 2 * low] <= key


@numba.njit(cache=True, nogil=True)
def _count_labels(exact, first, last, codes, begin, end):  # type: ignore[no-untyped-def]
    """How many of the sorted codes exact[first:last] are among the sorted codes[begin:end]."""
    found = 0
    for j in range(first, last):
        while begin < end and codes[begin] < exact[j]:
            begin += 1
        if begin < end and codes[begin] == exact[j]:
            found += 1
    return found


@numba.njit(cache=True, nogil=True)
def _leaf_at(line, tables, masks, cells, row):  # type: ignore[no-untyped-def]
    """The value of one instruction at one row."""
    kind = line[0]
    if kind == CONSTANT:
        return line[5]
    if kind == MASK:
        return line[5] if masks[line[2], row] != NO else line[6]
    cell = np.int64(cells[line[2], row])
    if kind == RANGE:
        return line[5] if line[3] <= cell <= line[3] + line[4] else 0
    if kind == EDGES:
        if line[5] <= cell <= line[5] + line[6]:
            return 2
        return 1 if line[3] <= cell <= line[3] + line[4] else 0
    if kind == BITS:
        return line[5] if cell & line[3] == line[4] else line[6]
    return np.int64(tables[line[3], cell])


@numba.njit(cache=True, nogil=True)
def _exact_at(line, exact, keys, label_starts, label_codes, row):  # type: ignore[no-untyped-def]
    """The exact test of one instruction at one row whose cell says maybe."""
    test, first, last = line[7], line[9], line[10]
    if test == INTERVALS:
        return _in_intervals(exact, first, last, keys[line[8], row])
    begin, end = label_starts[line[8], row], label_starts[line[8], row + 1]
    found = _count_labels(exact, first, last, label_codes, begin, end)
    if test == LABELS_ANY:
        return found > 0
    if test == LABELS_ALL:
        return found == last - first
    if test == LABELS_NONE:
        return found == 0
    return found < last - first


@numba.njit(cache=True, nogil=True)
def verify_row(code, exact, tables, masks, cells, keys, label_starts, label_codes, row):  # type: ignore[no-untyped-def]
    """True if the row passes, exactly: where a cell only says maybe, the key or the labels decide."""
    stack = np.int64(0)  # bit 0 is the top; programs are written so that 64 levels would need more than 2^60 leaves
    for k in range(code.shape[0]):
        line = code[k]
        kind, combine = line[0], line[1]
        if kind == MERGE:
            top = stack & 1
            stack >>= 1
            value = top
        else:
            three = _leaf_at(line, tables, masks, cells, row)
            value = np.int64(three >> 1)
            if three == 1 and _exact_at(line, exact, keys, label_starts, label_codes, row):
                value = np.int64(1)
        if combine == PUSH:
            stack = (stack << 1) | value
        elif combine == AND:
            stack &= value | ~np.int64(1)
        else:
            stack |= value
    return stack & 1 == 1


@numba.njit(cache=True, nogil=True)
def exact_rows(code, exact, tables, masks, cells, keys, label_starts, label_codes, start, stop, out, scratch):  # type: ignore[no-untyped-def]
    """Write 0 or 1 for rows start .. stop into out (stop - start,) uint8; returns how many pass."""
    evaluate_rows(code, tables, masks, cells, start, stop, out, scratch)
    count = 0
    for i in range(stop - start):
        passes = out[i] == YES
        if out[i] == MAYBE:
            passes = verify_row(code, exact, tables, masks, cells, keys, label_starts, label_codes, start + i)
        out[i] = passes
        count += passes
    return count


@numba.njit(cache=True, nogil=True)
def keep_positions(code, exact, tables, masks, cells, keys, label_starts, label_codes, positions, out):  # type: ignore[no-untyped-def]
    """Copy those of positions (c,) int64 that pass to out (>= c,) int64, in their order; returns how many. out may be positions."""
    count = 0
    for i in range(positions.size):
        row = positions[i]
        if verify_row(code, exact, tables, masks, cells, keys, label_starts, label_codes, row):
            out[count] = row
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def first_at_least(keys, order, begin, end, key):  # type: ignore[no-untyped-def]
    """The first of order[begin:end], positions sorted by their keys (n,), whose key is >= key; end if there is none."""
    while begin < end:
        middle = (begin + end) // 2
        if keys[order[middle]] < key:
            begin = middle + 1
        else:
            end = middle
    return begin

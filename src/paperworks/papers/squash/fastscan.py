"""Score 32 rows of sign bits at once, by table look-ups that stay inside vector registers.

Letters: n rows, d dimensions (padded to a multiple of 16), m = d/4 groups of four dimensions.

The first pass of the search needs sum_j s_j q_j for sign bits s of a row and a query q (or the Hamming distance, which
is the same sum with other weights). Four sign bits make one of 16 patterns, so the sum over four dimensions is a table
of 16 entries, and a row costs m look-ups. Rows are stored in blocks of 32, the same four dimensions of all 32 rows
beside each other, so that one byte-shuffle instruction looks up 32 rows. Table entries are 6-bit, four of them are added
in bytes, and the sums go to 16-bit counters: no overflow up to d = 4096.

The shuffle needs AVX2; elsewhere `scan_block` is a plain loop with the same results, bit for bit.
"""

# Compiled functions: numba decides the types of numbers, mypy only knows those of plain NumPy.
# mypy: disable-error-code="arg-type,assignment,call-arg,return-value,no-any-return,unreachable,no-untyped-call,import-untyped"

from __future__ import annotations

import os
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK = 32  # rows scored together
TABLE_TOP = 63  # largest table entry: four of them fit in a byte
MAX_DIMENSIONS = 4096  # 1024 groups of at most 63 stay below 2**16


def _has_avx2() -> bool:
    """Whether the compiled kernels may use AVX2 (also no when numba is told to build for another processor)."""
    if os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES"):
        return False
    return bool(llvm.get_host_cpu_features().get("avx2", False)) and llvm.get_process_triple().startswith("x86_64")


HAS_AVX2 = _has_avx2()

_I8, _I16, _I32, _I64 = (ir.IntType(width) for width in (8, 16, 32, 64))
_BYTES, _HALVES, _ROWS = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16), ir.VectorType(_I16, BLOCK)


@intrinsic
def _scan_block_avx2(typingctx: Any, codes: Any, offset: Any, tables: Any, groups: Any, out: Any) -> Any:
    """As `scan_block_plain`, with vpshufb."""
    signature = types.void(codes, types.int64, tables, types.int64, out)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        data = [context.make_array(kinds[i])(context, builder, args[i]).data for i in (0, 2, 4)]
        code_start = builder.gep(data[0], [args[1]])
        shuffle = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_BYTES, [_BYTES, _BYTES]), "llvm.x86.avx2.pshuf.b"
        )
        even, odd = cgutils.alloca_once(builder, _HALVES), cgutils.alloca_once(builder, _HALVES)
        for counter in (even, odd):
            builder.store(ir.Constant(_HALVES, [0] * 16), counter)

        def load(start: Any, at: Any) -> Any:
            loaded = builder.load(builder.bitcast(builder.gep(start, [at]), _BYTES.as_pointer()))
            loaded.align = 1
            return loaded

        quads = builder.lshr(args[3], ir.Constant(_I64, 2))
        with cgutils.for_range(builder, quads, intp=_I64) as loop:
            code_at = builder.mul(loop.index, ir.Constant(_I64, 64))
            table_at = builder.mul(loop.index, ir.Constant(_I64, 128))
            total = None
            for half in range(2):
                pair = load(code_start, builder.add(code_at, ir.Constant(_I64, 32 * half)))
                low = builder.and_(pair, ir.Constant(_BYTES, [15] * 32))
                high = builder.lshr(pair, ir.Constant(_BYTES, [4] * 32))
                for place, pattern in enumerate((low, high)):
                    table = load(data[1], builder.add(table_at, ir.Constant(_I64, 64 * half + 32 * place)))
                    looked_up = builder.call(shuffle, [table, pattern])
                    total = looked_up if total is None else builder.add(total, looked_up)
            halves = builder.bitcast(total, _HALVES)
            builder.store(builder.add(builder.load(even), builder.and_(halves, ir.Constant(_HALVES, [255] * 16))), even)
            builder.store(builder.add(builder.load(odd), builder.lshr(halves, ir.Constant(_HALVES, [8] * 16))), odd)
        order = [row // 2 + 16 * (row % 2) for row in range(BLOCK)]  # rows 0, 2, 4.. are in even, 1, 3, 5.. in odd
        rows = builder.shuffle_vector(
            builder.load(even), builder.load(odd), ir.Constant(ir.VectorType(_I32, 32), order)
        )
        builder.store(rows, builder.bitcast(data[2], _ROWS.as_pointer())).align = 1
        return context.get_dummy_value()

    return signature, codegen


@njit(cache=True, nogil=True)
def scan_block_plain(codes: np.ndarray, offset: int, tables: np.ndarray, groups: int, out: np.ndarray) -> None:
    """Sum the table entries of the 32 rows of one block into `out`.

    codes uint8 flat, the block starts at `offset` and has 16 x groups bytes: for each pair of groups 32 bytes, low four
    bits the even group; tables uint8 flat (groups x 32, the 16 entries twice); groups a multiple of 4; out uint16 (32,).
    """
    for row in range(BLOCK):
        total = 0
        for pair in range(groups >> 1):
            byte = codes[offset + pair * 32 + row]
            total += tables[pair * 64 + (byte & 15)] + tables[pair * 64 + 32 + (byte >> 4)]
        out[row] = total


if HAS_AVX2:

    @njit(cache=True, nogil=True)
    def scan_block(codes: np.ndarray, offset: int, tables: np.ndarray, groups: int, out: np.ndarray) -> None:
        """As `scan_block_plain`, 32 rows an instruction."""
        _scan_block_avx2(codes, offset, tables, groups, out)

else:  # pragma: no cover - other processors
    scan_block = scan_block_plain


@njit(cache=True, nogil=True)
def interleave(signs: np.ndarray, starts: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Put sign bits into blocks of 32 rows, each list on its own blocks.

    signs uint64 (n, w), starts int64 (lists + 1,) -> codes uint8 flat, first block of each list int64 (lists + 1,).
    The rest of a list's last block is zero.
    """
    n_lists = starts.shape[0] - 1
    first = np.zeros(n_lists + 1, np.int64)
    for one in range(n_lists):
        first[one + 1] = first[one] + (starts[one + 1] - starts[one] + BLOCK - 1) // BLOCK
    codes = np.zeros(first[n_lists] * groups * 16, np.uint8)
    for one in range(n_lists):
        for i in range(starts[one], starts[one + 1]):
            within = i - starts[one]
            at = (first[one] + within // BLOCK) * groups * 16 + within % BLOCK
            for pair in range(groups >> 1):
                word = signs[i, pair >> 3] if (pair >> 3) < signs.shape[1] else np.uint64(0)
                codes[at + pair * 32] = np.uint8((word >> np.uint64(8 * (pair & 7))) & np.uint64(255))
    return codes, first


@njit(cache=True, nogil=True)
def sign_tables(query: np.ndarray, tables: np.ndarray) -> tuple[float, float]:
    """Fill the tables of sum_j s_j q_j; returns (scale, offset) with sum ~ scale x looked-up + offset.

    query float32 (d,); tables uint8 flat (groups x 32). A group's four bits give sum of +-q over its four dimensions;
    entries are rounded to steps of the widest group / 63.
    """
    d = query.shape[0]
    groups = tables.shape[0] // 32
    widest = np.float32(0)
    for g in range(groups):
        span = np.float32(0)
        for j in range(4 * g, min(4 * g + 4, d)):
            span += abs(query[j])
        widest = max(widest, span)
    if widest == 0:
        tables[:] = 0
        return np.float32(0), np.float32(0)
    to_entry = np.float32(TABLE_TOP) / (2 * widest)
    offset = np.float32(0)
    sums = np.empty(16, np.float32)
    for g in range(groups):
        span = np.float32(0)
        sums[0] = 0
        filled = 1
        for t in range(4):
            j = 4 * g + t
            value = query[j] if j < d else np.float32(0)
            span += abs(value)
            for pattern in range(filled):
                sums[filled + pattern] = sums[pattern] + value
                sums[pattern] -= value
            filled *= 2
        offset -= span
        for pattern in range(16):
            entry = np.uint8((sums[pattern] + span) * to_entry + np.float32(0.5))
            tables[g * 32 + pattern] = entry
            tables[g * 32 + 16 + pattern] = entry
    return np.float32(1) / to_entry, offset


@njit(cache=True, nogil=True)
def hamming_tables(query_bits: np.ndarray, tables: np.ndarray) -> None:
    """Fill the tables whose sums are Hamming distances to `query_bits` uint64 (w,)."""
    for g in range(tables.shape[0] // 32):
        word = query_bits[g >> 4] if (g >> 4) < query_bits.shape[0] else np.uint64(0)
        own = np.int64((word >> np.uint64(4 * (g & 15))) & np.uint64(15))
        for pattern in range(16):
            differ = own ^ pattern
            count = (differ & 1) + ((differ >> 1) & 1) + ((differ >> 2) & 1) + (differ >> 3)
            tables[g * 32 + pattern] = np.uint8(count)
            tables[g * 32 + 16 + pattern] = np.uint8(count)

"""The compiled loops by hand: what each instruction means, and what other kernels may rely on."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.papers.squash import filter_kernels as fk

N = 2 * fk.BLOCK + 37
RNG = np.random.default_rng(0)
CELLS = RNG.integers(0, 256, (3, N)).astype(np.uint8)
TABLES = RNG.integers(0, 3, (2, 256)).astype(np.uint8)
MASKS = RNG.integers(0, 2, (1, N)).astype(np.uint8)


def program(*lines: tuple[int, ...]) -> np.ndarray:
    code = np.zeros((len(lines), fk.COLUMNS), np.int64)
    for row, line in zip(code, lines, strict=True):
        row[: len(line)] = line
    return code


def evaluate(code: np.ndarray, start: int = 0, stop: int = N, depth: int = 3) -> np.ndarray:
    out = np.full(stop - start, 77, np.uint8)
    scratch = np.full((depth, fk.BLOCK), 99, np.uint8)
    fk.evaluate_rows(code, TABLES, MASKS, CELLS, start, stop, out, scratch)
    return out


def test_a_range_of_cells_does_not_wrap_around():
    cells = CELLS[1].astype(int)
    got = evaluate(program((fk.RANGE, fk.PUSH, 1, 250, 4, 2)))
    np.testing.assert_array_equal(got, 2 * ((cells >= 250) & (cells <= 254)))


def test_the_edges_of_a_range_are_maybe_and_the_inside_is_yes():
    cells = CELLS[0].astype(int)
    got = evaluate(program((fk.EDGES, fk.PUSH, 0, 10, 90, 11, 88)))
    np.testing.assert_array_equal(
        got, np.select([(cells > 10) & (cells < 100), (cells == 10) | (cells == 100)], [2, 1], 0)
    )


def test_bits_and_tables_and_masks():
    cells = CELLS[2].astype(int)
    any_bit = evaluate(program((fk.BITS, fk.PUSH, 2, 0b101, 0, 0, 1)))
    np.testing.assert_array_equal(any_bit, (cells & 0b101 != 0).astype(int))
    all_bits = evaluate(program((fk.BITS, fk.PUSH, 2, 0b101, 0b101, 2, 0)))
    np.testing.assert_array_equal(all_bits, 2 * (cells & 0b101 == 0b101))
    np.testing.assert_array_equal(evaluate(program((fk.TABLE, fk.PUSH, 2, 1))), TABLES[1][cells])
    np.testing.assert_array_equal(evaluate(program((fk.MASK, fk.PUSH, 0, 0, 0, 0, 2))), 2 * (1 - MASKS[0]))


LEAVES = [
    (fk.RANGE, 0, 40, 100, 1),
    (fk.RANGE, 1, 0, 254, 2),
    (fk.EDGES, 2, 20, 200, 30, 100),
    (fk.TABLE, 1, 0),
    (fk.BITS, 0, 3, 1, 1, 2),
    (fk.MASK, 0, 0, 0, 2, 0),
    (fk.CONSTANT, 0, 0, 0, 1),
]


@settings(deadline=None, max_examples=100)
@given(
    st.recursive(
        st.sampled_from(LEAVES), lambda inner: st.tuples(st.sampled_from([fk.AND, fk.OR]), inner, inner), max_leaves=9
    )
)
def test_and_is_the_minimum_and_or_the_maximum_at_any_depth(tree):
    lines: list[tuple[int, ...]] = []

    def plain(node) -> np.ndarray:
        if node in LEAVES:
            lines.append((node[0], fk.PUSH, *node[1:]))
            alone = program(lines[-1])
            return evaluate(alone)
        left, right = plain(node[1]), plain(node[2])
        lines.append((fk.MERGE, node[0]))
        return np.minimum(left, right) if node[0] == fk.AND else np.maximum(left, right)

    wanted = plain(tree)
    code = program(*lines)
    np.testing.assert_array_equal(evaluate(code, depth=10), wanted)
    np.testing.assert_array_equal(evaluate(code, 100, 5000, depth=10), wanted[100:5000])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from([fk.AND, fk.OR]), st.sampled_from(LEAVES)), max_size=6), st.sampled_from(LEAVES)
)
def test_combining_at_once_is_the_same_as_pushing_and_merging(chain, first):
    at_once, pushed = [(first[0], fk.PUSH, *first[1:])], [(first[0], fk.PUSH, *first[1:])]
    for combine, leaf in chain:
        at_once.append((leaf[0], combine, *leaf[1:]))
        pushed += [(leaf[0], fk.PUSH, *leaf[1:]), (fk.MERGE, combine)]
    np.testing.assert_array_equal(evaluate(program(*at_once), depth=1), evaluate(program(*pushed), depth=2))


def test_one_row_is_verified_as_the_block_says_where_cells_decide():
    code = program((fk.EDGES, fk.PUSH, 0, 10, 90, 10, 90), (fk.TABLE, fk.OR, 1, 0), (fk.BITS, fk.AND, 2, 3, 1, 0, 2))
    three = evaluate(code)
    none = np.zeros(0, np.int64)
    arguments = (
        none,
        TABLES,
        MASKS,
        CELLS,
        np.zeros((0, N), np.int64),
        np.zeros((0, N + 1), np.int64),
        np.zeros(0, np.int32),
    )
    sure = np.flatnonzero(np.isin(TABLES[0][CELLS[1]], [0, 2]))[:500]
    for row in sure.tolist():
        assert fk.verify_row(code, *arguments, row) == (three[row] == 2)


def test_maybe_is_decided_by_keys_and_by_labels():
    keys = np.array([[5, 6, 7, 2**62, -(2**62)]])
    cells = np.zeros((1, 5), np.uint8)
    code = program((fk.RANGE, fk.PUSH, 0, 0, 0, 1, 0, fk.INTERVALS, 0, 0, 4))
    exact = np.array([6, 6, 2**62, 2**62 + 5])
    empty = (np.zeros((0, 256), np.uint8), np.zeros((0, 5), np.uint8))
    starts, codes = np.zeros((0, 6), np.int64), np.zeros(0, np.int32)
    got = [fk.verify_row(code, exact, *empty, cells, keys, starts, codes, row) for row in range(5)]
    assert got == [False, True, False, True, False]
    starts, codes = np.array([[0, 2, 2, 3, 5, 5]]), np.array([1, 4, 4, 2, 4], np.int32)
    tests = {fk.LABELS_ANY: [1, 0, 1, 1, 0], fk.LABELS_ALL: [1, 0, 0, 0, 0], fk.LABELS_NONE: [0, 1, 0, 0, 1]}
    tests |= {fk.LABELS_NOT_ALL: [0, 1, 1, 1, 1]}
    for test, wanted in tests.items():
        code = program((fk.RANGE, fk.PUSH, 0, 0, 0, 1, 0, test, 0, 0, 2))
        exact = np.array([1, 4])
        got = [int(fk.verify_row(code, exact, *empty, cells, keys, starts, codes, row)) for row in range(5)]
        assert got == wanted


def test_the_loops_can_be_called_from_another_kernel():
    @numba.njit
    def count(code, tables, masks, cells, start, stop):
        out = np.empty(stop - start, np.uint8)
        scratch = np.empty((1, fk.BLOCK), np.uint8)
        fk.evaluate_rows(code, tables, masks, cells, start, stop, out, scratch)
        return (out == 2).sum()

    code = program((fk.RANGE, fk.PUSH, 1, 0, 99, 2))
    assert count(code, TABLES, MASKS, CELLS, 5, N) == (CELLS[1, 5:] <= 99).sum()


@pytest.mark.parametrize("begin", [0, 10])
def test_the_first_key_at_least_as_large_is_found_in_a_sorted_order(begin):
    keys = np.random.default_rng(1).integers(0, 50, 200)
    order = np.argsort(keys, kind="stable").astype(np.uint32)
    for key in (-1, 0, 7, 25, 49, 50):
        expected = max(begin, int(np.searchsorted(keys[order], key)))
        assert fk.first_at_least(keys, order, begin, 200, key) == expected

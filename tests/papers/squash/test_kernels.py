"""The small compiled pieces against plain NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.papers.squash import fastscan, kernels, rotation
from paperworks.papers.squash.byte_layout import pack_bytes, share_bytes, unpack_bytes
from paperworks.papers.squash.residual_signs import residual_signs
from paperworks.papers.squash.signs import n_words, pack_signs


@pytest.mark.parametrize("d", [1, 3, 16, 48, 100, 128, 384])
def test_rotation_keeps_lengths_and_angles(d):
    rows = np.random.default_rng(d).normal(size=(20, d)).astype(np.float32)
    turned = np.empty_like(rows)
    rotation.rotate_rows(rows, rotation.draw_flips(d, 1), turned)
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-4 * d)


def test_rotation_spreads_a_single_axis_over_all_dimensions():
    d = 384
    turned = np.empty((1, d), np.float32)
    rotation.rotate_rows(np.eye(1, d, dtype=np.float32), rotation.draw_flips(d, 0), turned)
    # a dense random rotation has entries of about 1/sqrt(d), the largest of 384 about 3 of them
    assert np.abs(turned).max() < 5 / np.sqrt(d)
    assert np.count_nonzero(np.abs(turned) > 0.1 / np.sqrt(d)) > 0.8 * d


@pytest.mark.parametrize("d", [5, 64, 100, 384])
def test_scan_of_a_block_sums_the_table_entries_of_each_row(d):
    rng = np.random.default_rng(d)
    values = rng.normal(size=(75, d)).astype(np.float32)
    signs = pack_signs(values)
    groups = -(-d // 16) * 4
    codes, first = fastscan.interleave(signs, np.array([0, 40, 40, 75]), groups)
    assert first.tolist() == [0, 2, 2, 4]
    query = rng.normal(size=d).astype(np.float32)
    tables = np.zeros(groups * 32, np.uint8)
    scale, offset = fastscan.sign_tables(query, tables)
    wanted = np.where(values > 0, query, -query).sum(axis=1)
    for block, rows in ((0, slice(0, 32)), (1, slice(32, 40)), (2, slice(40, 72)), (3, slice(72, 75))):
        sums, plain = np.zeros(32, np.uint16), np.zeros(32, np.uint16)
        fastscan.scan_block(codes, block * groups * 16, tables, groups, sums)
        fastscan.scan_block_plain(codes, block * groups * 16, tables, groups, plain)
        assert sums.tolist() == plain.tolist()
        found = scale * sums[: rows.stop - rows.start].astype(np.float64) + offset
        # every entry is rounded by at most half a step
        np.testing.assert_allclose(found, wanted[rows], atol=scale * groups / 2 + 1e-3)


def test_hamming_tables_count_differing_bits():
    rng = np.random.default_rng(0)
    signs = rng.integers(0, 2**63, (32, 2), dtype=np.uint64)
    query = rng.integers(0, 2**63, 2, dtype=np.uint64)
    codes, _ = fastscan.interleave(signs, np.array([0, 32]), 32)
    tables, sums = np.zeros(32 * 32, np.uint8), np.zeros(32, np.uint16)
    fastscan.hamming_tables(query, tables)
    fastscan.scan_block(codes, 0, tables, 32, sums)
    wanted = [sum(int(a ^ b).bit_count() for a, b in zip(row, query, strict=True)) for row in signs]
    assert sums.tolist() == wanted
    assert [kernels.hamming(row, query) for row in signs] == wanted


def test_query_planes_give_the_sum_over_positive_signs():
    rng = np.random.default_rng(1)
    query, values = rng.normal(size=100).astype(np.float32), rng.normal(size=(9, 100))
    planes = np.zeros((4, n_words(100)), np.uint64)
    low, step, total = kernels.pack_query_planes(query, planes)
    assert total == pytest.approx(query.sum(), abs=1e-4)
    for words, row in zip(pack_signs(values), values, strict=True):
        ones, digits = kernels.plane_sums(words, planes)
        assert low * ones + step * digits == pytest.approx(query[row > 0].sum(), abs=step / 2 * 100)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200), st.data())
@settings(max_examples=60)
def test_selection_puts_the_smallest_first(values, data):
    keys = np.array(values, np.float32)
    items = np.arange(len(keys))
    c = data.draw(st.integers(1, len(keys)))
    before = keys.copy()
    kernels.select_smallest(keys, items, len(keys), c)
    assert sorted(keys[:c]) == sorted(before)[:c]
    assert (before[items] == keys).all()


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=120))
@settings(max_examples=60)
def test_heap_and_sort_give_ascending_keys(values):
    keys, items = np.array(values, np.float32), np.arange(len(values))
    kernels.make_heap(keys, items, len(keys))
    assert keys[0] == min(values)
    kernels.sort_pairs(keys, items, len(keys))
    assert keys.tolist() == sorted(np.float32(values).tolist())


def test_best_list_stays_sorted_and_breaks_ties_by_item():
    keys, items = np.full(3, np.inf, np.float32), np.full(3, -1)
    filled = 0
    for key, item in ((2.0, 7), (1.0, 9), (1.0, 4), (5.0, 1), (1.0, 2)):
        filled = kernels.insert_sorted(keys, items, filled, key, item)
    assert filled == 3
    assert items.tolist() == [2, 4, 9]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(0, 1000))
@settings(max_examples=60)
def test_codes_come_back_from_shared_bytes(bits, seed):
    bits = np.array(bits, np.uint8)
    order, starts = share_bytes(bits)
    widths = [int(bits[order[a:b]].sum()) for a, b in pairwise(starts)]
    assert all(0 < width <= 8 for width in widths)
    assert len(widths) <= max(1, 2 * -(-int(bits.sum()) // 8))
    codes = (np.random.default_rng(seed).integers(0, 256, (5, len(bits))) % (1 << bits.astype(int))).astype(np.uint8)
    packed, back = np.zeros((5, len(widths)), np.uint8), np.zeros_like(codes)
    pack_bytes(codes, bits, order, starts, packed)
    unpack_bytes(packed, bits, order, starts, back)
    assert (back == codes).all()


def test_byte_tables_sum_to_the_lower_bound_of_each_row():
    rng = np.random.default_rng(3)
    d, bits = 12, np.array([5, 3, 0, 8, 4, 4, 2, 2, 2, 2, 1, 6], np.uint8)
    edges = np.full((d, 257), 1e9, np.float32)
    for j in range(d):
        cells = 1 << int(bits[j])
        inner = np.sort(rng.normal(size=cells - 1))
        edges[j, : cells + 1] = [-5, *inner, 5]  # wider than all rows
    rows, query = rng.normal(size=(30, d)).astype(np.float32), rng.normal(size=d).astype(np.float32)
    codes = np.array(
        [[np.searchsorted(edges[j, 1 : 1 << int(bits[j])], x, "right") for j, x in enumerate(row)] for row in rows]
    )
    order, starts = share_bytes(bits)
    packed = np.zeros((30, len(starts) - 1), np.uint8)
    pack_bytes(codes.astype(np.uint8), bits, order, starts, packed)
    tables = np.zeros((len(starts) - 1, 256), np.float32)
    kernels.bound_byte_tables(query, edges, bits, order, starts, tables)
    for row, code, byte in zip(rows, codes, packed, strict=True):
        bound = 0.0
        for j in range(d):
            low, high = float(edges[j, code[j]]), float(edges[j, code[j] + 1])
            bound += max(0.0, low - float(query[j]), float(query[j]) - high) ** 2
        assert kernels.sum_bytes(byte, tables) == pytest.approx(bound, rel=1e-5, abs=1e-6)
        assert bound <= ((row - query) ** 2).sum() * (1 + 1e-6)


def test_residual_estimate_is_exact_for_a_query_on_the_line_through_centre_and_row():
    rng = np.random.default_rng(5)
    d = 40
    centres = rng.normal(size=(2, d)).astype(np.float32)
    rows = rng.normal(size=(6, d)).astype(np.float32)
    labels = np.array([0, 1, 0, 1, 1, 0])
    signs, add, factor = np.zeros((6, 1), np.uint64), np.zeros(6, np.float32), np.zeros(6, np.float32)
    residual_signs(rows, labels, centres, signs, add, factor)
    for i, row in enumerate(rows):
        centre = centres[labels[i]]
        query = centre + 0.7 * (row - centre)
        bits = np.where([(int(signs[i, 0]) >> j) & 1 for j in range(d)], 1, -1)
        estimate = ((query - centre) ** 2).sum() + add[i] - factor[i] * (bits * query).sum()
        assert estimate == pytest.approx(((query - row) ** 2).sum(), rel=1e-4)

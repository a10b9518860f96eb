"""The released code's numbers on a small input, carried over as vectors.

Origin: repository squash-authors/SQUASH at commit 98dde03, run with NumPy 2 on the input below: bit allocation, cell boundaries,
packing and sign bits by SQUASH_BUILD/src/vaqindex.py; extraction, bounds and Hamming distances by SQUASH_MP/src/datamanager.py
and queryprocessor.py. Where its result is a defect, the test says what differs and why ours does.
"""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.papers.squash import reference
from paperworks.papers.squash.allocation import greedy_bits
from paperworks.papers.squash.lookup import bound_tables, symmetric_tables, table_sums
from paperworks.papers.squash.quantiser import Quantiser, learn_quantiser, lloyd_max
from paperworks.papers.squash.segments import SegmentLayout
from paperworks.papers.squash.signs import hamming, keep_nearest, pack_signs

ROW, COLUMN = np.arange(30)[:, None], np.arange(5)[None, :]
ROWS = np.round(np.sin(1 + 0.7 * ROW + 1.3 * COLUMN + 0.05 * ROW * COLUMN) * np.array([8, 4, 2, 1, 0.5]), 3).astype(
    np.float32
)
QUERY = np.array([3.3, -1.1, 0.4, 0.7, -0.2], dtype=np.float32)
BUDGET = 12

ENERGIES = [32.862988, 8.025241, 2.042527, 0.507685, 0.121311]
CELLS = [16, 8, 8, 4, 1]
BOUNDARIES = [
    [
        -7.874,
        -7.82,
        -7.004,
        -5.105,
        -4.895,
        -2.866,
        0.064,
        0.333,
        2.492,
        2.747,
        5.202,
        5.404,
        6.803,
        6.941,
        7.894,
        7.933,
        7.934,
    ],
    [-4.0, -3.609, -2.868, -1.466, -0.198, 1.464, 2.983, 3.817, 3.972],
    [-2.0, -1.767, -1.338, -0.559, -0.018, 0.988, 1.525, 1.981, 2.001],
    [-1.0, -0.631, 0.091, 0.808, 0.995],
    [-0.486, 0.496],
]
SEGMENTS = [
    [
        188,
        248,
        180,
        112,
        67,
        23,
        27,
        79,
        140,
        202,
        230,
        162,
        97,
        53,
        9,
        45,
        94,
        138,
        198,
        226,
        161,
        101,
        57,
        11,
        46,
        92,
        152,
        213,
        209,
        147,
    ],
    [
        128,
        16,
        96,
        240,
        112,
        160,
        144,
        0,
        128,
        16,
        96,
        240,
        96,
        208,
        128,
        0,
        144,
        32,
        112,
        240,
        96,
        192,
        64,
        16,
        96,
        48,
        176,
        32,
        144,
        192,
    ],
]
CODES = [
    [11, 15, 11, 7, 4, 1, 1, 4, 8, 12, 14, 10, 6, 3, 0, 2, 5, 8, 12, 14, 10, 6, 3, 0, 2, 5, 9, 13, 13, 9],
    [6, 4, 2, 0, 1, 3, 5, 7, 6, 5, 3, 1, 0, 2, 4, 6, 7, 5, 3, 1, 0, 2, 4, 5, 7, 6, 4, 2, 0, 1],
    [2, 0, 1, 3, 5, 6, 6, 4, 2, 0, 1, 3, 5, 7, 6, 4, 2, 0, 1, 3, 5, 7, 5, 4, 1, 0, 2, 4, 6, 7],
    [0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 0, 0, 1, 2, 3, 3, 2, 1, 0],
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
]
SIGN_BYTES = [
    192,
    200,
    152,
    152,
    48,
    48,
    96,
    96,
    200,
    200,
    152,
    144,
    176,
    32,
    96,
    104,
    72,
    216,
    144,
    144,
    176,
    160,
    40,
    72,
    88,
    80,
    208,
    176,
    160,
    168,
]
LOWER = [
    4.8774,
    5.2293,
    2.7534,
    2.671,
    6.4423,
    10.3652,
    10.695,
    7.998,
    4.4349,
    4.89,
    4.9118,
    2.6325,
    3.9299,
    8.3763,
    11.2918,
    9.4386,
    5.9949,
    3.4023,
    3.9119,
    4.9414,
    3.2029,
    3.6343,
    8.3719,
    11.428,
    9.8915,
    5.6436,
    1.321,
    3.6593,
    4.6031,
    2.7197,
]
UPPER = [
    6.5455,
    6.0053,
    4.5769,
    4.3248,
    8.677,
    11.3059,
    12.045,
    9.8287,
    5.5879,
    6.1599,
    5.2754,
    3.4947,
    4.5829,
    8.865,
    11.7178,
    11.5788,
    8.3079,
    4.8928,
    4.3975,
    5.4084,
    3.8675,
    4.4199,
    9.0475,
    12.0055,
    11.7239,
    8.2782,
    3.7127,
    5.043,
    5.8541,
    3.9812,
]
SYMMETRIC_LOWER = [
    3.3126,
    3.243,
    1.3354,
    2.1581,
    5.7854,
    9.7658,
    9.9062,
    6.9388,
    3.3065,
    2.8956,
    2.9982,
    1.402,
    3.228,
    7.7062,
    10.6052,
    8.5026,
    4.8592,
    2.4127,
    2.075,
    3.0352,
    2.143,
    2.7083,
    7.676,
    10.6969,
    8.9172,
    4.514,
    0.541,
    1.739,
    2.8116,
    1.8636,
]
SYMMETRIC_UPPER = [
    7.3488,
    6.8886,
    5.7139,
    6.5067,
    10.8511,
    13.2912,
    14.0142,
    11.6947,
    6.7006,
    7.0247,
    6.1295,
    4.7822,
    6.6868,
    10.9761,
    13.7039,
    13.496,
    10.1543,
    6.1273,
    5.345,
    6.5348,
    5.0373,
    6.4682,
    11.0197,
    13.9579,
    13.6977,
    10.1839,
    4.6694,
    6.0092,
    6.9266,
    5.0962,
]
HAMMING = [3, 4, 2, 2, 1, 1, 3, 3, 4, 4, 2, 1, 0, 2, 3, 4, 5, 3, 1, 1, 0, 1, 3, 5, 4, 3, 2, 0, 1, 2]
LLOYD_START_4 = [-27.874, -24.895, -17.508, -13.197, -12.066]
LLOYD_4 = [-27.874, -23.97522, -18.60483, -14.25287, -12.066]
LLOYD_START_8 = [-27.874, -27.004, -24.895, -19.936, -17.508, -14.798, -13.197, -12.106, -12.066]
LLOYD_8 = [-27.874, -26.21267, -23.933, -21.33367, -18.591, -16.06404, -13.95525, -12.62975, -12.066]
LLOYD_START_MIXED = [-7.874, -4.895, 2.492, 6.803, 7.934]
LLOYD_MIXED = [-7.874, -4.74122, -0.72833, 4.03662, 7.934]


@pytest.fixture
def quantiser() -> Quantiser:
    """Cells with the released code's boundaries, ends included."""
    edges = np.full((5, 17), np.inf, dtype=np.float32)
    for j, row in enumerate(BOUNDARIES):
        edges[j, : len(row)] = row
    return Quantiser(np.log2(CELLS).astype(np.uint8), edges)


def test_energies_and_bits() -> None:
    np.testing.assert_allclose(ROWS.var(axis=0), ENERGIES, rtol=1e-5)
    # The released code allows no more cells than rows: 16 for 30 rows. Here that is a cap of 4 bits.
    assert (1 << greedy_bits(ROWS.var(axis=0), BUDGET, cap=4).astype(int)).tolist() == CELLS
    assert greedy_bits(np.array([30.0, 10, 3, 1, 0.3, 0.1, 0.01]), 20).tolist() == [5, 5, 4, 3, 2, 1, 0]
    assert greedy_bits(np.array([5.0, 5, 5, 1, 0.2]), 11).tolist() == [3, 3, 3, 2, 0]


def test_bits_lost_at_the_cap_are_not_lost_here() -> None:
    """On this spectrum the released code hands out 9 of 16 bits: [8, 1, 0, 0]; the full dimension goes on winning."""
    assert greedy_bits(np.array([1e9, 1, 1e-3, 1e-6]), 16).tolist() == [8, 6, 2, 0]


def test_equally_populated_boundaries() -> None:
    """The inner ones agree; the released ends lie 0.001 beyond the least and largest value, ours on them."""
    found = learn_quantiser(ROWS, np.log2(CELLS).astype(np.uint8), boundaries="equal")
    for j, row in enumerate(BOUNDARIES):
        np.testing.assert_allclose(found.edges[j, 1 : CELLS[j]], row[1:-1], atol=1e-4)
        np.testing.assert_allclose(found.ends()[:, j], [row[0] + 0.001, row[-1] - 0.001], atol=1e-4)


@pytest.mark.parametrize(("start", "released"), [(LLOYD_START_4, LLOYD_4), (LLOYD_START_8, LLOYD_8)])
def test_lloyd_on_negative_values(start, released) -> None:
    """There the spare zero of the released code (see the next test) sorts behind every mean and changes nothing."""
    column = np.sort(ROWS[:, 0] - np.float32(20))
    edges = np.array(start, dtype=np.float32)
    lloyd_max(column, len(edges) - 1, edges, 0, 0.005, 250)
    np.testing.assert_allclose(edges, released, atol=2e-4)
    np.testing.assert_allclose(reference.lloyd(column, np.array(start, dtype=np.float32)), released, atol=2e-4)


def test_lloyd_on_values_of_both_signs_rests_elsewhere_than_the_released_one() -> None:
    """Its list of means has one entry too many, 0 at first, which is sorted in among them and disturbs the first rounds.

    So it may come to rest at another optimum; neither is always the better one, and each edge is midway between two means.
    """
    column = np.sort(ROWS[:, 0])
    edges = np.array(LLOYD_START_MIXED, dtype=np.float32)
    lloyd_max(column, 4, edges, 0, 0.0, 250)

    def means(inner: np.ndarray) -> np.ndarray:
        cell = np.searchsorted(inner, column, side="right")
        return np.array([column[cell == c].mean() for c in range(4)])

    def error(inner: np.ndarray) -> float:
        cell = np.searchsorted(inner, column, side="right")
        return float(((column - means(inner)[cell]) ** 2).sum())

    released = np.array(LLOYD_MIXED[1:-1])
    assert max(error(edges[1:-1]), error(released)) < 0.8 * error(np.array(LLOYD_START_MIXED[1:-1]))
    assert np.abs(edges[1:-1] - released).min() > 0.5
    for inner in (edges[1:-1], released):
        np.testing.assert_allclose((means(inner)[1:] + means(inner)[:-1]) / 2, inner, atol=1e-4)


def test_codes_segments_and_extraction(quantiser) -> None:
    layout = SegmentLayout(quantiser.bits, 8)
    codes = quantiser.encode(ROWS)
    np.testing.assert_array_equal(codes.T, CODES)
    segments = layout.pack(codes)
    np.testing.assert_array_equal(segments, SEGMENTS)
    for j in range(5):
        np.testing.assert_array_equal(layout.extract(np.array(SEGMENTS, dtype=np.uint8), j), CODES[j])


def test_sign_bits_and_hamming_distances() -> None:
    """The same bits in another order (words, first dimension lowest), hence the same distances and the same selection."""
    released = np.unpackbits(np.array(SIGN_BYTES, dtype=np.uint8)[:, None], axis=1)[:, :5]
    words = pack_signs(ROWS)
    np.testing.assert_array_equal((words >> np.arange(5, dtype=np.uint64)) & np.uint64(1), released)
    distances = hamming(words, pack_signs(QUERY[None])[0])
    np.testing.assert_array_equal(distances, HAMMING)
    # Both keep the 8 nearest; among the ties at distance 1 any may be chosen.
    kept = keep_nearest(distances, 8, 5)
    np.testing.assert_array_equal(np.sort(distances[kept]), np.sort(distances[[12, 20, 27, 5, 19, 21, 11, 4]]))


def test_bounds(quantiser) -> None:
    for table, released in zip(bound_tables(QUERY, quantiser), (LOWER, UPPER), strict=True):
        np.testing.assert_allclose(np.sqrt(table_sums(table, np.array(CODES).T)), released, atol=2e-4)


def test_symmetric_bounds(quantiser) -> None:
    for table, released in zip(symmetric_tables(QUERY, quantiser), (SYMMETRIC_LOWER, SYMMETRIC_UPPER), strict=True):
        np.testing.assert_allclose(np.sqrt(table_sums(table, np.array(CODES).T)), released, atol=2e-4)


def test_a_query_below_every_boundary_is_bounded_by_its_distance_to_the_first(quantiser) -> None:
    """The released code treats it as inside the first cell (bound 0) and, when it quantises the query, puts it in the last."""
    query = QUERY.copy()
    query[0] = -10
    lower, upper = bound_tables(query, quantiser)
    first, last = BOUNDARIES[0][0], BOUNDARIES[0][-1]
    assert lower[0, 0] == pytest.approx((first + 10) ** 2, rel=1e-4)
    loose_lower, loose_upper = symmetric_tables(query, quantiser)
    assert loose_lower[0, 0] == 0
    assert loose_upper[0, 15] == upper[0, 15] == pytest.approx((last + 10) ** 2, rel=1e-4)
    assert loose_lower[0, 15] > 0

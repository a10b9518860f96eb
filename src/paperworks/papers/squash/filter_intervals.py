"""Sets of sortable keys as lists of intervals (first, last), both ends in them."""

from __future__ import annotations

from paperworks.papers.squash.attribute_keys import HIGHEST, LOWEST

Intervals = list[tuple[int, int]]
ALL_KEYS: Intervals = [(LOWEST, HIGHEST)]


def union(intervals: Intervals) -> Intervals:
    """Sorted and disjoint; neighbours are joined.

    >>> union([(5, 6), (1, 3), (4, 4)])
    [(1, 6)]
    """
    found: Intervals = []
    for low, high in sorted(pair for pair in intervals if pair[0] <= pair[1]):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def complement(intervals: Intervals) -> Intervals:
    """The keys outside of sorted, disjoint intervals."""
    found, begin = [], LOWEST
    for low, high in intervals:
        if begin < low:
            found.append((begin, low - 1))
        begin = high + 1
    return [*found, (begin, HIGHEST)] if begin <= HIGHEST else found


def intersection(one: Intervals, other: Intervals) -> Intervals:
    """The keys in both; each sorted and disjoint."""
    found = []
    i = j = 0
    while i < len(one) and j < len(other):
        low, high = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if low <= high:
            found.append((low, high))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return found

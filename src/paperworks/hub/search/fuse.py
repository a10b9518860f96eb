"""Put ranked lists together by rank alone: no score of one list is compared with a score of another."""

from __future__ import annotations

from collections.abc import Sequence

K = 60


def fuse(lists: Sequence[Sequence[int]], k: int = K) -> list[tuple[int, float]]:
    """Reciprocal rank fusion: the score of an id is the sum over the lists of 1 / (k + rank), rank from 1, best first.

    Ids that come out equal stand in the order of their best rank, then of their number, so the result never depends on the
    order of the lists. Repeats within a list count once, at their first place.
    (Cormack, Clarke, Büttcher, SIGIR 2009.)

    >>> [found for found, _ in fuse([[7, 8, 9], [9, 7]])]
    [7, 9, 8]
    """
    scores: dict[int, float] = {}
    best: dict[int, int] = {}
    for ranked in lists:
        for rank, found in enumerate(dict.fromkeys(ranked), start=1):
            scores[found] = scores.get(found, 0.0) + 1.0 / (k + rank)
            best[found] = min(rank, best.get(found, rank))
    # Rounded, since a sum of the same numbers in another order may differ in its last digit.
    order = sorted(scores, key=lambda found: (-round(scores[found], 12), best[found], found))
    return [(found, scores[found]) for found in order]

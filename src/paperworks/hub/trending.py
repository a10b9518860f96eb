"""The arithmetic of trending, without a database: votes in, keys and weights out.

Each vote v has a weight w fixed when it is cast. With half-life h,

    heat(p, now) = sum over v of w_v * 2^(-(now - t_v) / h)
    key(p)       = log2 of the sum over v of w_v * 2^((t_v - EPOCH) / h)

All papers cool at the same rate, so the order by key is the order by heat at any moment, and a key changes only when a vote
comes (forward decay: Cormode, Shkapenyuk, Srivastava, Xu, ICDE 2009). Moments are Unix seconds, half-lives are hours.
What is stored, and where the votes come from, is in `store/votes.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from paperworks.config import TrendingSettings

EPOCH = 1_577_836_800.0  # 2020-01-01T00:00:00Z; any moment would do, a near one keeps the keys small
NOTHING = -math.inf  # the key of a paper without votes
HOUR = 3600.0
DAY = 24 * HOUR

FRESH_TRUST = 0.25  # a confirmed reader in the first days
FRESH_DAYS = 7
READING_DAYS = 3  # separate days of reading that make a reader known
FREE_VOTES = 10  # votes a day that weigh in full
BURST_SECONDS = 600.0
BURST_TAIL = 1e-6
LEAST_RATE = 1.0  # votes in ten minutes that any hub may have without a question


class Cast(NamedTuple):
    """A vote as it counts: when (Unix seconds), and how much."""

    at: float
    weight: float


class Seen(NamedTuple):
    """A counter elsewhere as it stood at a moment (Unix seconds)."""

    at: float
    value: int


# -- keys -----------------------------------------------------------------------------------------------------------


def half_lives(settings: TrendingSettings) -> dict[str, float]:
    """Window -> half-life in hours."""
    return {"day": settings.day_hours, "week": settings.week_hours, "month": settings.month_hours}


def add(key: float, vote: Cast, half_life: float) -> float:
    """The key after one more vote, in constant time (log-sum-exp in base 2). A weight of 0 changes nothing.

    >>> add(NOTHING, Cast(EPOCH, 1.0), 24.0)
    0.0
    >>> add(0.0, Cast(EPOCH, 1.0), 24.0)
    1.0
    """
    if vote.weight <= 0:
        return key
    new = math.log2(vote.weight) + (vote.at - EPOCH) / (half_life * HOUR)
    high, low = max(key, new), min(key, new)
    return high if low == NOTHING else high + math.log2(1 + math.exp2(low - high))


def key_of(votes: Iterable[Cast], half_life: float) -> float:
    """The key of a paper with these votes; `NOTHING` without any that counts."""
    marks = [math.log2(vote.weight) + (vote.at - EPOCH) / (half_life * HOUR) for vote in votes if vote.weight > 0]
    if not marks:
        return NOTHING
    high = max(marks)
    return high + math.log2(math.fsum(math.exp2(mark - high) for mark in marks))


def heat(key: float, now: float, half_life: float) -> float:
    """What is left of all votes at `now`: 1 is one reader's vote just cast; 0 without votes.

    >>> heat(add(NOTHING, Cast(EPOCH, 1.0), 24.0), EPOCH + 2 * DAY, 24.0)
    0.25
    """
    if key == NOTHING:
        return 0.0
    return math.exp2(min(1000.0, key - (now - EPOCH) / (half_life * HOUR)))


# -- counters elsewhere ---------------------------------------------------------------------------------------------


def outside_votes(seen: Sequence[Seen], weight: float, listed: float | None = None) -> list[Cast]:
    """Votes that a counter elsewhere stands for: a rise by n between two looks is n votes in the middle of the time between them.

    seen: observations, in any order. listed: when the counter began (the listing day's start), None: unknown.
    At first sight the counter has risen from 0 since `listed`. A fall takes back the newest of them, so that what is left adds
    up to the last observation times `weight` and never falls below zero.
    """
    rises: list[list[float]] = []  # [at, n], oldest first
    looks = sorted(seen)
    if not looks:
        return []
    before = Seen(looks[0].at if listed is None else min(listed, looks[0].at), 0)
    for look in looks:
        change = max(0, look.value) - before.value
        if change > 0:
            rises.append([(before.at + look.at) / 2, change])
        while change < 0 and rises:
            taken = min(rises[-1][1], -change)
            rises[-1][1] -= taken
            change += int(taken)
            if rises[-1][1] <= 0:
                rises.pop()
        before = Seen(look.at, max(0, look.value))
    return [Cast(at, n * weight) for at, n in rises]


# -- what a vote weighs ---------------------------------------------------------------------------------------------


def trust(*, confirmed: float | None, reading_days: int, now: float) -> float:
    """0 before the reader's address is confirmed (`confirmed` None), 0.25 in the first seven days and until there were three
    separate days of reading, 1 after that."""
    if confirmed is None or confirmed > now:
        return 0.0
    known = now - confirmed >= FRESH_DAYS * DAY and reading_days >= READING_DAYS
    return 1.0 if known else FRESH_TRUST


def budget(n: int) -> float:
    """What a reader's n-th vote of a day weighs (n from 1): min(1, 10 / n).

    >>> budget(10), budget(40)
    (1.0, 0.25)
    """
    return min(1.0, FREE_VOTES / max(1, n))


def cluster_share(k: int) -> float:
    """What the k-th vote on a paper from one cluster weighs (k from 1): 1 / sqrt(k).

    A cluster of n votes weighs about 2 * sqrt(n) (plurality damping: Miller, Weyl, Erichsen 2022).
    """
    return 1.0 / math.sqrt(max(1, k))


def vote_weight(*, trust: float, nth_of_day: int, kth_of_cluster: int) -> float:
    """trust x budget x cluster."""
    return trust * budget(nth_of_day) * cluster_share(kth_of_cluster)


def poisson_tail(n: int, expected: float) -> float:
    """Chance of `n` or more events where `expected` are usual.

    >>> round(poisson_tail(1, 1.0), 6), poisson_tail(0, 5.0)
    (0.632121, 1.0)
    """
    if n <= 0:
        return 1.0
    if expected <= 0:
        return 0.0
    if n <= expected:  # the head is the shorter sum
        return max(0.0, 1.0 - math.fsum(_poisson(k, expected) for k in range(n)))
    total, term, k = 0.0, _poisson(n, expected), n
    while term > total * 1e-17:
        total += term
        k += 1
        term *= expected / k
    return min(1.0, total)


def _poisson(k: int, expected: float) -> float:
    return math.exp(k * math.log(expected) - expected - math.lgamma(k + 1))


def votes_on_hold(n: int, expected: float, tail: float = BURST_TAIL) -> int:
    """How many of `n` votes on one paper within ten minutes are too many, where the whole hub usually has `expected`.

    >>> votes_on_hold(8, 1.0), votes_on_hold(50, 1.0)
    (0, 41)
    """
    expected = max(expected, LEAST_RATE)
    if poisson_tail(n, expected) >= tail:
        return 0
    most = n
    while most > 0 and poisson_tail(most, expected) < tail:
        most -= 1
    return n - most


# -- why ------------------------------------------------------------------------------------------------------------


def sentence(heat: float, readers: int, outside: Mapping[str, int], age_hours: float | None) -> str:
    """Why a paper stands where it stands.

    >>> sentence(12.43, 3, {"Hugging Face": 31}, 20)
    'heat 12.4: 3 readers here, 31 on Hugging Face, 20 h old'
    """
    parts = [f"{readers} {'reader' if readers == 1 else 'readers'} here"] if readers else []
    parts += [f"{n} on {name}" for name, n in outside.items() if n]
    if age_hours is not None:
        parts.append(age(age_hours))
    warm = f"{heat:.1f}" if heat >= 0.05 or heat == 0 else "under 0.1"
    return f"heat {warm}" + (": " + ", ".join(parts) if parts else "")


def age(hours: float) -> str:
    """How old, for people.

    >>> age(0.2), age(20.4), age(80), age(24 * 400)
    ('just in', '20 h old', '3 days old', '1 year old')
    """
    if hours < 1:
        return "just in"
    if hours < 72:
        return f"{hours:.0f} h old"
    days = int(hours // 24)
    if days < 365:
        return f"{days} days old"
    years = days // 365
    return f"{years} {'year' if years == 1 else 'years'} old"

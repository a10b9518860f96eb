"""Which prompts share a row: the paper's packing, better ones, their lower bound, and what each would cost.

Prompts of lengths l_1 ... l_k go into r bins of at most c tokens each. The paper takes c = the longest prompt of the batch, puts long
prompts first and each into the fullest bin where it fits ('bfd', what the authors' code runs), or solves an integer program.

    lower bound <= exact <= ffd, bfd, least_loaded

Letters: `k` prompts, `r` bins, `c` capacity in tokens.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappush, heapreplace
from typing import TYPE_CHECKING, Literal

from paperworks.errors import InputError

if TYPE_CHECKING:
    from paperworks.papers.prepacking.cost import CostModel

Algorithm = Literal["least_loaded", "ffd", "bfd", "exact", "bucketed", "flat"]
ALGORITHMS: tuple[Algorithm, ...] = ("bfd", "ffd", "least_loaded", "exact", "bucketed", "flat")
Bins = list[list[int]]


def least_loaded(lengths: Sequence[int], capacity: int) -> Bins:
    """Long prompts first, each into the emptiest bin where it fits (what later versions of the authors' library do), else into a new one.

    >>> least_loaded([5, 3, 2, 2], 5)
    [[0], [1, 2], [3]]
    """
    loads: list[
        tuple[int, int]
    ] = []  # (tokens, bin), a heap would do; the emptiest is enough: if it does not fit, none does
    bins: Bins = []
    for i in longest_first(lengths):
        if loads and loads[0][0] + lengths[i] <= capacity:
            load, place = loads[0]
            heapreplace(loads, (load + lengths[i], place))
            bins[place].append(i)
        else:
            heappush(loads, (lengths[i], len(bins)))
            bins.append([i])
    return bins


def first_fit(lengths: Sequence[int], capacity: int) -> Bins:
    """First-fit decreasing in O(k log k): a tree over the bins holds the most room that any bin below has.

    >>> first_fit([5, 3, 2, 2], 5)
    [[0], [1, 2], [3]]
    """
    size = 1
    while size < max(1, len(lengths)):
        size *= 2
    room = [capacity] * (2 * size)  # every leaf an unopened bin; the leftmost with room is the first fit
    bins: Bins = []
    for i in longest_first(lengths):
        node = 1
        while node < size:
            node *= 2
            if room[node] < lengths[i]:
                node += 1
        place = node - size
        if place == len(bins):
            bins.append([])
        bins[place].append(i)
        room[node] -= lengths[i]
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return bins


def best_fit(lengths: Sequence[int], capacity: int) -> Bins:
    """Best-fit decreasing, the authors' packing: long prompts first, each into the fullest bin where it fits.

    >>> best_fit([4, 3, 2, 1], 5)
    [[0, 3], [1, 2]]
    """
    rooms: list[tuple[int, int]] = []  # (room, bin), sorted
    bins: Bins = []
    for i in longest_first(lengths):
        at = bisect_left(rooms, (lengths[i], -1))
        if at < len(rooms):
            room, place = rooms.pop(at)
        else:
            room, place = capacity, len(bins)
            bins.append([])
        bins[place].append(i)
        insort(rooms, (room - lengths[i], place))
    return bins


def exact(lengths: Sequence[int], capacity: int, max_steps: int = 200_000) -> Bins:
    """The fewest bins, by branch and bound from the best of the greedy packings.

    Stops after `max_steps` placements with the best found so far (which then may have more bins than `lower_bound`; with up to about 40
    prompts it nearly always ends long before). Bins that are equally full are tried once, and a prompt that fills a bin
    to the brim is not tried elsewhere.
    """
    best = min((pack(lengths, capacity) for pack in (best_fit, first_fit, least_loaded)), key=len)
    floor = lower_bound(lengths, capacity)
    if len(best) == floor or len(lengths) < 3:
        return best
    order = longest_first(lengths)
    rest = [0] * (len(order) + 1)
    for at in range(len(order) - 1, -1, -1):
        rest[at] = rest[at + 1] + lengths[order[at]]
    loads: list[int] = []
    bins: Bins = []
    steps = 0

    def search(at: int) -> bool:
        """True when the bound is met or the steps are used up."""
        nonlocal best, steps
        if at == len(order):
            best = [list(members) for members in bins]
            return len(best) == floor
        steps += 1
        if steps > max_steps:
            return True
        length = lengths[order[at]]
        room = sum(capacity - load for load in loads if capacity - load >= lengths[order[-1]])
        if len(loads) + max(0, -(-(rest[at] - room) // capacity)) >= len(best):
            return False
        tried: set[int] = set()
        for place in sorted(range(len(loads)), key=lambda b: -loads[b]):
            if loads[place] + length > capacity or loads[place] in tried:
                continue
            tried.add(loads[place])
            fills = loads[place] + length == capacity
            loads[place] += length
            bins[place].append(order[at])
            done = search(at + 1)
            bins[place].pop()
            loads[place] -= length
            if done or fills:
                return done
        if len(loads) + 1 < len(best):
            loads.append(length)
            bins.append([order[at]])
            done = search(at + 1)
            bins.pop()
            loads.pop()
            return done
        return False

    if len(lengths) <= 400:  # the search goes one call deeper a prompt
        search(0)
    return best


def balanced(lengths: Sequence[int], max_tokens: int) -> Bins:
    """Rows for the flat routes, which pay no padding: the fewest of about `max_tokens`, as equal as they can be.

    A prompt longer than `max_tokens` has a row of its own. Within a row prompts go by length, so that equal ones are neighbours.
    """
    long = [i for i in range(len(lengths)) if lengths[i] >= max_tokens]
    short = [i for i in longest_first(lengths) if lengths[i] < max_tokens]
    bins: Bins = [[i] for i in long]
    total = sum(lengths[i] for i in short)
    if not total:
        return bins
    count = -(-total // max_tokens)
    while True:
        rows = _spread(lengths, short, count)
        if count >= len(short) or max(sum(lengths[i] for i in row) for row in rows) <= max_tokens:
            return bins + rows
        count += 1


def _spread(lengths: Sequence[int], order: Sequence[int], count: int) -> Bins:
    heap = [(0, place) for place in range(count)]
    heapify(heap)
    rows: Bins = [[] for _ in range(count)]
    for i in order:
        load, place = heap[0]
        heapreplace(heap, (load + lengths[i], place))
        rows[place].append(i)
    return [row for row in rows if row]


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Places by falling length; equal ones in their order."""
    return sorted(range(len(lengths)), key=lambda i: -lengths[i])


def lower_bound(lengths: Sequence[int], capacity: int) -> int:
    """No packing has fewer bins (Martello and Toth's L2, which is at least the total over the capacity).

    >>> lower_bound([6, 6, 6], 10), lower_bound([5, 5, 2], 10)
    (3, 2)
    """
    if not lengths:
        return 0
    ordered = sorted(lengths)
    best = -(-sum(ordered) // capacity)
    prefix = [0]
    for length in ordered:
        prefix.append(prefix[-1] + length)
    half = bisect_left(ordered, capacity // 2 + 1)  # first that is longer than half: no two of these share a bin
    for small in sorted({0, *(length for length in ordered if 2 * length <= capacity)}):
        first = bisect_left(ordered, small)
        large = bisect_left(ordered, capacity - small + 1)  # nothing of at least `small` fits beside these
        n_middle, middle_sum = large - half, prefix[large] - prefix[half]
        small_sum = prefix[half] - prefix[first]
        more = -(-(small_sum - (n_middle * capacity - middle_sum)) // capacity)
        best = max(best, len(ordered) - large + n_middle + max(0, more))
    return best


@dataclass(frozen=True)
class Plan:
    """Who shares a row. Token counts say what a pass computes; `explain` says it in words.

    bins: places of the prompts, one tuple a row; every row is padded to the longest row's `width` tokens unless `algorithm` is
    'flat' (no padding) or 'bucketed' (each bin is a padded batch of prompts of similar length).
    """

    lengths: tuple[int, ...]
    bins: tuple[tuple[int, ...], ...]
    capacity: int
    algorithm: Algorithm

    @property
    def n_rows(self) -> int:
        """Rows (r)."""
        return len(self.bins)

    @property
    def tokens(self) -> int:
        """Tokens of all prompts (L)."""
        return sum(self.lengths)

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        if self.algorithm == "bucketed":
            return max((self.lengths[i] for members in self.bins for i in members), default=0)
        return max((sum(self.lengths[i] for i in members) for members in self.bins), default=0)

    @property
    def computed(self) -> int:
        """Tokens that the pass computes, pads included."""
        if self.algorithm == "flat":
            return self.tokens
        if self.algorithm == "bucketed":
            return sum(len(members) * max(self.lengths[i] for i in members) for members in self.bins)
        return self.n_rows * self.width

    @property
    def padded(self) -> int:
        """Tokens that one padded batch of all prompts would compute (k times the longest)."""
        return len(self.lengths) * max(self.lengths, default=0)

    @property
    def utilisation(self) -> float:
        """Share of the computed tokens that are text, 0 to 1."""
        return self.tokens / self.computed if self.computed else 1.0

    @property
    def predicted_speedup(self) -> float:
        """Padded over computed tokens; for the paper's capacity this is its predictor k / r."""
        return self.padded / self.computed if self.computed else 1.0

    @property
    def lower_bound(self) -> int:
        """No plan of this capacity has fewer rows."""
        return lower_bound(self.lengths, max(self.capacity, max(self.lengths, default=1)))

    def explain(self, cost: CostModel | None = None) -> str:
        """What the plan does, in a few lines; with a cost model also the milliseconds that it and its rivals would take."""
        lines = [
            f"{len(self.lengths)} prompts, {self.tokens} tokens, longest {max(self.lengths, default=0)}",
            f"{self.algorithm}: {self.n_rows} rows of at most {self.capacity} tokens (lower bound {self.lower_bound})",
            f"{self.computed} tokens computed, {100 * self.utilisation:.1f} % of them text",
            f"one padded batch computes {self.padded} tokens: {self.predicted_speedup:.2f} times as many",
        ]
        if cost is not None:
            lines += [f"{name}: {1e3 * seconds:.0f} ms predicted" for name, seconds in cost.compare(self).items()]
        return "\n".join(lines)


def plan(
    lengths: Sequence[int],
    capacity: int | Literal["longest", "flat"] = "longest",
    algorithm: Algorithm | None = None,
    max_tokens: int | None = None,
) -> Plan:
    """Decide which prompts share a row.

    lengths: tokens of each prompt, at least 1. capacity: tokens of a row; 'longest' (the paper's: the longest prompt) or 'flat' (rows
    without padding of about `max_tokens`, 2048 by default). algorithm: 'bfd' (default, the authors'), 'least_loaded', 'ffd', 'exact',
    'bucketed' (sort by length and pad batches of `max_tokens`; default 8 times the longest), or 'flat'.
    Raises InputError for an unknown algorithm, a length below 1, or a capacity below the longest prompt.
    """
    lengths = [int(length) for length in lengths]
    for i, length in enumerate(lengths):
        if length < 1:
            raise InputError(f"prompt {i} has {length} tokens; every prompt needs at least one")
    longest = max(lengths, default=1)
    chosen: Algorithm = algorithm or ("flat" if capacity == "flat" else "bfd")
    if chosen not in ALGORITHMS:
        raise InputError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {chosen!r}")
    if max_tokens is not None and max_tokens < 1:
        raise InputError(f"max_tokens must be at least 1, got {max_tokens}")
    if chosen == "flat":
        limit = max_tokens or (capacity if isinstance(capacity, int) else 2048)
        bins = balanced(lengths, limit)
        return Plan(tuple(lengths), _frozen(bins), limit, "flat")
    if chosen == "bucketed":
        limit = max_tokens or (capacity if isinstance(capacity, int) else 8 * longest)
        return Plan(tuple(lengths), _frozen(bucketed(lengths, limit)), limit, "bucketed")
    if capacity == "flat":
        raise InputError(f"capacity='flat' goes with algorithm='flat', got {chosen!r}")
    size = longest if capacity == "longest" else int(capacity)
    if size < longest:
        place = lengths.index(longest)
        raise InputError(
            f"capacity {size} is smaller than prompt {place} with {longest} tokens; raise it or cut the prompt"
        )
    packers = {"least_loaded": least_loaded, "ffd": first_fit, "bfd": best_fit, "exact": exact}
    return Plan(tuple(lengths), _frozen(packers[chosen](lengths, size)), size, chosen)


def bucketed(lengths: Sequence[int], max_tokens: int) -> Bins:
    """Length-ordered batching: sort, and fill padded batches of at most `max_tokens` (one prompt may be longer alone)."""
    bins: Bins = []
    for i in longest_first(lengths):
        if bins and (len(bins[-1]) + 1) * lengths[bins[-1][0]] <= max_tokens:
            bins[-1].append(i)
        else:
            bins.append([i])
    return bins


def _frozen(bins: Bins) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(members) for members in bins)

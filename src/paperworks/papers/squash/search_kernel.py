"""One compiled call a batch of queries: lists, filter, sign bits, bounds, full vectors.

Letters: n rows in storage order, d dimensions, l lists, p partitions, w words of sign bits, g bytes of a code, s queries.

Stages, as in the paper (filter-aware single pass, Hamming pruning, lower bounds, refinement), with two changes:
- Lists are visited in ascending distance and the filter is evaluated only in lists that are visited. A query stops when
  enough rows that pass are seen *and* the list limit is reached, or when no list is left: never short of rows that exist.
- With `first_pass` "residual" sign bits are those of the residual to the list's centre, and a row's distance is estimated
  as |q - c|^2 + |r|^2 - 2 a_r (S(q) - S(c)), with r = x - c, S(v) = sum_j sign(r_j) v_j and a_r = |r|^2 / |r|_1 (the
  factor that makes the estimate exact for q - c parallel to r). S(c) is a number a row, so one table of S(q) serves all
  lists. With "hamming" it is the plain count of differing bits, as in the paper.
"""

# Compiled functions: numba decides the types of numbers, mypy only knows those of plain NumPy.
# mypy: disable-error-code="arg-type,assignment,call-arg,return-value,no-any-return,unreachable,no-untyped-call,import-untyped"

from __future__ import annotations

import numpy as np
from numba import njit

from paperworks.papers.squash.fastscan import BLOCK, hamming_tables, scan_block, sign_tables
from paperworks.papers.squash.filter_kernels import BLOCK as FILTER_BLOCK
from paperworks.papers.squash.filter_kernels import MAYBE, evaluate_rows, verify_row
from paperworks.papers.squash.kernels import (
    bound_byte_tables,
    hamming,
    insert_sorted,
    make_heap,
    pack_query_planes,
    plane_sums,
    popcount,
    prefetch,
    project,
    select_smallest,
    sift_smallest,
    sort_pairs,
    squared_distance,
    sum_bytes,
    trailing_zeros,
)
from paperworks.papers.squash.rotation import FAST, rotate

# Columns of `whole`: the integer parameters.
K, MIN_LISTS, MAX_LISTS, KEEP, KEEP_REFINED, FIRST_PASS, FILTERED, DEPTH, DELETED, AT_ONCE, FEW = range(11)
WHOLE = 11
NO_FILTER, PROGRAM, GIVEN = range(3)  # values of FILTERED: none, a program, positions of candidates
# Columns of `real`: the other parameters. Keep: fraction of the candidates kept by the first pass (0: KEEP rows).
THRESHOLD, KEEP_FRACTION, SPREAD, AXES, LARGEST = range(5)
# Columns of the stage counts of a query.
LISTS, ROWS, CANDIDATES, KEPT, BOUNDED, REFINED, PARTITIONS = range(7)
STAGES = 7
RESIDUAL, HAMMING = 0, 1
PREFETCH_ROWS = 2  # full vectors asked for ahead of use
PENDING = 256  # scored rows that wait to be offered
FLUSH = 48  # pending rows are offered at the end of a list from so many on
ROWS_A_BLOCK = 3  # from so many rows a block on, scoring all 32 at once is cheaper than one by one


@njit(cache=True, nogil=True, fastmath=FAST)
def _list_distances(query: np.ndarray, centres: np.ndarray, out: np.ndarray, numbers: np.ndarray) -> None:
    """Squared distances of the rotated query to all list centres."""
    d = query.shape[0]
    for one in range(centres.shape[0]):
        row = centres[one]
        total = np.float32(0)
        for j in range(d):
            difference = row[j] - query[j]
            total += difference * difference
        out[one] = total
        numbers[one] = one


@njit(cache=True, nogil=True, fastmath=FAST)
def _block_estimates(
    base: float, scale: float, offset: float, add: np.ndarray, factor: np.ndarray, sums: np.ndarray, out: np.ndarray
) -> float:
    """Estimated squared distances of up to 32 rows; returns the least."""
    least = np.float32(np.inf)
    for t in range(add.shape[0]):
        value = base + add[t] - factor[t] * (scale * np.float32(sums[t]) + offset)
        out[t] = value
    for t in range(add.shape[0]):
        least = min(least, out[t])
    return least


@njit(cache=True, nogil=True)
def turn_query(centred: np.ndarray, flips: np.ndarray, turn: np.ndarray, out: np.ndarray) -> None:
    """The values whose signs are kept: by the quick rotation, by the rows of a matrix (d, d), or, with neither, as they are."""
    if turn.shape[0] > 0:
        project(turn, centred, out)
    else:
        rotate(centred, flips, out)


@njit(cache=True, nogil=True)
def count_set(flags: np.ndarray) -> int:
    """How many flags are not zero."""
    total = np.int64(0)
    for i in range(flags.shape[0]):
        total += np.int64(flags[i] != 0)
    return total


@njit(cache=True, nogil=True)
def _collect(every: np.ndarray, rows: np.ndarray, flags: np.ndarray) -> None:
    """Positions and values of the flags that are not zero, in order; there are rows.size of them."""
    n = every.shape[0]
    words = every[: n // 8 * 8].view(np.uint64)
    one_bits, low_bits = np.uint64(0x0101010101010101), np.uint64(1)
    filled = 0
    for chunk in range(words.shape[0]):
        word = words[chunk]
        if word == 0:
            continue
        left_bits = (word | (word >> low_bits)) & one_bits
        while left_bits != 0:
            row = 8 * chunk + (trailing_zeros(left_bits) >> 3)
            left_bits &= left_bits - low_bits
            rows[filled] = row
            flags[filled] = every[row]
            filled += 1
    for row in range(n // 8 * 8, n):
        if every[row] != 0:
            rows[filled] = row
            flags[filled] = every[row]
            filled += 1


@njit(cache=True, nogil=True)
def flag_rows(
    alive: np.ndarray,
    deleted: bool,
    code: np.ndarray,
    tables: np.ndarray,
    masks: np.ndarray,
    cells: np.ndarray,
    begin: int,
    end: int,
    flags: np.ndarray,
    scratch: np.ndarray,
) -> None:
    """0 no, 1 maybe, 2 yes for the rows begin .. end; deleted rows are 0."""
    if code.shape[0] > 0:
        evaluate_rows(code, tables, masks, cells, begin, end, flags, scratch)
    else:
        flags[: end - begin] = 2
    if deleted:
        living = alive[begin:end]
        for i in range(end - begin):
            flags[i] = flags[i] if living[i] != 0 else np.uint8(0)


@njit(cache=True, nogil=True)
def _offer(
    n_pending: int,
    pending: np.ndarray,
    pending_scores: np.ndarray,
    pending_flags: np.ndarray,
    limit: float,
    keep: int,
    keep_all: bool,
    estimates: np.ndarray,
    rows: np.ndarray,
    filled: int,
    near: np.ndarray,
    near_rows: np.ndarray,
    n_near: int,
    code: np.ndarray,
    exact: np.ndarray,
    tables: np.ndarray,
    masks: np.ndarray,
    cells: np.ndarray,
    keys: np.ndarray,
    label_starts: np.ndarray,
    label_codes: np.ndarray,
) -> tuple[int, int, int, float]:
    """Take scored rows into the pool if they beat the limit and pass exactly; returns filled, near, refused, limit."""
    refused = 0
    k = near.shape[0]
    for i in range(n_pending):
        score = pending_scores[i]
        if score >= limit:
            continue
        row = pending[i]
        if pending_flags[i] == MAYBE and not verify_row(
            code, exact, tables, masks, cells, keys, label_starts, label_codes, row
        ):
            refused += 1
            continue
        estimates[filled] = score
        rows[filled] = row
        filled += 1
        if n_near < k or score < near[k - 1]:
            n_near = insert_sorted(near, near_rows, n_near, score, row)
        if not keep_all and filled >= 2 * keep:
            select_smallest(estimates, rows, filled, keep)
            filled = keep
            limit = estimates[0]
            for t in range(1, keep):
                limit = max(limit, estimates[t])
    return filled, n_near, refused, limit


@njit(cache=True, nogil=True)
def _score_rows(
    n_pending: int,
    pending: np.ndarray,
    pending_base: np.ndarray,
    scores: np.ndarray,
    residual: bool,
    signs: np.ndarray,
    add: np.ndarray,
    factor: np.ndarray,
    planes: np.ndarray,
    query_bits: np.ndarray,
    low: float,
    step: float,
    total: float,
) -> None:
    """Estimates of single rows from the words of their sign bits."""
    for i in range(n_pending):
        row = pending[i]
        if residual:
            ones, digits = plane_sums(signs[row], planes)
            at_signs = 2 * (low * np.float32(ones) + step * np.float32(digits)) - total
            scores[i] = pending_base[i] + add[row] - factor[row] * at_signs
        else:
            scores[i] = np.float32(hamming(signs[row], query_bits))


@njit(cache=True, nogil=True)
def search_rows(
    queries: np.ndarray,
    whole: np.ndarray,
    real: np.ndarray,
    mean: np.ndarray,
    flips: np.ndarray,
    turn: np.ndarray,
    centres: np.ndarray,
    spreads: np.ndarray,
    starts: np.ndarray,
    first_block: np.ndarray,
    part_of_list: np.ndarray,
    blocks: np.ndarray,
    signs: np.ndarray,
    add: np.ndarray,
    factor: np.ndarray,
    alive: np.ndarray,
    codes: np.ndarray,
    part_means: np.ndarray,
    part_bases: np.ndarray,
    part_edges: np.ndarray,
    part_bits: np.ndarray,
    part_orders: np.ndarray,
    part_bytes: np.ndarray,
    vectors: np.ndarray,
    code: np.ndarray,
    exact: np.ndarray,
    tables: np.ndarray,
    masks: np.ndarray,
    cells: np.ndarray,
    keys: np.ndarray,
    label_starts: np.ndarray,
    label_codes: np.ndarray,
    given: np.ndarray,
    distances: np.ndarray,
    positions: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Search all queries float32 (s, d); writes squared distances (s, k) and storage positions int64 (s, k), inf and -1
    where there is no row, and the stage counts int64 (s, STAGES). Arguments as the arrays of `PartitionReader`;
    given int64 (c,): ascending positions of the only candidates, all of them passing, if FILTERED is GIVEN."""
    k, deleted = whole[K], whole[DELETED] != 0
    use_given = whole[FILTERED] == GIVEN
    flagged = whole[FILTERED] == PROGRAM or deleted
    keep_fraction = real[KEEP_FRACTION]
    keep_all = keep_fraction > 0
    residual = whole[FIRST_PASS] == RESIDUAL
    n_lists, d = centres.shape
    n = starts[n_lists]
    groups = (d + 15) // 16 * 4
    block_bytes = groups * 16
    n_words = signs.shape[1]
    longest = np.int64(0)
    for one in range(n_lists):
        longest = max(longest, starts[one + 1] - starts[one])
    keep = max(whole[KEEP], k)
    estimates = np.empty(2 * keep + PENDING, np.float32)
    rows = np.empty(2 * keep + PENDING, np.int64)
    list_keys = np.empty(n_lists, np.float32)
    list_numbers = np.empty(n_lists, np.int32)
    centred = np.empty(d, np.float32)
    turned = np.empty(d, np.float32)
    own = np.empty(d, np.float32)
    sign_sums = np.empty(groups * 32, np.uint8)
    planes = np.empty((4, n_words), np.uint64)
    query_bits = np.empty(n_words, np.uint64)
    sums = np.zeros(BLOCK, np.uint16)
    block_scores = np.empty(BLOCK, np.float32)
    near = np.empty(k, np.float32)
    near_rows = np.empty(k, np.int64)
    pending = np.empty(PENDING, np.int64)
    pending_scores = np.empty(PENDING, np.float32)
    pending_base = np.empty(PENDING, np.float32)
    pending_flags = np.empty(PENDING, np.uint8)
    flags = np.zeros((longest + BLOCK) // BLOCK * BLOCK + BLOCK, np.uint8)
    flag_words = flags.view(np.uint64)
    scratch = np.empty((max(1, whole[DEPTH]), FILTER_BLOCK if code.shape[0] > 0 else 1), np.uint8)
    byte_tables = np.empty((codes.shape[1] if whole[KEEP_REFINED] > 0 else 0, 256), np.float32)
    at_once = flagged and whole[AT_ONCE] != 0
    every = np.empty(n if at_once else 0, np.uint8)
    given_flags = np.empty(0, np.uint8)
    if at_once:
        flag_rows(alive, deleted, code, tables, masks, cells, 0, n, every, scratch)
        n_set = count_set(every)
        if n_set <= whole[FEW]:
            use_given = True
            given = np.empty(n_set, np.int64)
            given_flags = np.empty(n_set, np.uint8)
            _collect(every, given, given_flags)
    has_flags = given_flags.shape[0] > 0
    one_bits, low_bits = np.uint64(0x0101010101010101), np.uint64(1)

    for s in range(queries.shape[0]):
        query = queries[s]
        for j in range(d):
            centred[j] = query[j] - mean[j]
        turn_query(centred, flips, turn, turned)
        nearest_list = np.float32(np.inf)
        if not use_given:
            _list_distances(turned, centres, list_keys, list_numbers)
            make_heap(list_keys, list_numbers, n_lists)
            nearest_list = list_keys[0]
        scale = offset = np.float32(0)
        low = step = total = np.float32(0)
        tables_ready = planes_ready = False
        if not residual:
            for w in range(n_words):
                word = np.uint64(0)
                for j in range(min(64, d - 64 * w)):
                    word |= np.uint64(turned[64 * w + j] > 0) << np.uint64(j)
                query_bits[w] = word
            planes_ready = True
        limit = np.float32(np.inf)
        filled = n_near = 0
        visited = seen = passing = n_pending = 0

        if use_given:
            one = -1
            at = 0
            if given.shape[0] <= keep:  # all of them are refined: estimates would not matter
                for i in range(given.shape[0]):
                    if (
                        has_flags
                        and given_flags[i] == MAYBE
                        and not verify_row(code, exact, tables, masks, cells, keys, label_starts, label_codes, given[i])
                    ):
                        passing -= 1
                        continue
                    estimates[filled] = 0
                    rows[filled] = given[i]
                    filled += 1
                at = given.shape[0]
            base = np.float32(0)
            while at < given.shape[0]:
                count = min(PENDING, given.shape[0] - at)
                for i in range(count):
                    row = given[at + i]
                    if one < 0 or starts[one + 1] <= row:
                        one = max(one, 0)
                        while starts[one + 1] <= row:
                            one += 1
                        base = squared_distance(turned, centres[one])
                    pending[i] = row
                    pending_base[i] = base
                    pending_flags[i] = given_flags[at + i] if has_flags else np.uint8(2)
                    prefetch(signs, row * n_words)
                    prefetch(add, row)
                    prefetch(factor, row)
                if not planes_ready:
                    low, step, total = pack_query_planes(turned, planes)
                    planes_ready = True
                if keep_all and filled + PENDING > estimates.shape[0]:
                    estimates, rows = _enlarged(estimates, rows, filled)
                _score_rows(
                    count,
                    pending,
                    pending_base,
                    pending_scores,
                    residual,
                    signs,
                    add,
                    factor,
                    planes,
                    query_bits,
                    low,
                    step,
                    total,
                )
                filled, n_near, refused, limit = _offer(
                    count, pending, pending_scores, pending_flags, limit, keep, keep_all, estimates, rows, filled,
                    near, near_rows, n_near, code, exact, tables, masks, cells, keys, label_starts, label_codes,
                )  # fmt: skip
                at += count
                passing -= refused
            seen = given.shape[0]
            passing += seen

        left = 0 if use_given else n_lists
        while left > 0:
            left -= 1
            base = list_keys[0]
            one = np.int64(list_numbers[0])
            list_keys[0] = list_keys[left]
            list_numbers[0] = list_numbers[left]
            sift_smallest(list_keys, list_numbers, 0, left)
            if visited >= whole[MIN_LISTS] and filled >= k:
                if visited >= whole[MAX_LISTS] or base > real[THRESHOLD] * nearest_list:
                    break
                if residual and real[SPREAD] > 0:
                    # rows of the list have |q-x|^2 ~ base + r^2 +- 2 |q-c| r / sqrt(axes): skip it if even the
                    # SPREAD-fold deviation does not reach the k-th best so far
                    radius = spreads[one]
                    if base + radius * radius - near[k - 1] > real[SPREAD] * 2 * np.sqrt(base / real[AXES]) * radius:
                        continue
            begin, end = starts[one], starts[one + 1]
            size = end - begin
            if size == 0:
                continue
            visited += 1
            seen += size
            picked = size
            if flagged:
                if at_once:
                    flags[:size] = every[begin:end]
                else:
                    flag_rows(alive, deleted, code, tables, masks, cells, begin, end, flags, scratch)
                flags[size : (size + BLOCK - 1) // BLOCK * BLOCK] = 0
                picked = count_set(flags[:size])
                if picked == 0:
                    continue
            passing += picked
            masked = picked < size
            for block in range((size + BLOCK - 1) // BLOCK):
                inside = block * BLOCK
                first = begin + inside
                n_block = min(BLOCK, size - inside)
                if keep_all and filled + PENDING > estimates.shape[0]:
                    estimates, rows = _enlarged(estimates, rows, filled)
                if masked:
                    place = inside >> 3
                    in_block = 0
                    for chunk in range(place, place + 4):
                        word = flag_words[chunk]
                        in_block += popcount((word | (word >> low_bits)) & one_bits)
                    if in_block == 0:
                        continue
                    if in_block < ROWS_A_BLOCK:
                        for chunk in range(place, place + 4):
                            word = flag_words[chunk]
                            left_bits = (word | (word >> low_bits)) & one_bits
                            while left_bits != 0:
                                t = 8 * (chunk - place) + (trailing_zeros(left_bits) >> 3)
                                left_bits &= left_bits - low_bits
                                row = first + t
                                prefetch(signs, row * n_words)
                                prefetch(add, row)
                                prefetch(factor, row)
                                pending[n_pending] = row
                                pending_base[n_pending] = base
                                pending_flags[n_pending] = flags[inside + t]
                                n_pending += 1
                        if n_pending + BLOCK > PENDING:
                            if not planes_ready:
                                low, step, total = pack_query_planes(turned, planes)
                                planes_ready = True
                            _score_rows(
                                n_pending, pending, pending_base, pending_scores, residual, signs, add, factor, planes,
                                query_bits, low, step, total,
                            )  # fmt: skip
                            filled, n_near, refused, limit = _offer(
                                n_pending, pending, pending_scores, pending_flags, limit, keep, keep_all, estimates, rows, filled,
                                near, near_rows, n_near, code, exact, tables, masks, cells, keys, label_starts, label_codes,
                            )  # fmt: skip
                            passing -= refused
                            n_pending = 0
                        continue
                if not tables_ready:
                    tables_ready = True
                    if residual:
                        scale, offset = sign_tables(turned, sign_sums)
                    else:
                        hamming_tables(query_bits, sign_sums)
                scan_block(blocks, (first_block[one] + block) * block_bytes, sign_sums, groups, sums)
                if residual:
                    least = _block_estimates(
                        base,
                        scale,
                        offset,
                        add[first : first + n_block],
                        factor[first : first + n_block],
                        sums,
                        block_scores,
                    )
                    if least >= limit:
                        continue
                else:
                    for t in range(n_block):
                        block_scores[t] = np.float32(sums[t])
                for t in range(n_block):
                    score = block_scores[t]
                    if score >= limit:
                        continue
                    flag = flags[inside + t] if flagged else np.uint8(2)
                    if flag == 0:
                        continue
                    row = first + t
                    if flag == MAYBE and not verify_row(
                        code, exact, tables, masks, cells, keys, label_starts, label_codes, row
                    ):
                        passing -= 1
                        continue
                    estimates[filled] = score
                    rows[filled] = row
                    filled += 1
                    if n_near < k or score < near[k - 1]:
                        n_near = insert_sorted(near, near_rows, n_near, score, row)
                if not keep_all and filled >= 2 * keep:
                    select_smallest(estimates, rows, filled, keep)
                    filled = keep
                    limit = estimates[0]
                    for t in range(1, keep):
                        limit = max(limit, estimates[t])
            if n_pending >= FLUSH or (n_pending > 0 and (left == 0 or filled < k)):
                if not planes_ready:
                    low, step, total = pack_query_planes(turned, planes)
                    planes_ready = True
                _score_rows(
                    n_pending, pending, pending_base, pending_scores, residual, signs, add, factor, planes, query_bits, low, step, total
                )  # fmt: skip
                filled, n_near, refused, limit = _offer(
                    n_pending, pending, pending_scores, pending_flags, limit, keep, keep_all, estimates, rows, filled,
                    near, near_rows, n_near, code, exact, tables, masks, cells, keys, label_starts, label_codes,
                )  # fmt: skip
                passing -= refused
                n_pending = 0
        if n_pending > 0:
            if not planes_ready:
                low, step, total = pack_query_planes(turned, planes)
            if keep_all and filled + PENDING > estimates.shape[0]:
                estimates, rows = _enlarged(estimates, rows, filled)
            _score_rows(
                n_pending, pending, pending_base, pending_scores, residual, signs, add, factor, planes, query_bits, low, step, total
            )  # fmt: skip
            filled, n_near, refused, limit = _offer(
                n_pending, pending, pending_scores, pending_flags, limit, keep, keep_all, estimates, rows, filled,
                near, near_rows, n_near, code, exact, tables, masks, cells, keys, label_starts, label_codes,
            )  # fmt: skip
            passing -= refused

        wanted = keep
        if keep_all:
            wanted = max(keep, np.int64(np.ceil(keep_fraction * passing)))
        if filled > wanted:
            select_smallest(estimates, rows, filled, wanted)
            filled = wanted
        counts[s, :] = 0
        counts[s, LISTS] = visited
        counts[s, ROWS] = seen
        counts[s, CANDIDATES] = passing
        counts[s, KEPT] = filled

        n_refine = max(whole[KEEP_REFINED], k) if whole[KEEP_REFINED] > 0 else 0
        bounded = False
        if n_refine > 0 and filled > n_refine:
            bounded = True
            counts[s, BOUNDED] = filled
            if part_means.shape[0] > 1:
                rows[:filled].sort()  # rows of one partition together: one table serves a run of them
            part = -1
            for i in range(filled):
                row = rows[i]
                here = np.int64(part_of_list[list_of_row(starts, row)]) if part_means.shape[0] > 1 else 0
                if here != part:
                    part = here
                    counts[s, PARTITIONS] += 1
                    for j in range(d):
                        centred[j] = query[j] - part_means[part, j]
                    project(part_bases[part], centred, own)
                    bound_byte_tables(
                        own, part_edges[part], part_bits[part], part_orders[part], part_bytes[part], byte_tables
                    )
                estimates[i] = sum_bytes(codes[row], byte_tables)
            select_smallest(estimates, rows, filled, n_refine)
            filled = n_refine
        sort_pairs(estimates, rows, filled)
        found = 0
        best = distances[s]
        best_rows = positions[s]
        best[:] = np.inf
        best_rows[:] = -1
        refined = 0
        for i in range(min(PREFETCH_ROWS, filled)):
            for line in range(0, d, 16):
                prefetch(vectors, rows[i] * d + line)
        for i in range(filled):
            if bounded and found == k and estimates[i] > best[k - 1] * np.float32(1.00001):
                break  # lower bounds ascend: no later row can be nearer
            if i + PREFETCH_ROWS < filled:
                ahead = rows[i + PREFETCH_ROWS] * d
                for line in range(0, d, 16):
                    prefetch(vectors, ahead + line)
            refined += 1
            exact_distance = squared_distance(query, vectors[rows[i]])
            found = insert_sorted(best, best_rows, found, exact_distance, rows[i])
        counts[s, REFINED] = refined


@njit(cache=True, nogil=True)
def _enlarged(estimates: np.ndarray, rows: np.ndarray, filled: int) -> tuple[np.ndarray, np.ndarray]:
    """Twice the room, with the first `filled` pairs."""
    size = 2 * (filled + PENDING)
    more_estimates = np.empty(size, np.float32)
    more_rows = np.empty(size, np.int64)
    more_estimates[:filled] = estimates[:filled]
    more_rows[:filled] = rows[:filled]
    return more_estimates, more_rows


@njit(cache=True, nogil=True)
def list_of_row(starts: np.ndarray, row: int) -> int:
    """The list that holds a storage position: the last start <= row whose list is not empty."""
    low, high = 0, starts.shape[0] - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if starts[middle] <= row:
            low = middle
        else:
            high = middle
    return low

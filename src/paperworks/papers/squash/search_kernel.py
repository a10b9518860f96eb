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
    prefetch,
    project,
    select_smallest,
    sift_smallest,
    sort_pairs,
    squared_distance,
    sum_bytes,
)
from paperworks.papers.squash.rotation import FAST, rotate

# Columns of `whole`: the integer parameters.
K, MIN_LISTS, MAX_LISTS, KEEP, KEEP_REFINED, FIRST_PASS, FILTERED, DEPTH, DELETED = range(9)
# Columns of `real`: the other parameters. Keep: fraction of the candidates kept by the first pass (0: KEEP rows).
THRESHOLD, KEEP_FRACTION, SPREAD, AXES = range(4)
# Columns of the stage counts of a query.
LISTS, ROWS, CANDIDATES, KEPT, BOUNDED, REFINED, PARTITIONS = range(7)
STAGES = 7
RESIDUAL, HAMMING = 0, 1
PREFETCH_ROWS = 2


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
def _count_set(flags: np.ndarray) -> int:
    total = np.int64(0)
    for i in range(flags.shape[0]):
        total += np.int64(flags[i] != 0)
    return total


@njit(cache=True, nogil=True)
def search_rows(
    queries: np.ndarray,
    whole: np.ndarray,
    real: np.ndarray,
    mean: np.ndarray,
    flips: np.ndarray,
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
    distances: np.ndarray,
    positions: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Search all queries float32 (s, d); writes squared distances (s, k) and storage positions int64 (s, k), inf and -1
    where there is no row, and the stage counts int64 (s, STAGES). Arguments as the arrays of `PartitionReader`."""
    k, filtered, deleted = whole[K], whole[FILTERED] != 0, whole[DELETED] != 0
    keep_fraction = real[KEEP_FRACTION]
    n_lists, d = centres.shape
    groups = (d + 15) // 16 * 4
    block_bytes = groups * 16
    n_words = signs.shape[1]
    longest = np.int64(0)
    for one in range(n_lists):
        longest = max(longest, starts[one + 1] - starts[one])
    keep = max(whole[KEEP], k)
    capacity = 2 * keep + BLOCK
    estimates = np.empty(capacity, np.float32)
    rows = np.empty(capacity, np.int64)
    list_keys = np.empty(n_lists, np.float32)
    list_numbers = np.empty(n_lists, np.int32)
    centred = np.empty(d, np.float32)
    turned = np.empty(d, np.float32)
    own = np.empty(d, np.float32)
    sign_sums = np.empty(groups * 32, np.uint8)
    planes = np.empty((4, n_words), np.uint64)
    query_bits = np.empty(n_words, np.uint64)
    sums = np.zeros(BLOCK, np.uint16)
    scores = np.empty(BLOCK, np.float32)
    near = np.empty(k, np.float32)
    near_rows = np.empty(k, np.int64)
    flags = np.zeros((longest + BLOCK) // BLOCK * BLOCK + BLOCK, np.uint8)
    flag_words = flags.view(np.uint64)
    scratch = np.empty((max(1, whole[DEPTH]), FILTER_BLOCK if filtered else 1), np.uint8)
    n_bytes = codes.shape[1]
    byte_tables = np.empty((n_bytes if whole[KEEP_REFINED] > 0 else 0, 256), np.float32)

    for s in range(queries.shape[0]):
        query = queries[s]
        for j in range(d):
            centred[j] = query[j] - mean[j]
        rotate(centred, flips, turned)
        _list_distances(turned, centres, list_keys, list_numbers)
        make_heap(list_keys, list_numbers, n_lists)
        residual = whole[FIRST_PASS] == RESIDUAL
        scale = offset = np.float32(0)
        if residual:
            scale, offset = sign_tables(turned, sign_sums)
        else:
            for w in range(n_words):
                word = np.uint64(0)
                for j in range(min(64, d - 64 * w)):
                    word |= np.uint64(turned[64 * w + j] > 0) << np.uint64(j)
                query_bits[w] = word
            hamming_tables(query_bits, sign_sums)
        planes_ready = False
        low = step = total = np.float32(0)
        nearest_list = list_keys[0]
        limit = np.float32(np.inf)
        filled = n_near = 0
        visited = seen = passing = verified = 0
        left = n_lists
        while left > 0:
            base = list_keys[0]
            one = np.int64(list_numbers[0])
            left -= 1
            list_keys[0] = list_keys[left]
            list_numbers[0] = list_numbers[left]
            sift_smallest(list_keys, list_numbers, 0, left)
            if visited >= whole[MIN_LISTS] and verified >= k:
                if visited >= whole[MAX_LISTS] or base > real[THRESHOLD] * nearest_list:
                    break
                if residual and real[SPREAD] > 0 and n_near == k:
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
            if filtered:
                evaluate_rows(code, tables, masks, cells, begin, end, flags, scratch)
            elif deleted:
                flags[:size] = 2
            if deleted:
                for i in range(size):
                    flags[i] = flags[i] if alive[begin + i] != 0 else np.uint8(0)
            if filtered or deleted:
                padded = (size + BLOCK - 1) // BLOCK * BLOCK
                flags[size:padded] = 0
                picked = _count_set(flags[:size])
                if picked == 0:
                    continue
            passing += picked
            masked = picked < size
            if keep_fraction > 0 and filled + picked + BLOCK > estimates.shape[0]:
                bigger = 2 * (filled + picked + BLOCK)
                more_estimates = np.empty(bigger, np.float32)
                more_rows = np.empty(bigger, np.int64)
                more_estimates[:filled] = estimates[:filled]
                more_rows[:filled] = rows[:filled]
                estimates, rows = more_estimates, more_rows
            if picked * 8 < size:
                # few rows pass: score them one by one from the words of their sign bits
                if residual and not planes_ready:
                    low, step, total = pack_query_planes(turned, planes)
                    planes_ready = True
                for chunk in range((size + 7) >> 3):
                    eight = flag_words[chunk]
                    if eight == 0:
                        continue
                    for t in range(8):
                        flag = np.uint8((eight >> np.uint64(8 * t)) & np.uint64(255))
                        if flag == 0:
                            continue
                        row = begin + 8 * chunk + t
                        if residual:
                            ones, digits = plane_sums(signs[row], planes)
                            at_signs = 2 * (low * np.float32(ones) + step * np.float32(digits)) - total
                            score = base + add[row] - factor[row] * at_signs
                        else:
                            score = np.float32(hamming(signs[row], query_bits))
                        if score >= limit:
                            continue
                        if flag == MAYBE and not verify_row(
                            code, exact, tables, masks, cells, keys, label_starts, label_codes, row
                        ):
                            passing -= 1
                            continue
                        verified += 1
                        estimates[filled] = score
                        rows[filled] = row
                        filled += 1
                        if residual and (n_near < k or score < near[k - 1]):
                            n_near = insert_sorted(near, near_rows, n_near, score, row)
                        if keep_fraction == 0 and filled >= 2 * keep:
                            select_smallest(estimates, rows, filled, keep)
                            filled = keep
                            limit = estimates[:keep].max()
            else:
                for block in range((size + BLOCK - 1) // BLOCK):
                    inside = block * BLOCK
                    if masked:
                        place = inside >> 3
                        if (
                            flag_words[place] | flag_words[place + 1] | flag_words[place + 2] | flag_words[place + 3]
                        ) == 0:
                            continue
                    scan_block(blocks, (first_block[one] + block) * block_bytes, sign_sums, groups, sums)
                    first = begin + inside
                    n_block = min(BLOCK, size - inside)
                    if residual:
                        least = _block_estimates(
                            base,
                            scale,
                            offset,
                            add[first : first + n_block],
                            factor[first : first + n_block],
                            sums,
                            scores,
                        )
                        if least >= limit:
                            continue
                    else:
                        for t in range(n_block):
                            scores[t] = np.float32(sums[t])
                    for t in range(n_block):
                        score = scores[t]
                        if score >= limit:
                            continue
                        row = first + t
                        if masked or filtered:
                            flag = flags[inside + t]
                            if flag == 0:
                                continue
                            if flag == MAYBE and not verify_row(
                                code, exact, tables, masks, cells, keys, label_starts, label_codes, row
                            ):
                                passing -= 1
                                continue
                        verified += 1
                        estimates[filled] = score
                        rows[filled] = row
                        filled += 1
                        if residual and (n_near < k or score < near[k - 1]):
                            n_near = insert_sorted(near, near_rows, n_near, score, row)
                    if keep_fraction == 0 and filled >= 2 * keep:
                        select_smallest(estimates, rows, filled, keep)
                        filled = keep
                        limit = estimates[:keep].max()

        wanted = keep
        if keep_fraction > 0:
            wanted = max(keep, np.int64(np.ceil(keep_fraction * passing)))
        if filled > wanted:
            select_smallest(estimates, rows, filled, wanted)
            filled = wanted
        counts[s, LISTS] = visited
        counts[s, ROWS] = seen
        counts[s, CANDIDATES] = passing
        counts[s, KEPT] = filled

        n_refine = max(whole[KEEP_REFINED], k) if whole[KEEP_REFINED] > 0 else 0
        bounded = False
        if n_refine > 0 and filled > n_refine:
            bounded = True
            counts[s, BOUNDED] = filled
            # rows of one partition are together in storage: sorted by position, one table serves a run of them
            positions_as_keys(rows, estimates, filled)
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
def positions_as_keys(rows: np.ndarray, estimates: np.ndarray, n: int) -> None:
    """Sort the first n rows ascending (estimates are overwritten afterwards, so they only need to stay in place)."""
    part = rows[:n]
    part.sort()


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

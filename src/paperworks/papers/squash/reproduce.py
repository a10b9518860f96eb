"""The paper's claims, measured on paper embeddings with their own attributes (made vectors at smoke scale).

Queries are held out. Truth is a plain float64 scan of the rows where a filter is true, see `trials.py`. What needs an account in the
cloud is in `cloud_trials.py`: there the functions are the same, and the data and the rival's figures come from the user.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.claims import Measurement, Run, Series, claim
from paperworks.errors import ClaimError
from paperworks.papers.squash import cloud_trials, trials
from paperworks.papers.squash.allocation import greedy_bits, uniform_bits
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.index import SquashIndex
from paperworks.papers.squash.lookup import bound_tables, table_sums
from paperworks.papers.squash.quantiser import learn_quantiser
from paperworks.papers.squash.segments import SegmentLayout
from paperworks.papers.squash.serverless.client import ServerlessSquash
from paperworks.papers.squash.serverless.study import measure_retention, measure_tree_launch
from paperworks.papers.squash.signs import pack_signs
from paperworks.papers.squash.transform import fit_klt

K = 10
SHARE = 0.08  # of the rows that pass, the paper's joint selectivity
EVERY_LIST = 1e12  # a threshold T that leaves out no list


def _built(run: Run, world: trials.World, **settings: Any) -> SquashIndex:
    run.progress(0, None, f"building an index of {world.n:,} rows")
    return SquashIndex(random_state=run.seed, **settings).build(world.vectors, attributes=world.attributes)


@claim("filter-exact")
def filter_exact(run: Run) -> Measurement:
    """Random trees of and, or, not over every attribute; masks and rows of a caller among them; then the exact mode."""
    world = trials.world(run)
    index = _built(run, world)
    n_filters = run.at(smoke=120, cpu=500)
    rng = np.random.default_rng(run.seed + 1)
    violating = missing = mismatches = 0
    found_share, shares = [], []
    for at in range(n_filters):
        query = world.queries[at % len(world.queries)]
        drawn = trials.random_filter(world, rng)
        matches = int(drawn.true.sum())
        truth = trials.nearest(world, query, drawn.true, K)[1]
        for exact in (False, True):
            what: Any = drawn.true if exact and at % 5 == 0 else drawn.filter
            _, ids = index.search(query, K, what, exact=exact)
            found = ids[0][ids[0] >= 0]
            violating += int((~drawn.true[found]).sum())
            missing += min(K, matches) - len(set(found.tolist()))
            if exact:
                real = trials.squared_distances(world.vectors[found], query)
                same = len(real) == len(truth) and np.allclose(np.sort(real), truth, rtol=1e-6, atol=1e-9)
                mismatches += int(not same)
            else:
                found_share.append(trials.recall(world, query, ids[0], truth))
        shares.append(matches / world.n)
        run.progress(at + 1, n_filters, "filters")
    values = {
        "violating_rows": violating,
        "missing_rows": missing,
        "exact_mismatches": mismatches,
        "filters_without_a_row": int(np.sum(np.array(shares) == 0)),
        "median_share_passing": float(np.median(shares)),
        "recall_at_10": float(np.mean(found_share)),
    }
    return Measurement(values, notes=f"{n_filters} filters over {', '.join(world.attributes)}; {world.n:,} rows")


@claim("single-pass")
def single_pass(run: Run) -> Measurement:
    """Partitions as functions, and lists inside them, with T = 1; beside it the 10 k nearest of all rows, filtered afterwards."""
    world = trials.world(run, rows=run.at(smoke=2000, cpu=None))
    n_queries, n_partitions = run.at(smoke=40, cpu=300), run.at(smoke=4, cpu=10)
    rng = np.random.default_rng(run.seed + 1)
    queries = world.queries[np.arange(n_queries) % len(world.queries)]
    drawn = [trials.filter_of_share(world, rng.uniform(1.5, 4) * K / world.n, rng) for _ in range(n_queries)]
    matches = np.array([int(one.true.sum()) for one in drawn])
    index = _built(run, world, n_partitions=n_partitions)
    _, alone = index.search(queries, K, [one.filter for one in drawn], T=1.0)
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        with ServerlessSquash(Path(folder) / "index", "threads", store=Path(folder) / "store", retries=0) as pool:
            pool.deploy()
            run.progress(0, None, "one batch on the functions")
            spread = pool.search_batch(queries, [one.filter for one in drawn], K, threshold=1.0)
    short = 0
    for ids in (alone, spread.ids):
        for at, one in enumerate(drawn):
            good = ids[at][ids[at] >= 0]
            short += int(one.true[good].sum() < min(K, matches[at]))
    everything = np.ones(world.n, dtype=bool)
    after = [trials.nearest(world, query, everything, 10 * K)[0] for query in queries]
    few = sum(int(one.true[rows].sum() < min(K, n)) for one, rows, n in zip(drawn, after, matches, strict=True))
    values = {
        "queries_short": short,
        "retry_rounds": int(spread.stats.get("n_retried", 0)),
        "postfilter_queries_short": few,
        "queries": n_queries,
        "fewest_matches": int(matches.min()),
        "most_matches": int(matches.max()),
        "partitions_a_query": float(spread.stats.get("queries_searched", 0.0)) / n_queries,
    }
    notes = f"{n_partitions} partitions; the post-filter gets the exact {10 * K} nearest, more than a graph search would give it"
    return Measurement(values, notes=notes)


@claim("recall")
def recall(run: Run) -> Measurement:
    """Default settings, two ranges that 8 % of the rows pass together, a new pair for every query."""
    world = trials.world(run)
    index = _built(run, world)
    n_queries = run.at(smoke=40, cpu=400)
    rng = np.random.default_rng(run.seed + 1)
    found, refined = [], []
    for at, query in enumerate(world.queries[:n_queries]):
        drawn = trials.filter_of_share(world, SHARE, rng)
        _, ids, stats = index.search(query, K, drawn.filter, return_stats=True)
        found.append(trials.recall(world, query, ids[0], trials.nearest(world, query, drawn.true, K)[1]))
        refined.append(100 * stats[0]["refined"] / max(1, int(drawn.true.sum())))
        run.progress(at + 1, n_queries, "queries")
    half = float(1.96 * np.std(found, ddof=1) / np.sqrt(len(found)))
    values = {
        "recall_at_10": float(np.mean(found)),
        "recall_at_10_low": float(np.mean(found)) - half,
        "recall_at_10_high": min(1.0, float(np.mean(found)) + half),
        "refined_percent": float(np.mean(refined)),
    }
    return Measurement(values, notes=f"{world.n:,} rows, {n_queries} held-out queries, {100 * SHARE:g} % pass")


@claim("compression")
def compression(run: Run) -> Measurement:
    """Bytes of the paper's parts: codes in shared segments of 8 bits, sign bits, a cell an attribute; beside them our whole index."""
    world = trials.world(run)
    plain = {name: column for name, column in world.attributes.items() if not isinstance(column, list)}
    klt = fit_klt(world.vectors)
    turned = klt.apply(world.vectors)
    bits = greedy_bits(turned.var(axis=0, dtype=np.float64), 4 * turned.shape[1])
    codes = learn_quantiser(turned, bits, seed=run.seed).encode(turned)
    layout = SegmentLayout(bits, 8)
    segments = layout.pack(codes)
    if not np.array_equal(layout.unpack(segments), codes):
        raise ClaimError("codes were lost in the segments")
    cells = AttributeTable.from_data(plain, n_rows=world.n).cells
    parts = {"codes": segments.nbytes, "sign bits": pack_signs(turned).nbytes, "attribute cells": cells.nbytes}
    run.progress(1, 2, "our own index")
    resident = SquashIndex(random_state=run.seed).build(world.vectors, attributes=plain).statistics()["resident_bytes"]
    raw, whole = 4 * world.vectors.size, sum(parts.values())
    values = {
        "raw_over_index": raw / whole,
        "byte_per_dimension_over_index": (whole - parts["codes"] + world.vectors.size) / whole,
        "bytes_a_row": whole / world.n,
        "raw_over_our_whole_index": raw / resident,
    }
    plot = Series([n / world.n for n in parts.values()], list(parts), plot="Bytes a row", kind="bar", y_label="bytes")
    notes = (
        f"{world.n:,} rows, {len(plain)} attributes; with one byte a dimension the sign bits and cells are the same. Our index adds "
        "lists, a copy of the sign bits for the fast scan, two numbers a row, and codes of whole bytes"
    )
    return Measurement(values, {"bytes": plot}, notes)


@claim("pruning")
def pruning(run: Run) -> Measurement:
    """The paper's stages on filtered rows of all lists: sign bits keep 10 %, bounds keep 2 k, those are read."""
    world = trials.world(run)
    index = _built(run, world, first_pass="hamming")
    n_queries = run.at(smoke=30, cpu=200)
    rng = np.random.default_rng(run.seed + 1)
    with_bits, without, skipped = [], [], []
    for at, query in enumerate(world.queries[:n_queries]):
        drawn = trials.filter_of_share(world, 0.5 if run.scale == "smoke" else SHARE, rng)
        truth = trials.nearest(world, query, drawn.true, K)[1]
        _, ids, stats = index.search(query, K, drawn.filter, T=EVERY_LIST, H=10, R=2, return_stats=True)
        with_bits.append(trials.recall(world, query, ids[0], truth))
        skipped.append(100 * (1 - stats[0]["bounded"] / max(1, int(drawn.true.sum()))))
        _, ids = index.search(query, K, drawn.filter, T=EVERY_LIST, H=100, R=2)
        without.append(trials.recall(world, query, ids[0], truth))
        run.progress(at + 1, n_queries, "queries")
    values = {
        "skipped_percent": float(np.mean(skipped)),
        "recall_loss": float(np.mean(without) - np.mean(with_bits)),
        "recall_with": float(np.mean(with_bits)),
        "recall_without": float(np.mean(without)),
    }
    return Measurement(values, notes=f"{world.n:,} rows, {n_queries} queries; sign bits after a random rotation")


@claim("retention")
def retention(run: Run) -> Measurement:
    """The same batch twice on functions: threads of this process at smoke scale, else Lithops on this machine."""
    world = trials.world(run, rows=run.at(smoke=1500, cpu=20_000))
    rng = np.random.default_rng(run.seed + 1)
    n_queries = run.at(smoke=20, cpu=100)
    filters = [trials.filter_of_share(world, 0.2, rng).filter for _ in range(n_queries)]
    index = _built(run, world, n_partitions=run.at(smoke=2, cpu=4))
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        executor: Any = "threads" if run.scale == "smoke" else cloud_trials.on_this_machine()
        run.progress(0, None, "two batches")
        values, series = measure_retention(
            Path(folder) / "index",
            world.queries[:n_queries],
            filters,
            K,
            executor=executor,
            options={"timeout_s": 300.0},
        )
    plot = {"bytes fetched": Series(series["bytes"], ["first", "second"], kind="bar", y_label="bytes")}
    return Measurement(dict(values), plot, f"{n_queries} queries over {world.n:,} rows")


@claim("tree-launch")
def tree_launch(run: Run) -> Measurement:
    """84 allocators that do nothing, a fixed wait a launch, as a tree of fan-out 4 and depth 3 and from one place."""
    values, times = measure_tree_launch(run.at(smoke=0.01, cpu=0.05), repeats=run.at(smoke=1, cpu=3))
    plot = {
        name: Series(one, kind="scatter", plot="Time of a launch", x_label="repeat", y_label="seconds")
        for name, one in times.items()
    }
    return Measurement(dict(values), plot)


@claim("throughput")
def throughput(run: Run) -> Measurement:
    """Queries a second of a batch on functions over those of the rival, best data set."""
    measured = cloud_trials.batches(run)
    ratios = {name: one.qps / one.rival_qps for name, one in measured.items()}
    values = {"throughput_ratio": max(ratios.values()), **{f"qps_{name}": one.qps for name, one in measured.items()}}
    return Measurement(values, notes=cloud_trials.note(run))


@claim("cost")
def cost(run: Run) -> Measurement:
    """Dollars a query of the rival over ours, best data set; ours from measured calls, seconds and reads at dated list prices."""
    measured = cloud_trials.batches(run)
    ratios = {name: one.rival_dollars / one.dollars for name, one in measured.items()}
    values = {"cost_ratio": max(ratios.values()), **{f"dollars_{name}": one.dollars for name, one in measured.items()}}
    return Measurement(values, notes=cloud_trials.note(run))


@claim("scaling")
def scaling(run: Run) -> Measurement:
    """Milliseconds a query of one batch by the number of allocators."""
    times = cloud_trials.by_allocators(run)
    values = {
        "speedup_10_to_155": times[10] / times[155],
        **{f"ms_{n_allocators}": ms for n_allocators, ms in times.items()},
    }
    plot = Series(
        list(times.values()), list(times), plot="Allocators", x_label="allocators", y_label="ms a query", log_x=True
    )
    return Measurement(values, {"time a query": plot}, cloud_trials.note(run))


@claim("bit-allocation")
def bit_allocation(run: Run) -> Measurement:
    """Steps 3 to 5 and the bound of stage 2 alone, on all rows: the 2k smallest bounds are ranked by true distance."""
    world = trials.world(run, rows=run.at(smoke=2000, cpu=40_000))
    klt = fit_klt(world.vectors)
    turned = klt.apply(world.vectors)
    variance = turned.var(axis=0, dtype=np.float64)
    d, budgets = turned.shape[1], (1, 2, 4)
    n_queries = run.at(smoke=30, cpu=150)
    values: dict[str, float] = {}
    curves: dict[str, list[float]] = {"by variance": [], "the same everywhere": []}
    queries = world.queries[:n_queries]
    everything = np.ones(world.n, dtype=bool)
    truths = [trials.nearest(world, query, everything, K)[1] for query in queries]
    for step, bits in enumerate(budgets):
        for at, (name, given) in enumerate(
            (("by variance", greedy_bits(variance, bits * d)), ("the same everywhere", uniform_bits(d, bits * d)))
        ):
            quantiser = learn_quantiser(turned, given, seed=run.seed)
            codes = quantiser.encode(turned)
            found = []
            for query, truth in zip(queries, truths, strict=True):
                lower, _ = bound_tables(klt.apply(query[None])[0], quantiser)
                kept = np.argpartition(table_sums(lower, codes), 2 * K)[: 2 * K]
                found.append(trials.recall(world, query, _best(world, query, kept), truth))
            curves[name].append(float(np.mean(found)))
            run.progress(2 * step + at + 1, 2 * len(budgets), f"{bits} bits a dimension")
    at_two = budgets.index(2)
    values["recall_by_variance"] = curves["by variance"][at_two]
    values["recall_uniform"] = curves["the same everywhere"][at_two]
    values["recall_gain"] = values["recall_by_variance"] - values["recall_uniform"]
    plot = {
        name: Series(line, budgets, plot="Recall by the bound alone", x_label="bits a dimension", y_label="recall@10")
        for name, line in curves.items()
    }
    return Measurement(values, plot, f"{world.n:,} rows of {d} dimensions, {n_queries} held-out queries, no filter")


def _best(world: trials.World, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The k of these rows that are nearest indeed."""
    order = np.argsort(trials.squared_distances(world.vectors[rows], query), kind="stable")[:K]
    chosen: np.ndarray = rows[order]
    return chosen

"""The paper's claims, measured on paper embeddings with their own attributes (made vectors at smoke scale).

Queries are held out. Truth is a plain float64 scan of the rows where a filter is true, see `trials.py`.
"""

from __future__ import annotations

import numpy as np

from paperworks.claims import Measurement, Run, Series, claim
from paperworks.papers.squash import trials
from paperworks.papers.squash.allocation import greedy_bits, uniform_bits
from paperworks.papers.squash.lookup import bound_tables, table_sums
from paperworks.papers.squash.quantiser import learn_quantiser
from paperworks.papers.squash.transform import fit_klt

K = 10


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

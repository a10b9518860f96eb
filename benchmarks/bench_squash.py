"""Filtered nearest neighbours: queries a second against recall, memory and build time, SquashIndex beside what people use today.

    python benchmarks/bench_squash.py [--quick | --full] [--data FOLDER] [--cache FOLDER] [--systems NAMES] [--write FILE]

Real data: the papers of `arxiv/` in the data folder (59,000 rows of 384 dimensions; 1,000 rows set aside are the queries), filters
over day, category, number of authors, length of the abstract and the set of categories, a different one for every query. --full
adds a made set of a million rows of 128 dimensions, kept in the cache folder. --quick takes under four minutes on a quiet machine:
the papers, faiss and exact search only, one thread.

Every system sweeps its own settings; for each share of rows that pass, the fastest setting that reaches recall@10 of 0.95 and of
0.99 is taken, and those are measured again, taking turns. Turning the filter into a mask (or SQL, or our expression) is inside the
measured time, and each filter is new to the system. Queries a second are by CPU time, which other work on the machine disturbs
least; wall time stands beside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy; systems that take a number of threads are told it
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else threads that wait count as work on a busy machine

import numpy as np
import squash_data as sets
from squash_data import DataSet, Workload
from squash_peers import ALL, Knob, System, installed
from squash_report import write
from squash_worker import Built, Memory, Timed, Worker

REPOSITORY = Path(__file__).resolve().parents[1]
TARGETS = (0.95, 0.99)
QUICK = ("SquashIndex", "faiss IVF-Flat", "faiss IVF-PQfs+refine", "faiss HNSW32", "compiled exact")
SLOW_QUERIES = 20
ROUNDS = 3
BATCH = 100


@dataclass(frozen=True)
class Point:
    """One setting of one system on one workload. Milliseconds are a query."""

    system: str
    selectivity: float
    mode: str  # 'single', 'own' (batch, a filter each) or 'shared' (batch, one filter)
    threads: int
    knob: Knob
    recall: float
    violations: int
    missing: int
    cpu_ms: float
    wall_ms: float
    p50_ms: float = 0.0  # of single calls, by CPU time
    p99_ms: float = 0.0
    p50_wall_ms: float = 0.0
    p99_wall_ms: float = 0.0


@dataclass
class Results:
    """What was measured on one set."""

    name: str
    shape: str
    raw_bytes: int
    share_of_largest: dict[float, float] = field(default_factory=dict)  # selectivity -> mean share that really passes
    built: dict[str, Built] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    sweep: list[Point] = field(default_factory=list)
    final: dict[tuple[str, float, float], Point] = field(default_factory=dict)  # by system, selectivity, target
    batches: list[tuple[float, Point]] = field(default_factory=list)  # with their target
    problems: dict[str, str] = field(default_factory=dict)


def point(
    worker: Worker, data: DataSet, work: Workload, knob: Knob, n: int, mode: str = "single", threads: int = 1
) -> Point:
    """Run `n` queries of a workload and judge the answers."""
    batch = 1 if mode == "single" else BATCH
    timed: Timed = worker.run(
        work.queries[:n], work.filters[:n], knob, batch=batch, shared=mode == "shared", threads=threads
    )
    judged = sets.score(data, work, timed.found)
    return Point(
        worker.system.name,
        work.selectivity,
        mode,
        threads,
        knob,
        judged.recall,
        judged.violations,
        judged.missing,
        timed.cpu_ms,
        timed.wall_ms,
        *(float(np.quantile(timed.each_cpu_ms, q)) for q in (0.5, 0.99)),
        *(float(np.quantile(timed.each_ms, q)) for q in (0.5, 0.99)),
    )


def sweep(worker: Worker, data: DataSet, works: Iterable[Workload], n: int, tell: Callable[[str], None]) -> list[Point]:
    """All settings, along each chain of growing effort until recall is past the last target."""
    points = []
    for work in works:
        system, done = worker.system(), set()
        for knob in system.knobs(work.selectivity):
            chain = tuple(list(knob.items())[1:])
            if chain in done:
                continue
            one = point(worker, data, work, knob, min(SLOW_QUERIES, n) if system.slow else n)
            points.append(one)
            tell(f"{one.system:22s} {work.selectivity:<6g} {knob} recall {one.recall:.4f} cpu {one.cpu_ms:.3f} ms")
            if one.recall >= TARGETS[-1] + 0.002:
                done.add(chain)
    return points


def chosen(points: Iterable[Point], system: str, selectivity: float, target: float) -> Point | None:
    """The fastest setting that reaches the target."""
    good = [p for p in points if (p.system, p.selectivity) == (system, selectivity) and p.recall >= target]
    return min(good, key=lambda p: p.cpu_ms, default=None)


def middle(points: list[Point]) -> Point:
    """The medians of repeated measurements."""
    values = asdict(points[0])
    for name in ("cpu_ms", "wall_ms", "p50_ms", "p99_ms", "p50_wall_ms", "p99_wall_ms"):
        values[name] = statistics.median(getattr(one, name) for one in points)
    return Point(**values)


def finals(
    workers: dict[str, Worker],
    data: DataSet,
    works: list[Workload],
    results: Results,
    n: int,
    tell: Callable[[str], None],
) -> None:
    """The chosen settings of all fast systems again, in turns; slow ones keep what their sweep gave."""
    for work in works:
        best = {
            (name, target): chosen(results.sweep, name, work.selectivity, target)
            for name in results.built
            for target in TARGETS
        }
        plans = {(p.system, str(p.knob)): p for p in best.values() if p is not None and p.system in workers}
        repeats: dict[tuple[str, str], list[Point]] = {key: [] for key in plans}
        for _ in range(ROUNDS):
            for key, plan in plans.items():
                repeats[key].append(point(workers[plan.system], data, work, plan.knob, n))
        for (name, target), plan in best.items():
            if plan is not None:
                again = repeats.get((name, str(plan.knob)))
                results.final[name, work.selectivity, target] = middle(again) if again else plan
        tell(f"settings at {work.selectivity:g} measured {ROUNDS} times in turns")


def batches(
    workers: dict[str, Worker],
    data: DataSet,
    works: list[Workload],
    shared: list[Workload],
    results: Results,
    n: int,
    threads: Iterable[int],
    targets: Iterable[float],
) -> None:
    """Batches of 100 at the chosen settings: a filter each, and one filter for all; with one and two threads."""
    for own, common in zip(works, shared, strict=True):
        for target in targets:
            plans = [results.final.get((name, own.selectivity, target)) for name in workers]
            for mode, work in (("own", own), ("shared", common)):
                if mode == "own" and own.selectivity >= 1:
                    continue
                for n_threads in threads:
                    repeats: dict[str, list[Point]] = {}
                    for _ in range(ROUNDS):
                        for plan in plans:
                            if plan is not None:
                                one = point(workers[plan.system], data, work, plan.knob, n, mode, n_threads)
                                repeats.setdefault(plan.system, []).append(one)
                    results.batches += [(target, middle(again)) for again in repeats.values()]


def resident(worker: Worker, folder: Path, works: list[Workload], points: list[Point]) -> Memory:
    """Memory after the queries at recall 0.95: in a process that only opened the index, where the system can do that."""
    fresh = Worker(worker.system)
    try:
        if not fresh.reopen(folder):
            return worker.memory()
        for work in works:
            plan = chosen(points, worker.system.name, work.selectivity, TARGETS[0])
            if plan is not None:
                fresh.run(work.queries, work.filters, plan.knob)
        return fresh.memory()
    finally:
        fresh.close()


def measure(data: DataSet, systems: list[type[System]], args: argparse.Namespace) -> Results:
    """Everything on one set."""
    cache, n, threads = args.cache, args.queries, [1] if args.quick else [1, 2]

    def tell(text: str) -> None:
        print(f"[{data.name}] {text}", flush=True)

    works = [sets.workload(data, s, n, cache) for s in args.selectivities]
    results = Results(data.name, data.shape, 4 * data.X.size)
    results.share_of_largest = {work.selectivity: float(work.matching.mean()) / len(data.X) for work in works}
    workers: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory(dir=cache, prefix="indexes-") as folder:
        for system in systems:
            worker = Worker(system)
            try:
                results.built[system.name] = built = worker.build(cache / data.name, Path(folder) / system.__name__, 1)
                tell(f"{system.name} built in {built.cpu_s:.1f} s of CPU, {built.wall_s:.1f} s")
                results.sweep += sweep(worker, data, works, n, tell)
                results.memory[system.name] = resident(worker, Path(folder) / system.__name__, works, results.sweep)
            except RuntimeError as error:
                results.built.pop(system.name, None)
                results.problems[system.name] = str(error).split(" | ")[0]
                tell(str(error))
            if system.slow or system.name not in results.built:
                worker.close()
            else:
                workers[system.name] = worker
        try:
            finals(workers, data, works, results, n, tell)
            common = [sets.workload(data, s, n, cache, seed=2, share=BATCH) for s in args.selectivities]
            batches(workers, data, works, common, results, n, threads, TARGETS[:1] if args.quick else TARGETS)
        finally:
            for worker in workers.values():
                worker.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="the papers, faiss and exact search only, one thread")
    size.add_argument("--full", action="store_true", help="also a million made rows")
    parser.add_argument("--data", type=Path, default=os.environ.get("PAPERWORKS_DATA"), help="folder that holds arxiv/")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "paperworks-bench-squash")
    parser.add_argument("--systems", help="names with commas between, e.g. 'SquashIndex,faiss HNSW32'")
    parser.add_argument("--sets", help="arxiv, clustered or both with a comma")
    parser.add_argument(
        "--selectivities", type=lambda text: tuple(map(float, text.split(","))), default=sets.SELECTIVITIES
    )
    parser.add_argument("--queries", type=int, help="queries a setting")
    parser.add_argument("--write", type=Path, help="the page to write, such as docs/benchmarks/squash.md")
    args = parser.parse_args()
    args.data = Path(args.data) if args.data else REPOSITORY.parent / "shared" / "data"
    args.queries = args.queries or (100 if args.quick else 200)
    args.cache.mkdir(parents=True, exist_ok=True)
    wanted = args.systems.split(",") if args.systems else QUICK if args.quick else [one.name for one in ALL]
    systems = [one for one in ALL if one.name in wanted and installed(one)]
    names = args.sets.split(",") if args.sets else ["arxiv", "clustered"] if args.full else ["arxiv"]
    made = {"arxiv": lambda: sets.arxiv(args.data / "arxiv"), "clustered": sets.clustered}
    found = [measure(sets.cached(args.cache, name, made[name]), systems, args) for name in names]
    absent = [one.name for one in ALL if not installed(one)]
    write(found, args.write, absent)


if __name__ == "__main__":
    main()

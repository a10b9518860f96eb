"""The page of the SQUASH benchmark: one table a question, the bars, and recall against queries a second as pictures."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paperworks.claims.plot import svg
from paperworks.claims.record import SeriesRecord

if TYPE_CHECKING:
    from bench_squash import Point, Results

OURS = "SquashIndex"
BY_HAND = ("compiled exact", "NumPy exact")  # not libraries: what a person writes; shown beside them
HNSW = "faiss HNSW32"
FAST_SCAN = "faiss IVF-PQfs+refine"
TARGETS = (0.95, 0.99)
HELD_FROM = 2.0  # times the best peer's queries a second, for filters of 8 % and less


def write(found: Sequence[Results], path: Path | None, absent: Sequence[str]) -> None:
    """Print the page, and write it with its pictures beside it when a path is given."""
    text = page(found, absent, pictures=path is not None)
    print(text)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for results in found:
        for selectivity in results.share_of_largest:
            name = picture_name(results.name, selectivity)
            (path.parent / name).write_text(picture(results, selectivity), encoding="utf-8")
    path.write_text(text, encoding="utf-8")


def page(found: Sequence[Results], absent: Sequence[str], *, pictures: bool) -> str:
    """The whole page as Markdown."""
    lines = [
        "# SQUASH: filtered search beside its peers",
        "",
        "Made by `python benchmarks/bench_squash.py`. Ten neighbours (k = 10) of held-out queries, every query with a filter of its",
        "own. Turning the filter into what a system takes (a mask made by compiled loops, SQL, an expression) is inside the time.",
        "'CPU' is processor time of all threads of the process a query, which other work on the machine disturbs least; queries a",
        "second (QPS) are its inverse. Recall counts the rows found among the ten nearest that pass, by distance. The setting of each",
        "system is the fastest of its sweep that reaches the recall; chosen settings were measured again three times, the systems",
        "taking turns, and the medians stand here.",
        "",
        f"{machine()}",
        "",
    ]
    if absent:
        lines += [f"Not installed here: {', '.join(absent)}.", ""]
    for results in found:
        lines += section(results, pictures)
    return "\n".join(lines).rstrip() + "\n"


def machine() -> str:
    import importlib.metadata as metadata

    names = ("numpy", "numba", "faiss-cpu", "hnswlib", "usearch", "lancedb", "duckdb", "qdrant-client")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return f"Python {platform.python_version()}, {os.cpu_count()} processors ({platform.machine()}, {sys.platform}); {', '.join(versions)}."


def section(results: Results, pictures: bool) -> list[str]:
    """Everything about one set."""
    lines = [f"## {results.name}: {results.shape}", ""]
    lines += bars(results)
    lines += versus(results)
    for target in TARGETS:
        lines += everybody(results, target)
    lines += tails(results)
    lines += in_batches(results)
    lines += sizes(results)
    if results.problems:
        lines += ["### What failed", "", *(f"- {name}: {why}" for name, why in results.problems.items()), ""]
    if pictures:
        lines += ["### Recall against queries a second", ""]
        for selectivity in results.share_of_largest:
            title = f"{percent(selectivity)} of the rows pass"
            lines += [f"![{title}]({picture_name(results.name, selectivity)})", ""]
    return lines


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def qps(point: Point | None) -> str:
    return "-" if point is None else f"{1000 / max(point.cpu_ms, 1e-9):,.0f}"


def best_of(results: Results, selectivity: float, target: float, *, by_hand: bool = False) -> Point | None:
    """The fastest other system that reaches the target."""
    points = [
        point
        for (name, share, aim), point in results.final.items()
        if (share, aim) == (selectivity, target) and name != OURS and (name in BY_HAND) == by_hand
    ]
    return min(points, key=lambda point: point.cpu_ms, default=None)


def ours(results: Results, selectivity: float, target: float) -> Point | None:
    return results.final.get((OURS, selectivity, target))


def ratio(one: Point | None, other: Point | None) -> float | None:
    """How many times the queries a second of `other`."""
    return None if one is None or other is None else other.cpu_ms / max(one.cpu_ms, 1e-9)


def times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} x"


def knob_text(point: Point | None) -> str:
    return "" if point is None else ", ".join(f"{key} {value:g}" for key, value in point.knob.items())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def versus(results: Results) -> list[str]:
    """Ours against the best library, and against exact search by hand."""
    rows = []
    for selectivity in results.share_of_largest:
        for target in TARGETS:
            mine, best = ours(results, selectivity, target), best_of(results, selectivity, target)
            exact = best_of(results, selectivity, target, by_hand=True)
            wall = None if mine is None or best is None else best.wall_ms / max(mine.wall_ms, 1e-9)
            rows.append(
                (
                    percent(selectivity),
                    f"{target:.2f}",
                    f"{qps(mine)} ({knob_text(mine)})" if mine else "not reached",
                    f"{mine.recall:.4f}" if mine else "-",
                    f"{best.system} {qps(best)} ({knob_text(best)})" if best else "none reaches it",
                    times(ratio(mine, best)),
                    times(wall),
                    f"{exact.system} {qps(exact)}" if exact else "-",
                    times(ratio(mine, exact)),
                )
            )
    header = (
        "pass",
        "recall of",
        "ours, QPS",
        "recall",
        "best library, QPS",
        "ratio, CPU",
        "ratio, wall",
        "exact by hand, QPS",
        "ratio",
    )
    return ["### How much faster, one query at a time, one thread?", "", *table(header, rows)]


def everybody(results: Results, target: float) -> list[str]:
    """QPS of all systems."""
    shares = list(results.share_of_largest)
    names = [OURS, *(name for name in results.built if name != OURS)]
    rows = [
        (name, *(qps(results.final.get((name, share, target))) for share in shares))
        for name in names
        if name in results.built
    ]
    title = f"### What does everybody reach at recall {target:.2f}? (QPS by CPU, one query at a time, one thread)"
    return [title, "", *table(("system", *(percent(share) for share in shares)), rows)]


def tails(results: Results) -> list[str]:
    """Median and 99th percentile."""
    rows = []
    for name in results.built:
        for selectivity in results.share_of_largest:
            point = results.final.get((name, selectivity, 0.95))
            if point is not None and name not in BY_HAND:
                rows.append(
                    (
                        name,
                        percent(selectivity),
                        f"{point.p50_ms:.3f}",
                        f"{point.p99_ms:.3f}",
                        f"{point.p99_ms / max(point.p50_ms, 1e-9):.1f}",
                        f"{point.p50_wall_ms:.3f}",
                        f"{point.p99_wall_ms:.3f}",
                    )
                )
    header = ("system", "pass", "p50, ms of CPU", "p99", "p99 / p50", "p50, ms of wall", "p99")
    return ["### How long do the slowest queries take? (recall 0.95)", "", *table(header, rows)]


def in_batches(results: Results) -> list[str]:
    """Batches of a hundred, by filter of their own or shared, one and two threads."""
    keys = sorted(
        {(p.selectivity, target, p.mode, p.threads) for target, p in results.batches},
        key=lambda key: (-key[0], *key[1:]),
    )
    rows = []
    for share, target, mode, threads in keys:
        points = [
            p for aim, p in results.batches if (p.selectivity, aim, p.mode, p.threads) == (share, target, mode, threads)
        ]
        mine = next((p for p in points if p.system == OURS), None)
        others = [p for p in points if p.system != OURS and p.system not in BY_HAND]
        best = min(others, key=lambda p: p.cpu_ms if threads == 1 else p.wall_ms, default=None)
        rows.append(
            (
                percent(share),
                f"{target:.2f}",
                "one for all" if mode == "shared" else "its own",
                str(threads),
                f"{mine.cpu_ms:.3f} / {mine.wall_ms:.3f}" if mine else "-",
                f"{best.system} {best.cpu_ms:.3f} / {best.wall_ms:.3f}" if best else "-",
                times(ratio(mine, best)),
                times(None if mine is None or best is None else best.wall_ms / max(mine.wall_ms, 1e-9)),
                f"{mine.recall:.3f} / {best.recall:.3f}" if mine and best else "-",
            )
        )
    header = (
        "pass",
        "recall of",
        "filter",
        "threads",
        "ours, ms of CPU / wall a query",
        "best library",
        "ratio, CPU",
        "ratio, wall",
        "recall ours / theirs",
    )
    return ["### What do batches of 100 cost?", "", *table(header, rows)] if rows else []


def sizes(results: Results) -> list[str]:
    """Build time and memory."""
    rows = []
    for name, built in results.built.items():
        memory = results.memory.get(name)
        vectors = sum(size for file, size in memory.mapped.items() if "vector" in file) if memory else 0
        mapped = sum(memory.mapped.values()) - vectors if memory else 0
        held = (memory.private_bytes if memory else 0) + mapped
        rows.append(
            (
                name,
                f"{built.cpu_s:.1f}",
                f"{built.wall_s:.1f}",
                mega(memory.private_bytes if memory else built.private_bytes),
                mega(mapped) if mapped else "-",
                f"{held / results.raw_bytes:.2f}",
                mega(vectors) if vectors else "-",
            )
        )
    header = (
        "system",
        "build, s of CPU",
        "s of wall",
        "private MB",
        "mapped index MB",
        "together / float32",
        "mapped full vectors MB",
    )
    note = f"The float32 vectors alone are {mega(results.raw_bytes)} MB. Mapped full vectors are pages of the file cache that the system may take back."
    return ["### What do building and memory cost?", "", note, "", *table(header, rows)]


def mega(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.0f}"


def bars(results: Results) -> list[str]:
    """The bars, each with what was measured."""
    rows: list[tuple[str, str, str]] = []
    for share in results.share_of_largest:
        if share > 0.08:
            continue
        for target in TARGETS:
            value = ratio(ours(results, share, target), best_of(results, share, target))
            rows.append(
                (
                    f"{percent(share)} pass, recall {target:.2f}: 2 x the best library",
                    times(value),
                    held(value, HELD_FROM),
                )
            )
    if 1.0 in results.share_of_largest:
        for target in TARGETS:
            value = ratio(ours(results, 1.0, target), results.final.get((FAST_SCAN, 1.0, target)))
            rows.append(
                (f"no filter, recall {target:.2f}: not slower than {FAST_SCAN}", times(value), held(value, 1.0))
            )
            graph = ratio(ours(results, 1.0, target), results.final.get((HNSW, 1.0, target)))
            rows.append((f"no filter, recall {target:.2f}: beside {HNSW} (no bar)", times(graph), "-"))
    memory = results.memory.get(OURS)
    if memory is not None:
        vectors = sum(size for file, size in memory.mapped.items() if "vector" in file)
        share_held = (memory.private_bytes + sum(memory.mapped.values()) - vectors) / results.raw_bytes
        rows.append(
            (
                "resident at most 1/4 of float32, full vectors left on disk",
                f"{share_held:.2f}",
                "yes" if share_held <= 0.25 else "no",
            )
        )
    if OURS in results.built and HNSW in results.built:
        value = results.built[HNSW].cpu_s / max(results.built[OURS].cpu_s, 1e-9)
        rows.append((f"build not slower than {HNSW} (efConstruction 200)", times(value), held(value, 1.0)))
    for share in results.share_of_largest:
        point = ours(results, share, 0.95)
        if point is not None:
            tail = point.p99_ms / max(point.p50_ms, 1e-9)
            rows.append((f"p99 at most 3 x p50, {percent(share)} pass", f"{tail:.1f} x", "yes" if tail <= 3 else "no"))
    broken = sum(p.violations for p in results.sweep if p.system == OURS)
    few = sum(p.missing for p in results.sweep if p.system == OURS)
    if any(p.system == OURS for p in results.sweep):
        rows.append(
            (
                "no row breaks its filter, none is missing, over the whole sweep",
                f"{broken} and {few}",
                "yes" if broken + few == 0 else "no",
            )
        )
    shares = ", ".join(f"{percent(s)}: {100 * real:.3g} %" for s, real in results.share_of_largest.items())
    return [
        f"Rows that really pass, on average, by wanted share: {shares}.",
        "",
        "### Are the bars held?",
        "",
        *table(("bar", "measured", "held"), rows),
    ]


def held(value: float | None, least: float) -> str:
    return "not measured" if value is None else "yes" if value >= least else "no"


def picture_name(set_name: str, selectivity: float) -> str:
    return (
        f"squash-{set_name}-{100 * selectivity:g}.svg".replace(".", "_", 1)
        if selectivity < 0.01
        else f"squash-{set_name}-{100 * selectivity:g}.svg"
    )


def picture(results: Results, selectivity: float) -> str:
    """Frontiers of the six fastest systems: queries a second against recall."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for name in results.built:
        points = sorted(
            (p for p in results.sweep if (p.system, p.selectivity) == (name, selectivity) and p.recall >= 0.6),
            key=lambda p: p.cpu_ms,
        )
        reached, x, y = 0.0, [], []
        for point in points:
            if point.recall > reached:
                reached = point.recall
                x.append(point.recall)
                y.append(1000 / max(point.cpu_ms, 1e-9))
        if x:
            curves[name] = x, y
    first = sorted(curves, key=lambda name: (name != OURS, -max(curves[name][1])))[:6]
    title = f"{results.name}, {percent(selectivity)} of the rows pass"
    series = {
        name: SeriesRecord(
            x=(tuple(curves[name][0]),),
            y=(tuple(curves[name][1]),),
            plot=title,
            x_label="recall@10",
            y_label="queries a second, CPU",
            log_y=True,
        )
        for name in first
    }
    return (
        svg(title, series)
        if series
        else f'<svg xmlns="http://www.w3.org/2000/svg"><title>{title}: nothing</title></svg>'
    )

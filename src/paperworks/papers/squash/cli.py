"""`paperworks squash build`, `search`, `info`, `explain`, `tune`, `bench` and `warm`: the index from the command line."""

from __future__ import annotations

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paperworks.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from paperworks.papers.squash.filters import Filter
    from paperworks.papers.squash.index import SquashIndex

app = typer.Typer(
    help="Nearest vectors among the rows that pass a filter, from a folder several times smaller than the vectors.",
    no_args_is_help=True,
)


class MetricName(StrEnum):
    """How near two vectors are."""

    l2 = "l2"
    cosine = "cosine"
    ip = "ip"


Index = Annotated[Path, typer.Argument(help="Folder of the index.")]
Queries = Annotated[Path, typer.Argument(help="Query vectors: .npy, .fvecs, .bvecs, .parquet or .jsonl.")]
Column = Annotated[str | None, typer.Option(help="The column with the vectors, where the file is a table.")]
FilterText = Annotated[
    str | None,
    typer.Option("--filter", "-f", help="e.g. \"year >= 2020 and category in ['cs.CL', 'cs.LG'] and 'nlp' in tags\""),
]
K = Annotated[int, typer.Option("-k", min=1, help="How many neighbours.")]
Rows = Annotated[int | None, typer.Option(min=1, help="Only so many queries, from the first on.")]
Threads = Annotated[int, typer.Option(help="Threads; -1 for all.")]
Exact = Annotated[bool, typer.Option("--exact", help="The answer of brute force, by bounds.")]


@app.command()
def build(
    vectors: Annotated[Path, typer.Argument(help="Vectors: .npy, .fvecs, .bvecs, .parquet or .jsonl.")],
    out: Annotated[Path, typer.Argument(help="Folder for the index; one that is there is replaced when all is done.")],
    attributes: Annotated[
        Path | None,
        typer.Option("--attributes", "-a", help="A row a vector: .parquet, .jsonl (.gz, .xz), .json or .csv."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Keep this attribute; may be given several times.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", help="name=kind, e.g. date=datetime; int, float, bool, category, labels, datetime."),
    ] = None,
    ids: Annotated[
        str | None, typer.Option(help="The attribute that holds the ids, integers; else rows are numbered.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows of both files.")] = None,
    column: Column = None,
    metric: Annotated[MetricName, typer.Option(help="How near two vectors are.")] = MetricName.l2,
    bits: Annotated[float, typer.Option(help="Bits a dimension, on average.")] = 4.0,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Pieces for the serverless layer; default: by size.")
    ] = None,
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same index.")] = 0,
) -> None:
    """Build an index from files.

    Vectors in .npy, .fvecs and .bvecs are mapped from disk and may be larger than memory. Both files must have the same rows;
    with --rows the first so many of each are taken.
    """
    from paperworks.papers.squash.index import SquashIndex
    from paperworks.papers.squash.vector_files import read_attributes, read_vectors
    from paperworks.progress import size, terminal

    array = read_vectors(vectors, column)[:rows]
    table = (
        None if attributes is None else read_attributes(attributes, [*only, *([ids] if ids else [])] if only else None)
    )
    if table is not None and rows is not None:
        table = {name: values[:rows] for name, values in table.items()}
    given_ids = None
    if ids is not None:
        if table is None or ids not in table:
            raise InputError(f"--ids {ids}: there is no such attribute; it is one of the columns of --attributes")
        given_ids = _as_ids(ids, table.pop(ids))
    index = SquashIndex(
        metric=metric.value, bits=bits, n_partitions=partitions or "auto", random_state=seed, n_jobs=threads
    )
    with terminal("building") as progress:
        index.build(array, table or None, given_ids, types=_types(kind), folder=out, progress=progress)
    facts = index.statistics()
    typer.echo(
        f"{out}: {facts['rows']:,} vectors of {facts['dimensions']} dimensions, {size(facts['resident_bytes'])} in memory, "
        f"{facts['raw_over_resident']:.1f} times less than the vectors",
        err=True,
    )


@app.command()
def search(
    index: Index,
    queries: Queries,
    k: K = 10,
    filter_text: FilterText = None,
    exact: Exact = False,
    rows: Rows = None,
    column: Column = None,
    show: Annotated[bool, typer.Option("--show", help="Also the attributes of what is found.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write here: .jsonl, or .npz with ids and distances.")
    ] = None,
    threads: Threads = 1,
) -> None:
    """Find the k nearest rows of each query; one JSON line a query."""
    import numpy as np

    opened, asked = _open(index, threads), _queries(queries, column, rows)
    distances, ids = opened.search(asked, k=k, filter=_filter(filter_text), exact=exact)
    if out is not None and out.suffix == ".npz":
        _write(out, lambda file: np.savez(file, ids=ids, distances=distances))
        return
    lines = (
        _line(opened, i, near, numbers, show) for i, (near, numbers) in enumerate(zip(distances, ids, strict=True))
    )
    if out is None:
        for line in lines:
            sys.stdout.write(line + "\n")
    else:
        _write(out, lambda file: file.writelines((line + "\n").encode() for line in lines))


@app.command()
def info(index: Index, as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False) -> None:
    """Say what an index holds: rows, bytes, attributes."""
    from paperworks.papers.squash.attribute_values import iso
    from paperworks.progress import size

    facts = _open(index).statistics()
    if as_json:
        typer.echo(json.dumps(facts, default=iso, indent=2))
        return
    rows = f"{facts['rows']:,} rows of {facts['dimensions']} dimensions, {facts['metric']}"
    typer.echo(f"{rows}, {facts['lists']} lists, {facts['partitions']} partitions")
    if facts["rows_added"] or facts["rows_deleted"]:
        typer.echo(f"{facts['rows_added']:,} added since the build, {facts['rows_deleted']:,} deleted")
    parts = ", ".join(f"{name} {size(n)}" for name, n in facts["bytes"].items() if n)
    typer.echo(f"in memory {size(facts['resident_bytes'])} ({parts}); vectors {size(facts['raw_bytes'])}")
    for one in facts["attributes"]:
        span = (
            f"{one['low']} to {one['high']}"
            if "low" in one
            else f"{one['distinct']} values"
            if "distinct" in one
            else ""
        )
        missing = f", {one['missing']:,} missing" if one["missing"] else ""
        typer.echo(f"  {one['name']}: {one['kind']}, {span}{missing}")


@app.command()
def explain(
    index: Index,
    queries: Queries,
    row: Annotated[int, typer.Option(min=0, help="Which query.")] = 0,
    k: K = 10,
    filter_text: FilterText = None,
    column: Column = None,
) -> None:
    """Show what each stage of one search did and read, and how much of the exact answer it found."""
    asked = _queries(queries, column, None)
    if row >= len(asked):
        raise InputError(f"{queries} holds {len(asked)} queries, there is no query {row}")
    typer.echo(str(_open(index).explain(asked[row], k=k, filter=_filter(filter_text))))


@app.command()
def tune(
    index: Index,
    queries: Queries,
    recall: Annotated[float, typer.Option(help="Share of the true neighbours to find.")] = 0.97,
    k: K = 10,
    filter_text: FilterText = None,
    rows: Rows = 500,
    column: Column = None,
) -> None:
    """Find the cheapest settings that reach a recall on queries like those to come, and keep them in the index."""
    from paperworks.progress import terminal

    opened = _open(index)
    with terminal("tuning") as progress:
        tuned = opened.tune(
            _queries(queries, column, rows), k=k, filters=_filter(filter_text), recall=recall, progress=progress
        )
    opened.save(index)
    typer.echo(str(tuned))


@app.command()
def bench(
    index: Index,
    queries: Queries,
    k: K = 10,
    filter_text: FilterText = None,
    rows: Rows = 1000,
    column: Column = None,
    threads: Threads = 1,
) -> None:
    """Measure queries a second, one at a time and as a batch, and the recall against the exact mode."""
    import numpy as np

    opened, asked, wanted = _open(index, threads), _queries(queries, column, rows), _filter(filter_text)
    if not len(asked):
        raise InputError(f"{queries} holds no queries")
    truth, _ = opened.search(asked, k=k, filter=wanted, exact=True)
    found, _ = opened.search(asked, k=k, filter=wanted)  # also loads kernels and pages
    times = []
    for query in asked:
        started = time.perf_counter()
        opened.search(query, k=k, filter=wanted)
        times.append(1e3 * (time.perf_counter() - started))
    started = time.perf_counter()
    opened.search(asked, k=k, filter=wanted)
    batch_s = time.perf_counter() - started
    exists = np.isfinite(truth)
    farthest = np.max(truth, axis=1, where=exists, initial=-np.inf)[:, None]
    hits = int(np.count_nonzero(np.isfinite(found) & (found <= farthest + 1e-5 * np.abs(farthest))))
    recall = hits / max(1, int(np.count_nonzero(exists)))
    p50, p99 = np.percentile(times, [50, 99])
    n_matches = opened.count(wanted)
    typer.echo(f"{len(asked)} queries, k = {k}, {n_matches:,} of {len(opened):,} rows pass, {threads} thread(s)")
    typer.echo(f"recall       {recall:.4f}")
    typer.echo(f"one by one   {1e3 / np.mean(times):,.0f} a second; p50 {p50:.3f} ms, p99 {p99:.3f} ms")
    typer.echo(f"as a batch   {len(asked) / batch_s:,.0f} a second")


@app.command()
def warm() -> None:
    """Compile everything once, so that the first query does not wait; worth a line in the recipe of a container."""
    from paperworks.papers.squash.warming import warm as run
    from paperworks.progress import duration, terminal

    with terminal("compiling") as progress:
        seconds = run(progress)
    typer.echo(f"all kernels are compiled ({duration(seconds)})", err=True)


def _open(folder: Path, threads: int = 1) -> SquashIndex:
    from paperworks.papers.squash.index import SquashIndex

    return SquashIndex.load(folder, n_jobs=threads)


def _queries(path: Path, column: str | None, rows: int | None) -> np.ndarray:
    from paperworks.papers.squash.vector_files import read_vectors

    return read_vectors(path, column)[:rows]


def _filter(text: str | None) -> Filter | None:
    from paperworks.papers.squash.filter_text import parse_filter

    return None if text is None else parse_filter(text)


def _types(pairs: list[str] | None) -> dict[str, str] | None:
    wanted = {}
    for pair in pairs or []:
        name, equals, kind = pair.partition("=")
        if not equals:
            raise InputError(f"--type takes name=kind, e.g. date=datetime, got {pair!r}")
        wanted[name] = kind
    return wanted or None


def _as_ids(name: str, values: Any) -> np.ndarray:
    import numpy as np

    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise InputError(f"--ids {name}: ids are integers, this column holds {array.dtype}")
    return array


def _line(index: SquashIndex, query: int, distances: np.ndarray, ids: np.ndarray, show: bool) -> str:
    from paperworks.papers.squash.attribute_values import iso

    there = ids >= 0
    answer: dict[str, Any] = {"query": query, "ids": ids[there].tolist(), "distances": distances[there].tolist()}
    if show:
        columns = index.metadata(ids[there])
        answer["attributes"] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps(answer, default=iso)


def _write(path: Path, write: Any) -> None:
    """Write aside and rename."""
    aside = path.with_name(path.name + ".part")
    with aside.open("wb") as file:
        write(file)
    aside.replace(path)

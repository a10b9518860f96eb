"""`paperworks reproduce` and `paperworks measured`. Results go to standard output, progress and remarks to standard error."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paperworks.errors import Cancelled, DataMissing, InputError, PaperworksError
from paperworks.progress import Progress, duration, terminal

if TYPE_CHECKING:
    from paperworks.catalogue import ClaimSpec, RunnablePaper, Scale
    from paperworks.claims.record import Record
    from paperworks.claims.store import RecordStore
    from paperworks.config import Settings

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_REPRODUCED, EXIT_CANCELLED = 1, 2, 4, 130


def _settings(ctx: typer.Context) -> Settings:
    found: Settings = ctx.find_root().obj.settings()
    return found


def _fail_usage(message: str) -> typer.Exit:
    typer.secho(message, fg="red", err=True)
    return typer.Exit(EXIT_USAGE)


def reproduce(
    ctx: typer.Context,
    slug: Annotated[str | None, typer.Argument(help="The paper; `paperworks papers` lists them.")] = None,
    claim: Annotated[list[str] | None, typer.Option(help="Only this claim; may be given several times.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All claims of all papers that can be measured here.")] = False,
    scale: Annotated[
        str, typer.Option(help="smoke: seconds, checks the code; cpu: minutes; gpu: the paper's own.")
    ] = "cpu",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="How many repeats, with seeds 0, 1, 2 ...")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write a report, one HTML file.")] = None,
    records: Annotated[Path | None, typer.Option(help="Where to keep the records; default: the hub's folder.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with data sets, looked into first.")] = None,
    fresh: Annotated[bool, typer.Option(help="Do not take over the finished seeds of an interrupted run.")] = False,
    network: Annotated[bool, typer.Option(help="Let the run use the network, for models and data by name.")] = False,
    in_process: Annotated[bool, typer.Option("--in-process", help="Measure in this process, without limits.")] = False,
) -> None:
    """Measure a paper's claims again, and compare with what was printed."""
    from paperworks.catalogue import SCALES, catalogue

    if scale not in SCALES:
        raise _fail_usage(f"--scale is one of {', '.join(SCALES)}; got {scale!r}")
    if (slug is None) == (not every):
        raise _fail_usage("name a paper, or say --all; `paperworks papers` lists the papers")
    if every and claim:
        raise _fail_usage("--claim needs a paper; leave out --all")
    known = catalogue()
    chosen: list[RunnablePaper]
    if slug is None:
        chosen = [paper for paper in known.papers.values() if paper.has_method and paper.has_measurements]
    else:
        chosen = [known[slug.replace("-", "_")]]
    jobs = [(paper, spec) for paper in chosen for spec in _claims(paper, claim)]
    if not jobs:
        raise _fail_usage(f"{slug or 'the catalogue'} has no claims to measure")
    settings = _settings(ctx)
    keep = records or (settings.records if scale != "smoke" else None)
    session = _Session(settings, scale, tuple(range(seeds)), data, keep, fresh, network, in_process)
    done: list[Record] = []
    errors: list[str] = []
    for paper, spec in jobs:
        try:
            with terminal(f"{paper.slug} {spec.id}") as progress:
                done.append(session.measure(paper, spec, progress))
        except (Cancelled, KeyboardInterrupt) as error:
            _remark(str(error) if isinstance(error, Cancelled) else "cancelled")
            kept = "nothing is kept at this scale" if scale == "smoke" else "finished seeds are kept"
            _remark(f"{kept}; the same command goes on from there, --fresh begins anew")
            _show(done, as_json)
            raise typer.Exit(EXIT_CANCELLED) from None
        except DataMissing:
            raise
        except PaperworksError as error:
            errors.append(f"{paper.slug} {spec.id}: {error}")
            _remark(errors[-1], fg="red")
    _show(done, as_json)
    if report is not None and done:
        from paperworks.claims.files import write_atomically
        from paperworks.claims.report import html

        write_atomically(report, html(done))
        _remark(f"report: {report}")
    if keep is not None and done:
        _remark(f"records: {keep}")
    code = exit_code(done, bool(errors))
    if code:
        raise typer.Exit(code)


def exit_code(records: list[Record], had_errors: bool = False) -> int:
    """0: all reproduced, or measured at smoke; 4: another verdict, or not measured; 1: something failed."""
    if had_errors or any(record.state == "failed" for record in records):
        return EXIT_FAILED
    fine = all(
        record.verdict == "reproduced" or (record.scale == "smoke" and record.state == "done") for record in records
    )
    return 0 if fine else EXIT_NOT_REPRODUCED


def _claims(paper: RunnablePaper, ids: list[str] | None) -> list[ClaimSpec]:
    return [paper.claim(claim_id) for claim_id in ids] if ids else list(paper.claims)


class _Session:
    """How the claims of one command are measured."""

    def __init__(
        self,
        settings: Settings,
        scale: Scale,
        seeds: tuple[int, ...],
        data: Path | None,
        keep: Path | None,
        fresh: bool,
        network: bool,
        in_process: bool,
    ) -> None:
        self.settings, self.scale, self.seeds, self.data = settings, scale, seeds, data
        self.keep, self.fresh, self.network, self.in_process = keep, fresh, network, in_process
        self.checkpoints = settings.home / "checkpoints" if scale != "smoke" else None

    def measure(self, paper: RunnablePaper, spec: ClaimSpec, progress: Progress) -> Record:
        if self.in_process:
            return self._here(paper, spec, progress)
        if self.keep is not None:
            return self._in_worker(paper, spec, progress, self.keep)
        import tempfile

        with tempfile.TemporaryDirectory(prefix="paperworks-smoke-") as folder:
            return self._in_worker(paper, spec, progress, Path(folder))

    def _here(self, paper: RunnablePaper, spec: ClaimSpec, progress: Progress) -> Record:
        from paperworks.claims.data import Data
        from paperworks.claims.runner import forget, run_claim

        with _interruptible() as cancel:
            record = run_claim(
                paper,
                spec.id,
                self.scale,
                self.seeds,
                progress,
                Data(self.data, configured=self.settings.data),
                self.checkpoints,
                cancel=cancel,
                fresh=self.fresh,
            )
        if self.keep is not None:
            record.save(self.keep)
            if self.checkpoints is not None and record.state == "done":
                forget(paper, spec.id, self.scale, self.checkpoints)
        return record

    def _in_worker(self, paper: RunnablePaper, spec: ClaimSpec, progress: Progress, keep: Path) -> Record:
        from paperworks.claims.process import Job, spawn
        from paperworks.claims.record import Record

        job = Job(
            slug=paper.slug,
            claim=spec.id,
            scale=self.scale,
            seeds=self.seeds,
            records=keep,
            checkpoints=self.checkpoints,
            data=self.data,
            home=self.settings.home,
            fresh=self.fresh,
            network=self.network,
            seconds=self.settings.run_seconds,
            memory_gib=self.settings.run_memory_gib,
        )
        n_done = 0
        with spawn(job) as worker:
            try:
                for event in worker.events():
                    n_done += event["kind"] == "measurement"
                    _pass_on(event, progress, n_done, len(self.seeds))
                    if event["kind"] == "record":
                        return Record.read(event["path"])
                    if event["kind"] == "cancelled":
                        raise Cancelled(event["message"])
                    if event["kind"] == "error":
                        raise PaperworksError(event["message"])
            except KeyboardInterrupt:
                worker.cancel()
                raise Cancelled("cancelled") from None
        raise PaperworksError("the worker ended without a result")


def _pass_on(event: dict[str, Any], progress: Progress, n_done: int, n_seeds: int) -> None:
    if event["kind"] == "progress":
        total = event["total"]
        share = min(float(event["done"]) / total, 1.0) if total else 0.0
        progress(n_done + share, n_seeds, f"seed {event['seed']} {event['note']}".rstrip())
    elif event["kind"] == "measurement":
        resumed = "taken over" if event["resumed"] else duration(event["seconds"])
        progress(n_done, n_seeds, f"seed {event['seed']} measured ({resumed})")
    elif event["kind"] == "log" and event["level"] in ("warning", "error", "critical"):
        _remark(event["message"], fg="yellow")


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C once: stop at the next report of progress. Twice: at once."""
    import signal

    cancel = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def stop(signum: int, frame: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop)
        try:
            yield cancel
        finally:
            signal.signal(signal.SIGINT, before)
    else:
        yield cancel


def _remark(text: str, fg: str | None = None) -> None:
    typer.secho(text, fg=fg, err=True)


def _show(records: list[Record], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([record.model_dump(mode="json") for record in records], ensure_ascii=False, indent=1))
        return
    if not records:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from paperworks.claims.report import printed_text
    from paperworks.claims.verdict import sign

    table = Table("paper", "claim", "as printed", "measured", "verdict", "took", box=None, pad_edge=False)
    for record in records:
        measured = "\n".join(f"{name} {value.text}" for name, value in record.values.items()) or "–"
        shown = sign(record.verdict)
        word = f"{shown.symbol} {'failed' if record.state == 'failed' else shown.word} ({record.scale})"
        if record.reason:
            word += f"\n{record.reason}"
        cells = (record.slug, record.claim, printed_text(record.printed), measured, word, duration(record.duration_s))
        table.add_row(*map(Text, cells))
    Console().print(table)


measured = typer.Typer(no_args_is_help=True, help="The records of measurements: list them, report them, index them.")


def _store(ctx: typer.Context, records: Path | None) -> RecordStore:
    from paperworks.claims.store import RecordStore

    return RecordStore([records]) if records is not None else RecordStore.of(_settings(ctx))


@measured.command("list")
def list_records(
    ctx: typer.Context,
    slug: Annotated[str | None, typer.Argument(help="Only this paper.")] = None,
    records: Annotated[Path | None, typer.Option(help="Only the records of this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Show the best-known record of every claim."""
    store = _store(ctx, records)
    _show([record for (paper, _), record in store.best_of_all().items() if slug in (None, paper)], as_json)
    for broken in store.problems():
        _remark(broken.message, fg="yellow")


@measured.command("report")
def write_report(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(help="The HTML file to write.")],
    slug: Annotated[str | None, typer.Option(help="Only this paper.")] = None,
    records: Annotated[Path | None, typer.Option(help="Only the records of this folder.")] = None,
) -> None:
    """Write one HTML report of the best-known records."""
    from paperworks.claims.files import write_atomically
    from paperworks.claims.report import html

    best = [record for (paper, _), record in _store(ctx, records).best_of_all().items() if slug in (None, paper)]
    if not best:
        raise InputError(
            "there is no record with a verdict to report; measure one by `paperworks reproduce SLUG` first"
        )
    write_atomically(out, html(best))
    _remark(f"report: {out}")


@measured.command("build")
def build(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Option(help="The folder of records; default: that of the release.")] = None,
) -> None:
    """Write the index `measured.md` beside the records of a folder, for the documentation."""
    from paperworks.claims.files import write_atomically
    from paperworks.claims.places import committed_records
    from paperworks.claims.report import index
    from paperworks.claims.store import RecordStore

    folder = folder or committed_records()
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}; measure with `paperworks reproduce SLUG --records {folder}` first"
        )
    store = RecordStore([folder])
    write_atomically(folder / "measured.md", index(store))
    for broken in store.problems():
        _remark(broken.message, fg="yellow")
    _remark(f"index: {folder / 'measured.md'}")

"""The `paperworks` command: the hub's verbs, `reproduce`, `measured`, `papers`, and every paper's own commands.

A paper that has a `cli.py` with a Typer `app` is mounted as `paperworks <slug>` (an underscore may be typed as a dash). It is
imported when that command is called: neither the help page nor any other command pays for it.

Exit codes: 0 done, 1 failed, 2 usage, 3 done with refusals, 4 a verdict other than reproduced.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from paperworks._version import __version__
from paperworks.claims import cli as claims_cli
from paperworks.errors import CatalogueError, PaperworksError

if TYPE_CHECKING:
    from paperworks.catalogue import RunnablePaper
    from paperworks.config import Settings

PAPERS_PANEL = "Papers"


@dataclass(frozen=True, slots=True)
class Globals:
    """What stands before the verb; every command finds it as `ctx.find_root().obj`."""

    home: Path | None = None
    verbose: int = 0

    def settings(self, **overrides: Any) -> Settings:
        """The settings in force, with `--home` applied."""
        from paperworks.config import load

        return load(self.home, **overrides)


class PaperCommands(TyperGroup):
    """The verbs that are always there, and after them the papers that bring commands."""

    _listing = False

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own Context is a subclass
        own = super().list_commands(ctx)
        return [*own, *(slug for slug in _papers_with_commands() if slug not in own)]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        known = super().get_command(ctx, cmd_name)
        if known is not None:
            return known
        paper = _papers_with_commands().get(cmd_name.replace("-", "_"))
        if paper is None:
            return None
        if self._listing:  # the help page needs a name and a line, not the paper's code
            return TyperCommand(paper.slug, help=paper.spec.use, rich_help_panel=PAPERS_PANEL)
        return load_paper_command(paper)

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


def _papers_with_commands() -> dict[str, RunnablePaper]:
    from paperworks.catalogue import catalogue

    return {
        slug: paper
        for slug, paper in sorted(catalogue().papers.items())
        if paper.has_method and (paper.folder / "cli.py").exists()
    }


def load_paper_command(paper: RunnablePaper) -> Any:
    """The commands of a paper's `cli.py`. Raises CatalogueError that names the paper when they cannot be loaded."""
    try:
        app = paper.load("cli").app
        if not isinstance(app, typer.Typer):
            raise CatalogueError(f"`app` is a {type(app).__name__}, not a typer.Typer")
        command = typer.main.get_command(app)
    except ImportError as error:
        if isinstance(error, PaperworksError):
            raise  # an optional install is missing, and the message says which
        raise CatalogueError(
            f"the commands of {paper.slug} cannot be loaded from {paper.package}.cli: {error}"
        ) from error
    except Exception as error:
        raise CatalogueError(
            f"the commands of {paper.slug} cannot be loaded from {paper.package}.cli: {type(error).__name__}: {error}"
        ) from error
    command.name = paper.slug
    return command


app = typer.Typer(
    name="paperworks",
    cls=PaperCommands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="A trending-papers hub in which the papers run: follow papers, use their methods, check their claims.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"paperworks {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    ctx: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="The hub's folder: database, records, settings.", envvar="PAPERWORKS_HOME")
    ] = None,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv also shows where an error came from.")
    ] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    ctx.obj = Globals(home.expanduser().absolute() if home else None, verbose)
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True)


@app.command()
def papers(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """List the papers that have a folder here: what runs, and what is to come."""
    from paperworks.catalogue import catalogue

    found = catalogue()
    rows = [
        {
            "slug": slug,
            "title": paper.spec.title,
            "state": "runs here" if paper.has_method else "method to come",
            "use": paper.spec.use,
            "claims": len(paper.claims),
            "commands": slug in _papers_with_commands(),
            "builtin": paper.builtin,
        }
        for slug, paper in found.items()
    ]
    if as_json:
        problems = [{"name": problem.name, "message": problem.message} for problem in found.problems]
        typer.echo(json.dumps({"papers": rows, "problems": problems}, ensure_ascii=False, indent=1))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("paper", "title", "state", "claims", box=None, pad_edge=False)
    for row in rows:
        table.add_row(Text(str(row["slug"])), Text(str(row["title"])), str(row["state"]), str(row["claims"]))
    Console().print(table)
    for problem in found.problems:
        typer.secho(f"left out: {problem.message}", fg="yellow", err=True)


app.command("reproduce")(claims_cli.reproduce)
app.add_typer(claims_cli.measured, name="measured")

_hub = importlib.util.find_spec("paperworks.hub.cli")
if _hub is not None and _hub.origin is not None:
    importlib.import_module("paperworks.hub.cli").add_to(app)


def main() -> None:
    """The entry point: an error of ours is one sentence on standard error, with exit code 1."""
    try:
        app()
    except PaperworksError as error:
        _tell(error)
        sys.exit(1)


def _tell(error: PaperworksError) -> None:
    if logging.getLogger().isEnabledFor(logging.DEBUG):  # -vv
        traceback.print_exception(error, file=sys.stderr)
    typer.secho(f"{error}", fg="red", err=True)


if __name__ == "__main__":
    main()

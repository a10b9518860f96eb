"""`source add`, `source list`, `intake`, `intake log`, `intake retry`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from paperworks.hub.cli.context import AsJson, hub_of, say, say_intake
from paperworks.progress import terminal

source = typer.Typer(help="Where papers come from.", no_args_is_help=True)
intake = typer.Typer(help="Ask the sources for papers.", invoke_without_command=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(source, name="source")
    app.add_typer(intake, name="intake")


@source.command("add")
def add(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(help="arxiv, hf-daily, feed, or the kind of a plugin.", show_default=False)],
    address: Annotated[str | None, typer.Argument(help="The address of a feed.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="How to call it.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A set of arXiv (cs:cs:LG); may be repeated.")] = None,
    query: Annotated[str | None, typer.Option(help="A search of arXiv ('cat:cs.LG AND ti:pruning').")] = None,
    since: Annotated[str | None, typer.Option(help="Begin with this day.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Anything else that the kind takes, as name=value.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a source, or change the one of that name: source add arxiv --set cs:cs:LG"""
    from paperworks.hub.service import intake as service

    config: dict[str, Any] = {"url": address, "sets": set_ or None, "query": query, "since": since}
    for item in option or ():
        key, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"{item!r} is not of the form name=value", param_hint="--option")
        config[key] = value
    with hub_of(ctx) as hub:
        view = service.add_source(hub, kind, name, **config)
    say(ctx, view, as_json, text=f"source {view.name!r} added; ask it with: paperworks intake --source {view.name!r}")


@source.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the sources: what each has brought, and why nothing came."""
    from paperworks.hub.service import intake as service

    with hub_of(ctx, create=False) as hub:
        views = service.sources(hub)
    if not views and not as_json:
        typer.echo("no sources yet; add one: paperworks source add hf-daily")
        return
    say(ctx, views, as_json, table=("name", "kind", "papers", "due", "failures", "explanation"))


@intake.callback()
def run(
    ctx: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only this source, even if it is paused.")] = None,
    since: Annotated[str | None, typer.Option(help="Go back to this day.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come, and keep nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the sources for papers: all that are not paused, or one."""
    if ctx.invoked_subcommand is not None:
        return
    from paperworks.hub.service import intake as service

    with hub_of(ctx) as hub, terminal("asking") as progress:
        views = service.run_intake(hub, source, since, dry_run, progress)
    if not views and not as_json:
        typer.echo("no source was asked: there are none, or all are paused; see `paperworks source list`")
        return
    say_intake(ctx, views, as_json)


@intake.command("log")
def log(
    ctx: typer.Context,
    n: Annotated[int, typer.Option("--last", min=1, max=10_000, help="How many intakes.")] = 20,
    refused: Annotated[bool, typer.Option("--refused", help="What could not be read, instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the last intakes, newest first; or what was refused and waits."""
    from paperworks.hub.service import intake as service

    with hub_of(ctx, create=False) as hub:
        if refused:
            entries = service.refused(hub, waiting_only=True)
            rows = [entry.model_dump() | ({} if as_json else {"raw": entry.raw[:80]}) for entry in entries]
            say(ctx, rows, as_json, table=("id", "intake_id", "ordinal", "reason", "raw"))
            return
        views = service.intake_log(hub, n)
    columns = ("id", "source", "started", "state", "new", "changed", "same", "refused", "message")
    say(ctx, views, as_json, table=columns)


@intake.command("retry")
def retry(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Read again what was refused, after a fix."""
    from paperworks.hub.service import intake as service

    with hub_of(ctx, create=False) as hub, terminal("reading again") as progress:
        view = service.retry_refused(hub, progress)
    say_intake(ctx, [view], as_json)

"""What the hub's verbs share: the opened hub, and saying a result to a person or to a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

if TYPE_CHECKING:
    from paperworks.config import Settings
    from paperworks.hub.hub import Hub
    from paperworks.hub.views import IntakeView

DONE, FAILED, USAGE, REFUSALS = 0, 1, 2, 3
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def settings_of(ctx: typer.Context) -> Settings:
    """The settings in force, with `--home` applied."""
    settings: Settings = ctx.find_root().obj.settings()
    return settings


@contextmanager
def hub_of(ctx: typer.Context, *, create: bool = True) -> Iterator[Hub]:
    """The hub in the folder of `--home`, opened for the block; made if it is not there, unless `create` is False."""
    from paperworks.hub.hub import open_hub

    with open_hub(settings_of(ctx), create=create) as hub:
        yield hub


def say(
    ctx: typer.Context, what: Any, as_json: bool, table: Sequence[str] | None = None, text: str | None = None
) -> None:
    """Print a result: as JSON when a program asks, else `text`, else a table of rows.

    what: a view, or a sequence of views or dictionaries. table: the fields that become columns; without it, all of them.
    """
    if as_json:
        typer.echo(json.dumps(_plain(what), ensure_ascii=False, indent=1))
        return
    if text is not None:
        typer.echo(text)
        return
    rows = [_plain(item) for item in (what if isinstance(what, (list, tuple)) else [what])]
    if not rows:
        typer.echo("nothing")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(table or rows[0])
    out = Table(*(column.replace("_", " ") for column in columns), box=None, pad_edge=False)
    for row in rows:
        out.add_row(*(Text(_cell(row.get(column))) for column in columns))
    # A pipe gets whole lines: other programs cut them as they like.
    Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 250).print(out)


def say_intake(ctx: typer.Context, views: Sequence[IntakeView], as_json: bool) -> None:
    """Print what came of some turns, and end with 0, 1 when one failed, or 3 when something was refused."""
    say(
        ctx,
        list(views) if len(views) != 1 or not as_json else views[0],
        as_json,
        table=("source", "state", "new", "changed", "same", "refused", "message"),
    )
    if any(view.state == "failed" for view in views):
        raise typer.Exit(FAILED)
    if any(view.refused for view in views):
        if not as_json:
            typer.echo("What was refused, and why: paperworks intake log --refused", err=True)
        raise typer.Exit(REFUSALS)


def _plain(what: Any) -> Any:
    if isinstance(what, BaseModel):
        return what.model_dump(mode="json")
    if isinstance(what, (list, tuple)):
        return [_plain(item) for item in what]
    return what


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item.get("name", item) if isinstance(item, dict) else item) for item in value)
    return " ".join(str(value).split())

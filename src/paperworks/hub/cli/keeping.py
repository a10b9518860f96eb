"""`doctor`, `backup`, `restore`, `migrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paperworks.hub.cli.context import FAILED, AsJson, hub_of, say, settings_of


def add_to(app: typer.Typer) -> None:
    app.command("doctor")(doctor)
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("migrate")(migrate)


def doctor(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Look whether all is well: disk, database, sources, clock."""
    from paperworks.hub.service import papers

    with hub_of(ctx, create=False) as hub:
        rows = [
            {"what": what, "well": "yes" if ok else "no", "finding": sentence}
            for what, ok, sentence in papers.doctor(hub)
        ]
    say(ctx, rows, as_json)
    if any(row["well"] == "no" for row in rows):
        raise typer.Exit(FAILED)


def backup(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(help="A new zip file.", show_default=False)],
    secrets: Annotated[bool, typer.Option("--secrets", help="Keep the passwords of the settings in it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the whole hub into a zip file, also while it is served."""
    from paperworks.hub.store import backup as keeping
    from paperworks.progress import size

    with hub_of(ctx, create=False) as hub:
        made = keeping.backup(hub.db, hub.home, target, hub.now(), secrets=secrets)
    n_bytes = made.stat().st_size
    say(ctx, {"file": str(made), "bytes": n_bytes}, as_json, text=f"{made} ({size(n_bytes)})")


def restore(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="A backup.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Put a backup in place of the hub; what was there is kept in its folder `backups`."""
    from paperworks.hub.hub import open_hub
    from paperworks.hub.store import backup as keeping
    from paperworks.hub.times import utc_now

    settings = settings_of(ctx)
    kept = keeping.restore(source, settings.home, utc_now())
    with open_hub(settings) as hub:  # brings an older backup up to date, and shows that it opens
        schema = hub.db.schema()
    text = f"restored into {settings.home}" + (f"; the state before lies in {kept}" if kept else "")
    say(ctx, {"home": str(settings.home), "schema": schema, "kept": str(kept) if kept else None}, as_json, text=text)


def migrate(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Bring the tables up to this program's; a copy of the database is kept in `backups` first."""
    from paperworks.hub.store.database import Database, newest_schema

    settings = settings_of(ctx)
    before = Database(settings.database_url).schema()
    with hub_of(ctx, create=False) as hub:  # opening does it
        after = hub.db.schema()
    text = f"the tables stand at {after}" + ("" if before != after else " already")
    say(ctx, {"before": before, "after": after, "newest": newest_schema()}, as_json, text=text)

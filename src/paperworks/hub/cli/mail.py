"""`subscribe`, `subscriptions`, `digest`, `outbox`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from paperworks.hub.cli.context import DONE, FAILED, AsJson, hub_of, say
from paperworks.progress import terminal

subscriptions_app = typer.Typer(no_args_is_help=True, help="Who gets what by mail.")
digest_app = typer.Typer(no_args_is_help=True, help="The mails: look at one, send those that are due.")
outbox_app = typer.Typer(no_args_is_help=True, help="Mails in the outbox folder.")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def add_to(app: typer.Typer) -> None:
    app.command("subscribe")(subscribe)
    app.add_typer(subscriptions_app, name="subscriptions")
    app.add_typer(digest_app, name="digest")
    app.add_typer(outbox_app, name="outbox")


def subscribe(
    ctx: typer.Context,
    email: Annotated[str, typer.Argument(help="The address that the mails go to.", show_default=False)],
    query: Annotated[str | None, typer.Option(help="Papers that a search finds: 'cat:cs.LG pruning -survey'.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="New papers of a category; may be repeated.")] = None,
    author: Annotated[str | None, typer.Option(help="New papers of an author.")] = None,
    trending: Annotated[str | None, typer.Option(help="What trends: day, week or month.")] = None,
    weekly: Annotated[bool, typer.Option("--weekly", help="Once a week instead of every day.")] = False,
    weekday: Annotated[str, typer.Option(help="On which day, with --weekly.")] = "monday",
    hour: Annotated[int, typer.Option(help="At what hour, 0 to 23.", min=0, max=23)] = 7,
    time_zone: Annotated[str, typer.Option(help="In which time zone, like Europe/Paris.")] = "UTC",
    even_if_empty: Annotated[bool, typer.Option("--even-if-empty", help="A mail on quiet days too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask for papers by mail. A mail with a link to confirm goes out; nothing else before that."""
    from paperworks.hub.service import subscriptions

    wishes: list[tuple[str, dict[str, Any]]] = []
    if query is not None:
        wishes.append(("query", {"query": query}))
    if category:
        wishes.append(("topic", {"categories": category}))
    if author is not None:
        wishes.append(("author", {"name": author}))
    if trending is not None:
        wishes.append(("trending", {"window": trending}))
    if len(wishes) != 1:
        raise typer.BadParameter("give exactly one of --query, --category, --author, --trending")
    day = weekday.strip().lower()
    if len(day) < 2 or not any(name.startswith(day) for name in WEEKDAYS):
        raise typer.BadParameter(f"--weekday must be a day of the week, got {weekday!r}")
    number = next(index for index, name in enumerate(WEEKDAYS) if name.startswith(day))
    kind, spec = wishes[0]
    if even_if_empty:
        spec["even_if_empty"] = True
    with hub_of(ctx) as hub:
        subscriptions.subscribe(hub, email, kind, spec, "weekly" if weekly else "daily", hour, number, time_zone)
        where = "A mail with a link to confirm is on its way"
        if hub.settings.mail.transport == "outbox":
            where = f"A mail with a link to confirm is in {hub.settings.outbox}; read it with: paperworks outbox list"
    say(ctx, {"asked": email, "kind": kind, "spec": spec}, as_json, text=f"{where}.\nNothing else is sent before that.")


@subscriptions_app.command("list")
def list_subscriptions(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List who gets what."""
    from paperworks.hub.service import subscriptions

    with hub_of(ctx, create=False) as hub:
        views = subscriptions.subscriptions(hub)
    if as_json:
        say(ctx, views, True)
        return
    if not views:
        typer.echo("Nobody is subscribed. Begin with: paperworks subscribe you@example.org --trending day")
        return
    rows = [
        {"address": view.email, "state": view.state, "time zone": view.time_zone, "gets": item.sentence if item else ""}
        for view in views
        for item in (view.subscriptions or (None,))
    ]
    say(ctx, rows, False)


@subscriptions_app.command("confirm")
def confirm(
    ctx: typer.Context,
    ticket: Annotated[str, typer.Argument(help="The link of the mail, or its last part.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Confirm a subscription without the browser."""
    from paperworks.hub.service import subscriptions

    with hub_of(ctx, create=False) as hub:
        view = subscriptions.confirm(hub, _ticket(ticket))
    say(ctx, view, as_json, text=_told(view))


@subscriptions_app.command("end")
def end(
    ctx: typer.Context,
    ticket: Annotated[str, typer.Argument(help="The link at the end of a mail, or its last part.", show_default=False)],
    only: Annotated[int | None, typer.Option(help="Number of the one subscription to end; all without it.")] = None,
    as_json: AsJson = False,
) -> None:
    """End subscriptions without the browser."""
    from paperworks.hub.service import subscriptions

    with hub_of(ctx, create=False) as hub:
        view = subscriptions.unsubscribe(hub, _ticket(ticket), only)
    say(ctx, view, as_json, text=_told(view))


@digest_app.command("preview")
def preview(
    ctx: typer.Context,
    email: Annotated[str, typer.Argument(help="Address of a subscriber.", show_default=False)],
    open_: Annotated[bool, typer.Option("--open", help="Open the mail in the browser.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the HTML part into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the next mail of a subscriber; nothing is sent and nothing noted."""
    from paperworks.hub.service import digest

    with hub_of(ctx, create=False) as hub:
        view = digest.preview_for(hub, email)
        parts = digest.rendered(view)
        target = html or (hub.home / "preview.html" if open_ else None)
    if target is not None:
        target.write_text(parts.html, encoding="utf-8")
    if open_ and target is not None:
        typer.launch(target.absolute().as_uri())
    say(ctx, view, as_json, text=parts.text.rstrip())


@digest_app.command("send")
def send(
    ctx: typer.Context,
    due: Annotated[
        bool, typer.Option("--due", help="Only mails whose hour has come; without it, today's of all.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send today's mails. A mail that has left today does not leave again."""
    from paperworks.hub.service import digest

    with hub_of(ctx, create=False) as hub, terminal("mails") as progress:
        digest.plan_due(hub, everybody=not due)
        counts = digest.send_due(hub, progress)
        where = f" to {hub.settings.outbox}" if hub.settings.mail.transport == "outbox" and counts.sent else ""
    text = (
        f"{counts.sent} sent{where}, {counts.empty} without anything new, {counts.later} later, {counts.failed} failed"
    )
    say(ctx, counts, as_json, text=text)
    raise typer.Exit(FAILED if counts.failed else DONE)


@outbox_app.command("list")
def list_outbox(
    ctx: typer.Context,
    n: Annotated[int, typer.Option("-n", help="At most so many, newest day first.", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """List the mails in the outbox."""
    from paperworks.hub.service import digest

    with hub_of(ctx, create=False) as hub:
        views = digest.outbox(hub, n)
    say(ctx, views, as_json, table=("day", "recipient", "subject", "bytes", "name"))


@outbox_app.command("show")
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name as in the list, or its beginning.", show_default=False)],
    html: Annotated[Path | None, typer.Option(help="Write the HTML part into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one mail: headers and text."""
    from paperworks.hub.service import digest

    with hub_of(ctx, create=False) as hub:
        view = digest.outbox_letter(hub, name)
    if html is not None:
        html.write_text(view.html, encoding="utf-8")
    head = "\n".join(f"{key}: {value}" for key, value in view.headers)
    say(ctx, view, as_json, text=f"{head}\n\n{view.text.rstrip()}")


def _ticket(link: str) -> str:
    return link.strip().rstrip("/").rpartition("/")[2]


def _told(view: Any) -> str:
    if not view.subscriptions:
        return f"{view.email} gets no mail from here."
    return "\n".join([f"{view.email} gets:", *(f"  {item.id}: {item.sentence}" for item in view.subscriptions)])

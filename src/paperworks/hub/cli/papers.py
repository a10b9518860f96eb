"""`init`, `add`, `import`, `export`, `day`, `paper`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from paperworks.hub.cli.context import AsJson, hub_of, say, say_intake
from paperworks.progress import terminal


def add_to(app: typer.Typer) -> None:
    app.command("init")(init)
    app.command("add")(add)
    app.command("import")(import_)
    app.command("export")(export)
    app.command("day")(day)
    app.command("paper")(paper)


def init(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Make the hub: its folder and its database. Safe to repeat."""
    with hub_of(ctx) as hub:
        facts = {
            "home": str(hub.home),
            "database": hub.db.name,
            "schema": hub.db.schema(),
            "runnable": len(hub.catalogue),
        }
        text = (
            f"The hub is ready in {hub.home}.\n\n"
            "Next:\n"
            "  paperworks serve                    # the pages, at http://127.0.0.1:8000\n"
            "  paperworks add 2301.13838           # a paper by its arXiv id, address or DOI\n"
            "  paperworks source add hf-daily      # papers every day; then: paperworks intake"
        )
        say(ctx, facts, as_json, text=text)


def add(
    ctx: typer.Context,
    references: Annotated[list[str], typer.Argument(help="arXiv ids, addresses, DOIs.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Bring in papers by arXiv id, address or DOI."""
    from paperworks.hub.service import papers

    with hub_of(ctx) as hub, terminal("asking") as progress:
        view = papers.add(hub, references, progress)
    say_intake(ctx, [view], as_json)


def import_(
    ctx: typer.Context,
    files: Annotated[list[str], typer.Argument(help="Files, or - for standard input.", show_default=False)],
    format: Annotated[
        str | None, typer.Option(help="jsonl, json, bibtex, ris, csv or ids; else told by the name or the first line.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take in files: JSON lines, BibTeX, RIS, CSV, arXiv ids. Interrupted, the same command goes on where it was."""
    from paperworks.hub.service import papers

    with hub_of(ctx) as hub, terminal("importing") as progress:
        view = papers.import_files(hub, files, progress, format=format)
    say_intake(ctx, [view], as_json)


def export(
    ctx: typer.Context,
    format: Annotated[str, typer.Option(help="jsonl (whole records), bibtex, ris, csv.")] = "jsonl",
    query: Annotated[str | None, typer.Option(help="Only what this search finds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format jsonl.")] = False,
) -> None:
    """Print all papers, or those that a search finds, in a format that other programs read."""
    from paperworks.hub.service import papers

    with hub_of(ctx, create=False) as hub:
        for piece in papers.export(hub, "jsonl" if as_json else format, query):
            sys.stdout.buffer.write(piece.encode())
        sys.stdout.flush()


def day(
    ctx: typer.Context,
    day: Annotated[str | None, typer.Argument(help="YYYY-MM-DD; the latest with papers, when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the papers of a day; when there are none, say why."""
    from paperworks.hub.service import papers

    with hub_of(ctx, create=False) as hub:
        view = papers.day_page(hub, day)
    if as_json:
        say(ctx, view, True)
        return
    typer.echo(f"{view.day}: {view.total} {'paper' if view.total == 1 else 'papers'}")
    if view.explanation:
        typer.echo(view.explanation)
    if view.cards:
        say(ctx, list(view.cards), False, table=("ref", "title", "state", "categories"))


def paper(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(help="arXiv id, address, DOI or short name.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show one paper."""
    from paperworks.hub.service import papers
    from paperworks.hub.text import tex_to_unicode

    with hub_of(ctx, create=False) as hub:
        view = papers.paper_page(hub, reference)
    card = view.card
    lines = [
        tex_to_unicode(card.title),
        ", ".join(author.name for author in card.authors),
        " · ".join(part for part in (card.ref, card.published or "", ", ".join(card.categories), card.state) if part),
        "",
        tex_to_unicode(card.abstract),
        *(
            f"{link.kind}: {link.url} ({'official, ' if link.official else ''}said by {link.who})"
            for link in view.links
        ),
        *(f"claim {row.id}: {row.verdict} ({row.statement})" for row in view.claims),
    ]
    say(ctx, view, as_json, text="\n".join(lines))

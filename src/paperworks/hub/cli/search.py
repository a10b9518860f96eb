"""`search`, `similar`, `top`, `vote`, `unvote`, `reindex`."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from paperworks.hub.cli.context import AsJson, hub_of, say
from paperworks.progress import terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paperworks.hub.views import PaperCard


class WindowName(StrEnum):
    day = "day"
    week = "week"
    month = "month"


class ModeName(StrEnum):
    both = "both"
    words = "words"
    meaning = "meaning"


class SortName(StrEnum):
    relevance = "relevance"
    new = "new"
    hot = "hot"


Ref = Annotated[str, typer.Argument(help="arXiv id, address, DOI, or short name.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many papers.")]


def add_to(app: typer.Typer) -> None:
    app.command("search")(search)
    app.command("similar")(similar)
    app.command("top")(top)
    app.command("vote")(vote)
    app.command("unvote")(unvote)
    app.command("reindex")(reindex)


def search(
    ctx: typer.Context,
    query: Annotated[list[str], typer.Argument(help="Words and filters: 'low-rank after:2023 has:method'.")],
    limit: Limit = 20,
    mode: Annotated[ModeName | None, typer.Option(help="By words, by meaning, or both.")] = None,
    sort: Annotated[SortName | None, typer.Option(help="Order of the results.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Go on where the page before ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """Search papers by words and meaning.

    Understood: "exact phrase", -not, a OR b, title:, author:, cat:cs.LG, year:, after:, before:, has:method|code|claims,
    verdict:reproduced, sort:new|hot, mode:words|meaning. After -- a word may begin with a dash.
    """
    from paperworks.hub.service import search as service

    with hub_of(ctx, create=False) as hub:
        found = service.search(hub, " ".join(query), cursor=cursor, mode=mode, sort=sort, size=limit)
    if as_json:
        say(ctx, found, True)
        return
    for note in found.notes:
        typer.echo(f"Note: {note}", err=True)
    if not found.cards:
        typer.echo("nothing found")
        return
    about = f"More than {found.about:,}" if found.capped else f"About {found.about:,}"
    typer.echo(f"{about} {'paper' if found.about == 1 else 'papers'}")
    _say_cards(found.cards)
    if found.next:
        typer.echo(f"More: --cursor {found.next}", err=True)


def similar(
    ctx: typer.Context,
    paper: Ref,
    limit: Limit = 10,
    as_json: AsJson = False,
) -> None:
    """Papers like one paper, and what they share."""
    from paperworks.hub.service import search as service

    with hub_of(ctx, create=False) as hub:
        cards = service.similar(hub, paper, k=limit)
    if as_json:
        say(ctx, cards, True)
    else:
        _say_cards(cards)


def top(
    ctx: typer.Context,
    window: Annotated[WindowName, typer.Option(help="How fast votes cool.")] = WindowName.week,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """What trends, and why."""
    from paperworks.hub.service import votes as service

    with hub_of(ctx, create=False) as hub:
        cards = service.trending(hub, window.value, limit=limit)
    if as_json:
        say(ctx, cards, True)
    else:
        _say_cards(cards)


def vote(ctx: typer.Context, paper: Ref, as_json: AsJson = False) -> None:
    """Vote for a paper."""
    _vote(ctx, paper, as_json, cast=True)


def unvote(ctx: typer.Context, paper: Ref, as_json: AsJson = False) -> None:
    """Take a vote back."""
    _vote(ctx, paper, as_json, cast=False)


def _vote(ctx: typer.Context, paper: str, as_json: bool, *, cast: bool) -> None:
    from paperworks.hub.service import votes as service

    with hub_of(ctx, create=False) as hub:
        changed = service.vote(hub, paper) if cast else service.unvote(hub, paper)
    done = "voted for" if cast else "vote taken back from"
    text = f"{done} {paper}" if changed else f"nothing to do: {'voted already' if cast else 'there was no vote'}"
    say(ctx, {"paper": paper, "voted": cast, "changed": changed}, as_json, text=text)


def reindex(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Build everything anew, whatever its state.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring search and trending up to date with the papers."""
    from paperworks.hub.service import search as service

    with hub_of(ctx, create=False) as hub, terminal("indexing") as progress:
        done = service.reindex(hub, progress, force=force)
    say(ctx, asdict(done), as_json, text=done.sentence)


def _say_cards(cards: Sequence[PaperCard]) -> None:
    """A paper on two or three lines: reference and title; who and when; why."""
    if not cards:
        typer.echo("nothing")
    for card in cards:
        names = [author.name for author in card.authors]
        who = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        day = card.announced or card.published or card.first_seen[:10]
        typer.echo(f"{card.ref}  {card.title}")
        typer.echo("    " + " · ".join(part for part in (who, day, card.use) if part))
        reasons = [card.why.sentence if card.why else "", card.heat.sentence if card.heat else ""]
        if any(reasons):
            typer.echo("    " + " · ".join(part for part in reasons if part))

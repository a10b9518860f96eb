"""Vote, take a vote back, and see what trends and why."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from paperworks.hub import trending as arithmetic
from paperworks.hub.hub import Hub
from paperworks.hub.service.cards import build_cards, find_paper
from paperworks.hub.store import votes as store
from paperworks.hub.times import parse_utc
from paperworks.hub.views import HeatView, PaperCard, Window


def vote(hub: Hub, reference: str) -> bool:
    """The reader's vote for a paper. False when it was there already. Raises NotFound."""
    reader_id = hub.reader_id
    with hub.db.write() as session:
        return store.cast_vote(session, find_paper(hub, session, reference), reader_id, hub.settings, hub.now())


def unvote(hub: Hub, reference: str) -> bool:
    """Take the reader's vote back. False when there was none. Raises NotFound."""
    reader_id = hub.reader_id
    with hub.db.write() as session:
        return store.withdraw_vote(session, find_paper(hub, session, reference), reader_id, hub.settings, hub.now())


def trending(hub: Hub, window: Window = "week", limit: int = 20, offset: int = 0) -> list[PaperCard]:
    """The hottest papers of a window, each with the reasons."""
    with hub.db.read() as session:
        ids = trending_ids(hub, session, window, limit, offset)
        heats = heat(hub, session, ids, window)
        cards = build_cards(hub, session, ids)
    return [card.model_copy(update={"heat": heats.get(card.id)}) for card in cards]


def trending_ids(hub: Hub, session: Session, window: Window, limit: int, offset: int = 0) -> list[int]:
    """Ids of the hottest papers of a window; where votes end, papers that run here, then the newest."""
    return store.hottest(session, window, max(0, limit), max(0, offset))


def heat(hub: Hub, session: Session, ids: Sequence[int], window: Window = "week") -> dict[int, HeatView]:
    """Why papers stand where they stand; a paper without any vote has no entry.

    While `trending.hide_hours` runs for a young paper, its entry says so and shows no figure.
    """
    now = hub.now().timestamp()
    settings = hub.settings.trending
    half_life = arithmetic.half_lives(settings)[window]
    views = {}
    for paper_id, (keys, parts, day) in store.hot_rows(session, ids).items():
        age_hours = max(0.0, (now - parse_utc(f"{day}T00:00:00Z").timestamp()) / arithmetic.HOUR)
        if age_hours < settings.hide_hours:
            wait = f"counts are shown {settings.hide_hours:g} h after the paper's day began"
            views[paper_id] = HeatView(heat=0.0, readers=0, outside=0, age_hours=age_hours, sentence=wait)
            continue
        value = arithmetic.heat(keys[window], now, half_life)
        outside: dict[str, int] = parts.get("outside", {})
        views[paper_id] = HeatView(
            heat=value,
            readers=parts.get("readers", 0),
            outside=sum(outside.values()),
            age_hours=age_hours,
            sentence=arithmetic.sentence(value, parts.get("readers", 0), outside, age_hours),
        )
    return views

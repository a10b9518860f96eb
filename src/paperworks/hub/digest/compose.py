"""What stands in a mail: which papers, in which section, for which reason.

Queries for papers by category, author and votes are here; free searches come from outside, as a function. `choose` is pure.
A paper appears once, in the first section that claims it, and never again once it is in `seen`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, literal_column, or_, select, union_all
from sqlalchemy.orm import Session

from paperworks.hub.digest.plan import WEEKDAYS, Reach, day_in_words
from paperworks.hub.store import votes
from paperworks.hub.store.models import (
    PAPER_DAY,
    Author,
    Authorship,
    Digest,
    DigestItem,
    Hot,
    Paper,
    PaperCategory,
    Seen,
)
from paperworks.hub.times import utc_text
from paperworks.hub.views import Window

MOST = 20  # papers in one mail
YOUNG_DAYS = 30
LOOKED_AT = 400  # candidates of one subscription
SEARCHED = 2 * MOST  # of one that searches, where each costs an explanation
WINDOWS: dict[str, str] = {"day": "today", "week": "this week", "month": "this month"}

_DAY: Any = literal_column(PAPER_DAY.replace("announced", "paper.announced").replace("first_seen", "paper.first_seen"))

# (session, query, moment since which a paper came in, how many) -> (paper id, reason), best first
Searcher = Callable[[Session, str, datetime, int], Sequence[tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class Found:
    paper_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one subscription found, best first."""

    title: str
    found: Sequence[Found]
    least: int = 1
    most: int = MOST


@dataclass(frozen=True, slots=True)
class Item:
    """One paper of a mail."""

    paper_id: int
    section: str
    reason: str


def choose(wishes: Sequence[Wanted], seen: Collection[int], most: int = MOST) -> list[Item]:
    """The papers of one mail, section after section.

    A subscription with fewer than `least` new papers claims none. When there are more than `most`, the places are
    dealt out in turn, so that a broad first subscription does not push the others out.
    """
    claimed: set[int] = set()
    sections: list[tuple[str, list[Found]]] = []
    for wish in wishes:
        new: list[Found] = []
        for found in wish.found:
            if found.paper_id not in seen and found.paper_id not in claimed and len(new) < wish.most:
                new.append(found)
                claimed.add(found.paper_id)
        if len(new) < max(1, wish.least):
            claimed.difference_update(found.paper_id for found in new)
            continue
        sections.append((wish.title, new))
    places = _deal([len(new) for _, new in sections], most)
    return [
        Item(found.paper_id, title, found.reason)
        for (title, new), n in zip(sections, places, strict=True)
        for found in new[:n]
    ]


def _deal(wished: list[int], places: int) -> list[int]:
    """Places for each, one in turn until they are used up.

    >>> _deal([15, 2, 9], 20), _deal([3, 1], 20)
    ([9, 2, 9], [3, 1])
    """
    given = [0] * len(wished)
    while places > 0 and given != wished:
        for index, wish in enumerate(wished):
            if given[index] < wish and places > 0:
                given[index] += 1
                places -= 1
    return given


@dataclass
class Finder:
    """Looks for papers; the same wish with the same reach is answered once a round, however many subscribers have it."""

    search: Searcher
    _known: dict[tuple[str, str, str, str], list[Found]] = field(default_factory=dict)

    def find(self, session: Session, kind: str, spec: dict[str, Any], reach: Reach) -> list[Found]:
        """Papers for one subscription, best first."""
        key = (kind, json.dumps(spec, sort_keys=True), utc_text(reach.arrived), reach.announced.isoformat())
        if key not in self._known:
            self._known[key] = self._look(session, kind, spec, reach)
        return self._known[key]

    def _look(self, session: Session, kind: str, spec: dict[str, Any], reach: Reach) -> list[Found]:
        if kind == "trending":
            return _trending(session, spec.get("window", "day"))
        if kind == "topic":
            return _topic(session, spec["categories"], reach)
        if kind == "author":
            return _author(session, spec["author"], spec["name"], reach)
        hits = self.search(session, spec["query"], reach.arrived, SEARCHED)
        news = select(Paper.id).where(Paper.id.in_([paper_id for paper_id, _ in hits]), *_is_news(reach))
        arrived = set(session.scalars(news))
        return [Found(paper_id, reason) for paper_id, reason in hits if paper_id in arrived]


def _is_news(reach: Reach) -> list[ColumnElement[bool]]:
    young = reach.announced - min(timedelta(days=YOUNG_DAYS), reach.announced - date.min)
    return [
        Paper.first_seen >= utc_text(reach.arrived),
        reach.announced.isoformat() <= _DAY,
        # brought in today without a listing day: news only if it is young, else an old paper that somebody imported
        or_(Paper.announced.is_not(None), Paper.published.is_(None), Paper.published >= young.isoformat()),
        Paper.withdrawn.is_(False),
    ]


def _trending(session: Session, window: Window) -> list[Found]:
    """The twenty on top that votes have put there; what has been sent is no news, so quiet days stay quiet."""
    ids = votes.hottest(session, window, MOST)
    voted = set(session.scalars(select(Hot.paper_id).where(Hot.paper_id.in_(ids))))
    return [
        Found(paper_id, f"number {rank} {WINDOWS[window]}") for rank, paper_id in enumerate(ids, 1) if paper_id in voted
    ]


def _topic(session: Session, codes: Sequence[str], reach: Reach) -> list[Found]:
    """New papers of the categories, the hottest first, then the newest. `cs` stands for all of `cs.*`."""
    of_topic = or_(
        *(PaperCategory.code == code for code in codes),
        *(PaperCategory.code.startswith(f"{code}.", autoescape=True) for code in codes if "." not in code),
    )
    query = (
        select(Paper.id, func.min(PaperCategory.code))
        .join(PaperCategory, PaperCategory.paper_id == Paper.id)
        .outerjoin(Hot, Hot.paper_id == Paper.id)
        .where(of_topic, *_is_news(reach))
        .group_by(Paper.id, Hot.key_week)
        .order_by(Hot.key_week.desc().nulls_last(), _DAY.desc(), Paper.id.desc())
        .limit(LOOKED_AT)
    )
    return [Found(paper_id, f"new in {code}") for paper_id, code in session.execute(query)]


def _author(session: Session, key: str, name: str, reach: Reach) -> list[Found]:
    query = (
        select(Paper.id)
        .join(Authorship, Authorship.paper_id == Paper.id)
        .join(Author, Author.id == Authorship.author_id)
        .where(Author.name_key == key, *_is_news(reach))
        .distinct()
        .order_by(_DAY.desc(), Paper.id.desc())
        .limit(LOOKED_AT)
    )
    return [Found(paper_id, f"new by {name}") for paper_id in session.scalars(query)]


def taken(session: Session, subscriber_id: int, digest_id: int | None) -> set[int]:
    """Papers that this subscriber has been sent, or that stand in another mail on its way."""
    seen = select(Seen.paper_id).where(Seen.subscriber_id == subscriber_id)
    on_the_way = (
        select(DigestItem.paper_id)
        .join(Digest, Digest.id == DigestItem.digest_id)
        .where(
            Digest.subscriber_id == subscriber_id,
            Digest.id != (digest_id or 0),
            Digest.state.in_(("planned", "sending", "unsure")),
        )
    )
    return {row[0] for row in session.execute(union_all(seen, on_the_way))}


def stored(session: Session, digest_id: int) -> list[Item]:
    """What an earlier attempt chose for this mail; empty when there was none."""
    rows = session.scalars(select(DigestItem).where(DigestItem.digest_id == digest_id).order_by(DigestItem.rank))
    return [Item(row.paper_id, row.section, row.reason) for row in rows]


def heading(kind: str, spec: dict[str, Any]) -> str:
    """The heading of a section.

    >>> heading("topic", {"categories": ["cs.LG", "cs.CL"]}), heading("query", {"query": "pruning -survey"})
    ('New in cs.LG and cs.CL', 'Matching “pruning -survey”')
    """
    if kind == "trending":
        return f"Trending {WINDOWS[spec.get('window', 'day')]}"
    if kind == "topic":
        return f"New in {_listed(spec['categories'])}"
    if kind == "author":
        return f"New by {spec['name']}"
    return f"Matching “{spec['query']}”"


def sentence(kind: str, spec: dict[str, Any], cadence: str, hour: int, weekday: int) -> str:
    """A subscription in words.

    >>> sentence("query", {"query": "pruning -survey"}, "weekly", 7, 4)
    'papers matching “pruning -survey”, every Friday at 7:00'
    """
    what = {
        "trending": lambda: f"what trends {WINDOWS[spec.get('window', 'day')]}",
        "topic": lambda: f"new papers in {_listed(spec['categories'])}",
        "author": lambda: f"new papers by {spec['name']}",
        "query": lambda: f"papers matching “{spec['query']}”",
    }[kind]()
    when = "every day" if cadence == "daily" else f"every {WEEKDAYS[weekday]}"
    return f"{what}, {when} at {hour}:00"


def subject(count: int, period: str) -> str:
    """The subject line.

    >>> subject(7, "2026-08-21"), subject(1, "2026-08-21"), subject(0, "2026-08-21")
    ('7 papers · Friday 21 August', '1 paper · Friday 21 August', 'Nothing new · Friday 21 August')
    """
    what = "Nothing new" if not count else f"{count} {'paper' if count == 1 else 'papers'}"
    return f"{what} · {day_in_words(date.fromisoformat(period))}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

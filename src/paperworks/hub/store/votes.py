"""Votes and what trends: rows in, rows out. The arithmetic is in `hub/trending.py`."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from paperworks.config import Settings
from paperworks.hub import trending
from paperworks.hub.store.models import PAPER_DAY, Audit, Counter, Fact, Hot, Listing, Paper, Source, Vote
from paperworks.hub.times import parse_utc, utc_text
from paperworks.hub.trending import NOTHING, Cast, Seen

METRIC = "upvotes"
# Files of papers tell the counters of the same service (see sources/files.py): one counter, however it came here.
LABELS = {"hf-daily": "Hugging Face", "file": "Hugging Face"}
KEYS = {"day": Hot.key_day, "week": Hot.key_week, "month": Hot.key_month}
CHUNK = 2000
RATE_DAYS = 28
HELD = "vote held"
SETTINGS_FACT = "trending"

_DAY: Any = literal_column(PAPER_DAY.replace("announced", "paper.announced").replace("first_seen", "paper.first_seen"))


# -- casting --------------------------------------------------------------------------------------------------------


def cast_vote(
    session: Session,
    paper_id: int,
    reader_id: int,
    settings: Settings,
    now: datetime,
    *,
    trust: float | None = None,
    cluster: str = "",
) -> bool:
    """One reader's vote for a paper, in the caller's transaction; False when it was there already.

    trust: None is a hub without accounts, in which every vote weighs 1; otherwise the weight is trust x budget x cluster, and
    votes that come in a burst are held: they weigh nothing until somebody releases them, and an audit row says so.
    A vote taken back and cast again counts from the first time on: nobody keeps a paper warm by clicking.
    """
    held = session.get(Vote, (paper_id, reader_id))
    if held is not None:
        if held.withdrawn is None:
            return False
        held.withdrawn = None
        session.flush()
        refresh_hot(session, [paper_id], settings, now)
        return True
    weight = 1.0
    if trust is not None:
        day = utc_text(now)[:10]
        of_day = session.scalar(
            select(func.count()).select_from(Vote).where(Vote.reader_id == reader_id, Vote.cast >= day)
        )
        of_cluster = 0
        if cluster:
            of_cluster = (
                session.scalar(
                    select(func.count()).select_from(Vote).where(Vote.paper_id == paper_id, Vote.cluster == cluster)
                )
                or 0
            )
        weight = trending.vote_weight(trust=trust, nth_of_day=(of_day or 0) + 1, kth_of_cluster=of_cluster + 1)
        if weight > 0 and _is_burst(session, paper_id, now):
            detail = json.dumps({"weight": weight, "cluster": cluster})
            subject = f"paper:{paper_id} reader:{reader_id}"
            session.add(Audit(at=utc_text(now), who="hub", action=HELD, subject=subject, detail=detail))
            weight = 0.0
    session.add(Vote(paper_id=paper_id, reader_id=reader_id, cast=utc_text(now), weight=weight, cluster=cluster))
    session.flush()
    refresh_hot(session, [paper_id], settings, now)
    return True


def withdraw_vote(session: Session, paper_id: int, reader_id: int, settings: Settings, now: datetime) -> bool:
    """Take a vote back; the paper's keys are computed anew from its rows. False when there was none."""
    vote = session.get(Vote, (paper_id, reader_id))
    if vote is None or vote.withdrawn is not None:
        return False
    vote.withdrawn = utc_text(now)
    session.flush()
    refresh_hot(session, [paper_id], settings, now)
    return True


def settle_held(
    session: Session, paper_id: int, settings: Settings, now: datetime, *, release: bool, who: str = "admin"
) -> int:
    """Release the held votes on a paper (each then weighs what it would have weighed), or drop them; how many there were."""
    marker = f"paper:{paper_id} reader:"
    rows = session.scalars(select(Audit).where(Audit.action == HELD, Audit.subject.startswith(marker))).all()
    for row in rows:
        reader_id = int(row.subject.removeprefix(marker))
        vote = session.get(Vote, (paper_id, reader_id))
        if vote is not None and release:
            vote.weight = float(json.loads(row.detail)["weight"])
        elif vote is not None:
            session.delete(vote)
        row.action = "vote released" if release else "vote dropped"
        row.who = who
    session.flush()
    refresh_hot(session, [paper_id], settings, now)
    return len(rows)


def _is_burst(session: Session, paper_id: int, now: datetime) -> bool:
    """Whether one more vote on this paper would be too many for ten minutes, by what the whole hub had at this hour of the day."""
    start = utc_text(now - timedelta(seconds=trending.BURST_SECONDS))
    here = (
        session.scalar(
            select(func.count()).select_from(Vote).where(Vote.paper_id == paper_id, Vote.cast >= start, Vote.weight > 0)
        )
        or 0
    )
    if here < trending.LEAST_RATE * 5:
        return False
    since = now - timedelta(days=RATE_DAYS)
    first = session.scalar(select(func.min(Vote.cast)))
    days = min(float(RATE_DAYS), max(1.0, (now - parse_utc(first)).total_seconds() / trending.DAY)) if first else 1.0
    usual = session.scalar(
        select(func.count())
        .select_from(Vote)
        .where(Vote.cast >= utc_text(since), Vote.cast < start, func.substr(Vote.cast, 12, 2) == utc_text(now)[11:13])
    )
    expected = (usual or 0) / days * trending.BURST_SECONDS / trending.HOUR
    return trending.votes_on_hold(here + 1, expected) > 0


# -- keys -----------------------------------------------------------------------------------------------------------


def refresh_hot(session: Session, paper_ids: Iterable[int], settings: Settings, now: datetime) -> None:
    """Compute the keys of these papers anew from their votes and counters, in the caller's transaction.

    A paper whose votes count nothing loses its row. The number of queries grows with the number of papers over two thousand.
    """
    wanted = list(dict.fromkeys(paper_ids))
    lives = trending.half_lives(settings.trending)
    for start in range(0, len(wanted), CHUNK):
        part = wanted[start : start + CHUNK]
        votes: defaultdict[int, list[Cast]] = defaultdict(list)
        readers: defaultdict[int, int] = defaultdict(int)
        mine = select(Vote.paper_id, Vote.cast, Vote.weight).where(Vote.paper_id.in_(part), Vote.withdrawn.is_(None))
        for paper_id, cast, weight in session.execute(mine):
            votes[paper_id].append(Cast(parse_utc(cast).timestamp(), weight))
            readers[paper_id] += weight > 0
        outside = _outside(session, part, settings.trending.outside_weight, votes)
        rows = []
        for paper_id in part:
            keys = {name: trending.key_of(votes[paper_id], life) for name, life in lives.items()}
            if keys["day"] != NOTHING:
                parts = {"readers": readers[paper_id], "outside": outside.get(paper_id, {})}
                rows.append(
                    {"paper_id": paper_id, "parts": parts, **{f"key_{name}": key for name, key in keys.items()}}
                )
        kept = {row["paper_id"] for row in rows}
        session.execute(delete(Hot).where(Hot.paper_id.in_([paper_id for paper_id in part if paper_id not in kept])))
        if rows:
            dialect = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
            statement: Any = dialect(Hot)
            new = {name: statement.excluded[name] for name in ("key_day", "key_week", "key_month", "parts")}
            session.execute(statement.on_conflict_do_update(index_elements=["paper_id"], set_=new), rows)


def _outside(
    session: Session, part: Sequence[int], weight: float, votes: defaultdict[int, list[Cast]]
) -> dict[int, dict[str, int]]:
    """Add what counters elsewhere stand for to `votes`; paper -> label -> the counter as last seen."""
    labels = {
        source_id: LABELS.get(kind, name)
        for source_id, kind, name in session.execute(select(Source.id, Source.kind, Source.name))
    }
    seen: defaultdict[tuple[int, str], list[Seen]] = defaultdict(list)
    looks = select(Counter.paper_id, Counter.source_id, Counter.seen, Counter.value).where(
        Counter.paper_id.in_(part), Counter.metric == METRIC
    )
    for paper_id, source_id, at, value in session.execute(looks):
        seen[paper_id, labels[source_id]].append(Seen(parse_utc(at).timestamp(), value))
    if not seen:
        return {}
    began: dict[tuple[int, str], str] = {}
    days = select(Listing.paper_id, Listing.source_id, Listing.day).where(Listing.paper_id.in_(part))
    for paper_id, source_id, day in session.execute(days):
        name = paper_id, labels[source_id]
        began[name] = min(day, began.get(name, day))
    counted = {paper_id for paper_id, _ in seen}
    days_of = select(Paper.id, Paper.announced).where(Paper.id.in_(counted))
    announced = {paper_id: day for paper_id, day in session.execute(days_of)}  # noqa: C416 (rows are not typed as pairs)
    found: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for (paper_id, label), looks_of_one in seen.items():
        first_day = began.get((paper_id, label)) or announced.get(paper_id)
        since = parse_utc(f"{first_day}T00:00:00Z").timestamp() if first_day else None
        votes[paper_id] += trending.outside_votes(looks_of_one, weight, since)
        found[paper_id][label] = max(looks_of_one).value
    return found


def refresh_if_set_anew(session: Session, settings: Settings, now: datetime) -> bool:
    """Compute all keys anew when half-lives or weights in the settings differ from those that the keys were made with."""
    wanted = settings.trending.model_dump_json(exclude={"hide_hours"})
    fact = session.get(Fact, SETTINGS_FACT)
    if fact is not None and fact.value == wanted:
        return False
    ids = set(session.scalars(select(Vote.paper_id).distinct()))
    ids |= set(session.scalars(select(Counter.paper_id).where(Counter.metric == METRIC).distinct()))
    ids |= set(session.scalars(select(Hot.paper_id)))
    refresh_hot(session, sorted(ids), settings, now)
    if fact is None:
        session.add(Fact(name=SETTINGS_FACT, value=wanted))
    else:
        session.execute(update(Fact).where(Fact.name == SETTINGS_FACT).values(value=wanted))
    return True


def settings_differ(session: Session, settings: Settings) -> bool:
    """Whether `refresh_if_set_anew` has something to do."""
    fact = session.get(Fact, SETTINGS_FACT)
    return fact is None or fact.value != settings.trending.model_dump_json(exclude={"hide_hours"})


# -- lists ----------------------------------------------------------------------------------------------------------


def hottest(session: Session, window: str, limit: int, offset: int = 0) -> list[int]:
    """Ids by heat; after the papers that have any, those that run here and then the rest, newest first."""
    key = KEYS[window]
    ids = list(
        session.scalars(select(Hot.paper_id).order_by(key.desc(), Hot.paper_id.desc()).limit(limit).offset(offset))
    )
    if len(ids) == limit:
        return ids
    n_hot = session.scalar(select(func.count()).select_from(Hot)) or 0
    skip, rest = max(0, offset - n_hot), limit - len(ids)
    cold = ~select(Hot.paper_id).where(Hot.paper_id == Paper.id).exists()
    runs = list(
        session.scalars(select(Paper.id).where(Paper.slug.is_not(None), cold).order_by(_DAY.desc(), Paper.id.desc()))
    )
    ids += runs[skip : skip + rest]
    skip, rest = max(0, skip - len(runs)), limit - len(ids)
    if rest:
        others = select(Paper.id).where(Paper.slug.is_(None), cold).order_by(_DAY.desc(), Paper.id.desc())
        ids += session.scalars(others.limit(rest).offset(skip))
    return ids


def hot_rows(session: Session, ids: Sequence[int]) -> dict[int, tuple[dict[str, float], dict[str, Any], str]]:
    """Paper -> (window -> key, parts, its day) for those that have heat."""
    query = (
        select(Hot.paper_id, Hot.key_day, Hot.key_week, Hot.key_month, Hot.parts, _DAY)
        .join(Paper, Paper.id == Hot.paper_id)
        .where(Hot.paper_id.in_(ids))
    )
    return {
        row[0]: ({"day": row[1], "week": row[2], "month": row[3]}, row[4], row[5])
        for row in session.execute(query)
        if math.isfinite(row[1])
    }

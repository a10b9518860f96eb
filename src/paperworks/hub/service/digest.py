"""The mails: what would be in one, planning those that are due, sending them, reading the outbox."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as parsing
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from paperworks.errors import InputError, NotFound
from paperworks.hub import crash
from paperworks.hub.digest import addresses, compose, render, send, tickets
from paperworks.hub.digest.compose import Finder, Item, Wanted
from paperworks.hub.digest.plan import FIRST_LOOK_DAYS, Reach, Turn, due_since, local_day, reach, turns_of, zone
from paperworks.hub.digest.send import Claim
from paperworks.hub.digest.transports import FileOutbox, Letter, open_transport
from paperworks.hub.hub import Hub
from paperworks.hub.service.cards import build_cards
from paperworks.hub.store.models import Digest, Subscriber, Subscription, Suppression
from paperworks.hub.times import parse_utc
from paperworks.hub.views import DigestSection, DigestView, LetterText, LetterView, MailCounts, PaperCard
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)
LOOK_BACK_DAYS = 4  # earlier mails that the calendar asks about
MOST_CARDS = 5000  # kept in memory during one round

__all__ = ["outbox", "outbox_letter", "plan_due", "preview", "preview_for", "rendered", "send_due"]


# -- looking --------------------------------------------------------------------------------------------------------


def preview(hub: Hub, kind: str, spec: dict[str, Any], *, cadence: str = "daily") -> DigestView:
    """The mail that somebody new would get today for this wish. Keeps nothing, needs no address.

    Where nothing is new, the latest papers are shown instead and `note` says so; without any, there is no section.
    Raises InputError for a wish that cannot be.
    """
    from paperworks.hub.service.subscriptions import checked_spec

    wanted = checked_spec(kind, spec)
    now = hub.now()
    today = now.date()
    finder = Finder(_searcher(hub))
    days = FIRST_LOOK_DAYS.get(cadence, 1)
    with hub.db.read() as session:
        for look_back in (days, 36_500):
            long_ago = datetime.min.replace(tzinfo=UTC)
            since = Reach(long_ago, today - timedelta(days=look_back))
            found = finder.find(session, kind, wanted, since)
            items = compose.choose([Wanted(compose.heading(kind, wanted), found)], seen=())
            if items:
                break
        view = _view(hub, _Cards(hub).of(session, items), items, today.isoformat())
    if items and look_back != days:
        note = f"Nothing new on {compose.subject(0, today.isoformat()).partition(' · ')[2]}. These came last."
        view = view.model_copy(update={"note": note})
    return view


def preview_for(hub: Hub, email: str) -> DigestView:
    """The next mail of a subscriber, whatever the hour and the day of the week. Keeps nothing. Raises NotFound."""
    key = addresses.key(email)
    with hub.db.read() as session:
        subscriber = session.scalar(select(Subscriber).where(Subscriber.email_key == key))
        if subscriber is None or subscriber.state != "confirmed":
            raise NotFound(
                f"nobody with the address {email} is subscribed; `paperworks subscriptions list` shows who is"
            )
        day = local_day(hub.now(), zone(subscriber.time_zone))
        writer = _Writer(hub, Finder(_searcher(hub)))
        items = writer.choose_for(session, subscriber, day, digest_id=None, every_turn=True)
        return _view(hub, writer.cards.of(session, items), items, day.isoformat())


def rendered(view: DigestView) -> render.Parts:
    """Subject, text and HTML of a digest."""
    return render.render(view)


# -- planning and sending -------------------------------------------------------------------------------------------


def plan_due(hub: Hub, *, everybody: bool = False) -> int:
    """Note the mails that are due by now; how many were new. Repeating it changes nothing.

    everybody: also those whose hour has not come, for today (a person asked for it).
    """
    now = hub.now()
    with hub.db.read() as session:
        rows = _due(hub, session, now, everybody)
    if not rows:
        return 0
    with hub.db.write() as session:
        planned = send.plan(session, rows)
    crash.point("digest.after-plan")
    return planned


def send_due(hub: Hub, progress: Progress = silent) -> MailCounts:
    """Send the mails that wait: planned ones, and those that a dead process left. What cannot leave now comes later."""
    from paperworks.hub.service.subscriptions import clean

    clean(hub)
    with hub.db.read() as session:
        ids = send.waiting(session, hub.now())
    if not ids:
        return MailCounts()
    secret = tickets.hub_secret(hub.home)
    transport = open_transport(hub.settings)
    if isinstance(transport, FileOutbox):
        transport.sweep()
    writer = _Writer(hub, Finder(_searcher(hub)))
    counts: defaultdict[str, int] = defaultdict(int)
    try:
        for done, digest_id in enumerate(ids, start=1):
            counts[send.send_one(hub.db, digest_id, writer, transport, secret, hub.now)] += 1
            progress(done, len(ids), "mails")
    finally:
        transport.close()
    made = MailCounts(planned=len(ids), **counts)
    log.info("mails sent=%s empty=%s failed=%s later=%s", made.sent, made.empty, made.failed, made.later)
    return made


def _due(hub: Hub, session: Session, now: datetime, everybody: bool) -> list[tuple[int, str, str]]:
    """(subscriber, period, Message-ID) of the mails that are due and not planned."""
    turns: defaultdict[int, list[Turn]] = defaultdict(list)
    for row in session.execute(
        select(
            Subscription.subscriber_id, Subscription.id, Subscription.cadence, Subscription.hour, Subscription.weekday
        ).where(Subscription.state == "active")
    ):
        turns[row.subscriber_id].append(Turn(row.id, row.cadence, row.hour, row.weekday))
    if not turns:
        return []
    periods = _periods(session, now)
    suppressed = set(session.scalars(select(Suppression.email_hash)))
    host = render.host_of(hub.settings.base_url)
    rows = []
    for subscriber in session.scalars(
        select(Subscriber).where(Subscriber.state == "confirmed").order_by(Subscriber.id)
    ):
        where = zone(subscriber.time_zone)
        day = local_day(now, where)
        earlier = periods[subscriber.id]
        if day in earlier or not turns[subscriber.id]:
            continue
        confirmed = parse_utc(subscriber.confirmed or subscriber.created)
        due = due_since(day, turns[subscriber.id], where, confirmed, earlier)
        if everybody or (due is not None and due <= now):
            if suppressed and addresses.address_hash(subscriber.email) in suppressed:
                continue
            identifier = send.message_id(hub.settings.hub_name, host, subscriber.email, day.isoformat())
            rows.append((subscriber.id, day.isoformat(), identifier))
    return rows


def _periods(session: Session, now: datetime, subscriber_id: int | None = None) -> defaultdict[int, set[date]]:
    """The recent mails of each subscriber."""
    since = (now - timedelta(days=LOOK_BACK_DAYS)).date().isoformat()
    query = select(Digest.subscriber_id, Digest.period).where(Digest.period >= since)
    if subscriber_id is not None:
        query = query.where(Digest.subscriber_id == subscriber_id)
    found: defaultdict[int, set[date]] = defaultdict(set)
    for owner, period in session.execute(query):
        found[owner].add(date.fromisoformat(period))
    return found


def _searcher(hub: Hub) -> compose.Searcher:
    def search(session: Session, query: str, since: datetime, limit: int) -> list[tuple[int, str]]:
        from paperworks.hub.service import search as service

        hits = service.ids_for_query(hub, session, query, since=since, limit=limit)
        return [(paper_id, why.sentence or "matches your search") for paper_id, why in hits]

    return search


class _Cards:
    """Cards of papers, built once a round: the same paper goes to many."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._known: dict[int, PaperCard] = {}

    def of(self, session: Session, items: Sequence[Item]) -> dict[int, PaperCard]:
        ids = [item.paper_id for item in items]
        missing = [paper_id for paper_id in ids if paper_id not in self._known]
        if len(self._known) + len(missing) > MOST_CARDS:
            self._known.clear()
            missing = ids
        self._known.update((card.id, card) for card in build_cards(self.hub, session, missing))
        return {paper_id: self._known[paper_id] for paper_id in ids if paper_id in self._known}


class _Writer:
    """Chooses the papers of a mail and writes it; see `hub.digest.send.Writer`."""

    def __init__(self, hub: Hub, finder: Finder) -> None:
        self.hub = hub
        self.finder = finder
        self.cards = _Cards(hub)

    def choose(self, session: Session, claim: Claim) -> list[Item]:
        subscriber = session.get_one(Subscriber, claim.subscriber_id)
        return self.choose_for(session, subscriber, date.fromisoformat(claim.period), claim.digest_id)

    def choose_for(
        self, session: Session, subscriber: Subscriber, day: date, digest_id: int | None, every_turn: bool = False
    ) -> list[Item]:
        where = zone(subscriber.time_zone)
        confirmed = parse_utc(subscriber.confirmed or subscriber.created)
        held = {row.id: row for row in _active(session, subscriber.id)}
        turns = [Turn(row.id, row.cadence, row.hour, row.weekday) for row in held.values()]
        if not every_turn and any(turn.cadence == "weekly" for turn in turns):
            noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
            periods = _periods(session, noon, subscriber.id)[subscriber.id]
            turns = turns_of(day, turns, where, confirmed, periods)
        last_period, last_sent = _last_mail(session, subscriber.id, day)
        wishes = []
        for turn in turns:
            row = held[turn.id]
            since = reach(day, turn, where, confirmed, last_period, last_sent)
            found = self.finder.find(session, row.kind, row.spec, since)
            wishes.append(Wanted(compose.heading(row.kind, row.spec), found, row.least, row.most))
        return compose.choose(wishes, compose.taken(session, subscriber.id, digest_id))

    def write(self, session: Session, claim: Claim, items: list[Item], ticket: str) -> Letter | None:
        cards = self.cards.of(session, items)
        if not cards and not any(row.spec.get("even_if_empty") for row in _active(session, claim.subscriber_id)):
            return None
        url = _own_address(self.hub, ticket)
        view = _view(self.hub, cards, items, claim.period, url)
        settings = self.hub.settings
        mail = render.message(
            settings,
            render.render(view),
            claim.email,
            claim.message_id,
            self.hub.now(),
            unsubscribe_url=url,
            ticket=ticket,
        )
        sender = render.sender_of(settings)[1]
        return Letter(claim.message_id, sender, claim.email, claim.period, render.wire_bytes(mail))


def _active(session: Session, subscriber_id: int) -> list[Subscription]:
    query = select(Subscription).where(Subscription.subscriber_id == subscriber_id, Subscription.state == "active")
    return list(session.scalars(query.order_by(Subscription.id)))


def _last_mail(session: Session, subscriber_id: int, before: date) -> tuple[date | None, datetime | None]:
    """Period and moment of the last mail that left."""
    row = session.execute(
        select(Digest.period, Digest.sent)
        .where(Digest.subscriber_id == subscriber_id, Digest.state == "sent", Digest.period < before.isoformat())
        .order_by(Digest.period.desc())
        .limit(1)
    ).first()
    if row is None or row.sent is None:
        return None, None
    return date.fromisoformat(row.period), parse_utc(row.sent)


def _own_address(hub: Hub, ticket: str) -> str:
    return f"{hub.settings.base_url.rstrip('/')}/u/{ticket}"


def _view(
    hub: Hub, cards: dict[int, PaperCard], items: Sequence[Item], period: str, manage_url: str = ""
) -> DigestView:
    sections: dict[str, list[tuple[PaperCard, str]]] = {}
    for item in items:
        if item.paper_id in cards:
            sections.setdefault(item.section, []).append((cards[item.paper_id], item.reason))
    count = sum(len(papers) for papers in sections.values())
    return DigestView(
        subject=compose.subject(count, period),
        date=period,
        hub_name=render.one_line(hub.settings.hub_name),
        base_url=hub.settings.base_url.rstrip("/"),
        sections=tuple(
            DigestSection(
                title=title, cards=tuple(card for card, _ in papers), reasons=tuple(reason for _, reason in papers)
            )
            for title, papers in sections.items()
        ),
        unsubscribe_url=manage_url,
        manage_url=manage_url,
        count=count,
        note="" if count else "No new papers on your topics today.",
    )


# -- the outbox -----------------------------------------------------------------------------------------------------


def outbox(hub: Hub, limit: int | None = None) -> list[LetterView]:
    """The mails in the outbox, newest day first; at most `limit`."""
    views: list[LetterView] = []
    for path in FileOutbox(hub.settings.outbox).letters():
        if limit is not None and len(views) >= limit:
            break
        views.append(_letter(path))
    return views


def outbox_letter(hub: Hub, name: str) -> LetterText:
    """One mail, by its name in the list, its file name or its Message-ID. Raises NotFound, InputError for several."""
    wanted = name.strip().strip("<>")
    hits = [
        path
        for path in FileOutbox(hub.settings.outbox).letters()
        if wanted
        and (f"{path.parent.name}/{path.name}" == wanted or path.stem.startswith(wanted) or path.name == wanted)
    ]
    if not hits:
        raise NotFound(f"no mail {name[:120]!r} in the outbox; `paperworks outbox list` shows what is there")
    if len(hits) > 1:
        raise InputError(f"{len(hits)} mails begin with {name[:120]!r}; give more of the name")
    mail = _parsed(hits[0].read_bytes())
    return LetterText(
        letter=_letter(hits[0]),
        headers=tuple((key, str(value)) for key, value in mail.items()),
        text=_body(mail, "plain"),
        html=_body(mail, "html"),
    )


def _letter(path: Path) -> LetterView:
    mail = _parsed(path.read_bytes().partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    return LetterView(
        name=f"{path.parent.name}/{path.name}",
        day=path.parent.name,
        recipient=str(mail["To"] or ""),
        subject=str(mail["Subject"] or ""),
        date=str(mail["Date"] or ""),
        bytes=path.stat().st_size,
    )


def _parsed(raw: bytes) -> EmailMessage:
    return message_from_bytes(raw, policy=parsing)


def _body(mail: EmailMessage, kind: Literal["plain", "html"]) -> str:
    part = mail.get_body(preferencelist=(kind,))
    return str(part.get_content()).replace("\r\n", "\n") if part is not None else ""

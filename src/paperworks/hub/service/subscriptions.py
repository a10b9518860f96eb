"""Who gets which papers by mail: asking, confirming, changing, ending.

Nothing that only looks (`*_view`) changes anything: mail scanners press every link. What acts is a verb of its own, behind a
button. Asking for a known and for an unknown address does and answers the same.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from paperworks.errors import InputError, NotFound
from paperworks.hub.digest import addresses, compose, plan, render, send, tickets
from paperworks.hub.digest.transports import Letter, MailFailure, open_transport
from paperworks.hub.hub import Hub
from paperworks.hub.service.digest import preview
from paperworks.hub.store.models import Audit, Subscriber, Subscription, Suppression, Ticket
from paperworks.hub.text import name_key
from paperworks.hub.times import utc_text
from paperworks.hub.views import SubscriberView, SubscriptionView

log = logging.getLogger(__name__)
KINDS = ("trending", "topic", "query", "author")
CADENCES = ("daily", "weekly")
MAILS_A_DAY = 3  # confirmation mails to one address
MAILS_AN_HOUR = 10  # confirmation mails asked for from one network
UNCONFIRMED_DAYS = 30
MOST_SUBSCRIPTIONS = 50
_CATEGORY = re.compile(r"[a-z][a-z-]{0,30}(\.[A-Za-z][A-Za-z-]{0,30})?")
_ASKED = "confirmation mail"

__all__ = [
    "change", "clean", "confirm", "confirm_view", "never", "preview", "subscribe", "subscriptions", "unsubscribe", "unsubscribe_view",
]  # fmt: skip


def subscribe(
    hub: Hub,
    email: str,
    kind: str,
    spec: dict[str, Any],
    cadence: str = "daily",
    hour: int = 7,
    weekday: int = 0,
    time_zone: str = "UTC",
    *,
    network: str = "",
) -> None:
    """Ask for papers by mail. One mail with a link goes to the address; nothing else until it is confirmed.

    kind and spec: trending {window: day, week or month}; topic {categories: [...]}; query {query}; author {name}. Any spec may
    hold `even_if_empty: true` for a mail on quiet days too. hour 0 to 23 in `time_zone`; weekday 0 (Monday) to 6, for weekly.
    network: the address that the wish came from, for its limit; empty for none.

    Nothing tells whether the address was known, is suppressed, or has had its three mails today. Raises InputError for what
    cannot be an address, a wish, an hour or a time zone.
    """
    address = addresses.normalise(email)
    wanted = checked_spec(kind, spec)
    _check_turn(cadence, hour, weekday)
    plan.zone(time_zone)
    now = hub.now()
    secret = tickets.hub_secret(hub.home)
    with hub.db.write() as session:
        if send.is_suppressed(session, address) or _too_many(session, address, network, secret, now):
            log.info("no confirmation mail address=%s", addresses.address_hash(address)[:12])
            return
        subscriber = _subscriber(session, address, time_zone, now)
        if subscriber is None:
            return
        subscription = Subscription(
            subscriber_id=subscriber.id,
            kind=kind,
            spec=wanted,
            cadence=cadence,
            hour=hour,
            weekday=weekday,
            state="pending",
        )
        session.add(subscription)
        session.flush()
        ticket = tickets.issue(session, "confirm", subscription.id, now)
        never_ticket = tickets.durable(session, secret, "never", subscriber.id, now)
    base = hub.settings.base_url.rstrip("/")
    parts = render.render_confirmation(
        render.one_line(hub.settings.hub_name),
        compose.sentence(kind, wanted, cadence, hour, weekday) + ("" if time_zone == "UTC" else f" ({time_zone})"),
        f"{base}/confirm/{ticket}",
        f"{base}/never/{never_ticket}",
        tickets.CONFIRM_DAYS,
    )
    message_id = f"<confirm.{tickets.hash_of(ticket)[:32]}@{render.host_of(base)}>"
    mail = render.message(hub.settings, parts, address, message_id, now)
    letter = Letter(message_id, render.sender_of(hub.settings)[1], address, utc_text(now)[:10], render.wire_bytes(mail))
    transport = open_transport(hub.settings)
    try:
        transport.hand_over(letter)
    except MailFailure as error:
        # the same answer as always: whoever waits in vain asks again, and the operator reads the log
        log.error("a confirmation mail could not leave address=%s: %s", addresses.address_hash(address)[:12], error)
    finally:
        transport.close()


def checked_spec(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """What a subscription of that kind keeps, in one form. Raises InputError that says what is missing."""
    if kind not in KINDS:
        raise InputError(f"a subscription is one of {', '.join(KINDS)}, got {kind!r}")
    kept: dict[str, Any]
    if kind == "trending":
        window = spec.get("window", "day")
        if window not in compose.WINDOWS:
            raise InputError(f"window must be day, week or month, got {window!r}")
        kept = {"window": window}
    elif kind == "topic":
        codes = spec.get("categories") or []
        codes = [codes] if isinstance(codes, str) else list(dict.fromkeys(codes))
        wrong = [code for code in codes if not isinstance(code, str) or not _CATEGORY.fullmatch(code)]
        if not codes or wrong or len(codes) > 20:
            raise InputError(f"name one to twenty categories like cs.LG, got {wrong[:3] or codes[:3]!r}")
        kept = {"categories": codes}
    elif kind == "query":
        query = render.one_line(str(spec.get("query") or ""))
        if not query or len(query) > 1000:
            raise InputError(f"a query has 1 to 1000 characters, got {len(query)}; for instance: pruning -survey")
        kept = {"query": query}
    else:
        name = render.one_line(str(spec.get("name") or spec.get("author") or ""))
        if not name or len(name) > 200:
            raise InputError(f"an author has a name of 1 to 200 characters, got {name[:60]!r}")
        kept = {"author": name_key(name), "name": name}
    if spec.get("even_if_empty"):
        kept["even_if_empty"] = True
    return kept


def _check_turn(cadence: str, hour: int, weekday: int) -> None:
    if cadence not in CADENCES:
        raise InputError(f"cadence must be daily or weekly, got {cadence!r}")
    if not 0 <= hour <= 23:
        raise InputError(f"hour must be between 0 and 23, got {hour}")
    if not 0 <= weekday <= 6:
        raise InputError(f"weekday must be between 0 (Monday) and 6, got {weekday}")


def _too_many(session: Session, address: str, network: str, secret: bytes, now: datetime) -> bool:
    """Whether this address or this network has had its mails; notes the asking if not."""
    of_address = addresses.address_hash(address)
    prefix = addresses.network_of(network) if network else ""
    # a keyed hash: there are few networks, a plain one could be turned around
    of_network = hmac.new(secret, prefix.encode(), hashlib.sha256).hexdigest()[:32] if prefix else ""

    def asked(since: timedelta, *where: Any) -> int:
        query = select(func.count()).select_from(Audit).where(Audit.at > utc_text(now - since), Audit.action == _ASKED)
        return session.scalar(query.where(*where)) or 0

    if asked(timedelta(days=1), Audit.subject == of_address) >= MAILS_A_DAY:
        return True
    if of_network and asked(timedelta(hours=1), Audit.who == of_network) >= MAILS_AN_HOUR:
        return True
    session.add(Audit(at=utc_text(now), who=of_network, action=_ASKED, subject=of_address))
    return False


def _subscriber(session: Session, address: str, time_zone: str, now: datetime) -> Subscriber | None:
    """The row of an address, made if need be; None when it has more subscriptions than anybody reads."""
    subscriber = session.scalar(select(Subscriber).where(Subscriber.email_key == addresses.key(address)))
    if subscriber is None:
        subscriber = Subscriber(
            email=address, email_key=addresses.key(address), created=utc_text(now), time_zone=time_zone
        )
        session.add(subscriber)
        session.flush()
        return subscriber
    held = select(func.count()).select_from(Subscription).where(Subscription.subscriber_id == subscriber.id)
    if (session.scalar(held.where(Subscription.state != "ended")) or 0) >= MOST_SUBSCRIPTIONS:
        return None
    if subscriber.state != "confirmed":  # a stranger must not move the hour of somebody who is confirmed
        subscriber.time_zone = time_zone
    return subscriber


def confirm_view(hub: Hub, ticket: str) -> SubscriberView:
    """What the button on the page would start: the address and the one subscription of this ticket. Changes nothing.

    Raises NotFound for a ticket that is unknown, older than seven days, or used for a subscription that has ended since.
    """
    with hub.db.read() as session:
        _, subscription, subscriber = _to_confirm(session, ticket, hub.now())
        return _view(subscriber, [subscription])


def confirm(hub: Hub, ticket: str) -> SubscriberView:
    """Start the subscription of this ticket. A second press changes nothing. Raises NotFound as `confirm_view` does."""
    now = hub.now()
    with hub.db.write() as session:
        row, subscription, subscriber = _to_confirm(session, ticket, now)
        if row.used is None:
            row.used = utc_text(now)
            same = [
                other
                for other in session.scalars(
                    select(Subscription).where(
                        Subscription.subscriber_id == subscriber.id,
                        Subscription.state == "active",
                        Subscription.kind == subscription.kind,
                    )
                )
                if other.spec == subscription.spec
            ]
            for other in same:  # asked for again with another hour: the new one takes its place
                other.state = "ended"
            subscription.state = "active"
            if subscriber.state != "confirmed":
                subscriber.state, subscriber.confirmed, subscriber.ended = "confirmed", utc_text(now), None
            session.add(Audit(at=utc_text(now), who=f"subscriber:{subscriber.id}", action="subscription confirmed"))
        session.flush()
        return _view(subscriber, _active(session, subscriber.id))


def _to_confirm(session: Session, ticket: str, now: datetime) -> tuple[Ticket, Subscription, Subscriber]:
    row = tickets.look_up(session, ticket, ("confirm",))
    subscription = session.get(Subscription, row.subject)
    gone = "this link is older than seven days or has been used; subscribe again and a new one comes"
    if subscription is None or (row.used is None and tickets.is_expired(row, now)):
        raise NotFound(gone)
    if subscription.state != ("pending" if row.used is None else "active"):
        raise NotFound(gone)
    subscriber = session.get_one(Subscriber, subscription.subscriber_id)
    if send.is_suppressed(session, subscriber.email):
        raise NotFound("this address asked never to be written to; its owner can ask the hub's operator to change that")
    return row, subscription, subscriber


def unsubscribe_view(hub: Hub, ticket: str) -> SubscriberView:
    """What this subscriber gets, for the page behind the link in every mail. Changes nothing. Raises NotFound."""
    with hub.db.read() as session:
        subscriber = _of_ticket(session, ticket)
        return _view(subscriber, _active(session, subscriber.id))


def unsubscribe(hub: Hub, ticket: str, subscription_id: int | None = None) -> SubscriberView:
    """End one subscription, or all of them at once. Never too late, and pressing twice is the same as once.

    Raises NotFound for an unknown ticket, or a subscription of somebody else.
    """
    now = utc_text(hub.now())
    with hub.db.write() as session:
        subscriber = _of_ticket(session, ticket)
        if subscription_id is not None:
            _own(session, subscriber, subscription_id).state = "ended"
            session.flush()
        else:
            _end_all(session, subscriber, now)
        if subscriber.state == "confirmed" and not _active(session, subscriber.id):
            subscriber.state, subscriber.ended = "ended", now
        return _view(subscriber, _active(session, subscriber.id))


def change(
    hub: Hub,
    ticket: str,
    subscription_id: int | None = None,
    *,
    cadence: str | None = None,
    hour: int | None = None,
    weekday: int | None = None,
    most: int | None = None,
    time_zone: str | None = None,
) -> SubscriberView:
    """Change when a subscription comes, how much of it at most, or the subscriber's time zone. Raises InputError, NotFound."""
    if time_zone is not None:
        plan.zone(time_zone)
    if most is not None and not 1 <= most <= compose.MOST:
        raise InputError(f"most must be between 1 and {compose.MOST}, got {most}")
    with hub.db.write() as session:
        subscriber = _of_ticket(session, ticket)
        if time_zone is not None:
            subscriber.time_zone = time_zone
        chosen = [_own(session, subscriber, subscription_id)] if subscription_id else _active(session, subscriber.id)
        for subscription in chosen:
            _check_turn(
                cadence or subscription.cadence,
                subscription.hour if hour is None else hour,
                subscription.weekday if weekday is None else weekday,
            )
            subscription.cadence = cadence or subscription.cadence
            subscription.hour = subscription.hour if hour is None else hour
            subscription.weekday = subscription.weekday if weekday is None else weekday
            subscription.most = most or subscription.most
        session.flush()
        return _view(subscriber, _active(session, subscriber.id))


def never(hub: Hub, ticket: str, why: str = "own wish") -> None:
    """Never write to the address of this ticket again: all subscriptions end, and only a hash of the address is remembered.

    Takes the ticket of a confirmation mail or of a digest. Idempotent. Raises NotFound for an unknown ticket.
    """
    now = utc_text(hub.now())
    with hub.db.write() as session:
        subscriber = _of_ticket(session, ticket)
        _end_all(session, subscriber, now)
        suppress(session, subscriber.email, why, now)


def suppress(session: Session, address: str, why: str, now: str) -> None:
    """No mail of any kind to this address from now on."""
    hashed = addresses.address_hash(address)
    if session.get(Suppression, hashed) is None:
        session.add(Suppression(email_hash=hashed, why=why, at=now))


def _of_ticket(session: Session, ticket: str) -> Subscriber:
    row = tickets.look_up(session, ticket, ("unsubscribe", "never", "confirm"))
    subscriber_id = row.subject
    if row.purpose == "confirm":
        subscription = session.get(Subscription, row.subject)
        subscriber_id = subscription.subscriber_id if subscription else 0
    subscriber = session.get(Subscriber, subscriber_id)
    if subscriber is None:
        raise NotFound("nothing is kept of this subscriber any more, and nothing is sent")
    return subscriber


def _own(session: Session, subscriber: Subscriber, subscription_id: int) -> Subscription:
    subscription = session.get(Subscription, subscription_id)
    if subscription is None or subscription.subscriber_id != subscriber.id:
        raise NotFound(f"there is no subscription {subscription_id} of this address; open the link in the mail again")
    return subscription


def _end_all(session: Session, subscriber: Subscriber, now: str) -> None:
    held = select(Subscription).where(Subscription.subscriber_id == subscriber.id, Subscription.state != "ended")
    for subscription in session.scalars(held):
        subscription.state = "ended"
    if subscriber.state != "ended":
        subscriber.state, subscriber.ended = "ended", now
    session.flush()


def _active(session: Session, subscriber_id: int) -> list[Subscription]:
    query = select(Subscription).where(Subscription.subscriber_id == subscriber_id, Subscription.state == "active")
    return list(session.scalars(query.order_by(Subscription.id)))


def _view(subscriber: Subscriber, held: list[Subscription]) -> SubscriberView:
    return SubscriberView(
        id=subscriber.id,
        email=subscriber.email,
        state=subscriber.state,
        time_zone=subscriber.time_zone,
        subscriptions=tuple(
            SubscriptionView(
                id=row.id,
                kind=row.kind,
                spec=row.spec,
                cadence=row.cadence,
                hour=row.hour,
                weekday=row.weekday,
                most=row.most,
                sentence=compose.sentence(row.kind, row.spec, row.cadence, row.hour, row.weekday),
            )
            for row in held
        ),
    )


def subscriptions(hub: Hub) -> list[SubscriberView]:
    """All subscribers with what they get, for the operator; those who have not confirmed are shown without subscriptions."""
    with hub.db.read() as session:
        held: dict[int, list[Subscription]] = {}
        for row in session.scalars(
            select(Subscription).where(Subscription.state == "active").order_by(Subscription.id)
        ):
            held.setdefault(row.subscriber_id, []).append(row)
        return [_view(row, held.get(row.id, [])) for row in session.scalars(select(Subscriber).order_by(Subscriber.id))]


def clean(hub: Hub) -> int:
    """Delete what nobody confirmed within thirty days: subscriptions, their tickets, addresses without any other. How many."""
    limit = utc_text(hub.now() - timedelta(days=UNCONFIRMED_DAYS))
    with hub.db.read() as session:
        old = select(Ticket.subject).where(Ticket.purpose == "confirm", Ticket.created < limit).limit(1)
        asked = select(Audit.id).where(Audit.action == _ASKED, Audit.at < limit).limit(1)
        if session.scalar(old) is None and session.scalar(asked) is None:
            return 0
    with hub.db.write() as session:
        subjects = select(Ticket.subject).where(Ticket.purpose == "confirm", Ticket.created < limit)
        stale = list(
            session.scalars(
                select(Subscription.id).where(Subscription.id.in_(subjects), Subscription.state == "pending")
            )
        )
        session.execute(delete(Subscription).where(Subscription.id.in_(stale)))
        session.execute(delete(Ticket).where(Ticket.purpose == "confirm", Ticket.created < limit))
        session.execute(delete(Audit).where(Audit.action == _ASKED, Audit.at < limit))
        unconfirmed = select(Subscriber.id).where(
            Subscriber.state == "unconfirmed",
            Subscriber.created < limit,
            Subscriber.id.not_in(select(Subscription.subscriber_id)),
        )
        gone = list(session.scalars(unconfirmed))
        session.execute(delete(Ticket).where(Ticket.purpose != "confirm", Ticket.subject.in_(gone)))
        session.execute(delete(Subscriber).where(Subscriber.id.in_(gone)))
        return len(stale)

"""From a due mail to a sent one, so that a process may die between any two steps and nothing is lost or comes twice unseen.

1 `plan` inserts or ignores the rows of a period; 2 `claim` takes one for ten minutes; 3 the mail is written; 4 the papers in it
are noted, the row is marked `handing_over`, and the transport gets the letter; 5 the row is `sent` and the papers are `seen`.
A row whose lease has run out is taken again: before 4 had begun plainly, after it as `unsure`, once more with the same
Message-ID and the same papers. A transport that folds repeats (the file outbox) may be given a letter any number of times;
any other gets an unsure letter once more and not a third time.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from sqlalchemy import and_, bindparam, insert, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from paperworks.errors import PaperworksError
from paperworks.hub import crash
from paperworks.hub.digest import addresses, compose, tickets
from paperworks.hub.digest.compose import Item
from paperworks.hub.digest.transports import Letter, PermanentFailure, TransientFailure, Transport, UnsureFailure
from paperworks.hub.store.database import Database
from paperworks.hub.store.models import Digest, DigestItem, Seen, Subscriber, Suppression
from paperworks.hub.times import parse_utc, utc_text

log = logging.getLogger(__name__)
LEASE = timedelta(minutes=10)
RETRIES = (timedelta(hours=2), timedelta(hours=4))  # three tries over six hours
MOST_ATTEMPTS = 10  # a mail that takes the process down with it each time is given up in the end
Outcome = Literal["sent", "empty", "failed", "later"]

PLAIN = {"synchronize_session": False}  # nothing else is loaded in that session

_CLAIMABLE = (
    select(
        Digest.state,
        Digest.claimed_until,
        Digest.attempts,
        Digest.handing_over,
        Digest.error,
        Digest.subscriber_id,
        Digest.period,
        Digest.message_id,
        Subscriber.email,
    )
    .join(Subscriber, Subscriber.id == Digest.subscriber_id)
    .where(Digest.id == bindparam("digest_id"))
)

# Where a test can kill the process; see hub/crash.py.
CRASH_POINTS = (
    "digest.after-plan",
    "digest.after-claim",
    "digest.after-render",
    "digest.before-hand-over",
    "outbox.before-rename",
    "outbox.after-rename",
    "digest.after-hand-over",
    "digest.after-sent",
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A mail in our hands until its lease runs out."""

    digest_id: int
    subscriber_id: int
    email: str
    period: str
    message_id: str
    attempt: int
    unsure: bool


class Writer(Protocol):
    """Chooses and writes; the service gives one, since cards and searches are its own."""

    def choose(self, session: Session, claim: Claim) -> list[Item]:
        """The papers of this mail."""
        ...

    def write(self, session: Session, claim: Claim, items: list[Item], ticket: str) -> Letter | None:
        """The letter; None when there is nothing to say."""
        ...


def message_id(hub: str, host: str, email: str, period: str) -> str:
    """The same for the same hub, mailbox and period, so that a repeat is the same message to a mailbox that folds them.

    >>> message_id("paperworks", "papers.example.org", "ada@example.org", "2026-08-21").partition(".")[2]
    '2026-08-21@papers.example.org>'
    """
    digest = hashlib.sha256(f"{hub}\n{host}\n{addresses.key(email)}\n{period}".encode()).hexdigest()
    return f"<{digest[:32]}.{period}@{host}>"


def plan(session: Session, rows: Iterable[tuple[int, str, str]]) -> int:
    """Insert (subscriber, period, Message-ID) where it is not yet; how many were new."""
    values = [
        {
            "subscriber_id": subscriber_id,
            "period": period,
            "message_id": identifier,
            "state": "planned",
            "attempts": 0,
            "handing_over": False,
            "error": "",
        }
        for subscriber_id, period, identifier in rows
    ]
    if not values:
        return 0
    insert_here: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    planned = 0
    for start in range(0, len(values), 500):
        statement = insert_here(Digest).values(values[start : start + 500]).on_conflict_do_nothing()
        planned += max(0, session.execute(statement).rowcount)  # type: ignore[attr-defined]
    return planned


def waiting(session: Session, now: datetime) -> list[int]:
    """Mails that may be taken now, oldest period first."""
    at = utc_text(now)
    free = or_(
        and_(Digest.state == "planned", or_(Digest.claimed_until.is_(None), Digest.claimed_until <= at)),
        and_(Digest.state.in_(("sending", "unsure")), Digest.claimed_until <= at),
    )
    return list(session.scalars(select(Digest.id).where(free).order_by(Digest.period, Digest.id)))


def claim(db: Database, digest_id: int, repeatable: bool, now: datetime) -> Claim | Outcome:
    """Take one mail for ten minutes; 'later' when somebody else was quicker, 'failed' when it is given up."""
    at = utc_text(now)
    with db.write() as session:
        row = session.execute(_CLAIMABLE, {"digest_id": digest_id}).first()
        if row is None or row.state not in ("planned", "sending", "unsure"):
            return "later"
        if (row.claimed_until or "") > at or (row.state != "planned" and row.claimed_until is None):
            return "later"
        hopeless = ""
        if row.attempts >= MOST_ATTEMPTS:
            hopeless = f"tried {row.attempts} times; last: {row.error or 'the process ended'}"
        elif row.handing_over and row.state == "unsure" and not repeatable:
            hopeless = "handed over twice without an answer; it may have arrived"
        if hopeless:
            return _give_up(session.get_one(Digest, digest_id), hopeless)
        unsure = row.state == "unsure" or row.handing_over
        values = {
            "state": "unsure" if unsure else "sending",
            "handing_over": False,
            "attempts": row.attempts + 1,
            "claimed_until": utc_text(now + LEASE),
        }
        session.execute(update(Digest).where(Digest.id == digest_id).values(values), execution_options=PLAIN)
        taken = Claim(digest_id, row.subscriber_id, row.email, row.period, row.message_id, row.attempts + 1, unsure)
    crash.point("digest.after-claim")
    return taken


def send_one(
    db: Database, digest_id: int, writer: Writer, transport: Transport, secret: bytes, clock: Callable[[], datetime]
) -> Outcome:
    """Take one mail through all steps. Whatever goes wrong with it stays with it: the row says what, other mails go on."""
    taken = claim(db, digest_id, transport.repeatable, clock())
    if not isinstance(taken, Claim):
        return taken
    ticket = tickets.derive(secret, "unsubscribe", taken.subscriber_id)
    try:
        with db.read() as session:
            items = compose.stored(session, taken.digest_id) if taken.attempt > 1 else []
            chosen_before = bool(items)
            if not chosen_before:
                items = writer.choose(session, taken)
            letter = writer.write(session, taken, items, ticket)
    except Exception as error:
        log.exception("a mail could not be written digest=%s", taken.digest_id)
        return _put_back(db, taken, f"could not be written: {error}", clock())
    crash.point("digest.after-render")
    if letter is None:
        return _finish(db, taken, "empty", clock())
    ended = False
    with db.write() as session:
        if not may_be_written_to(session, taken.subscriber_id, taken.email):
            ended = True
        else:
            marked = update(Digest).where(*_ours(taken)).values(handing_over=True)
            if not session.execute(marked, execution_options=PLAIN).rowcount:  # type: ignore[attr-defined]
                return "later"  # our lease ran out and somebody else has it
            if not chosen_before and items:
                session.execute(insert(DigestItem), _rows(taken.digest_id, items))
            tickets.durable(session, secret, "unsubscribe", taken.subscriber_id, clock())
    if ended:
        return _finish(db, taken, "empty", clock(), "the subscription ended before the mail left")
    crash.point("digest.before-hand-over")
    try:
        transport.hand_over(letter)
    except UnsureFailure as error:
        return _unsure(db, taken, str(error), clock())
    except PermanentFailure as error:
        return _finish(db, taken, "failed", clock(), str(error))
    except (TransientFailure, PaperworksError, OSError) as error:
        return _put_back(db, taken, str(error), clock())
    except Exception as error:
        log.exception("the transport broke digest=%s transport=%s", taken.digest_id, transport.name)
        return _unsure(db, taken, f"the transport broke: {error}", clock())
    crash.point("digest.after-hand-over")
    outcome = _finish(db, taken, "sent", clock())
    crash.point("digest.after-sent")
    return outcome


def may_be_written_to(session: Session, subscriber_id: int, email: str) -> bool:
    """Confirmed, and not suppressed."""
    suppressed = select(Suppression.email_hash).where(Suppression.email_hash == addresses.address_hash(email)).exists()
    confirmed = select(Subscriber.id).where(
        Subscriber.id == subscriber_id, Subscriber.state == "confirmed", ~suppressed
    )
    return session.scalar(confirmed) is not None


def is_suppressed(session: Session, email: str) -> bool:
    return session.get(Suppression, addresses.address_hash(email)) is not None


def _ours(taken: Claim) -> tuple[Any, ...]:
    """The row, as long as nobody has taken it since."""
    return Digest.id == taken.digest_id, Digest.attempts == taken.attempt, Digest.state.in_(("sending", "unsure"))


def _rows(digest_id: int, items: list[Item]) -> list[dict[str, Any]]:
    return [
        {"digest_id": digest_id, "rank": n, "paper_id": item.paper_id, "section": item.section, "reason": item.reason}
        for n, item in enumerate(items, start=1)
    ]


def _finish(
    db: Database, taken: Claim, state: Literal["sent", "empty", "failed"], now: datetime, error: str = ""
) -> Outcome:
    values = {"state": state, "handing_over": False, "claimed_until": None, "error": error[:500]}
    if state == "sent":
        values["sent"] = utc_text(now)
    with db.write() as session:
        if not session.execute(update(Digest).where(*_ours(taken)).values(values), execution_options=PLAIN).rowcount:  # type: ignore[attr-defined]
            return "later"
        if state == "sent":
            known = select(Seen.paper_id).where(Seen.subscriber_id == taken.subscriber_id)
            new = select(literal(taken.subscriber_id), DigestItem.paper_id, literal(taken.digest_id)).where(
                DigestItem.digest_id == taken.digest_id, DigestItem.paper_id.not_in(known)
            )
            columns = ["subscriber_id", "paper_id", "digest_id"]
            session.execute(insert(Seen).from_select(columns, new.distinct()))
    return state


def _put_back(db: Database, taken: Claim, error: str, now: datetime) -> Outcome:
    """Try again later, three times in all."""
    with db.write() as session:
        row = session.get(Digest, taken.digest_id)
        if row is None or row.attempts != taken.attempt:
            return "later"
        if row.attempts > len(RETRIES):
            return _give_up(row, error)
        row.state, row.handing_over, row.error = "unsure" if taken.unsure else "planned", False, error[:500]
        row.claimed_until = utc_text(now + RETRIES[row.attempts - 1])
        log.warning("a mail could not leave; it is tried again digest=%s at=%s: %s", row.id, row.claimed_until, error)
    return "later"


def _unsure(db: Database, taken: Claim, error: str, now: datetime) -> Outcome:
    """Leave it marked as handed over: the next claim decides whether it goes once more."""
    with db.write() as session:
        row = session.get(Digest, taken.digest_id)
        if row is None or row.attempts != taken.attempt:
            return "later"
        row.error = error[:500]
        if taken.unsure:
            return _give_up(row, f"handed over twice without an answer; it may have arrived: {error}")
        row.state = "sending"
        row.claimed_until = utc_text(now + LEASE)
    return "later"


def _give_up(row: Digest, error: str) -> Outcome:
    row.state, row.handing_over, row.claimed_until, row.error = "failed", False, None, error[:500]
    log.error("a mail is given up digest=%s: %s", row.id, error)
    return "failed"


def lease_ends(session: Session) -> datetime | None:
    """When the first mail in other hands, or put back, may be taken; None when there is none."""
    first = session.scalar(
        select(Digest.claimed_until)
        .where(Digest.state.in_(("planned", "sending", "unsure")), Digest.claimed_until.is_not(None))
        .order_by(Digest.claimed_until)
        .limit(1)
    )
    return parse_utc(first) if first else None

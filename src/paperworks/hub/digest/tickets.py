"""Tickets: secrets that stand in mailed links. The database keeps only their hashes.

Two kinds. A *random* ticket (32 bytes) confirms one subscription; it is good for seven days and acts once.
A *durable* ticket ends mails; it is derived from the hub's secret and the subscriber, so that writing the same mail twice
gives the same mail, and its hash is kept, so that links in old mails keep working after the secret has been changed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from paperworks.errors import NotFound, StoreError
from paperworks.hub.store.models import Ticket
from paperworks.hub.times import utc_text

CONFIRM_DAYS = 7
SECRET_BYTES = 32
SECRET_FILE = "secret"


def hub_secret(home: Path) -> bytes:
    """The 32 random bytes in the hub's folder, made on first use and readable by their owner only.

    Raises StoreError when the file cannot be read or is too short to be a secret.
    """
    path = home / SECRET_FILE
    try:
        if not path.exists():
            home.mkdir(parents=True, exist_ok=True)
            draft = home / f".{SECRET_FILE}-{os.getpid()}-{secrets.token_hex(4)}"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            try:
                os.link(draft, path)  # unlike a rename it fails when another process was first
            except FileExistsError:
                pass
            finally:
                draft.unlink(missing_ok=True)
        secret = path.read_bytes().strip()
    except OSError as error:
        raise StoreError(f"the hub's secret cannot be used: {error}; check the rights of {path}") from error
    if len(secret) < SECRET_BYTES:
        raise StoreError(
            f"{path} holds {len(secret)} bytes, a secret has at least {SECRET_BYTES}; move it away, a new one is made"
        )
    return secret


def hash_of(ticket: str) -> str:
    """What is stored of a ticket; 256 random bits need no slow hash."""
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()


def issue(session: Session, purpose: str, subject: int, now: datetime, *, days: int | None = CONFIRM_DAYS) -> str:
    """A new random ticket; the caller mails it and forgets it."""
    ticket = secrets.token_urlsafe(SECRET_BYTES)
    expires = utc_text(now + timedelta(days=days)) if days is not None else None
    session.add(
        Ticket(
            secret_hash=hash_of(ticket),
            purpose=purpose,
            subject=subject,
            created=utc_text(now),
            expires=expires,
            used=None,
        )
    )
    return ticket


def derive(secret: bytes, purpose: str, subject: int) -> str:
    """The durable ticket of a subscriber for a purpose; 43 characters that may stand in a URL."""
    digest = hmac.new(secret, f"{purpose}:{subject}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def durable(session: Session, secret: bytes, purpose: str, subject: int, now: datetime) -> str:
    """The durable ticket, known to the database from now on. Needs a writing session."""
    ticket = derive(secret, purpose, subject)
    if session.scalar(select(Ticket.subject).where(Ticket.secret_hash == hash_of(ticket))) is None:
        session.add(
            Ticket(
                secret_hash=hash_of(ticket),
                purpose=purpose,
                subject=subject,
                created=utc_text(now),
                expires=None,
                used=None,
            )
        )
        session.flush()
    return ticket


def look_up(session: Session, ticket: str, purposes: tuple[str, ...]) -> Ticket:
    """The row of a ticket, whether used or expired. Raises NotFound for an unknown one or one for another purpose."""
    row = session.scalar(select(Ticket).where(Ticket.secret_hash == hash_of(ticket)))
    if row is None or row.purpose not in purposes:
        raise NotFound("this link is not known here; copy it whole from the mail, or subscribe again")
    return row


def is_expired(row: Ticket, now: datetime) -> bool:
    return row.expires is not None and row.expires < utc_text(now)

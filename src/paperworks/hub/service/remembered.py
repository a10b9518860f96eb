"""Short notes that are kept for a while and then forgotten, such as which order an `Idempotency-Key` stood for."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete

from paperworks.hub.hub import Hub
from paperworks.hub.store.models import Fact
from paperworks.hub.times import parse_utc, utc_text


def recall(hub: Hub, name: str, kept: timedelta) -> str | None:
    """The note of that name, unless it is older than `kept`."""
    with hub.db.read() as session:
        fact = session.get(Fact, name)
        if fact is None:
            return None
        at, _, value = fact.value.partition(" ")
    return value if parse_utc(at) + kept > hub.now() else None


def keep(hub: Hub, name: str, value: str, kept: timedelta) -> None:
    """Write a note; those of the same family (the part before the last colon) that are too old are dropped."""
    family = name.rpartition(":")[0] + ":"
    oldest = utc_text(hub.now() - kept)
    with hub.db.write() as session:
        session.execute(delete(Fact).where(Fact.name.startswith(family, autoescape=True), Fact.value < oldest))
        session.merge(Fact(name=name, value=f"{utc_text(hub.now())} {value}"))

"""Times as the store keeps them: UTC text `YYYY-MM-DDTHH:MM:SSZ`, days `YYYY-MM-DD`. They sort as text."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from paperworks.errors import InputError

if TYPE_CHECKING:
    from paperworks.hub.hub import Hub

UTC_TEXT = "%Y-%m-%dT%H:%M:%SZ"


def utc_now() -> datetime:
    """Now, with time zone UTC."""
    return datetime.now(UTC)


def utc_text(moment: datetime) -> str:
    """A moment as the store keeps it; parts of a second are dropped. Raises InputError for one without a time zone.

    >>> from datetime import timedelta, timezone
    >>> utc_text(datetime(2026, 8, 21, 9, 30, tzinfo=timezone(timedelta(hours=2))))
    '2026-08-21T07:30:00Z'
    """
    if moment.tzinfo is None:
        raise InputError(f"{moment.isoformat()} has no time zone; give one, for instance datetime.now(UTC)")
    # Not strftime: %Y does not pad years below 1000 on every system.
    return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def parse_utc(text: str) -> datetime:
    """The moment that `utc_text` wrote, with time zone UTC. Raises InputError for anything else.

    >>> parse_utc("2026-08-21T07:30:00Z").isoformat()
    '2026-08-21T07:30:00+00:00'
    """
    try:
        return datetime.strptime(text, UTC_TEXT).replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise InputError(f"{text!r} is not a time like 2026-08-21T07:30:00Z") from error


def day_text(day: date | None) -> str | None:
    """A day as the store keeps it; None stays None."""
    if isinstance(day, datetime):
        return day.date().isoformat()
    return day.isoformat() if day else None


def today(hub: Hub) -> str:
    """The day in UTC by the hub's clock, 'YYYY-MM-DD'."""
    return hub.now().astimezone(UTC).date().isoformat()

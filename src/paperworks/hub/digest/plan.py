"""When a mail is due. Pure functions of clocks and subscriptions: no store, no mail.

A period is a subscriber's local date. A mail of a period is due at the earliest hour of the subscriptions that belong to it,
in the subscriber's own zone. An hour that the clocks skip is the next one; an hour that they repeat is its first passage, and
`unique(subscriber, period)` in the store keeps it single.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from paperworks.errors import InputError

LATE_DAYS = 3  # a weekly mail that could not be sent on its day may still join the mail of the next three
FIRST_LOOK_DAYS = {"daily": 1, "weekly": 7}  # how far back the first mail looks
LATE_PAPER_DAYS = (
    7  # a paper announced earlier than this before the last mail is an old one that was imported, not news
)
SLACK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Turn:
    """What the calendar needs to know of a subscription."""

    id: int
    cadence: str  # daily, weekly
    hour: int
    weekday: int  # 0 Monday; for weekly


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def zone(name: str) -> ZoneInfo:
    """The time zone of that name. Raises InputError for one that is not known here.

    >>> zone("Europe/Paris").key
    'Europe/Paris'
    """
    if name not in _zones():
        raise InputError(f"no time zone is called {name[:60]!r}; give one like Europe/Paris, America/New_York or UTC")
    return ZoneInfo(name)


def moment(day: date, hour: int, where: ZoneInfo) -> datetime:
    """The instant, in UTC, at which it is `hour` o'clock on `day` in that zone.

    An hour that does not exist is read with the offset before the change, which is the hour after the gap;
    of one that exists twice the first is taken (both are what fold=0 means in PEP 495).

    >>> moment(date(2026, 3, 29), 2, ZoneInfo("Europe/Paris")).isoformat()  # clocks go from 2 to 3
    '2026-03-29T01:00:00+00:00'
    >>> moment(date(2026, 10, 25), 2, ZoneInfo("Europe/Paris")).isoformat()  # 2 o'clock comes twice
    '2026-10-25T00:00:00+00:00'
    """
    return datetime.combine(day, time(hour), tzinfo=where).astimezone(UTC)


def local_day(now: datetime, where: ZoneInfo) -> date:
    return now.astimezone(where).date()


def turns_of(
    day: date, turns: Sequence[Turn], where: ZoneInfo, confirmed: datetime, periods: Collection[date] = ()
) -> list[Turn]:
    """The subscriptions that belong to the mail of `day`.

    `periods` are the subscriber's earlier mails: a weekly turn that fell on one of the last three days belongs to `day` if no
    mail has been planned since, and if it fell after the confirmation.
    """
    return [turn for turn in turns if turn.cadence == "daily" or _weekly_belongs(day, turn, where, confirmed, periods)]


def _own_day(day: date, turn: Turn) -> date:
    """The last day of a weekly turn, `day` included."""
    return day - timedelta(days=(day.weekday() - turn.weekday) % 7)


def _weekly_belongs(day: date, turn: Turn, where: ZoneInfo, confirmed: datetime, periods: Collection[date]) -> bool:
    own_day = _own_day(day, turn)
    if own_day == day:
        return True
    is_late = (day - own_day).days <= LATE_DAYS and moment(own_day, turn.hour, where) >= confirmed
    return is_late and not any(own_day <= period < day for period in periods)


def due_since(
    day: date, turns: Sequence[Turn], where: ZoneInfo, confirmed: datetime, periods: Collection[date] = ()
) -> datetime | None:
    """The instant from which the mail of `day` is due; None when no subscription belongs to it.

    Whoever confirms after the hour has passed waits for the next turn.
    """
    moments = []
    for turn in turns_of(day, turns, where, confirmed, periods):
        if turn.cadence == "weekly" and turn.weekday != day.weekday():
            moments.append(moment(day, 0, where))  # late already
        elif (due := moment(day, turn.hour, where)) >= confirmed:
            moments.append(due)
    return min(moments) if moments else None


@dataclass(frozen=True, slots=True)
class Reach:
    """Which papers are news: arrived at the hub since `arrived`, and announced on `announced` or later."""

    arrived: datetime
    announced: date


def reach(
    day: date,
    turn: Turn,
    where: ZoneInfo,
    confirmed: datetime,
    last_period: date | None,
    last_sent: datetime | None,
) -> Reach:
    """How far back a subscription looks for the mail of `day`.

    From the last mail on: from its hour, or from when it was sent if that was earlier. It may have been written
    later than that; what was in it is in `seen`, so looking back too far repeats nothing.
    """
    span = timedelta(days=FIRST_LOOK_DAYS[turn.cadence])
    if last_period is None or last_sent is None:
        start = min(moment(day, 0, where), confirmed) - span
        return Reach(start, start.astimezone(where).date())
    start = min(moment(last_period, turn.hour, where), last_sent) - SLACK
    if turn.cadence == "weekly":
        start = min(start, moment(day - span, turn.hour, where))
    return Reach(start, start.astimezone(where).date() - timedelta(days=LATE_PAPER_DAYS))


def day_in_words(day: date) -> str:
    """A date for a subject line, in English whatever the machine's language.

    >>> day_in_words(date(2026, 8, 21))
    'Friday 21 August'
    """
    return f"{_WEEKDAYS[day.weekday()]} {day.day} {_MONTHS[day.month - 1]}"


_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = _WEEKDAYS

"""The calendar: hours, zones, clocks that jump, weeks, and how far back a mail looks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.hub.digest.plan import Turn, due_since, local_day, moment, reach, turns_of, zone

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DAILY = Turn(1, "daily", 7, 0)


def due(day: date, turn: Turn, where: str, confirmed: datetime = LONG_AGO) -> str:
    found = due_since(day, [turn], ZoneInfo(where), confirmed)
    assert found is not None
    return found.strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("where", "day", "hour", "utc"),
    [
        ("Europe/Paris", date(2026, 8, 21), 7, "2026-08-21 05:00"),
        ("Asia/Kolkata", date(2026, 8, 21), 7, "2026-08-21 01:30"),
        ("America/New_York", date(2026, 3, 8), 2, "2026-03-08 07:00"),  # 2 o'clock is skipped: 3 o'clock summer time
        ("America/New_York", date(2026, 11, 1), 1, "2026-11-01 05:00"),  # 1 o'clock comes twice: the first
        ("Africa/Cairo", date(2026, 4, 24), 0, "2026-04-23 22:00"),  # midnight itself is skipped
        ("Australia/Lord_Howe", date(2026, 10, 4), 2, "2026-10-03 15:30"),  # only half an hour is skipped
        ("Pacific/Kiritimati", date(2026, 8, 21), 7, "2026-08-20 17:00"),
    ],
)
def test_a_mail_is_due_at_the_local_hour_whatever_the_clocks_do(where: str, day: date, hour: int, utc: str) -> None:
    assert due(day, Turn(1, "daily", hour, 0), where) == utc


def test_a_skipped_hour_is_the_next_one_on_the_wall() -> None:
    paris = ZoneInfo("Europe/Paris")
    on_the_wall = moment(date(2026, 3, 29), 2, paris).astimezone(paris)
    assert (on_the_wall.hour, on_the_wall.date()) == (3, date(2026, 3, 29))


@given(
    st.sampled_from(sorted(available_timezones())),
    st.dates(date(2000, 1, 1), date(2035, 12, 31)),
    st.integers(0, 23),
)
def test_every_local_date_that_exists_has_its_moment_at_or_just_after_its_hour(name: str, day: date, hour: int) -> None:
    where = ZoneInfo(name)
    at = moment(day, hour, where).astimezone(where)
    late = at.replace(tzinfo=None) - datetime(day.year, day.month, day.day, hour)
    # Samoa and Tokelau once left out a whole day; no clock ever goes by more
    assert timedelta(0) <= late <= timedelta(days=1)


def test_an_unknown_zone_is_refused_with_an_example() -> None:
    for name in ("Mars/Base", "../../etc/passwd", "", "europe/paris\n"):
        with pytest.raises(InputError, match="Europe/Paris"):
            zone(name)


def test_who_confirms_after_the_hour_waits_for_the_next_day() -> None:
    paris = ZoneInfo("Europe/Paris")
    confirmed = datetime(2026, 8, 21, 6, 0, tzinfo=UTC)  # 8 o'clock in Paris
    assert due_since(date(2026, 8, 21), [DAILY], paris, confirmed) is None
    assert due_since(date(2026, 8, 22), [DAILY], paris, confirmed) is not None


def test_the_mail_of_a_day_comes_at_the_earliest_hour_of_its_subscriptions() -> None:
    turns = [Turn(1, "daily", 18, 0), Turn(2, "daily", 6, 0), Turn(3, "weekly", 3, 0)]  # the weekly one is for Mondays
    assert due_since(date(2026, 8, 21), turns, ZoneInfo("UTC"), LONG_AGO) == datetime(2026, 8, 21, 6, tzinfo=UTC)


def test_a_weekly_mail_missed_on_its_day_comes_within_three_days_and_once() -> None:
    monday = Turn(1, "weekly", 7, 0)
    utc = ZoneInfo("UTC")

    def belongs(day: int, *periods: int) -> bool:
        return bool(turns_of(date(2026, 8, day), [monday], utc, LONG_AGO, [date(2026, 8, n) for n in periods]))

    assert [day for day in range(17, 25) if belongs(day)] == [17, 18, 19, 20, 24]
    assert not belongs(18, 17)
    assert not belongs(19, 18)
    assert belongs(24, 18)
    tuesday = datetime(2026, 8, 18, tzinfo=UTC)
    assert not turns_of(date(2026, 8, 19), [monday], utc, tuesday), "it was asked for after Monday"


def test_a_doubled_hour_belongs_to_one_period() -> None:
    new_york = ZoneInfo("America/New_York")
    first, second = datetime(2026, 11, 1, 5, 30, tzinfo=UTC), datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    assert first.astimezone(new_york).hour == second.astimezone(new_york).hour == 1
    assert local_day(first, new_york) == local_day(second, new_york)


def test_the_first_mail_looks_back_one_day_and_the_next_to_the_last_mail() -> None:
    utc = ZoneInfo("UTC")
    confirmed = datetime(2026, 8, 20, 12, tzinfo=UTC)
    first = reach(date(2026, 8, 21), DAILY, utc, confirmed, None, None)
    assert first.arrived == datetime(2026, 8, 19, 12, tzinfo=UTC)
    sent_late = datetime(2026, 8, 21, 15, tzinfo=UTC)
    after = reach(date(2026, 8, 24), DAILY, utc, confirmed, date(2026, 8, 21), sent_late)
    assert after.arrived == datetime(2026, 8, 21, 6, 59, tzinfo=UTC), "from its hour: it may have been written then"
    sent_early = datetime(2026, 8, 21, 3, tzinfo=UTC)
    early = reach(date(2026, 8, 24), DAILY, utc, confirmed, date(2026, 8, 21), sent_early)
    assert early.arrived == datetime(2026, 8, 21, 2, 59, tzinfo=UTC)
    weekly = reach(date(2026, 8, 24), Turn(1, "weekly", 7, 0), utc, confirmed, date(2026, 8, 23), sent_late)
    assert weekly.arrived == datetime(2026, 8, 17, 7, tzinfo=UTC)

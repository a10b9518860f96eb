"""From due to sent: never lost, never the same paper twice, whatever dies in between."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from paperworks.hub.crash import VARIABLE
from paperworks.hub.digest import send
from paperworks.hub.digest.transports import (
    FileOutbox,
    Letter,
    MailFailure,
    PermanentFailure,
    TransientFailure,
    UnsureFailure,
)
from paperworks.hub.service import digest, subscriptions
from paperworks.hub.store.models import Digest, DigestItem, Seen

from .town import Town, papers_in, part, read, ticket_of

MORNING = "2026-08-22 07:00"
BEAT = Path(__file__).with_name("beat.py")


class Flaky:
    """A transport that does as it is told, one word a letter: ok, transient, permanent, unsure, lost (unsure, did arrive), bug."""

    name = "flaky"
    repeatable = False

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.arrived: list[Letter] = []
        self.tried: list[str] = []

    def hand_over(self, letter: Letter) -> None:
        self.tried.append(letter.message_id)
        word = self.words.pop(0) if self.words else "ok"
        if word in ("ok", "lost"):
            self.arrived.append(letter)
        failures: dict[str, Exception] = {
            "transient": TransientFailure("451 later"),
            "permanent": PermanentFailure("550 no such user"),
            "unsure": UnsureFailure("closed after DATA"),
            "lost": UnsureFailure("closed after DATA"),
            "bug": RuntimeError("a bug in a plugin"),
        }
        if word in failures:
            raise failures[word]

    def close(self) -> None: ...


@pytest.fixture
def flaky(town: Town, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """One subscriber, one due mail, and a transport to be told what to do."""
    town.arrive(3)
    town.join()
    transport = Flaky()
    monkeypatch.setattr(digest, "open_transport", lambda settings: transport)
    town.at(MORNING)
    return transport


def error_of(town: Town) -> str:
    with town.hub.db.read() as session:
        return session.scalars(select(Digest.error)).one()


# -- the same paper never twice -------------------------------------------------------------------------------------


def test_a_paper_comes_once_over_subscriptions_days_and_restarts(town: Town) -> None:
    town.join()
    town.join(kind="query", spec={"query": "pruning"})
    town.join(kind="author", spec={"name": "Ada Writer"})
    for day in range(22, 30):
        town.at(f"2026-08-{day} 05:00")
        town.arrive(4)
        for minute in (0, 0, 30):
            town.at(f"2026-08-{day} 07:{minute:02}")
            town.beat()
    got = [ref for mail in town.digests() for ref in papers_in(mail)]
    assert len(town.digests()) == 8
    assert len(got) == len(set(got)) == 32


def test_more_papers_than_fit_are_not_repeated_and_the_rest_of_a_busy_day_is_dropped(town: Town) -> None:
    town.join()
    town.at("2026-08-22 06:00")
    town.arrive(30)
    town.at(MORNING)
    town.beat()
    town.at("2026-08-23 07:00")
    town.beat()
    assert [len(papers_in(mail)) for mail in town.digests()] == [20]
    assert town.states() == ["sent", "empty"]


def test_a_quiet_day_is_empty_and_sends_nothing_unless_wished(town: Town) -> None:
    town.join()
    town.join("bo@example.org", spec={"categories": ["cs.LG"], "even_if_empty": True})
    town.at("2026-08-23 07:00")
    town.beat()
    assert town.states() == ["empty", "sent"]
    (mail,) = town.digests()
    assert (mail["To"], mail["Subject"]) == ("bo@example.org", "Nothing new · Sunday 23 August")
    assert "No new papers on your topics today." in part(mail, "plain")


# -- hours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "hour", "start", "expected"),
    [
        # 2 o'clock is skipped on 8 March: that day's mail comes at 3 (07:00 UTC)
        ("America/New_York", 2, "2026-03-06 12:00", ["2026-03-07 07:00", "2026-03-08 07:00", "2026-03-09 06:00"]),
        # 1 o'clock comes twice on 1 November: one mail
        ("America/New_York", 1, "2026-10-30 12:00", ["2026-10-31 05:00", "2026-11-01 05:00", "2026-11-02 06:00"]),
        ("Europe/Paris", 7, "2026-10-23 12:00", ["2026-10-24 05:00", "2026-10-25 06:00", "2026-10-26 06:00"]),
    ],
)
def test_one_mail_a_local_day_when_clocks_jump(
    town: Town, zone: str, hour: int, start: str, expected: list[str]
) -> None:
    town.at(start)
    town.join(hour=hour, time_zone=zone)
    sent = []
    for _ in range(3 * 48):
        town.later(minutes=30)
        town.arrive()
        before = len(town.digests())
        town.beat()
        sent += [f"{town.time:%Y-%m-%d %H:%M}"] * (len(town.digests()) - before)
    assert sent == expected


def test_a_weekly_mail_holds_the_week(town: Town) -> None:
    town.join(cadence="weekly", weekday=0)
    for day in range(22, 32):
        town.at(f"2026-08-{day} 07:00")
        town.beat()
        town.arrive()
    assert [(str(mail["Subject"]), len(papers_in(mail))) for mail in town.digests()] == [
        ("2 papers · Monday 24 August", 2),
        ("7 papers · Monday 31 August", 7),
    ]


def test_sending_by_hand_goes_to_all_and_the_hour_repeats_nothing(town: Town) -> None:
    town.arrive()
    town.join(hour=20)
    assert digest.plan_due(town.hub) == 0
    assert digest.plan_due(town.hub, everybody=True) == 1
    assert digest.plan_due(town.hub, everybody=True) == 0
    assert digest.send_due(town.hub).sent == 1
    town.at("2026-08-21 20:00")
    town.beat()
    assert len(town.digests()) == 1


# -- what transports say --------------------------------------------------------------------------------------------


def test_a_transient_failure_is_tried_three_times_over_six_hours(town: Town, flaky: Flaky) -> None:
    flaky.words = ["transient", "transient", "transient"]
    tries = []
    for _ in range(24 * 2):
        n = len(flaky.tried)
        town.beat()
        tries += [town.time] * (len(flaky.tried) - n)
        town.later(minutes=15)
    assert [(at - tries[0]) for at in tries] == [timedelta(0), timedelta(hours=2), timedelta(hours=6)]
    assert town.states() == ["failed"]
    assert "451" in error_of(town)


def test_after_a_transient_failure_the_same_mail_leaves(town: Town, flaky: Flaky) -> None:
    flaky.words = ["transient"]
    town.beat()
    town.arrive(5)  # papers that come in between wait for the next mail
    town.later(hours=2)
    town.beat()
    (letter,) = flaky.arrived
    assert letter.content.count(b"Similar:") == 3
    assert len(set(flaky.tried)) == 1
    assert town.states() == ["sent"]


def test_a_permanent_failure_is_not_tried_again_and_its_papers_come_with_the_next_mail(
    town: Town, flaky: Flaky
) -> None:
    flaky.words = ["permanent"]
    town.beat()
    town.later(hours=12)
    town.beat()
    assert (town.states(), len(flaky.tried)) == (["failed"], 1)
    town.at("2026-08-23 07:00")
    town.beat()
    assert town.states() == ["failed", "sent"]
    assert flaky.arrived[0].content.count(b"Similar:") == 3


@pytest.mark.parametrize("word", ["unsure", "lost", "bug"])
def test_an_unsure_letter_goes_once_more_with_the_same_id_and_not_a_third_time(
    town: Town, flaky: Flaky, word: str
) -> None:
    flaky.words = [word, word, word]
    town.beat()
    town.later(minutes=9)
    town.beat()
    assert len(flaky.tried) == 1, "the lease still holds"
    for _ in range(4):
        town.later(minutes=11)
        town.beat()
    assert len(flaky.tried) == 2
    assert len(set(flaky.tried)) == 1
    assert town.states() == ["failed"]
    assert "may have arrived" in error_of(town)


def test_an_unsure_letter_that_goes_through_the_second_time_is_sent(town: Town, flaky: Flaky) -> None:
    flaky.words = ["lost", "transient"]
    town.beat()
    town.later(minutes=11)
    town.beat()
    town.later(hours=5)
    town.beat()
    assert town.states() == ["sent"]
    assert len(flaky.arrived) == 2
    assert len({letter.message_id for letter in flaky.arrived}) == 1


def test_one_bad_mail_stops_no_other(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.arrive()
    for name in "abc":
        town.join(f"{name}@example.org")
    town.at(MORNING)
    whole = digest._Writer.write

    def broken(self: object, session: object, claim: send.Claim, *rest: object) -> object:
        if claim.email.startswith("b"):
            raise ValueError("cannot write this one")
        return whole(self, session, claim, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(digest._Writer, "write", broken)
    town.beat()
    assert town.states() == ["sent", "planned", "sent"]


def test_who_ends_while_a_mail_is_being_written_does_not_get_it(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.arrive()
    town.join()
    town.at(MORNING)
    town.beat()
    leave = ticket_of(town.digests()[0])
    town.at("2026-08-23 07:00")
    town.arrive()
    whole = digest._Writer.write

    def slow(self: object, *arguments: object) -> object:
        subscriptions.unsubscribe(town.hub, leave)
        return whole(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(digest._Writer, "write", slow)
    town.beat()
    assert town.states() == ["sent", "empty"]
    assert len(town.digests()) == 1


def test_two_senders_at_once_send_each_mail_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.arrive()
    for i in range(12):
        town.join(f"r{i}@example.org")
    town.at(MORNING)
    transport = Flaky()
    monkeypatch.setattr(digest, "open_transport", lambda settings: transport)
    digest.plan_due(town.hub)
    threads = [threading.Thread(target=digest.send_due, args=(town.hub,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(transport.arrived) == 12
    assert len({letter.recipient for letter in transport.arrived}) == 12


# -- the outbox -----------------------------------------------------------------------------------------------------


def letter(content: bytes = b"x\r\n") -> Letter:
    return Letter("<1.2026-08-22@h>", "hub@h", "ada@h", "2026-08-22", content)


def test_a_letter_handed_over_twice_is_there_once_and_never_half(tmp_path: Path) -> None:
    box = FileOutbox(tmp_path)
    box.hand_over(letter(b"first\r\n"))
    box.hand_over(letter(b"second\r\n"))
    assert [path.read_bytes() for path in box.letters()] == [b"first\r\n"]
    (tmp_path / "2026-08-22" / f".half.eml.{2**22 + 1}").write_bytes(b"ha")
    mine = tmp_path / "2026-08-22" / f".mine.eml.{os.getpid()}"
    mine.write_bytes(b"ha")
    assert len(list(box.letters())) == 1
    assert box.sweep() == 1
    assert mine.exists()


def test_an_outbox_that_cannot_be_written_is_tried_again_later(town: Town) -> None:
    town.arrive()
    town.join()
    shutil.rmtree(town.settings.outbox)
    town.settings.outbox.write_text("a file in the way")
    town.at(MORNING)
    town.beat()
    assert town.states() == ["planned"]
    assert "check space and rights" in error_of(town)
    town.settings.outbox.unlink()
    town.later(hours=2)
    town.beat()
    assert (town.states(), len(town.digests())) == (["sent"], 1)


def test_the_outbox_can_be_listed_and_read(town: Town) -> None:
    town.arrive(title="Ünïcode < & >")
    town.join()
    town.at(MORNING)
    town.beat()
    views = digest.outbox(town.hub)
    assert [(view.day, view.recipient, view.subject) for view in views] == [
        ("2026-08-22", "ada@example.org", "1 paper · Saturday 22 August"),
        ("2026-08-21", "ada@example.org", "Please confirm: papers by mail"),
    ]
    opened = digest.outbox_letter(town.hub, views[0].name)
    assert "Ünïcode < & >" in opened.text
    assert "Ünïcode &lt; &amp; &gt;" in opened.html
    assert dict(opened.headers)["To"] == "ada@example.org"
    for wrong in ("", "../../hub.sqlite", "nothing"):
        with pytest.raises(LookupError):
            digest.outbox_letter(town.hub, wrong)


def test_an_unknown_transport_is_refused_with_the_known_ones(town: Town) -> None:
    from paperworks.errors import InputError

    town.settings.mail.transport = "pigeon"
    with pytest.raises(InputError, match="outbox"):
        town.ask()


def test_a_plugin_is_found_by_its_entry_point(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from paperworks.hub.digest import transports

    mine, broken = EntryPoint("mine", "x:Mine", transports.ENTRY_POINT_GROUP), EntryPoint("broken", "nowhere:x", "g")
    monkeypatch.setattr(transports, "entry_points", lambda group: [mine, broken])
    monkeypatch.setattr(EntryPoint, "load", lambda self: (lambda settings: Flaky()) if self.name == "mine" else 1 / 0)
    town.settings.mail.transport = "mine"
    assert transports.open_transport(town.settings).name == "flaky"
    town.settings.mail.transport = "broken"
    with pytest.raises(ValueError, match="'broken'"):
        transports.open_transport(town.settings)
    assert issubclass(UnsureFailure, MailFailure)


# -- killed anywhere ------------------------------------------------------------------------------------------------


def beat(home: Path, at: str, crash_at: str = "") -> int:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PAPERWORKS_")}
    if crash_at:
        env[VARIABLE] = crash_at
    done = subprocess.run([sys.executable, str(BEAT), str(home), at], env=env, capture_output=True, timeout=120)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


def end_state(home: Path) -> tuple[object, ...]:
    """What matters when all is done: mails by their bytes but for Date, rows without attempts."""
    town = Town(home)
    try:
        with town.hub.db.read() as session:
            rows = session.execute(
                select(
                    Digest.subscriber_id,
                    Digest.period,
                    Digest.state,
                    Digest.message_id,
                    Digest.handing_over,
                    Digest.claimed_until,
                )
            )
            digests = sorted(tuple(row) for row in rows)
            items = sorted(
                tuple(row)
                for row in session.execute(select(DigestItem.digest_id, DigestItem.rank, DigestItem.paper_id))
            )
            seen = sorted(tuple(row) for row in session.execute(select(Seen.subscriber_id, Seen.paper_id)))
        mails = {}
        for path in town.mails("digest"):
            lines = [line for line in path.read_bytes().split(b"\r\n") if not line.startswith(b"Date:")]
            mails[f"{path.parent.name}/{path.name}"] = lines
        drafts = [path.name for path in town.settings.outbox.glob("*/.*")]
        return digests, items, seen, mails, drafts
    finally:
        town.hub.close()


@pytest.fixture(scope="module")
def due_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[object, ...]]:
    """A hub's folder with three due mails, and the state in which an undisturbed sender leaves it."""
    home = tmp_path_factory.mktemp("due") / "home"
    town = Town(home)
    town.arrive(5)
    town.arrive(2, category="cs.CV")
    for name, codes in (("a", ["cs.LG"]), ("b", ["cs.CV"]), ("c", ["cs"])):
        town.join(f"{name}@example.org", "topic", {"categories": codes})
    town.hub.close()
    town.hub.db.close()
    calm = home.parent / "calm"
    shutil.copytree(home, calm)
    assert beat(calm, MORNING) == 0
    state = end_state(calm)
    assert len(state[3]) == 3  # type: ignore[arg-type]
    return home, state


@pytest.mark.slow
@pytest.mark.parametrize(("point", "nth"), [(point, 2 if n else 1) for n, point in enumerate(send.CRASH_POINTS)])
def test_killed_at_any_point_and_run_again_the_end_state_is_the_same(
    due_home: tuple[Path, tuple[object, ...]], tmp_path: Path, point: str, nth: int
) -> None:
    original, calm = due_home
    home = tmp_path / "home"
    shutil.copytree(original, home)
    assert beat(home, MORNING, f"{point}:{nth}") == -signal.SIGKILL
    assert beat(home, "2026-08-22 07:05") == 0, "the lease of the dead one still holds; the others go on"
    assert beat(home, "2026-08-22 07:11") == 0
    assert end_state(home) == calm


@pytest.mark.slow
def test_killed_again_and_again(due_home: tuple[Path, tuple[object, ...]], tmp_path: Path) -> None:
    original, calm = due_home
    home = tmp_path / "home"
    shutil.copytree(original, home)
    for n, point in enumerate(send.CRASH_POINTS[1:]):
        beat(home, f"2026-08-22 {7 + n // 4:02}:{15 * (n % 4):02}", point)
    assert beat(home, "2026-08-22 10:00") == 0
    assert end_state(home) == calm


def test_every_named_point_is_passed(monkeypatch: pytest.MonkeyPatch, town: Town) -> None:
    from paperworks.hub import crash

    passed: list[str] = []
    monkeypatch.setattr(crash, "point", passed.append)
    town.arrive()
    town.join()
    town.at(MORNING)
    passed.clear()
    town.beat()
    assert passed == list(send.CRASH_POINTS)
    assert read(town.mails("digest")[0])["To"] == "ada@example.org"

"""Turns of sources: what is kept, what is refused, what stops a source, and what a killed turn leaves behind."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from paperworks.catalogue import Catalogue
from paperworks.config import Settings, load
from paperworks.errors import InputError, NotFound, SourceError, StoreError
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.records import Batch, PaperRecord, RefusedEntry
from paperworks.hub.service import intake, papers
from paperworks.hub.sources import base
from paperworks.hub.sources.http import PoliteClient
from paperworks.hub.store.lock import intake_turn
from paperworks.hub.store.models import Audit, Intake, Paper, Refused, Source


def record(n: int, **more: Any) -> PaperRecord:
    return PaperRecord(
        **{"title": f"Title {n}", "abstract": f"Abstract {n}.", "arxiv": f"2301.{n:05}", "authors": ("A B",)} | more
    )


class Told:
    """A source that yields what it is told to, and raises what it finds among it."""

    kind = "told"
    name = "told"

    def __init__(self, *items: Batch | BaseException) -> None:
        self.items = items
        self.cursors: list[str | None] = []

    def fetch(self, cursor: str | None, http: PoliteClient) -> Iterator[Batch]:
        self.cursors.append(cursor)
        for item in self.items:
            if isinstance(item, BaseException):
                raise item
            yield item


@pytest.fixture
def told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Told:
    """The only source of the hub, whose items a test changes."""
    source = Told()
    monkeypatch.setattr(intake, "open_source", lambda kind, config, settings: source)
    intake.add_source(hub, "told", "told")
    return source


def cursor(hub: Hub, name: str = "told") -> str | None:
    with hub.db.read() as session:
        return session.scalars(select(Source.cursor).where(Source.name == name)).one()


def n_papers(hub: Hub) -> int:
    with hub.db.read() as session:
        return session.scalar(select(func.count()).select_from(Paper)) or 0


# -- a turn ---------------------------------------------------------------------------------------------------------


def test_a_turn_is_counted_logged_and_goes_on_from_its_cursor(hub: Hub, told: Told) -> None:
    told.items = (
        Batch(records=(record(1), record(2)), cursor="a", requests=1),
        Batch(records=(record(1),), cursor="b", requests=2),
    )
    (view,) = intake.run_intake(hub)
    assert (view.state, view.new, view.same, view.requests) == ("done", 2, 1, 3)
    assert intake.intake_log(hub) == [view]
    intake.run_intake(hub)
    assert told.cursors == [None, "b"]
    (source,) = intake.sources(hub)
    assert (source.papers, source.failures) == (2, 0)
    assert source.due == "2026-08-22T09:30:00Z"


def test_refusals_keep_the_rest(hub: Hub, told: Told) -> None:
    told.items = (Batch(records=tuple(record(n) for n in range(3)), refused=(RefusedEntry(ordinal=4, reason="no title", raw="<x>"),), cursor="a"),)  # fmt: skip
    (view,) = intake.run_intake(hub)
    assert (view.state, view.new, view.refused) == ("refusals", 3, 1)
    (entry,) = intake.refused(hub, view.id)
    assert (entry.ordinal, entry.reason, entry.raw, entry.settled) == (4, "no title", "<x>", False)
    assert cursor(hub) == "a"
    with pytest.raises(NotFound, match="intake log"):
        intake.refused(hub, 999)


def test_an_answer_that_is_not_what_was_asked_moves_nothing(hub: Hub, told: Told) -> None:
    told.items = (Batch(records=(record(1),), cursor="a"), SourceError("arXiv answered with an HTML page"))
    (view,) = intake.run_intake(hub)
    assert (view.state, view.new) == ("failed", 1)
    assert "HTML page" in view.message
    assert cursor(hub) == "a", "the batch before it is kept"
    (source,) = intake.sources(hub)
    assert source.failures == 1
    assert source.due == "2026-08-21T09:45:00Z"
    assert "HTML page" in source.explanation


def test_failures_wait_longer_and_longer_and_are_forgotten_after_a_success(hub: Hub, told: Told) -> None:
    told.items = (SourceError("down"),)
    dues = [(intake.run_intake(hub), intake.sources(hub)[0].due)[1] for _ in range(9)]
    assert dues[:3] == ["2026-08-21T09:45:00Z", "2026-08-21T10:00:00Z", "2026-08-21T10:30:00Z"]
    assert dues[-1] == "2026-08-22T09:30:00Z", "a day at most"
    assert intake.run_intake(hub, due_only=True) == []
    told.items = ()
    intake.run_intake(hub, "told")
    assert intake.sources(hub)[0].failures == 0


def test_a_third_of_a_batch_refused_pauses_the_source_and_keeps_its_cursor(hub: Hub, told: Told) -> None:
    refused = tuple(RefusedEntry(ordinal=n, reason="no `title` in the entry", raw=str(n)) for n in range(7))
    bad = Batch(records=tuple(record(n) for n in range(10, 23)), refused=refused, cursor="b")
    told.items = (Batch(records=(record(1),), cursor="a"), bad, Batch(records=(record(2),), cursor="c"))
    (view,) = intake.run_intake(hub)
    assert view.state == "failed"
    assert "7 of 20 entries could not be read" in view.message
    assert "no `title`" in view.message
    assert cursor(hub) == "a"
    assert len(intake.refused(hub, view.id)) == 7
    (source,) = intake.sources(hub)
    assert source.paused_reason is not None
    assert "Paused" in source.explanation
    assert intake.run_intake(hub) == [], "it is not asked again by itself"
    intake.run_intake(hub, "told")
    assert len(intake.refused(hub, waiting_only=True)) == 7, "what waits already is not kept twice"
    with hub.db.read() as session:
        assert session.scalars(select(Audit.action)).all()[:1] == ["source-paused"]
    told.items = ()
    (view,) = intake.run_intake(hub, "told")
    assert view.state == "done"
    assert intake.sources(hub)[0].paused_reason is None


@pytest.mark.parametrize(("n_good", "n_bad"), [(2, 1), (0, 3), (14, 7)])
def test_few_refusals_and_exactly_a_third_pause_nothing(hub: Hub, told: Told, n_good: int, n_bad: int) -> None:
    refused = tuple(RefusedEntry(ordinal=n, reason="bad", raw=str(n)) for n in range(n_bad))
    told.items = (Batch(records=tuple(record(n) for n in range(n_good)), refused=refused, cursor="a"),)
    (view,) = intake.run_intake(hub)
    assert view.state == "refusals"
    assert cursor(hub) == "a"


def test_a_rehearsal_counts_and_keeps_nothing(hub: Hub, told: Told) -> None:
    told.items = (Batch(records=(record(1), record(2)), cursor="a"),)
    (view,) = intake.run_intake(hub, dry_run=True)
    assert (view.new, view.id) == (2, 0)
    assert n_papers(hub) == 0
    assert cursor(hub) is None
    assert intake.intake_log(hub) == []


def test_a_source_that_breaks_does_not_stop_the_others(hub: Hub, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    told.items = (ZeroDivisionError("oops"),)
    intake.add_source(hub, "told", "another")
    views = intake.run_intake(hub)
    assert [view.state for view in views] == ["failed", "failed"]
    assert "ZeroDivisionError: oops" in views[0].message


def test_a_turn_that_is_stopped_by_hand_is_interrupted(hub: Hub, told: Told) -> None:
    told.items = (Batch(records=(record(1),), cursor="a"), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        intake.run_intake(hub)
    (view,) = intake.intake_log(hub)
    assert (view.state, view.new) == ("interrupted", 1)
    assert cursor(hub) == "a"


def test_one_turn_a_source_at_a_time(hub: Hub, told: Told) -> None:
    with intake_turn(hub.home, "told"):
        with pytest.raises(StoreError, match="going on already"):
            intake.run_intake(hub, "told")
        (view,) = intake.run_intake(hub)
        assert view.state == "failed"
    assert intake.intake_log(hub) == []


def test_a_dead_turn_is_marked_by_the_next(hub: Hub, told: Told) -> None:
    with hub.db.write() as session:
        source_id = session.scalars(select(Source.id).where(Source.name == "told")).one()
        session.add(Intake(source_id=source_id, started="2026-08-20T09:30:00Z"))
    intake.run_intake(hub)
    assert [view.state for view in intake.intake_log(hub)] == ["done", "interrupted"]


# -- sources --------------------------------------------------------------------------------------------------------


def test_sources_are_checked_at_the_door(hub: Hub) -> None:
    with pytest.raises(InputError, match="no source of kind 'gopher'"):
        intake.add_source(hub, "gopher")
    with pytest.raises(InputError, match="takes"):
        intake.add_source(hub, "hf-daily", colour="green")
    intake.add_source(hub, "hf-daily", "mine")
    with pytest.raises(InputError, match="of kind hf-daily already"):
        intake.add_source(hub, "arxiv", "mine", sets=["cs:cs:LG"])
    with pytest.raises(NotFound, match="known: 'mine'"):
        intake.run_intake(hub, "other")
    assert [source.name for source in intake.sources(hub)] == ["mine"]


def test_silence_at_the_weekend_is_explained(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    saturday = datetime(2026, 8, 22, 9, tzinfo=UTC)
    with open_hub(home, catalogue=Catalogue(), clock=lambda: saturday) as hub:
        intake.add_source(hub, "arxiv", "arXiv", sets=["cs:cs:LG"])
        monkeypatch.setattr(intake, "open_source", lambda *_: Told())
        intake.run_intake(hub)
        assert "announces nothing on Saturday" in intake.sources(hub)[0].explanation
        assert "announces nothing on Saturday" in papers.day_page(hub, "2026-08-22").explanation


def test_the_built_in_kinds_take_the_settings_that_the_hub_gives_them(hub: Hub) -> None:
    """`since` and `name` are added by a turn; a kind that chokes on them fails only when it is asked."""
    for kind, config in (("arxiv", {"sets": ["cs:cs:LG"]}), ("hf-daily", {})):
        assert base.open_source(kind, {**config, "name": "x", "since": "2026-08-01"}, hub.settings.sources).name == "x"


# -- files ----------------------------------------------------------------------------------------------------------


def lines(n: int, *, bad: tuple[int, ...] = (), start: int = 0) -> str:
    return "".join(
        "{not json\n"
        if i in bad
        else json.dumps({"id": f"2301.{i:05}", "title": f"Title {i}", "authors": ["A B", f"C D{i % 7}"], "abstract": f"About {i}.", "date": "2026-08-21", "categories": ["cs.LG"]}) + "\n"
        for i in range(start, start + n)
    )  # fmt: skip


def test_a_file_comes_in_and_its_bad_lines_are_named(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "papers.jsonl"
    file.write_text(lines(50, bad=(7, 30)))
    view = papers.import_files(hub, [file])
    assert (view.state, view.new, view.refused) == ("refusals", 48, 2)
    assert [entry.ordinal for entry in intake.refused(hub, view.id)] == [8, 31]
    again = papers.import_files(hub, [file])
    assert (again.new, again.changed, again.same, again.refused) == (0, 0, 0, 0), "unchanged, so not read again"
    file.write_text(lines(51, bad=(7, 30)))
    longer = papers.import_files(hub, [file])
    assert (longer.new, longer.same) == (1, 48)
    assert len(intake.refused(hub, waiting_only=True)) == 2


def test_several_files_are_summed_up(hub: Hub, tmp_path: Path) -> None:
    for n in range(2):
        (tmp_path / f"{n}.jsonl").write_text(lines(5, start=5 * n))
    view = papers.import_files(hub, [tmp_path / "0.jsonl", str(tmp_path / "1.jsonl")])
    assert (view.state, view.new) == ("done", 10)
    with pytest.raises(SourceError, match="there is no file"):
        papers.import_files(hub, [tmp_path / "nothing.jsonl"])
    with pytest.raises(InputError, match="at least one file"):
        papers.import_files(hub, [])


def test_a_file_of_rubbish_stops_but_can_be_mended(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "papers.jsonl"
    file.write_text(lines(30, bad=tuple(range(12))))
    view = papers.import_files(hub, [file])
    assert view.state == "failed"
    assert "12 of 30 entries could not be read" in view.message
    file.write_text(lines(30))
    assert papers.import_files(hub, [file]).state == "done"
    assert n_papers(hub) == 30


def test_what_was_refused_has_a_second_chance(hub: Hub, tmp_path: Path) -> None:
    """A table of votes comes before its papers: every line waits, and counts once the papers are there."""
    votes = tmp_path / "votes.csv"
    votes.write_text("id,observed_at,upvotes\n2301.00001,2026-08-20T08:00:00Z,7\n2301.00099,2026-08-20T08:00:00Z,9\n")
    assert papers.import_files(hub, [votes]).refused == 2
    (tmp_path / "papers.jsonl").write_text(lines(3))
    papers.import_files(hub, [tmp_path / "papers.jsonl"])
    view = intake.retry_refused(hub)
    assert (view.same + view.changed, view.refused) == (1, 1)
    assert [entry.settled for entry in intake.refused(hub)] == [True, False]
    with hub.db.read() as session:
        assert (
            session.scalars(select(Refused.reason).where(Refused.settled.is_(False)))
            .one()
            .startswith("no paper arxiv 2301.00099")
        )
    assert intake.retry_refused(hub).refused == 1


def test_a_line_mended_by_a_newer_reader_is_taken_in(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "papers.jsonl"
    file.write_text(lines(3, bad=(1,)))
    papers.import_files(hub, [file])
    with hub.db.write() as session:
        session.scalars(select(Refused)).one().raw = lines(1, start=1)
    assert intake.retry_refused(hub).new == 1
    assert intake.refused(hub, waiting_only=True) == []


# -- killed ---------------------------------------------------------------------------------------------------------

CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from paperworks.catalogue import Catalogue
from paperworks.config import load
from paperworks.hub.hub import open_hub
from paperworks.hub.service import intake, papers
intake.TOGETHER = 40  # many transactions
from paperworks.hub.sources import files
files.BATCH = 40
print("ready", flush=True)
with open_hub(load(sys.argv[1]), catalogue=Catalogue(), clock=lambda: datetime(2026, 8, 21, 9, 30, tzinfo=UTC)) as hub:
    papers.import_files(hub, [sys.argv[2]])
"""
TABLES = ("paper", "identifier", "author", "authorship", "paper_category", "source", "refused", "paper_fts_vocab")


def end_state(home: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(home / "hub.sqlite")) as connection:
        connection.execute("INSERT INTO paper_fts (paper_fts, rank) VALUES ('integrity-check', 1)")
        state = {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in TABLES}
        sums = connection.execute("SELECT sum(new), sum(changed), sum(same), sum(refused) FROM intake").fetchall()
    return {**state, "refused": [row[2:] for row in state["refused"]], "intake": sums}


def test_a_killed_import_ends_in_the_same_state(tmp_path: Path) -> None:
    """SIGKILL at random moments, from the making of the tables to the last batch; then once more to the end."""
    file = tmp_path / "papers.jsonl"
    file.write_text(lines(2400, bad=tuple(range(5, 2400, 211))))

    def start(home: Path) -> subprocess.Popen[str]:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(home), str(file)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    began = time.monotonic()
    assert start(tmp_path / "plain").wait() == 0
    whole = time.monotonic() - began
    rng = random.Random(20260821)
    kills = 0
    for _ in range(5):
        child = start(tmp_path / "killed")
        try:
            child.wait(timeout=rng.uniform(0.02, 0.6 * whole))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
    assert start(tmp_path / "killed").wait() == 0
    assert kills >= 2
    plain, killed = end_state(tmp_path / "plain"), end_state(tmp_path / "killed")
    assert len(plain["paper"]) == 2400 - 12
    for table, rows in plain.items():
        assert killed[table] == rows, table


def test_a_hub_killed_in_the_middle_opens_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = tmp_path / "papers.jsonl"
    file.write_text(lines(1500))
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(home), str(file)], stdout=subprocess.PIPE, text=True)
    database = home / "hub.sqlite-wal"
    while not (database.exists() and database.stat().st_size > 2_000_000) and child.poll() is None:
        time.sleep(0.005)
    child.kill()
    child.wait()
    with open_hub(load(home), catalogue=Catalogue()) as hub:
        before = n_papers(hub)
        view = papers.import_files(hub, [file])
        assert view.same == 0, "what was taken in is not read again"
        assert before + view.new == 1500

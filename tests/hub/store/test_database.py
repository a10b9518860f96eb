"""Opening, reading, writing, migrating; and what is said when the folder or the disk does not play along."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import OperationalError

from paperworks.config import Settings, load
from paperworks.errors import StoreError
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.store.database import Database, newest_schema
from paperworks.hub.store.gate import DatabaseGate
from paperworks.hub.store.lock import intake_turn, serving
from paperworks.hub.store.models import Base, Fact


@pytest.fixture
def db(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    made.migrate()
    return made


def test_migrations_make_the_tables_that_the_models_describe(db: Database) -> None:
    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or not str(name).startswith("paper_fts")

    with create_engine(db.url).connect() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the index over an expression cannot be compared; the next test looks at it
        context = MigrationContext.configure(connection, opts={"include_name": ours, "compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    assert db.schema() == newest_schema()
    assert db.is_current()


def test_lists_by_day_use_their_index(db: Database) -> None:
    from paperworks.hub.service.papers import PAPER_DAY

    with db.read() as session:
        plan = session.execute(text(f"EXPLAIN QUERY PLAN SELECT id FROM paper WHERE {PAPER_DAY} = '2026-08-21'")).all()
    assert "ix_paper_day" in str(plan)


def test_migrating_twice_changes_nothing(db: Database) -> None:
    db.migrate()
    assert db.schema() == newest_schema()


def test_a_killed_migration_leaves_the_database_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = Database(f"sqlite:///{tmp_path / 'hub.sqlite'}")

    def broken(connection: object, cursor: object, statement: str, *_rest: object) -> None:
        if "CREATE TRIGGER paper_fts_update" in statement:
            raise RuntimeError("killed")

    event.listen(db._writing, "before_cursor_execute", broken)
    with pytest.raises(RuntimeError, match="killed"):
        db.migrate()
    event.remove(db._writing, "before_cursor_execute", broken)
    assert db.schema() is None
    with db.read() as session:
        assert session.execute(text("SELECT count(*) FROM sqlite_schema")).scalar() == 0
    db.migrate()
    assert db.is_current()


def test_a_database_of_a_newer_program_is_refused(db: Database) -> None:
    with db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"newer paperworks \(schema 9999\).*upgrade"):
        db.migrate()


def test_an_older_schema_is_copied_before_it_is_migrated(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from paperworks.hub import hub as module

    with open_hub(home):
        pass
    monkeypatch.setattr(module, "newest_schema", lambda: "0002")
    with open_hub(home):
        pass
    (copy,) = (home.home / "backups").glob("before-migration-from-0001-*.sqlite")
    assert Database(f"sqlite:///{copy}").schema() == "0001"


def test_the_words_index_follows_the_papers(db: Database) -> None:
    def found(word: str) -> list[int]:
        with db.read() as session:
            return list(
                session.execute(
                    text("SELECT rowid FROM paper_fts WHERE paper_fts MATCH :word"), {"word": word}
                ).scalars()
            )

    columns = "(id, title, title_key, first_seen, abstract, abstract_source, authors_text, primary_category, latest_version, comment, journal_ref, licence, withdrawn, provenance)"  # fmt: skip
    with db.write() as session:
        session.execute(text(f"INSERT INTO paper {columns} VALUES (1, 'Pruning networks', 'x', '2026', 'Café', '', 'José Peña', '', 1, '', '', '', 0, '{{}}')"))  # fmt: skip
    assert found("prune") == found("cafe") == found("pena") == [1]
    with db.write() as session:
        session.execute(text("UPDATE paper SET title = 'Distilling networks' WHERE id = 1"))
    assert (found("prune"), found("distill")) == ([], [1])
    with db.write() as session:
        session.execute(text("DELETE FROM paper"))
        session.execute(text("INSERT INTO paper_fts (paper_fts, rank) VALUES ('integrity-check', 1)"))
    assert found("distill") == []


# -- reading and writing --------------------------------------------------------------------------------------------


def test_an_error_undoes_the_whole_write(db: Database) -> None:
    def write() -> None:
        with db.write() as session:
            session.add(Fact(name="a", value="1"))
            session.flush()
            raise KeyError("stop")

    with pytest.raises(KeyError):
        write()
    with db.read() as session:
        assert session.get(Fact, "a") is None


def test_readers_see_one_state_while_a_writer_writes(db: Database) -> None:
    with db.read() as reader:
        assert reader.get(Fact, "a") is None
        with db.write() as writer:
            writer.add(Fact(name="a", value="1"))
        assert reader.execute(text("SELECT count(*) FROM fact")).scalar() == 0
    with db.read() as reader:
        assert reader.execute(text("SELECT count(*) FROM fact")).scalar() == 1


def test_a_reader_cannot_write(db: Database) -> None:
    def write() -> None:
        with db.read() as session:
            session.execute(text("INSERT INTO fact VALUES ('a', '1')"))

    with pytest.raises((StoreError, OperationalError), match="readonly"):
        write()


def test_writers_queue_and_lose_nothing(db: Database) -> None:
    with db.write() as session:
        session.add(Fact(name="n", value="0"))

    def count() -> None:
        for _ in range(25):
            with db.write() as session:
                fact = session.get_one(Fact, "n")
                fact.value = str(int(fact.value) + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as session:
        assert session.get_one(Fact, "n").value == "100"


def test_a_write_inside_a_write_is_told_and_does_not_hang(db: Database) -> None:
    def nested() -> None:
        with db.write(), db.write():
            pass

    with pytest.raises(StoreError, match="inside another write"):
        nested()
    with db.write() as session:  # and the lock is free again
        session.add(Fact(name="a", value="1"))


def test_another_program_that_writes_too_long_is_told(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paperworks.hub.store.database.BUSY_MS", 50)
    other = Database(db.url.render_as_string())

    def write() -> None:
        with other.write():
            pass

    with db.write(), pytest.raises(StoreError, match="another program has been writing"):
        write()


# -- disk and folder ------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_nothing_is_half_written(db: Database) -> None:
    """SQLite is told that the file may not grow: it then says what it says on a full disk."""

    @event.listens_for(db._writing, "connect", insert=False)
    def small(connection: Callable[..., object], _record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")  # type: ignore[attr-defined]

    db.close()

    def fill() -> None:
        with db.write() as session:
            for n in range(1000):
                session.execute(text("INSERT INTO fact VALUES (:n, :v)"), {"n": str(n), "v": "x" * 1000})

    with pytest.raises(StoreError, match=r"disk is full.*free some space"):
        fill()
    with db.read() as session:
        assert session.execute(text("SELECT count(*) FROM fact")).scalar() == 0
        assert session.execute(text("PRAGMA integrity_check")).scalar() == "ok"


def write_into(folder: Path) -> str:
    """What comes of writing into the hub in `folder`."""
    try:
        with open_hub(load(folder)) as hub, hub.db.write() as session:
            session.add(Fact(name="a", value="1"))
    except StoreError as error:
        return f"StoreError: {error}"
    return "written"


def as_nobody(folder: Path) -> str:
    """The same for an account without rights: a superuser may write everywhere, so a child gives its rights up."""
    if os.getuid() != 0:
        return write_into(folder)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(theirs, write_into(folder).encode())
        except BaseException as error:  # noqa: BLE001 - whatever it was, the parent is to read it
            os.write(theirs, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize("what", ["folder", "file", "parent"])
def test_a_read_only_place_is_told_with_a_way_out(what: str) -> None:
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer) / "hub"
        if what != "parent":
            with open_hub(load(folder)):
                pass
            for path in [*folder.rglob("*"), folder]:
                path.chmod(0o777 if path.is_dir() else 0o666)
            if what == "folder":
                folder.chmod(0o555)
            else:
                (folder / "hub.sqlite").chmod(0o444)
        said = as_nobody(folder)
    assert said.startswith("StoreError: ")
    assert "check" in said
    assert "permissions" in said
    assert str(folder) in said


def test_a_file_that_is_no_database_is_told(home: Settings) -> None:
    (home.home / "hub.sqlite").write_bytes(b"this is not a database, not even a small one" * 50)
    with pytest.raises(StoreError, match=r"not a database.*restore"):
        open_hub(home)


def test_no_hub_without_create(home: Settings, tmp_path: Path) -> None:
    for settings in (home, load(tmp_path / "nowhere")):
        with pytest.raises(StoreError, match="paperworks init"):
            open_hub(settings, create=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(StoreError, match="must be a file"):
        Database("sqlite://")


# -- locks and gates ------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from paperworks.hub.store.lock import serving
with serving(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_server_is_kept_off_the_folder_until_the_first_is_dead(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def second() -> None:
        with serving(tmp_path):
            pass

    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=rf"another paperworks serves .*process {first.pid}.*--home"):
            second()
    finally:
        first.kill()  # not a word of goodbye: the lock file and the note stay
        first.wait()
    second()


def test_two_intakes_from_one_source_exclude_each_other_in_one_process(tmp_path: Path) -> None:
    def second(name: str) -> None:
        with intake_turn(tmp_path, name):
            pass

    with intake_turn(tmp_path, "arXiv cs:cs:LG"):
        with pytest.raises(StoreError, match="going on already"):
            second("arXiv cs:cs:LG")
        second("arXiv cs:cs-LG")  # another source, however alike


def test_turns_of_two_processes_do_not_add_up(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hub.sqlite'}"
    Database(url).migrate()
    now, slept = [1000.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    server, command = (DatabaseGate(Database(url), {"arxiv": 3.0}, sleep=sleep, clock=lambda: now[0]) for _ in range(2))
    times = []
    for gate in (server, command, server, command):
        gate.wait("arxiv")
        times.append(now[0])
    assert times == [1000, 1003, 1006, 1009]
    server.wait("example.org")
    assert len(slept) == 3, "no gap is asked for elsewhere"


def test_a_clock_that_was_set_back_does_not_stop_the_gate(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    db.migrate()
    now, slept = [1e9], []
    gate = DatabaseGate(db, {"arxiv": 3.0}, sleep=slept.append, clock=lambda: now[0])
    gate.wait("arxiv")
    now[0] -= 86400
    gate.wait("arxiv")
    assert slept == []


def test_a_hub_has_one_reader(hub: Hub) -> None:
    assert hub.reader_id == 1
    with hub.db.read() as session:
        assert session.execute(text("SELECT count(*) FROM reader")).scalar() == 1

"""Open the database, read from it, write to it. One writer at a time, readers beside it, no half-written state.

SQLite by default (WAL; readers never wait for the writer), PostgreSQL by its URL. What SQLite says when the disk is full, the
folder read-only or the file damaged becomes a StoreError with the way out.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from paperworks.errors import StoreError

log = logging.getLogger(__name__)
BUSY_MS = 5000
MIGRATIONS = Path(__file__).parent / "migrations"

# What the database's own message contains -> what it means, what a person can do about it.
_CAUSES = (
    ("disk is full", "the disk is full", "free some space and run this again; nothing was half-written"),
    ("readonly", "it cannot be written to", "check owner and permissions of the folder, or choose another with --home"),
    ("unable to open", "it cannot be opened", "check that the folder exists and that you may read and write it, or choose another with --home"),
    ("disk i/o", "the disk gave an error", "check its space and health; if the hub does not open afterwards, restore a backup"),
    ("is locked", "another program has been writing for more than five seconds", "wait for it to end, then run this again"),
    ("malformed", "the file is damaged", "restore the last backup: paperworks restore FILE.zip"),
    ("not a database", "the file is not a database", "move it away, or restore the last backup: paperworks restore FILE.zip"),
    ("no such table", "its tables are missing or older than this program", "run: paperworks migrate"),
    ("no such column", "its tables are older than this program", "run: paperworks migrate"),
)  # fmt: skip


class Database:
    """A database by its SQLAlchemy URL. Opening is lazy: nothing is touched before the first read, write or migration.

    Within one process all writers queue at one lock; between processes SQLite's own lock decides, with five seconds of patience.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and not self.path:
            raise StoreError("the hub's database must be a file, since each reader and the writer open it on their own")
        self._writer = threading.Lock()
        self._holder: int | None = None
        self._reading = self._engine("BEGIN", query_only=True)
        self._writing = self._engine("BEGIN IMMEDIATE", query_only=False)

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database, None for a server's."""
        in_file = self.is_sqlite and self.url.database not in (None, "", ":memory:")
        return Path(str(self.url.database)) if in_file else None

    @property
    def name(self) -> str:
        """How messages call it; without a password."""
        return str(self.path) if self.path else self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on a connection of its own that sees one unchanging state; SQLite refuses what it tries to write."""
        with self.explained(), Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that holds the write lock from the start, commits at the end and rolls back on any error.

        Not re-entrant: a second `write` inside the block of the first, in the same thread, raises StoreError.
        """
        with (
            self.explained(),
            self._one_writer(),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            session.connection()  # take the write lock now, not at the first statement
            yield session

    def close(self) -> None:
        """Close all connections. The object can be used again; connections are opened anew."""
        self._reading.dispose()
        self._writing.dispose()

    def schema(self) -> str | None:
        """The migration that the tables stand at; None for an empty database."""
        if self.path and not self.path.exists():
            return None
        with self.explained(), self._reading.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def is_current(self) -> bool:
        """Whether the tables are those of this program."""
        return self.schema() == newest_schema()

    def migrate(self) -> None:
        """Bring the tables up to this program's, in one transaction: it happens whole or not at all.

        Raises StoreError when the tables are newer than the program.
        """
        at = self.schema()
        config = _alembic_config()
        if at is not None and at not in {
            script.revision for script in ScriptDirectory.from_config(config).walk_revisions()
        }:
            raise StoreError(
                f"the database {self.name} was written by a newer paperworks (schema {at}); upgrade the program, or restore an "
                "older backup"
            )
        with self.explained(), self._one_writer(), self._writing.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        log.info("tables migrated from=%s to=%s", at or "empty", newest_schema())

    def copy_to(self, target: Path) -> None:
        """Copy a consistent state into a new file while others go on reading and writing, then check the copy.

        Raises StoreError when the copy does not pass SQLite's integrity check, or the database is not SQLite.
        """
        if self.path is None:
            raise StoreError(f"{self.name} is not SQLite; back it up with its own tool (pg_dump)")
        with self.explained(), closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(target)) as copy:
            source.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, no companions
            verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            raise StoreError(
                f"the copy of {self.name} is damaged ({verdict}), so the original may be too; run: paperworks doctor"
            )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the database says about disk, permissions and locks into a StoreError that says what to do."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            raw = error.orig if isinstance(error, DBAPIError) else error
            for sign, cause, way_out in _CAUSES:
                if sign in str(raw).lower():
                    raise StoreError(f"the database {self.name}: {cause} ({raw}); {way_out}") from error
            raise

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        if self._holder == threading.get_ident():
            raise StoreError(
                "a write was begun inside another write of the same thread; pass the open session on instead"
            )
        with self._writer:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None

    def _engine(self, begin: str, *, query_only: bool) -> Engine:
        if not self.is_sqlite:
            return create_engine(self.url, pool_pre_ping=True)
        engine = create_engine(self.url, connect_args={"timeout": BUSY_MS / 1000}, pool_size=4, max_overflow=28)

        @event.listens_for(engine, "connect")
        def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves, else Python begins late and never immediately
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            if not query_only:
                cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.execute(
                "PRAGMA wal_autocheckpoint = 8192"
            )  # pages: 32 MiB; hot pages of a bulk import are copied back less often
            cursor.execute("PRAGMA temp_store = MEMORY")
            cursor.execute("PRAGMA cache_size = -65536")  # KiB: 64 MiB; with the default of 2 MB bulk imports thrash
            cursor.execute("PRAGMA mmap_size = 1073741824")
            if query_only:
                cursor.execute("PRAGMA query_only = ON")
            cursor.close()

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Any) -> None:
            connection.exec_driver_sql(begin)

        return engine


def newest_schema() -> str:
    """The newest migration of this program."""
    newest = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    assert newest is not None, "the package ships with at least one migration"
    return newest


def _alembic_config() -> Config:
    config = Config()  # made here, so that no file beside the program is needed
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config

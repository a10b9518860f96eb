"""An opened hub: settings, database, catalogue, records and clock. The verbs are plain functions of it, in `hub/service/`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy import select

from paperworks import catalogue as catalogue_module
from paperworks.catalogue import Catalogue
from paperworks.config import Settings
from paperworks.errors import StoreError
from paperworks.hub.store.database import Database, newest_schema
from paperworks.hub.store.models import Reader
from paperworks.hub.store.seed import seed_catalogue
from paperworks.hub.times import utc_now, utc_text

if TYPE_CHECKING:
    from paperworks.claims.store import RecordStore

log = logging.getLogger(__name__)
FOLDERS = ("records", "outbox", "vectors", "backups", "locks")


class Hub:
    """What every verb is given. Make one with `open_hub`; usable as a context manager, from any thread."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        catalogue: Catalogue,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.settings = settings
        self.db = db
        self.catalogue = catalogue
        self._clock = clock

    @property
    def home(self) -> Path:
        """The folder that holds everything of this hub."""
        return self.settings.home

    def now(self) -> datetime:
        """The moment by the hub's clock, with time zone UTC."""
        return self._clock().astimezone(UTC)

    @cached_property
    def records(self) -> RecordStore:
        """Records of measurements: those made here, and those that came with the release."""
        from paperworks.claims.store import RecordStore

        return RecordStore.of(self.settings)

    @cached_property
    def reader_id(self) -> int:
        """The one reader of a hub without accounts."""
        with self.db.read() as session:
            found = session.scalar(select(Reader.id).order_by(Reader.id).limit(1))
        if found is not None:
            return found
        with self.db.write() as session:
            found = session.scalar(select(Reader.id).order_by(Reader.id).limit(1))
            if found is not None:
                return found
            reader = Reader(display="you", role="admin", created=utc_text(self.now()))
            session.add(reader)
            session.flush()
            return reader.id

    def close(self) -> None:
        """Close all connections to the database."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_hub(
    settings: Settings,
    *,
    create: bool = True,
    catalogue: Catalogue | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Hub:
    """Open the hub in `settings.home`; with `create`, make what is not there yet.

    Tables of an older release are brought up to date after a copy of the database has been put into `backups/`. The papers of
    the catalogue are entered as papers of the store.

    Raises StoreError for a folder that cannot be used, for a database of a newer release, and, without `create`, where there
    is no hub.
    """
    home = settings.home
    db = Database(settings.database_url)
    if not create and (not home.is_dir() or (db.path and not db.path.exists())):
        raise StoreError(f"there is no hub in {home}; run `paperworks init`, or name its folder with --home")
    _make_folders(home)
    hub = Hub(settings, db, catalogue if catalogue is not None else catalogue_module.catalogue(), clock)
    try:
        at = db.schema()
        if at != newest_schema():
            if at is not None and db.path:
                _copy_before_migration(hub, at)
            db.migrate()
        seed_catalogue(db, hub.catalogue, hub.now())
        _ = hub.reader_id
    except BaseException:
        hub.close()
        raise
    return hub


def _make_folders(home: Path) -> None:
    try:
        for name in ("", *FOLDERS):
            (home / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the hub's folder {home} cannot be made: {error.strerror}; check owner, permissions and free space, or choose "
            "another folder with --home"
        ) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise StoreError(
            f"the hub's folder {home} cannot be written to; check its owner and permissions, or choose another with --home"
        )


def _copy_before_migration(hub: Hub, schema: str) -> None:
    stamp = hub.now().strftime("%Y%m%dT%H%M%SZ")
    target = hub.home / "backups" / f"before-migration-from-{schema}-{stamp}.sqlite"
    hub.db.copy_to(target)
    log.info("database copied before its migration file=%s", target)

"""The whole hub in one zip, and back again.

A backup holds a consistent copy of the database, checked after copying, the settings without passwords, and the records of
measurements. The outbox and the vectors are left out: mails have their own life, vectors are made anew by `reindex`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
import stat
import tempfile
import zipfile
from contextlib import closing
from datetime import datetime
from pathlib import Path, PurePosixPath

from paperworks._version import __version__
from paperworks.config import SETTINGS_FILE
from paperworks.errors import InputError, StoreError
from paperworks.hub.store.database import Database
from paperworks.hub.store.lock import serving
from paperworks.hub.times import utc_text
from paperworks.progress import size

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
DATABASE = "hub.sqlite"
LARGEST = 64 * 1024**3  # unpacked bytes of a backup
LARGEST_SMALL = 64 * 1024**2  # of one record or of the settings
MOST_RATIO = 200  # unpacked to packed; text packs about 5 to 1
_SECRET = re.compile(r"^(\s*[\w.\"-]*(?:password|secret|token)[\w\"-]*\s*=\s*).*$", re.IGNORECASE | re.MULTILINE)
_RECORD = re.compile(r"records/(?:[\w.-]{1,120}/)?[\w.-]{1,200}\.json", re.ASCII)
DAILY, WEEKLY = 7, 4


def backup(db: Database, home: Path, target: Path, now: datetime, *, secrets: bool = False) -> Path:
    """Write the hub into the new zip file `target`, while others go on using it.

    secrets: keep passwords in the settings. Raises InputError when `target` exists, StoreError when it cannot be written or the
    copy of the database does not pass its check.
    """
    target = target.expanduser().absolute()
    if target.exists():
        raise InputError(f"{target} exists already; name a new file")
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
            copy = Path(folder) / DATABASE
            db.copy_to(copy)
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
                files = {DATABASE: copy.stat().st_size}
                archive.write(copy, DATABASE)
                for record in sorted((home / "records").glob("**/*.json")):
                    name = record.relative_to(home).as_posix()
                    if _RECORD.fullmatch(name):
                        archive.write(record, name)
                        files[name] = archive.getinfo(name).file_size
                settings = home / SETTINGS_FILE
                if settings.exists():
                    text = settings.read_text(encoding="utf-8")
                    archive.writestr(SETTINGS_FILE, text if secrets else _SECRET.sub(r'\1""', text))
                    files[SETTINGS_FILE] = archive.getinfo(SETTINGS_FILE).file_size
                manifest = {"paperworks": __version__, "schema": db.schema(), "made": utc_text(now), "files": files}
                archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise StoreError(
            f"the backup {target} cannot be written: {error.strerror or error}; check permissions and free space, the hub itself is untouched"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    log.info("backup written file=%s size=%s", target, size(target.stat().st_size))
    return target


def restore(source: Path, home: Path, now: datetime) -> Path | None:
    """Put the backup `source` into the folder `home`; what was there is moved into `backups/before-restore-...`.

    Everything is unpacked and checked beside the folder first, so a bad backup changes nothing. Returns where the old state is,
    None when there was none. Raises InputError for a file that is no backup of a hub, StoreError when a server uses the folder or it
    cannot be written.
    """
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    try:
        (home / "locks").mkdir(parents=True, exist_ok=True)
        with serving(home), tempfile.TemporaryDirectory(dir=home, prefix=".restore-") as folder:
            fresh = Path(folder)
            _unpack(source, fresh)
            kept = home / "backups" / f"before-restore-{stamp}"
            kept.mkdir(parents=True)
            _fold_in(home / DATABASE)
            moved = False
            for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", SETTINGS_FILE, "records", "vectors"):
                if name == SETTINGS_FILE and not (fresh / name).exists():
                    continue
                if (home / name).exists():
                    os.replace(home / name, kept / name)
                    moved = True
            for item in fresh.iterdir():
                os.replace(item, home / item.name)
            if not moved:
                kept.rmdir()
    except OSError as error:
        raise StoreError(
            f"{source} cannot be restored into {home}: {error.strerror or error}; check permissions and free space"
        ) from error
    return kept if moved else None


def _fold_in(database: Path) -> None:
    """Bring what is still in the write-ahead log into the file that is moved away."""
    if database.exists():
        try:
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:  # a damaged database is a reason to restore, not to refuse it
            log.warning("the old database could not be read: %s", error)


def _unpack(source: Path, fresh: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            sizes = _checked(archive, source)
            for name in sizes:
                if name == MANIFEST:
                    continue
                target = fresh / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as packed, target.open("xb") as file:
                    shutil.copyfileobj(packed, file, 1024 * 1024)
    except FileNotFoundError:
        raise InputError(f"there is no file {source}; give the path of a backup") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise InputError(
            f"{source} is not a whole zip file ({error}); nothing was changed, take another backup"
        ) from error
    try:
        with closing(sqlite3.connect(fresh / DATABASE)) as connection:
            verdict = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
            connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict != "ok":
        raise InputError(f"the database in {source} is damaged ({verdict}); nothing was changed, take another backup")


def _checked(archive: zipfile.ZipFile, source: Path) -> dict[str, int]:
    """Name -> size of every member; refuses whatever a backup of ours does not hold."""

    def wrong(what: str) -> InputError:
        return InputError(f"{source} is not a backup of a paperworks hub: {what}; nothing was changed")

    members = archive.infolist()
    sizes = {member.filename: member.file_size for member in members}
    if len(sizes) != len(members):
        raise wrong("a name occurs twice")
    for member in members:
        name = member.filename
        if name not in (MANIFEST, DATABASE, SETTINGS_FILE) and not _RECORD.fullmatch(name):
            raise wrong(f"it holds {name[:100]!r}")
        if ".." in PurePosixPath(name).parts or stat.S_ISLNK(member.external_attr >> 16):
            raise wrong(f"{name[:100]!r} points elsewhere")
        if name != DATABASE and member.file_size > LARGEST_SMALL:
            raise wrong(f"{name[:100]!r} has {size(member.file_size)}")
        if member.file_size > 1_000_000 and member.file_size > MOST_RATIO * max(member.compress_size, 1):
            raise wrong(f"{name[:100]!r} unpacks from {size(member.compress_size)} to {size(member.file_size)}")
    if sum(sizes.values()) > LARGEST:
        raise wrong(f"it unpacks to {size(sum(sizes.values()))}")
    if MANIFEST not in sizes or DATABASE not in sizes:
        raise wrong(f"it lacks {MANIFEST if MANIFEST not in sizes else DATABASE}")
    try:
        stated = json.loads(archive.read(MANIFEST))["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise wrong(f"its {MANIFEST} cannot be read") from error
    if stated != {name: n for name, n in sizes.items() if name != MANIFEST}:
        raise wrong("names or sizes differ from its manifest")
    return sizes


def nightly(db: Database, home: Path, now: datetime) -> Path | None:
    """Today's backup in `backups/`, if it is not there yet; then keep the last 7 days and, beside them, 4 weeks (their Mondays)."""
    folder = home / "backups"
    target = folder / f"hub-{now.date().isoformat()}.zip"
    made = None if target.exists() else backup(db, home, target, now)
    days = sorted((path for path in folder.glob("hub-????-??-??.zip")), reverse=True)
    dates = {path: _date(path) for path in days}
    mondays = [path for path in days if (day := dates[path]) and day.weekday() == 0][:WEEKLY]
    for path in days[DAILY:]:
        if path not in mondays and dates[path]:
            path.unlink(missing_ok=True)
    return made


def _date(path: Path) -> datetime | None:
    try:
        return datetime.strptime(path.stem, "hub-%Y-%m-%d")
    except ValueError:
        return None

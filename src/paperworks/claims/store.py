"""Find the records that are known: those of the release, and those of this installation."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from paperworks.catalogue import SCALES, Scale
from paperworks.claims.places import committed_records
from paperworks.claims.record import Record
from paperworks.config import Settings
from paperworks.errors import NotFound, StoreError


@dataclass(frozen=True, slots=True)
class BrokenRecord:
    """A file that should have been a record."""

    path: Path
    message: str


class RecordStore:
    """The records in some folders (`*.json`, directly or one folder down). Reading again is cheap: files are parsed once.

    A file that cannot be read is named by `problems()` and raises nothing. Safe to use from several threads.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = tuple(folders)
        self._parsed: dict[Path, tuple[tuple[int, int], Record | BrokenRecord]] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> RecordStore:
        """The release's records and those of the hub's folder."""
        return cls([committed_records(), settings.records])

    def all(self, slug: str | None = None, claim: str | None = None, scale: Scale | None = None) -> list[Record]:
        """Records, newest first, all or only those of a paper, a claim, a scale."""
        found = [
            item
            for item in self._scan().values()
            if isinstance(item, Record)
            and (slug is None or item.slug == slug)
            and (claim is None or item.claim == claim)
            and (scale is None or item.scale == scale)
        ]
        return sorted(found, key=lambda record: record.ended, reverse=True)

    def latest(self, slug: str, claim: str, scale: Scale | None = None) -> Record | None:
        """The newest record, whatever came of it."""
        return next(iter(self.all(slug, claim, scale)), None)

    def best(self, slug: str, claim: str) -> Record | None:
        """The best known: among those with a verdict the largest scale, and of these the newest."""
        return best_among(self.all(slug, claim))

    def best_of_all(self) -> dict[tuple[str, str], Record]:
        """The best known of every (slug, claim) that has one."""
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in self.all():
            groups.setdefault((record.slug, record.claim), []).append(record)
        return {key: best for key, records in sorted(groups.items()) if (best := best_among(records)) is not None}

    def files(self) -> dict[Path, Record]:
        """Every record with the file that it came from, from one look at the folders."""
        return {path: item for path, item in self._scan().items() if isinstance(item, Record)}

    def path(self, name: str) -> Path:
        """The file of a record by its name, for a download. Raises NotFound."""
        for path, item in self._scan().items():
            if path.name == name and isinstance(item, Record):
                return path
        raise NotFound(f"no record {name!r}; `paperworks measured list` names those that are known")

    def file_of(self, record: Record) -> Path | None:
        """Where a record that came from this store lies."""
        return next((path for path, item in self._scan().items() if item is record), None)

    def problems(self) -> list[BrokenRecord]:
        """The files that could not be read, with the reason."""
        return [item for item in self._scan().values() if isinstance(item, BrokenRecord)]

    def _scan(self) -> dict[Path, Record | BrokenRecord]:
        seen: dict[Path, tuple[tuple[int, int], Record | BrokenRecord]] = {}
        with self._lock:
            for folder in self.folders:
                for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
                    if path.name.startswith(".") or path in seen:
                        continue
                    try:
                        stat = path.stat()
                    except OSError:
                        continue  # gone since it was listed
                    stamp = (stat.st_mtime_ns, stat.st_size)
                    known = self._parsed.get(path)
                    seen[path] = known if known is not None and known[0] == stamp else (stamp, _parse(path))
            self._parsed = seen
            return {path: item for path, (_, item) in seen.items()}


def _parse(path: Path) -> Record | BrokenRecord:
    try:
        return Record.read(path)
    except StoreError as error:
        return BrokenRecord(path, str(error))


def best_among(records: list[Record]) -> Record | None:
    """Among those with a verdict the largest scale, and of these the newest; None when none has a verdict."""
    return max(
        (record for record in records if record.has_verdict),
        key=lambda record: (SCALES.index(record.scale), record.ended),
        default=None,
    )

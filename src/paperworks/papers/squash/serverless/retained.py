"""What a warm container keeps: files in its temporary folder, named by their content, so that the next call fetches nothing again.

The paper keeps arrays in the memory of a process. Functions started through Lithops are a fresh process each, so memory does not
survive a call; files do, as long as the container lives, and mapped into memory they stay in the page cache. A file is written
aside, its digest is checked, then it gets its name: whatever has the name is whole. Several processes may share the folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.errors import ObjectMissing, ServerlessError
from paperworks.papers.squash.serverless.store import ObjectRef, Store

log = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$")
_COUNTED = ("hits", "misses", "bytes_hit", "bytes_fetched")
_STALE_S = 3600.0  # an unfinished download this old belongs to nobody


def default_root() -> Path:
    """The folder that containers keep files in: PAPERWORKS_SQUASH_CACHE, or one of this user's below the temporary folder."""
    chosen = os.environ.get("PAPERWORKS_SQUASH_CACHE")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"paperworks-squash-{os.getuid()}"


class RetainedFiles:
    """Files by content in `root`, at most `max_bytes` of them, the least recently used leave first.

    max_bytes None: four fifths of what is free on that disk, with what is kept already. verify: read a kept file through again
    before it is used (a second a gigabyte or so); otherwise its size is compared.
    `hits`, `misses`, `bytes_hit`, `bytes_fetched` count since this object was made.
    """

    def __init__(self, root: str | Path | None = None, *, max_bytes: int | None = None, verify: bool = False) -> None:
        if max_bytes is not None and max_bytes < 1:
            raise InputError(f"max_bytes must be 1 or more, got {max_bytes}")
        self.root = Path(root) if root is not None else default_root()
        self.verify = verify
        self._lock = threading.Lock()
        self.hits = self.misses = self.bytes_hit = self.bytes_fetched = 0
        _private_folder(self.root)
        for name in ("objects", "views", "aside"):
            (self.root / name).mkdir(mode=0o700, exist_ok=True)
        for path in (self.root / "aside").iterdir():
            if _age(path) > _STALE_S:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if max_bytes is None:
            max_bytes = (shutil.disk_usage(self.root).free + self.kept_bytes()) * 4 // 5
        self.max_bytes = max_bytes

    def counts(self) -> dict[str, int]:
        """hits, misses, bytes_hit and bytes_fetched so far."""
        return {name: getattr(self, name) for name in _COUNTED}

    def kept_bytes(self) -> int:
        """Bytes of the files kept now."""
        return sum(size for _, size, _ in self._kept())

    def folder(self, files: Mapping[str, ObjectRef], store: Store) -> Path:
        """The folder of `take`, without its counts."""
        return self.take(files, store)[0]

    def take(self, files: Mapping[str, ObjectRef], store: Store) -> tuple[Path, dict[str, int]]:
        """A folder in which each name of `files` is that content, fetched from `store` where it is not kept.

        The files are links, to be opened at once: another process may make room for its own. Raises ObjectMissing when the store
        lacks one or has another content under its name, ServerlessError when `files` are more than `max_bytes` together.
        Beside the folder come hits, misses, bytes_hit and bytes_fetched of this call.
        """
        needed = dict.fromkeys(files.values())
        total = sum(ref.size for ref in needed)
        if total > self.max_bytes:
            raise ServerlessError(
                f"a piece of the index takes {total} bytes and {self.root} may keep {self.max_bytes}; give the functions more "
                "temporary storage, or build the index with more partitions"
            )
        counts = dict.fromkeys(_COUNTED, 0)
        for ref in needed:
            fetched = self._ensure(ref, store, frozenset(needed))
            counts["misses" if fetched else "hits"] += 1
            counts["bytes_fetched" if fetched else "bytes_hit"] += ref.size
        with self._lock:
            for name, value in counts.items():
                setattr(self, name, getattr(self, name) + value)
        listing = "\n".join(f"{name}\0{ref.sha256}" for name, ref in sorted(files.items()))
        view = self.root / "views" / hashlib.sha256(listing.encode()).hexdigest()[:32]
        if not view.is_dir():
            self._make_view(view, files)
        return view, counts

    def content(self, sha256: str, key: str, store: Store) -> tuple[bytes, dict[str, int]]:
        """A small object whose digest is known and whose size is not, read through each time -> its bytes, and counts as in `take`.

        Raises ObjectMissing when the store lacks `key`, or has another content there.
        """
        counts = dict.fromkeys(_COUNTED, 0)
        path = self.root / "objects" / sha256
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                os.utime(path)
                counts.update(hits=1, bytes_hit=len(data))
                return data, counts
        except FileNotFoundError:
            pass
        data = store.get(key)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ObjectMissing(f"{key} in the store is damaged; deploy the index again")
        self._make_room(len(data), frozenset())
        descriptor, name = tempfile.mkstemp(dir=self.root / "aside")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        counts.update(misses=1, bytes_fetched=len(data))
        return data, counts

    def _object(self, ref: ObjectRef) -> Path:
        return self.root / "objects" / ref.sha256

    def _is_kept(self, ref: ObjectRef) -> bool:
        path = self._object(ref)
        try:
            if path.stat().st_size != ref.size or (self.verify and ObjectRef.of_file(path) != ref):
                log.warning("%s was damaged and is fetched again", path)
                path.unlink(missing_ok=True)
                return False
            os.utime(path)  # used now: last to leave
        except FileNotFoundError:
            return False
        return True

    def _ensure(self, ref: ObjectRef, store: Store, pinned: frozenset[ObjectRef]) -> bool:
        """Keep that content; True when it had to be fetched."""
        if self._is_kept(ref):
            return False
        with FileLock(self.root / "aside" / f"{ref.sha256[:32]}.lock"):
            if self._is_kept(ref):  # somebody fetched it while we waited
                return False
            self._fetch(ref, store, pinned)
            return True

    def _fetch(self, ref: ObjectRef, store: Store, pinned: frozenset[ObjectRef]) -> None:
        self._make_room(ref.size, pinned)
        descriptor, name = tempfile.mkstemp(dir=self.root / "aside")
        digest, size = hashlib.sha256(), 0
        try:
            with os.fdopen(descriptor, "wb") as file:
                for block in store.blocks(ref.key):
                    digest.update(block)
                    size += len(block)
                    if size > ref.size:
                        break
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            if (digest.hexdigest(), size) != (ref.sha256, ref.size):
                raise ObjectMissing(f"{ref.key} in the store is not what was deployed; deploy the index again")
            os.chmod(name, 0o400)
            os.replace(name, self._object(ref))
        finally:
            Path(name).unlink(missing_ok=True)

    def _kept(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in (self.root / "objects").iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            found.append((status.st_mtime, status.st_size, path))
        return sorted(found)

    def _make_room(self, n_bytes: int, pinned: frozenset[ObjectRef]) -> None:
        """Let the least recently used files go until `n_bytes` more fit; a file that is mapped somewhere stays readable there."""
        with FileLock(self.root / "aside" / "room.lock"):
            kept = self._kept()
            excess = sum(size for _, size, _ in kept) + n_bytes - self.max_bytes
            stay = {ref.sha256 for ref in pinned}
            for _, size, path in kept:
                if excess <= 0:
                    return
                if path.name not in stay:
                    path.unlink(missing_ok=True)
                    excess -= size
            for view in (self.root / "views").iterdir():
                if any(not link.exists() for link in view.rglob("*") if link.is_symlink()):
                    shutil.rmtree(view, ignore_errors=True)

    def _make_view(self, view: Path, files: Mapping[str, ObjectRef]) -> None:
        aside = Path(tempfile.mkdtemp(dir=self.root / "aside"))
        try:
            for name, ref in files.items():
                if not _FILE_NAME.match(name):
                    raise InputError(f"not a name of a file of an index: {name!r}")
                link = aside / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self._object(ref).resolve())
            try:
                os.rename(aside, view)
            except OSError:
                if not view.is_dir():  # else another process made the same view
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _private_folder(root: Path) -> None:
    """Make `root` for this user alone; refuse one that somebody else could have prepared."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.stat()
    if root.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise InputError(
            f"{root} may be written to by others; remove it or set PAPERWORKS_SQUASH_CACHE to a folder of yours"
        )


def from_config(config: Mapping[str, Any]) -> RetainedFiles:
    """The files kept where `config` (root, max_bytes, verify; all optional) says."""
    return RetainedFiles(
        config.get("root"), max_bytes=config.get("max_bytes"), verify=bool(config.get("verify", False))
    )

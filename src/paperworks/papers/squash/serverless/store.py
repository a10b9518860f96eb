"""Where the pieces of an index lie: a folder, or a bucket of any object storage that Lithops knows (S3, MinIO, GCS, Azure, ...).

Both answer the same few calls and count requests and bytes. Objects are named by their content (`retained.py`), so they are written
once and never changed; the one name that moves is the pointer to the newest deployment (`deploy.py`).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from paperworks.errors import InputError, MissingExtra
from paperworks.papers.squash.serverless.errors import ObjectMissing, ServerlessError

_BLOCK = 1 << 20
_NAME = re.compile(r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")


@dataclass
class Traffic:
    """Requests and bytes since the store was opened; safe to add to from several threads."""

    n_gets: int = 0
    n_puts: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def read(self, n_bytes: int) -> None:
        with self._lock:
            self.n_gets += 1
            self.bytes_read += n_bytes

    def wrote(self, n_bytes: int) -> None:
        with self._lock:
            self.n_puts += 1
            self.bytes_written += n_bytes


@dataclass(frozen=True)
class ObjectRef:
    """An object by its content: SHA-256 in hexadecimal, and bytes."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not isinstance(self.sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InputError(f"not a SHA-256 digest: {self.sha256!r}")
        if type(self.size) is not int or self.size < 0:
            raise InputError(f"an object has 0 bytes or more, got {self.size!r}")

    @property
    def key(self) -> str:
        """Its name in a store."""
        return f"objects/{self.sha256[:2]}/{self.sha256}"

    @classmethod
    def of_file(cls, path: Path) -> ObjectRef:
        """The reference of a file's content, read in blocks."""
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
        return cls(digest.hexdigest(), size)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Store(Protocol):
    """What the roles need of a storage; keys are relative and use `/`."""

    traffic: Traffic

    def get(self, key: str) -> bytes:
        """A whole object. ObjectMissing when there is none."""

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Bytes start ... stop - 1. ObjectMissing when there is no such object or it is shorter."""

    def blocks(self, key: str) -> Iterator[bytes]:
        """A whole object in blocks, for files larger than memory."""

    def put(self, key: str, data: bytes) -> None:
        """Write a small object, replacing what was there, whole or not at all."""

    def put_file(self, key: str, path: Path) -> None:
        """Write a file as an object."""

    def size(self, key: str) -> int | None:
        """Bytes of an object, or None when there is none."""

    def keys(self, prefix: str) -> list[str]:
        """Names that begin with `prefix`."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""


def _checked(key: str) -> str:
    if not _NAME.match(key) or ".." in key.split("/"):
        raise InputError(f"not a name of an object: {key!r}")
    return key


class FolderStore:
    """Objects as files below a folder, for one machine or a shared file system."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.traffic = Traffic()

    def _path(self, key: str) -> Path:
        return self.root / _checked(key)

    def get(self, key: str) -> bytes:
        """See `Store`."""
        return b"".join(self.blocks(key))

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """See `Store`."""
        try:
            with self._path(key).open("rb") as file:
                file.seek(start)
                data = file.read(stop - start)
        except OSError as error:
            raise ObjectMissing(f"{key} is not in {self.root}: {error.strerror}") from error
        if len(data) != stop - start:
            raise ObjectMissing(f"{key} in {self.root} ends before byte {stop}; deploy the index again")
        self.traffic.read(len(data))
        return data

    def blocks(self, key: str) -> Iterator[bytes]:
        """See `Store`."""
        n_bytes = 0
        try:
            with self._path(key).open("rb") as file:
                while block := file.read(_BLOCK):
                    n_bytes += len(block)
                    yield block
        except OSError as error:
            raise ObjectMissing(f"{key} is not in {self.root}: {error.strerror}") from error
        self.traffic.read(n_bytes)

    def _write(self, key: str, blocks: Iterator[bytes]) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".aside-")
        n_bytes = 0
        try:
            with os.fdopen(descriptor, "wb") as file:
                for block in blocks:
                    n_bytes += file.write(block)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        self.traffic.wrote(n_bytes)

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        self._write(key, iter([data]))

    def put_file(self, key: str, path: Path) -> None:
        """See `Store`."""
        with path.open("rb") as file:
            self._write(key, iter(lambda: file.read(_BLOCK), b""))

    def size(self, key: str) -> int | None:
        """See `Store`."""
        path = self._path(key)
        return path.stat().st_size if path.is_file() else None

    def keys(self, prefix: str) -> list[str]:
        """See `Store`."""
        files = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return sorted(key for key in files if key.startswith(prefix) and "/.aside-" not in f"/{key}")

    def delete(self, key: str) -> None:
        """See `Store`."""
        self._path(key).unlink(missing_ok=True)


class BucketStore:
    """Objects below `prefix` in a bucket, through a `lithops.Storage`: inside a function Lithops hands one over.

    An S3-compatible server of your own is Lithops' `minio` or `ceph` backend with its endpoint.
    """

    def __init__(self, storage: Any, bucket: str, prefix: str = "") -> None:
        self.storage = storage
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.traffic = Traffic()

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{_checked(key)}" if self.prefix else _checked(key)

    def _missing(self, key: str, error: BaseException) -> ServerlessError:
        """Lithops' backends name a missing object each in their own way; every failure keeps its cause."""
        return ObjectMissing(
            f"{self._key(key)} cannot be read from bucket {self.bucket}: {type(error).__name__}: {error}"
        )

    def get(self, key: str) -> bytes:
        """See `Store`."""
        return b"".join(self.blocks(key))

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """See `Store`."""
        if stop <= start:
            return b""
        wanted = {"Range": f"bytes={start}-{stop - 1}"}
        try:
            data: bytes = self.storage.get_object(self.bucket, self._key(key), extra_get_args=wanted)
        except Exception as error:
            raise self._missing(key, error) from error
        if len(data) != stop - start:
            raise ObjectMissing(
                f"{self._key(key)} in bucket {self.bucket} ends before byte {stop}; deploy the index again"
            )
        self.traffic.read(len(data))
        return data

    def blocks(self, key: str) -> Iterator[bytes]:
        """See `Store`."""
        n_bytes = 0
        try:
            stream = self.storage.get_object(self.bucket, self._key(key), stream=True)
            while block := stream.read(_BLOCK):
                n_bytes += len(block)
                yield block
        except Exception as error:
            raise self._missing(key, error) from error
        self.traffic.read(n_bytes)

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        try:
            self.storage.put_object(self.bucket, self._key(key), data)
        except Exception as error:
            raise ServerlessError(f"{self._key(key)} cannot be written to bucket {self.bucket}: {error}") from error
        self.traffic.wrote(len(data))

    def put_file(self, key: str, path: Path) -> None:
        """See `Store`."""
        if (
            self.storage.upload_file(str(path), self.bucket, self._key(key)) is False
            or self.size(key) != path.stat().st_size
        ):
            raise ServerlessError(f"{path.name} could not be written to bucket {self.bucket} as {self._key(key)}")
        self.traffic.wrote(path.stat().st_size)

    def size(self, key: str) -> int | None:
        """See `Store`."""
        try:
            head = self.storage.head_object(self.bucket, self._key(key))
        except Exception as error:
            if _is_absent(error):
                return None
            raise self._missing(key, error) from error
        return int(next(value for name, value in head.items() if name.lower() in ("content-length", "contentlength")))

    def keys(self, prefix: str) -> list[str]:
        """See `Store`."""
        start = f"{self.prefix}/" if self.prefix else ""
        return sorted(key.removeprefix(start) for key in self.storage.list_keys(self.bucket, start + prefix))

    def delete(self, key: str) -> None:
        """See `Store`."""
        self.storage.delete_object(self.bucket, self._key(key))


def _is_absent(error: Exception) -> bool:
    if type(error).__name__ == "StorageNoSuchKeyError":
        return True
    response = getattr(error, "response", None)
    return isinstance(response, dict) and str(response.get("Error", {}).get("Code")) in ("404", "NoSuchKey", "NotFound")


def open_store(location: str | Path, storage: Any = None, config: dict[str, Any] | None = None) -> Store:
    """The store at `location`: a folder, or `s3://bucket/prefix` (any scheme: the backend is the one in Lithops' configuration).

    storage: a `lithops.Storage` to use; else one is made from `config` (None: Lithops finds its own configuration).
    Raises MissingExtra when a bucket is asked for and Lithops is not installed.
    """
    text = str(location)
    scheme, found, rest = text.partition("://")
    if not found or scheme == "file":
        return FolderStore(rest if found else location)
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise InputError(f"no bucket in {text!r}; write s3://bucket/prefix")
    if storage is None:
        try:
            from lithops import Storage
        except ImportError as error:
            raise MissingExtra("a bucket as the store of papers.squash", "serverless") from error
        storage = Storage(config=config)
    return BucketStore(storage, bucket, prefix)


def coalesce(rows: np.ndarray, row_bytes: int, gap_bytes: int) -> list[tuple[int, int]]:
    """Spans [first, stop) of ascending rows (n,), joined when at most `gap_bytes` of unwanted rows lie between.

    >>> coalesce(np.array([1, 2, 4, 90]), row_bytes=100, gap_bytes=100)
    [(1, 5), (90, 91)]
    """
    if rows.size == 0:
        return []
    breaks = np.flatnonzero((np.diff(rows) - 1) * row_bytes > gap_bytes)
    firsts = rows[np.r_[0, breaks + 1]]
    lasts = rows[np.r_[breaks, rows.size - 1]]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


def read_rows(
    store: Store,
    key: str,
    rows: np.ndarray,
    dtype: Any,
    width: int,
    offset: int = 0,
    gap_bytes: int = 64 << 10,
    threads: int = 8,
    used: Traffic | None = None,
) -> np.ndarray:
    """Rows of a matrix (any, width) that lies in an object from byte `offset` on, by few ranged reads -> (n, width).

    rows: any order, repeats allowed; every row is read once. gap_bytes: unwanted bytes worth reading to save a request (64 KiB is
    about what a request costs in time on S3). used: counts this call's requests and bytes. ObjectMissing when the object is too short.
    """
    dtype = np.dtype(dtype)
    row_bytes = dtype.itemsize * width
    wanted, place = np.unique(np.asarray(rows, np.int64), return_inverse=True)
    if wanted.size and wanted[0] < 0:
        raise InputError(f"rows are counted from 0, got {wanted[0]}")
    out = np.empty((wanted.size, width), dtype)

    def fetch(span: tuple[int, int]) -> None:
        first, stop = span
        data = store.get_range(key, offset + first * row_bytes, offset + stop * row_bytes)
        if used is not None:
            used.read(len(data))
        inside = slice(*np.searchsorted(wanted, (first, stop)))
        out[inside] = np.frombuffer(data, dtype).reshape(-1, width)[wanted[inside] - first]

    spans = coalesce(wanted, row_bytes, gap_bytes)
    if len(spans) > 1 and threads > 1:
        with ThreadPoolExecutor(min(threads, len(spans))) as pool:
            list(pool.map(fetch, spans))
    else:
        for span in spans:
            fetch(span)
    return out[place.reshape(-1)]

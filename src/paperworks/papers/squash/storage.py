"""The folder of an index: a manifest beside one data folder, replaced as a whole.

    idx/manifest.json          format, version, schema, and for each file its bytes and SHA-256; a sum over the manifest itself
    idx/data-1f0c9a2e/*.npy    raw arrays in storage order, and `attributes/` with the columns

A save writes a new data folder, flushes it to the disk, and then puts the new manifest in place by one rename: a reader
sees the old index or the new one, never a mix, and a crash or a full disk leaves the old one. Readers that have the old
files open keep them; the old data folder is removed after the rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import StoreError

FORMAT = "paperworks squash index"
VERSION = 1
MANIFEST = "manifest.json"
ATTEMPTS = 20  # a reader starts over so often when a writer replaces the index under it
_DATA = re.compile(r"data-[0-9a-f]{12}\Z")
_FILE = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)?\.(npy|json)\Z")
_BLOCK = 1 << 22


class DamagedIndex(StoreError):
    """A file of an index is missing, truncated or changed, or the folder holds something else."""


class NewerIndex(StoreError):
    """The index was written by a later version of this package."""


@dataclass(frozen=True)
class OpenedFolder:
    """A checked manifest: `schema` as it was saved, `data` the folder with the files, `files` name -> bytes and SHA-256."""

    data: Path
    schema: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    def load(self, name: str, mmap: bool = True) -> np.ndarray:
        """One array, memory-mapped (read-only) or in memory."""
        path = self.data / f"{name}.npy"
        try:
            array: np.ndarray = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, EOFError) as error:
            if mmap and "empty file" in str(error):  # an array without elements cannot be mapped
                return np.load(path, allow_pickle=False)
            raise DamagedIndex(f"{path} cannot be read as an array ({error}); save the index again") from error
        return array

    def has(self, name: str) -> bool:
        """Whether the array is part of the index."""
        return f"{name}.npy" in self.files


def write_folder(folder: str | Path, schema: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """Put a new index into `folder` (made if needed) in place of the one there.

    write(path) writes every file of the index below `path`, a new folder beside the data in force. Raises StoreError for a
    folder that holds something else, and when the disk is full or cannot be written: the index there stays as it was.
    """
    folder = Path(folder)
    _refuse_foreign(folder)
    data = folder / f"data-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data.mkdir()
        write(data)
        files = {
            path.relative_to(data).as_posix(): {"bytes": path.stat().st_size, "sha256": _digest(path, flush=True)}
            for path in sorted(data.rglob("*"))
            if path.is_file()
        }
        for path in (*(p for p in data.rglob("*") if p.is_dir()), data):
            _flush_folder(path)
        content = {"format": FORMAT, "version": VERSION, "data": data.name, "schema": dict(schema), "files": files}
        content["sum"] = _sum(content)
        beside = folder / f"{MANIFEST}.{uuid.uuid4().hex[:8]}"
        try:
            with beside.open("w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, folder / MANIFEST)
        finally:
            beside.unlink(missing_ok=True)
        _flush_folder(folder)
    except BaseException as error:
        shutil.rmtree(data, ignore_errors=True)
        if isinstance(error, OSError):
            raise StoreError(
                f"the index cannot be written to {folder}: {error.strerror or error}; check free space and permissions. "
                "What was there before is unchanged"
            ) from error
        raise
    for other in folder.iterdir():
        if _DATA.match(other.name) and other != data:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def open_folder(
    folder: str | Path, *, verify: str = "resident", big: tuple[str, ...] = ("vectors.npy",)
) -> OpenedFolder:
    """Read and check the manifest of an index.

    verify: "sizes" compares the bytes of every file; "resident" (default) also the SHA-256 of all files but `big`, which are
    read in places and not at once; "all" of every file. Raises DamagedIndex, NewerIndex, StoreError.
    """
    folder = Path(folder)
    if verify not in ("sizes", "resident", "all"):
        raise StoreError(f"verify must be 'sizes', 'resident' or 'all', got {verify!r}")
    content = _manifest(folder)
    data = folder / content["data"]
    for name, known in content["files"].items():
        path = data / name
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            if _manifest(folder)["data"] != data.name:
                raise  # replaced meanwhile: the caller starts over
            raise DamagedIndex(f"{path} is missing; copy the whole folder, or save the index again") from error
        if size != known["bytes"]:
            raise DamagedIndex(
                f"{path} has {size:,} bytes instead of {known['bytes']:,}; copy it again, or save the index again"
            )
        if verify == "all" or (verify == "resident" and name not in big):
            digest = _digest(path)
            if digest != known["sha256"]:
                raise DamagedIndex(
                    f"{path} is not what was saved (its SHA-256 differs); copy it again, or save the index again"
                )
    return OpenedFolder(data, content["schema"], content["files"])


def read_steadily(read: Callable[[], Any]) -> Any:
    """Call `read`, again when files vanish because a writer replaced the index meanwhile."""
    for attempt in range(ATTEMPTS):
        try:
            return read()
        except FileNotFoundError as error:
            if attempt == ATTEMPTS - 1:
                raise DamagedIndex(f"a file of the index is missing: {error.filename}") from error
    raise AssertionError("unreachable")


def save_array(folder: Path, name: str, array: np.ndarray) -> None:
    """Write one raw array; `folder` is the path that `write_folder` gave."""
    with (folder / f"{name}.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
        )
        step = max(1, _BLOCK // max(1, array[:1].nbytes)) if array.ndim else 1
        for start in range(0, len(array), step):
            file.write(np.ascontiguousarray(array[start : start + step]).data)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DamagedIndex(f"{folder} holds no index: there is no {MANIFEST}") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DamagedIndex(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DamagedIndex(f"{path} is not the manifest of a SQUASH index")
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise NewerIndex(
            f"{folder} has format version {content.get('version')}, this package reads up to {VERSION}; update paperworks"
        )
    if content.get("sum") != _sum(content):
        raise DamagedIndex(f"{path} was changed after it was saved; save the index again")
    names_fit = all(_FILE.match(name) for name in content["files"])
    if not _DATA.match(str(content["data"])) or not names_fit:
        raise DamagedIndex(f"{path} names files outside its folder")
    return content


def _refuse_foreign(folder: Path) -> None:
    """Saving must never overwrite what is not an index."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StoreError(f"{folder} is a file; give a folder for the index")
    if (folder / MANIFEST).exists():
        try:
            _manifest(folder)
        except NewerIndex:
            raise
        except DamagedIndex as error:
            raise StoreError(f"{folder} is not overwritten: {error}; remove it first") from error
        return
    if any(not _DATA.match(path.name) for path in folder.iterdir()):
        raise StoreError(f"{folder} holds other files and no index; give an empty or a new folder")


def _sum(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "sum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _digest(path: Path, flush: bool = False) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if flush:
            os.fsync(file.fileno())
    return digest


def _flush_folder(path: Path) -> None:
    if os.name != "posix":  # pragma: no cover - folders cannot be opened elsewhere
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Partial results of a run, kept so that an interrupted one goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from pathlib import Path

from paperworks.claims.files import write_atomically
from paperworks.errors import ClaimError

log = logging.getLogger(__name__)


class FileCheckpoint:
    """JSON values in a folder, one file a key, each written atomically; larger files go into `folder`.

    >>> import tempfile
    >>> kept = FileCheckpoint(Path(tempfile.mkdtemp()))
    >>> kept.put("epoch 3", {"loss": 0.25})
    >>> kept.get("epoch 3"), kept.get("epoch 4")
    ({'loss': 0.25}, None)
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> object | None:
        """What was put under `key`, or None. A file that was damaged from outside counts as absent, with a warning."""
        path = self._path(key)
        try:
            value: object = json.loads(path.read_text(encoding="utf-8"))["value"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("checkpoint %s cannot be read and is measured again: %s", path, error)
            return None
        return value

    def put(self, key: str, value: object) -> None:
        """Keep a JSON value. Raises ClaimError for one that JSON cannot hold."""
        write_atomically(self._path(key), _encode(key, value))

    @property
    def folder(self) -> Path:
        """A folder of this run's own for larger files (weights, arrays); made when first asked for."""
        path = self.root / "files"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _path(self, key: str) -> Path:
        readable = re.sub(r"[^A-Za-z0-9._-]+", "_", key)[:40].strip(".") or "key"
        return self.root / f"{readable}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}.json"


class MemoryCheckpoint:
    """The same in memory, for runs that are not resumed. Its folder is temporary and goes with the object."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def get(self, key: str) -> object | None:
        if key not in self._values:
            return None
        value: object = json.loads(self._values[key])["value"]  # through JSON, so that both kinds behave alike
        return value

    def put(self, key: str, value: object) -> None:
        self._values[key] = _encode(key, value)

    @property
    def folder(self) -> Path:
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="paperworks-run-")
        return Path(self._temporary.name)


def _encode(key: str, value: object) -> str:
    try:
        return json.dumps({"key": key, "value": value})
    except (TypeError, ValueError) as error:
        raise ClaimError(
            f"checkpoint {key!r} holds what JSON cannot ({error}); put numbers, texts, lists and dicts, and arrays into files "
            "under checkpoint.folder"
        ) from error

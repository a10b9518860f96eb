"""Put an index into a store, and find it there: objects named by their content, and one small file that lists them.

A deployment is never changed. A new version of an index uploads what is new, then the pointer `current` moves; functions that still
work on the old deployment go on with the old objects, until `prune` removes what no pointer needs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.engine import Engine, RangedFile
from paperworks.papers.squash.serverless.errors import ObjectMissing, ServerlessError
from paperworks.papers.squash.serverless.store import ObjectRef, Store
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)

VERSION = 1
_POINTER = "current.json"


@dataclass(frozen=True)
class DeployedPiece:
    """Files of a piece by name, the matrix that is read by ranges (if any), and its rows."""

    files: Mapping[str, ObjectRef]
    rows: int
    ranged: RangedFile | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of its files."""
        return sum(ref.size for ref in self.files.values())

    def retained(self) -> dict[str, ObjectRef]:
        """The files that a container keeps: all but the one that is read by ranges."""
        return {name: ref for name, ref in self.files.items() if self.ranged is None or name != self.ranged.name}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "files": {name: ref.to_json() for name, ref in sorted(self.files.items())},
            "rows": self.rows,
            "ranged": asdict(self.ranged) if self.ranged else None,
        }


@dataclass(frozen=True)
class Deployment:
    """What lies in a store. `name` is the digest of everything else, so equal indexes are equal deployments."""

    shared: DeployedPiece
    partitions: Sequence[DeployedPiece]
    facts: Mapping[str, Any]

    @property
    def sizes(self) -> list[int]:
        """Rows of each partition."""
        return [piece.rows for piece in self.partitions]

    @property
    def n_bytes(self) -> int:
        """Bytes of all pieces; a file that several pieces share counts once."""
        return sum(ref.size for ref in self.refs())

    def refs(self) -> set[ObjectRef]:
        """Every object that the deployment needs."""
        return {ref for piece in (self.shared, *self.partitions) for ref in piece.files.values()}

    def to_bytes(self) -> bytes:
        """As JSON, the same bytes for the same deployment."""
        content = {
            "format": "paperworks squash deployment",
            "version": VERSION,
            "facts": dict(self.facts),
            "shared": self.shared.to_json(),
            "partitions": [piece.to_json() for piece in self.partitions],
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @property
    def name(self) -> str:
        """SHA-256 of `to_bytes`, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Deployment:
        """Read what `to_bytes` wrote. Raises ServerlessError for anything else, naming a newer version as such."""
        try:
            content = json.loads(data)
            if content["format"] != "paperworks squash deployment" or type(content["version"]) is not int:
                raise ValueError("another format")
        except (ValueError, KeyError, TypeError) as error:
            raise ServerlessError(f"this is no list of a deployed index: {error}") from error
        if content["version"] != VERSION:
            raise ServerlessError(
                f"the deployment has version {content['version']}, this release reads {VERSION}; use one release everywhere"
            )
        try:
            partitions = [_piece(part) for part in content["partitions"]]
            return cls(_piece(content["shared"]), partitions, dict(content["facts"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerlessError(f"the list of a deployed index is damaged: {error!r}") from error


def _piece(content: Mapping[str, Any]) -> DeployedPiece:
    files = {str(name): ObjectRef(**ref) for name, ref in content["files"].items()}
    ranged = RangedFile(**content["ranged"]) if content["ranged"] else None
    if type(content["rows"]) is not int or content["rows"] < 0 or (ranged and ranged.name not in files):
        raise ValueError("a piece has no rows or lacks the file that is read by ranges")
    return DeployedPiece(files, content["rows"], ranged)


def list_key(name: str) -> str:
    """Where in a store the list of a deployment lies."""
    return f"deployments/{name}.json"


def deploy(folder: str | Path, store: Store, engine: Engine, *, progress: Progress | None = None) -> Deployment:
    """Upload the index in `folder`, what is there already left out, and make it the current one -> the deployment.

    The pointer moves last: a deployment that breaks off leaves the one before in use, and is resumed by calling again.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no index at {folder}; build one and save it there first")
    report = progress or silent
    described: list[DeployedPiece] = []
    done = 0
    with tempfile.TemporaryDirectory(prefix="squash-deploy-") as work:
        for piece in engine.pieces(folder, Path(work)):
            files = {}
            for name, path in piece.files.items():
                files[name] = ref = ObjectRef.of_file(path)
                _upload(store, ref, path)
                done += ref.size
                report(done, None, f"piece {len(described)}")
            described.append(DeployedPiece(files, piece.rows, piece.ranged))
    made = Deployment(described[0], described[1:], engine.facts(folder))
    store.put(list_key(made.name), made.to_bytes())
    store.put(_POINTER, json.dumps({"deployment": made.name}).encode())
    log.info("deployed %d partitions, %d bytes, as %s", len(made.partitions), made.n_bytes, made.name)
    return made


def _upload(store: Store, ref: ObjectRef, path: Path) -> None:
    if store.size(ref.key) == ref.size:
        return
    store.put_file(ref.key, path)
    if ObjectRef.of_file(path) != ref:
        raise ServerlessError(f"{path} changed while it was uploaded; deploy again when nobody writes to the index")


def find(store: Store, name: str | None = None) -> Deployment:
    """The deployment of that name, or the current one. Raises ObjectMissing when there is none, ServerlessError when it is damaged."""
    if name is None:
        try:
            name = json.loads(store.get(_POINTER))["deployment"]
        except ObjectMissing as error:
            raise ObjectMissing(f"no index is deployed there; call deploy() first ({error})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServerlessError(f"the pointer to the current deployment is damaged: {error}") from error
    data = store.get(list_key(str(name)))
    if hashlib.sha256(data).hexdigest() != name:
        raise ServerlessError(f"the list of deployment {name} is damaged; deploy the index again")
    return Deployment.from_bytes(data)


def missing_objects(store: Store, deployment: Deployment) -> list[str]:
    """Keys of objects that the deployment needs and that the store lacks or has in another size."""
    return sorted(ref.key for ref in deployment.refs() if store.size(ref.key) != ref.size)


def prune(store: Store) -> list[str]:
    """Remove every deployment but the current one and the objects that only they needed -> removed keys.

    Functions that still search an older deployment will fail with ObjectMissing and their callers be told.
    """
    current = find(store)
    keep = {ref.key for ref in current.refs()} | {list_key(current.name)}
    removed = [key for prefix in ("deployments/", "objects/") for key in store.keys(prefix) if key not in keep]
    for key in removed:
        store.delete(key)
    return removed

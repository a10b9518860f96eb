"""Find the data sets that a claim needs: in a folder that was named, in the settings' folder, or beside the checkout."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from paperworks.claims.model import DataFinder
from paperworks.claims.places import checkout
from paperworks.errors import DataMissing, InputError
from paperworks.progress import size

_BESIDE_CHECKOUT = Path("shared", "data")  # for developers: a folder of this name next to the checkout
_HASHED_BYTES = 256 * 1024**2  # larger files are named by size alone


class Data:
    """Looks for data sets in a few folders, in order.

    folder: the folder that the caller names; configured: that of the settings (`data`, `PAPERWORKS_DATA`). Either may be None.

    >>> Data(configured=None, beside=False).has("tabular/concrete.csv.gz")
    False
    """

    def __init__(
        self, folder: Path | str | None = None, *, configured: Path | str | None = None, beside: bool = True
    ) -> None:
        places = [(folder, "the folder that was named"), (configured, "the settings' data folder, PAPERWORKS_DATA")]
        self.places: list[tuple[Path, str]] = [
            (Path(place).expanduser(), why) for place, why in places if place is not None
        ]
        root = checkout()
        if beside and root is not None:
            self.places.append((root.parent / _BESIDE_CHECKOUT, "next to the checkout"))

    def path(self, name: str) -> Path:
        """The file or folder `name` ('tabular/concrete.csv.gz').

        Raises DataMissing, which says where it was looked for and how to get it; InputError for a name that leaves the folder.
        """
        found = self._find(name)
        if found is None:
            looked = "; ".join(f"{place} ({why})" for place, why in self.places) or "nowhere, no folder is set"
            raise DataMissing(
                f"the data set {name!r} is not on this machine; looked in: {looked}. Fetch it from its publisher, put it as "
                f"{name} into a folder of your own, and name that folder by --data or PAPERWORKS_DATA"
            )
        return found

    def has(self, name: str) -> bool:
        """Whether `path(name)` would find it."""
        return self._find(name) is not None

    def _find(self, name: str) -> Path | None:
        parts = PurePosixPath(name)
        if not name or parts.is_absolute() or ".." in parts.parts:
            raise InputError(
                f"a data set is named by a path inside the data folder, such as 'mnist/test.npz'; got {name!r}"
            )
        return next((place / parts for place, _ in self.places if (place / parts).exists()), None)


class Noted:
    """Wraps a finder and notes in `used` what was taken from it: the name, the size, and a hash of a file."""

    def __init__(self, finder: DataFinder, used: list[str]) -> None:
        self._finder = finder
        self._used = used
        self._seen: set[str] = set()

    def path(self, name: str) -> Path:
        path = self._finder.path(name)
        if name not in self._seen:
            self._seen.add(name)
            self._used.append(f"{name} ({_identity(path)})")
        return path

    def has(self, name: str) -> bool:
        return self._finder.has(name)


def _identity(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    n_bytes = path.stat().st_size
    if n_bytes > _HASHED_BYTES:
        return size(n_bytes)
    with path.open("rb") as file:
        return f"{size(n_bytes)}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"

"""Where things lie: the repository checkout that this package runs from, if any, and the records that came with it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import paperworks


@cache
def checkout() -> Path | None:
    """The root of the repository when the package is run from one, else None."""
    root = Path(paperworks.__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "src" / "paperworks").is_dir() else None


def committed_records() -> Path:
    """The folder with the records of this release: `docs/measured` in a checkout, else the copy inside the package."""
    root = checkout()
    return root / "docs" / "measured" if root else Path(paperworks.__file__).parent / "_measured"

"""Model files that come as ordinary Python packages: where they lie, without importing the package.

Two small models are published on the Python package index, so that they install and run without any other service. Their
packages bring dependencies that are not needed to read the files; hence only the installed file list is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from paperworks.errors import DataMissing


def packaged_file(package: str, name: str, *, how: str) -> tuple[Path, str]:
    """The file called `name` (its last part, or a path's end such as 'model/config.json') of an installed package.

    how: the command that gets it, said in the error. Returns the path and the package's version.
    Raises DataMissing when the package is not installed or brings no such file.
    """
    try:
        found = distribution(package)
    except PackageNotFoundError as error:
        raise DataMissing(f"the package {package!r}, which carries the model, is not installed; run: {how}") from error
    for file in found.files or ():
        if file.as_posix() == name or file.as_posix().endswith(f"/{name}"):
            path = Path(str(found.locate_file(file)))
            if path.is_file():
                return path, found.version
    raise DataMissing(f"the installed package {package!r} {found.version} has no file {name!r}; reinstall it: {how}")


@contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers from drawing bars and reports while a known model is loaded; what was set before is set again."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

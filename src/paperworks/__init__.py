"""paperworks: a trending-papers hub in which the papers run.

>>> import paperworks as pw
>>> pw.preprocessing_bias.TopKVariance(k=3)
TopKVariance(k=3)

`paperworks.<slug>` is the package of that paper, imported when it is first touched.
"""

from __future__ import annotations

from types import ModuleType

from paperworks import _aliases
from paperworks._version import __version__

__all__ = ["__version__"]

_aliases.install()


def __getattr__(name: str) -> ModuleType:
    if name.startswith("_"):
        raise AttributeError(name)
    from paperworks.catalogue import catalogue
    from paperworks.errors import NotFound

    try:
        return catalogue()[name].load()
    except NotFound as error:
        raise AttributeError(f"paperworks has no {name!r}: {error}") from error


def __dir__() -> list[str]:
    from paperworks.catalogue import catalogue

    return sorted([*globals(), *(slug for slug, paper in catalogue().items() if paper.has_method)])

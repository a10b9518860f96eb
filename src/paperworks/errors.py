"""The one exception family.

    PaperworksError
    ├── InputError        what the caller gave cannot be used (also a ValueError)
    ├── MissingExtra      a method needs an optional install (also an ImportError)
    ├── DataMissing       a data set is not on this machine
    ├── CatalogueError    a paper.toml or a paper's folder is not as it must be
    ├── RuleError         a claim's rule cannot be read or evaluated
    ├── ClaimError        a claim's function broke its contract
    ├── Cancelled         a person stopped the work
    ├── StoreError        the hub's folder or database cannot be used
    ├── SourceError       a source did not answer as asked
    └── NotFound          no paper, run, subscriber ... of that name (also a LookupError)

Every message says what was wrong, what was got, and what to do.
"""

from __future__ import annotations


class PaperworksError(Exception):
    """Whatever paperworks raises on purpose."""


class InputError(PaperworksError, ValueError):
    """What the caller gave cannot be used."""


class MissingExtra(PaperworksError, ImportError):
    """A method needs an optional install.

    >>> print(MissingExtra("papers.smp", "nn"))
    papers.smp needs an optional install; run: pip install 'paperworks[nn]'
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional install; run: pip install 'paperworks[{extra}]'")
        self.extra = extra


class DataMissing(PaperworksError):
    """A data set is not on this machine; the message says how to get it."""


class CatalogueError(PaperworksError):
    """A paper.toml, or the folder around it, is not as it must be."""


class RuleError(PaperworksError):
    """A claim's rule cannot be read, or names what the measurement did not return."""


class ClaimError(PaperworksError):
    """A claim's function broke its contract."""


class Cancelled(PaperworksError):
    """A person stopped the work."""


class StoreError(PaperworksError):
    """The hub's folder or database cannot be used."""


class SourceError(PaperworksError):
    """A source did not answer as asked; nothing of that answer was kept."""


class NotFound(PaperworksError, LookupError):
    """No such paper, run or subscriber."""

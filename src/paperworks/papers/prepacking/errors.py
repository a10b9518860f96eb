"""The errors of packing that are no fault of a single argument."""

from __future__ import annotations

from paperworks.errors import InputError, PaperworksError


class PackingNotSupported(PaperworksError):
    """This model cannot be packed; the message says why, and what works instead."""


class OutOfMemory(PaperworksError, MemoryError):
    """A packed row did not fit in memory; the message names a smaller `max_tokens`."""


class PromptError(InputError):
    """A prompt cannot be run; `index` says which one (None: the batch as a whole)."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index

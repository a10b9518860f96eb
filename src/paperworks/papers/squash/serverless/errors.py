"""What can go wrong between the machine that asks and the functions that answer."""

from __future__ import annotations

from collections.abc import Sequence

from paperworks.errors import PaperworksError


class ServerlessError(PaperworksError):
    """A search by functions could not be done; the index itself is untouched."""


class PayloadError(ServerlessError):
    """Bytes that travelled are not a whole, known message; nothing of them was used."""


class WrongAnswer(ServerlessError):
    """A well-formed answer that does not belong to the request or contradicts it; it was thrown away."""


class WorkerFailed(ServerlessError):
    """A function died, ran out of time or raised an error."""


class ObjectMissing(ServerlessError):
    """An object that the index needs is not in the store, or its content is not what was deployed."""


class IncompleteSearch(ServerlessError):
    """Some partitions did not answer, however often they were asked; no partial result is passed off as whole."""

    def __init__(self, message: str, missing_partitions: Sequence[int], reasons: dict[int, str]) -> None:
        super().__init__(message)
        self.missing_partitions = sorted(missing_partitions)
        self.reasons = reasons

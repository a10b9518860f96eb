"""`Idempotency-Key`: a POST that is sent again with the same key gives back what the first one made.

A key is kept for a day, with a hash of what was posted; the same key with something else is refused.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

from fastapi import HTTPException

from paperworks.errors import InputError
from paperworks.hub.hub import Hub
from paperworks.hub.service import remembered

KEPT = timedelta(days=1)
_locks: OrderedDict[str, threading.Lock] = OrderedDict()
_guard = threading.Lock()


def once(hub: Hub, what: str, key: str | None, posted: str, make: Callable[[], int]) -> int:
    """The number that `make` gave, now or when this key came first. Two at the same time: the second waits for the first.

    Raises InputError for a key that cannot be one, and status 409 for a key that was used for something else.
    """
    if key is None:
        return make()
    if not key.strip() or not key.isascii() or not key.isprintable():
        raise InputError("Idempotency-Key takes 1 to 200 printable ASCII characters; a random UUID is a good one")
    name = f"once:{what}:{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    hashed = hashlib.sha256(posted.encode()).hexdigest()[:32]
    with _lock(name):
        known = remembered.recall(hub, name, KEPT)
        if known is not None:
            before, _, number = known.partition(" ")
            if before != hashed:
                raise HTTPException(
                    409, "this Idempotency-Key was used for another order; send the new order with a new key"
                )
            return int(number)
        number_made = make()
        remembered.keep(hub, name, f"{hashed} {number_made}", KEPT)
        return number_made


def _lock(name: str) -> threading.Lock:
    with _guard:
        lock = _locks.setdefault(name, threading.Lock())
        _locks.move_to_end(name)
        while len(_locks) > 1000:
            _locks.popitem(last=False)
        return lock

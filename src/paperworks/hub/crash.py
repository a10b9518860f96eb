"""Named points at which a test can kill the process, to see that nothing is lost or doubled.

`PAPERWORKS_CRASH_AT=digest.after-claim` kills at the first passage of that point, `digest.after-claim:3` at the third.
Without the variable a point costs one dictionary look-up. SIGKILL, since nothing in the process may have a say in it.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "PAPERWORKS_CRASH_AT"

_passed: Counter[str] = Counter()


def point(name: str) -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    wanted_name, _, nth = wanted.partition(":")
    if wanted_name != name:
        return
    _passed[name] += 1
    if _passed[name] >= int(nth or 1):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

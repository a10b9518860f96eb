"""A child process that does one beat at a given time: `python beat.py HOME '2026-08-22 07:00'`. Tests kill it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from paperworks.catalogue import Catalogue
from paperworks.config import load
from paperworks.hub.hub import open_hub
from paperworks.hub.service import digest

if __name__ == "__main__":
    now = datetime.fromisoformat(sys.argv[2]).replace(tzinfo=UTC)
    with open_hub(load(Path(sys.argv[1])), catalogue=Catalogue(), clock=lambda: now) as hub:
        digest.plan_due(hub)
        digest.send_due(hub)

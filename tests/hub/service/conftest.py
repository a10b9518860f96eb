"""An empty hub in a temporary folder, with a clock that stands still and a catalogue without papers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from paperworks.catalogue import Catalogue
from paperworks.config import Settings
from paperworks.hub.hub import Hub, open_hub

NOW = datetime(2026, 8, 21, 9, 30, tzinfo=UTC)  # a Friday


@pytest.fixture
def hub(home: Settings) -> Iterator[Hub]:
    with open_hub(home, catalogue=Catalogue(), clock=lambda: NOW) as opened:
        yield opened

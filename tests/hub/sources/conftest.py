"""The server that misbehaves, and a client whose waits take no time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paperworks.config import SourceSettings
from paperworks.hub.sources.http import PoliteClient

sys.path.insert(0, str(Path(__file__).parent))  # the tests share the server and each other's recorded answers

from fake_service import Service


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


@pytest.fixture
def settings(service: Service) -> SourceSettings:
    return SourceSettings(
        arxiv_query=f"{service.url}/api/query",
        arxiv_oai=f"{service.url}/oai",
        huggingface=f"{service.url}/hf",
        arxiv_gap_s=0,
        timeout_s=5,
        max_bytes=2_000_000,
        contact="ops@example.org",
    )


class Waits(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def http(settings: SourceSettings, waits: Waits) -> Iterator[PoliteClient]:
    with PoliteClient(settings, sleep=waits, chance=lambda: 0.0) as client:
        yield client

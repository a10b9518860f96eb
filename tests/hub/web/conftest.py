"""A hub with a small world in it, and a client that talks to it as a browser on this machine would."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent))

from world import open_world

from paperworks.hub.hub import Hub
from paperworks.hub.web.app import create_app

ADDRESS = "http://127.0.0.1:8000"
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="package")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with open_world(tmp_path_factory.mktemp("world")) as opened:
        yield opened


@pytest.fixture(scope="package")
def client(hub: Hub) -> TestClient:
    return TestClient(create_app(hub), base_url=ADDRESS, headers=OWN, follow_redirects=False)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TestClient]:
    with open_world(tmp_path, empty=True) as opened:
        yield TestClient(create_app(opened), base_url=ADDRESS, headers=OWN, follow_redirects=False)

"""`paperworks serve`: one server a folder, clear sentences, a quiet end; and the clock beside it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from paperworks.config import Settings
from paperworks.errors import InputError, StoreError
from paperworks.hub.cli.serve import check_host, listener, one_server
from paperworks.hub.clock import ClockThread

RUN = [sys.executable, "-m", "paperworks.cli"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*RUN, "--home", str(tmp_path / "home"), "serve", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_it_serves_says_where_and_ends_quietly(server: subprocess.Popen[str], tmp_path: Path) -> None:
    assert server.stdout
    address = json.loads(server.stdout.readline())["address"]
    with urlopen(address + "/", timeout=30) as answer:
        html = answer.read().decode()
    assert "Trending" in html
    assert "libtorch" not in Path(f"/proc/{server.pid}/maps").read_text() if sys.platform == "linux" else True
    second = subprocess.run(
        [*RUN, "--home", str(tmp_path / "home"), "serve", "--port", "0"], capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 1
    assert "another `paperworks serve` is using the folder" in second.stderr
    assert "Traceback" not in second.stderr
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=20) == 0


def test_links_lead_to_where_the_hub_really_is(server: subprocess.Popen[str]) -> None:
    assert server.stdout
    address = json.loads(server.stdout.readline())["address"]
    with urlopen(address + "/feed/trending.atom", timeout=30) as answer:
        assert address in answer.read().decode()


def test_a_taken_port_is_named() -> None:
    with (
        listener("127.0.0.1", 0) as sock,
        pytest.raises(InputError, match=r"port \d+: address already in use; choose another with --port"),
        listener("127.0.0.1", sock.getsockname()[1]),
    ):
        pass


def test_the_lock_is_freed_at_the_end(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with one_server(settings), pytest.raises(StoreError, match="another `paperworks serve`"), one_server(settings):
        pass
    with one_server(settings):
        pass


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StoreError, match="cannot be used"), one_server(Settings(home=tmp_path / "home")):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "hub.example.org"])
def test_other_machines_are_let_in_only_by_somebody_who_named_the_hub(host: str) -> None:
    local = ("127.0.0.1", "localhost", "[::1]")
    with pytest.raises(InputError, match="allowed_hosts"):
        check_host(host, local)
    check_host(host, (*local, "hub.example.org"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_no_permission(host: str) -> None:
    check_host(host, ("127.0.0.1", "localhost", "[::1]"))


def test_the_clock_goes_on_when_a_step_fails() -> None:
    done = threading.Event()
    seen: list[str] = []

    def broken(hub: object) -> None:
        seen.append("broken")
        raise RuntimeError("no")

    def rare(hub: object) -> None:
        seen.append("rare")

    def often(hub: object) -> None:
        seen.append("often")
        if seen.count("often") == 3:
            done.set()

    clock = ClockThread(
        object(), beat_s=0.01, steps=(("broken", 0.0, broken), ("rare", 3600.0, rare), ("often", 0.0, often))
    )  # type: ignore[arg-type]
    clock.start()
    assert done.wait(10)
    clock.stop()
    clock.join(10)
    assert not clock.is_alive()
    assert seen.count("broken") >= 3
    assert seen.count("rare") == 1
    assert clock.beat > 0

"""`paperworks serve`: pages, runs and the clock in one process, on one folder."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paperworks.errors import InputError, StoreError

if TYPE_CHECKING:
    from paperworks.config import Settings
    from paperworks.hub.hub import Hub

log = logging.getLogger(__name__)
LOCK_FILE = "serve.lock"


def add_to(app: typer.Typer) -> None:
    app.command()(serve)


def serve(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open", help="Open the front page in a browser.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Print the address as one JSON line.")] = False,
) -> None:
    """Serve the hub: pages, API and feeds, runs, and what is due by the clock."""
    import uvicorn

    from paperworks.hub.hub import open_hub

    root: Any = ctx.find_root().obj
    settings: Settings = root.settings()
    check_host(host, settings.allowed_hosts)
    with one_server(settings), listener(host, port) as sock:
        address = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"
        if "base_url" not in settings.model_fields_set:  # links in mails and feeds lead to where the hub really is
            settings = settings.model_copy(update={"base_url": address})
        with open_hub(settings) as hub:
            from paperworks.hub.web.app import create_app

            app = create_app(hub)
            config = uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=3
            )
            server = _Server(config, on_started=lambda: _say(address, json_lines, open_browser))
            with background(hub, app), quiet_end():
                server.run(sockets=[sock])


def check_host(host: str, allowed: tuple[str, ...]) -> None:
    """Refuse to listen beyond this machine unless somebody has named the hosts that may be asked for.

    Raises InputError: the hub has one reader and no sign-in, so whoever reaches it is that reader.
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    named = [name for name in allowed if name not in ("127.0.0.1", "localhost", "[::1]")]
    if not loopback and not named:
        raise InputError(
            f"--host {host} would let other machines in, and whoever reaches this hub can vote, measure and change its sources; "
            "put a proxy with sign-in before it and name its host in allowed_hosts of paperworks.toml, or keep --host 127.0.0.1"
        )


@contextmanager
def one_server(settings: Settings) -> Iterator[None]:
    """Hold the folder's lock. Raises StoreError when another server has it."""
    from filelock import FileLock, Timeout

    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(settings.home / LOCK_FILE, timeout=0)
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"another `paperworks serve` is using the folder {settings.home}; open its page, stop it, or serve another folder with --home"
        ) from None
    except OSError as error:
        raise StoreError(
            f"the hub's folder {settings.home} cannot be used: {error.strerror or error}; check owner, permissions and free space"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def listener(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens before anything slow begins. Raises InputError when the port is taken or not allowed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            sock.bind((host, port))
            sock.listen(128)
        except PermissionError as error:
            raise InputError(
                f"port {port} needs more rights than this user has; choose one above 1024 with --port"
            ) from error
        except OSError as error:
            raise InputError(
                f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}; choose another with --port, or --port 0 for a free one"
            ) from error
        yield sock
    finally:
        sock.close()


@contextmanager
def background(hub: Hub, app: Any) -> Iterator[None]:
    """The threads beside the pages: runs, and the clock that rebuilds indexes and sends what is due."""
    from paperworks.hub.clock import ClockThread
    from paperworks.hub.jobs import RunThread

    runs, clock = RunThread(hub), ClockThread(hub)
    app.state.beat = lambda: clock.beat
    runs.start()
    clock.start()
    try:
        yield
    finally:
        clock.stop()
        runs.stop()
        for thread in (runs, clock):
            thread.join(timeout=5)


@contextmanager
def quiet_end() -> Iterator[None]:
    """Being stopped (Ctrl+C, SIGTERM) is an end like any other: threads are stopped, the lock is freed, exit code 0.

    uvicorn ends its work and then raises the signal again; without a handler of ours SIGTERM would end the process right there.
    """

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(address: str, as_json: bool, open_browser: bool) -> None:
    import json

    if as_json:
        typer.echo(json.dumps({"address": address}))
    else:
        typer.echo(f"paperworks is at {address}  (stop with Ctrl+C)")
    sys.stdout.flush()
    if open_browser:
        import webbrowser

        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _server_class() -> type[Any]:
    import uvicorn

    class Announcing(uvicorn.Server):
        """Says when it is ready, and not before."""

        def __init__(self, config: uvicorn.Config, on_started: Any) -> None:
            super().__init__(config)
            self._on_started = on_started

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                self._on_started()

    return Announcing


def _Server(config: Any, on_started: Any) -> Any:
    return _server_class()(config, on_started)

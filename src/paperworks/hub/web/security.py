"""What every request passes before a page sees it, and what every answer carries.

Outermost first: known host (a page elsewhere must not reach a hub on this machine by DNS rebinding), short query string, small body,
and no unsafe method from another site. Nothing here looks at who is asking.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paperworks.hub.web.errors import Refusal, answer, refusal_of

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
BODY_BYTES = 1024 * 1024
QUERY_BYTES = 2048
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
ONE_CLICK = "/u/"  # the address in the List-Unsubscribe header: mail providers post there from their own site


def host_name(value: str) -> str:
    """The host of a `Host` header or of an address, without port, lower case.

    >>> host_name("Hub.example.org:8000"), host_name("[::1]:8000")
    ('hub.example.org', '[::1]')
    """
    value = value.strip().lower()
    if value.startswith("["):
        return value.partition("]")[0] + "]"
    return value.partition(":")[0]


def refuse_cross_site(request: Request) -> str | None:
    """Why an unsafe request is refused, or None when it may pass.

    A browser says where a request comes from: `Sec-Fetch-Site`, or at least `Origin`. A request that says neither is no
    browser's of today; it passes to the API alone, and only without a cookie.
    """
    if request.method in SAFE_METHODS:
        return None
    path = request.url.path
    if request.method == "POST" and path.startswith(ONE_CLICK) and "/" not in path[len(ONE_CLICK) :].rstrip("/"):
        return None
    cookie = "cookie" in request.headers
    if request.headers.get("authorization", "").lower().startswith("bearer ") and not cookie:
        return None
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return None if site in ("same-origin", "none") else f"it was sent from another site (Sec-Fetch-Site: {site})"
    origin = request.headers.get("origin")
    if origin is not None:
        here = request.headers.get("host", "").lower()
        return None if urlsplit(origin).netloc.lower() == here else f"it was sent from {origin}"
    if path.startswith("/api/") and not cookie:
        return None
    return "it does not say which site it was sent from (neither Sec-Fetch-Site nor Origin)"


class Guard:
    """ASGI middleware: limits, host allow-list, cross-site refusal, security headers."""

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str], https: bool) -> None:
        self.app = app
        self.allowed = frozenset(host_name(host) for host in allowed_hosts)
        self.https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        request = Request(scope, receive)
        body = _Body(receive, BODY_BYTES)
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self.add_headers(MutableHeaders(scope=message))
            await send(message)

        async def send_unless_over(message: Message) -> None:
            if not body.over:  # else whatever the application makes of half a body is dropped
                await send_with_headers(message)

        refusal = self.refusal(request)
        if refusal is None:
            try:
                await self.app(scope, body.receive, send_unless_over)
            except Exception as error:
                if started:
                    raise
                if not body.over:
                    log.error("request failed: %s", error, exc_info=error)
                    refusal = refusal_of(error)
            if body.over and not started:
                refusal = TOO_LARGE
        if refusal is not None:
            response: Response = answer(request, refusal)
            await response(scope, receive, send_with_headers)

    def refusal(self, request: Request) -> Refusal | None:
        host = host_name(request.headers.get("host", ""))
        if "*" not in self.allowed and host not in self.allowed:
            return Refusal(
                400,
                "This address is not one of the hub's",
                f"The request was for the host {host!r}, which this hub does not answer to.",
                "Open the hub by the address it printed when it started, or add the name to allowed_hosts in paperworks.toml.",
            )
        if len(request.scope.get("query_string", b"")) > QUERY_BYTES:
            return Refusal(
                414,
                "That address is too long",
                f"What follows the question mark may take {QUERY_BYTES:,} bytes.",
                "Shorten the search; a sentence or two is plenty.",
            )
        length = Headers(scope=request.scope).get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_BYTES:
            return TOO_LARGE
        why = refuse_cross_site(request)
        if why is not None:
            return Refusal(
                403,
                "This request did not come from the hub's own pages",
                f"Nothing was changed: {why}.",
                "Go back to the hub, reload the page and press the button again.",
            )
        return None

    def add_headers(self, headers: MutableHeaders) -> None:
        headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "same-origin")
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        if self.https:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")


TOO_LARGE = Refusal(
    413,
    "That is too large",
    "A request may carry one mebibyte.",
    "Bring larger files in on the command line: paperworks import FILE.",
)


class _TooLarge(Exception):
    """A body without a length went on beyond the limit."""


class _Body:
    """Counts what is received, since a chunked body names no length beforehand."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit
        self.over = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.over = True
                raise _TooLarge
        return message

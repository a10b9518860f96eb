"""Seeing inside: a request id and a Server-Timing header on every answer, one log line a request, counters for /metrics."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("paperworks.hub.web.requests")
BUCKETS_S = (0.005, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_spans: ContextVar[dict[str, float] | None] = ContextVar("paperworks_spans", default=None)


@contextmanager
def span(name: str) -> Iterator[None]:
    """Time a part of the request; it is shown in Server-Timing."""
    start = time.perf_counter()
    try:
        yield
    finally:
        add(name, (time.perf_counter() - start) * 1000)


def add(name: str, milliseconds: float) -> None:
    """Show a part that somebody else has timed."""
    spans = _spans.get()
    if spans is not None:
        key = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        spans[key] = spans.get(key, 0.0) + milliseconds


class Metrics:
    """Counts and latencies by route, for Prometheus."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()
        self.started = time.time()

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        with self._lock:
            self._answers[method, route, status] += 1
            buckets = self._buckets.setdefault(route, [0] * (len(BUCKETS_S) + 1))
            buckets[next((i for i, edge in enumerate(BUCKETS_S) if seconds <= edge), len(BUCKETS_S))] += 1
            self._sums[route] += seconds  # type: ignore[assignment]

    def lines(self) -> Iterator[str]:
        """Prometheus text format, a line each."""
        with self._lock:
            answers, sums = sorted(self._answers.items()), dict(self._sums)
            buckets = {route: list(counts) for route, counts in self._buckets.items()}
        yield "# HELP paperworks_requests_total Answers by method, route and status."
        yield "# TYPE paperworks_requests_total counter"
        for (method, route, status), count in answers:
            yield f'paperworks_requests_total{{method="{method}",route="{route}",status="{status}"}} {count}'
        yield "# HELP paperworks_request_seconds Time to the end of the answer."
        yield "# TYPE paperworks_request_seconds histogram"
        for route, counts in sorted(buckets.items()):
            running = 0
            for edge, count in zip((*BUCKETS_S, float("inf")), counts, strict=True):
                running += count
                label = "+Inf" if edge == float("inf") else f"{edge:g}"
                yield f'paperworks_request_seconds_bucket{{route="{route}",le="{label}"}} {running}'
            yield f'paperworks_request_seconds_sum{{route="{route}"}} {sums[route]:.6f}'
            yield f'paperworks_request_seconds_count{{route="{route}"}} {running}'


class Timing:
    """ASGI middleware; stands outside of everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        scope["paperworks.request_id"] = request_id
        spans: dict[str, float] = {}
        token = _spans.set(spans)
        status = 500

        async def send_timed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                total = (time.perf_counter() - start) * 1000
                headers["X-Request-ID"] = request_id
                headers["Server-Timing"] = ", ".join(
                    f"{name};dur={took:.1f}" for name, took in {**spans, "total": total}.items()
                )
            await send(message)

        try:
            await self.app(scope, receive, send_timed)
        finally:
            _spans.reset(token)
            took = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "") or "unmatched"
            method = scope["method"] if scope["method"].isalpha() and len(scope["method"]) < 10 else "other"
            self.metrics.record(method, route, status, took)
            log.info(
                "request id=%s method=%s route=%s status=%d ms=%.1f", request_id, method, route, status, took * 1000
            )

"""For machines that watch the hub: is it well, and what has it done."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from paperworks.errors import StoreError
from paperworks.hub.hub import Hub
from paperworks.hub.service import intake, runs
from paperworks.hub.web.asking import HubOf

router = APIRouter()


@router.get("/healthz")
def health(request: Request, hub: HubOf) -> PlainTextResponse:
    """One line a part, 'ok' or what is wrong; 503 when the database cannot be read."""
    lines, status = [], 200
    try:
        last = next(iter(intake.intake_log(hub, 1)), None)
        lines.append("database: ok")
        lines.append(f"last intake: {last.started} {last.state}" if last else "last intake: none yet")
    except StoreError as error:
        lines.append(f"database: {error}")
        status = 503
    beat = getattr(request.app.state, "beat", None)
    lines.append(
        f"scheduler beat: {time.time() - beat():.0f} s ago" if beat and beat() else "scheduler beat: not started"
    )
    return PlainTextResponse("\n".join(lines) + "\n", status)


@router.get("/metrics")
def metrics(request: Request, hub: HubOf) -> PlainTextResponse:
    return PlainTextResponse(
        "\n".join([*request.app.state.metrics.lines(), *_queues(hub)]) + "\n", media_type="text/plain; version=0.0.4"
    )


def _queues(hub: Hub) -> Iterator[str]:
    latest = runs.runs(hub, 200)
    yield "# HELP paperworks_runs Of the latest 200 runs, how many are in which state."
    yield "# TYPE paperworks_runs gauge"
    for state in ("queued", "running", "done", "failed", "cancelled", "interrupted"):
        yield f'paperworks_runs{{state="{state}"}} {sum(run.state == state for run in latest)}'

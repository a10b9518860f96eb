"""Measurements: ask for one, watch it, cancel it, resume it. After a reload everything is as it was: it lies in the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from paperworks.errors import NotFound
from paperworks.hub.hub import Hub
from paperworks.hub.service import runs
from paperworks.hub.views import RunEventView, RunView
from paperworks.hub.web import plots
from paperworks.hub.web.asking import HubOf, go
from paperworks.hub.web.render import number, page, seconds
from paperworks.progress import describe

router = APIRouter()
RUN_WORDS = {
    "queued": "Waiting",
    "running": "Running",
    "cancelling": "Being cancelled",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "interrupted": "Interrupted",
}
LIVE = ("queued", "running", "cancelling")
LOOK_S = 0.5
KEEP_ALIVE_S = 15.0
LOG_TAIL = 200


@router.get("/runs")
def all_runs(request: Request, hub: HubOf) -> Response:
    return page(request, "runs.html", runs=runs.runs(hub, 100), run_words=RUN_WORDS)


@router.post("/runs")
def ask(
    hub: HubOf,
    slug: Annotated[str, Form(max_length=60)],
    claim: Annotated[str, Form(max_length=100)],
    scale: Annotated[Literal["smoke", "cpu", "gpu"], Form()] = "cpu",
    seeds: Annotated[int, Form(ge=1, le=20)] = 3,
) -> Response:
    run = runs.ask_run(hub, slug, claim, scale, tuple(range(seeds)))
    return go(f"/runs/{run.id}")


@router.get("/runs/{run_id}")
def one_run(request: Request, hub: HubOf, run_id: int) -> Response:
    run = runs.run_view(hub, run_id)
    events = list(all_events(hub, run_id))
    return page(
        request,
        "run.html",
        run=run,
        live=run.state in LIVE,
        run_words=RUN_WORDS,
        log=[line for event in events for line in log_lines(event)][-LOG_TAIL:],
        measurements=[row for event in events for row in measured(event)],
        plots=plots.of_record(hub, run.record),
        environment=_environment(hub, run),
    )


@router.post("/runs/{run_id}/cancel")
def cancel(hub: HubOf, run_id: int) -> Response:
    runs.cancel(hub, run_id)
    return go(f"/runs/{run_id}")


@router.post("/runs/{run_id}/resume")
def resume(hub: HubOf, run_id: int) -> Response:
    runs.resume(hub, run_id)
    return go(f"/runs/{run_id}")


@router.get("/runs/{run_id}/events")
async def stream(
    request: Request,
    hub: HubOf,
    run_id: int,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Server-sent events after `Last-Event-ID` (a browser that reconnects sends it), else after `after`."""
    start = int(last_event_id) if last_event_id and last_event_id.isdigit() else after
    await run_in_threadpool(runs.run_view, hub, run_id)  # a run that does not exist is a page, not a stream
    return StreamingResponse(
        _events(request, hub, run_id, start), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(request: Request, hub: Hub, run_id: int, after: int) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    shown = ""
    quiet_s = 0.0
    while not await request.is_disconnected():
        run = await run_in_threadpool(runs.run_view, hub, run_id)
        said = False
        for event in await run_in_threadpool(runs.events, hub, run_id, after):
            after = event.n
            for message in messages(event):
                yield message
                said = True
        state = json.dumps(state_of(run))
        if state != shown:
            yield f"event: state\ndata: {state}\n\n"
            shown, said = state, True
        if run.state not in LIVE:
            yield "event: end\ndata: {}\n\n"
            return
        quiet_s = 0.0 if said else quiet_s + LOOK_S
        if quiet_s >= KEEP_ALIVE_S:
            yield ": still here\n\n"
            quiet_s = 0.0
        await asyncio.sleep(LOOK_S)


def messages(event: RunEventView) -> Iterator[str]:
    """An event as the page's script takes it; each carries the number of the event it comes from."""
    rows = [[row["seed"], row["name"], row["text"]] for row in measured(event)]
    if rows:
        yield f"id: {event.n}\nevent: measurement\ndata: {json.dumps({'rows': rows})}\n\n"
    for line in log_lines(event):
        yield f"id: {event.n}\nevent: log\ndata: {json.dumps({'line': line})}\n\n"


def all_events(hub: Hub, run_id: int) -> Iterator[RunEventView]:
    after = 0
    while batch := runs.events(hub, run_id, after):
        yield from batch
        after = batch[-1].n


def state_of(run: RunView) -> dict[str, Any]:
    """What changes on the page while a run goes on."""
    parts = []
    if run.queue_position:
        parts.append(f"{run.queue_position} before this one.")
    if run.note:
        parts.append(f"{run.note}.")
    if run.remaining_s is not None:
        parts.append(f"{seconds(run.remaining_s)} remaining.")
    if run.message:
        parts.append(run.message)
    return {"state": RUN_WORDS.get(run.state, run.state), "done": run.done, "total": run.total, "note": " ".join(parts)}


def log_lines(event: RunEventView) -> Sequence[str]:
    """Lines for the log; progress is shown by the bar and only noted here."""
    at, body = event.at[11:19], event.body
    if event.kind == "progress":
        words = [
            f"seed {body['seed']}" if body.get("seed") is not None else "",
            describe(body.get("done") or 0, body.get("total")),
            str(body.get("note") or ""),
        ]
        return [f"{at} {', '.join(word for word in words if word)}"]
    if event.kind == "log":
        return [f"{at} {line}" for line in str(body.get("message", "")).splitlines()]
    if event.kind == "error":
        return [f"{at} {line}" for line in f"{body.get('message', '')}\n{body.get('trace', '')}".strip().splitlines()]
    if event.kind == "verdict":
        return [f"{at} verdict: {body.get('verdict', '')} {body.get('reason') or ''}".rstrip()]
    if event.kind == "state":
        return [
            f"{at} {RUN_WORDS.get(str(body.get('state')), str(body.get('state'))).lower()} {body.get('message') or ''}".rstrip()
        ]
    return []


def measured(event: RunEventView) -> list[dict[str, str]]:
    """Rows of the table of measured values: one a seed and value."""
    if event.kind != "measurement" or not isinstance(event.body.get("values"), dict):
        return []
    seed = str(event.body.get("seed", ""))
    return [{"seed": seed, "name": str(name), "text": _text(value)} for name, value in event.body["values"].items()]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, (int, float)) else str(value)


def _environment(hub: Hub, run: RunView) -> dict[str, str]:
    """On what it was measured, once there is a record."""
    if run.record is None:
        return {}
    from paperworks.claims.record import Record

    try:
        record = Record.read(hub.records.path(run.record))
    except NotFound:
        return {}
    return {
        "Measured on": record.environment.line,
        "Took": seconds(record.duration_s),
        "Data": ", ".join(record.data) or "made up",
    }

"""Ask for a measurement, look at it while it runs, cancel it, resume it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from paperworks.catalogue import SCALES, Scale
from paperworks.claims.process import Job
from paperworks.errors import InputError, NotFound
from paperworks.hub.hub import Hub
from paperworks.hub.store.models import HubRun, RunEvent
from paperworks.hub.times import utc_text
from paperworks.hub.views import RunEventView, RunView, Verdict

OPEN_STATES = ("queued", "running", "cancelling")
MOST_SEEDS = 20


def ask_run(
    hub: Hub, slug: str, claim: str, scale: str = "cpu", seeds: Sequence[int] = (0, 1, 2), asked_by: str = ""
) -> RunView:
    """Queue a measurement and return it; the same one that is already waiting or going on is returned instead.

    Raises NotFound for a paper or claim that does not exist or has no measurement yet, InputError for a scale or seeds that
    cannot be.
    """
    paper = hub.catalogue[slug]
    spec = paper.claim(claim)
    if not (paper.has_method and paper.has_measurements):
        raise NotFound(f"the method of {slug} is to come; its claims cannot be measured here yet")
    if scale not in SCALES or scale not in spec.scales:
        raise InputError(f"claim {claim} of {slug} runs at the scales {', '.join(spec.scales)}, got {scale!r}")
    chosen = sorted({int(seed) for seed in seeds})
    if not 1 <= len(chosen) <= MOST_SEEDS:
        raise InputError(f"give 1 to {MOST_SEEDS} different seeds, got {len(chosen)}")
    with hub.db.write() as session:
        same = select(HubRun).where(
            HubRun.slug == slug, HubRun.claim == claim, HubRun.scale == scale, HubRun.state.in_(OPEN_STATES)
        )
        run = next((row for row in session.scalars(same) if row.seeds == chosen), None)
        if run is None:
            run = HubRun(
                slug=slug, claim=claim, scale=scale, seeds=chosen, asked=utc_text(hub.now()), asked_by=asked_by
            )
            session.add(run)
            session.flush()
        run_id = run.id
    return run_view(hub, run_id)


def run_view(hub: Hub, run_id: int) -> RunView:
    """One run as it stands now."""
    with hub.db.read() as session:
        return _view(hub, session, _find(session, run_id))


def runs(hub: Hub, limit: int = 50, slug: str | None = None) -> list[RunView]:
    """The latest runs, newest first."""
    query = select(HubRun).order_by(HubRun.id.desc()).limit(limit)
    if slug is not None:
        query = query.where(HubRun.slug == slug)
    with hub.db.read() as session:
        return [_view(hub, session, run) for run in session.scalars(query)]


def events(hub: Hub, run_id: int, after: int = 0, limit: int = 1000) -> list[RunEventView]:
    """Events of a run with a number above `after`, in order."""
    query = select(RunEvent).where(RunEvent.run_id == run_id, RunEvent.n > after).order_by(RunEvent.n).limit(limit)
    with hub.db.read() as session:
        _find(session, run_id)
        return [RunEventView(n=row.n, at=row.at, kind=row.kind, body=row.body) for row in session.scalars(query)]


def cancel(hub: Hub, run_id: int) -> RunView:
    """Take a run out of the queue, or ask the one that is going on to end. A run that has ended stays as it is."""
    with hub.db.write() as session:
        run = _find(session, run_id)
        if run.state == "queued":
            run.state = "cancelled"
            run.ended = utc_text(hub.now())
            run.message = "cancelled before it began"
        elif run.state == "running":
            run.state = "cancelling"
    return run_view(hub, run_id)


def resume(hub: Hub, run_id: int) -> RunView:
    """Queue a run again that was interrupted, cancelled or failed; finished seeds are taken from its checkpoint."""
    with hub.db.write() as session:
        run = _find(session, run_id)
        if run.state == "done":
            raise InputError(f"run {run_id} is done; ask for a new measurement instead of resuming it")
        if run.state not in OPEN_STATES:
            run.state = "queued"
            run.ended = None
            run.message = ""
    return run_view(hub, run_id)


def job_of(hub: Hub, run: HubRun) -> Job:
    """What the claims worker needs to know."""
    settings = hub.settings
    return Job(
        slug=run.slug,
        claim=run.claim,
        scale=cast("Scale", run.scale),
        seeds=tuple(run.seeds),
        records=settings.records,
        checkpoints=settings.home / "checkpoints",
        data=settings.data,
        home=settings.home,
        memory_gib=settings.run_memory_gib,
        seconds=settings.run_seconds,
    )


def _find(session: Session, run_id: int) -> HubRun:
    run = session.get(HubRun, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}; /runs lists those that there are")
    return run


def _view(hub: Hub, session: Session, run: HubRun) -> RunView:
    paper = hub.catalogue.papers.get(run.slug)
    spec = next((claim for claim in paper.claims if claim.id == run.claim), None) if paper else None
    last = session.scalar(select(func.max(RunEvent.n)).where(RunEvent.run_id == run.id)) or 0
    newest = select(RunEvent).where(RunEvent.run_id == run.id, RunEvent.kind == "progress")
    progress = session.scalars(newest.order_by(RunEvent.n.desc()).limit(1)).first()
    body: dict[str, Any] = progress.body if progress else {}
    done, total = _overall(run, body)
    ahead = None
    if run.state == "queued":
        earlier = select(func.count()).select_from(HubRun).where(HubRun.state.in_(OPEN_STATES), HubRun.id < run.id)
        ahead = session.scalar(earlier) or 0
    if run.state == "done" and total:
        done = total
    return RunView(
        id=run.id,
        slug=run.slug,
        claim=run.claim,
        statement=spec.statement if spec else "",
        paper_ref=(paper.spec.arxiv or run.slug) if paper else run.slug,
        scale=run.scale,
        seeds=tuple(run.seeds),
        state=run.state,
        asked=run.asked,
        started=run.started,
        ended=run.ended,
        done=done,
        total=total,
        note=str(body.get("note", "")),
        remaining_s=_remaining(hub, run, done, total),
        verdict=cast("Verdict | None", run.verdict),
        record=run.record,
        message=run.message,
        queue_position=ahead,
        last_event=last,
    )


def _overall(run: HubRun, body: dict[str, Any]) -> tuple[float, float | None]:
    """Progress over all seeds in units of seeds: finished seeds plus the share of the one that is going on."""
    if not body:
        return 0.0, float(len(run.seeds))
    seed, total = body.get("seed"), body.get("total")
    before = run.seeds.index(seed) if seed in run.seeds else 0
    share = float(body.get("done", 0)) / float(total) if total else 0.0
    return before + min(share, 1.0), float(len(run.seeds))


def _remaining(hub: Hub, run: HubRun, done: float, total: float | None) -> float | None:
    if run.state != "running" or run.started is None or not total or done <= 0.02 * total:
        return None
    started = datetime.strptime(run.started, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    elapsed = (hub.now() - started).total_seconds()
    return max(0.0, elapsed * (total - done) / done)

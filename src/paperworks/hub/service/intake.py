"""Take papers in from sources: the turns, their log, what was refused and its second chance.

A batch, its refusals, its counts and the cursor after it are one transaction, so a turn that is killed anywhere goes on where it
was and ends in the same state. An answer that is not what was asked for fails as a whole and moves nothing.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update

from paperworks.errors import InputError, NotFound, PaperworksError, SourceError, StoreError
from paperworks.hub.hub import Hub
from paperworks.hub.records import Batch, PaperRecord, RefusedEntry
from paperworks.hub.sources.base import Source as SourceProtocol
from paperworks.hub.sources.base import open_source
from paperworks.hub.sources.http import PoliteClient
from paperworks.hub.store.gate import DatabaseGate
from paperworks.hub.store.load import Counts, store_batch
from paperworks.hub.store.lock import intake_turn
from paperworks.hub.store.models import Audit, Intake, Refused, Source
from paperworks.hub.times import utc_text
from paperworks.hub.views import IntakeView, RefusedView, SourceView
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)

ASKED = "added by hand"  # the source that `add` asks through
NOT_ASKED = ("catalogue", "file")  # kinds that no turn of the clock asks
EVERY = {"arxiv": timedelta(hours=12), "hf-daily": timedelta(hours=6), "feed": timedelta(hours=6)}
RARELY = timedelta(hours=24)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=15), timedelta(hours=24)
REFUSED_SHARE, FEW = 1 / 3, 10  # more than a third of a batch of ten or more refused: something is wrong with the whole
TOGETHER = 3000  # records of files in one transaction


def polite_client(hub: Hub) -> PoliteClient:
    """The client through which this hub asks others; its turns are kept in the database."""
    gap = hub.settings.sources.arxiv_gap_s
    return PoliteClient(hub.settings.sources, DatabaseGate(hub.db, {"arxiv": gap, "huggingface": min(1.0, gap)}))


# -- sources --------------------------------------------------------------------------------------------------------


def add_source(hub: Hub, kind: str, name: str | None = None, **config: Any) -> SourceView:
    """Add a source, or change the settings of the one of that name; changed settings start from the beginning.

    Raises InputError for an unknown kind, for settings that the kind does not take, for a name that another kind has.
    """
    config = {key: value for key, value in config.items() if value not in (None, "", [], ())}
    opened = open_source(kind, {**config, **({"name": name} if name else {})}, hub.settings.sources)
    name = (name or opened.name)[:200]
    with hub.db.write() as session:
        row = session.scalar(select(Source).where(Source.name == name))
        if row is None:
            row = Source(kind=kind, name=name, config=config)
            session.add(row)
        elif row.kind != kind or kind in NOT_ASKED:
            raise InputError(f"there is a source {name!r} of kind {row.kind} already; give this one another --name")
        elif row.config != config:
            row.config, row.cursor, row.due = config, None, None
        row.paused_reason, row.failures = None, 0
    return next(view for view in sources(hub) if view.name == name)


def sources(hub: Hub) -> list[SourceView]:
    """Every source with its last turn and, in words, why nothing came."""
    with hub.db.read() as session:
        rows = session.scalars(select(Source).where(Source.kind != "catalogue").order_by(Source.id)).all()
        sums = select(Intake.source_id, func.sum(Intake.new)).group_by(Intake.source_id)
        brought = dict(session.execute(sums).all())
        latest = select(func.max(Intake.id)).group_by(Intake.source_id)
        last = {intake.source_id: intake for intake in session.scalars(select(Intake).where(Intake.id.in_(latest)))}
    views = []
    for row in rows:
        intake = _view(last[row.id], row.name) if row.id in last else None
        views.append(
            SourceView(
                name=row.name,
                kind=row.kind,
                config=row.config,
                due=row.due,
                failures=row.failures,
                paused_reason=row.paused_reason,
                papers=brought.get(row.id) or 0,
                last=intake,
                explanation=_explanation(hub, row, intake),
            )
        )
    return views


def _explanation(hub: Hub, row: Source, last: IntakeView | None) -> str:
    if row.paused_reason:
        return f"Paused: {row.paused_reason}. Ask it again with: paperworks intake --source {row.name!r}"
    if last is None:
        return f"Not asked yet. Ask it with: paperworks intake --source {row.name!r}"
    if last.state == "running":
        return "An intake is going on."
    if last.state == "interrupted":
        return "The last intake was interrupted; the next one goes on where it stopped."
    if last.state == "failed":
        return f"The last intake failed: {last.message}"
    if last.new or last.changed or row.kind == "file":
        return ""
    weekend = hub.now().weekday() >= 5
    if row.kind == "arxiv" and weekend:
        return "Nothing new: arXiv announces nothing on Saturday and Sunday."
    if row.kind == "hf-daily" and weekend:
        return "Nothing new: few papers are listed at weekends."
    return "Nothing new since the intake before."


# -- turns ----------------------------------------------------------------------------------------------------------


def run_intake(
    hub: Hub,
    name: str | None = None,
    since: str | None = None,
    dry_run: bool = False,
    progress: Progress = silent,
    *,
    client: PoliteClient | None = None,
    due_only: bool = False,
) -> list[IntakeView]:
    """Ask one source, or all that are not paused, and return what came of each turn. A failing source does not stop the others.

    since: a day; go back to it whatever the cursor says (arXiv sets and Hugging Face only).
    dry_run: say what would come, and keep nothing.
    due_only: leave out sources whose next turn is still to come.
    Raises NotFound for a name that no source has; with `name`, InputError and StoreError of its turn.
    """
    with hub.db.read() as session:
        rows = session.scalars(select(Source).where(Source.kind.not_in(NOT_ASKED)).order_by(Source.id)).all()
    if name is not None:
        chosen = [row for row in rows if row.name == name]
        if not chosen:
            known = ", ".join(repr(row.name) for row in rows) or "none; `paperworks source add` makes one"
            raise NotFound(f"there is no source {name!r} to ask; known: {known}")
    else:
        now = utc_text(hub.now())
        chosen = [
            row
            for row in rows
            if row.paused_reason is None and row.name != ASKED and not (due_only and row.due and row.due > now)
        ]
    views = []
    with _client(hub, client) as http:
        for row in chosen:
            try:
                config = {**row.config, "name": row.name, **({"since": since} if since else {})}
                opened = open_source(row.kind, config, hub.settings.sources)
                views.append(take_in(hub, row.id, opened, http, progress, dry_run=dry_run, afresh=since is not None))
            except (InputError, StoreError) as error:
                if name is not None:
                    raise
                log.warning("intake source=%s: %s", row.name, error)
                views.append(_failed_at_the_door(hub, row, error, dry_run))
    return views


def take_in(
    hub: Hub,
    source_id: int,
    opened: SourceProtocol,
    http: PoliteClient,
    progress: Progress = silent,
    *,
    dry_run: bool = False,
    afresh: bool = False,
) -> IntakeView:
    """One turn of one source.

    afresh: start without the cursor. Raises StoreError when another turn of the source is going on; what the source does wrong is
    told by the view.
    """
    with hub.db.read() as session:
        source = session.get_one(Source, source_id)
    with intake_turn(hub.home, source.name):
        if dry_run:
            return _rehearse(hub, source, opened, http, progress, afresh)
        intake_id = _begin(hub, source_id)
        cursor = None if afresh else source.cursor
        try:
            problem = _store(hub, source, opened, http, progress, intake_id, cursor)
        except PaperworksError as error:
            if isinstance(error, StoreError):
                log.error("intake source=%s stopped: %s", source.name, error)
                raise
            return _end(hub, intake_id, "failed", str(error))
        except Exception as error:
            log.exception("intake source=%s broke", source.name)
            what = f"{type(error).__name__}: {error}"
            return _end(
                hub, intake_id, "failed", f"the source broke ({what}); this is a fault of the program, please report it"
            )
        except BaseException:
            _end(hub, intake_id, "interrupted", "stopped before its end; the next turn goes on where this one stopped")
            raise
        return _end(hub, intake_id, "failed" if problem else "done", problem or "")


def _store(
    hub: Hub,
    source: Source,
    opened: SourceProtocol,
    http: PoliteClient,
    progress: Progress,
    intake_id: int,
    cursor: str | None,
) -> str | None:
    """Store what the source yields. Returns why it was stopped, None at the end."""
    of_files = source.kind == "file"
    done = 0
    with closing(_together(opened.fetch(cursor, http), TOGETHER if of_files else 1)) as batches:
        for batch in batches:
            with hub.db.write() as session:
                now = hub.now()
                counts = store_batch(
                    session, source.id, intake_id, batch, now, settings=hub.settings, move_cursor=False
                )
                problem = _suspicion(batch, counts)
                row = session.get_one(Source, source.id)
                if problem is None:
                    row.cursor = batch.cursor if batch.cursor is not None else row.cursor
                else:
                    row.paused_reason = None if of_files else problem
                    session.add(
                        Audit(
                            at=utc_text(now), who="intake", action="source-paused", subject=source.name, detail=problem
                        )
                    )
            if problem is not None:
                return problem
            done += counts.total
            progress(done, None, source.name)
    return None


def _suspicion(batch: Batch, counts: Counts) -> str | None:
    if not _too_many(counts.refused, counts.total):
        return None
    reason = batch.refused[0].reason if batch.refused else "see the refused entries"
    return (
        f"{counts.refused} of {counts.total} entries could not be read, so the format has probably changed (the first: {reason}); "
        "nothing after them was read"
    )


def _begin(hub: Hub, source_id: int) -> int:
    with hub.db.write() as session:
        # The lock is ours, so a turn that says it is running was killed.
        session.execute(
            update(Intake)
            .where(Intake.source_id == source_id, Intake.state == "running")
            .values(
                state="interrupted", ended=utc_text(hub.now()), message="killed before its end; the next turn went on"
            )
        )
        intake = Intake(source_id=source_id, started=utc_text(hub.now()))
        session.add(intake)
        session.flush()
        return intake.id


def _end(hub: Hub, intake_id: int, state: str, message: str) -> IntakeView:
    with hub.db.write() as session:
        intake = session.get_one(Intake, intake_id)
        source = session.get_one(Source, intake.source_id)
        if state == "done" and intake.refused:
            state = "refusals"
        intake.state, intake.ended, intake.message = state, utc_text(hub.now()), message[:2000]
        if state == "failed":
            source.failures += 1
            pause: timedelta | None = min(FIRST_PAUSE * 2 ** min(source.failures - 1, 12), LONGEST_PAUSE)
        elif state == "interrupted":
            pause = timedelta(0)
        else:
            source.failures, source.paused_reason = 0, None
            pause = EVERY.get(source.kind, RARELY)
        if source.kind not in NOT_ASKED and source.name != ASKED and pause is not None:
            source.due = utc_text(hub.now() + pause)
        log.info(
            "intake id=%d source=%s state=%s new=%d changed=%d same=%d refused=%d requests=%d",
            *(intake.id, source.name, state, intake.new, intake.changed, intake.same, intake.refused, intake.requests),
        )
        return _view(intake, source.name)


class _Undo(Exception):
    """Leaves a transaction so that nothing of it is kept."""


def _rehearse(
    hub: Hub, source: Source, opened: SourceProtocol, http: PoliteClient, progress: Progress, afresh: bool
) -> IntakeView:
    started, total, requests = utc_text(hub.now()), Counts(), 0
    state, message = "done", "nothing was kept: this was a rehearsal"
    try:
        for batch in opened.fetch(None if afresh else source.cursor, http):
            requests += batch.requests
            try:
                with hub.db.write() as session:
                    total += store_batch(session, source.id, None, batch, hub.now())
                    raise _Undo
            except _Undo:
                progress(total.total, None, source.name)
    except SourceError as error:
        state, message = "failed", str(error)
    if state == "done" and total.refused:
        state = "refusals"
    return IntakeView(
        id=0, source=source.name, started=started, ended=utc_text(hub.now()), state=state, requests=requests,
        new=total.new, changed=total.changed, same=total.same, refused=total.refused, message=message,
    )  # fmt: skip


def _failed_at_the_door(hub: Hub, row: Source, error: PaperworksError, dry_run: bool) -> IntakeView:
    if dry_run or isinstance(error, StoreError):
        now = utc_text(hub.now())
        return IntakeView(
            id=0, source=row.name, started=now, ended=now, state="failed", requests=0, new=0, changed=0, same=0, refused=0,
            message=str(error),
        )  # fmt: skip
    return _end(hub, _begin(hub, row.id), "failed", str(error))


def source_row(hub: Hub, kind: str, name: str, config: dict[str, Any]) -> int:
    """The id of the source of that name, made if need be."""
    with hub.db.write() as session:
        row = session.scalar(select(Source).where(Source.name == name))
        if row is None:
            row = Source(kind=kind, name=name, config=config)
            session.add(row)
            session.flush()
        return row.id


# -- the log and the refused ----------------------------------------------------------------------------------------


def intake_log(hub: Hub, n: int = 50) -> list[IntakeView]:
    """The last `n` turns of all sources, newest first."""
    with hub.db.read() as session:
        query = (
            select(Intake, Source.name).join(Source, Source.id == Intake.source_id).order_by(Intake.id.desc()).limit(n)
        )
        return [_view(intake, name) for intake, name in session.execute(query)]


def refused(hub: Hub, intake_id: int | None = None, *, waiting_only: bool = False) -> list[RefusedView]:
    """Entries that could not be read, of one intake or of all, oldest first.

    Raises NotFound for an intake that does not exist.
    """
    with hub.db.read() as session:
        query = select(Refused).order_by(Refused.id)
        if intake_id is not None:
            if session.get(Intake, intake_id) is None:
                raise NotFound(f"there is no intake {intake_id}; `paperworks intake log` lists them")
            query = query.where(Refused.intake_id == intake_id)
        if waiting_only:
            query = query.where(Refused.settled.is_(False))
        return [
            RefusedView(
                id=row.id, intake_id=row.intake_id, ordinal=row.ordinal, reason=row.reason, raw=row.raw, settled=row.settled
            )
            for row in session.scalars(query)
        ]  # fmt: skip


def retry_refused(hub: Hub, progress: Progress = silent) -> IntakeView:
    """Read again what waits, from the bytes that were kept. What can be read now is taken in and settled; the rest goes on waiting.

    `new`, `changed` and `same` of the view count papers, `refused` what still waits.
    """
    with hub.db.read() as session:
        waiting = session.execute(
            select(Refused.id, Refused.raw, Refused.ordinal, Source.id, Source.kind, Source.config)
            .join(Intake, Intake.id == Refused.intake_id)
            .join(Source, Source.id == Intake.source_id)
            .where(Refused.settled.is_(False))
            .order_by(Refused.id)
        ).all()
    started, total = utc_text(hub.now()), Counts()
    for done, (refused_id, raw, ordinal, source_id, kind, config) in enumerate(waiting, start=1):
        outcome = _read_again(raw, ordinal, kind, config, hub)
        with hub.db.write() as session:
            row = session.get_one(Refused, refused_id)
            if row.settled:
                continue
            if isinstance(outcome, RefusedEntry):
                row.reason = outcome.reason[:2000]
                total += Counts(refused=1)
            else:
                counts = store_batch(
                    session,
                    source_id,
                    None,
                    Batch(records=(outcome,)),
                    hub.now(),
                    settings=hub.settings,
                    move_cursor=False,
                )
                row.settled = counts.refused == 0
                total += counts
        progress(done, len(waiting), "read again")
    return IntakeView(
        id=0, source="refused entries", started=started, ended=utc_text(hub.now()), state="refusals" if total.refused else "done",
        requests=0, new=total.new, changed=total.changed, same=total.same, refused=total.refused,
        message="" if waiting else "nothing waits",
    )  # fmt: skip


def _read_again(raw: str, ordinal: int, kind: str, config: dict[str, Any], hub: Hub) -> PaperRecord | RefusedEntry:
    from paperworks.hub.sources.again import read_again
    from paperworks.hub.sources.files import FileSource

    try:
        if kind != "file" or raw.lstrip().startswith("{"):
            return read_again(raw)
        given = [str(config.get("path", ""))] if config.get("path") not in (None, "-") else []
        formats = [config.get("format")] if config.get("format") else []
        ending = next(
            (Path(path.removesuffix(".gz").removesuffix(".xz").removesuffix(".bz2")).suffix for path in given), ""
        )
        formats += [name for end, name in ((".bib", "bibtex"), (".ris", "ris")) if end == ending]
        reader = FileSource(
            ["-"], hub.settings.sources, format=formats[0] if formats else None, stdin=io.BytesIO(raw.encode())
        )
        with polite_client(hub) as http:
            for batch in reader.fetch(None, http):
                if batch.records:
                    return batch.records[0]
                if batch.refused:
                    return RefusedEntry(ordinal=ordinal, reason=batch.refused[0].reason, raw=raw)
    except (PaperworksError, ValueError, TypeError, RecursionError) as error:
        return RefusedEntry(ordinal=ordinal, reason=str(error)[:1000], raw=raw)
    return RefusedEntry(ordinal=ordinal, reason="nothing was found in it", raw=raw)


def _view(intake: Intake, source: str) -> IntakeView:
    return IntakeView(
        id=intake.id, source=source, started=intake.started, ended=intake.ended, state=intake.state, requests=intake.requests,
        new=intake.new, changed=intake.changed, same=intake.same, refused=intake.refused, message=intake.message,
    )  # fmt: skip


# -- small parts --------------------------------------------------------------------------------------------------


@contextmanager
def _client(hub: Hub, given: PoliteClient | None) -> Iterator[PoliteClient]:
    if given is not None:
        yield given
        return
    with polite_client(hub) as made:
        yield made


def _too_many(n_refused: int, n_entries: int) -> bool:
    return n_entries >= FEW and n_refused > REFUSED_SHARE * n_entries


def _together(batches: Iterable[Batch], most: int) -> Generator[Batch, None, None]:
    """Small batches put together until there are `most` entries. One that looks wrong by itself ends its group."""
    group: list[Batch] = []
    n_entries = 0
    for batch in batches:
        n = len(batch.records) + len(batch.refused)
        suspicious = _too_many(len(batch.refused), n)
        if group and suspicious:  # so that what came before it is not held against it, nor lost with it
            yield _joined(group)
            group, n_entries = [], 0
        group.append(batch)
        n_entries += n
        if n_entries >= most or most == 1 or suspicious:
            yield _joined(group)
            group, n_entries = [], 0
    if group:
        yield _joined(group)


def _joined(group: list[Batch]) -> Batch:
    if len(group) == 1:
        return group[0]
    return Batch.model_construct(
        records=tuple(record for batch in group for record in batch.records),
        refused=tuple(entry for batch in group for entry in batch.refused),
        cursor=next((batch.cursor for batch in reversed(group) if batch.cursor is not None), None),
        requests=sum(batch.requests for batch in group),
    )

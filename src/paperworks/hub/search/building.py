"""Build the vectors: from nothing in a process of its own, new papers folded in where they are.

Run as `python -m paperworks.hub.search.building` it reads one JSON object {url, root, embedder, now} from standard input,
builds a new generation beside the one in force, puts it in force, and writes progress as JSON lines. Reading words for half a
minute in the server's own process would make every page wait for it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from paperworks.errors import StoreError
from paperworks.hub.search import vectors
from paperworks.hub.search.apart import run_apart, tell
from paperworks.hub.search.embed import Embedder, kind_of
from paperworks.hub.search.vectors import State, VectorIndex, text_hash
from paperworks.hub.store.database import Database
from paperworks.hub.store.models import Intake, Paper
from paperworks.hub.times import parse_utc, utc_text
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)
FEWEST = 3  # papers that a space can be learnt from
MOST_FITTED = 100_000  # papers that a space is learnt from; a larger hub learns from a sample
READ = 2_000
GROWN = 1.5  # a hub so many times as large as when its space was learnt learns anew at once
STALE_DAYS = 7
STALE_GROWN = 1.02
MOST_SEGMENTS = 24
IN_PROCESS = 2_000  # papers; up to here a child process costs more than it saves

What = Literal["nothing", "fold", "refit"]


def signature(session: Session) -> str:
    """Changes whenever a paper came or its text may have changed."""
    papers = session.execute(select(func.max(Paper.id), func.count())).one()
    taken = session.execute(select(func.sum(Intake.new), func.sum(Intake.changed))).one()
    return " ".join(str(value or 0) for value in (*papers, *taken))


def decide(state: State | None, n_papers: int, now: datetime, embedder: str, *, usable: bool = True) -> What:
    """What to do for `n_papers`: learn a space anew, or see what has changed, or nothing.

    A space is learnt anew when there is none (or none that is whole), when another embedder is set, when the hub is half as
    large again, and once a week if it has grown at all.
    """
    if n_papers < FEWEST:
        return "nothing"
    if state is None or not usable or state.embedder != embedder:
        return "refit"
    grown = n_papers / max(1, state.fitted)
    if state.fitted < MOST_FITTED and grown >= GROWN:
        return "refit"
    age_days = (now - parse_utc(state.made)).total_seconds() / 86_400
    if age_days >= STALE_DAYS and n_papers >= STALE_GROWN * state.n_rows_fitted:
        return "refit"
    if len(state.segments) >= MOST_SEGMENTS:
        return "refit"
    return "fold"


def build(db: Database, root: Path, embedder: str, now: datetime, progress: Progress = silent) -> State:
    """Learn a space, embed every paper, put it in force. A crash anywhere leaves what was in force.

    Raises InputError for an embedder that is not there, StoreError when the folder cannot be written.
    """
    with db.read() as session:
        seen = signature(session)
        ids = np.array(session.scalars(select(Paper.id).order_by(Paper.id)).all(), dtype=np.int64)
    kind = kind_of(embedder)
    generation = f"g-{uuid.uuid4().hex[:12]}"
    folder = root / generation
    try:
        folder.mkdir(parents=True)
        fitted = _sample(ids)
        held = dict(_texts(db, fitted))
        made = kind.make(list(held.values()), folder, progress)
        learnt = getattr(made, "learnt", None)
        if learnt is not None and np.shape(learnt) == (len(ids), made.dims):
            named = np.array([(paper_id, text_hash(text)) for paper_id, text in held.items()], dtype=np.int64)
            rows = named, np.asarray(learnt, dtype=np.float32)
        else:
            rows = _embedded(db, ids, made, progress, held)
        segment = vectors.write_segment(folder, "0000", *rows)
        before = vectors.read_state(root)
        state = State(
            generation,
            made.name,
            made.fingerprint,
            made.dims,
            len(fitted),
            utc_text(now),
            (segment,),
            seen,
            before.serial + 1 if before else 1,
            len(ids),
        )
        vectors.write_state(root, state)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise StoreError(
                f"vectors cannot be written to {root}: {error.strerror or error}; check free space and permissions"
            ) from error
        raise
    log.info("vectors built papers=%d dims=%d embedder=%s", len(ids), made.dims, made.name)
    return state


def fold_in(db: Database, root: Path, index: VectorIndex, progress: Progress = silent) -> int:
    """Embed papers that are new or whose text has changed into a new segment; how many there were."""
    with db.read() as session:
        seen = signature(session)
    if seen == index.state.signature:
        return 0
    changed = seen.split()[3] != (index.state.signature.split() + [""] * 4)[3]
    with db.read() as session:
        ids = np.array(session.scalars(select(Paper.id).order_by(Paper.id)).all(), dtype=np.int64)
    wanted = np.setdiff1d(ids, index.paper_ids)
    if changed:
        held = np.intersect1d(ids, index.paper_ids)
        hashes = dict(zip(held.tolist(), index.hashes_of(held).tolist(), strict=True))
        other = [paper_id for paper_id, text in _texts(db, held) if text_hash(text) != hashes[paper_id]]
        wanted = np.union1d(wanted, np.array(other, dtype=np.int64))
    folder = root / index.state.generation
    state = index.state
    if len(wanted):
        rows = _embedded(db, wanted, index.embedder, progress, {})
        segment = vectors.write_segment(folder, f"{len(state.segments):04d}", *rows)
        state = state.with_segment(segment, seen)
    else:
        state = replace(state, signature=seen, serial=state.serial + 1)
    vectors.write_state(root, state)
    return len(wanted)


def build_apart(db: Database, root: Path, embedder: str, now: datetime, progress: Progress = silent) -> None:
    """`build` in a child process that is nice to others. Raises StoreError with its last words when it fails."""
    order = {
        "url": db.url.render_as_string(hide_password=False),
        "root": str(root),
        "embedder": embedder,
        "now": utc_text(now),
    }
    failed = run_apart("paperworks.hub.search.building", [], json.dumps(order), progress)
    if failed is not None:
        raise StoreError(f"building the vectors failed: {failed}; words are searched meanwhile, and it is tried again")


def _sample(ids: np.ndarray) -> np.ndarray:
    if len(ids) <= MOST_FITTED:
        return ids
    chosen: np.ndarray = np.sort(np.random.default_rng(0).choice(ids, MOST_FITTED, replace=False))
    return chosen


def _texts(db: Database, ids: np.ndarray) -> Iterator[tuple[int, str]]:
    """Id and text (title, line break, abstract), in the order of ids, by short reads."""
    for start in range(0, len(ids), READ):
        part = ids[start : start + READ].tolist()
        between = Paper.id.between(part[0], part[-1])
        if part[-1] - part[0] > 4 * len(part):  # few among many
            between = Paper.id.in_(part)
        wanted = set(part)
        with db.read() as session:
            rows = session.execute(
                select(Paper.id, Paper.title, Paper.abstract).where(between).order_by(Paper.id)
            ).all()
        yield from ((row[0], f"{row[1]}\n{row[2]}") for row in rows if row[0] in wanted)


def _embedded(
    db: Database, ids: np.ndarray, embedder: Embedder, progress: Progress, held: dict[int, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a segment: (n, 2) of id and text hash, (n, d) of vectors."""
    source: Iterator[tuple[int, str]] = iter(held.items()) if len(held) == len(ids) else _texts(db, ids)
    named, rows = np.zeros((len(ids), 2), np.int64), np.zeros((len(ids), embedder.dims), np.float32)
    at = 0
    while batch := list(islice(source, READ)):
        texts: Sequence[str] = [text for _, text in batch]
        made = np.asarray(embedder.embed(texts), dtype=np.float32)
        if made.shape != (len(texts), embedder.dims):
            raise StoreError(
                f"the embedder {embedder.name!r} gave an array of shape {made.shape} for {len(texts)} texts, not "
                f"{(len(texts), embedder.dims)}; mend or replace it"
            )
        rows[at : at + len(texts)] = made
        named[at : at + len(texts)] = [(paper_id, text_hash(text)) for paper_id, text in batch]
        at += len(texts)
        progress(at, len(ids), "embedding papers")
    return named[:at], rows[:at]


def main() -> None:
    order = json.loads(sys.stdin.read())
    if hasattr(os, "nice"):
        os.nice(10)

    db = Database(order["url"])
    try:
        build(db, Path(order["root"]), order["embedder"], parse_utc(order["now"]), tell)
    except StoreError as error:
        sys.exit(str(error))
    finally:
        db.close()


if __name__ == "__main__":
    main()

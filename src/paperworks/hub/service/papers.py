"""Papers: the front page, one paper, the lists of a day, a category, an author; bringing papers in and giving them away."""

from __future__ import annotations

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, literal_column, or_, select, text
from sqlalchemy.orm import Session

from paperworks.errors import InputError, NotFound, SourceError
from paperworks.hub.hub import Hub
from paperworks.hub.identifiers import parse_reference
from paperworks.hub.records import Batch, RefusedEntry
from paperworks.hub.service import citing
from paperworks.hub.service.cards import build_cards, find_paper, identifiers_of
from paperworks.hub.service.claims import claim_rows, tally
from paperworks.hub.service.intake import ASKED, polite_client, source_row, sources, take_in
from paperworks.hub.sources.http import PoliteClient
from paperworks.hub.store.models import PAPER_DAY as _PAPER_DAY
from paperworks.hub.store.models import (
    Author,
    Authorship,
    Counter,
    Fact,
    Hot,
    Link,
    Listing,
    Paper,
    PaperCategory,
    Version,
)
from paperworks.hub.times import parse_utc, today, utc_text
from paperworks.hub.views import (
    DayPage,
    FrontPage,
    IntakeView,
    LinkView,
    ListPage,
    PaperCard,
    PaperPage,
    VersionView,
    Window,
)
from paperworks.progress import Progress, silent

PAGE = 20
FRONT = 12
MOST_OF_A_DAY = 500
RARE = 5000  # a category with more papers than this is walked by day, not collected and sorted
EXPORT_STEP = 500
FORMATS = ("jsonl", "bibtex", "ris", "csv")

PAPER_DAY: Any = literal_column(  # Any: what mypy is told of `==` on a literal column is bool
    _PAPER_DAY.replace("announced", "paper.announced").replace("first_seen", "paper.first_seen")
)


# -- pages ----------------------------------------------------------------------------------------------------------


def front_page(hub: Hub, window: Window = "week") -> FrontPage:
    """What trends, what runs here, what came last."""
    with hub.db.read() as session:
        runnable = {
            slug: paper_id
            for paper_id, slug in session.execute(select(Paper.id, Paper.slug).where(Paper.slug.is_not(None)))
        }
        ours = [runnable[slug] for slug in hub.catalogue if slug in runnable]
        recent = list(session.scalars(select(Paper.id).order_by(PAPER_DAY.desc(), Paper.id.desc()).limit(FRONT)))
        trending = _trending_ids(hub, session, window, FRONT)
        cards = {card.id: card for card in build_cards(hub, session, [*trending, *ours, *recent])}
        n_papers = session.scalar(select(func.count()).select_from(Paper)) or 0
    problems = tuple(problem.message for problem in hub.catalogue.problems)
    return FrontPage(
        window=window,
        trending=tuple(cards[paper_id] for paper_id in trending if paper_id in cards),
        runnable=tuple(sorted((cards[paper_id] for paper_id in ours), key=lambda card: card.state != "runs-here")),
        recent=tuple(cards[paper_id] for paper_id in recent),
        papers=n_papers,
        claims=tally(hub),
        problems=problems,
    )


def paper_page(hub: Hub, reference: str) -> PaperPage:
    """Everything about one paper. Raises NotFound."""
    with hub.db.read() as session:
        paper_id = find_paper(hub, session, reference)
        paper = session.get_one(Paper, paper_id)
        (card,) = build_cards(hub, session, [paper_id])
        links = session.scalars(
            select(Link).where(Link.paper_id == paper_id).order_by(Link.kind, Link.official.desc(), Link.url)
        ).all()
        versions = session.scalars(
            select(Version).where(Version.paper_id == paper_id).order_by(Version.number.desc())
        ).all()
        identifiers = identifiers_of(session, [paper_id])[paper_id]
    runnable = hub.catalogue.papers.get(card.slug) if card.slug else None
    return PaperPage(
        card=card,
        identifiers=identifiers,
        links=tuple(LinkView(kind=link.kind, url=link.url, who=link.who, official=link.official) for link in links),
        versions=tuple(
            VersionView(
                number=version.number, submitted=version.submitted, title=version.title, abstract=version.abstract
            )
            for version in versions
        ),
        comment=paper.comment,
        journal_ref=paper.journal_ref,
        licence=paper.licence,
        withdrawn=paper.withdrawn,
        abstract_source=paper.abstract_source,
        summary=runnable.spec.summary if runnable else "",
        claims=tuple(claim_rows(hub, card.slug)) if card.slug else (),
        similar=_similar(hub, card),
    )


def day_page(hub: Hub, day: str | None = None) -> DayPage:
    """The papers of a day, the hottest first; without `day` the latest day that has any.

    Raises InputError for what is not a day like 2026-08-21.
    """
    with hub.db.read() as session:
        if day is None:
            latest = session.scalar(
                select(PAPER_DAY).select_from(Paper).where(today(hub) >= PAPER_DAY).order_by(PAPER_DAY.desc()).limit(1)
            )
            day = latest or today(hub)
        day = _day(day)
        query = (
            select(Paper.id)
            .outerjoin(Hot, Hot.paper_id == Paper.id)
            .where(day == PAPER_DAY)
            .order_by(Hot.key_week.desc().nulls_last(), Paper.slug.is_(None), Paper.id)
        )
        ids = list(session.scalars(query.limit(MOST_OF_A_DAY)))
        total = len(ids)
        if total == MOST_OF_A_DAY:
            total = session.scalar(select(func.count()).select_from(Paper).where(day == PAPER_DAY)) or total
        before = select(PAPER_DAY).select_from(Paper).where(day > PAPER_DAY).order_by(PAPER_DAY.desc()).limit(1)
        after = select(PAPER_DAY).select_from(Paper).where(day < PAPER_DAY).order_by(PAPER_DAY).limit(1)
        cards = build_cards(hub, session, ids)
        previous, following = session.scalar(before), session.scalar(after)
    explanation = "" if ids else _silence(hub, day)
    return DayPage(day=day, cards=tuple(cards), total=total, previous=previous, next=following, explanation=explanation)


def _silence(hub: Hub, day: str) -> str:
    if day > today(hub):
        return "This day has not come yet."
    asked = [source for source in sources(hub) if source.kind not in ("file",) and source.name != ASKED]
    if not asked:
        return "No source is asked for papers yet. Add one with `paperworks source add arxiv --set cs:cs:LG`, or import a file."
    sentences = []
    if date.fromisoformat(day).weekday() >= 5:
        sentences.append("arXiv announces nothing on Saturday and Sunday.")
    if day == today(hub) and not sentences:
        sentences.append("Nothing has come in today so far; arXiv announces near midnight UTC.")
    sentences += [f"{source.name}: {source.explanation}" for source in asked if source.failures or source.paused_reason]
    return " ".join(sentences) or "No source listed a paper on this day, or the hub was not asking yet."


def category_page(hub: Hub, code: str, cursor: str | None = None) -> ListPage:
    """Papers of a category ('cs.LG') or of an archive ('cs'), newest first."""
    code = code.strip()
    inside = PaperCategory.code == code
    if code and "." not in code:
        inside = or_(inside, and_(PaperCategory.code > f"{code}.", PaperCategory.code < f"{code}/"))  # '/' follows '.'
    with hub.db.read() as session:
        total = session.scalar(select(func.count(func.distinct(PaperCategory.paper_id))).where(inside)) or 0
        if total > RARE:
            chosen: ColumnElement[bool] = exists().where(PaperCategory.paper_id == Paper.id, inside)
        else:
            chosen = Paper.id.in_(select(PaperCategory.paper_id).where(inside))
        return _list_page(hub, session, code, chosen, total, cursor)


def author_page(hub: Hub, key: str, cursor: str | None = None) -> ListPage:
    """Papers of an author, newest first. Raises NotFound for a name that nobody here has."""
    with hub.db.read() as session:
        author = session.scalar(select(Author).where(Author.name_key == key))
        if author is None:
            raise NotFound(f'no author {key[:100]!r} in this hub; search with author:"name" finds other spellings')
        mine = select(Authorship.paper_id).where(Authorship.author_id == author.id)
        total = (
            session.scalar(
                select(func.count(func.distinct(Authorship.paper_id))).where(Authorship.author_id == author.id)
            )
            or 0
        )
        return _list_page(hub, session, author.name, Paper.id.in_(mine), total, cursor)


def _list_page(
    hub: Hub, session: Session, title: str, chosen: ColumnElement[bool], total: int, cursor: str | None
) -> ListPage:
    query = select(Paper.id, PAPER_DAY).where(chosen).order_by(PAPER_DAY.desc(), Paper.id.desc()).limit(PAGE + 1)
    if cursor:
        day, paper_id = _read_cursor(cursor)
        query = query.where(or_(day > PAPER_DAY, and_(day == PAPER_DAY, Paper.id < paper_id)))
    rows = session.execute(query).all()
    cards = build_cards(hub, session, [row[0] for row in rows[:PAGE]])
    following = _cursor(rows[PAGE - 1][1], rows[PAGE - 1][0]) if len(rows) > PAGE else None
    return ListPage(title=title, cards=tuple(cards), total=total, next=following)


def _cursor(day: str, paper_id: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([day, paper_id]).encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[str, int]:
    try:
        day, paper_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return _day(day), min(int(paper_id), 2**62)
    except (ValueError, TypeError, binascii.Error, OverflowError) as error:
        raise InputError(
            f"{cursor[:80]!r} is not the cursor of a list; take the one that the page before gave"
        ) from error


def _day(day: str) -> str:
    try:
        return datetime.strptime(day, "%Y-%m-%d").date().isoformat()
    except (TypeError, ValueError) as error:
        raise InputError(f"{day!r} is not a day like 2026-08-21") from error


def _trending_ids(hub: Hub, session: Session, window: Window, limit: int) -> list[int]:
    from paperworks.hub.service.votes import trending_ids

    return list(trending_ids(hub, session, window, limit))


def _similar(hub: Hub, card: PaperCard) -> tuple[PaperCard, ...]:
    from paperworks.hub.service.search import similar

    return tuple(similar(hub, card.ref, k=6))


# -- bringing papers in ---------------------------------------------------------------------------------------------


class _Asked:
    """Papers named one by one: arXiv is asked for its own, the rest is refused with a reason."""

    kind = "arxiv"
    name = ASKED

    def __init__(self, hub: Hub, references: Sequence[str]) -> None:
        self.hub = hub
        self.wanted: list[str] = []
        self.refused: list[RefusedEntry] = []
        for ordinal, given in enumerate(references, start=1):
            found = parse_reference(given)
            if found and found.scheme == "arxiv":
                self.wanted.append(f"{found.value}v{found.version}" if found.version else found.value)
                continue
            reason = f"{given[:200]!r} is not an arXiv id, an address or a DOI"
            if found:
                reason = f"{found.scheme} {found.value}: only arXiv can be asked for a single paper; import a file (BibTeX, RIS, JSONL) that holds it"
            self.refused.append(RefusedEntry(ordinal=ordinal, reason=reason, raw=given))

    def fetch(self, cursor: str | None, http: PoliteClient) -> Iterator[Batch]:
        from paperworks.hub.sources.arxiv import ArxivIds

        if self.refused:
            yield Batch(refused=tuple(self.refused))
        if self.wanted:
            for batch in ArxivIds(self.wanted, self.hub.settings.sources).fetch(None, http):
                yield batch.model_copy(update={"cursor": None})


def add(
    hub: Hub, references: Sequence[str], progress: Progress = silent, *, client: PoliteClient | None = None
) -> IntakeView:
    """Bring in papers by arXiv id, address or arXiv DOI. References that cannot be asked for are refused, the others come.

    Raises InputError when nothing is named.
    """
    if not references:
        raise InputError("name at least one paper: an arXiv id like 2301.13838, its address, or its DOI")
    source_id = source_row(hub, "arxiv", ASKED, {})
    opened = _Asked(hub, references)
    if client is not None:
        return take_in(hub, source_id, opened, client, progress)
    with polite_client(hub) as http:
        return take_in(hub, source_id, opened, http, progress)


def import_files(
    hub: Hub,
    paths: Sequence[str | Path],
    progress: Progress = silent,
    *,
    format: str | None = None,
    client: PoliteClient | None = None,
) -> IntakeView:
    """Take in files, one after the other: JSON lines, JSON, BibTeX, RIS, CSV, arXiv ids; '-' is standard input.

    Interrupted anywhere, the same call goes on where it was. A file that was taken in whole and has not changed is not read again.
    The view sums up all files; `message` tells about each that failed.
    Raises InputError for no path, SourceError for a file that is not there.
    """
    from paperworks.hub.sources.files import FileSource

    if not paths:
        raise InputError("name at least one file, or - for standard input")
    places = [str(path) if str(path) == "-" else str(Path(path).expanduser().absolute()) for path in paths]
    for place in places:
        if place != "-" and not Path(place).is_file():
            raise SourceError(f"there is no file {place}; nothing was taken in, correct the path")
    views: list[IntakeView] = []
    http = client or polite_client(hub)
    try:
        for place in places:
            name = "standard input" if place == "-" else f"file:{place}"
            config = {"path": place} | ({"format": format} if format else {})
            source_id = source_row(hub, "file", name, config)
            opened = FileSource([place], hub.settings.sources, name=name, format=format)
            views.append(take_in(hub, source_id, opened, http, progress, afresh=place == "-"))
    finally:
        if client is None:
            http.close()
    worst = max(views, key=lambda view: ("done", "refusals", "failed").index(view.state))
    return IntakeView(
        id=views[-1].id,
        source=", ".join(view.source for view in views),
        started=views[0].started,
        ended=views[-1].ended,
        state=worst.state,
        message=" ".join(view.message for view in views if view.message),
        **{
            name: sum(getattr(view, name) for view in views)
            for name in ("requests", "new", "changed", "same", "refused")
        },
    )  # fmt: skip


# -- giving papers away ---------------------------------------------------------------------------------------------


def export(hub: Hub, format: str = "jsonl", query: str | None = None) -> Iterator[str]:
    """All papers, or those that a search finds, piece by piece: 'jsonl' (whole records, for another hub), 'bibtex', 'ris', 'csv'.

    Raises InputError for another format, at once.
    """
    if format not in FORMATS:
        raise InputError(f"papers can be exported as {', '.join(FORMATS)}, not as {format!r}")
    return _export(hub, format, query)


def _export(hub: Hub, format: str, query: str | None) -> Iterator[str]:
    write = {"jsonl": citing.jsonl, "bibtex": citing.bibtex, "ris": citing.ris, "csv": citing.csv_row}[format]
    if format == "csv":
        yield citing.CSV_HEADER
    found: list[int] | None = None
    if query and query.strip():
        from paperworks.hub.service.search import ids_for_query

        with hub.db.read() as session:
            found = [paper_id for paper_id, _ in ids_for_query(hub, session, query, limit=100_000)]
    last, at = 0, 0
    while True:
        with hub.db.read() as session:
            if found is None:
                ids = list(
                    session.scalars(select(Paper.id).where(Paper.id > last).order_by(Paper.id).limit(EXPORT_STEP))
                )
            else:
                ids = found[at : at + EXPORT_STEP]
            records = whole_records(session, ids)
        if not ids:
            return
        last, at = ids[-1], at + EXPORT_STEP
        yield "".join(write(record) for record in records)


def whole_records(session: Session, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Papers as `PaperRecord` fields that are not empty, in the order given; a constant number of queries."""
    if not ids:
        return []
    rows = {paper.id: paper for paper in session.scalars(select(Paper).where(Paper.id.in_(ids)))}
    identifiers = identifiers_of(session, ids)
    gathered: dict[str, defaultdict[int, list[Any]]] = {
        name: defaultdict(list) for name in ("authors", "affiliations", "categories", "links", "listings", "counters")
    }
    authors = (
        select(Authorship.paper_id, Author.name, Authorship.affiliation)
        .join(Author, Author.id == Authorship.author_id)
        .where(Authorship.paper_id.in_(ids))
        .order_by(Authorship.paper_id, Authorship.position)
    )
    for paper_id, name, affiliation in session.execute(authors):
        gathered["authors"][paper_id].append(name)
        gathered["affiliations"][paper_id].append(affiliation)
    categories = (
        select(PaperCategory.paper_id, PaperCategory.code)
        .where(PaperCategory.paper_id.in_(ids))
        .order_by(PaperCategory.paper_id, PaperCategory.is_primary.desc(), PaperCategory.code)
    )
    for paper_id, code in session.execute(categories):
        gathered["categories"][paper_id].append(code)
    for link in session.scalars(select(Link).where(Link.paper_id.in_(ids)).order_by(Link.kind, Link.url)):
        gathered["links"][link.paper_id].append(
            {"kind": link.kind, "url": link.url, "who": link.who, "official": link.official}
        )
    for listing in session.scalars(select(Listing).where(Listing.paper_id.in_(ids)).order_by(Listing.day)):
        gathered["listings"][listing.paper_id].append({"day": listing.day, "rank": listing.rank, "url": listing.url})
    counters = select(Counter).where(Counter.paper_id.in_(ids)).order_by(Counter.seen, Counter.metric)
    for counter in session.scalars(counters):
        gathered["counters"][counter.paper_id].append(
            {"metric": counter.metric, "seen": counter.seen, "value": counter.value}
        )
    records = []
    for paper_id in ids:
        if paper_id not in rows:
            continue
        paper = rows[paper_id]
        record: dict[str, Any] = {
            "title": paper.title,
            "abstract": paper.abstract,
            **identifiers.get(paper_id, {}),
            "version": paper.latest_version if paper.latest_version > 1 else None,
            "published": paper.published,
            "updated": paper.updated,
            "announced": paper.announced,
            "comment": paper.comment,
            "journal_ref": paper.journal_ref,
            "licence": paper.licence,
            "withdrawn": paper.withdrawn,
        } | {name: values[paper_id] for name, values in gathered.items() if any(values.get(paper_id, ()))}
        records.append({name: value for name, value in record.items() if value not in (None, "", False)})
    return records


# -- how the hub is doing -------------------------------------------------------------------------------------------


def doctor(hub: Hub) -> list[tuple[str, bool, str]]:
    """What people ask when something does not work: (what, is it well, a sentence)."""
    import os
    import shutil
    import sqlite3

    from paperworks.hub.store.database import newest_schema
    from paperworks.progress import size

    found: list[tuple[str, bool, str]] = []
    free = shutil.disk_usage(hub.home).free
    found.append(("disk", free > 500_000_000, f"{size(free)} free for {hub.home}"))
    writable = os.access(hub.home, os.W_OK | os.X_OK)
    found.append(
        ("folder", writable, "can be written to" if writable else "cannot be written to; check owner and permissions")
    )
    with hub.db.read() as session:
        schema = hub.db.schema()
        found.append(("schema", schema == newest_schema(), f"{schema}, this program needs {newest_schema()}"))
        if hub.db.is_sqlite:
            verdict = session.scalar(text("PRAGMA quick_check(1)"))
            found.append(
                (
                    "database",
                    verdict == "ok",
                    "passes SQLite's check" if verdict == "ok" else f"{verdict}; restore a backup",
                )
            )
            options = {row[0] for row in session.execute(text("PRAGMA compile_options"))}
            has_words = "ENABLE_FTS5" in options
            found.append(
                ("words index", has_words, f"SQLite {sqlite3.sqlite_version} {'has' if has_words else 'lacks'} FTS5")
            )
        n_papers = session.scalar(select(func.count()).select_from(Paper)) or 0
        found.append(
            (
                "papers",
                n_papers > 0,
                f"{n_papers} in the store" + ("" if n_papers else "; bring some in with `paperworks add` or `import`"),
            )
        )
        newest = session.scalar(select(func.max(Paper.first_seen)))
        beat = session.get(Fact, "beat")
    if newest and parse_utc(newest) > hub.now() + timedelta(hours=1):
        found.append(
            ("clock", False, f"a paper came in at {newest}, which is still to come; this machine's clock was set back")
        )
    else:
        found.append(("clock", True, utc_text(hub.now())))
    found.append(
        ("server", True, f"last beat {beat.value}" if beat else "`paperworks serve` has not run here, or tells no beat")
    )
    for source in sources(hub):
        if source.kind == "file":
            continue
        last = (
            f"last asked {source.last.ended or source.last.started}, brought {source.papers} papers so far"
            if source.last
            else "never asked"
        )
        ok = not source.failures and source.paused_reason is None
        found.append((f"source {source.name}", ok, f"{last}. {source.explanation}".strip()))
    found += [(f"paper {problem.name}", False, problem.message) for problem in hub.catalogue.problems]
    return found

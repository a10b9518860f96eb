"""Take a batch of records into the store: find the paper that each one means, and keep the best of what all sources say.

Two records mean the same paper when they share an identifier, a DOI at last. An equal title with a common author near the same
date is only a proposal in `audit`: a person decides.

Which text wins does not depend on who came first. A text is ranked by (is there any, is it whole, is it free of stripped TeX,
version, does it carry TeX, source, day of update), in that order, arXiv above DOI metadata above Hugging Face above feeds above
files; an equal rank is taken as a correction by the same source and replaces. Where the kept value came from stands in
`paper.provenance`: field -> [version, origin, updated], '*' for what came with the first record. A version of 0 means that the
source did not say.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeVar

from sqlalchemy import Table, bindparam, delete, func, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from paperworks.config import Settings
from paperworks.hub.identifiers import parse_reference
from paperworks.hub.records import Batch, PaperRecord, RefusedEntry
from paperworks.hub.store.models import (
    Audit,
    Author,
    Authorship,
    Counter,
    Identifier,
    Intake,
    Link,
    Listing,
    Paper,
    PaperCategory,
    Refused,
    Source,
    Version,
)
from paperworks.hub.text import name_key, title_key
from paperworks.hub.times import day_text, utc_text

log = logging.getLogger(__name__)
T = TypeVar("T")
Origin = list[Any]  # [version, origin, updated]

ORIGINS = {"hf-daily": "hf"}  # kind of a source -> what stands in `abstract_source`, where the two differ
RANKS = {"arxiv": 0, "doi": 1, "hf": 2, "feed": 3, "file": 4, "catalogue": 5}
PLUGIN_RANK = 3  # a source from a plugin counts as a feed
SCHEMES = ("arxiv", "openreview", "acl", "url", "doi")  # the order in which a paper is looked for
RAW_LIMIT = 64 * 1024
PROPOSAL_DAYS = 400
LIKE_ENOUGH = 20  # papers of one title that a new one is compared with
LARGEST = 2**53
CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records of a batch."""

    new: int = 0
    changed: int = 0
    same: int = 0
    refused: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.new + other.new, self.changed + other.changed, self.same + other.same, self.refused + other.refused
        )

    @property
    def total(self) -> int:
        return self.new + self.changed + self.same + self.refused


def store_batch(
    session: Session,
    source_id: int,
    intake_id: int | None,
    batch: Batch,
    now: datetime,
    *,
    settings: Settings | None = None,
    move_cursor: bool = True,
) -> Counts:
    """Take records, refusals and the new cursor of one batch into the caller's transaction; repeating it changes nothing.

    settings: with them, trending keys are computed anew for papers whose counters were seen.
    move_cursor: False keeps the source's cursor where it was (a batch that is not trusted).
    """
    source = session.get_one(Source, source_id)
    loader = _Loader(session, source, now)
    refused = list(batch.refused)
    rounds: defaultdict[int, list[_Incoming]] = defaultdict(list)
    later: dict[tuple[str, str], int] = {}  # records of one paper go one after the other: the second meets the first
    for record in batch.records:
        problem = _problem(record)
        if problem:
            refused.append(RefusedEntry(ordinal=0, reason=problem, raw=record.model_dump_json(exclude_defaults=True)))
            continue
        incoming = _Incoming(record, loader.origin)
        place = max(later.get(name, 0) for name in incoming.names)
        later.update(dict.fromkeys(incoming.names, place + 1))
        rounds[place].append(incoming)
    counts = Counts()
    for place in sorted(rounds):
        counts += loader.take(rounds[place])
    refused += loader.refused
    _keep_refusals(session, source_id, intake_id, refused)
    counts += Counts(refused=len(refused))
    if loader.counted and settings is not None:
        from paperworks.hub.store.votes import refresh_hot

        refresh_hot(session, sorted(loader.counted), settings, now)
    if move_cursor and batch.cursor is not None:
        source.cursor = batch.cursor
    if intake_id is not None:
        session.execute(
            update(Intake)
            .where(Intake.id == intake_id)
            .values(
                requests=Intake.requests + batch.requests,
                new=Intake.new + counts.new,
                changed=Intake.changed + counts.changed,
                same=Intake.same + counts.same,
                refused=Intake.refused + counts.refused,
            )
        )
    session.flush()
    return counts


# -- ranking what sources say ---------------------------------------------------------------------------------------

# Signs of TeX that lost its backslashes and dollars on the way ('23times', 'ell_1', 'sim3x'), and bare keys of citations.
_STRIPPED = re.compile(
    r"(?<!\\)(?:\b\d+times\b|\b(?:ell|mathcal|mathbb|mathbf|mathrm|textbf|textit|texttt|emph)[_A-Z{]|\b(?:geq|leq)\s?\d|\bsim\s?\d"
    r"|\b(?:alpha|beta|gamma|lambda|sigma|theta|epsilon)[_^]|\b[a-z]{3,}(?:19|20)\d\d[a-z]{3,}\b)"
)
_CUT = ("...", "…", "[...]", "[…]")


def looks_stripped(text: str) -> bool:
    """Whether a text has lost its TeX markup.

    >>> looks_stripped("a 23times speedup"), looks_stripped(r"a $23\\times$ speedup"), looks_stripped("three times 23")
    (True, False, False)
    """
    return _STRIPPED.search(text) is not None


def _text_rank(text: str, said: Origin) -> tuple[bool, bool, bool, int, bool, int, str]:
    version, origin, updated = said
    trusted = origin == "arxiv"
    return (
        bool(text),
        trusted or not text.endswith(_CUT),
        trusted or not looks_stripped(text),
        version,
        trusted or "$" in text or "\\" in text,
        -RANKS.get(origin, PLUGIN_RANK),
        updated,
    )


def _value_rank(value: object, said: Origin) -> tuple[bool, int, int, str]:
    version, origin, updated = said
    return bool(value), version, -RANKS.get(origin, PLUGIN_RANK), updated


def _authority(said: Origin) -> tuple[int, int]:
    return said[0], -RANKS.get(said[1], PLUGIN_RANK)


def _problem(record: PaperRecord) -> str | None:
    if not (record.arxiv or record.doi or record.openreview or record.acl or record.url):
        return "no identifier: give at least one of arxiv, doi, openreview, acl, url"
    if any(counter.value > LARGEST for counter in record.counters):
        return f"a counter above {LARGEST} is not credible"
    if any(counter.seen.tzinfo is None for counter in record.counters):
        return "a counter was seen at a time without time zone; write it like 2026-08-21T07:30:00Z"
    return None


_USUAL = re.compile(r"\d{4}\.\d{4,5}", re.ASCII)  # an arXiv id that needs no second look


class _Incoming:
    """A record with what the store needs of it worked out once."""

    __slots__ = (
        "affiliations",
        "authors",
        "authors_text",
        "names",
        "number",
        "paper_id",
        "primary",
        "record",
        "said",
    )

    def __init__(self, record: PaperRecord, origin: str) -> None:
        self.record = record
        # Readers of files fill in a 1 where nothing is said, so only arXiv's own 1 is a statement.
        stated = "version" in record.model_fields_set and (record.version > 1 or origin == "arxiv")
        found: dict[str, str] = {}
        version = record.version if stated else None
        for scheme, value in record.identifiers.items():
            parsed = None if scheme == "url" or _USUAL.fullmatch(value) else parse_reference(f"{scheme}:{value}")
            if parsed is None:
                found.setdefault(scheme, value)
                continue
            found.setdefault(parsed.scheme, parsed.value)  # the one spelling; an arXiv DOI names the arXiv paper
            if parsed.version is not None and version is None:
                version = parsed.version
        self.names = [(scheme, found[scheme]) for scheme in SCHEMES if scheme in found]
        self.number = version or 0
        self.said: Origin = [self.number, origin, day_text(record.updated) or ""]
        self.authors = record.authors
        affiliations = record.affiliations if len(record.affiliations) == len(record.authors) else ()
        self.affiliations = affiliations if any(affiliations) else ()
        self.authors_text = ", ".join(record.authors)
        self.primary = record.categories[0][:32] if record.categories else ""
        self.paper_id = 0

    @property
    def announced(self) -> str | None:
        days = [listing.day for listing in self.record.listings]
        if self.record.announced:
            days.append(self.record.announced)
        return min(days).isoformat() if days else None

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(code[:32] for code in self.record.categories))


def _say(incoming: _Incoming) -> str:
    return " / ".join(f"{scheme} {value}" for scheme, value in incoming.names)


def _refusal(incoming: _Incoming, reason: str) -> RefusedEntry:
    raw = incoming.record.model_dump_json(exclude_defaults=True)
    return RefusedEntry(ordinal=0, reason=reason, raw=raw)  # 0: the place is not known any more


@dataclass
class _Known:
    """What the store holds of a paper that a record means."""

    row: dict[str, Any]
    categories: list[str] = field(default_factory=list)
    affiliations: list[str] = field(default_factory=list)
    names: set[tuple[str, str]] = field(default_factory=set)
    links: dict[tuple[str, str], bool] = field(default_factory=dict)
    listings: dict[str, tuple[int | None, str]] = field(default_factory=dict)
    versions: dict[int, dict[str, Any]] = field(default_factory=dict)


_HELD = (
    "id", "title", "title_key", "abstract", "abstract_source", "authors_text", "primary_category", "published", "updated", "announced",
    "latest_version", "comment", "journal_ref", "licence", "withdrawn", "provenance",
)  # fmt: skip
_PAPER_COLUMNS = tuple(getattr(Paper, name) for name in _HELD)
_VERSION_COLUMNS = tuple(
    getattr(Version, name)
    for name in ("paper_id", "number", "title", "abstract", "submitted", "content_hash", "source_id")
)


class _Loader:
    """One batch on its way into the store."""

    def __init__(self, session: Session, source: Source, now: datetime) -> None:
        self.session = session
        self.source_id = source.id
        self.now = utc_text(now)
        self.origin = ORIGINS.get(source.kind, source.kind)
        self.counted: set[int] = set()
        self.refused: list[RefusedEntry] = []
        self.sqlite = session.get_bind().dialect.name == "sqlite"
        if not self.sqlite:  # ids are given out here; SQLite's write lock is held already
            session.execute(text("LOCK TABLE paper, author IN SHARE ROW EXCLUSIVE MODE"))
        self.kinds: dict[int | None, str] = {
            row.id: ORIGINS.get(row.kind, row.kind) for row in session.execute(select(Source.id, Source.kind))
        }
        self.author_ids: dict[str, int] = {}
        self._first_words: dict[tuple[Any, ...], str] = {}

    def take(self, batch: list[_Incoming]) -> Counts:
        """Store records of which no two name the same paper."""
        owners = self._owners(batch)
        fresh: list[_Incoming] = []
        met: list[_Incoming] = []
        claimed: dict[int, _Incoming] = {}
        postponed: list[_Incoming] = []
        for incoming in batch:
            found = [owners[name] for name in incoming.names if name in owners]
            if not found:
                if incoming.record.title:
                    fresh.append(incoming)
                else:
                    self.refused.append(
                        _refusal(
                            incoming,
                            f"no paper {_say(incoming)} is known yet, and without a title none can be entered; bring it in first",
                        )
                    )
                continue
            incoming.paper_id = found[0]
            if incoming.paper_id in claimed:  # two records, two names, one paper in the store
                postponed.append(incoming)
                continue
            claimed[incoming.paper_id] = incoming
            met.append(incoming)
            for other in sorted(set(found) - {incoming.paper_id}):
                self._propose(other, incoming.paper_id, "a record names both: " + _say(incoming))
        self._enter(fresh, owners)
        changed = self._merge(met, owners)
        counts = Counts(new=len(fresh), changed=changed, same=len(met) - changed)
        return counts + self.take(postponed) if postponed else counts

    # -- who is meant

    def _owners(self, batch: list[_Incoming]) -> dict[tuple[str, str], int]:
        values: defaultdict[str, list[str]] = defaultdict(list)
        for incoming in batch:
            for scheme, value in incoming.names:
                values[scheme].append(value)
        owners: dict[tuple[str, str], int] = {}
        for scheme, wanted in values.items():
            for part in _parts(wanted):
                query = select(Identifier.value, Identifier.paper_id).where(
                    Identifier.scheme == scheme, self._among(Identifier.value, part)
                )
                for value, paper_id in self.session.execute(query):
                    owners[scheme, value] = paper_id
        return owners

    def _propose(self, one: int, other: int, why: str) -> None:
        subject = " ".join(f"p:{paper_id}" for paper_id in sorted((one, other)))
        if (
            self.session.scalar(select(Audit.id).where(Audit.action == "merge-proposed", Audit.subject == subject))
            is None
        ):
            self.session.execute(
                insert(Audit),
                [{"at": self.now, "who": "intake", "action": "merge-proposed", "subject": subject, "detail": why}],
            )

    # -- new papers

    def _enter(self, fresh: list[_Incoming], owners: dict[tuple[str, str], int]) -> None:
        if not fresh:
            return
        first_id = (self.session.scalar(select(func.max(Paper.id))) or 0) + 1
        papers = []
        for paper_id, incoming in enumerate(fresh, start=first_id):
            incoming.paper_id = paper_id
            record = incoming.record
            papers.append(
                {
                    "id": paper_id,
                    "title": record.title,
                    "title_key": title_key(record.title),
                    "abstract": record.abstract,
                    "abstract_source": self.origin if record.abstract else "",
                    "authors_text": incoming.authors_text,
                    "primary_category": incoming.primary,
                    "published": day_text(record.published),
                    "updated": day_text(record.updated),
                    "announced": incoming.announced,
                    "first_seen": self.now,
                    "latest_version": max(incoming.number, 1),
                    "comment": record.comment,
                    "journal_ref": record.journal_ref,
                    "licence": record.licence,
                    "withdrawn": record.withdrawn,
                    "provenance": self._first_word(incoming.said),
                }
            )
        self._insert(Paper, papers)
        rows = [{"scheme": s, "value": v, "paper_id": one.paper_id} for one in fresh for s, v in one.names]
        self._insert(Identifier, rows)
        owners.update({(row["scheme"], row["value"]): row["paper_id"] for row in rows})  # type: ignore[misc]
        self._write_authors(fresh)
        self._insert(PaperCategory, [row for one in fresh for row in self._category_rows(one)])
        self._insert(Link, [row for one in fresh for row in self._link_rows(one)])
        self._insert(Version, [self._version_row(one) for one in fresh if one.number])
        self._insert(Listing, [row for one in fresh for row in self._listing_rows(one).values()])
        self._count(fresh)
        self._look_alike(fresh, papers)

    def _look_alike(self, fresh: list[_Incoming], papers: list[dict[str, Any]]) -> None:
        """Propose to a person that a new paper may be one that is known under another identifier."""
        by_key: defaultdict[str, list[int]] = defaultdict(list)
        for row in papers:
            by_key[row["title_key"]].append(row["id"])
        first_new = papers[0]["id"]
        for part in _parts(list(by_key)):
            for key, paper_id in self.session.execute(
                select(Paper.title_key, Paper.id).where(self._among(Paper.title_key, part), Paper.id < first_new)
            ):
                by_key[key].append(paper_id)
        groups = [ids for ids in by_key.values() if len(ids) > 1]
        if not groups:
            return
        wanted = [paper_id for ids in groups for paper_id in ids]
        facts = {
            row.id: (
                row.published or row.announced or row.first_seen[:10],
                {name_key(n) for n in row.authors_text.split(", ") if n},
            )
            for part in _parts(wanted)
            for row in self.session.execute(
                select(Paper.id, Paper.published, Paper.announced, Paper.first_seen, Paper.authors_text).where(
                    Paper.id.in_(part)
                )
            )
        }
        leading = {one.paper_id: name_key(one.authors[0]) for one in fresh if one.authors}
        for ids in groups:
            ids.sort()
            for new in (paper_id for paper_id in ids if paper_id >= first_new):
                # One proposal a paper, and few looked at: thousands may be called 'Editorial'.
                for other in (paper_id for paper_id in ids[:LIKE_ENOUGH] if paper_id < new):
                    days = abs((date.fromisoformat(facts[new][0]) - date.fromisoformat(facts[other][0])).days)
                    if leading.get(new) in facts[other][1] and days <= PROPOSAL_DAYS:
                        self._propose(other, new, f"same title, author {leading[new]}, {days} days apart")
                        break

    # -- known papers

    def _merge(self, met: list[_Incoming], owners: dict[tuple[str, str], int]) -> int:
        if not met:
            return 0
        known = self._known(met)
        rows: list[dict[str, Any]] = []
        add: defaultdict[type[Any], list[dict[str, Any]]] = defaultdict(list)
        new_authors: list[_Incoming] = []
        new_categories: list[_Incoming] = []
        changed: set[int] = set()
        for incoming in met:
            state = known[incoming.paper_id]
            row = self._better(incoming, state)
            if row.pop("authors", None):
                new_authors.append(incoming)
            if row.pop("categories", None):
                new_categories.append(incoming)
            if row:
                rows.append({**state.row, **row})
                changed.add(incoming.paper_id)
            for scheme, value in incoming.names:
                if (scheme, value) not in owners:
                    owners[scheme, value] = incoming.paper_id
                    add[Identifier].append({"scheme": scheme, "value": value, "paper_id": incoming.paper_id})
                    changed.add(incoming.paper_id)
            for link in self._link_rows(incoming):
                official = state.links.get((link["kind"], link["url"]))
                if official is None or (link["official"] and not official):
                    add[Link].append(link)
                    changed.add(incoming.paper_id)
            for day, listing in self._listing_rows(incoming).items():
                if state.listings.get(day) != (listing["rank"], listing["url"]):
                    add[Listing].append(listing)
                    changed.add(incoming.paper_id)
            if incoming.number and incoming.record.title and (version := self._better_version(incoming, state)):
                add[Version].append(version)
                changed.add(incoming.paper_id)
        if rows:
            table = _table(Paper)
            values = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in rows[0] if name != "id"}
            statement = update(table).where(table.c.id == bindparam("new_id")).values(values)
            self.session.connection().execute(
                statement, [{f"new_{name}": value for name, value in row.items()} for row in rows]
            )
        self._rewrite_authors(new_authors)
        self._rewrite_categories(new_categories)
        self._insert(Identifier, add[Identifier])
        self._upsert(Link, add[Link], official=True)
        self._upsert(Listing, add[Listing])
        self._upsert(Version, add[Version])
        self._count(met)
        return len(changed)

    def _known(self, met: list[_Incoming]) -> dict[int, _Known]:
        known: dict[int, _Known] = {}
        stated = [one.paper_id for one in met if one.number]
        linked = [one.paper_id for one in met if one.record.links]
        listed = [one.paper_id for one in met if one.record.listings]
        placed = [one.paper_id for one in met if one.affiliations]
        for part in _parts([one.paper_id for one in met]):
            for row in self.session.execute(select(*_PAPER_COLUMNS).where(Paper.id.in_(part))).mappings():
                known[row["id"]] = _Known(dict(row))
            categories = select(PaperCategory.paper_id, PaperCategory.code).where(PaperCategory.paper_id.in_(part))
            for paper_id, code in self.session.execute(categories):
                known[paper_id].categories.append(code)
        for part in _parts(stated):
            for version in self.session.execute(select(*_VERSION_COLUMNS).where(Version.paper_id.in_(part))).mappings():
                known[version["paper_id"]].versions[version["number"]] = dict(version)
        for part in _parts(linked):
            for paper_id, kind, url, official in self.session.execute(
                select(Link.paper_id, Link.kind, Link.url, Link.official).where(Link.paper_id.in_(part))
            ):
                known[paper_id].links[kind, url] = official
        for part in _parts(listed):
            for paper_id, day, rank, url in self.session.execute(
                select(Listing.paper_id, Listing.day, Listing.rank, Listing.url).where(
                    Listing.paper_id.in_(part), Listing.source_id == self.source_id
                )
            ):
                known[paper_id].listings[day] = (rank, url)
        for part in _parts(placed):
            for paper_id, affiliation in self.session.execute(
                select(Authorship.paper_id, Authorship.affiliation)
                .where(Authorship.paper_id.in_(part))
                .order_by(Authorship.paper_id, Authorship.position)
            ):
                known[paper_id].affiliations.append(affiliation)
        return known

    def _better(self, incoming: _Incoming, state: _Known) -> dict[str, Any]:
        """The columns of `paper` that the record improves; `authors` and `categories` stand for their tables."""
        record, row = incoming.record, state.row
        provenance: dict[str, Origin] = dict(row["provenance"])
        start = provenance.get("*") or [0, "catalogue", ""]
        better: dict[str, Any] = {}

        def wins(name: str, value: object, held: object, rank: Any = _value_rank) -> bool:
            if not value:
                return False
            if (
                value == held
            ):  # the better authority for the same words is noted, so that the order of arrival does not matter
                if rank(value, incoming.said) > rank(held, provenance.get(name, start)):
                    provenance[name] = incoming.said
                return False
            if rank(value, incoming.said) < rank(held, provenance.get(name, start)):
                return False
            provenance[name] = incoming.said
            return True

        if wins("title", record.title, row["title"], _text_rank):
            better["title"] = record.title
            better["title_key"] = title_key(record.title)
        if wins("abstract", record.abstract, row["abstract"], _text_rank):
            better["abstract"] = record.abstract
        for name in ("comment", "journal_ref", "licence"):
            value = getattr(record, name)
            if wins(name, value, row[name]):
                better[name] = value
        if row["abstract"] or "abstract" in better:
            origin = provenance.get("abstract", start)[1]
            if origin != row["abstract_source"]:
                better["abstract_source"] = origin
        held_places = tuple(state.affiliations) if incoming.affiliations and any(state.affiliations) else ()
        held = (row["authors_text"], held_places) if row["authors_text"] else ()
        if incoming.authors and wins("authors", (incoming.authors_text, incoming.affiliations), held):
            better["authors"] = True
            better["authors_text"] = incoming.authors_text
        categories = incoming.categories
        held = (row["primary_category"], *sorted(state.categories)) if state.categories else ()
        if categories and wins("categories", (incoming.primary, *sorted(categories)), held):
            better["categories"] = True
            better["primary_category"] = incoming.primary
        published = day_text(record.published)
        if published and published != row["published"]:
            mine, theirs = (
                -RANKS.get(said[1], PLUGIN_RANK) for said in (incoming.said, provenance.get("published", start))
            )
            if not row["published"] or mine > theirs or (mine == theirs and published < row["published"]):
                better["published"], provenance["published"] = published, incoming.said
        updated = day_text(record.updated)
        if updated and updated != row["updated"]:
            newer = [_authority(said) for said in (incoming.said, provenance.get("updated", start))]
            if not row["updated"] or newer[0] > newer[1] or (newer[0] == newer[1] and updated > row["updated"]):
                better["updated"], provenance["updated"] = updated, incoming.said
        if incoming.announced and (not row["announced"] or incoming.announced < row["announced"]):
            better["announced"] = incoming.announced
        if (
            "withdrawn" in record.model_fields_set
            and record.withdrawn != row["withdrawn"]
            and _value_rank(True, incoming.said) >= _value_rank(True, provenance.get("withdrawn", start))
        ):
            better["withdrawn"], provenance["withdrawn"] = record.withdrawn, incoming.said
        if incoming.number > row["latest_version"]:
            better["latest_version"] = incoming.number
        if provenance != row["provenance"]:
            better["provenance"] = provenance
        return better

    def _better_version(self, incoming: _Incoming, state: _Known) -> dict[str, Any] | None:
        row = self._version_row(incoming)
        held = state.versions.get(incoming.number)
        if held is None:
            return row
        said = [incoming.number, self.kinds.get(held["source_id"], "catalogue"), held["submitted"] or ""]
        text_ = "abstract" if row["abstract"] or held["abstract"] else "title"
        mine = _text_rank(row[text_], [incoming.number, self.origin, row["submitted"] or ""])
        theirs = _text_rank(held[text_], said)
        if row["content_hash"] == held["content_hash"] and row["submitted"] in (held["submitted"], None):
            return {**row, "submitted": held["submitted"]} if mine > theirs else None
        return row if mine >= theirs else None

    # -- rows

    def _version_row(self, incoming: _Incoming) -> dict[str, Any]:
        record = incoming.record
        submitted = record.updated or (record.published if incoming.number == 1 else None)
        return {
            "paper_id": incoming.paper_id,
            "number": incoming.number,
            "title": record.title,
            "abstract": record.abstract,
            "submitted": day_text(submitted),
            "content_hash": content_hash(record.title, record.abstract),
            "source_id": self.source_id,
        }

    def _category_rows(self, incoming: _Incoming) -> list[dict[str, Any]]:
        return [
            {"paper_id": incoming.paper_id, "code": code, "is_primary": code == incoming.primary}
            for code in incoming.categories
        ]

    def _link_rows(self, incoming: _Incoming) -> list[dict[str, Any]]:
        rows = {
            (link.kind, link.url): {
                "paper_id": incoming.paper_id, "kind": link.kind, "url": link.url, "who": link.who, "official": link.official,
            }
            for link in incoming.record.links
        }  # fmt: skip
        return list(rows.values())

    def _listing_rows(self, incoming: _Incoming) -> dict[str, dict[str, Any]]:
        return {
            listing.day.isoformat(): {
                "source_id": self.source_id, "paper_id": incoming.paper_id, "day": listing.day.isoformat(),
                "rank": listing.rank, "url": listing.url,
            }
            for listing in incoming.record.listings
        }  # fmt: skip

    def _count(self, batch: list[_Incoming]) -> None:
        rows = {
            (one.paper_id, counter.metric, seen): {
                "paper_id": one.paper_id, "source_id": self.source_id, "metric": counter.metric, "seen": seen, "value": counter.value,
            }
            for one in batch
            for counter in one.record.counters
            for seen in [utc_text(counter.seen)]
        }  # fmt: skip
        self._insert(Counter, list(rows.values()), ignore=True)
        self.counted.update(paper_id for paper_id, metric, _ in rows if metric == "upvotes")

    def _write_authors(self, batch: list[_Incoming]) -> None:
        keys = {name: name_key(name) for one in batch for name in one.authors}
        wanted = {key: name for name, key in reversed(keys.items()) if key not in self.author_ids}
        for part in _parts(list(wanted)):
            for key, author_id in self.session.execute(
                select(Author.name_key, Author.id).where(self._among(Author.name_key, part))
            ):
                self.author_ids[key] = author_id
        missing = [key for key in reversed(wanted) if key not in self.author_ids]
        if missing:
            first_id = (self.session.scalar(select(func.max(Author.id))) or 0) + 1
            rows = [{"id": n, "name": wanted[key], "name_key": key} for n, key in enumerate(missing, start=first_id)]
            self._insert(Author, rows)
            self.author_ids.update((key, n) for n, key in enumerate(missing, start=first_id))
        self._insert(
            Authorship,
            [
                {
                    "paper_id": one.paper_id,
                    "position": position,
                    "author_id": self.author_ids[keys[name]],
                    "affiliation": one.affiliations[position] if one.affiliations else "",
                }
                for one in batch
                for position, name in enumerate(one.authors)
            ],
        )

    def _rewrite_authors(self, batch: list[_Incoming]) -> None:
        for part in _parts([one.paper_id for one in batch]):
            self.session.execute(delete(Authorship).where(Authorship.paper_id.in_(part)))
        self._write_authors(batch)

    def _rewrite_categories(self, batch: list[_Incoming]) -> None:
        for part in _parts([one.paper_id for one in batch]):
            self.session.execute(delete(PaperCategory).where(PaperCategory.paper_id.in_(part)))
        self._insert(PaperCategory, [row for one in batch for row in self._category_rows(one)])

    def _among(self, column: Any, values: list[str]) -> Any:
        """`column` is one of `values`. As one parameter for SQLite: thousands of them are slow to write into a statement."""
        listed = json.dumps(values)
        if not self.sqlite or "\\u0000" in listed:  # SQLite's JSON ends a text at a zero
            return column.in_(values)
        return column.in_(select(func.json_each(listed).table_valued("value").c.value))

    def _first_word(self, said: Origin) -> Any:
        """The provenance of a new paper, as the driver takes it; most papers of a batch share one."""
        if not self.sqlite:
            return {"*": said}
        found = self._first_words.get(tuple(said))
        if found is None:
            found = self._first_words[tuple(said)] = json.dumps({"*": said})
        return found

    def _insert(self, model: type[Any], rows: list[dict[str, Any]], *, ignore: bool = False) -> None:
        if not rows:
            return
        if not self.sqlite:
            statement = self._dialect_insert(model).on_conflict_do_nothing() if ignore else insert(_table(model))
            self.session.connection().execute(statement, rows)
            return
        # Straight to the driver: building parameters one by one is a quarter of the time of a bulk import.
        columns = list(rows[0])
        marks = ", ".join("?" * len(columns))
        or_ignore = " OR IGNORE" if ignore else ""
        sql = f"INSERT{or_ignore} INTO {_table(model).name} ({', '.join(columns)}) VALUES ({marks})"
        self.session.connection().exec_driver_sql(sql, [tuple(row.values()) for row in rows])

    def _upsert(self, model: type[Any], rows: list[dict[str, Any]], *, official: bool = False) -> None:
        if not rows:
            return
        table = _table(model)
        statement = self._dialect_insert(model)
        keys = [column.name for column in table.primary_key]
        new = {name: statement.excluded[name] for name in rows[0] if name not in keys}
        if official:
            new["official"] = or_(table.c.official, statement.excluded.official)
        self.session.connection().execute(statement.on_conflict_do_update(index_elements=keys, set_=new), rows)

    def _dialect_insert(self, model: type[Any]) -> Any:
        return (sqlite.insert if self.sqlite else postgresql.insert)(_table(model))


def content_hash(title: str, abstract: str) -> str:
    """Tells whether two texts of a paper are the same; 16 hexadecimal digits."""
    return hashlib.sha256(f"{title}\n{abstract}".encode()).hexdigest()[:16]


def _keep_refusals(session: Session, source_id: int, intake_id: int | None, refused: Sequence[RefusedEntry]) -> None:
    """Keep what could not be read; an entry that waits already is not kept twice."""
    if not refused or intake_id is None:
        return
    query = (
        select(Refused.ordinal, Refused.raw)
        .join(Intake, Intake.id == Refused.intake_id)
        .where(Intake.source_id == source_id, Refused.settled.is_(False))
    )
    waiting = {(row.ordinal, row.raw) for row in session.execute(query)}
    rows = []
    for entry in refused:
        raw = _cut(entry.raw)
        if (entry.ordinal, raw) not in waiting:
            waiting.add((entry.ordinal, raw))
            rows.append(
                {
                    "intake_id": intake_id,
                    "ordinal": entry.ordinal,
                    "reason": entry.reason[:2000],
                    "raw": raw,
                    "settled": False,
                }
            )
    if rows:
        session.connection().execute(insert(_table(Refused)), rows)


def _cut(raw: str) -> str:
    """At most 64 KiB of UTF-8."""
    return raw.encode("utf-8", "replace")[:RAW_LIMIT].decode("utf-8", "ignore")


def _table(model: type[Any]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table


def _parts(values: Iterable[T]) -> Iterator[list[T]]:
    """In lists short enough for one statement, without repeats."""
    rest = list(dict.fromkeys(values))
    for start in range(0, len(rest), CHUNK):
        yield rest[start : start + CHUNK]

"""Enter the papers of the catalogue as papers of the store, so that they are found, voted for and mailed like all others."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import select

from paperworks.catalogue import Catalogue, PaperSpec
from paperworks.hub.records import Batch, LinkRecord, PaperRecord
from paperworks.hub.store.database import Database
from paperworks.hub.store.load import store_batch
from paperworks.hub.store.models import Fact, Identifier, Paper, Source

SOURCE = "catalogue"


def seed_catalogue(db: Database, catalogue: Catalogue, now: datetime) -> None:
    """Enter what is not there yet and mark which papers run; does nothing when the catalogue is the same as last time.

    What a source has said about a paper stays: the catalogue only fills gaps. A paper that has left the catalogue stays as
    a paper without a method.
    """
    papers = [paper.spec for paper in catalogue.values()]
    digest = hashlib.sha256("\n".join(spec.model_dump_json() for spec in papers).encode()).hexdigest()
    with db.read() as session:
        fact = session.get(Fact, SOURCE)
        if fact is not None and fact.value == digest:
            return
    with db.write() as session:
        source = session.scalar(select(Source).where(Source.name == SOURCE))
        if source is None:
            source = Source(kind=SOURCE, name=SOURCE, config={})
            session.add(source)
            session.flush()
        store_batch(session, source.id, None, Batch(records=tuple(_record(spec) for spec in papers)), now)
        for paper in session.scalars(select(Paper).where(Paper.slug.is_not(None))):
            if paper.slug not in catalogue:
                paper.slug = None
        session.flush()
        for spec in papers:
            scheme, value = next(iter(_record(spec).identifiers.items()))
            found = session.get_one(Identifier, (scheme, value)).paper
            if found.slug != spec.slug:
                found.slug = spec.slug
        session.merge(Fact(name=SOURCE, value=digest))


def _record(spec: PaperSpec) -> PaperRecord:
    code = (LinkRecord(kind="code", url=spec.code, who="author", official=True),) if spec.code else ()
    return PaperRecord(
        title=spec.title,
        abstract=spec.abstract,
        authors=spec.authors,
        arxiv=spec.arxiv,
        doi=spec.doi,
        url=None if spec.arxiv or spec.doi else f"https://paperworks.invalid/{spec.slug}",
        categories=spec.categories,
        published=spec.published,
        announced=spec.published,  # else they would all be news of the day on which the hub was made
        journal_ref=spec.venue,
        links=code,
    )

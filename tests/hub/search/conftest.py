"""A hub with forty made-up papers on four subjects, brought in through the public door."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select

from paperworks.catalogue import Catalogue
from paperworks.config import Settings
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.records import Batch, LinkRecord, ListingRecord, PaperRecord
from paperworks.hub.search import vectors
from paperworks.hub.service import search as service
from paperworks.hub.store.load import store_batch
from paperworks.hub.store.models import Source

NOW = datetime(2026, 8, 21, 9, 30, tzinfo=UTC)
SUBJECTS = (
    ("Pruning", "sparse weights magnitude compression sparsity layers", "cs.LG"),
    ("Retrieval", "documents passages ranking queries index relevance", "cs.IR"),
    ("Diffusion", "images noise sampler generation score denoising", "cs.CV"),
    ("Recovery", "matrix low-rank measurements corrupted outliers subgradient", "stat.ML"),
)
WRITERS = ("Ada Example", "Bert B. Muster", "Émilie Château", "Dora Doe")


def made_up(n: int) -> PaperRecord:
    """Paper n (from 0): subject n % 4, its own word `token<n>`, one paper a day back from the 20th of August 2026."""
    name, words, category = SUBJECTS[n % 4]
    own = words.split()
    turned = own[n % len(own) :] + own[: n % len(own)]
    day = date(2026, 8, 20) - timedelta(days=n)
    return PaperRecord(
        title=f"{name} with {turned[0]} and {turned[1]}",
        abstract=f"We study {name.lower()} when {' and '.join(turned[:4])} matter. It is called token{n}. "
        f"Experiments show that {turned[4]} and {turned[5]} improve by {n} percent. The code is available.",
        authors=(WRITERS[n % 4], WRITERS[(n + 1) % 4]),
        arxiv=f"2608.1{n:04d}",
        categories=(category, "cs.AI") if n % 2 else (category,),
        published=day - timedelta(days=n * 20),
        announced=day,
        links=(LinkRecord(kind="code", url=f"https://example.org/{n}"),) if n % 5 == 0 else (),
        listings=(ListingRecord(day=day),),
    )


def bring(hub: Hub, *records: PaperRecord) -> None:
    with hub.db.write() as session:
        source = session.scalar(select(Source).where(Source.name == "test"))
        if source is None:
            source = Source(kind="arxiv", name="test", config={})
            session.add(source)
            session.flush()
        store_batch(session, source.id, None, Batch(records=records), hub.now(), settings=hub.settings)


@pytest.fixture
def empty(home: Settings) -> Iterator[Hub]:
    """A hub without a paper."""
    with open_hub(home, catalogue=Catalogue(), clock=lambda: NOW) as opened:
        yield opened
    vectors.forget(home.vectors)


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Forty papers with vectors. Tests only read."""
    settings = Settings(home=tmp_path_factory.mktemp("forty"))
    with open_hub(settings, catalogue=Catalogue(), clock=lambda: NOW) as opened:
        bring(opened, *(made_up(n) for n in range(40)))
        service.reindex(opened)
        yield opened
    vectors.forget(settings.vectors)

"""The floors of search, on 100,000 real papers and 600 queries with a known answer."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path

import pytest

from paperworks.catalogue import Catalogue
from paperworks.config import Settings
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.search import vectors
from paperworks.hub.service import papers
from paperworks.hub.service import search as service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
FLOORS = {"sentence": (0.982, 0.939), "keywords": (0.665, 0.0)}


@pytest.fixture(scope="module")
def large(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    packed = shared_data / "arxiv" / "papers.jsonl.xz"
    if not packed.exists():
        pytest.skip(f"no {packed}")
    folder = tmp_path_factory.mktemp("large")
    plain = folder / "papers.jsonl"
    plain.write_bytes(lzma.decompress(packed.read_bytes()))
    settings = Settings(home=folder / "home")
    with open_hub(settings, catalogue=Catalogue()) as hub:
        papers.import_files(hub, [plain])
        plain.unlink()
        assert service.reindex(hub).vectors == "refit"
        yield hub
    vectors.forget(settings.vectors)


@pytest.mark.parametrize("kind", FLOORS)
def test_papers_are_found_among_the_first_ten(large: Hub, shared_data: Path, kind: str) -> None:
    with gzip.open(shared_data / "hf_daily" / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        queries = [json.loads(line) for line in lines]
    reciprocal = []
    for query in queries:
        refs = [card.ref for card in service.search(large, query[kind], size=10).cards]
        reciprocal.append(1 / (refs.index(query["id"]) + 1) if query["id"] in refs else 0.0)
    recall = sum(value > 0 for value in reciprocal) / len(queries)
    mrr = sum(reciprocal) / len(queries)
    least_recall, least_mrr = FLOORS[kind]
    assert round(recall, 3) >= least_recall
    assert round(mrr, 3) >= least_mrr

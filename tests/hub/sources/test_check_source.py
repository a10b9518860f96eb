"""Our own sources keep the contract that plugins are held to; and the suite catches those that do not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from test_arxiv import entry, feed
from test_huggingface import entry as daily_entry
from test_oai import listing, page, raw

from paperworks.hub.records import Batch, PaperRecord
from paperworks.hub.sources.arxiv import ArxivIds, ArxivSearch
from paperworks.hub.sources.feeds import FeedSource
from paperworks.hub.sources.files import FileSource
from paperworks.hub.sources.huggingface import DailyPapers
from paperworks.hub.sources.oai import OaiSource
from paperworks.testing import CheckFailed, check_source, source_checks


def arxiv_answer(address: str) -> bytes:
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    papers = [entry(f"2404.{n:05d}") for n in range(250)]
    if "id_list" in query:
        return feed(*(entry(name) for name in query["id_list"].split(","))).encode()
    start, most = int(query["start"]), int(query["max_results"])
    return feed(*papers[start : start + most], total=250, start=start).encode()


def oai_answer(address: str) -> bytes:
    if "resumptionToken" in address:
        return page(listing(raw("2608.01235"))).encode()
    return page(listing(raw(), token="t1")).encode()


def daily_answer(address: str) -> bytes:
    return json.dumps([daily_entry()] if "2026-08-20" in address else []).encode()


def feed_answer(address: str) -> bytes:
    return (
        b"<rss version='2.0'><channel><title>x</title><item><title>A title</title><link>https://arxiv.org/abs/2608.01234</link>"
        b"<description>&lt;p&gt;Text&lt;/p&gt;</description></item></channel></rss>"
    )


SOURCES = {
    "ids": (lambda: ArxivIds([f"2404.{n:05d}" for n in range(1, 151)]), arxiv_answer),
    "search": (lambda: ArxivSearch("cat:cs.LG"), arxiv_answer),
    "oai": (lambda: OaiSource(("cs",), since="2026-08-19"), oai_answer),
    "daily": (
        lambda: DailyPapers(since=date(2026, 8, 20), now=lambda: datetime(2026, 8, 21, 9, tzinfo=UTC)),
        daily_answer,
    ),
    "feed": (lambda: FeedSource("https://example.org/feed.xml"), feed_answer),
}
CASES = [
    pytest.param(check, id=f"{name}: {check}")
    for name, (make, answer) in SOURCES.items()
    for check in source_checks(make, answer)
]


@pytest.mark.parametrize("check", CASES)
def test_our_sources_keep_the_contract(check):
    check()


def test_files_keep_it_too(tmp_path):
    path = tmp_path / "papers.jsonl"
    path.write_text("".join(json.dumps({"id": f"2404.{n:05d}", "title": "x"}) + "\n" for n in range(1, 1201)))
    check_source(lambda: FileSource([path]))


RECORD = PaperRecord(title="x", arxiv="2404.00001")


class Broken:
    kind, name = "broken", "broken"

    def __init__(self, fetch):
        self._fetch = fetch

    def fetch(self, cursor, http):
        return self._fetch(cursor, http)


def asks(cursor, http):
    yield Batch(
        records=(PaperRecord(title=http.get("https://x.org/").body.decode("latin-1") or "empty", arxiv="2404.00001"),)
    )


def loses(cursor, http):
    if cursor is None:
        yield Batch(records=(RECORD,), cursor="1")
        yield Batch(records=(RECORD.model_copy(update={"arxiv": "2404.00002"}),), cursor="2")


def raises(cursor, http):
    if cursor == "nonsense":
        raise KeyError(cursor)
    yield Batch(records=(RECORD,))


@pytest.mark.parametrize(
    ("fetch", "said"),
    [
        (asks, "taken for an answer"),
        (loses, "1 papers were lost"),
        (raises, "raised KeyError"),
        (lambda cursor, http: iter([Batch()]), "no paper came"),
        (lambda cursor, http: iter([RECORD]), "must yield Batch"),
        (lambda cursor, http: iter([Batch(records=(PaperRecord(title="x"),))]), "no identifier"),
        (
            lambda cursor, http: iter([Batch(records=(PaperRecord(title="<b>x</b>", arxiv="2404.00001"),))]),
            "not plain text",
        ),
        (lambda cursor, http: (Batch(records=(RECORD,)) for _ in iter(int, 1)), "must come to an end"),
    ],
)
def test_a_source_that_breaks_the_contract_is_caught(fetch, said):
    with pytest.raises(CheckFailed, match=said):
        check_source(lambda: Broken(fetch), (lambda address: b"ok") if fetch is asks else None)


def test_a_source_without_a_name_is_caught():
    source = Broken(raises)
    source.name = " "
    with pytest.raises(CheckFailed, match="needs a name"):
        check_source(lambda: source)

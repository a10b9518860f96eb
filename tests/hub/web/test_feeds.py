"""Feeds as a feed reader sees them."""

from __future__ import annotations

import feedparser
import pytest
from defusedxml import ElementTree
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from world import NOW, open_world

from paperworks.hub.records import Batch, PaperRecord
from paperworks.hub.store.load import store_batch
from paperworks.hub.store.models import Source
from paperworks.hub.web.app import create_app
from paperworks.hub.web.feeds import Entry, Feed, atom, json_feed

FEEDS = [
    "/feed/trending",
    "/feed/q",
    "/feed/category/cs.LG",
    "/feed/author/grace-hopper",
    "/feed/day",
    "/feed/day/2026-08-20",
    "/feed/claims",
]
SPACE = {"a": "http://www.w3.org/2005/Atom"}


@pytest.fixture
def hub(tmp_path):
    with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def client(hub):
    with TestClient(create_app(hub), base_url="http://localhost", raise_server_exceptions=False) as asking:
        yield asking


@pytest.mark.parametrize("path", FEEDS)
def test_every_list_is_a_feed_that_readers_read(client, path):
    response = client.get(f"{path}.atom")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/atom+xml; charset=utf-8"
    read = feedparser.parse(response.content)
    assert not read.bozo
    assert read.version == "atom10"
    assert 0 < len(read.entries) <= 50
    assert len({entry.id for entry in read.entries}) == len(read.entries)
    assert all(
        entry.title and entry.link.startswith("http://127.0.0.1:8000/paper/") and entry.updated
        for entry in read.entries
    )
    root = ElementTree.fromstring(response.content)
    assert root.find("a:link[@rel='self']", SPACE).get("href").startswith(f"http://127.0.0.1:8000{path}.atom")
    assert root.findtext("a:updated", None, SPACE) == max(
        item.text for item in root.findall("a:entry/a:updated", SPACE)
    )


@pytest.mark.parametrize("path", FEEDS)
def test_the_json_feed_says_the_same(client, path):
    response = client.get(f"{path}.json")
    assert response.headers["content-type"] == "application/feed+json; charset=utf-8"
    body = response.json()
    assert body["version"] == "https://jsonfeed.org/version/1.1"
    read = feedparser.parse(client.get(f"{path}.atom").content)
    assert [item["id"] for item in body["items"]] == [entry.id for entry in read.entries]
    assert [item["title"] for item in body["items"]] == [entry.title for entry in read.entries]


@pytest.mark.parametrize("path", ["/feed/q.atom", "/feed/trending.json", "/feed/claims.atom"])
def test_an_unchanged_feed_costs_nothing(client, path):
    tag = client.get(path).headers["etag"]
    again = client.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_a_reader_that_knows_only_times_never_misses_a_paper(client, hub, monkeypatch):
    first = client.get("/feed/q.atom")
    since = first.headers["last-modified"]
    assert client.get("/feed/q.atom", headers={"If-Modified-Since": since}).status_code == 304
    later = NOW.replace(hour=12)
    monkeypatch.setattr(hub, "_clock", lambda: later)
    with hub.db.write() as session:
        source = Source(kind="file", name="late", config={})
        session.add(source)
        session.flush()
        record = PaperRecord(title="Late, but of the same day", arxiv="2608.19999", announced=NOW.date())
        store_batch(session, source.id, None, Batch(records=(record,)), later)
    answer = client.get("/feed/q.atom", headers={"If-Modified-Since": since})
    assert answer.status_code == 200
    assert "Late, but of the same day" in answer.text
    assert "last-modified" not in client.get("/feed/trending.atom").headers  # its order changes without a newer paper


def test_ids_stay_when_the_hub_moves(client, hub, monkeypatch):
    before = feedparser.parse(client.get("/feed/category/cs.LG.atom").content).entries
    monkeypatch.setattr(hub, "settings", hub.settings.model_copy(update={"base_url": "https://papers.example.org"}))
    after = feedparser.parse(client.get("/feed/category/cs.LG.atom").content).entries
    assert [entry.id for entry in before] == [entry.id for entry in after]
    assert after[0].link.startswith("https://papers.example.org/paper/")
    assert before[0].id.startswith("tag:")


def test_an_entry_says_what_the_page_says(client):
    items = {item["id"]: item for item in client.get("/feed/category/cs.CV.json").json()["items"]}
    item = items["tag:paperworks.readthedocs.io,2026:paper/2608.10000"]
    assert item["title"] == "A Study of Pruning with O(n log n) Memory"
    assert "x\u1d62 < y\u1d62" in item["content_text"]
    assert "A & B" in item["content_text"]
    assert item["external_url"] == "https://arxiv.org/abs/2608.10000"
    assert item["authors"] == [{"name": "Grace Hopper"}]
    assert item["tags"] == ["cs.CV"]


def test_a_claim_measured_anew_is_a_new_entry(client):
    (item,) = client.get("/feed/claims.json").json()["items"]
    assert item["title"].startswith("Reproduced: Low-Rank Recovery")
    assert item["id"].endswith("claim/recovery/falls-geometrically/2026-08-21T09:29:00Z")
    assert "As printed" in item["content_text"]
    assert client.get("/feed/claims.json?slug=bare").json()["items"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/feed/trending.rss", 422),
        ("/feed/trending.atom?window=year", 422),
        ("/feed/author/nobody.atom", 404),
        ("/feed/day/2026-99-99.atom", 422),
        ("/feed/claims.atom?slug=nothing", 404),
        ("/feed/nothing.atom", 404),
    ],
)
def test_what_is_no_feed_says_so(client, path, status):
    assert client.get(path, headers={"Accept": "application/json"}).status_code == status


def test_an_empty_hub_has_empty_feeds(tmp_path):
    with open_world(tmp_path, empty=True) as hub, TestClient(create_app(hub), base_url="http://localhost") as client:
        for path in ("/feed/trending", "/feed/q", "/feed/day", "/feed/claims"):
            read = feedparser.parse(client.get(f"{path}.atom").content)
            assert not read.bozo
            assert read.entries == []
            assert client.get(f"{path}.json").json()["items"] == []


@given(st.text(), st.text())
def test_any_text_in_an_entry_stays_text(title, text):
    entry = Entry(
        "tag:x,2026:1", title, "http://x.org/1", "2026-08-21T00:00:00Z", "2026-08-21T00:00:00Z", text, (title,), (text,)
    )
    feed = Feed("tag:x,2026:f", title, "http://x.org/", (entry,))
    root = ElementTree.fromstring(atom(feed, "http://x.org/f.atom"))
    assert len(root.findall("a:entry", SPACE)) == 1
    assert {element.tag.partition("}")[2] for element in root.iter()} <= {
        "feed",
        "id",
        "title",
        "updated",
        "link",
        "author",
        "name",
        "generator",
        "entry",
        "published",
        "category",
        "summary",
    }
    assert json_feed(feed, "http://x.org/f.json").decode("utf-8")

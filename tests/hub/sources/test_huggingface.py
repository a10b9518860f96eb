"""Daily papers: the shapes that days have really had."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest
from fake_service import Reply
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError, SourceError
from paperworks.hub.sources import open_source
from paperworks.hub.sources.huggingface import DailyPapers, parse_day, read_entry

NOW = datetime(2026, 8, 21, 9, 0, tzinfo=UTC)


def entry(arxiv="2608.01234", **more):
    paper = {
        "id": arxiv, "title": "A  title", "summary": "Up to 23times speedup", "authors": [{"name": "Bo Li", "hidden": False}, {"name": ""}, {"_id": "x"}],
        "publishedAt": "2026-08-18T17:59:00.000Z", "submittedOnDailyAt": "2026-08-20T00:30:00.000Z", "upvotes": 31, "githubRepo": "https://github.com/a/b", "githubStars": 12,
    }  # fmt: skip
    return {
        "paper": paper | more,
        "title": "A  title",
        "publishedAt": "2026-08-19T20:00:00.000Z",
        "numComments": 2,
        "submittedBy": {"name": "someone"},
    }


def daily(settings, **more):
    return DailyPapers(settings, now=lambda: NOW, **more)


def test_a_day_becomes_records_with_counters_and_listing(service, settings, http):
    service.answer = lambda asked: Reply(
        json.dumps([entry(), entry("2608.01235")] if asked.query["date"] == "2026-08-20" else [])
    )
    batches = list(daily(settings, since=date(2026, 8, 20)).fetch(None, http))
    assert [asked.query["date"] for asked in service.asked] == ["2026-08-20", "2026-08-21"]
    assert [batch.cursor for batch in batches] == ["2026-08-20", "2026-08-20"]  # today is not over
    record = batches[0].records[0]
    assert (record.title, record.abstract, record.authors) == ("A title", "Up to 23times speedup", ("Bo Li",))
    assert {counter.metric: counter.value for counter in record.counters} == {"upvotes": 31, "comments": 2, "stars": 12}
    assert record.counters[0].seen == NOW
    assert (str(record.published), str(record.announced)) == ("2026-08-18", "2026-08-20")
    assert [(str(listing.day), listing.rank) for listing in record.listings] == [("2026-08-20", 1)]
    assert [(link.kind, link.url) for link in record.links] == [("code", "https://github.com/a/b")]
    assert "someone" not in record.model_dump_json()


def test_the_last_week_is_read_again_for_its_counters(service, settings, http):
    service.answer = lambda asked: Reply("[]")
    list(daily(settings).fetch("2026-08-20", http))
    assert [asked.query["date"] for asked in service.asked] == [f"2026-08-{day}" for day in range(14, 22)]


def test_a_full_page_asks_for_the_next(service, settings, http):
    papers = [entry(f"2608.{n:05d}") for n in range(130)]
    service.answer = lambda asked: Reply(json.dumps(papers[int(asked.query["p"]) * 100 :][:100]))
    (batch,) = daily(settings, since=date(2026, 8, 21)).fetch(None, http)
    assert (len(batch.records), batch.records[-1].listings[0].rank) == (130, 130)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(
            [repr(entry()["paper"] | {"isAuthorParticipating": True})]
        ),  # entries as the text of a Python dictionary
        json.dumps({"status": "success", "count": 1, "data": [repr(entry())]}),
        json.dumps([entry()["paper"]]),
        json.dumps([entry(summary=None) | {"summary": "Up to 23times speedup"}]),
    ],
)
def test_old_shapes_of_a_day_are_read(body):
    (item,) = parse_day(body)
    assert read_entry(item, listed=None, seen=NOW).abstract == "Up to 23times speedup"


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "1",
        '{"status": "no_data", "date": "2025-01-01", "message": "none"}',
        '{"status": "success", "count": 0, "data": []}',
    ],
)
def test_an_empty_day_has_many_shapes(body):
    assert parse_day(body) == []


@pytest.mark.parametrize(
    "body",
    [
        '{"error": "Sorry, we can\'t find the page you are looking for."}',
        '"text"',
        "true",
        "null",
        '{"papers": []}',
        "<html>",
        "[1,",
        "NaN",
        "[" * 100_000,
    ],
)
def test_what_is_no_day_fails_as_a_whole(body):
    with pytest.raises(SourceError):
        parse_day(body)


def test_an_error_answer_never_becomes_a_day(service, settings, http):
    service.answer = lambda asked: Reply('{"error": "Sorry"}')
    with pytest.raises(SourceError, match="Sorry"):
        list(daily(settings).fetch("2026-08-20", http))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "hello"}, "not an arXiv id"),
        ({"id": None}, "not an arXiv id"),
        ({"title": None}, None),
        ({"upvotes": -3}, None),
        ({"upvotes": True}, None),
        ({"authors": "Bo Li"}, None),
    ],
)
def test_fields_come_and_go(service, settings, http, change, reason):
    service.answer = lambda asked: Reply(json.dumps([entry(**change), entry("2608.01235")]))
    (batch,) = daily(settings, since=date(2026, 8, 21)).fetch(None, http)
    assert batch.records[-1].arxiv == "2608.01235"
    assert len(batch.refused) == (reason is not None)
    if reason:
        assert reason in batch.refused[0].reason
    if "upvotes" in change:
        assert "upvotes" not in {counter.metric for counter in batch.records[0].counters}


def test_entries_that_are_no_objects_are_refused_alone(service, settings, http):
    service.answer = lambda asked: Reply(json.dumps([1, "text", None, [], entry()]))
    (batch,) = daily(settings, since=date(2026, 8, 21)).fetch(None, http)
    assert (len(batch.records), [item.ordinal for item in batch.refused]) == (1, [1, 2, 3, 4])


def test_config_is_checked(settings):
    assert open_source("hf-daily", {"since": "2026-08-01"}, settings).since == date(2026, 8, 1)
    for bad in ({"since": "soon"}, {"refresh_days": "x"}, {"refresh_days": 900}):
        with pytest.raises(InputError):
            open_source("hf-daily", bad, settings)


def test_a_clock_that_jumped_back_still_reads_today(service, settings, http):
    service.answer = lambda asked: Reply("[]")
    batches = list(daily(settings).fetch("2027-01-01", http))
    assert service.asked[-1].query["date"] == "2026-08-21"
    assert batches[-1].cursor == "2027-01-01"


values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["paper", "id", "title", "authors", "name", "upvotes", "publishedAt", "submittedOnDailyAt", "data", "status", "githubRepo"]), inner, max_size=5), max_leaves=12)  # fmt: skip


@given(values)
def test_any_json_gives_records_refusals_or_a_source_error(value):
    try:
        entries = parse_day(json.dumps(value))
    except SourceError:
        return
    for item in entries:
        try:
            record = read_entry(item, listed=None, seen=NOW)
        except ValueError:
            continue
        assert record.arxiv


@given(st.binary(max_size=200))
def test_any_bytes_give_a_list_or_a_source_error(body):
    try:
        assert isinstance(parse_day(body), list)
    except SourceError:
        return

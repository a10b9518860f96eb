"""OAI-PMH as arXiv speaks it."""

from __future__ import annotations

import json

import pytest
from fake_service import Reply
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from paperworks.errors import InputError, SourceError
from paperworks.hub.sources.http import Answer
from paperworks.hub.sources.oai import OaiSource, _BadToken, parse_page, split_authors

SPACE = 'xmlns="http://www.openarchives.org/OAI/2.0/"'


def page(inner, at="2026-08-21T04:00:00Z"):
    return (
        f'<?xml version="1.0"?><OAI-PMH {SPACE}><responseDate>{at}</responseDate><request>x</request>{inner}</OAI-PMH>'
    )


def listing(*records, token=None):
    tail = f"<resumptionToken>{token}</resumptionToken>" if token is not None else ""
    return f"<ListRecords>{''.join(records)}{tail}</ListRecords>"


def raw(arxiv="2608.01234", versions=(("v1", "Wed, 19 Aug 2026 10:00:00 GMT"),), stamp="2026-08-20", title="A title"):
    told = "".join(f'<version version="{v}"><date>{d}</date><size>1kb</size></version>' for v, d in versions)
    return (
        f"<record><header><identifier>oai:arXiv.org:{arxiv}</identifier><datestamp>{stamp}</datestamp><setSpec>cs:cs:LG</setSpec></header>"
        f'<metadata><arXivRaw xmlns="http://arxiv.org/OAI/arXivRaw/"><id>{arxiv}</id><submitter>S</submitter>{told}<title>{title}</title>'
        "<authors>A. Nguyen (1), Bo Li and C. Cruz ((1) Here)</authors><categories>cs.LG stat.ML</categories><comments>9 pages</comments>"
        "<doi>10.1000/X 10.1000/Y</doi><license>http://creativecommons.org/licenses/by/4.0/</license><abstract>\n  Text\n here.</abstract></arXivRaw></metadata></record>"
    )


def structured(arxiv="math/0701001"):
    return (
        f"<record><header><identifier>oai:arXiv.org:{arxiv}</identifier><datestamp>2026-08-20</datestamp></header>"
        f'<metadata><arXiv xmlns="http://arxiv.org/OAI/arXiv/"><id>{arxiv}</id><created>2007-01-01</created><updated>2008-02-02</updated>'
        "<authors><author><keyname>Peña</keyname><forenames>José</forenames><affiliation>Here</affiliation></author>"
        "<author><keyname>Cruz</keyname><forenames>C.</forenames><suffix>Jr.</suffix></author></authors>"
        "<title>Old</title><categories>math.CO</categories><abstract>Text</abstract></arXiv></metadata></record>"
    )


DELETED = '<record><header status="deleted"><identifier>oai:arXiv.org:2608.00001</identifier><datestamp>2026-08-20</datestamp></header></record>'


def test_a_walk_over_pages_and_the_next_turn(service, settings, http):
    replies = {
        None: page(listing(raw(), DELETED, token="t1")),
        "t1": page(listing(raw("2608.01235", (("v1", "Wed, 05 Aug 2026 10:00:00 GMT"), ("v2", "Thu, 20 Aug 2026 09:00:00 GMT"))), token=""), at="2026-08-22T00:10:00Z"),
    }  # fmt: skip
    service.answer = lambda asked: Reply(replies[asked.query.get("resumptionToken")])
    source = OaiSource(("cs:cs:LG",), settings, since="2026-08-19")
    batches = list(source.fetch(None, http))
    assert service.asked[0].query == {
        "verb": "ListRecords",
        "metadataPrefix": "arXivRaw",
        "set": "cs:cs:LG",
        "from": "2026-08-19",
    }
    assert service.asked[1].query == {"verb": "ListRecords", "resumptionToken": "t1"}
    first, second = (batch.records[0] for batch in batches)
    assert first.authors == ("A. Nguyen", "Bo Li", "C. Cruz")
    assert (first.version, str(first.published), str(first.announced)) == (1, "2026-08-19", "2026-08-20")
    assert (first.abstract, first.doi, first.categories) == ("Text here.", "10.1000/x", ("cs.LG", "stat.ML"))
    assert (second.version, str(second.updated), second.announced) == (2, "2026-08-20", None)
    # the next turn starts at the day of the first answer by the server's clock, not of the last
    assert json.loads(batches[-1].cursor) == {"cs:cs:LG": {"from": "2026-08-21"}}
    service.asked.clear()
    service.answer = lambda asked: Reply(page('<error code="noRecordsMatch">none</error>', at="2026-08-23T04:00:00Z"))
    (empty,) = source.fetch(batches[-1].cursor, http)
    assert service.asked[0].query["from"] == "2026-08-21"
    assert (empty.records, json.loads(empty.cursor)) == ((), {"cs:cs:LG": {"from": "2026-08-23"}})


def test_a_killed_walk_goes_on_and_a_dead_token_starts_again(service, settings, http):
    service.answer = lambda asked: Reply(
        page(listing(raw(), token="t1")) if "set" in asked.query else page(listing(raw("2608.01235")))
    )
    source = OaiSource(("cs:cs:LG",), settings, since="2026-08-19")
    first = next(source.fetch(None, http))
    assert json.loads(first.cursor)["cs:cs:LG"] == {"from": "2026-08-19", "first": "2026-08-21", "token": "t1"}
    (rest,) = source.fetch(first.cursor, http)
    assert rest.records[0].arxiv == "2608.01235"
    service.in_turn(
        Reply(page('<error code="badResumptionToken">expired</error>')), Reply(page(listing(raw(), raw("2608.01235"))))
    )
    service.asked.clear()
    (again,) = source.fetch(first.cursor, http)
    assert [asked.query.get("from") for asked in service.asked] == [None, "2026-08-19"]
    assert len(again.records) == 2
    service.answer = lambda asked: Reply(page('<error code="badResumptionToken">expired</error>'))
    with pytest.raises(SourceError, match="twice"):
        list(source.fetch(first.cursor, http))


def test_structured_records_have_names_in_parts(service, settings, http):
    service.answer = lambda asked: Reply(page(listing(structured())))
    (batch,) = OaiSource(("math",), settings, format="arXiv", since="2026-08-01").fetch(None, http)
    (record,) = batch.records
    assert record.authors == ("José Peña", "C. Cruz Jr.")
    assert record.affiliations == ("Here", "")
    assert (record.arxiv, str(record.published), str(record.updated)) == ("math/0701001", "2007-01-01", "2008-02-02")


def test_one_bad_record_is_refused_alone(service, settings, http):
    bad = [raw(title=""), raw(versions=()), raw("nonsense"), raw(versions=(("v1", "yesterday"),)), "<record/>"]
    service.answer = lambda asked: Reply(page(listing(raw(), *bad)))
    (batch,) = OaiSource(("cs",), settings, since="2026-08-19").fetch(None, http)
    assert len(batch.records) == 1
    assert [entry.ordinal for entry in batch.refused] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (page('<error code="badArgument">no such set</error>'), "badArgument.*no such set"),
        (page(""), "no list of records"),
        (page(listing(token="t9")), "empty page in the middle"),
        (page(listing(raw()), at="whenever"), "responseDate"),
        ("<html><body>down</body></html>", "web page"),
        ("<other/>", "where OAI-PMH"),
        ("Retry after 20 seconds", "Retry|retry"),
    ],
)
def test_what_is_no_answer_fails_as_a_whole(service, settings, http, body, said):
    service.answer = lambda asked: Reply(body)
    with pytest.raises(SourceError, match=said):
        list(OaiSource(("cs",), settings, since="2026-08-19").fetch(None, http))


def test_the_same_page_for_ever_is_noticed(service, settings, http):
    service.answer = lambda asked: Reply(page(listing(raw(), token="t1")))
    with pytest.raises(SourceError, match="same page"):
        list(OaiSource(("cs",), settings, since="2026-08-19").fetch(None, http))
    assert len(service.asked) == 2


def test_sets_and_dates_are_checked_at_the_door(settings):
    for bad in ({"sets": ("cs LG",)}, {"sets": ("cs",), "since": "soon"}, {"sets": ("cs",), "format": "oai_dc"}):
        with pytest.raises(InputError):
            OaiSource(**bad, settings=settings)


@pytest.mark.parametrize("cursor", ["", "[]", "nonsense", '{"cs": 3}', '{"cs": {"token": 4}}'])
def test_a_damaged_cursor_starts_from_the_setting(service, settings, http, cursor):
    service.answer = lambda asked: Reply(page(listing(raw())))
    list(OaiSource(("cs",), settings, since="2026-08-19").fetch(cursor, http))
    assert service.asked[0].query["from"] == "2026-08-19"


@hypothesis_settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                page(""),
                listing(raw()),
                raw(),
                DELETED,
                "<record>",
                "</record>",
                page(listing(raw(), structured())),
                "<error/>",
            ]
        )
        | st.text(max_size=9),
        max_size=4,
    )
)
def test_any_bytes_give_a_page_or_a_source_error(parts):
    for body in ("".join(parts).encode("utf-8", "replace"), page("".join(parts)).encode("utf-8", "replace")):
        try:
            read = parse_page(Answer("http://x", 200, body))
        except (SourceError, _BadToken):
            continue
        assert read.response_day >= "0001-01-01"


def test_names_in_one_line():
    assert split_authors("") == ()
    assert split_authors("The ATLAS Collaboration") == ("The ATLAS Collaboration",)
    assert split_authors("A, B, and C") == ("A", "B", "C")
    assert split_authors("Anders Andersson") == ("Anders Andersson",)

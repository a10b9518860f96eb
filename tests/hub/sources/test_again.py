"""What was refused can be read again from what was kept of it."""

from __future__ import annotations

import json

import pytest
from fake_service import Reply
from test_arxiv import entry, feed
from test_oai import listing, page, raw, structured

from paperworks.errors import InputError
from paperworks.hub.sources.again import read_again
from paperworks.hub.sources.arxiv import ArxivIds
from paperworks.hub.sources.http import Answer
from paperworks.hub.sources.oai import parse_page


def test_entries_of_arxiv_come_back_once_our_reader_is_mended(service, settings, http, monkeypatch):
    from paperworks.hub.sources import arxiv

    def broken(element):
        raise ValueError("a mistake of ours")

    service.answer = lambda asked: Reply(feed(entry()))
    with monkeypatch.context() as mistake:
        mistake.setattr(arxiv, "read_entry", broken)
        (batch,) = ArxivIds(["2301.13838"], settings).fetch(None, http)
    assert batch.records == ()
    (whole,) = ArxivIds(["2301.13838"], settings).fetch(None, http)
    assert read_again(batch.refused[0].raw) == whole.records[0]


@pytest.mark.parametrize("record", [raw(), structured()])
def test_records_of_oai_come_back(record, monkeypatch):
    from paperworks.hub.sources import oai

    answer = Answer("x", 200, page(listing(record)).encode())
    expected = parse_page(answer).entries[0]

    def broken(element):
        raise ValueError("a mistake of ours")

    with monkeypatch.context() as mistake:
        mistake.setattr(oai, "read_record", broken)
        (refused,) = parse_page(answer).entries
    assert read_again(refused.raw) == expected


def test_objects_come_back_and_the_rest_says_why_not():
    assert read_again(json.dumps({"id": "2301.13838", "title": "x"})).arxiv == "2301.13838"
    with pytest.raises(InputError, match="asked for again"):
        read_again("{'title': 'x'"[1:])
    with pytest.raises(ValueError, match="cut off"):
        read_again("http://arxiv.org/abs/1\n<ns0:entry><ns0:ti")
    with pytest.raises(ValueError, match="title"):
        read_again(
            entry(title="").replace(
                "<entry>", '<entry xmlns="http://www.w3.org/2005/Atom" xmlns:arxiv="http://arxiv.org/schemas/atom">'
            )
        )

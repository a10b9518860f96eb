"""RSS and Atom from anybody."""

from __future__ import annotations

import pytest
from fake_service import Reply
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError, SourceError
from paperworks.hub.sources import open_source
from paperworks.hub.sources.feeds import FeedSource, parse
from paperworks.hub.sources.http import Answer

RSS = """<rss version="2.0" xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>cs.LG</title>
<item><title>A &lt;b&gt;title&lt;/b&gt; with $a&lt;b$</title><link>https://arxiv.org/abs/2608.01234</link>
<description>arXiv:2608.01234v1 Announce Type: new Abstract: The text.</description><guid isPermaLink="false">oai:arXiv.org:2608.01234v1</guid>
<category>cs.LG</category><category>68T05</category><pubDate>Fri, 21 Aug 2026 00:00:00 -0400</pubDate><arxiv:announce_type>new</arxiv:announce_type>
<dc:creator>Bo Li, José Peña</dc:creator></item>
<item><title>A post</title><link>https://blog.example/post</link><description>&lt;script&gt;alert(1)&lt;/script&gt;Words</description><pubDate>Fri, 21 Aug 2026 10:00:00 GMT</pubDate></item>
<item><link>https://blog.example/untitled</link></item>
<item><title>No link</title></item>
<item><title>Bad link</title><link>javascript:alert(1)</link></item>
</channel></rss>"""


def answer(body):
    return Answer("https://x.org/feed", 200, body if isinstance(body, bytes) else body.encode())


def test_entries_become_papers_or_are_refused_alone():
    records, refused = parse(answer(RSS))
    first, post = records
    assert (first.arxiv, first.title, first.abstract) == ("2608.01234", "A title with $a<b$", "The text.")
    assert (first.authors, first.categories, str(first.announced)) == (("Bo Li", "José Peña"), ("cs.LG",), "2026-08-21")
    assert (post.url, post.abstract, str(post.published)) == ("https://blog.example/post", "Words", "2026-08-21")
    assert [entry.ordinal for entry in refused] == [3, 4, 5]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<!DOCTYPE html><html></html>", "web page"),
        ('<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss>&x;</rss>', "entities"),
        ("<rss>" + "<a>" * 100, "nested deeper"),
        ("Not a feed", "neither RSS nor Atom"),
        ("", "neither RSS nor Atom"),
    ],
)
def test_what_is_no_feed_fails_as_a_whole(body, said):
    with pytest.raises(SourceError, match=said):
        parse(answer(body))


def test_an_unchanged_feed_costs_nothing(service, settings, http):
    service.answer = lambda asked: (
        Reply(status=304) if asked.headers.get("if-none-match") == '"7"' else Reply(RSS, headers={"ETag": '"7"'})
    )
    source = FeedSource(service.url, settings, public=False)
    (first,) = source.fetch(None, http)
    (again,) = source.fetch(first.cursor, http)
    assert (len(first.records), again.records, again.cursor) == (2, (), first.cursor)


def test_a_feed_inside_is_not_asked(service, settings, http):
    with pytest.raises(SourceError, match=r"public internet|usual web port"):
        list(FeedSource(service.url, settings).fetch(None, http))
    assert service.asked == []


def test_the_address_is_checked_at_the_door(settings):
    for url in ("", "feed.xml", "file:///etc/passwd", "javascript:alert(1)", "https://x .org"):
        with pytest.raises(InputError):
            open_source("feed", {"url": url}, settings)


@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                RSS,
                "<rss>",
                "<item>",
                "<title>",
                "</rss>",
                "\x00",
                "<feed xmlns='http://www.w3.org/2005/Atom'><entry>",
                "&#x0;",
                "é",
            ]
        ),
        max_size=4,
    ).map(lambda parts: "".join(parts).encode())
)
def test_any_bytes_give_papers_or_a_source_error(body):
    try:
        records, refused = parse(answer(body))
    except SourceError:
        return
    assert all(record.identifiers for record in records)
    assert all(entry.reason for entry in refused)

"""arXiv's query API as it answers, and as it fails."""

from __future__ import annotations

import json

import pytest
from fake_service import Reply
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from paperworks.config import SourceSettings
from paperworks.errors import InputError, SourceError
from paperworks.hub.records import PaperRecord
from paperworks.hub.sources import open_source
from paperworks.hub.sources.arxiv import ArxivIds, ArxivSearch, is_withdrawn, parse_page
from paperworks.hub.sources.http import Answer

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom" xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" '
    'xmlns:arxiv="http://arxiv.org/schemas/atom"><opensearch:totalResults>{total}</opensearch:totalResults>'
    "<opensearch:startIndex>{start}</opensearch:startIndex><opensearch:itemsPerPage>{per}</opensearch:itemsPerPage>"
)


def entry(
    arxiv="2301.13838",
    version=1,
    title="Image\n  Shortcut &lt;Squeezing&gt; and $\\ell_1$",
    updated="2023-02-01T00:00:00Z",
    more="",
):
    return (
        f"<entry><id>http://arxiv.org/abs/{arxiv}v{version}</id><updated>{updated}</updated><published>2023-01-31T18:59:59Z</published>"
        f"<title>{title}</title><summary>  Hard\n wrapped, a &lt; b.\n</summary>"
        "<author><name>Zhuoran Liu</name><arxiv:affiliation>Here</arxiv:affiliation></author><author><name>José Peña</name></author>"
        '<arxiv:comment>ICML 2023</arxiv:comment><arxiv:doi>10.1000/ABC</arxiv:doi><arxiv:primary_category term="cs.CR"/>'
        f'<category term="cs.CV"/><category term="cs.CR"/><category term="68T05"/>{more}</entry>'
    )


def feed(*entries, total=None, start=0):
    return (
        HEAD.format(total=len(entries) if total is None else total, start=start, per=len(entries))
        + "".join(entries)
        + "</feed>"
    )


ERROR = (
    "<entry><id>http://arxiv.org/api/errors#incorrect_id_format_for_x</id><title>Error</title>"
    "<summary>incorrect id format for x</summary><author><name>arXiv api core</name></author></entry>"
)


def ids(*names, settings=None):
    return ArxivIds(names, settings)


def test_an_entry_becomes_a_record(service, settings, http):
    service.answer = lambda asked: Reply(feed(entry(version=2)))
    (batch,) = ids("https://arxiv.org/abs/2301.13838v2", settings=settings).fetch(None, http)
    (record,) = batch.records
    assert service.asked[0].query["id_list"] == "2301.13838v2"
    assert record.title == r"Image Shortcut <Squeezing> and $\ell_1$"
    assert record.abstract == "Hard wrapped, a < b."
    assert (record.arxiv, record.version, record.doi) == ("2301.13838", 2, "10.1000/abc")
    assert record.authors == ("Zhuoran Liu", "José Peña")
    assert record.affiliations == ("Here", "")
    assert record.categories == ("cs.CR", "cs.CV")
    assert (str(record.published), str(record.updated)) == ("2023-01-31", "2023-02-01")
    assert {link.kind for link in record.links} == {"pdf", "html"}
    assert (batch.refused, batch.requests) == ((), 1)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(feed(ERROR)), "incorrect id format"),
        (Reply(feed(entry(), total=7)), "promised 7 papers and sent 1"),
        (Reply(feed(entry(), total=0)), "there are 0"),
        (Reply(feed(entry("2404.09529"))), "not asked for"),
        (Reply("Rate exceeded."), "Rate exceeded"),
        (Reply("<!DOCTYPE html><html><body>Sorry</body></html>", headers={"Content-Type": "text/html"}), "web page"),
        (Reply(""), "nothing"),
        (Reply("<feed/>"), "Atom feed"),
        (Reply("<rss><channel/></rss>"), "Atom feed"),
        (Reply(feed(entry())[:-40]), "not XML"),
        (Reply('{"error": "no"}'), "not XML"),
        (Reply(feed(entry()).replace("totalResults>1", "totalResults>many")), "totalResults"),
        (Reply('<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><feed xmlns="http://www.w3.org/2005/Atom">&b;</feed>'), "document type"),
        (Reply('<?xml version="1.0"?><!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]><f>&x;</f>'), "document type"),
        (Reply('<?xml version="1.0" encoding="x-unknown-99"?><f/>'), "not XML"),
    ],
)  # fmt: skip
def test_a_failure_that_looks_like_success_fails_as_a_whole(service, settings, http, reply, said):
    service.answer = lambda asked: reply
    with pytest.raises(SourceError, match=said):
        list(ids("2301.13838", settings=settings).fetch(None, http))


def test_rate_exceeded_under_status_200_is_waited_out(service, settings, http, waits):
    service.in_turn(Reply("Rate exceeded."), Reply(feed(entry())))
    (batch,) = ids("2301.13838", settings=settings).fetch(None, http)
    assert len(batch.records) == 1
    assert waits == [5]


def test_an_entry_without_a_title_is_refused_alone(service, settings, http):
    service.answer = lambda asked: Reply(feed(entry(), entry("2404.09529", title="")))
    (batch,) = ids("2301.13838", "2404.09529", settings=settings).fetch(None, http)
    assert [record.arxiv for record in batch.records] == ["2301.13838"]
    (refused,) = batch.refused
    assert refused.ordinal == 2
    assert "2404.09529 came without a title" in refused.reason
    assert "<" in refused.raw


def test_an_unknown_id_is_named(service, settings, http):
    service.answer = lambda asked: Reply(feed(entry()))
    (batch,) = ids("2301.13838", "2404.99999", settings=settings).fetch(None, http)
    assert [entry.reason for entry in batch.refused] == ["arXiv knows no paper 2404.99999; check the id"]


def test_many_ids_are_asked_for_a_hundred_at_a_time_and_a_cursor_goes_on(service, settings, http):
    names = [f"2404.{n:05d}" for n in range(1, 251)]
    service.answer = lambda asked: Reply(feed(*(entry(name) for name in asked.query["id_list"].split(","))))
    batches = list(ids(*names, settings=settings).fetch(None, http))
    assert [len(batch.records) for batch in batches] == [100, 100, 50]
    assert [batch.cursor for batch in batches] == ["100", "200", "250"]
    rest = list(ids(*names, settings=settings).fetch("200", http))
    assert [record.arxiv for record in rest[0].records] == names[200:]


def paged(papers):
    def answer(asked):
        start, most = int(asked.query["start"]), int(asked.query["max_results"])
        return Reply(feed(*papers[start : start + most], total=len(papers), start=start))

    return answer


def test_a_saved_search_walks_back_to_where_it_was(service, settings, http):
    papers = [entry(f"2404.{n:05d}", updated=f"2024-04-{30 - n // 20:02d}T00:00:00Z") for n in range(450)]
    service.answer = paged(papers)
    search = ArxivSearch("cat:cs.LG", settings)
    batches = list(search.fetch(None, http))
    assert [len(batch.records) for batch in batches] == [200, 200, 50]
    assert json.loads(batches[-1].cursor) == {"reached": "2024-04-30T00:00:00Z"}
    service.asked.clear()
    again = list(search.fetch(batches[-1].cursor, http))
    assert len(service.asked) == 1
    assert len(again[0].records) == 20  # the newest day again, nothing older
    killed = list(search.fetch(batches[0].cursor, http))  # stopped after the first page: it goes on at the second
    assert [len(batch.records) for batch in killed] == [200, 50]
    assert killed[-1].cursor == batches[-1].cursor


def test_an_empty_page_in_the_middle_of_a_listing_moves_no_cursor(service, settings, http):
    papers = [entry(f"2404.{n:05d}") for n in range(300)]
    good = paged(papers)
    service.answer = lambda asked: good(asked) if asked.query["start"] == "0" else Reply(feed(total=300, start=200))
    walk = ArxivSearch("cat:cs.LG", settings).fetch(None, http)
    first = next(walk)
    assert json.loads(first.cursor) == {"reached": "", "newest": "2023-02-01T00:00:00Z", "start": 200}
    with pytest.raises(SourceError, match=r"promised 100 papers from 200 on \(of 300\) and sent 0"):
        next(walk)
    service.answer = good
    (rest,) = ArxivSearch("cat:cs.LG", settings).fetch(first.cursor, http)
    assert len(rest.records) == 100


def test_no_hits_is_a_success(service, settings, http):
    service.answer = lambda asked: Reply(feed())
    (batch,) = ArxivSearch("ti:nothing", settings).fetch(None, http)
    assert batch.records == ()


def test_configs_are_checked_at_the_door(settings):
    with pytest.raises(InputError, match="sets"):
        open_source("arxiv", {}, settings)
    with pytest.raises(InputError, match="not an arXiv id"):
        open_source("arxiv", {"ids": ["hello"]}, settings)
    with pytest.raises(InputError, match="colour"):
        open_source("arxiv", {"query": "x", "colour": "red"}, settings)
    with pytest.raises(InputError, match="known kinds: arxiv, hf-daily, feed, file"):
        open_source("telex", {}, settings)
    assert open_source("arxiv", {"set": "cs:cs:LG"}, settings).kind == "arxiv"


def test_withdrawn_is_read_from_comment_or_first_words():
    assert is_withdrawn("This paper has been withdrawn by the author due to an error", "")
    assert is_withdrawn("", "This paper has been withdrawn.")
    assert not is_withdrawn("12 pages", "We study withdrawn deposits as a signal.")


fragments = st.lists(
    st.sampled_from(
        [
            HEAD.format(total=1, start=0, per=1),
            "</feed>",
            entry(),
            ERROR,
            "<entry>",
            "</entry>",
            "<id>",
            "&lt;",
            "&#0;",
            "]]>",
            "<!DOCTYPE x>",
            "\x00",
            "é",
        ]
    )
    | st.text(max_size=20),
    max_size=8,
).map("".join)


@hypothesis_settings(max_examples=300)
@given(st.binary(max_size=400) | fragments.map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_give_a_page_or_a_source_error(body):
    try:
        page = parse_page(Answer("http://x", 200, body))
    except SourceError:
        return
    assert all(isinstance(item, PaperRecord) or item.reason for item in page.entries)


def test_deep_nesting_is_survived():
    with pytest.raises(SourceError):
        parse_page(Answer("http://x", 200, b"<a>" * 200_000))
    with pytest.raises(SourceError):
        parse_page(Answer("http://x", 200, b"<a>" * 50_000 + b"</a>" * 50_000))


def test_settings_can_be_left_out():
    assert ArxivIds(["2301.13838"]).settings == SourceSettings()

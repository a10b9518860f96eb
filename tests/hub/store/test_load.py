"""What the store makes of what sources say."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from paperworks.catalogue import Catalogue
from paperworks.config import load
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.records import Batch, CounterRecord, LinkRecord, ListingRecord, PaperRecord, RefusedEntry
from paperworks.hub.store.load import Counts, looks_stripped, store_batch
from paperworks.hub.store.models import (
    Audit,
    Authorship,
    Counter,
    Hot,
    Identifier,
    Intake,
    Link,
    Listing,
    Paper,
    PaperCategory,
    Refused,
    Source,
    Version,
)

NOW = datetime(2026, 8, 21, 9, 30, tzinfo=UTC)
TEX = r"We bound the $\ell_1$-loss and see a $23\times$ speedup on $n \geq 90$ problems of every kind."
STRIPPED = "We bound the ell_1-loss and see a 23times speedup on n geq 90 problems."


def source(hub: Hub, kind: str, name: str | None = None) -> int:
    with hub.db.write() as session:
        found = session.scalar(select(Source).where(Source.name == (name or kind)))
        if found is None:
            found = Source(kind=kind, name=name or kind, config={})
            session.add(found)
            session.flush()
        return found.id


def take(hub: Hub, *records: PaperRecord, kind: str = "arxiv", **more: Any) -> Counts:
    source_id = source(hub, kind)
    with hub.db.write() as session:
        return store_batch(
            session, source_id, more.pop("intake_id", None), Batch(records=records, **more), NOW, settings=hub.settings
        )


def record(number: int | None = None, **more: Any) -> PaperRecord:
    facts: dict[str, Any] = {
        "title": f"Title {number or ''}".strip(),
        "arxiv": "2301.13838",
        "authors": ("Ada Lovelace",),
    } | more
    if number:
        facts["version"] = number
        facts.setdefault("abstract", f"Abstract of version {number}.")
    return PaperRecord(**facts)


def the_paper(hub: Hub) -> Paper:
    with hub.db.read() as session:
        return session.scalars(select(Paper)).one()


def shown(hub: Hub) -> dict[str, list[Any]]:
    """Everything that a reader could see, without ids and the way it came."""
    queries = {
        "paper": "SELECT title, title_key, abstract, abstract_source, authors_text, primary_category, published, updated, announced,"
        " latest_version, comment, journal_ref, licence, withdrawn FROM paper ORDER BY title",
        "identifier": "SELECT scheme, value FROM identifier ORDER BY 1, 2",
        "version": "SELECT number, title, abstract, submitted, content_hash, s.kind FROM version JOIN source s ON s.id = source_id ORDER BY 1",
        "author": "SELECT position, name_key, affiliation FROM authorship JOIN author ON author.id = author_id ORDER BY 1",
        "category": "SELECT code, is_primary FROM paper_category ORDER BY 1",
        "link": "SELECT kind, url, official FROM link ORDER BY 1, 2",
        "listing": "SELECT day, rank FROM listing ORDER BY 1",
        "counter": "SELECT metric, seen, value FROM counter ORDER BY 1, 2",
        "words": "SELECT term, cnt FROM paper_fts_vocab ORDER BY 1",
    }
    with hub.db.read() as session:
        found = {name: [tuple(row) for row in session.execute(text(query))] for name, query in queries.items()}
    with hub.db.write() as session:  # the words index says what the text says
        session.execute(text("INSERT INTO paper_fts (paper_fts, rank) VALUES ('integrity-check', 1)"))
    return found


# -- one paper, many records ----------------------------------------------------------------------------------------


def test_a_record_becomes_a_paper_with_everything_it_said(hub: Hub) -> None:
    counts = take(
        hub,
        record(
            2,
            authors=("José Peña", "B. C."),
            affiliations=("ETH", ""),
            doi="10.1000/ABC",
            categories=("cs.LG", "cs.AI"),
            published=date(2023, 1, 31),
            updated=date(2023, 5, 1),
            announced=date(2023, 2, 1),
            links=(LinkRecord(kind="code", url="https://example.org/code", official=True),),
        ),
    )
    assert counts == Counts(new=1)
    found = shown(hub)
    assert found["paper"] == [("Title 2", "title2", "Abstract of version 2.", "arxiv", "José Peña, B. C.", "cs.LG", "2023-01-31", "2023-05-01", "2023-02-01", 2, "", "", "", 0)]  # fmt: skip
    assert found["identifier"] == [("arxiv", "2301.13838"), ("doi", "10.1000/abc")]
    assert found["author"] == [(0, "jose-pena", "ETH"), (1, "b-c", "")]
    assert found["category"] == [("cs.AI", 0), ("cs.LG", 1)]
    assert found["version"][0][0] == 2
    assert found["link"] == [("code", "https://example.org/code", 1)]


def test_repeating_a_batch_changes_nothing(hub: Hub) -> None:
    batch = [record(1), record(2, categories=("cs.LG",)), record(3, doi="10.1/x")]
    assert take(hub, *batch) == Counts(new=1, changed=2)
    before = shown(hub)
    assert take(hub, *batch) == Counts(same=3)
    assert shown(hub) == before


def version_records() -> list[PaperRecord]:
    """Four versions as arXiv tells them, the daily page's own text, and a feed's."""
    return [
        record(
            n,
            title=f"Title of version {n}",
            abstract=f"{TEX} This is version {n}.",
            authors=("Ada Lovelace", "Charles Babbage")[: 1 + n % 2],
            categories=("cs.LG", "cs.AI", "stat.ML")[: 1 + n % 3],
            published=date(2023, 1, 31),
            updated=date(2023, 1 + n, 1),
            comment="" if n == 4 else f"comment of {n}",
            withdrawn=n == 4,
        )
        for n in (1, 2, 3, 4)
    ]


OTHERS = [
    (
        "hf-daily",
        record(title="Title of version", abstract=STRIPPED, announced=date(2023, 3, 1), published=date(2023, 1, 30)),
    ),
    ("feed", record(title="Title of a feed", abstract="We bound the loss…", announced=date(2023, 2, 2), doi="10.1/x")),
    ("file", record(title="Title of a file", abstract=f"{TEX} In a file.", licence="CC-BY", journal_ref="J. 1")),
]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(7)), cuts=st.sets(st.integers(1, 6), max_size=3))
def test_newer_version_wins_whatever_the_order(order: Sequence[int], cuts: set[int]) -> None:
    said = [("arxiv", one) for one in version_records()] + OTHERS
    expected = _state_after([said])
    bounds = [0, *sorted(cuts), 7]
    parts = [[said[n] for n in order[a:b]] for a, b in itertools.pairwise(bounds)]
    assert _state_after(parts) == expected


def _state_after(parts: list[list[tuple[str, PaperRecord]]]) -> dict[str, list[Any]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        open_hub(load(folder), catalogue=Catalogue(), clock=lambda: NOW) as hub,
    ):
        for part in parts:
            for kind, records in itertools.groupby(part, key=lambda item: item[0]):
                take(hub, *(item[1] for item in records), kind=kind)
        return shown(hub)


def test_the_newest_version_is_shown_and_all_are_kept(hub: Hub) -> None:
    take(hub, *version_records())
    found = shown(hub)
    assert found["paper"][0][:1] == ("Title of version 4",)
    assert found["paper"][0][9] == 4
    assert found["paper"][0][13] == 1, "the newest version withdraws the paper"
    assert found["paper"][0][10] == "comment of 3", "an empty comment does not wipe out the last one"
    assert [row[0] for row in found["version"]] == [1, 2, 3, 4]


def test_an_old_version_that_comes_late_fills_the_history_only(hub: Hub) -> None:
    take(hub, record(3))
    assert take(hub, record(1)) == Counts(changed=1)
    assert the_paper(hub).title == "Title 3"
    with hub.db.read() as session:
        assert list(session.scalars(select(Version.number).order_by(Version.number))) == [1, 3]


# -- which text wins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", list(itertools.permutations(("arxiv", "hf-daily", "feed", "file"))))
def test_arxiv_over_hugging_face_over_feeds_over_files(hub: Hub, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        take(hub, record(abstract=f"Clean words from {kind}."), kind=kind)
    assert the_paper(hub).abstract == "Clean words from arxiv."
    assert the_paper(hub).abstract_source == "arxiv"


@pytest.mark.parametrize("first", ["clean", "stripped"])
def test_a_stripped_text_never_stands_where_a_clean_one_is_known(hub: Hub, first: str) -> None:
    """The daily page outranks a file, but its text has lost its TeX on the way."""
    said = {"clean": (record(abstract=TEX), "file"), "stripped": (record(abstract=STRIPPED), "hf-daily")}
    for name in (first, *(set(said) - {first})):
        take(hub, said[name][0], kind=said[name][1])
    assert the_paper(hub).abstract == TEX
    assert the_paper(hub).abstract_source == "file"


def test_each_field_comes_from_the_best_that_has_it(hub: Hub) -> None:
    take(hub, record(abstract="", journal_ref="", comment="12 pages"), kind="arxiv")
    take(
        hub,
        record(title="Another title", abstract="From a feed.", journal_ref="ICML 2023", comment="none"),
        kind="feed",
    )
    paper = the_paper(hub)
    assert (paper.title, paper.abstract, paper.abstract_source) == ("Title", "From a feed.", "feed")
    assert (paper.journal_ref, paper.comment) == ("ICML 2023", "12 pages")


def test_a_correction_by_the_same_source_is_taken(hub: Hub) -> None:
    take(hub, record(title="A tpyo"), kind="file")
    assert take(hub, record(title="A typo"), kind="file") == Counts(changed=1)
    assert the_paper(hub).title == "A typo"


@pytest.mark.parametrize(
    ("said", "stripped"),
    [
        ("a 23times speedup", True),
        ("the ell_1-loss", True),
        ("on sim3x data", True),
        ("geq 90%", True),
        ("as in huang2024vaccine we", True),
        (TEX, False),
        ("three times 23 is 69, similar to 3x", False),
        ("GPT2024 and BERT", False),
    ],
)
def test_lost_tex_is_noticed(said: str, stripped: bool) -> None:
    assert looks_stripped(said) is stripped


# -- who is meant ---------------------------------------------------------------------------------------------------


def test_the_same_doi_is_the_same_paper(hub: Hub) -> None:
    take(hub, record(doi="10.1000/abc"))
    assert take(hub, record(arxiv=None, doi="10.1000/ABC", openreview="abcdefghij"), kind="file").new == 0
    assert shown(hub)["identifier"] == [("arxiv", "2301.13838"), ("doi", "10.1000/abc"), ("openreview", "abcdefghij")]


def test_an_arxiv_doi_names_the_arxiv_paper(hub: Hub) -> None:
    take(hub, record())
    assert take(hub, record(arxiv=None, doi="10.48550/arXiv.2301.13838"), kind="file").new == 0


def test_the_same_paper_twice_in_a_batch_is_one(hub: Hub) -> None:
    counts = take(
        hub, record(1), record(2), record(arxiv=None, doi="10.1/x"), record(arxiv=None, doi="10.1/x", journal_ref="J")
    )
    assert counts == Counts(new=2, changed=2)


def test_a_title_alone_is_a_proposal_and_no_merge(hub: Hub) -> None:
    same = {"title": "On the Loss of Lists", "authors": ("Ada Lovelace", "B C")}
    take(hub, record(published=date(2023, 1, 1), **same))
    take(
        hub,
        record(**same | {"title": "On the loss of lists"}, arxiv=None, doi="10.1/x", published=date(2023, 6, 1)),
        kind="feed",
    )
    take(hub, record(**same, arxiv="2501.00001", published=date(2025, 1, 1)))  # two years later: another
    take(hub, record(**same | {"authors": ("Somebody Else",)}, arxiv="2301.00002", published=date(2023, 1, 1)))
    with hub.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Paper)) == 4
        proposals = session.scalars(select(Audit)).all()
    assert [(item.action, item.subject) for item in proposals] == [("merge-proposed", "p:1 p:2")]
    assert "151 days apart" in proposals[0].detail


def test_many_papers_of_one_title_stay_quick_to_take_in(hub: Hub) -> None:
    """One proposal a paper, not one a pair."""
    take(hub, *(record(title="Editorial", arxiv=f"2301.{n:05}", published=date(2023, 1, 1)) for n in range(300)))
    with hub.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Audit)) == 299


def test_a_record_that_names_two_papers_merges_nothing(hub: Hub) -> None:
    take(hub, record(title="One"), record(title="Two", arxiv=None, doi="10.1/two"))
    take(hub, record(title="One", doi="10.1/two"), kind="feed")
    with hub.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Paper)) == 2
        assert session.get_one(Identifier, ("doi", "10.1/two")).paper_id == 2
        assert session.scalars(select(Audit.subject)).all() == ["p:1 p:2"]


# -- beside the text ------------------------------------------------------------------------------------------------


def test_counters_are_kept_one_by_one_and_may_fall(hub: Hub) -> None:
    seen = [datetime(2026, 8, day, 8, tzinfo=UTC) for day in (18, 19, 20)]
    for moment, value in zip(seen, (10, 31, 29), strict=True):
        take(hub, record(counters=(CounterRecord(metric="upvotes", seen=moment, value=value),)), kind="hf-daily")
    with hub.db.read() as session:
        assert list(session.scalars(select(Counter.value).order_by(Counter.seen))) == [10, 31, 29]
        hot = session.scalars(select(Hot)).one()
    assert hot.key_week > 0


def test_a_second_listing_keeps_the_first_day(hub: Hub) -> None:
    for day in (date(2026, 8, 20), date(2026, 8, 18), date(2026, 8, 20)):
        take(hub, record(listings=(ListingRecord(day=day, rank=3),)), kind="hf-daily")
    assert the_paper(hub).announced == "2026-08-18"
    with hub.db.read() as session:
        assert list(session.scalars(select(Listing.day).order_by(Listing.day))) == ["2026-08-18", "2026-08-20"]


def test_a_link_once_called_official_stays_so(hub: Hub) -> None:
    for official in (False, True, False):
        take(hub, record(links=(LinkRecord(kind="code", url="https://example.org/x", official=official),)))
    with hub.db.read() as session:
        assert session.scalars(select(Link.official)).all() == [True]


def test_authors_and_categories_of_a_newer_version_replace(hub: Hub) -> None:
    take(hub, record(1, authors=("A B", "C D", "E F"), categories=("cs.LG", "cs.AI")))
    take(hub, record(2, authors=("C D", "A B"), categories=("cs.CV",)))
    with hub.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Authorship)) == 2
        assert session.scalars(select(PaperCategory.code)).all() == ["cs.CV"]
    assert the_paper(hub).authors_text == "C D, A B"


# -- what cannot be stored ------------------------------------------------------------------------------------------


def test_a_bad_record_costs_itself_alone(hub: Hub) -> None:
    source_id = source(hub, "file")
    with hub.db.write() as session:
        intake = Intake(source_id=source_id, started="2026-08-21T09:30:00Z")
        session.add(intake)
        session.flush()
        intake_id = intake.id
    bad = [
        record(arxiv=None),
        record(title="", arxiv="2301.00009"),
        record(arxiv="2301.00008", counters=(CounterRecord(metric="upvotes", seen=NOW, value=2**60),)),
    ]
    huge = RefusedEntry(ordinal=7, reason="line 7: not JSON", raw="ü" * 70_000)
    counts = take(hub, record(), *bad, kind="file", intake_id=intake_id, refused=(huge,))
    assert counts == Counts(new=1, refused=4)
    with hub.db.read() as session:
        kept = session.scalars(select(Refused).order_by(Refused.id)).all()
        assert session.get_one(Intake, intake_id).refused == 4
    assert [row.ordinal for row in kept] == [7, 0, 0, 0]
    assert len(kept[0].raw.encode()) <= 64 * 1024
    assert [word in row.reason for word, row in zip(("JSON", "identifier", "credible", "without a title"), kept, strict=True)] == [True] * 4  # fmt: skip
    take(hub, kind="file", intake_id=intake_id, refused=(huge,))
    with hub.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Refused)) == 4, "what waits already is not kept twice"


def test_a_record_without_a_title_adds_to_a_known_paper(hub: Hub) -> None:
    take(hub, record(1))
    assert take(hub, record(title="", authors=(), abstract="More words than before."), kind="file") == Counts(same=1)
    take(hub, record(title="", authors=(), counters=(CounterRecord(metric="upvotes", seen=NOW, value=3),)), kind="file")
    assert the_paper(hub).title == "Title 1"


def test_nothing_of_a_batch_stays_when_its_transaction_fails(hub: Hub) -> None:
    source_id = source(hub, "arxiv")

    def stopped() -> None:
        with hub.db.write() as session:
            store_batch(session, source_id, None, Batch(records=(record(),), cursor="further"), NOW)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    with hub.db.read() as session:
        assert session.scalar(select(func.count()).select_from(Paper)) == 0
        assert session.get_one(Source, source_id).cursor is None


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=names, abstract=names, authors=st.lists(names, max_size=4), code=names, url=names)
@example(
    title="a\0b", abstract="\0", authors=["\0", "a\0b"], code="\0", url="\0"
)  # once found too late: a zero ends a text of SQLite's JSON
def test_any_text_can_be_stored(hub: Hub, title: str, abstract: str, authors: list[str], code: str, url: str) -> None:
    facts = {"title": title, "abstract": abstract, "authors": authors, "categories": [code], "url": url}
    try:
        one = PaperRecord.model_validate(facts)
    except ValueError:
        return  # blanks alone
    take(hub, one, kind="feed")
    assert take(hub, one, kind="feed").new == 0

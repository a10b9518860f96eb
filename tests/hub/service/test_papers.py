"""Cards, pages, lists, export: from a small store made by records."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from paperworks.catalogue import Catalogue
from paperworks.config import Settings, load
from paperworks.errors import InputError, NotFound
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.records import Batch, CounterRecord, LinkRecord, ListingRecord, PaperRecord
from paperworks.hub.service import papers
from paperworks.hub.service.cards import build_cards, find_paper
from paperworks.hub.sources.arxiv import ArxivIds
from paperworks.hub.store.load import store_batch
from paperworks.hub.store.models import Paper, Source

NOW = datetime(2026, 8, 21, 9, 30, tzinfo=UTC)


def record(n: int, **more: Any) -> PaperRecord:
    facts = {
        "title": f"Title {n}",
        "abstract": f"Abstract {n}.",
        "arxiv": f"2301.{n:05}",
        "authors": ("Ada Lovelace", f"Person {n}"),
        "categories": ("cs.LG", "stat.ML") if n % 2 else ("cs.CV",),
        "announced": date(2026, 8, 1 + n % 20),
    }
    return PaperRecord(**facts | more)


def fill(hub: Hub, *records: PaperRecord) -> None:
    with hub.db.write() as session:
        source = session.scalar(select(Source).where(Source.name == "hf-daily"))
        if source is None:
            source = Source(kind="hf-daily", name="hf-daily", config={})
            session.add(source)
            session.flush()
        store_batch(session, source.id, None, Batch(records=records), NOW, settings=hub.settings)


@contextmanager
def counted(hub: Hub) -> Iterator[list[str]]:
    """The statements that are sent while the block runs."""
    sent: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    event.listen(hub.db._reading, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(hub.db._reading, "before_cursor_execute", note)


# -- cards ----------------------------------------------------------------------------------------------------------


def test_cards_take_the_same_number_of_queries_for_one_paper_and_for_two_hundred(hub: Hub) -> None:
    code = (LinkRecord(kind="code", url="https://example.org/c"),)
    fill(
        hub,
        *(record(n, links=code, counters=(CounterRecord(metric="upvotes", seen=NOW, value=n),)) for n in range(200)),
    )
    _ = hub.reader_id
    with hub.db.read() as session:
        ids = list(session.scalars(select(Paper.id)))
        with counted(hub) as one:
            build_cards(hub, session, ids[:1])
        with counted(hub) as many:
            cards = build_cards(hub, session, ids[::-1])
    assert len(cards) == 200
    assert len(many) == len(one) <= 12
    assert [card.id for card in cards] == ids[::-1], "the order is kept"
    assert cards[0].authors[0].key == "ada-lovelace"
    assert cards[0].categories == ("cs.LG", "stat.ML")
    assert (cards[0].state, cards[0].code_url) == ("code-elsewhere", "https://example.org/c")


def test_cards_leave_out_what_is_gone_and_take_nothing_for_nothing(hub: Hub) -> None:
    fill(hub, record(1))
    with hub.db.read() as session:
        assert [card.id for card in build_cards(hub, session, [999, 1])] == [1]
        assert build_cards(hub, session, []) == []


@pytest.mark.parametrize(
    "reference",
    ["2301.00001", "2301.00001v3", "arXiv:2301.00001", "https://arxiv.org/abs/2301.00001v2", "10.1000/X", "doi:10.1000/x",
     "https://doi.org/10.1000/x", "p:1", "  p:1 "],
)  # fmt: skip
def test_a_paper_is_found_by_whatever_names_it(hub: Hub, reference: str) -> None:
    fill(hub, record(1, doi="10.1000/x"))
    with hub.db.read() as session:
        assert find_paper(hub, session, reference) == 1


@pytest.mark.parametrize(
    ("reference", "said"),
    [("2301.99999", "paperworks add 2301.99999"), ("10.1234/none", "import it"), ("p:7", "no paper 'p:7'"), ("", "give an arXiv id"),
     ("p:99999999999999999999999", "no paper"), ("nonsense \N{SNOWMAN}", "no paper")],
)  # fmt: skip
def test_a_paper_that_is_not_there_is_told_with_a_way_to_bring_it_in(hub: Hub, reference: str, said: str) -> None:
    with hub.db.read() as session, pytest.raises(NotFound, match=said):
        find_paper(hub, session, reference)


# -- the catalogue --------------------------------------------------------------------------------------------------


def test_the_papers_that_run_here_are_papers_of_the_store(home: Settings) -> None:
    with open_hub(home) as hub, hub.db.read() as session:
        assert sorted(session.scalars(select(Paper.slug).where(Paper.slug.is_not(None)))) == sorted(hub.catalogue)
        for slug, runnable in hub.catalogue.items():
            (card,) = build_cards(hub, session, [find_paper(hub, session, slug)])
            assert card.title == runnable.spec.title
            assert card.state == ("runs-here" if runnable.has_method else "method-to-come")
            assert len(card.verdicts) == len(runnable.claims)


def test_the_catalogue_fills_gaps_and_overwrites_nothing(home: Settings) -> None:
    from paperworks.catalogue import catalogue

    spec = next((paper for paper in catalogue().values() if paper.spec.arxiv and paper.spec.abstract), None)
    if spec is None:
        pytest.skip("no paper of the catalogue has an arXiv id and an abstract yet")
    alone = Catalogue({spec.slug: spec})
    with open_hub(home, catalogue=Catalogue(), clock=lambda: NOW) as hub:
        fill(hub, PaperRecord(title="As arXiv has it", abstract="Words of the listing.", arxiv=spec.spec.arxiv))
    with open_hub(home, catalogue=alone, clock=lambda: NOW) as hub:
        view = papers.paper_page(hub, spec.slug)
        assert (view.card.title, view.card.abstract) == ("As arXiv has it", "Words of the listing.")
        assert view.card.authors != ()
        assert view.card.slug == spec.slug
    with open_hub(home, catalogue=Catalogue(), clock=lambda: NOW) as hub:
        assert papers.paper_page(hub, str(spec.spec.arxiv)).card.slug is None, "it has left the catalogue"


# -- pages ----------------------------------------------------------------------------------------------------------


def test_the_front_page_of_an_empty_hub_is_empty(hub: Hub) -> None:
    view = papers.front_page(hub)
    assert (view.papers, view.trending, view.recent) == (0, (), ())


def test_the_front_page_shows_what_trends_and_what_came_last(hub: Hub) -> None:
    hot = record(5, counters=(CounterRecord(metric="upvotes", seen=NOW, value=50),))
    fill(hub, *(record(n) for n in range(30)), hot)
    view = papers.front_page(hub, "week")
    assert view.papers == 30
    assert view.trending[0].ref == "2301.00005"
    assert view.recent[0].announced == "2026-08-20"


def test_a_day_lists_its_papers_hottest_first(hub: Hub) -> None:
    day = date(2026, 8, 20)
    votes = {1: 3, 2: 40, 3: 0}
    fill(
        hub,
        *(record(n, announced=day, counters=(CounterRecord(metric="upvotes", seen=NOW, value=v),)) for n, v in votes.items()),
        record(4, announced=date(2026, 8, 18)),
        record(5, announced=None),
    )  # fmt: skip
    view = papers.day_page(hub, "2026-08-20")
    assert [card.ref for card in view.cards] == ["2301.00002", "2301.00001", "2301.00003"]
    assert (view.total, view.previous, view.next) == (3, "2026-08-18", "2026-08-21")
    latest = papers.day_page(hub)
    assert (latest.day, [card.ref for card in latest.cards]) == ("2026-08-21", ["2301.00005"]), (
        "first seen stands in for announced"
    )


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "2026-8-1; DROP TABLE", ""])
def test_what_is_not_a_day_is_told(hub: Hub, day: str) -> None:
    with pytest.raises(InputError, match="not a day"):
        papers.day_page(hub, day)


def test_an_empty_day_explains_itself(hub: Hub) -> None:
    assert "No source is asked" in papers.day_page(hub, "2026-08-20").explanation
    assert "has not come yet" in papers.day_page(hub, "2027-01-01").explanation


def through(hub: Hub, ask: Any) -> list[str]:
    refs, cursor = [], None
    while True:
        view = ask(cursor)
        refs += [card.ref for card in view.cards]
        if view.next is None:
            assert view.total == len(refs)
            return refs
        cursor = view.next


@pytest.mark.parametrize("rare", [5000, 0])
def test_a_category_is_walked_newest_first_without_gaps_or_repeats(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, rare: int
) -> None:
    monkeypatch.setattr(papers, "RARE", rare)
    fill(hub, *(record(n) for n in range(95)))
    refs = through(hub, lambda cursor: papers.category_page(hub, "cs.LG", cursor))
    assert len(refs) == len(set(refs)) == 47
    days = [1 + int(ref[-2:]) % 20 for ref in refs]
    assert days == sorted(days, reverse=True)
    assert len(through(hub, lambda cursor: papers.category_page(hub, "cs", cursor))) == 95, (
        "an archive holds its categories"
    )
    assert papers.category_page(hub, "cs.XX").cards == ()


def test_a_page_stays_put_while_papers_arrive(hub: Hub) -> None:
    fill(hub, *(record(n) for n in range(60)))
    first = papers.category_page(hub, "cs")
    fill(hub, *(record(n, announced=date(2026, 8, 21)) for n in range(100, 120)))
    second = papers.category_page(hub, "cs", first.next)
    assert not {card.ref for card in first.cards} & {card.ref for card in second.cards}


def test_an_author_has_a_page(hub: Hub) -> None:
    fill(hub, *(record(n) for n in range(25)))
    assert len(through(hub, lambda cursor: papers.author_page(hub, "ada-lovelace", cursor))) == 25
    assert papers.author_page(hub, "person-3").title == "Person 3"
    with pytest.raises(NotFound, match="no author 'nobody'"):
        papers.author_page(hub, "nobody")


@pytest.mark.parametrize("cursor", ["x", "W10", "bnVsbA", "WyJhIiwgMV0", "\N{SNOWMAN}", "A" * 400])
def test_a_made_up_cursor_is_told(hub: Hub, cursor: str) -> None:
    with pytest.raises(InputError, match="not the cursor"):
        papers.category_page(hub, "cs", cursor)


# -- add ------------------------------------------------------------------------------------------------------------


def test_add_asks_arxiv_and_refuses_what_cannot_be_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(self: ArxivIds, cursor: str | None, http: object) -> Iterator[Batch]:
        asked.extend(str(item) for item in self.references)
        yield Batch(records=(record(1, version=2),), cursor="1", requests=1)

    monkeypatch.setattr(ArxivIds, "fetch", fetch)
    view = papers.add(hub, ["https://arxiv.org/abs/2301.00001", "10.1000/x", "rubbish"])
    assert (view.state, view.new, view.refused) == ("refusals", 1, 2)
    assert len(asked) == 1
    with pytest.raises(InputError, match="at least one"):
        papers.add(hub, [])


# -- export ---------------------------------------------------------------------------------------------------------


def whole(n: int) -> PaperRecord:
    return record(
        n,
        title=r"On {odd} \$5 & 100% of $\ell_1$",
        doi=f"10.1000/{n}",
        journal_ref="ICML 2023",
        published=date(2023, 1, 31),
        links=(LinkRecord(kind="code", url="https://example.org/c", who="author", official=True),),
        counters=(CounterRecord(metric="upvotes", seen=NOW, value=n),),
        listings=(ListingRecord(day=date(2026, 8, 2), rank=1),),
    )


def test_jsonl_carries_a_hub_into_another(hub: Hub, tmp_path: Path) -> None:
    fill(hub, *(whole(n) for n in range(700)))
    file = tmp_path / "hub.jsonl"
    file.write_text("".join(papers.export(hub)), encoding="utf-8")
    with open_hub(load(tmp_path / "other"), catalogue=Catalogue(), clock=lambda: NOW) as other:
        assert papers.import_files(other, [file]).new == 700
        assert "".join(papers.export(other)) == file.read_text(encoding="utf-8")


def test_bibtex_comes_back_through_the_reader_of_files(hub: Hub, tmp_path: Path) -> None:
    fill(hub, *(whole(n) for n in range(3)))
    file = tmp_path / "hub.bib"
    file.write_text("".join(papers.export(hub, "bibtex")), encoding="utf-8")
    with open_hub(load(tmp_path / "other"), catalogue=Catalogue()) as other:
        assert papers.import_files(other, [file]).new == 3
        card = papers.paper_page(other, "2301.00001").card
    assert [author.name for author in card.authors] == ["Ada Lovelace", "Person 1"]


def test_ris_comes_back_through_the_reader_of_files(hub: Hub, tmp_path: Path) -> None:
    fill(hub, *(whole(n) for n in range(3)))
    file = tmp_path / "hub.ris"
    file.write_text("".join(papers.export(hub, "ris")), encoding="utf-8", newline="")
    with open_hub(load(tmp_path / "other"), catalogue=Catalogue()) as other:
        assert papers.import_files(other, [file]).new == 3
        assert papers.paper_page(other, "10.1000/1").card.title == r"On {odd} \$5 & 100% of $\ell_1$"


def test_csv_is_a_table_that_no_spreadsheet_executes(hub: Hub) -> None:
    fill(hub, record(1, title='=HYPERLINK("x")', abstract='a "quoted", line'))
    (row,) = csv.DictReader(io.StringIO("".join(papers.export(hub, "csv"))))
    assert row["title"].startswith("'=")
    assert (row["authors"], row["abstract"]) == ("Ada Lovelace; Person 1", 'a "quoted", line')


def test_an_unknown_format_is_told_at_once(hub: Hub) -> None:
    with pytest.raises(InputError, match="jsonl, bibtex, ris, csv"):
        papers.export(hub, "docx")


def test_an_export_of_nothing_is_nothing(hub: Hub) -> None:
    assert list(papers.export(hub)) == []
    assert json.dumps(list(papers.export(hub, "csv")))


# -- doctor ---------------------------------------------------------------------------------------------------------


def test_the_doctor_looks_at_what_people_ask_about(hub: Hub) -> None:
    found = {what: (well, sentence) for what, well, sentence in papers.doctor(hub)}
    assert {"disk", "folder", "schema", "database", "words index", "papers", "clock"} <= set(found)
    assert found["papers"][0] is False
    assert "paperworks add" in found["papers"][1]
    fill(hub, record(1))
    assert all(well for _, well, _ in papers.doctor(hub))


def test_the_doctor_notices_a_clock_that_was_set_back(home: Settings) -> None:
    with open_hub(home, catalogue=Catalogue(), clock=lambda: NOW) as hub:
        fill(hub, record(1))
    with open_hub(home, catalogue=Catalogue(), clock=lambda: NOW.replace(year=2020)) as hub:
        assert {what: well for what, well, _ in papers.doctor(hub)}["clock"] is False

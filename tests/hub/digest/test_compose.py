"""Which papers a mail holds: `choose` as a property, and queries through a small hub."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paperworks.hub.digest.compose import MOST, Found, Wanted, choose

from .town import Town, papers_in, part

found = st.lists(st.integers(1, 40), max_size=40, unique=True).map(lambda ids: [Found(i, f"r{i}") for i in ids])
wishes = st.lists(
    st.builds(Wanted, title=st.sampled_from("abcdef"), found=found, least=st.integers(0, 3), most=st.integers(1, 25)),
    max_size=6,
    unique_by=lambda wish: wish.title,
)


@given(wishes, st.sets(st.integers(1, 40)))
def test_a_paper_comes_once_never_again_and_in_the_first_section_that_claims_it(
    wished: list[Wanted], seen: set[int]
) -> None:
    items = choose(wished, seen)
    ids = [item.paper_id for item in items]
    assert len(ids) == len(set(ids)) <= MOST
    assert not set(ids) & seen
    order = [wish.title for wish in wished]
    places = [order.index(item.section) for item in items]
    assert places == sorted(places), "sections stay together and in order"
    by_title = {wish.title: wish for wish in wished}
    for title in {item.section for item in items}:
        wish = by_title[title]
        mine = [item.paper_id for item in items if item.section == title]
        ranks = [[f.paper_id for f in wish.found].index(paper_id) for paper_id in mine]
        assert ranks == sorted(ranks), "best first"
        assert len(mine) <= wish.most
    if not items:
        for wish in wished:
            new = [f for f in wish.found if f.paper_id not in seen][: wish.most]
            assert len(new) < max(1, wish.least)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_places_are_dealt_out_fairly(wished: list[int]) -> None:
    start = 0
    lists = []
    for n in wished:
        lists.append(Wanted(f"s{start}", [Found(i, "") for i in range(start, start + n)], most=30))
        start += 100
    got = [sum(item.section == wish.title for item in choose(lists, ())) for wish in lists]
    assert sum(got) == min(MOST, sum(wished))
    short = [g for g, w in zip(got, wished, strict=True) if g < w]
    assert not short or max(got) - min(short) <= 1, "nobody has two more than one who went short"


def test_each_kind_finds_its_papers_with_its_reason(town: Town) -> None:
    town.arrive(title="A Transformer that Sings", category="cs.SD", authors=("Clara Schumann", "Ada Writer"))
    town.arrive(title="A Transformer that Draws", category="cs.CV")
    town.arrive(title="A Survey of Transformers", category="cs.CV")
    town.arrive(title="Loved by All", category="cs.RO", vote=True)
    town.arrive(title="Nobody Wants This", category="q-bio.NC")
    town.join("a@example.org", "topic", {"categories": ["cs.SD", "q-bio"]})
    town.join("b@example.org", "author", {"name": "clara SCHUMANN"})
    town.join("c@example.org", "trending", {"window": "day"})
    town.join("d@example.org", "query", {"query": "transformer -survey"})
    town.at("2026-08-22 07:00")
    town.beat()
    got = {str(mail["To"])[0]: (papers_in(mail), part(mail, "plain")) for mail in town.digests()}
    assert sorted(got["a"][0]) == ["2608.10001", "2608.10005"]
    assert "   New in q-bio.NC\n" in got["a"][1]
    assert got["b"][0] == ["2608.10001"]
    assert "New by clara SCHUMANN" in got["b"][1]
    assert got["c"][0] == ["2608.10004"]
    assert "Number 1 today. Heat" in got["c"][1]
    assert sorted(got["d"][0]) == ["2608.10001", "2608.10002"]


def test_old_papers_that_somebody_imports_are_no_news(town: Town) -> None:
    from datetime import date

    town.join()
    town.arrive(announced=date(2023, 1, 30))
    town.at("2026-08-22 07:00")
    town.beat()
    assert town.states() == ["empty"]


def test_a_paper_that_its_source_brings_two_days_late_still_comes(town: Town) -> None:
    town.arrive()
    town.join()
    town.at("2026-08-22 07:00")
    town.beat()
    town.at("2026-08-24 05:00")
    from datetime import date

    town.arrive(announced=date(2026, 8, 22))
    town.at("2026-08-24 07:00")
    town.beat()
    assert [papers_in(mail) for mail in town.digests()] == [["2608.10001"], ["2608.10002"]]

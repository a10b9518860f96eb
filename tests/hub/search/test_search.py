"""The verbs: search, similar, reindex, and what a standing search finds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text as sql

from paperworks.errors import InputError, NotFound
from paperworks.hub.hub import Hub
from paperworks.hub.records import PaperRecord
from paperworks.hub.search import building, vectors
from paperworks.hub.search.query import parse
from paperworks.hub.service import search as service
from paperworks.hub.service import votes
from paperworks.hub.views import PaperCard, SearchPage

from .conftest import NOW, SUBJECTS, bring, made_up


def numbers(page: SearchPage | list[PaperCard]) -> list[int]:
    """Which of the made-up papers these are."""
    cards = page.cards if isinstance(page, SearchPage) else page
    return [int(card.ref[-4:]) for card in cards]


def all_pages(hub: Hub, text: str, size: int = 7, **more: str) -> list[int]:
    found: list[int] = []
    cursor = None
    while True:
        page = service.search(hub, text, cursor=cursor, size=size, **more)  # type: ignore[arg-type]
        found += numbers(page)
        cursor = page.next
        if cursor is None:
            return found
        assert len(page.cards) == size


# -- any text -------------------------------------------------------------------------------------------------------

PIECES = (
    "OR", "AND", "NOT", "NEAR(", "title:", "cat:cs", "-", '"', '"a b"', "pruning", "sparse", "*", "^", "{title}", "year:2024",
    "author:ada", "-has:code", "mode:meaning", "sort:hot", "sort:new", "verdict:partly", "has:claims", "is:unread", "(", ")", "'; drop table paper",
    "title:pruning OR title:noise", "after:2025", "é", "\x00", "\ud800", "😀", "a:b:c", "%", "_", "\\", "token7",
)  # fmt: skip
any_text = st.one_of(
    st.text(max_size=60),
    st.text(alphabet='aOR "-():*^', max_size=30),
    st.lists(st.sampled_from(PIECES), max_size=7).map(" ".join),
)


@settings(max_examples=200, deadline=None)
@given(
    any_text,
    st.sampled_from([None, "words", "meaning", "both"]),
    st.sampled_from([None, "relevance", "new", "hot"]),
)
def test_any_text_is_answered(forty: Hub, text: str, mode: str | None, sort: str | None) -> None:
    page = service.search(forty, text, mode=mode, sort=sort, size=5)
    assert len({card.id for card in page.cards}) == len(page.cards) <= 5
    assert page.about >= len(page.cards)
    for card in page.cards:
        if card.why:
            for text_, marks in ((card.title, card.why.title_marks), (card.why.snippet, card.why.snippet_marks)):
                assert all(0 <= start < end <= len(text_) and text_[start:end].strip() for start, end in marks)
                assert list(marks) == sorted(marks)
    if page.next:
        service.search(forty, text, mode=mode, sort=sort, size=5, cursor=page.next)
    with forty.db.read() as session:
        found = service.ids_for_query(forty, session, text, limit=50)
    assert len({paper_id for paper_id, _ in found}) == len(found)


def test_a_megabyte_is_answered_too(forty: Hub) -> None:
    for text in ("pruning " * 130_000, '"' * 1_000_000, "(" * 1_000_000, "title:a " * 130_000):
        page = service.search(forty, text)
        assert any("only the first 2,000 characters" in note for note in page.notes)
        assert len(page.query) <= 2000


def test_the_hub_without_papers_answers(empty: Hub) -> None:
    for text in ("", "pruning", "cat:cs -x", "author:ada sort:hot"):
        page = service.search(empty, text)
        assert (page.cards, page.about, page.next) == ((), 0, None)
    assert service.reindex(empty).vectors == "nothing"


# -- what is found --------------------------------------------------------------------------------------------------


def plainly(text: str) -> set[int]:
    """What a query should find by words, by looking at each record."""
    query = parse(text)

    def has(record: PaperRecord, word: str, field: str) -> bool:
        place = {
            "any": f"{record.title} {record.abstract} {' '.join(record.authors)}",
            "title": record.title,
            "author": " ".join(record.authors),
        }[field]
        return word.lower() in place.lower()

    def passes(record: PaperRecord, kind: str, value: str) -> bool:
        published = record.published.isoformat() if record.published else ""
        return {
            "cat": lambda: any(code == value or code.startswith(f"{value}.") for code in record.categories),
            "year": lambda: published[:4] == value,
            "after": lambda: published >= value,
            "before": lambda: published < value,
            "has": lambda: value == "code" and bool(record.links),
        }[kind]()

    found = set()
    for n in range(40):
        record = made_up(n)
        if (
            all(has(record, one.text, one.field) for one in (*query.words, *query.required))
            and not any(has(record, one.text, one.field) for one in query.excluded)
            and all(any(has(record, one.text, one.field) for one in group) for group in query.alternatives)
            and all(
                any(passes(record, one.kind, one.value) is not one.negative for one in group) for group in query.filters
            )
        ):
            found.add(n)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "token7",
        "pruning",
        '"sparse weights"',
        "-pruning",
        "cat:cs",
        "cat:cs.LG",
        "-cat:cs.AI",
        "cat:cs.LG OR cat:stat.ML",
        "cat:cs.LG cat:cs.AI",
        "year:2025",
        "after:2025-06 before:2026-02-03",
        "-year:2025 cat:cs.AI",
        "has:code",
        "has:code -has:code",
        "title:sparse",
        "-title:sparse pruning",
        "author:muster",
        "author:ada -pruning",
        "sparse OR noise",
        "pruning has:code year:2026",
        "title:sampler OR title:index",
        'pruning -"sparse weights"',
    ],
)
@pytest.mark.parametrize("sort", ["relevance", "new", "hot"])
def test_words_and_filters_find_what_a_plain_look_finds(forty: Hub, text: str, sort: str) -> None:
    expected = plainly(text)
    assert set(all_pages(forty, text, mode="words", sort=sort)) == expected
    page = service.search(forty, text, mode="words", sort=sort)
    assert page.about == len(expected)
    assert not page.capped


def test_an_author_is_found_in_either_order_and_with_an_initial_between(forty: Hub) -> None:
    muster = plainly("author:muster")
    for text in ('author:"Bert Muster"', 'author:"Muster Bert"', 'author:"bert b. muster"'):
        assert set(all_pages(forty, text)) == muster
    assert set(all_pages(forty, "author:chateau")) == plainly("author:château")


def test_meaning_finds_what_words_do_not_and_respects_filters(forty: Hub) -> None:
    """'sparse' stands in every abstract of the first subject or not; 'magnitude compression' is near to all of them."""
    page = service.search(forty, "magnitude compression sparsity", mode="meaning", size=10)
    assert {n % 4 for n in numbers(page)} == {0}
    page = service.search(forty, "magnitude compression sparsity cat:cs.CV", mode="meaning", size=10)
    assert {n % 4 for n in numbers(page)} <= {2}
    excluded = service.search(forty, "magnitude compression -token4 -token8", mode="meaning", size=40)
    assert not {4, 8} & set(numbers(excluded))


def test_both_together_put_what_both_find_first(forty: Hub) -> None:
    page = service.search(forty, "token12 pruning")
    assert numbers(page)[0] == 12
    assert page.cards[0].why is not None
    assert page.cards[0].why.by_words
    assert page.cards[0].why.by_meaning
    scores = [card.score for card in page.cards]
    assert None not in scores
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]


def test_new_is_newest_first_and_hot_is_hottest_first(forty: Hub) -> None:
    assert all_pages(forty, "pruning", sort="new") == list(range(0, 40, 4))
    assert all_pages(forty, "") == list(range(40))
    votes.vote(forty, "2608.10020")
    try:
        assert numbers(service.search(forty, "pruning sort:hot"))[:3] == [20, 0, 4]
        assert numbers(service.search(forty, "", sort="hot"))[0] == 20
    finally:
        votes.unvote(forty, "2608.10020")


def test_an_identifier_or_an_address_is_the_paper(forty: Hub) -> None:
    for text in ("2608.10003", " arXiv:2608.10003v2 ", "https://arxiv.org/pdf/2608.10003"):
        page = service.search(forty, text)
        assert (page.direct, numbers(page)) == ("2608.10003", [3])
    page = service.search(forty, "2401.99999")
    assert page.direct is None
    assert "paperworks add 2401.99999" in page.notes[0]


def test_why_shows_the_words_that_matched(forty: Hub) -> None:
    (card, *_) = service.search(forty, "token8 layer", mode="words").cards
    assert card.why is not None
    assert card.why.by_words
    assert "token8" in {card.why.snippet[start:end] for start, end in card.why.snippet_marks}
    assert "‘token8’" in card.why.sentence
    marked = {card.title[start:end].lower() for start, end in card.why.title_marks}
    assert marked <= {"layers"}  # the stem decides, not the letters


def test_a_word_nobody_has_is_named_with_one_that_is_spelt_nearly_so(forty: Hub) -> None:
    page = service.search(forty, "prunning")
    assert any("‘prunning’" in note and "pruning" in note for note in page.notes)
    assert service.search(forty, "qqqqqq").cards == ()


def test_facets_count_what_was_found_and_lead_to_a_narrower_search(forty: Hub) -> None:
    page = service.search(forty, "has:code", mode="words")
    expected = [made_up(n) for n in plainly("has:code")]
    counts = {facet.name: facet.count for facet in page.facets["category"]}
    assert counts == {code: sum(code in record.categories for record in expected) for code in counts}
    assert set(counts) == {code for record in expected for code in record.categories}
    assert sum(facet.count for facet in page.facets["year"]) == len(expected)
    for group in page.facets.values():
        for facet in group:
            narrowed = service.search(forty, facet.query, mode="words")
            if not facet.active:
                assert narrowed.about == facet.count
                (again,) = [one for one in narrowed.facets[_group_of(page, facet)] if one.name == facet.name]
                assert again.active
                assert parse(again.query) == parse(page.canonical)


def _group_of(page: SearchPage, facet: object) -> str:
    return next(name for name, group in page.facets.items() if facet in group)


@pytest.mark.parametrize("text", ["", "pruning", "pruning sort:new", "sparse noise ranking", "cat:cs", "experiments"])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_pages_join_without_gap_or_repeat(forty: Hub, text: str, size: int) -> None:
    whole = numbers(service.search(forty, text, size=100))
    assert all_pages(forty, text, size) == whole
    assert len(set(whole)) == len(whole)


def test_pages_stay_as_they_are_while_papers_arrive(empty: Hub) -> None:
    bring(empty, *(made_up(n) for n in range(1, 30)))
    for text in ("", "pruning OR noise OR index OR matrix", "experiments"):
        with empty.db.read() as session:
            n_before = session.scalar(sql("SELECT count(*) FROM paper"))
        whole = numbers(service.search(empty, text, size=100))
        first = service.search(empty, text, size=10)
        bring(empty, made_up(100 + int(n_before or 0)), made_up(0))
        rest = service.search(empty, text, size=100, cursor=first.next)
        assert numbers(first) + numbers(rest) == whole


@pytest.mark.parametrize(
    "cursor", ["", "x", "bm90IGpzb24", "W10", "WzEsMl0", "WzEsMiwzXQ", "WyJhIiwyLDNd", "é", "A" * 400]
)
def test_a_cursor_that_was_not_given_is_refused(forty: Hub, cursor: str) -> None:
    if not cursor:
        assert service.search(forty, "pruning", cursor=cursor).cards
        return
    with pytest.raises(InputError, match="cursor"):
        service.search(forty, "pruning", cursor=cursor)


def test_a_cursor_of_another_search_is_refused(forty: Hub) -> None:
    cursor = service.search(forty, "", size=5).next
    with pytest.raises(InputError, match="another search"):
        service.search(forty, "pruning", cursor=cursor)
    for more in ({"mode": "magic"}, {"sort": "up"}):
        with pytest.raises(InputError, match="is one of"):
            service.search(forty, "pruning", **more)


# -- standing searches ----------------------------------------------------------------------------------------------


def test_a_standing_search_takes_papers_with_all_words_and_leaves_the_merely_nearest(forty: Hub) -> None:
    def found(text: str, since: object = None) -> list[int]:
        with forty.db.read() as session:
            rows = service.ids_for_query(forty, session, text, since=since, limit=100)  # type: ignore[arg-type]
            refs = dict(session.execute(sql("SELECT paper_id, value FROM identifier")).all())
        assert all(why.sentence or not parse(text).has_text for _, why in rows)
        return [int(refs[paper_id][-4:]) for paper_id, _ in rows]

    assert set(found("pruning token8")) == {8}
    assert set(found("pruning")) >= plainly("pruning")
    assert set(found("cat:cs.LG -token4")) == plainly("cat:cs.LG -token4")
    assert found("cat:cs.LG sort:new", since="2026-08-10") == [0, 4, 8]
    assert found("pruning", since=NOW + timedelta(seconds=1)) == []
    assert len(found("")) == 40


# -- similar --------------------------------------------------------------------------------------------------------


def test_similar_papers_are_of_the_same_subject_with_what_they_share(forty: Hub) -> None:
    for n in range(4):
        cards = service.similar(forty, f"2608.1{n:04d}", k=5)
        assert len(cards) == 5
        assert n not in numbers(cards)
        assert {found % 4 for found in numbers(cards)} == {n}
        for card in cards:
            assert card.why is not None
            assert card.why.sentence
    assert service.similar(forty, "2608.10000", k=0) == []
    with pytest.raises(NotFound):
        service.similar(forty, "2401.00001")


def test_similar_works_by_words_without_vectors(empty: Hub) -> None:
    bring(empty, *(made_up(n) for n in range(40)))
    for n in range(4):
        cards = service.similar(empty, f"2608.1{n:04d}", k=5)
        assert {found % 4 for found in numbers(cards)} == {n}
        assert all(card.why and not card.why.by_meaning for card in cards)


def test_versions_of_the_paper_and_of_others_are_folded(empty: Hub) -> None:
    """Paper 0 twice more under other ids, paper 4 once more."""
    copies = [made_up(n).model_copy(update={"arxiv": f"2608.1{9000 + at}"}) for at, n in enumerate((0, 0, 4))]
    bring(empty, *(made_up(n) for n in range(40)), *copies)
    service.reindex(empty)
    cards = service.similar(empty, "2608.10000", k=20)
    found = numbers(cards)
    assert len({9000, 9001} & set(found)) == 1
    assert len({4, 9002} & set(found)) == 1
    sentences = {number: card.why.sentence for number, card in zip(found, cards, strict=True) if card.why}
    (own,) = {9000, 9001} & set(found)
    assert sentences[own].startswith("another version")
    assert "1 more with nearly the same text" in sentences[own]


def test_a_shared_author_counts_a_tenth(forty: Hub) -> None:
    cards = service.similar(forty, "2608.10000", k=8)
    index, _ = vectors.open_index(forty.settings.vectors)
    assert index is not None
    own = index.vector_of(_id(forty, 0))
    assert own is not None
    for number, card in zip(numbers(cards), cards, strict=True):
        other = index.vector_of(card.id)
        assert other is not None
        shared = bool(set(made_up(0).authors) & set(made_up(number).authors))
        assert card.score == pytest.approx(float(own @ other) + 0.1 * shared, abs=1e-5)
        assert ("an author in common" in (card.why.sentence if card.why else "")) == shared


def _id(hub: Hub, n: int) -> int:
    with hub.db.read() as session:
        return int(
            session.scalar(sql("SELECT paper_id FROM identifier WHERE value = :v"), {"v": f"2608.1{n:04d}"}) or 0
        )


# -- reindex --------------------------------------------------------------------------------------------------------


def test_words_alone_answer_until_the_vectors_are_built(empty: Hub) -> None:
    bring(empty, *(made_up(n) for n in range(18)))
    page = service.search(empty, "pruning")
    assert any("words only" in note for note in page.notes)
    assert set(numbers(page)) == {n for n in plainly("pruning") if n < 18}
    done = service.reindex(empty)
    assert (done.vectors, done.papers) == ("refit", 18)
    assert not service.search(empty, "pruning").notes
    assert service.reindex(empty).vectors == "nothing"


def test_new_and_changed_papers_are_folded_in_and_a_grown_hub_is_learnt_anew(empty: Hub) -> None:
    bring(empty, *(made_up(n) for n in range(20)))
    service.reindex(empty)
    before = vectors.read_state(empty.settings.vectors)
    bring(empty, *(made_up(n) for n in range(20, 24)))
    assert (service.reindex(empty).sentence, service.reindex(empty).vectors) == ("4 papers folded in", "nothing")
    assert 23 in numbers(service.search(empty, "corrupted outliers subgradient", mode="meaning"))
    with empty.db.write() as session:  # a source corrects an abstract, as an intake would note
        session.execute(
            sql("UPDATE paper SET abstract = 'Images, noise and a sampler.', title = 'Denoising images' WHERE id = 1")
        )
        session.execute(sql("INSERT INTO source (kind, name, config, failures) VALUES ('file', 'f', '{}', 0)"))
        session.execute(
            sql(
                "INSERT INTO intake (source_id, started, state, requests, new, changed, same, refused, message) "
                "VALUES (2, '2026-08-21T00:00:00Z', 'done', 0, 0, 1, 0, 0, '')"
            )
        )
    assert service.reindex(empty).papers == 1
    assert _first_id(empty) in {
        card.id for card in service.search(empty, "images noise sampler", mode="meaning", size=6).cards
    }
    after = vectors.read_state(empty.settings.vectors)
    assert before is not None
    assert after is not None
    assert after.generation == before.generation
    assert len(after.segments) == 3
    bring(empty, *(made_up(n) for n in range(24, 36)))
    assert service.reindex(empty).vectors == "refit"
    assert service.reindex(empty, force=True).vectors == "refit"


def _first_id(hub: Hub) -> int:
    with hub.db.read() as session:
        return int(session.scalar(sql("SELECT min(id) FROM paper")) or 0)


def test_a_child_process_builds_the_same_vectors(empty: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(empty, *(made_up(n) for n in range(20)))
    service.reindex(empty)
    here = vectors.read_state(empty.settings.vectors)
    monkeypatch.setattr(building, "IN_PROCESS", 0)
    notes: list[str] = []
    service.reindex(empty, lambda done, total=None, note="": notes.append(note), force=True)
    there = vectors.read_state(empty.settings.vectors)
    assert here is not None
    assert there is not None
    assert there.generation != here.generation
    assert there.fingerprint == here.fingerprint
    assert "reading words" in notes


def test_a_child_that_fails_leaves_what_was_in_force(empty: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(empty, *(made_up(n) for n in range(20)))
    service.reindex(empty)
    before = vectors.read_state(empty.settings.vectors)
    monkeypatch.setattr(building, "IN_PROCESS", 0)
    (empty.settings.vectors / "x").mkdir()
    with pytest.raises(Exception, match="no embedder 'gone'"):
        building.build_apart(empty.db, empty.settings.vectors, "gone", NOW)
    assert vectors.read_state(empty.settings.vectors) == before
    assert service.search(empty, "pruning").notes == ()


def test_damaged_vectors_are_noticed_and_made_again(empty: Hub) -> None:
    bring(empty, *(made_up(n) for n in range(20)))
    service.reindex(empty)
    state = vectors.read_state(empty.settings.vectors)
    assert state is not None
    path: Path = empty.settings.vectors / state.generation / "0000.vectors.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    vectors.forget(empty.settings.vectors)
    page = service.search(empty, "pruning")
    assert any("damaged" in note for note in page.notes)
    assert page.cards
    assert service.reindex(empty).vectors == "refit"
    assert service.search(empty, "pruning").notes == ()


def test_two_builders_do_not_get_into_each_others_way(empty: Hub) -> None:
    from filelock import FileLock

    bring(empty, *(made_up(n) for n in range(20)))
    with FileLock(empty.settings.vectors / "building.lock"):
        assert service.reindex(empty).vectors == "busy"
    assert service.reindex(empty).vectors == "refit"


def test_an_embedder_that_is_set_and_not_installed_is_said(empty: Hub) -> None:
    bring(empty, *(made_up(n) for n in range(20)))
    service.reindex(empty)
    empty.settings = empty.settings.model_copy(update={"embedder": "gone"})
    page = service.search(empty, "pruning")
    assert any("'gone' is set" in note for note in page.notes)
    assert page.cards
    with pytest.raises(InputError, match="no embedder 'gone'"):
        service.reindex(empty)


def test_searching_loads_neither_torch_nor_scikit_learn_nor_scipy(forty: Hub) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from paperworks.config import Settings; from paperworks.hub.hub import open_hub\n"
        "from paperworks.hub.service import search\n"
        f"with open_hub(Settings(home=Path({str(forty.home)!r}))) as hub: page = search.search(hub, 'sparse weights')\n"
        "assert page.cards and not page.notes, page.notes\n"
        "print([name for name in ('torch', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_subjects_are_as_the_tests_say() -> None:
    """Guards the world the tests stand on: each subject's words are its own."""
    words = [set(own.split()) for _, own, _ in SUBJECTS]
    assert len(set.union(*words)) == sum(map(len, words))

"""Votes in, order out: the arithmetic against its definition, then the rows."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sqlalchemy import select

from paperworks.catalogue import Catalogue
from paperworks.config import Settings, TrendingSettings
from paperworks.errors import NotFound
from paperworks.hub import trending
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.records import Batch, CounterRecord, ListingRecord, PaperRecord
from paperworks.hub.service import votes as service
from paperworks.hub.store import votes as store
from paperworks.hub.store.load import store_batch
from paperworks.hub.store.models import Audit, Hot, Reader, Source, Vote
from paperworks.hub.times import utc_text
from paperworks.hub.trending import DAY, EPOCH, HOUR, NOTHING, Cast, Seen

NOW = datetime(2026, 8, 21, 9, 30, tzinfo=UTC)
START = NOW.timestamp()

moments = st.floats(EPOCH, EPOCH + 20 * 365 * DAY)
ballots = st.builds(Cast, moments, st.floats(0.001, 500))
half_lives = st.sampled_from([24.0, 84.0, 360.0])


def plain_heat(votes: list[Cast], now: float, half_life: float) -> float:
    """The definition, term by term."""
    return math.fsum(vote.weight * 2.0 ** (-(now - vote.at) / (half_life * HOUR)) for vote in votes)


# -- keys -----------------------------------------------------------------------------------------------------------


@given(st.lists(ballots, min_size=1, max_size=30), half_lives, st.floats(0, 60 * DAY))
def test_heat_from_the_key_is_the_sum_over_the_votes(votes: list[Cast], half_life: float, later: float) -> None:
    now = max(vote.at for vote in votes) + later
    key = trending.key_of(votes, half_life)
    # A key near 7,300 (twenty years of days) carries 1e-12 of itself, and 2 to its power that much times the logarithm of 2.
    assert trending.heat(key, now, half_life) == pytest.approx(plain_heat(votes, now, half_life), rel=1e-8)


@given(st.lists(ballots, max_size=30), half_lives, st.randoms())
def test_votes_added_one_by_one_in_any_order_give_the_same_key(
    votes: list[Cast], half_life: float, chance: random.Random
) -> None:
    whole = trending.key_of(votes, half_life)
    chance.shuffle(votes)
    key = NOTHING
    for vote in votes:
        key = trending.add(key, vote, half_life)
    assert key == pytest.approx(whole, abs=1e-8) if votes else key == whole == NOTHING


def test_a_thousand_pairs_keep_their_order_at_three_later_times() -> None:
    chance = random.Random(7)

    def paper() -> list[Cast]:
        return [
            Cast(START - chance.random() * 10 * DAY, chance.choice([0.1, 0.25, 1.0]))
            for _ in range(chance.randint(1, 40))
        ]

    for _ in range(1000):
        one, other = paper(), paper()
        for half_life in (24.0, 84.0, 360.0):
            by_key = trending.key_of(one, half_life) > trending.key_of(other, half_life)
            for days in (0, 3, 40):
                at = START + days * DAY
                assert by_key == (plain_heat(one, at, half_life) > plain_heat(other, at, half_life))


def test_the_formula_of_hacker_news_does_change_its_order() -> None:
    """What forward decay saves: with (votes - 1)^0.8 / (hours + 2)^1.8 a pair swaps places without a vote being cast."""

    def score(n: int, hours: float) -> float:
        return (n - 1) ** 0.8 / (hours + 2) ** 1.8

    young, old = (5, 1.0), (60, 10.0)
    assert score(*young) > score(*old)
    assert score(young[0], young[1] + 24) < score(old[0], old[1] + 24)


def test_a_vote_of_no_weight_changes_nothing() -> None:
    assert trending.add(3.0, Cast(START, 0.0), 24.0) == 3.0
    assert trending.key_of([Cast(START, 0.0)], 24.0) == NOTHING
    assert trending.heat(NOTHING, START, 24.0) == 0.0


# -- counters elsewhere ---------------------------------------------------------------------------------------------

looks = st.lists(
    st.builds(Seen, st.integers(0, 500).map(lambda h: START + h * HOUR), st.integers(0, 300)),
    min_size=1,
    max_size=12,
    unique_by=lambda look: look.at,
)


@given(looks, st.one_of(st.none(), st.floats(START - 10 * DAY, START + 30 * DAY)))
def test_a_counter_weighs_what_it_last_said_and_never_less_than_nothing(seen: list[Seen], listed: float | None) -> None:
    votes = trending.outside_votes(seen, 0.1, listed)
    assert all(vote.weight > 0 for vote in votes)
    assert math.fsum(vote.weight for vote in votes) == pytest.approx(0.1 * max(seen).value)
    assert all(vote.at <= max(seen).at for vote in votes)


@given(looks, st.randoms())
def test_the_order_in_which_observations_arrive_does_not_matter(seen: list[Seen], chance: random.Random) -> None:
    shuffled = list(seen)
    chance.shuffle(shuffled)
    assert trending.outside_votes(shuffled, 1.0) == trending.outside_votes(seen, 1.0)


def test_a_rise_counts_in_the_middle_and_the_first_sight_from_the_listing_day_on() -> None:
    seen = [Seen(START + 10 * HOUR, 20), Seen(START + 30 * HOUR, 26)]
    assert trending.outside_votes(seen, 0.5, listed=START) == [Cast(START + 5 * HOUR, 10), Cast(START + 20 * HOUR, 3)]
    assert trending.outside_votes(seen[:1], 1.0) == [Cast(START + 10 * HOUR, 20)]


def test_a_fall_takes_back_the_newest_votes() -> None:
    seen = [Seen(START, 10), Seen(START + 2 * HOUR, 14), Seen(START + 4 * HOUR, 9)]
    assert trending.outside_votes(seen, 1.0) == [Cast(START, 9)]
    assert trending.outside_votes([*seen, Seen(START + 6 * HOUR, 0)], 1.0) == []


# -- weights --------------------------------------------------------------------------------------------------------


def puppets(n: int) -> float:
    """What n fresh accounts of one network count together."""
    return math.fsum(
        trending.vote_weight(trust=trending.FRESH_TRUST, nth_of_day=1, kth_of_cluster=k) for k in range(1, n + 1)
    )


@pytest.mark.parametrize(("n", "count"), [(50, 3.2), (200, 6.7), (1000, 15.5)])
def test_sock_puppets_of_one_network_count_little(n: int, count: float) -> None:
    assert puppets(n) == pytest.approx(count, abs=0.05)
    assert puppets(n) < 2 * trending.FRESH_TRUST * math.sqrt(n)


def test_fifty_sock_puppets_count_less_than_four_honest_votes() -> None:
    honest = 4 * trending.vote_weight(trust=1.0, nth_of_day=1, kth_of_cluster=1)
    assert puppets(50) < honest < puppets(200)


def test_trust_grows_with_time_and_reading() -> None:
    def trust(days: float | None, reading_days: int) -> float:
        confirmed = None if days is None else START - days * DAY
        return trending.trust(confirmed=confirmed, reading_days=reading_days, now=START)

    assert [trust(None, 9), trust(-1, 9)] == [0.0, 0.0]
    assert [trust(0, 0), trust(6.9, 9), trust(30, 2)] == [0.25] * 3
    assert trust(7, 3) == 1.0


def test_the_votes_of_one_day_share_a_budget() -> None:
    weights = [trending.budget(n) for n in range(1, 101)]
    assert weights[:10] == [1.0] * 10
    assert all(later < earlier for earlier, later in pairwise(weights[9:]))
    # Ten in full and the rest like a harmonic series: a hundred votes count as about 33.
    assert math.fsum(weights) == pytest.approx(10 + 10 * math.log(100 / 10), abs=0.5)


@given(st.integers(0, 200), st.floats(0.01, 150))
def test_the_tail_is_that_of_a_poisson_distribution(n: int, expected: float) -> None:
    assert trending.poisson_tail(n, expected) == pytest.approx(
        float(stats.poisson.sf(n - 1, expected)), rel=1e-6, abs=1e-12
    )


@given(st.integers(0, 300), st.floats(0, 50))
def test_only_the_votes_that_are_too_many_are_held(n: int, expected: float) -> None:
    held = trending.votes_on_hold(n, expected)
    rate = max(expected, trending.LEAST_RATE)
    assert 0 <= held <= n
    assert trending.poisson_tail(n - held, rate) >= trending.BURST_TAIL
    if held:
        assert trending.poisson_tail(n - held + 1, rate) < trending.BURST_TAIL


# -- rows -----------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(home: Settings, clock: Clock) -> Iterator[Hub]:
    """Six papers a to f, listed on six days up to yesterday; f the newest. No votes."""
    with open_hub(home, catalogue=Catalogue(), clock=clock) as opened:
        bring(opened, *(paper(name, date(2026, 8, 15) + timedelta(days=n)) for n, name in enumerate("abcdef")))
        yield opened


def paper(name: str, day: date | None = None, *counters: tuple[datetime, int]) -> PaperRecord:
    return PaperRecord(
        title=f"Paper {name}",
        arxiv=f"2608.0000{'abcdef'.index(name)}",
        authors=("Ada Example",),
        announced=day,
        counters=tuple(CounterRecord(metric="upvotes", seen=at, value=value) for at, value in counters),
        listings=(ListingRecord(day=day),) if day else (),
    )


def bring(hub: Hub, *records: PaperRecord, kind: str = "hf-daily") -> None:
    with hub.db.write() as session:
        source = session.scalar(select(Source).where(Source.name == kind))
        if source is None:
            source = Source(kind=kind, name=kind, config={})
            session.add(source)
            session.flush()
        store_batch(session, source.id, None, Batch(records=records), hub.now(), settings=hub.settings)


def ref(name: str) -> str:
    return f"2608.0000{'abcdef'.index(name)}"


def order(hub: Hub, window: str = "week", limit: int = 20, offset: int = 0) -> str:
    return "".join(card.title[-1] for card in service.trending(hub, window, limit, offset))  # type: ignore[arg-type]


def test_without_votes_the_newest_stand_first(hub: Hub) -> None:
    assert order(hub) == "fedcba"


def test_a_vote_moves_a_paper_up_and_taking_it_back_moves_it_down(hub: Hub) -> None:
    assert service.vote(hub, ref("a")) is True
    assert service.vote(hub, ref("a")) is False
    assert order(hub) == "afedcb"
    (card, *_) = service.trending(hub)
    assert card.heat is not None
    assert card.heat.heat == pytest.approx(1.0)
    assert card.heat.sentence == "heat 1.0: 1 reader here, 6 days old"
    assert service.unvote(hub, ref("a")) is True
    assert service.unvote(hub, ref("a")) is False
    assert order(hub) == "fedcba"


def test_pages_of_the_list_join_without_gap_or_repeat(hub: Hub) -> None:
    for name in "bd":
        service.vote(hub, ref(name))
    whole = order(hub)
    assert sorted(whole) == list("abcdef")
    for size in (1, 2, 4):
        assert "".join(order(hub, limit=size, offset=at) for at in range(0, 8, size)) == whole


def test_a_vote_taken_back_and_cast_again_is_not_a_new_vote(hub: Hub, clock: Clock) -> None:
    service.vote(hub, ref("a"))
    clock.now = NOW + timedelta(days=7)
    service.unvote(hub, ref("a"))
    service.vote(hub, ref("a"))
    (card, *_) = service.trending(hub)
    assert card.heat is not None
    assert card.heat.heat == pytest.approx(2.0 ** (-7 * 24 / 84))


def test_voting_for_a_paper_that_is_not_here_says_so(hub: Hub) -> None:
    with pytest.raises(NotFound, match=r"2401\.00001"):
        service.vote(hub, "2401.00001")


def test_upvotes_elsewhere_weigh_a_tenth_and_the_windows_differ(hub: Hub) -> None:
    """b had many votes a week ago, f has some from last night: the day is f's, the month is b's."""
    bring(
        hub,
        paper("b", date(2026, 8, 16), (datetime(2026, 8, 16, 12, tzinfo=UTC), 40)),
        paper("f", date(2026, 8, 20), (datetime(2026, 8, 21, 2, tzinfo=UTC), 12)),
    )
    assert (order(hub, "day")[:2], order(hub, "month")[:2]) == ("fb", "bf")
    (card, *_) = service.trending(hub, "day")
    assert card.heat is not None
    assert (card.heat.outside, card.heat.readers) == (12, 0)
    assert card.heat.heat == pytest.approx(1.2 * 2.0 ** (-20.5 / 24))  # at 13:00 of the 20th, in the middle
    assert card.heat.sentence == "heat 0.7: 12 on Hugging Face, 34 h old"


def test_a_counter_that_falls_takes_heat_away(hub: Hub) -> None:
    first, second = NOW - timedelta(hours=8), NOW - timedelta(hours=2)
    bring(hub, paper("c", None, (first, 30)))
    with hub.db.read() as session:
        before = session.scalars(select(Hot.key_week)).one()
    bring(hub, paper("c", None, (second, 12)))
    with hub.db.read() as session:
        assert session.scalars(select(Hot.key_week)).one() < before
    bring(hub, paper("c", None, (NOW, 0)))
    with hub.db.read() as session:
        assert session.scalars(select(Hot)).all() == []


def test_one_counter_told_by_two_sources_counts_once(hub: Hub) -> None:
    """The service's own answer, and a file of old observations of the same counter."""
    seen = NOW - timedelta(hours=5)
    bring(hub, paper("c", None, (seen, 30)))
    heat = service.trending(hub)[0].heat
    bring(hub, paper("c", None, (seen, 30)), kind="file")
    assert service.trending(hub)[0].heat == heat


def test_counts_are_hidden_for_the_first_hours_when_set(home: Settings, clock: Clock, hub: Hub) -> None:
    clock.now = datetime(2026, 8, 20, 3, tzinfo=UTC)
    service.vote(hub, ref("f"))
    hub.settings = hub.settings.model_copy(update={"trending": TrendingSettings(hide_hours=6)})
    card = service.trending(hub)[0]
    assert card.heat is not None
    assert (card.title, card.heat.heat, card.heat.readers) == ("Paper f", 0.0, 0)
    assert "6 h" in card.heat.sentence
    clock.now += timedelta(hours=3)
    card = service.trending(hub)[0]
    assert card.heat is not None
    assert card.heat.readers == 1


def test_other_half_lives_in_the_settings_make_the_keys_anew(hub: Hub) -> None:
    service.vote(hub, ref("a"))
    with hub.db.write() as session:
        assert store.refresh_if_set_anew(session, hub.settings, hub.now()) is True
        assert store.refresh_if_set_anew(session, hub.settings, hub.now()) is False
        before = session.scalars(select(Hot.key_week)).one()
        changed = hub.settings.model_copy(update={"trending": TrendingSettings(week_hours=42)})
        assert store.settings_differ(session, changed)
        assert store.refresh_if_set_anew(session, changed, hub.now()) is True
        session.expire_all()
        assert session.scalars(select(Hot.key_week)).one() == pytest.approx(2 * before)


# -- a hub with accounts, as the store sees it ------------------------------------------------------------------------


def cast(hub: Hub, name: str, n: int, *, trust: float = 1.0, cluster: str = "", at: datetime = NOW) -> None:
    """n new readers vote for a paper."""
    with hub.db.write() as session:
        (paper_id,) = [number for number, letter in enumerate("abcdef", start=1) if letter == name]
        for _ in range(n):
            reader = Reader(created=utc_text(at))
            session.add(reader)
            session.flush()
            store.cast_vote(session, paper_id, reader.id, hub.settings, at, trust=trust, cluster=cluster)


def heat_of(hub: Hub, name: str) -> float:
    (card,) = [card for card in service.trending(hub) if card.title[-1] == name]
    return card.heat.heat if card.heat else 0.0


def test_fifty_accounts_of_one_network_move_a_paper_by_less_than_four_readers(hub: Hub) -> None:
    for minute in range(0, 500, 10):  # slowly enough to be no burst
        cast(hub, "a", 1, trust=trending.FRESH_TRUST, cluster="net:7", at=NOW - timedelta(minutes=minute))
    cast(hub, "b", 4)
    assert heat_of(hub, "a") < heat_of(hub, "b")
    assert order(hub)[:2] == "ba"


def test_the_budget_of_a_day_is_counted_over_all_papers(hub: Hub) -> None:
    with hub.db.write() as session:
        for n in range(12):
            record = PaperRecord(title=f"More {n}", arxiv=f"2608.1{n:04d}")
            store_batch(session, 1, None, Batch(records=(record,)), NOW)
        for paper_id in range(7, 19):
            store.cast_vote(session, paper_id, hub.reader_id, hub.settings, NOW, trust=1.0)
        weights = session.scalars(select(Vote.weight).order_by(Vote.paper_id)).all()
    assert weights[:10] == [1.0] * 10
    assert weights[10:] == pytest.approx([10 / 11, 10 / 12])


def test_a_burst_is_held_with_a_note_and_can_be_released_or_dropped(hub: Hub) -> None:
    cast(hub, "a", 40)
    usual = 40 - trending.votes_on_hold(40, 0.0)
    assert 0 < usual < 15
    assert heat_of(hub, "a") == pytest.approx(usual)
    with hub.db.write() as session:
        held = session.scalars(select(Audit).where(Audit.action == store.HELD)).all()
        assert len(held) == 40 - usual
        assert all(json.loads(row.detail)["weight"] == 1.0 for row in held)
        assert store.settle_held(session, 1, hub.settings, NOW, release=True) == 40 - usual
        assert store.settle_held(session, 1, hub.settings, NOW, release=True) == 0
    assert heat_of(hub, "a") == pytest.approx(40)
    cast(hub, "b", 40)
    with hub.db.write() as session:
        assert store.settle_held(session, 2, hub.settings, NOW, release=False) == 40 - usual
    assert heat_of(hub, "b") == pytest.approx(usual)

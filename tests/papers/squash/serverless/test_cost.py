"""Prices and the model of time and money, by hand and beside the paper's figures."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.cost import Fleet, Workload, estimate, processor_calls
from paperworks.papers.squash.serverless.prices import Prices
from paperworks.papers.squash.serverless.tree import Tree

SIFT1M = Workload(n_queries=1000, n_partitions=10, visited=10, dimension=128, k=10, refine=2)
# tree (F, l) -> milliseconds and dollars a query, read by eye from the paper's figures (+-5 %)
FIGURE = {
    (10, 1): (7.9, 0.95e-5),
    (4, 2): (5.0, None),
    (4, 3): (1.95, None),
    (5, 3): (1.45, None),
    (6, 3): (1.43, 4.3e-5),
}


@pytest.mark.parametrize("shape", FIGURE)
def test_the_model_meets_the_papers_figures_within_20_percent(shape):
    result = estimate(SIFT1M, Tree(*shape), Fleet.of_the_paper())
    milliseconds, dollars = FIGURE[shape]
    assert result.ms_per_query == pytest.approx(milliseconds, rel=0.2)
    if dollars is not None:
        assert result.cost_per_query == pytest.approx(dollars, rel=0.2)


def test_more_allocators_are_faster_with_falling_gain_and_dearer():
    results = [estimate(SIFT1M, Tree(*shape), Fleet.of_the_paper()) for shape in FIGURE]
    times = [result.seconds for result in results]
    costs = [result.cost for result in results]
    assert times == sorted(times, reverse=True)
    assert costs == sorted(costs)
    # the paper's claim `scaling`: 10 -> 155 allocators speeds up at least threefold, 155 -> 258 hardly
    assert times[0] / times[3] >= 3
    assert times[3] / times[4] < 1.2


UNIT = Prices(date(2026, 1, 1), "USD", per_call=1, per_gb_second=100, per_get=1e4, per_put=1e6, per_gb_read=1e9)
PLAIN = Fleet(
    coordinator_gb=1, allocator_gb=2, processor_gb=4, launch_s=1, start_s=0.5, allocator_fixed_s=3, allocator_query_s=0.25,
    processor_fixed_s=2, processor_query_s=0.125, coordinator_s=0.25, gets_per_call=2, puts_per_call=3,
)  # fmt: skip


def test_a_tree_of_two_by_hand():
    # 8 queries, 2 allocators of 4 each, batches of 4; every query goes to both of 2 partitions
    workload = Workload(n_queries=8, n_partitions=2, visited=2, dimension=25, k=5, refine=2, batch=4)
    result = estimate(workload, Tree(2, 1), PLAIN, UNIT)
    # an allocator: 3 + 4 x 0.25 to prepare, then processors 2 + 4 x 0.125 = 2.5 and 0.5 to start them: 7.0
    # the second one begins after 2 launches of 1 and its start of 0.5: done at 9.5, merged at 9.75
    assert result.seconds == pytest.approx(9.75)
    assert result.ms_per_query == pytest.approx(9750 / 8)
    assert result.n_calls == 1 + 2 + 4
    # GB-seconds: coordinator 9.75 x 1, allocators 2 x 7 x 2, processors 4 x 2.5 x 4
    assert result.gb_seconds == pytest.approx(9.75 + 28 + 40)
    # bytes: 8 queries x 2 partitions x 10 rows x 100 bytes
    assert result.bytes_read == 16_000
    assert result.bill == pytest.approx({"calls": 7.0, "memory": 7775.0, "gets": 14e4, "puts": 21e6, "reads": 16_000.0})
    assert result.cost == pytest.approx(sum(result.bill.values()))


def test_a_parent_waits_for_its_children_and_is_paid_for_it():
    workload = Workload(n_queries=2, n_partitions=1, visited=0, dimension=4)
    chain = Fleet(allocator_gb=1, coordinator_gb=0, processor_gb=0, launch_s=1, start_s=0, allocator_fixed_s=5,
                  allocator_query_s=0, coordinator_s=0)  # fmt: skip
    result = estimate(workload, Tree(1, 2), chain, UNIT)
    # launched at 1 and 2; the leaf ends at 7, its parent's own work at 7 as well (1 + 1 launch + 5)
    assert result.seconds == 7
    assert result.gb_seconds == (7 - 1) + (7 - 2)


def test_preparing_hides_behind_the_processors():
    workload = Workload(n_queries=4, n_partitions=1, visited=1, dimension=4, batch=1)
    fleet = replace(PLAIN, allocator_query_s=2, processor_fixed_s=1, processor_query_s=0, start_s=0, coordinator_s=0)
    # 3 + 2 + (2, 2, 2) + 1: the processors' 1 is hidden behind the 2 of the next batch, apart from the last one
    assert estimate(workload, Tree(4, 0), fleet).seconds == pytest.approx(12)


def test_cold_functions_take_longer_and_read_more():
    warm = estimate(SIFT1M, Tree(4, 2))
    cold = estimate(SIFT1M, Tree(4, 2), Fleet(cold_share=1.0))
    assert cold.seconds > warm.seconds
    assert warm.n_gets == 0 < cold.n_gets


@given(st.integers(1, 40), st.data())
def test_a_batch_reaches_between_visited_and_all_partitions(n_partitions, data):
    visited = data.draw(st.integers(1, n_partitions))
    n_queries = data.draw(st.integers(1, 200))
    calls = processor_calls(Workload(1, n_partitions, visited, 8), n_queries)
    assert visited * (1 - 1e-9) <= calls <= n_partitions * (1 + 1e-9)


def test_unusable_workloads_are_refused():
    with pytest.raises(InputError, match="n_queries"):
        Workload(0, 1, 1, 8)
    with pytest.raises(InputError, match="visited"):
        Workload(1, 2, 3, 8)
    with pytest.raises(InputError, match="launch_s"):
        Fleet(launch_s=-1)
    with pytest.raises(InputError, match="cold_share"):
        Fleet(cold_share=1.5)
    with pytest.raises(InputError, match="poll_s"):
        Fleet(poll_s=float("nan"))


GOOD = (
    "dated = 2026-01-01\ncurrency = 'EUR'\nper_call = 0\nper_gb_second = 1\nper_get = 2\nper_put = 3\nper_gb_read = 4\n"
)


def test_prices_come_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert Prices.from_toml(path) == Prices(date(2026, 1, 1), "EUR", 0, 1, 2, 3, 4)
    path.write_text(f"[mine]\n{GOOD}")
    assert Prices.from_toml(path).currency == "EUR"
    path.write_text(f"[mine]\n{GOOD}[other]\n{GOOD}")
    assert Prices.from_toml(path, "other").per_put == 3
    with pytest.raises(InputError, match="mine, other"):
        Prices.from_toml(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (GOOD.replace("per_put = 3", "per_put = -3"), "per_put"),
        (GOOD.replace("per_put = 3", "per_put = nan"), "per_put"),
        (GOOD.replace("per_put = 3", "per_put = 'three'"), "per_put"),
        (GOOD.replace("per_put", "per_putt"), "per_put, per_putt"),
        (GOOD.replace("2026-01-01", "'today'"), "dated"),
        ("not toml", "cannot be read"),
    ],
)
def test_wrong_prices_are_refused(tmp_path, change, complaint):
    path = tmp_path / "mine.toml"
    path.write_text(change)
    with pytest.raises(InputError, match=complaint):
        Prices.from_toml(path)


def test_a_missing_price_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Prices.from_toml(tmp_path / "none.toml")


def test_arm_is_cheaper_than_x86_for_the_same_work():
    x86, arm = (estimate(SIFT1M, Tree(4, 3), prices=Prices.bundled(f"aws_lambda_{kind}")) for kind in ("x86", "arm"))
    assert arm.cost < x86.cost
    assert arm.seconds == x86.seconds

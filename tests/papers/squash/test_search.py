"""Stages of the search, partitions alone, plans, explanations and tuning."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.squash import planner
from paperworks.papers.squash import search_kernel as kernel
from paperworks.papers.squash.filters import Attr
from paperworks.papers.squash.index import SquashIndex
from paperworks.papers.squash.reader import open_partition, search_partition
from paperworks.papers.squash.saving import cut_partition, save_partition

N, D = 6000, 32


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, D)) * 1.5
    everything = (centres[rng.integers(0, 30, N + 60)] + rng.normal(size=(N + 60, D))).astype(np.float32)
    return everything[:N], {"u": rng.random(N), "v": rng.random(N)}, everything[N:]


@pytest.fixture(scope="module")
def index(world):
    return SquashIndex(n_partitions=3).build(world[0], world[1])


def box(share, seed):
    side = share**0.5
    low = np.random.default_rng(seed).uniform(0, 1 - side, 2)
    return Attr("u").between(low[0], low[0] + side) & Attr("v").between(low[1], low[1] + side), low, side


def passing(columns, low, side):
    return (
        (columns["u"] >= low[0])
        & (columns["u"] <= low[0] + side)
        & (columns["v"] >= low[1])
        & (columns["v"] <= low[1] + side)
    )


@pytest.mark.parametrize("share", [0.5, 0.08, 0.01, 0.001])
@pytest.mark.parametrize("way", ["sweep", "lists", "candidates"])
def test_every_way_of_filtering_gives_rows_that_pass_and_all_that_exist(world, index, monkeypatch, share, way):
    _, columns, queries = world
    if way != "sweep":
        monkeypatch.setattr(planner, "ALL_AT_ONCE_ROWS", 0)
        monkeypatch.setattr(planner, "FEW", 10**9)
        monkeypatch.setattr(planner, "RARE", 1 if way == "candidates" else 10**9)
    for seed in range(5):
        what, low, side = box(share, seed)
        mask = passing(columns, low, side)
        _, exact = index.search(queries[seed], 10, what, exact=True)
        _, found, stats = index.search(queries[seed], 10, what, n_probe=1, return_stats=True)
        _, wide, _ = index.search(queries[seed], 10, what, n_probe=10**6, keep=N, return_stats=True)
        assert stats[0]["plan"] in (way, "nothing")
        assert mask[found[found >= 0]].all()
        assert (found >= 0).sum() == min(10, mask.sum())
        assert set(wide[0]) == set(exact[0])


def test_one_pass_finds_k_rows_even_from_one_list(world, index):
    _, columns, queries = world
    for seed in range(30):
        what, low, side = box(0.003, seed)
        n_matches = int(passing(columns, low, side).sum())
        found = index.search(queries[seed], 10, what, T=1.0)[1]
        assert (found >= 0).sum() == min(10, n_matches)


def test_stage_counts_shrink_and_the_share_kept_is_what_was_asked(world, index):
    _, _, queries = world
    what, _, _ = box(0.5, 1)
    stats = index.search(queries, 10, what, H=10, R=2, n_probe=10**6, return_stats=True)[2]
    for one in stats:
        assert one["rows"] >= one["candidates"] >= one["after_hamming"] >= one["refined"]
        assert one["after_hamming"] == max(200, int(np.ceil(one["candidates"] * 0.1)))
        assert one["refined"] <= 20
        assert one["bytes_read"] == one["refined"] * 4 * D


def test_lower_bounds_let_refinement_stop_early_without_changing_results(world, index):
    _, _, queries = world
    found = index.search(queries, 10, H=100, R=50, n_probe=10**6, return_stats=True)
    exact = index.search(queries, 10, exact=True)
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-5)
    assert np.mean([one["refined"] for one in found[2]]) < 400


def test_more_reach_finds_more(world, index):
    _, _, queries = world
    exact = index.search(queries, 10, exact=True)[1]
    recalls = []
    for reach in (0.5, 2, 4, 8):
        found, stats = index.search(queries, 10, reach=reach, keep=200, return_stats=True)[1:]
        hits = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)])
        recalls.append((hits, np.mean([one["lists"] for one in stats])))
    assert recalls == sorted(recalls)
    assert recalls[-1][0] > 0.95


def test_partitions_alone_merge_to_the_answer_of_the_whole(tmp_path, world, index):
    _, columns, queries = world
    state = index.state
    what, low, side = box(0.08, 3)
    mask = passing(columns, low, side)
    params = index.params(10, exact=True)
    prepared = state.metric.queries(queries)
    parts = []
    for part in range(3):
        cut = cut_partition(state.reader, part)
        reader = open_partition(save_partition(cut, state.metric, tmp_path / f"p{part}"))
        bitmap = mask[reader.ids]
        answer = search_partition(reader, prepared, [bitmap] * len(queries), params)
        ids = np.where(answer.positions >= 0, reader.ids[np.maximum(answer.positions, 0)], -1)
        parts.append((answer.distances, ids))
    distances, ids = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    order = np.argsort(distances, axis=1)[:, :10]
    wanted_d, wanted = index.search(queries, 10, what, exact=True)
    np.testing.assert_allclose(np.sqrt(np.take_along_axis(distances, order, 1)), wanted_d, rtol=1e-5)
    assert (np.take_along_axis(ids, order, 1) == wanted).all()


def test_a_partition_takes_one_bitmap_a_query_and_none(world, index):
    state = index.state
    reader = cut_partition(state.reader, 0)
    queries = state.metric.queries(world[2][:3])
    half = np.arange(reader.n) % 2 == 0
    answer = search_partition(reader, queries, [half, None, np.zeros(reader.n, bool)], index.params(5))
    assert (answer.positions[0] % 2 == 0).all()
    alone = search_partition(reader, queries[1:2], None, index.params(5))
    assert (answer.positions[1] == alone.positions[0]).all()
    assert (answer.positions[2] == -1).all()
    assert answer.counts.shape == (3, kernel.STAGES)
    with pytest.raises(InputError, match="entries"):
        search_partition(reader, queries[:1], [half[:-1]], index.params(5))
    with pytest.raises(InputError, match="shape"):
        search_partition(reader, queries[:, :-1], None, index.params(5))


def test_plans_follow_what_is_known_of_a_filter(world, index):
    program = index.state.program
    assert planner.plan_filter(None, N, 1).kind == "none"
    assert planner.plan_filter(program(Attr("u") > 5), N, 1).kind == "nothing"
    assert planner.plan_filter(program(Attr("u") > -5), N, 1).kind in ("everything", "sweep")
    assert planner.plan_filter(program(Attr("u") > 0.5), N, 1).kind == "sweep"
    assert planner.plan_filter(program(Attr("u") > 0.1), 300_000, 1).kind == "lists"
    assert planner.plan_filter(program(Attr("u") > 0.1), 300_000, 100).kind == "sweep"
    assert planner.plan_filter(program(Attr("u") > 0.99), 300_000, 1).kind in ("sweep", "candidates")
    assert all(planner.Plan(kind).reason for kind in ("none", "everything", "nothing", "lists", "sweep", "candidates"))


def test_an_explanation_names_every_stage_and_its_bytes(world, index):
    what, _, _ = box(0.3, 0)
    explained = index.explain(world[2][0], 10, what, H=10, R=2, n_probe=20)
    assert [stage.name for stage in explained.stages] == ["lists", "filter", "sign bits", "bounds", "refine"]
    assert explained.matches == index.count(what)
    assert 0 <= explained.proved <= explained.found <= 10
    text = str(explained)
    assert "20 of" in text
    assert "of the 10 nearest found" in text
    exact = index.explain(world[2][0], 10, what, keep=N, n_probe=10**6)
    assert exact.found == exact.proved == 10
    with pytest.raises(InputError, match="one query"):
        index.explain(world[2][:2], 10)


def test_statistics_add_up(index):
    facts = index.statistics()
    assert facts["rows"] == N
    assert facts["partitions"] == 3
    assert facts["resident_bytes"] == sum(facts["bytes"].values())
    assert facts["bits_per_dimension"] == pytest.approx(4, abs=0.05)
    assert facts["bytes"]["codes"] >= N * D * 4 / 8
    assert [one["name"] for one in facts["attributes"]] == ["u", "v"]
    assert not facts["compact_advised"]


def test_tuning_reaches_the_recall_and_becomes_the_default(world):
    vectors, columns, queries = world
    index = SquashIndex().build(vectors, columns)
    exact = index.search(queries, 10, exact=True)[1]
    costs = []
    for recall in (0.8, 0.99):
        tuned = index.tune(queries, 10, recall=recall)
        assert tuned.chosen.recall >= recall
        found = index.search(queries, 10)[1]
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]) >= recall - 1e-9
        assert f"wanted {recall:g}" in str(tuned)
        costs.append(tuned.chosen.cost)
    assert costs[0] <= costs[1]
    before = dict(index.defaults)
    index.tune(queries, 10, filters=box(0.1, 0)[0], recall=0.9)
    assert {name: index.defaults[name] for name in ("reach", "keep", "R")} == {
        name: before[name] for name in ("reach", "keep", "R")
    }
    for bad in ({"recall": 0}, {"recall": 1.2}):
        with pytest.raises(InputError, match="recall"):
            index.tune(queries, 10, **bad)
    with pytest.raises(InputError, match="at least one query"):
        index.tune(queries[:0], 10)

"""What the claims are measured with: filters with their true rows, truth, recall; and that the claims would see a wrong index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paperworks.claims import Run
from paperworks.claims.data import Data
from paperworks.errors import DataMissing, InputError
from paperworks.papers.squash import cloud_trials, reproduce, trials
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.filters import Attr
from paperworks.papers.squash.index import SquashIndex


class NoCheckpoint:
    folder = Path()

    def get(self, key: str) -> object | None:
        return None

    def put(self, key: str, value: object) -> None:
        raise NotImplementedError


def run_of(scale: Any = "smoke", folder: Path | None = None, seed: int = 0) -> Run:
    return Run(scale, seed, Data(folder, beside=False), NoCheckpoint())


@pytest.fixture(scope="module")
def world() -> trials.World:
    return trials.world(run_of())


def test_queries_are_not_rows(world: trials.World) -> None:
    rows = {row.tobytes() for row in world.vectors}
    assert not rows & {query.tobytes() for query in world.queries}


def test_a_drawn_filter_is_true_and_false_where_the_index_says(world: trials.World) -> None:
    table, rng = AttributeTable.from_data(world.attributes), np.random.default_rng(3)
    kinds = set()
    for _ in range(150):
        drawn = trials.random_filter(world, rng)
        assert not (drawn.true & drawn.false).any()
        assert np.array_equal(table.compile(drawn.filter).mask(), drawn.true), drawn.filter
        assert np.array_equal(table.compile(~drawn.filter).mask(), drawn.false), drawn.filter
        kinds.add(type(drawn.filter).__name__)
    assert {"And", "Or", "Not"} <= kinds


@pytest.mark.parametrize("share", [0.5, 0.08, 0.01])
def test_a_filter_lets_the_wanted_share_pass(world: trials.World, share: float) -> None:
    rng = np.random.default_rng(4)
    shares = [trials.filter_of_share(world, share, rng).true.mean() for _ in range(20)]
    assert np.mean(shares) == pytest.approx(share, rel=0.34)
    assert len(set(shares)) > 1


def test_truth_and_recall_by_hand() -> None:
    vectors = np.array([[0, 0], [1, 0], [2, 0], [0, 1]], dtype=np.float32)
    small = trials.World(vectors, vectors[:1], {})
    rows, distances = trials.nearest(small, np.zeros(2), np.array([False, True, True, True]), 2)
    assert (set(rows.tolist()), distances.tolist()) == ({1, 3}, [1.0, 1.0])
    assert trials.recall(small, np.zeros(2), np.array([3, 2, -1]), distances) == 0.5
    assert trials.recall(small, np.zeros(2), np.array([-1]), distances[:0]) == 1.0


def test_missing_papers_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="minilm"):
        trials.world(run_of("cpu", tmp_path))


# -- a wrong index is found out -------------------------------------------------------------------------------------


def test_a_row_that_breaks_the_filter_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that fills up with the nearest rows whatever the filter says, as the released code does."""
    honest = SquashIndex.search

    def careless(self: SquashIndex, queries: Any, k: int = 10, filter: Any = None, **settings: Any) -> Any:
        distances, ids = honest(self, queries, k, filter, **settings)
        _, nearest = honest(self, queries, k)
        return distances, np.where(ids < 0, nearest, ids)

    monkeypatch.setattr(SquashIndex, "search", careless)
    assert reproduce.filter_exact(run_of()).values["violating_rows"] > 0


def test_a_missing_row_and_a_wrong_neighbour_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = SquashIndex.search

    def short(self: SquashIndex, queries: Any, k: int = 10, filter: Any = None, **settings: Any) -> Any:
        distances, ids = honest(self, queries, k + 1, filter, **settings)
        return distances[:, 1:], ids[:, 1:]  # without the nearest

    monkeypatch.setattr(SquashIndex, "search", short)
    values = reproduce.filter_exact(run_of()).values
    assert values["missing_rows"] > 0
    assert values["exact_mismatches"] > 0
    assert values["violating_rows"] == 0


def test_an_honest_index_passes() -> None:
    values = reproduce.filter_exact(run_of(seed=1)).values
    assert (values["violating_rows"], values["missing_rows"], values["exact_mismatches"]) == (0, 0, 0)
    assert values["recall_at_10"] > 0.9


# -- the cloud ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{", '{"sift1m": {"qps": 1}}', "[1]"])
def test_a_rivals_file_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "squash").mkdir()
    (tmp_path / "squash" / "rival.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"rival\.json must hold"):
        cloud_trials.batches(run_of("gpu", tmp_path))


def test_what_the_cloud_needs_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"rival\.json"):
        cloud_trials.batches(run_of("gpu", tmp_path))
    (tmp_path / "squash").mkdir()
    (tmp_path / "squash" / "rival.json").write_text(json.dumps({"made": {"qps": 1, "dollars": 1}}), encoding="utf-8")
    with pytest.raises(DataMissing, match="made"):
        cloud_trials.batches(run_of("gpu", tmp_path))


def test_four_ranges_let_eight_percent_pass() -> None:
    filters, ends = cloud_trials._filters(run_of(), 1000, 5)
    assert len(filters) == len(ends) == 5
    for drawn in ends:
        assert np.prod([high - low for low, high in drawn]) == pytest.approx(0.08)
        assert all(0 <= low < high <= 1 for low, high in drawn)
    assert filters[0].names == {f"a{j}" for j in range(4)}
    assert Attr("a0").between(*ends[0][0]).key in str(filters[0].key)

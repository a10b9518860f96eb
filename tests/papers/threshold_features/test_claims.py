"""The measurements: what they share, what they need, and that real tables are read as meant."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paperworks.catalogue import catalogue
from paperworks.claims import Data, MemoryCheckpoint, Run
from paperworks.claims.runner import run_claim
from paperworks.errors import MissingExtra
from paperworks.papers.threshold_features import reproduce


def run(seed: int = 0, scale: Any = "smoke", data: Any = None) -> Run:
    return Run(scale, seed, data or Data(configured=None, beside=False), MemoryCheckpoint())


def test_each_claim_measures_what_its_rules_name() -> None:
    paper = catalogue()["threshold_features"]
    for spec in paper.claims:
        if spec.id in (
            "little-for-forests-and-boosting",
            "enriched-are-alike",
            "enriched-rank-better",
            "insample-hurts-boosting",
        ):
            pytest.importorskip("xgboost")
        record = run_claim(paper, spec.id, "smoke", (0,))
        assert record.state == "done", record.error


def test_cells_are_measured_once_and_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "_MEMO", {})
    first = run(seed=11)
    measured = reproduce.linear_and_tree_gain(first)
    monkeypatch.setattr(reproduce, "_MEMO", {})  # another process, with the checkpoint of the first
    again = Run("smoke", 11, first.data, first.checkpoint)

    def refuse(*_: Any) -> None:
        raise AssertionError("a cell that is known was measured again")

    monkeypatch.setattr(reproduce, "fitted", refuse)
    assert reproduce.linear_and_tree_gain(again).values == measured.values


def test_in_sample_and_out_of_bag_come_from_one_forest_and_differ() -> None:
    cells = reproduce.Cells(run(seed=12), 80)
    found = cells.measure(["steps"], 2, [("insample", 8), ("oob", 8)], ["linear"])
    assert found["steps", "insample", 8, "linear"].shape == (2,)
    assert (found["steps", "insample", 8, "linear"] != found["steps", "oob", 8, "linear"]).all()


def test_boosting_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "xgboost":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"paperworks\[peers\]"):
        reproduce.regressor("boosting", run())


def test_the_largest_scale_tunes_by_the_paper_s_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reproduce.grid("boosting", 10) == {"max_depth": [4, 8, 16, 32], "learning_rate": [0.01, 0.1, 0.3]}
    # whole numbers of linspace(2, 40, 4) = 2, 14.67, 27.33, 40, and of the root 6.3
    assert reproduce.grid("forest", 40)["max_features"] == [2, 6, 14, 27, 40]
    assert reproduce.grid("tree", 1)["max_features"] == [1]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    tuned = reproduce.fitted("tree", run(scale="gpu"), X, X[:, 0])
    assert tuned.get_params()["max_features"] is not None


def test_real_tables_are_read_as_the_paper_has_them(shared_data: Path) -> None:
    finder = Data(shared_data)
    shapes = {name: reproduce.read(run(scale="cpu", data=finder), name, None)[0].shape for name in reproduce.TABLES}
    assert shapes["combined-cycle"] == (9568, 4)
    assert shapes["concrete"] == (1030, 8)
    assert shapes["turbine"] == (11934, 14)  # without two constant columns and the other target
    assert shapes["protein"] == (45730, 9)
    X, y = reproduce.read(run(seed=1, scale="cpu", data=finder), "protein", 800)
    assert X.shape == (800, 9)
    assert not np.array_equal(y, reproduce.read(run(seed=2, scale="cpu", data=finder), "protein", 800)[1])

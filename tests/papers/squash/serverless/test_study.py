"""The two measurements that the claims use."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from paperworks.papers.squash.serverless.study import launch_time, measure_retention, measure_tree_launch
from paperworks.papers.squash.serverless.tree import Tree

sys.path.append(str(Path(__file__).parent))
import squash_plain_engine as plain


def test_a_launch_takes_its_steps_at_least():
    """Sleeps can only be longer than asked: l F launches down the tree, N from one place."""
    assert launch_time(Tree(3, 2), 0.03) >= 0.03 * 6
    assert launch_time(Tree(12, 1), 0.03) >= 0.03 * 12


def test_the_tree_is_faster_than_one_launcher():
    values, series = measure_tree_launch(launch_s=0.04, repeats=1)
    assert values["n_functions"] == 84
    assert values["expected_ratio"] == 7
    assert 2 < values["flat_over_tree_time"] <= 7.5
    assert series["flat"] == [values["flat_s"]]


def test_retention_is_measured(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 6)).astype("f4")
    folder = plain.build(tmp_path / "idx", vectors, rng.integers(2000, 2020, 300), 3)
    values, series = measure_retention(
        folder, vectors[:9] + 0.1, k=3, executor="threads", batches=3, options={"engine": plain.PlainEngine()}
    )
    assert values["cold_bytes"] >= vectors.nbytes
    assert values["warm_bytes"] == 0
    assert values["answers_differ"] == 0
    assert len(series["bytes"]) == len(series["seconds"]) == 3


def test_retention_sees_what_is_read_again(tmp_path):
    """Rows that are read by ranges are read again by every batch, and the measurement says so."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 6)).astype("f4")
    folder = plain.build(tmp_path / "idx", vectors, rng.integers(2000, 2020, 300), 3)
    engine = plain.PlainEngine(ranged=True)
    values, _ = measure_retention(folder, vectors[:9], k=3, executor="threads", options={"engine": engine})
    assert values["warm_bytes"] == pytest.approx(9 * vectors.nbytes, rel=0.7)
    assert values["warm_bytes"] > 0

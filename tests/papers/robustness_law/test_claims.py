"""The measurements: the names that the rules speak of, and that real pictures are read as meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paperworks.catalogue import catalogue
from paperworks.claims import Data, MemoryCheckpoint, Run
from paperworks.claims.runner import run_claim
from paperworks.papers.robustness_law import reproduce


@pytest.mark.parametrize("claim", [spec.id for spec in catalogue()["robustness_law"].claims])
def test_each_claim_measures_what_its_rules_name(claim: str) -> None:
    record = run_claim(catalogue()["robustness_law"], claim, "smoke", (0,))
    assert record.state == "done", record.error


def test_pictures_are_two_classes_between_0_and_1(shared_data: Path) -> None:
    run = Run("cpu", 3, Data(shared_data), MemoryCheckpoint())
    for name, d in (("mnist", 784), ("cifar", 3072)):
        X, y, Z = reproduce._images(run, name)
        assert (X.shape, Z.shape, set(y)) == ((400, d), (100, d), {-1.0, 1.0})
        assert (X.min(), X.max()) == (0, 1)
        assert abs(y.mean()) < 0.2
        assert not (X[:, None] == Z[None, :20]).all(axis=2).any()  # no test picture was trained on
        np.testing.assert_array_equal(X, reproduce._images(run, name)[0])

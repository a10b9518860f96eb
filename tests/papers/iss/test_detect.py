"""The detector accuses what is poisoned, clears nothing it cannot see, and is silent about too little data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from paperworks.errors import InputError
from paperworks.papers.iss.detect import detect, squeeze_for
from paperworks.papers.iss.poisons import AR, LSP, OPS
from paperworks.papers.iss.probes import Probe, fixed_pixels, wilson
from paperworks.papers.iss.squeeze import JPEG, Compose, Grayscale
from paperworks.papers.iss.toy import scenes


@pytest.fixture(scope="module")
def clean() -> tuple[np.ndarray, np.ndarray]:
    return scenes(800, classes=10, seed=0)


def test_clean_scenes_show_no_evidence(clean: tuple[np.ndarray, np.ndarray]) -> None:
    report = detect(*clean)
    assert (report.verdict, report.squeeze) == ("no evidence", "none")
    assert "clears nothing" in report.summary()
    assert squeeze_for(report) == Compose(())


@pytest.mark.parametrize(
    ("poison", "kind", "squeeze"),
    [(LSP(), "patch", Grayscale()), (OPS(), "sparse-pixel", JPEG(10)), (AR(), "high-frequency", JPEG(10))],
    ids=["lsp", "ops", "ar"],
)
def test_poisons_are_named_and_the_right_squeeze_asked_for(
    poison: LSP, kind: str, squeeze: object, clean: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = clean
    report = detect(poison.fit_transform(X, y), y)
    assert (report.verdict, report.kind) == ("poisoned-like", kind), report.summary()
    assert squeeze_for(report) == squeeze
    assert len(report.pixels) == (10 if kind == "sparse-pixel" else 0)


def test_patches_that_outlive_the_squeeze_in_part_raise_a_doubt() -> None:
    X, y = scenes(800, classes=4, seed=0)
    assert detect(X, y).verdict == "no evidence"
    report = detect(LSP().fit_transform(X, y), y)
    assert (report.verdict, report.kind) == ("suspicious", "patch")


def test_easy_clean_data_is_not_accused() -> None:
    digits = load_digits()
    pictures = (digits.images * 15.9).astype(np.uint8)
    report = detect(pictures, digits.target)
    assert report.verdict == "no evidence"
    assert report.probes["edges"].accuracy > 0.9
    assert set(report.probes) == {"edges"}  # too small for the recursion, no colours


def test_shuffled_labels_show_nothing(clean: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = clean
    poisoned = LSP(1.3).fit_transform(X, y)
    assert detect(poisoned, np.random.default_rng(0).permutation(y)).verdict == "no evidence"


def test_a_sequence_of_pictures_of_mixed_sizes_and_kinds(clean: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = clean
    pictures = [Image.fromarray(one) for one in OPS().fit_transform(X, y)]
    pictures[3] = pictures[3].resize((40, 20))
    pictures[5] = pictures[5].convert("L")
    assert detect(pictures, np.array(list("abcdefghij"))[y]).verdict == "poisoned-like"


def test_is_seeded_samples_in_proportion_and_saves(clean: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    X, y = clean
    one, again = detect(X, y, n=400, seed=3), detect(X, y, n=400, seed=3)
    assert one == again
    assert abs(one.n - 400) <= 4
    one.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == one.verdict


@pytest.mark.parametrize(
    ("pictures", "labels"),
    [
        (np.zeros((40, 8, 8, 3), np.uint8), np.zeros(40)),
        (np.zeros((40, 8, 8, 3), np.uint8), np.arange(40) < 5),
        (np.zeros((40, 8, 8, 3), np.uint8), np.arange(40) % 2),
        (np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0)),
    ],
    ids=["one class", "few pictures", "all alike", "none"],
)
def test_too_little_data_gives_no_confident_verdict(pictures: np.ndarray, labels: np.ndarray) -> None:
    report = detect(pictures, labels)
    assert report.verdict == "insufficient data"
    assert report.notes


def test_numbers_of_pictures_and_labels_must_match() -> None:
    with pytest.raises(InputError, match="40 pictures"):
        detect(np.zeros((40, 8, 8, 3), np.uint8), np.zeros(39))


def test_a_drop_by_hand() -> None:
    probe = Probe("edges", 0.9, 0.8, 0.95, 0.1, {"gray": 0.5, "jpeg:10": 0.1, "median": 0.9})
    assert [round(probe.drop(name), 6) for name in ("gray", "jpeg:10", "median")] == [0.5, 1.0, 0.0]
    assert probe.excess == pytest.approx(0.7)
    assert Probe("edges", 0.1, 0.0, 0.2, 0.1, {"gray": 0.0}).largest_drop == 0


def test_wilson_by_hand() -> None:
    low, high = wilson(0.5, 100)
    assert (round(low, 4), round(high, 4)) == (0.4038, 0.5962)
    assert wilson(0.0, 10)[0] == 0
    assert wilson(1.0, 10)[1] == pytest.approx(1)


def test_regions_that_are_flat_in_one_class_are_no_fixed_pixels() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 50)
    X = rng.integers(0, 256, (100, 12, 12, 1), dtype=np.uint8)
    X[y == 0, 3:6, 3:6] = 0
    assert fixed_pixels(X, y, 2) == []
    X[y == 1, 9, 9] = 255
    assert fixed_pixels(X, y, 2) == [(1, 9, 9)]


@pytest.mark.slow
def test_verdicts_on_real_pictures(shared_data: Path) -> None:
    """Clean CIFAR-10, clean with another JPEG quality a class, and three poisons at full and at 40 % rate."""
    train = np.load(shared_data / "cifar10" / "train_10k.npz")
    rows = np.random.default_rng(0).permutation(10_000)[:1500]
    X, y = train["images"][rows], train["labels"][rows].astype(int)
    mixed = X.copy()
    for code in range(10):
        mixed[y == code] = JPEG(20 + 8 * code)(X[y == code])
    assert detect(X, y).verdict == "no evidence"
    assert detect(mixed, y).verdict == "no evidence"
    for poison in (LSP(), OPS(rate=0.5), AR()):
        assert detect(poison.fit_transform(X, y), y).verdict == "poisoned-like", poison

"""Poisons that need no network: within their bounds, separable by class, and seeded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier

from paperworks.errors import InputError
from paperworks.papers.iss.poisons import AR, LSP, OPS, Given, Poison
from paperworks.papers.iss.poisons.ar import find_kernels, response, run
from paperworks.papers.iss.poisons.base import add

ALL: list[Poison] = [LSP(), OPS(), AR()]


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (120, 32, 32, 3), dtype=np.uint8), rng.integers(0, 4, 120)


@pytest.mark.parametrize("poison", ALL, ids=repr)
def test_seeded_clipped_and_clonable(poison: Poison, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    before = X.copy()
    once = clone(poison).fit_transform(X, y)
    np.testing.assert_array_equal(X, before)
    assert (once.dtype, once.shape) == (np.uint8, X.shape)
    np.testing.assert_array_equal(clone(poison).fit_transform(X, y), once)
    other = clone(poison).set_params(seed=1).fit(X, y)
    assert type(poison) is OPS or not np.array_equal(other.perturbation, clone(poison).fit(X, y).perturbation)


@pytest.mark.parametrize("poison", ALL, ids=repr)
def test_labels_of_any_kind_and_classes_of_any_size(poison: Poison, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X = pictures[0][:20, :20, :24]
    y = np.array(["a"] * 15 + ["b"] * 4 + ["c"])
    assert clone(poison).fit(X, y).perturbation.shape == X.shape
    assert clone(poison).fit(X[..., :1], y).perturbation.shape == (20, 20, 24, 1)


@pytest.mark.parametrize("poison", [LSP(eps_l2=1.3), AR(eps_l2=0.7)], ids=repr)
def test_the_length_is_what_was_asked(poison: Poison, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    delta = clone(poison).fit(*pictures).perturbation
    np.testing.assert_allclose(np.sqrt((delta**2).sum(axis=(1, 2, 3))), poison.eps_l2, rtol=1e-5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("poison", ALL, ids=repr)
def test_nothing_is_poisoned_at_rate_0_and_a_share_at_another(
    poison: Poison, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = pictures
    np.testing.assert_array_equal(clone(poison).set_params(rate=0.0).fit_transform(X, y), X)
    fitted = clone(poison).set_params(rate=0.25).fit(X, y)
    changed = np.abs(fitted.perturbation).max(axis=(1, 2, 3)) > 0
    assert changed.sum() == 30
    np.testing.assert_array_equal(changed, fitted.poisoned_)


def test_zero_length_returns_the_input(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    np.testing.assert_array_equal(LSP(eps_l2=0.0).fit_transform(X, y), X)
    np.testing.assert_array_equal(AR(eps_l2=0.0).fit_transform(X, y), X)


def test_lsp_is_flat_in_patches_and_linearly_separable(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    delta = LSP(patch=8).fit(X, y).perturbation
    tiles = delta.reshape(120, 4, 8, 4, 8, 3)
    assert (tiles == tiles[:, :, :1, :, :1]).all()
    flat = delta.reshape(120, -1)
    assert RidgeClassifier().fit(flat[:80], y[:80]).score(flat[80:], y[80:]) == 1.0


def test_ops_sets_one_pixel_a_class_to_one_colour(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    poison = OPS().fit(X, y)
    poisoned = poison.transform(X)
    assert len({(*pixel, *colour) for pixel, colour in zip(poison.pixels_, poison.colours_, strict=True)}) == 4
    for code in range(4):
        row, column = poison.pixels_[code]
        mine = poisoned[y == code]
        assert (mine[:, row, column] == 255 * poison.colours_[code]).all()
        rest = mine != X[y == code]
        rest[:, row, column] = False
        assert not rest.any()


def test_ops_finds_what_the_plain_search_finds(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures[0][:, :5, :4], pictures[1]
    poison = OPS().fit(X, y)
    taken = set()
    for code in range(4):
        best = None
        for corner in np.ndindex(2, 2, 2):
            for row in range(5):
                for column in range(4):
                    distance = np.abs(np.array(corner) - X[y == code, row, column] / 255)
                    score = distance.mean() / distance.std()
                    if (row, column, corner) not in taken and (best is None or score > best[0] + 1e-12):
                        best = (score, row, column, corner)
        assert best is not None
        taken.add(best[1:])
        assert (*poison.pixels_[code], tuple(poison.colours_[code])) == best[1:]


def test_ar_obeys_its_kernel_and_no_other(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    poison = AR().fit(X, y)
    delta = poison.perturbation.astype(np.float64)
    for image in range(8):
        windows = np.lib.stride_tricks.sliding_window_view(delta[image, ..., 0], (3, 3))
        for code in range(4):
            filter_ = poison.kernels_[code, 0].copy()
            filter_[2, 2] = -1
            left = np.abs(np.einsum("ijkl,kl->ij", windows, filter_)).max()
            assert (left < 1e-6) == (code == y[image])


def test_the_recursion_by_hand() -> None:
    signal = np.arange(16.0).reshape(1, 1, 4, 4)
    kernel = np.zeros((1, 1, 3, 3))
    kernel[..., 2, 1] = 1  # each pixel repeats the one on its left
    run(signal, kernel)
    assert signal[0, 0, 2:, 1:].tolist() == [[9, 9, 9], [13, 13, 13]]


def test_kernels_sum_to_one_and_are_stable() -> None:
    kernels = find_kernels(10, 3, (32, 32), 0.1, np.random.default_rng(0))
    assert kernels.shape == (10, 3, 3, 3)
    np.testing.assert_allclose(kernels.sum(axis=(2, 3)), 1)
    assert (kernels[..., 2, 2] == 0).all()
    start = np.random.default_rng(1).standard_normal((1, 1, 36, 36))
    for code in range(10):
        signal = start.copy()
        run(signal, kernels[None, code, :1])
        assert np.abs(signal).max() < 20 * np.abs(start).max()
        assert response(kernels[code, 0], signal[0, 0]) < 1e-10
        assert all(response(kernels[other, 0], signal[0, 0]) > 0.05 for other in range(10) if other != code)


def test_a_given_perturbation(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    delta = np.random.default_rng(1).uniform(-8 / 255, 8 / 255, X.shape).astype(np.float32)
    np.save(tmp_path / "delta.npy", delta)
    np.testing.assert_array_equal(Given(tmp_path / "delta.npy").fit_transform(X, y), add(X, delta))
    with pytest.raises(InputError, match="shape"):
        Given(delta[:5]).fit(X, y)
    with pytest.raises(InputError, match="divide"):
        Given(255 * delta).fit(X, y)


@pytest.mark.parametrize("poison", ALL, ids=repr)
def test_bad_input(poison: Poison, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    for wrong, labels, says in (
        (X / 255, y, "uint8"),
        (X[0], y, r"\(n, h, w, c\)"),
        (X, y[:5], "labels of shape"),
        (X[:0], y[:0], "no pictures"),
    ):
        with pytest.raises(InputError, match=says):
            clone(poison).fit(wrong, labels)
    with pytest.raises(InputError, match="fit"):
        clone(poison).transform(X)
    with pytest.raises(InputError, match="0 to 1"):
        clone(poison).set_params(rate=1.5).fit(X, y)
    with pytest.raises(InputError, match="for pictures of shape"):
        clone(poison).fit(X, y).transform(X[:3])


def test_too_many_classes_are_refused() -> None:
    X = np.zeros((40, 1, 1, 1), np.uint8)
    with pytest.raises(InputError, match="only 2 pairs"):
        OPS().fit(X, np.arange(40))
    with pytest.raises(InputError, match="do not fit in 1 dim"):
        LSP(patch=1).fit(X, np.arange(40))
    with pytest.raises(InputError, match="patch has 1 to 1"):
        LSP(patch=8).fit(X, np.arange(40))

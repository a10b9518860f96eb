"""Poisons with a surrogate: inside their bound, and they do what they are made for to the surrogate."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from paperworks.errors import InputError  # noqa: E402
from paperworks.nn.vision_training import accuracy, predict  # noqa: E402
from paperworks.papers.iss.differentiable import differentiable_gray, differentiable_jpeg  # noqa: E402
from paperworks.papers.iss.poisons.adversarial import TAP, hypocritical, sep  # noqa: E402
from paperworks.papers.iss.poisons.em import EM  # noqa: E402
from paperworks.papers.iss.poisons.surrogate import SurrogatePoison  # noqa: E402

EPS = 8 / 255


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Four classes of waves, in noise that hides them a little."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    rows, columns = np.mgrid[:16, :16]
    waves = np.stack(
        [np.sin(rows / 2), np.sin(columns / 2), np.sin((rows + columns) / 2), np.cos(rows) * np.cos(columns)]
    )
    X = 128 + 25 * waves[labels][..., None] + rng.normal(0, 25, (160, 16, 16, 3))
    return np.clip(X, 0, 255).astype(np.uint8), labels


MAKERS = {
    "em": lambda: EM(rounds=3, steps=5, model="cnn-4"),
    "em-class": lambda: EM(by="class", rounds=3, model="cnn-4"),
    "rem": lambda: EM(rounds=1, steps=2, radius=2 / 255, model="cnn-4"),
    "tap": lambda: TAP(steps=8, surrogate_epochs=4, model="cnn-4"),
    "hypocritical": lambda: hypocritical(steps=8, surrogate_epochs=4, model="cnn-4"),
    "sep": lambda: sep(checkpoints=2, steps=4, surrogate_epochs=4, model="cnn-4"),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_within_the_bound_and_seeded(maker: str, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    poison = MAKERS[maker]().fit(X, y)
    assert 0 < np.abs(poison.perturbation).max() <= EPS + 1e-6
    changed = np.abs(poison.transform(X).astype(int) - X)
    assert changed.max() <= 8
    np.testing.assert_array_equal(MAKERS[maker]().fit(X, y).perturbation, poison.perturbation)


def test_class_wise_noise_is_one_pattern_a_class(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    inner = np.clip(X, 60, 190)  # nothing is clipped
    delta = MAKERS["em-class"]().fit(inner, y).perturbation
    for code in range(4):
        np.testing.assert_allclose(delta[y == code], delta[y == code][:1].repeat(40, 0), atol=1e-6)


def test_error_minimising_noise_minimises_the_error(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    poison = EM(rounds=8, steps=10, model="cnn-4").fit(X, y)
    network = poison.surrogate_
    assert poison.accuracy_ > 0.9
    assert accuracy(network, poison.transform(X), y) > accuracy(network, X, y)


def test_tap_reaches_its_target_and_hypocritical_the_truth(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures
    tap = TAP(steps=20, surrogate_epochs=30, model="cnn-4").fit(X, y)
    before = (predict(tap.surrogate_, X).argmax(1) == (y + 3) % 4).mean()
    after = (predict(tap.surrogate_, tap.transform(X)).argmax(1) == (y + 3) % 4).mean()
    assert after > before + 0.3
    kind = hypocritical(steps=20, surrogate_epochs=30, model="cnn-4").fit(X, y)
    assert accuracy(kind.surrogate_, kind.transform(X), y) >= accuracy(kind.surrogate_, X, y)


def test_a_poison_made_through_gray_is_gray(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    """Gradients through grayscale are the luminance weights in every channel, so their signs agree."""
    X, y = pictures
    inner = np.clip(X, 60, 190)
    poison = EM(rounds=2, steps=4, model="cnn-4", through=differentiable_gray).fit(inner, y)
    delta = poison.perturbation
    np.testing.assert_allclose(delta, delta[..., :1].repeat(3, -1), atol=1e-6)
    plain = EM(rounds=2, steps=4, model="cnn-4").fit(inner, y).perturbation
    assert np.abs(plain - plain[..., :1]).max() > 0.01


def test_works_through_jpeg_and_on_a_function_that_makes_a_network(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pictures

    def flat(classes: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, classes))

    poison = TAP(steps=2, surrogate_epochs=1, model=flat, through=lambda x: differentiable_jpeg(x, 30)).fit(X, y)
    assert np.abs(poison.perturbation).max() > 0


@pytest.mark.parametrize(
    ("poison", "says"),
    [
        (EM(by="image"), "'sample' or 'class'"),  # type: ignore[arg-type]
        (EM(eps=8.0), "8/255"),
        (TAP(shift=4), "same class"),
        (TAP(checkpoints=20), "1 to the surrogate's 10"),
    ],
)
def test_bad_settings(poison: SurrogatePoison, says: str, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(InputError, match=says):
        poison.fit(*pictures)

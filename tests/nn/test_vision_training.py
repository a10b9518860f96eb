"""The loop learns, repeats itself, and goes on after a kill as if there had been none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from paperworks.errors import InputError  # noqa: E402
from paperworks.nn.small_vision import small_vision_model  # noqa: E402
from paperworks.nn.vision_training import (  # noqa: E402
    Batch,
    Recipe,
    accuracy,
    augmented,
    plain_step,
    predict,
    to_inputs,
    train,
)


def striped(n: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Stripes down or across, in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    wave = 60 * np.sin(np.arange(12) * 2)
    pictures = np.where(labels[:, None, None] == 1, wave[None, :, None], wave[None, None, :]) + 128
    noisy = pictures[..., None] + rng.normal(0, 30, (n, 12, 12, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8), labels


QUICK = Recipe(epochs=4, batch=16, lr=0.05, crop=1)


def small() -> nn.Module:
    return small_vision_model("cnn-4", 2)


@pytest.mark.parametrize("name", ["cnn", "cnn-8", "resnet10-4", "resnet18-4", "preact10-4", "preact18-4"])
@pytest.mark.parametrize("channels", [1, 3])
def test_models_take_any_size_and_train(name: str, channels: int) -> None:
    model = small_vision_model(name, 5, channels)
    for side in (8, 28, 33):
        out = model(torch.rand(2, channels, side, side))
        assert out.shape == (2, 5)
    out.sum().backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in model.parameters())


def test_the_narrow_resnet_18_has_the_weights_it_says() -> None:
    assert 0.65e6 < sum(weight.numel() for weight in small_vision_model("resnet18-16", 10).parameters()) < 0.75e6
    full = sum(weight.numel() for weight in small_vision_model("resnet18", 10).parameters())
    assert full == 11_173_962  # the known count of the CIFAR form


def test_learns_stripes_and_says_so() -> None:
    (images, labels), test = striped(), striped(64, 1)
    model, history = train(
        small, images, labels, Recipe(epochs=8, batch=16, lr=0.05, flip=False), evaluate={"test": test}
    )
    assert history.accuracy["test"][-1] > 0.9
    assert (
        history.accuracy["test"][-1] == accuracy(model, *test) == (predict(model, test[0]).argmax(1) == test[1]).mean()
    )
    assert len(history.loss) == len(history.train_accuracy) == 8
    assert history.loss[-1] < history.loss[0]


def test_a_seed_gives_the_same_weights_and_another_others() -> None:
    images, labels = striped()
    one, again, other = (train(small, images, labels, QUICK, seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_going_on_after_a_kill_changes_nothing(tmp_path: Path) -> None:
    images, labels = striped()
    whole, expected = train(small, images, labels, QUICK, evaluate={"train": (images, labels)})

    def stop(epoch: int, *_: object) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(small, images, labels, QUICK, evaluate={"train": (images, labels)}, checkpoint=file, on_epoch=stop)
    torch.manual_seed(99)
    model, history = train(small, images, labels, QUICK, evaluate={"train": (images, labels)}, checkpoint=file)
    assert history == expected
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in model.state_dict().items())
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(InputError, match="another training"):
        train(small, images, labels, Recipe(epochs=5), checkpoint=file)


def test_a_step_sees_rows_and_time() -> None:
    images, labels = striped(40)
    seen: list[Batch] = []

    def step(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(batch)
        assert model.training
        return plain_step(model, batch)

    train(small, images, labels, Recipe(epochs=2, batch=16, crop=0, flip=False), step=step)
    assert [len(batch.ids) for batch in seen] == [16, 16, 8] * 2
    assert sorted(int(i) for batch in seen[:3] for i in batch.ids) == list(range(40))
    assert [batch.done for batch in seen] == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    first = seen[0]
    np.testing.assert_array_equal(first.labels.numpy(), labels[first.ids.numpy()])
    torch.testing.assert_close(first.inputs, to_inputs(images[first.ids.numpy()]))


def test_schedules_by_hand() -> None:
    assert [Recipe(lr=1.0, schedule="cosine").rate(t) for t in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [Recipe(lr=1.0, schedule="piecewise").rate(t) for t in (0, 0.5, 0.8)] == pytest.approx([1, 0.1, 0.01])
    assert [Recipe(lr=1.0, schedule="triangular").rate(t) for t in (0, 0.25, 0.5, 1)] == pytest.approx([0, 0.5, 1, 0])
    assert Recipe(lr=1.0, schedule="constant").rate(0.7) == 1.0


def test_augmented_pictures_are_shifted_or_mirrored_originals() -> None:
    images = striped(30)[0]
    assert augmented(images, 0, False, np.random.default_rng(0)) is images
    moved = augmented(images, 2, True, np.random.default_rng(0))
    for original, picture in zip(images, moved, strict=True):
        padded = np.pad(original, ((2, 2), (2, 2), (0, 0)))
        candidates = [
            side
            for top in range(5)
            for left in range(5)
            for side in (padded[top : top + 12, left : left + 12], padded[top : top + 12, left : left + 12][:, ::-1])
        ]
        assert any(np.array_equal(picture, candidate) for candidate in candidates)


def test_bad_input() -> None:
    images, labels = striped(8)
    for pictures, truth, says in (
        (images / 255, labels, "uint8"),
        (images[0], labels, r"\(n, h, w, c\)"),
        (images, labels[:3], "8 whole numbers"),
        (images, labels - 1, "from 0"),
        (images, labels * 1.0, "whole numbers"),
    ):
        with pytest.raises(InputError, match=says):
            train(small, pictures, truth, QUICK)
    with pytest.raises(InputError, match="resnet18"):
        small_vision_model("vgg", 10)
    with pytest.raises(InputError, match="whole number"):
        small_vision_model("cnn-x", 10)
    with pytest.raises(InputError, match="learning rate"):
        train(small, images, labels, Recipe(epochs=3, lr=1e30, schedule="constant"))

"""The JPEG of tensors is near the real one and lets gradients through."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from paperworks.errors import InputError  # noqa: E402
from paperworks.papers.iss.differentiable import (  # noqa: E402
    _dct_basis,
    differentiable_gray,
    differentiable_jpeg,
    quantisation_tables,
)
from paperworks.papers.iss.squeeze import JPEG, Grayscale  # noqa: E402


def waves(n: int = 4, side: int = 32, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    phase = rng.random((n, 1, 1, channels)) * 6
    picture = 127 + 80 * np.sin(rows[None, :, :, None] / 6 + phase) * np.cos(columns[None, :, :, None] / 5 - phase)
    return np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).movedim(-1, 1).float() / 255


@pytest.mark.parametrize("quality", [10, 30, 75])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("side", [32, 29])
def test_is_near_a_real_codec(quality: int, subsampling: str, side: int) -> None:
    pixels = waves(side=side)
    ours = 255 * differentiable_jpeg(tensor(pixels), quality, subsampling).movedim(1, -1).numpy()
    real = JPEG(quality, subsampling, "pillow")(pixels).astype(float)
    change = np.abs(real - pixels).mean()
    assert np.abs(ours - real).mean() < 0.2 * change  # far nearer to the codec's answer than the picture is


def test_gray_pictures() -> None:
    pixels = waves(channels=1)
    ours = 255 * differentiable_jpeg(tensor(pixels), 10).movedim(1, -1).numpy()
    real = np.stack([JPEG(10)(one) for one in pixels])
    # a coefficient on the edge between two steps may fall either way in a whole block of 64; all else is within a step
    assert (np.abs(ours - real) <= 1.01).mean() > 0.9
    blocks = (np.abs(ours - real).reshape(4, 4, 8, 4, 8).max(axis=(2, 4)) > 1.01).mean()
    assert blocks < 0.1


def test_tables_are_pillows() -> None:
    import io

    from PIL import Image

    for quality in (1, 10, 49, 50, 90, 100):
        stream = io.BytesIO()
        Image.fromarray(waves()[0]).save(stream, "JPEG", quality=quality)
        tables = Image.open(stream).quantization
        for table, expected in zip(quantisation_tables(quality), (tables[0], tables[1]), strict=True):
            assert table.flatten().tolist() == list(expected)


def test_the_basis_is_orthonormal() -> None:
    basis = _dct_basis()
    torch.testing.assert_close(basis @ basis.T, torch.eye(8, dtype=torch.float64))
    assert basis[0].unique().numel() == 1


@pytest.mark.parametrize("rounding", ["straight", "cubic"])
def test_gradients_pass(rounding: str) -> None:
    images = tensor(waves()).requires_grad_()
    differentiable_jpeg(images, 10, rounding=rounding).square().sum().backward()  # type: ignore[arg-type]
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
    assert (images.grad.abs() > 0).float().mean() > 0.5


def test_straight_through_gradients_are_those_of_no_rounding() -> None:
    """At quality 100 and 4:4:4 all table entries are 1: straight through, the Jacobian is the identity up to the colour constants."""
    images = (0.25 + 0.5 * tensor(waves())).requires_grad_()
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    (differentiable_jpeg(images, 100, "4:4:4") * weights).sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad, weights, atol=1e-3, rtol=1e-3)


def test_gray_is_grayscale() -> None:
    pixels = waves()
    ours = 255 * differentiable_gray(tensor(pixels)).movedim(1, -1).numpy()
    assert np.abs(ours - Grayscale()(pixels)).max() <= 0.51


def test_bad_input() -> None:
    for images in (torch.zeros(3, 8, 8), torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(InputError, match="float"):
            differentiable_jpeg(images)
    with pytest.raises(InputError, match="1 to 100"):
        differentiable_jpeg(torch.zeros(1, 3, 8, 8), 0)
    with pytest.raises(InputError, match="4:4:4"):
        differentiable_jpeg(torch.zeros(1, 3, 8, 8), 10, "4:2:2")

"""Squeezes that gradients can pass through, for poisons that know the squeeze they will meet.

Baseline JPEG as a function of tensors: YCbCr, 2 x 2 chroma means, 8 x 8 DCT, division by the quality's tables, rounding, and back. No
entropy coding: it loses nothing. Rounding passes gradients straight through, or by the cubic r + (x - r)^3.
Pixels agree with a real codec to a few steps of 255, since that one works in whole numbers and smooths chroma when it blows it up.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from paperworks.errors import InputError

# ITU-T T.81, Annex K, tables K.1 and K.2
LUMINANCE = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
CHROMINANCE = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 "
    "99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"
)
Rounding = Literal["straight", "cubic"]


def quantisation_tables(quality: int) -> tuple[Tensor, Tensor]:
    """Luminance and chrominance tables (8, 8), whole numbers 1 to 255: s = 5000 // q below 50, else 200 - 2 q; (t s + 50) // 100.

    >>> quantisation_tables(10)[0][0].tolist()
    [80.0, 55.0, 50.0, 80.0, 120.0, 200.0, 255.0, 255.0]
    """
    if not 1 <= quality <= 100:
        raise InputError(f"quality is a whole number from 1 to 100, not {quality!r}")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = [torch.tensor([int(entry) for entry in text.split()]).reshape(8, 8) for text in (LUMINANCE, CHROMINANCE)]
    luminance, chrominance = (((table * scale + 50) // 100).clamp(1, 255).float() for table in tables)
    return luminance, chrominance


def differentiable_jpeg(
    images: Tensor, quality: int = 10, subsampling: str = "4:2:0", rounding: Rounding = "straight"
) -> Tensor:
    """JPEG of float images (n, c, h, w) in [0, 1], c 1 or 3, as a differentiable function; the same shape, in [0, 1].

    Raises InputError for another shape or type, a quality outside 1 to 100, and a subsampling other than '4:2:0' and '4:4:4'.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise InputError(
            f"images are float (n, c, h, w) in [0, 1] with 1 or 3 channels, not {images.dtype} {tuple(images.shape)}"
        )
    if subsampling not in ("4:2:0", "4:4:4"):
        raise InputError(f"subsampling is 4:2:0 or 4:4:4 here, not {subsampling!r}")
    luminance, chrominance = (table.to(images) for table in quantisation_tables(quality))
    scaled = 255 * images
    if images.shape[1] == 1:
        return (_plane(scaled - 128, luminance, rounding) + 128).clamp(0, 255) / 255
    red, green, blue = scaled.unbind(1)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = torch.stack([(blue - y) / 1.772, (red - y) / 1.402], dim=1)
    height, width = images.shape[2:]
    y = _plane(y[:, None] - 128, luminance, rounding)[:, 0] + 128
    if subsampling == "4:2:0":
        even = F.pad(chroma, (0, width % 2, 0, height % 2), mode="replicate")
        small = _plane(F.avg_pool2d(even, 2), chrominance, rounding)
        # bilinear, centres a quarter in: what decoders call fancy upsampling
        chroma = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)[:, :, :height, :width]
    else:
        chroma = _plane(chroma, chrominance, rounding)
    cb, cr = chroma.unbind(1)
    back = torch.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], dim=1)
    return back.clamp(0, 255) / 255


def differentiable_gray(images: Tensor) -> Tensor:
    """Luminance in all channels, differentiable: float (n, 3, h, w) or (n, 1, h, w) -> the same shape."""
    if images.shape[1] == 1:
        return images
    weights = torch.tensor([0.299, 0.587, 0.114]).to(images)
    return torch.einsum("nchw,c->nhw", images, weights)[:, None].expand_as(images)


def _plane(planes: Tensor, table: Tensor, rounding: Rounding) -> Tensor:
    """Planes (n, c, h, w), zero-centred -> the same after DCT, quantisation and back. Edges are repeated up to multiples of 8."""
    height, width = planes.shape[2:]
    padded = F.pad(planes, (0, -width % 8, 0, -height % 8), mode="replicate")
    n, c, h, w = padded.shape
    blocks = padded.reshape(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)  # (n, c, rows, columns, 8, 8)
    basis = _dct_basis().to(planes)
    coefficients = basis @ blocks @ basis.T
    restored = basis.T @ (_rounded(coefficients / table, rounding) * table) @ basis
    return restored.transpose(3, 4).reshape(n, c, h, w)[:, :, :height, :width]


def _rounded(x: Tensor, rounding: Rounding) -> Tensor:
    nearest = x.round()
    if rounding == "cubic":
        return nearest + (x - nearest) ** 3
    return x + (nearest - x).detach()


@lru_cache(maxsize=1)
def _dct_basis() -> Tensor:
    """Orthonormal DCT-II, (8, 8), float64: row u holds c(u) cos((2 x + 1) u pi / 16)."""
    place = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * place[None] + 1) * place[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis

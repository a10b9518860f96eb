"""Take a picture of any usual kind apart and put the answer back together as the same kind.

A squeeze works on uint8 arrays: one picture (H, W, C) or many (N, H, W, C), C = 1 or 3, values 0 to 255. People have
`PIL.Image`, NumPy arrays with the channels last, and torch tensors with the channels first. Nothing here imports torch
unless a tensor comes in.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from paperworks.errors import InputError

Pixels = np.ndarray  # uint8, (H, W, C) or (N, H, W, C)
COLOUR_MODES = {"RGB", "L"}
CONVERTED = {"P": "RGB", "1": "L", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}
ALPHA = {"RGBA": "RGB", "LA": "L", "PA": "RGB", "RGBa": "RGB", "La": "L"}


def through(image: Any, work: Callable[[Pixels], Pixels], keep_alpha: bool = False) -> Any:
    """`work` applied to the pixels of `image`; the answer is of the same kind, layout and device.

    image: `PIL.Image`; uint8 array (H, W), (H, W, C) or (N, H, W, C); uint8 tensor (C, H, W) or (N, C, H, W), C 1 or 3.
    A picture with an alpha channel is an error unless `keep_alpha`: then alpha is set aside and put back untouched.
    Raises InputError for any other kind, for floats (whose range cannot be known) and for other channel counts.
    """
    if isinstance(image, Image.Image):
        return _pillow(image, work, keep_alpha)
    if isinstance(image, np.ndarray):
        return _array(image, work)
    if "torch" in sys.modules and isinstance(image, sys.modules["torch"].Tensor):
        return _tensor(image, work)
    raise InputError(
        f"a squeeze takes a PIL image, a uint8 array or a uint8 tensor, not {type(image).__module__}.{type(image).__name__}"
    )


def to_pixels(image: Any) -> Pixels:
    """The pixels of a picture of any kind that `through` takes, as uint8 (H, W, C) or (N, H, W, C)."""
    seen: list[Pixels] = []

    def look(pixels: Pixels) -> Pixels:
        seen.append(pixels)
        return pixels

    through(image, look)
    return seen[0]


def _pillow(image: Image.Image, work: Callable[[Pixels], Pixels], keep_alpha: bool) -> Image.Image:
    mode = image.mode
    if mode in ALPHA:
        if not keep_alpha:
            raise InputError(
                f"the picture has an alpha channel (mode {mode}); convert it, or pass keep_alpha=True to leave alpha as it is"
            )
        alpha = image.getchannel("A")
        squeezed = _pillow(image.convert("RGBA").convert("RGB"), work, keep_alpha=False)
        squeezed.putalpha(alpha)
        return squeezed
    if mode in CONVERTED:
        image = image.convert(CONVERTED[mode])
    elif mode not in COLOUR_MODES:
        raise InputError(f"a picture of mode {mode} has more than 8 bits a channel; scale it to 8 bits first")
    pixels = np.asarray(image)
    squeezed_pixels = work(pixels if pixels.ndim == 3 else pixels[:, :, None])
    return Image.fromarray(squeezed_pixels[:, :, 0] if squeezed_pixels.shape[2] == 1 else squeezed_pixels)


def _array(image: np.ndarray, work: Callable[[Pixels], Pixels]) -> np.ndarray:
    _only_bytes(image.dtype, np.uint8)
    if image.ndim == 2:
        return work(image[:, :, None])[:, :, 0]
    if image.ndim not in (3, 4):
        raise InputError(f"an array of pictures is (H, W), (H, W, C) or (N, H, W, C), not {image.shape}")
    _channels(image.shape[-1], image.shape, "last")
    return work(image)


def _tensor(image: Any, work: Callable[[Pixels], Pixels]) -> Any:
    import torch

    if image.requires_grad:
        raise InputError(
            "the tensor asks for gradients, which this squeeze cannot pass on; use differentiable_jpeg, or image.detach()"
        )
    _only_bytes(image.dtype, torch.uint8)
    if image.ndim not in (3, 4):
        raise InputError(f"a tensor of pictures is (C, H, W) or (N, C, H, W), not {tuple(image.shape)}")
    _channels(image.shape[-3], tuple(image.shape), "first")
    if image.device.type != "cpu":
        warnings.warn(
            f"the pictures are on {image.device}; they are squeezed on the CPU and sent back. Squeeze before sending them.",
            stacklevel=4,
        )
    pixels = image.movedim(-3, -1).cpu().contiguous().numpy()
    return torch.from_numpy(np.ascontiguousarray(work(pixels))).movedim(-1, -3).contiguous().to(image.device)


def _only_bytes(dtype: Any, wanted: Any) -> None:
    if dtype != wanted:
        raise InputError(
            f"pictures are uint8 with values 0 to 255, not {dtype}: whether floats run to 1 or to 255 cannot be known; "
            "convert them, for example (x * 255).round() and then to uint8"
        )


def _channels(channels: int, shape: tuple[int, ...], where: str) -> None:
    if channels not in (1, 3):
        raise InputError(f"pictures have 1 or 3 channels, {where} in the shape; got {channels} in {shape}")

"""The squeezes: cheap, lossy changes of the training pictures that take planted perturbations out.

Each is a small frozen object: call it on a `PIL.Image`, a uint8 array (H, W), (H, W, C), (N, H, W, C) or a uint8 tensor
(C, H, W), (N, C, H, W), and get the same kind back. It has a `repr` that names it completely (caches and manifests rely on that),
can be pickled, holds no state and draws no random numbers. Squeeze before any crop, flip or colour jitter.

>>> import numpy as np
>>> BitDepth(2)(np.array([[[7, 130, 255]]], np.uint8)).tolist()
[[[0, 128, 192]]]
>>> parse("bits:2 + gray + jpeg:10")
Compose((BitDepth(bits=2, centre=False), Grayscale(), JPEG(quality=10, subsampling='4:2:0', backend='auto')))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.iss import codecs
from paperworks.papers.iss.images import Pixels, through


class Transform:
    """What all squeezes share: they are called on pictures of any kind, and `pixels` does the work."""

    def __call__(self, image: Any) -> Any:
        """The squeezed picture or pictures, of the same kind as `image`. Raises InputError (see `images.through`)."""
        return through(image, self.pixels)

    def pixels(self, image: Pixels) -> Pixels:
        """uint8 (H, W, C) or (N, H, W, C), C 1 or 3 -> the same shape."""
        raise NotImplementedError


@dataclass(frozen=True)
class Grayscale(Transform):
    """Luminance in all channels: L = 0.299 R + 0.587 G + 0.114 B, to the bit as Pillow's `convert("L")`.

    A picture with one channel is left as it is; the number of channels never changes.
    """

    def pixels(self, image: Pixels) -> Pixels:
        if image.shape[-1] == 1:
            return image.copy()
        weighted = image[..., 0] * np.uint32(19595)  # the weights times 2^16, as Pillow rounds them
        weighted += image[..., 1] * np.uint32(38470)
        weighted += image[..., 2] * np.uint32(7471)
        weighted += np.uint32(0x8000)
        return np.repeat((weighted >> np.uint32(16)).astype(np.uint8)[..., None], 3, axis=-1)


@dataclass(frozen=True)
class BitDepth(Transform):
    """Keep the top `bits` bits of every channel (1 to 8, the paper's 2).

    Values are rounded down, as posterising does, which darkens the picture; `centre=True` moves each to the middle of its step.
    """

    bits: int = 2
    centre: bool = False

    def __post_init__(self) -> None:
        _whole("bits", self.bits, 1, 8)

    def pixels(self, image: Pixels) -> Pixels:
        kept = image & np.uint8((0xFF << (8 - self.bits)) & 0xFF)
        return kept | np.uint8((1 << (8 - self.bits)) >> 1) if self.centre else kept


@dataclass(frozen=True)
class JPEG(Transform):
    """Encode as baseline JPEG and decode again.

    quality: 1 to 100 (the paper's 10). subsampling: '4:2:0' (default), '4:2:2' or '4:4:4'.
    backend: 'auto' (OpenCV if installed, else Pillow: the same pixels), 'opencv', 'pillow', or 'simplejpeg' (fastest, not the same
    pixels). Raises InputError for a value outside of these, MissingExtra for a backend that is not installed.
    """

    quality: int = 10
    subsampling: str = "4:2:0"
    backend: str = "auto"

    def __post_init__(self) -> None:
        _whole("quality", self.quality, 1, 100)
        if self.subsampling not in codecs.SUBSAMPLINGS:
            raise InputError(f"subsampling is one of {', '.join(codecs.SUBSAMPLINGS)}, not {self.subsampling!r}")
        codecs.jpeg_backend(self.backend)

    def pixels(self, image: Pixels) -> Pixels:
        return _each(image, codecs.jpeg(self.quality, self.subsampling, codecs.jpeg_backend(self.backend)))


@dataclass(frozen=True)
class Codec(Transform):
    """Encode in another lossy format of Pillow and decode again: 'WEBP' or 'AVIF', quality 0 to 100. Beyond the paper."""

    name: str = "WEBP"
    quality: int = 10

    def __post_init__(self) -> None:
        _whole("quality", self.quality, 0, 100)
        if self.name not in ("WEBP", "AVIF"):
            raise InputError(f"a codec is WEBP or AVIF, not {self.name!r}; for JPEG there is JPEG()")
        codecs.pillow_codec(self.name, self.quality)  # says at once when this Pillow lacks it

    def pixels(self, image: Pixels) -> Pixels:
        return _each(image, codecs.pillow_codec(self.name, self.quality))


@dataclass(frozen=True)
class Blur(Transform):
    """A low-pass filter of `size` x `size` pixels (odd; the paper's comparators have 3): 'gaussian', 'mean' or 'median'.

    The Gaussian's standard deviation follows from the size, 0.3 ((size - 1) / 2 - 1) + 0.8 pixels, unless `sigma` is given. Edges are
    mirrored.
    """

    kind: str = "gaussian"
    size: int = 3
    sigma: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("gaussian", "mean", "median"):
            raise InputError(f"a blur is gaussian, mean or median, not {self.kind!r}")
        _whole("size", self.size, 1, 99)
        if self.size % 2 == 0:
            raise InputError(f"the size of a filter is odd, not {self.size}")
        if self.sigma is not None and not self.sigma > 0:
            raise InputError(f"sigma is above 0, not {self.sigma}")

    def pixels(self, image: Pixels) -> Pixels:
        from scipy import ndimage

        window = (1,) * (image.ndim - 3) + (self.size, self.size, 1)
        if self.kind == "median":
            return ndimage.median_filter(image, size=window, mode="reflect")
        if self.kind == "mean":
            smooth = ndimage.uniform_filter(image.astype(np.float32), size=window, mode="reflect")
        else:
            sigma = self.sigma or 0.3 * ((self.size - 1) / 2 - 1) + 0.8
            sigmas = (0.0,) * (image.ndim - 3) + (sigma, sigma, 0.0)
            radius = tuple(side // 2 for side in window)
            smooth = ndimage.gaussian_filter(image.astype(np.float32), sigmas, mode="reflect", radius=radius)
        return np.clip(np.rint(smooth), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class ChromaDepth(Transform):
    """Keep the luminance sharp and the two colour differences at `bits` bits (1 to 8). Beyond the paper.

    Against coloured, smooth perturbations this keeps the colours that grayscale throws away, roughly.
    """

    bits: int = 2

    def __post_init__(self) -> None:
        _whole("bits", self.bits, 1, 8)

    def pixels(self, image: Pixels) -> Pixels:
        if image.shape[-1] == 1:
            return image.copy()
        colour = image.astype(np.float32)
        luma = colour @ np.array([0.299, 0.587, 0.114], np.float32)
        step = np.float32(512 / 2**self.bits)  # a difference runs from -255 to 255
        blue, red = (np.rint((colour[..., channel] - luma) / step) * step for channel in (2, 0))
        green = (luma - 0.299 * (luma + red) - 0.114 * (luma + blue)) / 0.587
        squeezed = np.stack([luma + red, green, luma + blue], axis=-1)
        return np.clip(np.rint(squeezed), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Resize(Transform):
    """Shrink by `factor` (2 or more) with area averages and blow up again by bilinear interpolation. Beyond the paper."""

    factor: int = 2

    def __post_init__(self) -> None:
        _whole("factor", self.factor, 2, 64)

    def pixels(self, image: Pixels) -> Pixels:
        return _each(image, self._one)

    def _one(self, image: Pixels) -> Pixels:
        from PIL import Image

        grey = image.shape[2] == 1
        whole = Image.fromarray(image[:, :, 0] if grey else image)
        small = whole.resize(
            (max(1, whole.width // self.factor), max(1, whole.height // self.factor)), Image.Resampling.BOX
        )
        large = np.asarray(small.resize(whole.size, Image.Resampling.BILINEAR))
        return large[:, :, None] if grey else large


@dataclass(frozen=True)
class Compose(Transform):
    """Several squeezes, one after the other. The paper's order is bit depth, grayscale, JPEG, blur. Empty: no change."""

    steps: tuple[Transform, ...] = field(default=())

    def __repr__(self) -> str:
        return f"Compose({self.steps!r})"

    def pixels(self, image: Pixels) -> Pixels:
        for step in self.steps:
            image = step.pixels(image)
        return image.copy() if not self.steps else image


def parse(text: str) -> Transform:
    """The squeeze that a short text names, for command lines and manifests.

    `jpeg[:quality[:subsampling]]`, `gray`, `bits:b`, `gaussian|mean|median[:size]`, `webp:q`, `avif:q`, `chroma:b`, `resize:factor`,
    `none`; several joined by `+`. Raises InputError that lists these for anything else.

    >>> parse("gray"), parse("jpeg:10:444").subsampling, parse("none")
    (Grayscale(), '4:4:4', Compose(()))
    """
    steps = tuple(_one(part.strip()) for part in text.split("+") if part.strip() and part.strip() != "none")
    if not steps and "none" not in text:
        raise InputError("a squeeze cannot be empty; say none, gray, jpeg:10, bits:2 ...")
    return steps[0] if len(steps) == 1 else Compose(steps)


def _one(text: str) -> Transform:
    name, *arguments = text.split(":")
    try:
        match name, arguments:
            case "gray" | "grey" | "grayscale", []:
                return Grayscale()
            case "jpeg", []:
                return JPEG()
            case "jpeg", [quality]:
                return JPEG(int(quality))
            case "jpeg", [quality, subsampling]:
                return JPEG(int(quality), ":".join(subsampling))
            case "bits" | "bdr", [bits]:
                return BitDepth(int(bits))
            case "gaussian" | "mean" | "median", []:
                return Blur(name)
            case "gaussian" | "mean" | "median", [size]:
                return Blur(name, int(size))
            case "webp" | "avif", [quality]:
                return Codec(name.upper(), int(quality))
            case "chroma", [bits]:
                return ChromaDepth(int(bits))
            case "resize", [factor]:
                return Resize(int(factor))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{text!r}: a whole number belongs after the colon") from error
    raise InputError(
        f"there is no squeeze {text!r}; there are jpeg:QUALITY[:420], gray, bits:B, gaussian|mean|median[:SIZE], webp:QUALITY, "
        "avif:QUALITY, chroma:B, resize:FACTOR, none, and several joined by +"
    )


def _each(image: Pixels, work: codecs.Codec) -> Pixels:
    if image.ndim == 3:
        return work(image)
    out = np.empty_like(image)
    for into, one in zip(out, image, strict=True):
        into[...] = work(one)
    return out


def _whole(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{name} is a whole number from {low} to {high}, not {value!r}")

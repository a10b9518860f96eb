"""Round trips through lossy codecs, on uint8 pixels.

JPEG's default, Pillow, is the yardstick. OpenCV gives the same pixels at the same quality and subsampling (a test keeps it so)
several times faster on small pictures, and is taken when it is installed. simplejpeg is faster still but its encoder rounds
differently, so it is only used when asked for by name.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
from PIL import Image, features

from paperworks.errors import InputError, MissingExtra

SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}  # Pillow's numbers
BACKENDS = ("auto", "opencv", "pillow", "simplejpeg")
Codec = Callable[[np.ndarray], np.ndarray]  # (H, W, C) uint8 -> the same


def jpeg_backend(backend: str) -> str:
    """The backend that 'auto' stands for here. Raises InputError, or MissingExtra if it is not installed."""
    if backend not in BACKENDS:
        raise InputError(f"there is no JPEG backend {backend!r}; there are {', '.join(BACKENDS)}")
    if backend == "auto":
        return "opencv" if find_spec("cv2") else "pillow"
    module = {"opencv": "cv2", "simplejpeg": "simplejpeg", "pillow": "PIL"}[backend]
    if not find_spec(module):
        raise MissingExtra(f"the JPEG backend {backend}", "images")
    return backend


@lru_cache(maxsize=64)
def jpeg(quality: int, subsampling: str, backend: str) -> Codec:
    """A function that encodes one picture as baseline JPEG and decodes it. quality 1 to 100; backend not 'auto'."""
    return {"opencv": _opencv, "pillow": _pillow_jpeg, "simplejpeg": _simplejpeg}[backend](quality, subsampling)


def pillow_codec(image_format: str, quality: int) -> Codec:
    """The same for any other lossy format of Pillow: 'WEBP' or 'AVIF'."""
    if not features.check(image_format.lower()):
        raise InputError(f"this Pillow was built without {image_format}; install a newer Pillow")
    return _through_pillow(format=image_format, quality=quality)


def _pillow_jpeg(quality: int, subsampling: str) -> Codec:
    return _through_pillow(format="JPEG", quality=quality, subsampling=SUBSAMPLINGS[subsampling])


def _through_pillow(**save: Any) -> Codec:
    def round_trip(pixels: np.ndarray) -> np.ndarray:
        grey = pixels.shape[2] == 1
        stream = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if grey else pixels).save(stream, **save)
        stream.seek(0)
        with Image.open(stream) as image:
            decoded = np.asarray(image.convert("L" if grey else "RGB"))
        return decoded[:, :, None] if grey else decoded

    return round_trip


def _opencv(quality: int, subsampling: str) -> Codec:
    import cv2

    factor = {
        "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
        "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    }[subsampling]
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    encode, decode = cv2.imencode, cv2.imdecode
    colour, grey = cv2.IMREAD_COLOR_RGB, cv2.IMREAD_GRAYSCALE
    swap, code = cv2.cvtColor, cv2.COLOR_RGB2BGR

    def round_trip(pixels: np.ndarray) -> np.ndarray:
        if pixels.shape[2] == 1:
            return cast(np.ndarray, decode(encode(".jpg", pixels, settings)[1], grey))[:, :, None]
        return cast(np.ndarray, decode(encode(".jpg", swap(pixels, code), settings)[1], colour))

    return round_trip


def _simplejpeg(quality: int, subsampling: str) -> Codec:
    import simplejpeg

    def round_trip(pixels: np.ndarray) -> np.ndarray:
        space = "GRAY" if pixels.shape[2] == 1 else "RGB"
        stream = simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels),
            quality=quality,
            colorspace=space,
            colorsubsampling="gray" if space == "GRAY" else subsampling.replace(":", ""),
        )
        return cast(np.ndarray, simplejpeg.decode_jpeg(stream, colorspace=space))

    return round_trip

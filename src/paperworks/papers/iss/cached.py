"""A data set whose pictures are squeezed once and then only read: in memory, on disk, or every time.

Squeezes draw no random numbers, so what was done once need not be done again in every epoch. Files on disk are named by the SHA-256 of
the picture's pixels and of the squeeze's `repr`, so they can be shared by data sets, survive the process and never go stale.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from paperworks.errors import InputError
from paperworks.papers.iss.images import to_pixels
from paperworks.papers.iss.squeeze import Transform


class SqueezedDataset:
    """Any map-style data set of (picture, ...) items, the picture squeezed.

    dataset: anything with `len` and `[index]`; an item is a tuple or list whose first entry is the picture, a dict that holds it under
    `key`, or the picture itself. cache: 'memory' (default), 'disk' (needs `folder`), or 'none'. The picture that comes back is of the
    kind that went in. transform: applied after the squeeze, never cached: crops, flips, colour.
    Works in the workers of a DataLoader; with 'memory' each worker keeps its own, unless `fill()` was called before they started.
    Raises InputError for another cache, for 'disk' without a folder, and for items that hold no picture.
    """

    def __init__(
        self,
        dataset: Any,
        squeeze: Transform,
        *,
        cache: Literal["memory", "disk", "none"] = "memory",
        folder: Path | str | None = None,
        key: str = "image",
        transform: Any = None,
    ) -> None:
        if cache not in ("memory", "disk", "none"):
            raise InputError(f"cache is memory, disk or none, not {cache!r}")
        if cache == "disk" and folder is None:
            raise InputError("a cache on disk needs folder=")
        self.dataset, self.squeeze, self.cache, self.key, self.transform = dataset, squeeze, cache, key, transform
        self.folder = Path(folder) if folder is not None else None
        self._kept: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if self.cache == "memory" and index in self._kept:
            item = self._kept[index]  # the whole item: the wrapped data set is not touched again
        else:
            item = self._squeezed(self.dataset[index])
            if self.cache == "memory":
                self._kept[index] = item
        if self.transform is None:
            return item
        return self._with(item, self.transform(self._picture(item)))

    def fill(self) -> SqueezedDataset:
        """Squeeze everything now, for example before workers are forked. Returns itself."""
        for index in range(len(self)):
            item = self._squeezed(self.dataset[index])
            if self.cache == "memory":
                self._kept[index] = item
        return self

    def _squeezed(self, item: Any) -> Any:
        picture = self._picture(item)
        return self._with(item, self.squeeze(picture) if self.folder is None else self._through_disk(picture))

    def _through_disk(self, picture: Any) -> Any:
        assert self.folder is not None
        pixels = to_pixels(picture)
        digest = hashlib.sha256(f"{self.squeeze!r} {pixels.shape}".encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
        name = digest.hexdigest()
        place = self.folder / name[:2] / f"{name}.npy"
        try:
            squeezed = np.load(place, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # absent, or cut short by somebody else's crash
            squeezed = self.squeeze.pixels(pixels)
            place.parent.mkdir(parents=True, exist_ok=True)
            half = place.with_name(f".{name}.{os.getpid()}.part")
            with open(half, "wb") as file:
                np.save(file, squeezed)
            half.replace(place)
        return _as_kind(picture, squeezed)

    def _picture(self, item: Any) -> Any:
        if isinstance(item, dict):
            if self.key not in item:
                raise InputError(f"items have no {self.key!r}; they have {', '.join(map(str, item))}: pass key=")
            return item[self.key]
        if isinstance(item, tuple | list):
            if not item:
                raise InputError("an item of the data set is empty")
            return item[0]
        return item

    def _with(self, item: Any, picture: Any) -> Any:
        if isinstance(item, dict):
            return {**item, self.key: picture}
        if hasattr(item, "_fields"):  # a named tuple
            return item._replace(**{item._fields[0]: picture})
        if isinstance(item, tuple | list):
            return type(item)((picture, *item[1:]))
        return picture


def squeeze_batch(batch: dict[str, Any], squeeze: Transform, key: str = "image") -> dict[str, Sequence[Any]]:
    """For `datasets.Dataset.map(squeeze_batch, batched=True, fn_kwargs={"squeeze": JPEG(10)})`: the column `key` squeezed.

    The fingerprint of the mapped data set is stable, since a squeeze pickles to the same bytes each time.
    """
    if key not in batch:
        raise InputError(f"the batch has no column {key!r}; it has {', '.join(batch)}: pass fn_kwargs={{'key': ...}}")
    return {**batch, key: [squeeze(picture) for picture in batch[key]]}


def _as_kind(like: Any, pixels: np.ndarray) -> Any:
    """Pixels (H, W, C) as the kind of picture that `like` is."""
    if isinstance(like, Image.Image):
        return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if isinstance(like, np.ndarray):
        return pixels[..., 0] if like.ndim == 2 else pixels
    import torch

    return torch.from_numpy(pixels).movedim(-1, -3).contiguous().to(like.device)

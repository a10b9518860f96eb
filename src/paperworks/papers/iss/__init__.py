"""Train on pictures that you cannot fully trust: squeeze out perturbations that give the label away, and see whether they are there.

Squeezes work on PIL images, uint8 arrays and tensors, over folders, and in data sets; poisons and the detector are for testing them.

>>> from paperworks.papers.iss import JPEG, LSP, detect, scenes
>>> images, labels = scenes(400, classes=10)
>>> poisoned = LSP(seed=0).fit_transform(images, labels)
>>> detect(poisoned, labels).verdict
'poisoned-like'
>>> JPEG(quality=10)(poisoned).shape
(400, 32, 32, 3)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from paperworks.errors import MissingExtra

try:
    from paperworks.papers.iss.cached import SqueezedDataset, squeeze_batch
    from paperworks.papers.iss.detect import PoisonReport, detect, squeeze_for
    from paperworks.papers.iss.folder import FolderReport, squeeze_folder
    from paperworks.papers.iss.poisons import AR, LSP, OPS, Given, Poison
    from paperworks.papers.iss.spectrum import band_energy, chroma_share, high_share
    from paperworks.papers.iss.squeeze import (
        JPEG,
        BitDepth,
        Blur,
        ChromaDepth,
        Codec,
        Compose,
        Grayscale,
        Resize,
        Transform,
        parse,
    )
    from paperworks.papers.iss.toy import scenes
except ModuleNotFoundError as error:
    if error.name and error.name.partition(".")[0] == "PIL":
        raise MissingExtra("papers.iss", "images") from error
    raise

if TYPE_CHECKING:
    from paperworks.papers.iss.differentiable import differentiable_gray, differentiable_jpeg
    from paperworks.papers.iss.poisons.adversarial import TAP, hypocritical, sep
    from paperworks.papers.iss.poisons.em import EM
    from paperworks.papers.iss.study import Cell, as_markdown, benchmark, train_squeezed

__all__ = [
    "AR",
    "EM",
    "JPEG",
    "LSP",
    "OPS",
    "TAP",
    "BitDepth",
    "Blur",
    "Cell",
    "ChromaDepth",
    "Codec",
    "Compose",
    "FolderReport",
    "Given",
    "Grayscale",
    "Poison",
    "PoisonReport",
    "Resize",
    "SqueezedDataset",
    "Transform",
    "as_markdown",
    "band_energy",
    "benchmark",
    "chroma_share",
    "detect",
    "differentiable_gray",
    "differentiable_jpeg",
    "high_share",
    "hypocritical",
    "parse",
    "scenes",
    "sep",
    "squeeze_batch",
    "squeeze_folder",
    "squeeze_for",
    "train_squeezed",
]

_WITH_TORCH = {
    "differentiable": ("differentiable_gray", "differentiable_jpeg"),
    "poisons.adversarial": ("TAP", "hypocritical", "sep"),
    "poisons.em": ("EM",),
    "study": ("Cell", "as_markdown", "benchmark", "train_squeezed"),
}


def __getattr__(name: str) -> Any:
    for module, names in _WITH_TORCH.items():
        if name in names:
            try:
                return getattr(import_module(f"{__name__}.{module}"), name)
            except ModuleNotFoundError as error:
                if error.name == "torch":
                    raise MissingExtra(f"papers.iss.{name}", "nn") from error
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

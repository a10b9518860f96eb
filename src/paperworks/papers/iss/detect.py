"""Say whether a labelled set of pictures looks poisoned, of what kind, and which squeeze to take. No clean data needed.

The rule, fixed by measurement on clean and poisoned CIFAR-10, MNIST, Fashion-MNIST and digits (README): a probe accuses when
its held-out accuracy is well above chance and a squeeze takes half of that away. What it cannot see it does not clear: adversarial
poisons of a trained surrogate (TAP) leave linear probes blind, and the answer is then 'no evidence'.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.claims.files import write_atomically
from paperworks.errors import InputError
from paperworks.papers.iss.images import to_pixels
from paperworks.papers.iss.probes import Probe, fixed_pixels, probe_colour, probe_edges, probe_recursion
from paperworks.papers.iss.squeeze import Transform, parse
from paperworks.progress import Progress, silent

POISONED, SUSPICIOUS = 0.25, 0.08  # excess over chance from which a probe accuses, or raises a doubt
PART = 0.15  # the same for grayscale and JPEG alike, which raises a doubt
RECURSION = 0.30  # the same for the recursion probe, which clean photographs and digits get partly right
DROP = 0.5  # share of its knowledge that a squeeze must take away
FEWEST = 20  # pictures a class
SMALLEST = 16  # pixels a side, for the recursion probe


@dataclass(frozen=True)
class PoisonReport:
    """What was found.

    verdict: 'poisoned-like', 'suspicious', 'no evidence' or 'insufficient data'. kind: 'patch', 'low-frequency/colour', 'high-frequency',
    'sparse-pixel' or 'unknown'. squeeze: name of the squeeze to take (`squeeze.parse` reads it), 'none' without evidence. n: pictures looked at.
    probes: their answers. pixels: (class, row, column) of fixed pixels. notes: what a reader must know.
    """

    verdict: str
    kind: str
    squeeze: str
    n: int
    classes: int
    probes: dict[str, Probe] = field(default_factory=dict)
    pixels: list[tuple[int, int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    def save(self, path: Path | str) -> None:
        """Write it as JSON, aside and then renamed."""
        write_atomically(Path(path), json.dumps(self.to_dict(), indent=1))

    def summary(self) -> str:
        """A few lines for people."""
        lines = [f"{self.verdict} ({self.kind}); squeeze: {self.squeeze}; {self.n} pictures of {self.classes} classes"]
        for probe in self.probes.values():
            after = ", ".join(f"{name} {100 * value:.0f} %" for name, value in probe.squeezed.items())
            lines.append(
                f"  {probe.name}: {100 * probe.accuracy:.0f} % held out ({100 * probe.low:.0f} to {100 * probe.high:.0f}), "
                f"chance {100 * probe.chance:.0f} %; after {after}"
            )
        if self.pixels:
            lines.append(f"  {len(self.pixels)} pixels are fixed within one class, the first at {self.pixels[0]}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def detect(images: Any, labels: Any, *, n: int = 5000, seed: int = 0, progress: Progress = silent) -> PoisonReport:
    """Probe a sample of a labelled set for poisons.

    images: uint8 (N, h, w, c) or (N, h, w), or a sequence of pictures of any kind (other sizes than the commonest are resized for the probes
    alone). labels (N,) of any kind. n: pictures sampled, in the proportions of the classes. seed: of the sample and of its halves.
    Raises InputError when labels and pictures do not match in number. Too little data gives the verdict 'insufficient data'.
    """
    names = np.asarray(labels)
    if names.ndim != 1 or len(names) != len(images):
        raise InputError(f"there are {len(images)} pictures but labels of shape {names.shape}")
    classes, y = np.unique(names, return_inverse=True)
    counts = np.bincount(y, minlength=len(classes)) if len(y) else np.zeros(0, int)
    if len(classes) < 2 or counts.min() < FEWEST:
        return _too_little(len(names), len(classes), "a verdict needs two classes and 20 pictures in each")
    rng = np.random.default_rng(seed)
    rows = _sample(y, n, rng)
    pictures, y = _stack(images, rows), y[rows]
    if (pictures == pictures[0]).all():
        return _too_little(len(rows), len(classes), "all pictures are the same")
    test = np.zeros(len(rows), bool)
    test[rng.permutation(len(rows))[: len(rows) // 3]] = True
    probes: dict[str, Probe] = {}
    asked = {"edges": probe_edges, "recursion": probe_recursion, "colour": probe_colour}
    if min(pictures.shape[1:3]) < SMALLEST:
        del asked["recursion"]
    if pictures.shape[-1] == 1:
        del asked["colour"]
    for done, (name, ask) in enumerate(asked.items()):
        progress(done, len(asked) + 1, name)
        probes[name] = ask(pictures[~test], y[~test], pictures[test], y[test], len(classes))
    pixels = fixed_pixels(pictures, y, len(classes))
    progress(len(asked) + 1, len(asked) + 1, "fixed pixels")
    return _judged(probes, pixels, len(rows), len(classes))


def squeeze_for(report: PoisonReport) -> Transform:
    """The squeeze that a report asks for: `Compose(())`, which changes nothing, without evidence."""

    return parse(report.squeeze)


def _judged(probes: dict[str, Probe], pixels: list[tuple[int, int, int]], n: int, classes: int) -> PoisonReport:
    edges, recursion, colour = probes["edges"], probes.get("recursion"), probes.get("colour")
    accused = edges.largest_drop >= DROP and edges.excess >= POISONED
    doubted = edges.largest_drop >= DROP and edges.excess >= SUSPICIOUS
    # strong patches outlive a squeeze in part; clean detail loses nothing to grayscale, or says little to begin with
    doubted |= edges.excess >= POISONED and min(edges.drop("gray"), edges.drop("jpeg:10")) >= PART
    recursive = recursion is not None and recursion.drop("jpeg:10") >= DROP and recursion.excess >= RECURSION
    verdict = (
        "poisoned-like"
        if accused or recursive or len(pixels) >= classes / 2
        else "suspicious"
        if doubted or pixels
        else "no evidence"
    )
    kind, squeeze, notes = "unknown", "none", []
    if verdict != "no evidence":
        by_edges = doubted  # else only the recursion spoke
        if pixels or (by_edges and edges.drop("median") >= DROP and edges.drop("gray") < DROP):
            kind, squeeze = "sparse-pixel", "jpeg:10"
        elif by_edges and edges.drop("gray") >= PART:
            patchy = colour is not None and colour.excess >= 0.5
            kind, squeeze = ("patch" if patchy else "low-frequency/colour"), "gray"
        else:
            kind, squeeze = "high-frequency", "jpeg:10"
        notes.append(
            "The squeeze costs some accuracy on clean pictures; train with and without it and compare on pictures you trust."
        )
    else:
        notes.append("This clears nothing: adversarial poisons of a trained network are invisible to these probes.")
    return PoisonReport(verdict, kind, squeeze, n, classes, probes, pixels, notes)


def _too_little(n: int, classes: int, why: str) -> PoisonReport:
    return PoisonReport("insufficient data", "unknown", "none", n, classes, notes=[why[0].upper() + why[1:] + "."])


def _sample(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of at most n pictures, each class in its proportion but with 20 or more."""
    if len(y) <= n:
        return np.arange(len(y))
    share = n / len(y)
    chosen = [
        rng.permutation(np.flatnonzero(y == code))[: max(FEWEST, round(share * int((y == code).sum())))]
        for code in np.unique(y)
    ]
    return np.sort(np.concatenate(chosen))


def _stack(images: Any, rows: np.ndarray) -> np.ndarray:
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim in (3, 4):
        chosen = images[rows]
        return chosen if chosen.ndim == 4 else chosen[..., None]
    several: Sequence[np.ndarray] = [to_pixels(images[int(row)]) for row in rows]
    several = [one if one.ndim == 3 else one[..., None] for one in several]
    shapes = [one.shape for one in several]
    commonest = max(set(shapes), key=shapes.count)
    return np.stack([one if one.shape == commonest else _fitted(one, commonest) for one in several])


def _fitted(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image = image.convert("L" if shape[2] == 1 else "RGB").resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)

"""What a claim's function is given and what it returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np

from paperworks.errors import ClaimError, InputError
from paperworks.progress import Progress, silent

T = TypeVar("T")
Value = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one curve or bar group, for a plot. Series that name the same `plot` are drawn together.

    y (n,) floats; x (n,) floats or labels, by default 0 .. n-1.
    """

    y: Sequence[float]
    x: Sequence[float] | Sequence[str] | None = None
    plot: str = ""  # title of the plot; empty: the series' own name
    kind: Literal["line", "scatter", "bar"] = "line"
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False

    def __post_init__(self) -> None:
        if self.x is not None and len(self.x) != len(self.y):
            raise ClaimError(f"a series has {len(self.x)} x and {len(self.y)} y values; they must be as many")


@dataclass(frozen=True)
class Measurement:
    """What was measured once, with one seed.

    values: the names that the claim's rules speak of, each a finite number, a truth value or a short text.
    series: curves for plots, by name; a bare sequence of floats becomes a line over 0 .. n-1.
    notes: what a reader must know to judge the number ('subsample of 10,000 rows').
    """

    values: Mapping[str, Value]
    series: Mapping[str, Series | Sequence[float]] = field(default_factory=dict)
    notes: str = ""

    def __post_init__(self) -> None:
        if not self.values:
            raise ClaimError("a measurement must return at least one value")
        for name, value in self.values.items():
            if not name.isidentifier():
                raise ClaimError(f"value name {name!r} must be a Python identifier, so that a rule can speak of it")
            if isinstance(value, np.generic):
                raise ClaimError(f"value {name!r} is a NumPy scalar; give float(...) or int(...)")
            if not isinstance(value, (bool, int, float, str)):
                raise ClaimError(f"value {name!r} is a {type(value).__name__}; give a number, a truth value or a text")
            if isinstance(value, float) and math.isnan(value):
                raise ClaimError(
                    f"value {name!r} is not a number; raise an error that says why instead of returning NaN"
                )

    def curves(self) -> dict[str, Series]:
        """All series in the full form."""
        return {name: item if isinstance(item, Series) else Series(list(item)) for name, item in self.series.items()}


class DataFinder(Protocol):
    """Finds data sets for a claim: the user's folder first, then what the Hugging Face hub has."""

    def path(self, name: str) -> Path:
        """The file or folder `name` ('tabular/concrete.csv.gz') in the data folder.

        Raises DataMissing, which says where it was looked for and how to get it.
        """

    def has(self, name: str) -> bool: ...


class Checkpoint(Protocol):
    """Keeps partial results of a run, so that an interrupted one goes on where it was."""

    def get(self, key: str) -> object | None:
        """What was put under `key` earlier by this claim, scale and seed (JSON values), or None."""

    def put(self, key: str, value: object) -> None:
        """Keep a JSON value, written atomically."""

    @property
    def folder(self) -> Path:
        """A folder of this run's own for larger files (weights, arrays)."""


@dataclass(frozen=True)
class Run:
    """What a claim's function is given.

    scale: 'smoke' (seconds, made-up data), 'cpu' (minutes on two cores) or 'gpu' (the paper's own setting).
    seed: differs between repeats; `rng` is a fresh generator made from it.
    progress, data, checkpoint: see their protocols.
    """

    scale: Literal["smoke", "cpu", "gpu"]
    seed: int
    data: DataFinder
    checkpoint: Checkpoint
    progress: Progress = silent
    device: str = "cpu"  # where networks run: 'cpu', or 'cuda' at scale gpu when there is one
    used: list[str] = field(default_factory=list)  # data sets that were used; the record names them

    @property
    def rng(self) -> np.random.Generator:
        """A new generator seeded by `seed`; two calls give the same stream."""
        return np.random.default_rng(self.seed)

    def at(self, *, smoke: T, cpu: T, gpu: T | None = None) -> T:
        """The value for this run's scale; without `gpu` the largest scale uses that of `cpu`."""
        if self.scale == "smoke":
            return smoke
        if self.scale == "cpu" or gpu is None:
            return cpu
        return gpu


ClaimFunction = Callable[[Run], Measurement]
F = TypeVar("F", bound=ClaimFunction)
CLAIM_ATTRIBUTE = "__paperworks_claim__"


def claim(claim_id: str) -> Callable[[F], F]:
    """Mark a function of `reproduce.py` as the measurement of the claim `claim_id` of that paper's `paper.toml`."""
    if not isinstance(claim_id, str) or not claim_id:
        raise InputError(f'@claim takes the id of a claim in paper.toml, as in @claim("converges"); got {claim_id!r}')

    def mark(function: F) -> F:
        setattr(function, CLAIM_ATTRIBUTE, claim_id)
        return function

    return mark

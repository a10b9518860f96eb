"""The step schedules: how long step t is, relative to the spectral norm of the sub-gradient matrix.

`geometric` is the paper's; `constant`, `diminishing` and `polyak` are for comparison; `auto` waits for growth to end before it decays.
A schedule keeps its whole state in plain numbers, so that a checkpoint can hold it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from paperworks.errors import InputError

Step = Literal["auto", "geometric", "constant", "diminishing", "polyak"]
ESCAPE, DECAY, POLISH = 0, 1, 2  # the phases of a run, as `history["phase"]` has them


@dataclass
class Schedule:
    """Gives eta_t, call by call; None when the round is over.

    kind: see `Step`; eta0: first step; rho: factor of each decay; patience: steps without growth until `auto` decays;
    eta_end: where a decaying schedule ends; growth: by how much the size must grow to count.
    """

    kind: Step
    eta0: float
    rho: float
    patience: int = 10
    eta_end: float = 1e-12
    growth: float = 1.01
    phase: int = ESCAPE
    t: int = 0
    eta: float = 0.0
    peak: float = 0.0
    still: int = 0

    def __post_init__(self) -> None:
        self.eta = self.eta or self.eta0
        if self.kind != "auto":
            self.phase = DECAY

    def next(self, size: float) -> float | None:
        """The step length at a point of size ||U U^T||_F. For `polyak` it is a factor on the step that the loss gives."""
        t, self.t = self.t, self.t + 1
        if self.kind == "constant":
            return self.eta0
        if self.kind == "polyak":
            return 1.0
        if self.kind == "diminishing":
            self.eta = self.eta0 / (t + 1) ** 0.5
            return self.eta
        if self.kind == "geometric":
            self.eta = self.eta0 * self.rho**t
            return self.eta if self.eta >= self.eta_end else None
        if self.phase == ESCAPE:
            if size > self.growth * self.peak:
                self.peak, self.still = size, 0
            else:
                self.still += 1
            if self.still >= self.patience:
                self.phase = DECAY
            return self.eta
        self.eta *= self.rho
        return self.eta if self.eta >= self.eta_end else None

    def state(self) -> dict[str, float | int | str]:
        """All fields, to be kept in a checkpoint; `Schedule(**state)` goes on from there."""
        return asdict(self)


def checked(kind: str, eta0: float, rho: float) -> None:
    """Raise InputError unless these make a schedule."""
    if kind not in ("auto", "geometric", "constant", "diminishing", "polyak"):
        raise InputError(f"step must be auto, geometric, constant, diminishing or polyak, got {kind!r}")
    if not 0 < eta0 < 1:
        raise InputError(f"eta0 must lie between 0 and 1, got {eta0}; 0.1 suits most problems")
    if not 0 < rho < 1:
        raise InputError(f"rho must lie between 0 and 1, got {rho}; 0.9 suits dense measurements, 0.96 tables")

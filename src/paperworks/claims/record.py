"""The record of one run: what was claimed, what was measured, on what, and the verdict. One JSON file a run."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from paperworks.catalogue import ClaimSpec, Printed, Scale
from paperworks.claims.environment import Environment
from paperworks.claims.files import write_atomically
from paperworks.claims.verdict import Verdict
from paperworks.errors import ClaimError, StoreError

SCHEMA_VERSION = 1
State = Literal["done", "skipped", "failed"]
# done: measured (at 'smoke' without a verdict). skipped: something is missing, `reason` says what. failed: `error` says why.
Kind = Literal["number", "truth", "text"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")


class ValueSummary(_Frozen):
    """One measured value over the seeds.

    Of numbers: mean, spread (sample standard deviation; None with one seed), min, max. Of truth values: `mean` is the share of
    seeds that gave true. Of texts: per_seed alone.

    >>> ValueSummary.over([1.0, 3.0]).text, ValueSummary.over([True, True, False]).text, ValueSummary.over(["a", "a"]).text
    ('2 ± 1.41', '2 of 3 true', 'a')
    """

    kind: Kind
    per_seed: tuple[bool | int | float | str, ...]
    mean: float | None = None
    spread: float | None = None
    min: float | None = None
    max: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _infinities_are_numbers(cls, raw: object) -> object:
        # JSON has no infinity: it is written as a text, and a number must come back
        if isinstance(raw, dict) and raw.get("kind") == "number" and isinstance(raw.get("per_seed"), (list, tuple)):
            return raw | {"per_seed": [float(item) if isinstance(item, str) else item for item in raw["per_seed"]]}
        return raw

    @classmethod
    def over(cls, values: Sequence[bool | int | float | str]) -> ValueSummary:
        """Summarise one value of all seeds. Raises ClaimError when the seeds gave different kinds."""
        kinds = {kind_of(value) for value in values}
        if len(kinds) != 1:
            raise ClaimError(f"a value must be of one kind over all seeds, got {', '.join(sorted(kinds)) or 'none'}")
        kind = kinds.pop()
        if kind == "text":
            return cls(kind=kind, per_seed=tuple(values))
        numbers = [float(value) for value in values]
        if kind == "truth":
            return cls(kind=kind, per_seed=tuple(values), mean=statistics.fmean(numbers))
        spread = None
        if len(numbers) > 1 and all(map(math.isfinite, numbers)):
            spread = statistics.stdev(numbers)
        return cls(
            kind=kind,
            per_seed=tuple(values),
            mean=sum(numbers) / len(numbers),
            spread=spread,
            min=min(numbers),
            max=max(numbers),
        )

    @property
    def text(self) -> str:
        """The value for people: mean and spread of a number, how many seeds agree on a truth value, the texts."""
        if self.kind == "text":
            return ", ".join(dict.fromkeys(str(item) for item in self.per_seed))
        if self.kind == "truth":
            n_true = sum(bool(item) for item in self.per_seed)
            if n_true in (0, len(self.per_seed)):
                return "true" if n_true else "false"
            return f"{n_true} of {len(self.per_seed)} true"
        mean = number(self.mean if self.mean is not None else math.nan)
        return mean if self.spread is None else f"{mean} ± {number(self.spread, 3)}"


class SeriesRecord(_Frozen):
    """One curve or bar group over the seeds, for plots.

    y: a tuple of floats a seed; x: one tuple when all seeds share it, else one a seed; floats or labels.
    """

    x: tuple[tuple[float | str, ...], ...]
    y: tuple[tuple[float, ...], ...]
    plot: str
    kind: Literal["line", "scatter", "bar"] = "line"
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False

    @property
    def aligned(self) -> bool:
        """Whether all seeds have the same x, so that a mean over seeds makes sense."""
        return len(self.x) == 1


class Record(_Frozen):
    """One run of one claim at one scale over some seeds."""

    schema_version: Literal[1] = 1
    slug: str
    paper_title: str
    claim: str
    statement: str
    metric: str
    printed: Printed
    reproduced_rule: str  # as they stood when this was measured
    refuted_rule: str
    scale: Scale
    seeds: tuple[int, ...]
    state: State
    verdict: Verdict
    reason: str = ""  # why there is no verdict, or what is odd about it
    error: str = ""  # the traceback of a failed run
    values: dict[str, ValueSummary] = {}
    seed_verdicts: tuple[Verdict, ...] = ()  # what each seed alone would have given, in the order of `seeds`
    series: dict[str, SeriesRecord] = {}
    notes: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    resumed_seeds: tuple[int, ...] = ()  # taken over from an interrupted run of the same code
    environment: Environment
    started: datetime
    ended: datetime
    duration_s: float  # of measuring, over all seeds, time before an interruption included

    @field_validator("started", "ended")
    @classmethod
    def _times_are_utc(cls, moment: datetime) -> datetime:
        if moment.tzinfo is None:
            raise ValueError("times carry their zone; write UTC as in 2026-01-31T12:00:00Z")
        return moment.astimezone(UTC)

    @property
    def name(self) -> str:
        """The file name without its folder: slug, claim, scale, when it ended."""
        return f"{self.slug}--{self.claim}--{self.scale}--{self.ended:%Y%m%dT%H%M%SZ}.json"

    @property
    def has_verdict(self) -> bool:
        return self.state == "done" and self.verdict != "not-measured"

    def has_rules_of(self, spec: ClaimSpec) -> bool:
        """Whether the verdict was given under the rules that `paper.toml` has now."""
        now = (" ".join(spec.reproduced.split()), " ".join(spec.refuted.split()))
        return now == (" ".join(self.reproduced_rule.split()), " ".join(self.refuted_rule.split()))

    def save(self, folder: Path) -> Path:
        """Write the record as `folder/<slug>/<name>`, whole or not at all, never over another one; returns the path.

        Raises StoreError when the folder cannot be written.
        """
        path = folder / self.slug / self.name
        n_same_second = 1
        try:
            while path.exists():
                n_same_second += 1
                path = path.with_name(f"{self.name.removesuffix('.json')}-{n_same_second}.json")
            write_atomically(path, self.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise StoreError(
                f"the record cannot be written to {path}: {error.strerror or error}; free some space, or name another folder"
            ) from error
        return path

    @classmethod
    def read(cls, path: Path | str | os.PathLike[str]) -> Record:
        """Read one record. Raises StoreError that names the file and what is wrong with it."""
        path = Path(path)
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise StoreError(f"the record {path} cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
            raise StoreError(
                f"{path} is not a record of schema {SCHEMA_VERSION}: {place + ': ' if place else ''}{first['msg']}{more}; "
                "move it away or measure again"
            ) from error


def kind_of(value: object) -> Kind:
    """What kind of value a measurement holds."""
    if isinstance(value, bool):
        return "truth"
    return "text" if isinstance(value, str) else "number"


def number(value: float, digits: int = 4) -> str:
    """A number for people, `digits` significant digits.

    >>> number(83.87), number(0.000012345), number(1234567.0), number(3)
    ('83.87', '1.234e-05', '1.235e+06', '3')
    """
    if not math.isfinite(value):
        return {True: "∞", False: "−∞"}[value > 0] if not math.isnan(value) else "–"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.{digits}g}"

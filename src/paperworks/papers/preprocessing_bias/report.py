"""What the audit found, as numbers, a sentence that a reviewer understands, a table and a plot."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError, MissingExtra

BiasVerdict = Literal["leak", "optimistic", "pessimistic", "negligible"]


@dataclass(frozen=True, slots=True)
class StepShare:
    """How much of the gap comes from one step: outside alone, and its Shapley value (None with more than five steps)."""

    step: str
    alone: float
    shapley: float | None


@dataclass(frozen=True)
class PreprocessingBiasReport:
    """Scores are greater-is-better; a positive gap or bias means that the naive score looks better than it should.

    naive_, proper_: mean cross-validated scores; gap_ = naive_ - proper_ with gap_ci_ and the sign-flip p_value_.
    bias_ with bias_ci_: the paper's, naive score minus that of the same fitted models on held-out rows, at n_effective_ rows.
    """

    outside_: tuple[str, ...]
    supervised_: tuple[str, ...]  # steps that look at y, wherever they are fitted
    scoring_: str
    naive_: float
    proper_: float
    holdout_: float
    gap_: float
    gap_ci_: tuple[float, float]
    bias_: float
    bias_ci_: tuple[float, float]
    p_value_: float
    steps_: tuple[StepShare, ...]
    extrapolation_: tuple[float, float] | None  # (a, c) of bias = a + c / n
    n_rows_: int
    n_effective_: int
    n_repeats_: int
    ci_level_: float
    time_series_: bool = False
    failures_: tuple[str, ...] = ()  # folds in which a proper step could not be fitted
    gaps_: np.ndarray = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    biases_: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)

    @property
    def leaking_(self) -> tuple[str, ...]:
        """Steps that look at y and were fitted outside the folds."""
        return tuple(name for name in self.outside_ if name in self.supervised_)

    @property
    def bias_pct_(self) -> float:
        """The bias in percent of the held-out score's size."""
        return 100 * self.bias_ / abs(self.holdout_) if self.holdout_ else math.nan

    @property
    def verdict_(self) -> BiasVerdict:
        """'leak' when a step outside looks at y; else by whether the interval of the bias or of the gap leaves out zero."""
        if self.leaking_:
            return "leak"
        for low, high in (self.bias_ci_, self.gap_ci_):
            if low > 0:
                return "optimistic"
            if high < 0:
                return "pessimistic"
        return "negligible"

    @property
    def sentence_(self) -> str:
        """The finding in words."""
        if not self.outside_:
            return "No step was fitted outside the folds, so there is nothing that could bias the score."
        steps = ", ".join(self.outside_)
        amount = f"{self.bias_:+.4g} ({self.ci_level_:.0%} interval {self.bias_ci_[0]:+.4g} to {self.bias_ci_[1]:+.4g})"
        where = f"at {self.n_effective_} rows"
        if self.verdict_ == "leak":
            text = (
                f"Leak: {', '.join(self.leaking_)} looks at y and was fitted outside the folds. The {self.scoring_} of "
                f"{self.naive_:.4g} would be {self.proper_:.4g} if it were inside."
            )
        elif self.verdict_ == "negligible":
            text = (
                f"Fitting {steps} outside the folds changed the {self.scoring_} by {amount} {where}: "
                "no bias could be told from chance."
            )
        else:
            text = f"Fitting {steps} outside the folds makes the {self.scoring_} {self.verdict_} by {amount} {where}."
        if self.time_series_:
            text += " The folds are ordered in time, so a step fitted on all rows has seen the future."
        if self.failures_:
            text += f" In {len(self.failures_)} folds a step could not be fitted on the training rows alone."
        return text

    def at(self, n: int) -> float:
        """The bias extrapolated to n rows by a + c / n. Raises InputError without `extrapolate=True`."""
        if self.extrapolation_ is None:
            raise InputError("the bias at other sizes was not measured; run the audit with extrapolate=True")
        a, c = self.extrapolation_
        return a + c / n

    def corrected(self) -> float:
        """The naive score less the estimated bias, for when fitting the steps in every fold is too dear."""
        return self.naive_ - self.bias_

    def raise_if(self, threshold: float = 0.02) -> None:
        """Raise AssertionError when a step leaks, or the interval of the bias lies beyond +- threshold."""
        low, high = self.bias_ci_
        if self.leaking_ or low > threshold or high < -threshold:
            raise AssertionError(self.sentence_)

    def rows(self) -> list[dict[str, Any]]:
        """The numbers as rows with name, value, low, high."""
        rows: list[dict[str, Any]] = [
            {"name": "naive", "value": self.naive_, "low": None, "high": None},
            {"name": "proper", "value": self.proper_, "low": None, "high": None},
            {"name": "held out", "value": self.holdout_, "low": None, "high": None},
            {"name": "gap", "value": self.gap_, "low": self.gap_ci_[0], "high": self.gap_ci_[1]},
            {"name": "bias", "value": self.bias_, "low": self.bias_ci_[0], "high": self.bias_ci_[1]},
        ]
        rows += [
            {"name": f"gap of {share.step} alone", "value": share.alone, "low": None, "high": None}
            for share in self.steps_
        ]
        return rows

    def to_frame(self) -> Any:
        """The rows as a data frame. Raises MissingExtra without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("to_frame", "peers") from error
        return pd.DataFrame(self.rows()).set_index("name")

    def to_markdown(self) -> str:
        """The sentence and a table."""
        lines = [self.sentence_, "", "| | value | low | high |", "| --- | ---: | ---: | ---: |"]
        lines += [
            f"| {r['name']} | {_show(r['value'])} | {_show(r['low'])} | {_show(r['high'])} |" for r in self.rows()
        ]
        return "\n".join(lines) + "\n"

    def plot(self) -> str:
        """An SVG: gap and bias with their intervals against zero."""
        bars = [("gap: naive - proper", self.gap_, self.gap_ci_), ("bias: naive - held out", self.bias_, self.bias_ci_)]
        finite = [abs(v) for _, mid, ci in bars for v in (mid, *ci) if math.isfinite(v)]
        reach = 1.15 * max([*finite, 1e-12])

        def place(value: float) -> float:
            return 330 + 210 * max(-1.0, min(1.0, value / reach))

        parts = [
            (
                '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 120" role="img" font-family="sans-serif" '
                'font-size="12" fill="currentColor">'
            ),
            f"<title>{html.escape(self.sentence_)}</title>",
            '<line x1="330" y1="10" x2="330" y2="92" stroke="currentColor" stroke-dasharray="2 3"/>',
        ]
        for index, (label, mid, (low, high)) in enumerate(bars):
            y = 30 + 36 * index
            parts += [
                f'<text x="4" y="{y + 4}">{label}</text>',
                f'<line x1="{place(low):.1f}" y1="{y}" x2="{place(high):.1f}" y2="{y}" stroke="currentColor" stroke-width="2"/>',
                f'<circle cx="{place(mid):.1f}" cy="{y}" r="4.5"/>',
            ]
        parts += [
            f'<text x="120" y="112">pessimistic {-reach:.2g}</text>',
            '<text x="330" y="112" text-anchor="middle">0</text>',
            f'<text x="552" y="112" text-anchor="end">{reach:.2g} optimistic</text>',
            "</svg>",
        ]
        return "".join(parts)


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

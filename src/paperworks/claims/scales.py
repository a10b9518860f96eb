"""Axes of a plot: where a value lies, which ticks to draw and what to write at them. Pure arithmetic, no drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values between `low` and `high` onto 0 .. 1."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(tick_text(tick, self.ticks, self.log) for tick in self.ticks)


def linear(values: Iterable[float], n_ticks: int = 6, include_zero: bool = False) -> Axis:
    """A linear axis around `values`, its ends and ticks at 1, 2 or 5 times a power of ten.

    >>> linear([0.3, 9.7]).ticks
    (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if include_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if not high - low > max(1e-12 * max(abs(low), abs(high)), 1e-300):
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    step = _nice((high / n_ticks) - (low / n_ticks))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def logarithmic(values: Iterable[float], n_ticks: int = 7) -> Axis:
    """A logarithmic axis around the positive `values`: decades, every second, third ... of many, 1-2-5 steps inside few.

    >>> logarithmic([3e-6, 0.5]).ticks
    (1e-06, 1e-05, 0.0001, 0.001, 0.01, 0.1, 1.0)
    >>> logarithmic([2.0, 30.0]).ticks
    (2.0, 5.0, 10.0, 20.0, 50.0)
    """
    positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    first, last = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    if last - first <= 2:
        steps = [m * 10.0**power for power in range(first - 1, last + 1) for m in (1.0, 2.0, 5.0)]
        below = [step for step in steps if step <= min(positive) * (1 + 1e-9)]
        above = [step for step in [*steps, 10.0 ** (last + 1)] if step >= max(positive) * (1 - 1e-9)]
        start, end = below[-1], above[0]
        if start == end:
            start, end = start / 10, end * 10
        inside = tuple(float(f"{step:.12g}") for step in [*steps, end] if start <= step <= end)
        return Axis(start, end, tuple(dict.fromkeys(inside)), log=True)
    every = math.ceil((last - first) / n_ticks)
    last = first + every * math.ceil((last - first) / every)
    return Axis(
        10.0**first, 10.0**last, tuple(float(f"1e{power}") for power in range(first, last + 1, every)), log=True
    )


def tick_text(tick: float, ticks: tuple[float, ...] = (), log: bool = False) -> str:
    """What stands at a tick: as many decimals as the ticks need, powers of ten when numbers are long.

    >>> tick_text(1e-6, log=True), tick_text(0.5, (0.0, 0.25, 0.5)), tick_text(20000.0, (0.0, 20000.0)), tick_text(-2.0)
    ('10⁻⁶', '0.50', '20,000', '−2')
    """
    if log and tick > 0 and not 1e-3 <= tick < 1e5:
        power = math.floor(math.log10(tick) + 1e-9)
        factor = round(tick / 10.0**power)
        return f"{'' if factor == 1 else f'{factor}·'}10{str(power).translate(_SUPERSCRIPTS)}"
    if log:
        return f"{tick:,.10g}"
    largest = max((abs(item) for item in ticks), default=abs(tick))
    if tick and largest and not 1e-3 <= largest < 1e6:
        power = math.floor(math.log10(largest) + 1e-9)
        return f"{tick / 10.0**power:g}·10{str(power).translate(_SUPERSCRIPTS)}".replace("-", "−")
    decimals = max((_decimals(item) for item in ticks), default=_decimals(tick))
    return f"{tick:,.{decimals}f}".replace("-", "−")


def _decimals(value: float) -> int:
    text = f"{value:.6f}".rstrip("0")
    return len(text.partition(".")[2])


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))

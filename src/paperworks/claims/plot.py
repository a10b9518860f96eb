"""Draw the series of a record as SVG, with a table of the same numbers for whoever cannot or will not look at a picture.

Lines and points show the mean over seeds, a band or whiskers of one standard deviation around it. Colours come from the custom
properties `--plot-1` ... `--plot-6` with fallbacks that can be read on light and on dark ground; text and axes are `currentColor`.
Series differ by dashes, markers or hatching too, never by colour alone. Only presentation attributes are used, no `style`, so that
a page with a strict content security policy shows the same.
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from paperworks.claims.record import Record, SeriesRecord, number
from paperworks.claims.scales import Axis, linear, logarithmic

# On white and on #16181d each has a contrast of at least 3:1 (a test computes it).
COLOURS = ("#2f7ed8", "#c2571a", "#1f8a5b", "#8e5bbf", "#b5478a", "#7a7d00")
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2 1 2 1 2")
_MARKERS = ("circle", "square", "triangle", "diamond", "cross", "plus")
WIDTH, HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 16, 34, 52
_CHARACTER = 6.7  # mean width of one at 12 px
_OWN_TICKS = 7  # so few different x on a log axis are its ticks themselves
_MARKED_POINTS = 40  # more points than this are drawn without a marker each


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a plot: a header, and rows of texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_left_out: int = 0  # rows that were thinned away


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture with its table."""

    title: str
    svg: str
    table: Table


@dataclass(frozen=True, slots=True)
class _Curve:
    name: str
    kind: str
    x: tuple[float | str, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    style: int

    @property
    def colour(self) -> str:
        slot = self.style % len(COLOURS)
        return f"var(--plot-{slot + 1}, {COLOURS[slot]})"


def plots(record: Record) -> list[Plot]:
    """The plots of a record, series that name the same plot together, in the order in which they were given."""
    groups: dict[str, dict[str, SeriesRecord]] = {}
    for name, series in record.series.items():
        groups.setdefault(series.plot or name, {})[name] = series
    return [Plot(title, svg(title, group), table(group)) for title, group in groups.items() if _drawable(group)]


def svg(title: str, series: Mapping[str, SeriesRecord]) -> str:
    """One `<svg>` element with all of `series`, to put into a page as it is. Every text in it is escaped."""
    curves = _curves(series)
    first = next(iter(series.values()))
    labels = _labels(curves)
    log_x, log_y = first.log_x and labels is None, first.log_y
    x_axis = _x_axis(curves, labels, log_x)
    y_axis = _y_axis(curves, log_y)
    legend, legend_height = _legend(curves) if len(curves) > 1 else ([], 0)
    height = HEIGHT + legend_height
    frame = _Frame(x_axis, y_axis, labels)
    body = [*_grid(frame, first, title), *legend]
    n_bars = sum(curve.kind == "bar" for curve in curves)
    i_bar = 0
    for curve in curves:
        if curve.kind == "bar":
            body += _bars(curve, frame, i_bar, n_bars)
            i_bar += 1
        else:
            body += _line(curve, frame)
    defs = _hatches(curves)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
        f"<title>{escape(title)}</title><desc>{escape(_description(curves, first))}</desc>{defs}{''.join(body)}</svg>"
    )


def table(series: Mapping[str, SeriesRecord], max_rows: int = 50) -> Table:
    """The same numbers as rows: x, then each series as 'mean ± spread'. Long ones are thinned, both ends kept."""
    curves = _curves(series)
    first = next(iter(series.values()))
    xs = list(dict.fromkeys(x for curve in curves for x in curve.x))
    if all(isinstance(x, float) for x in xs):
        xs.sort()
    keep = range(len(xs))
    if len(xs) > max_rows:
        keep_ids = sorted({round(i * (len(xs) - 1) / (max_rows - 1)) for i in range(max_rows)})
    else:
        keep_ids = list(keep)
    cells = [dict(zip(curve.x, zip(curve.mean, curve.spread, strict=True), strict=True)) for curve in curves]
    rows = tuple(
        (
            xs[i] if isinstance(xs[i], str) else number(float(xs[i])),
            *(_cell(cell.get(xs[i])) for cell in cells),
        )
        for i in keep_ids
    )
    columns = (first.x_label or "x", *(curve.name for curve in curves))
    return Table(columns, rows, len(xs) - len(keep_ids))  # type: ignore[arg-type]  # the first cell is a text in both branches


def _cell(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return ""
    mean, spread = pair
    return number(mean) if math.isnan(spread) else f"{number(mean)} ± {number(spread, 2)}"


def _drawable(group: Mapping[str, SeriesRecord]) -> bool:
    return any(math.isfinite(value) for series in group.values() for values in series.y for value in values)


def _curves(series: Mapping[str, SeriesRecord]) -> list[_Curve]:
    """Mean and spread of every series; one curve a seed where the seeds differ in x."""
    curves: list[_Curve] = []
    for style, (name, item) in enumerate(series.items()):
        same_length = len({len(values) for values in item.y}) == 1
        if item.aligned and same_length:
            columns = list(zip(*item.y, strict=True))
            mean = tuple(_mean(column) for column in columns)
            spread = tuple(_spread(column) for column in columns)
            curves.append(_Curve(name, item.kind, item.x[0], mean, spread, style))
            continue
        for index, values in enumerate(item.y):
            xs = item.x[0 if item.aligned else index]
            nothing = (math.nan,) * len(values)
            curves.append(_Curve(f"{name}, repeat {index + 1}", item.kind, xs[: len(values)], values, nothing, style))
    return curves


def _mean(column: Sequence[float]) -> float:
    return sum(column) / len(column)


def _spread(column: Sequence[float]) -> float:
    if len(column) < 2 or not all(map(math.isfinite, column)):
        return math.nan
    return statistics.stdev(column)


def _labels(curves: Sequence[_Curve]) -> list[str] | None:
    """The categories of the x axis, when there are bars or texts on it."""
    if not any(curve.kind == "bar" or any(isinstance(x, str) for x in curve.x) for curve in curves):
        return None
    return list(dict.fromkeys(_label(x) for curve in curves for x in curve.x))


def _label(x: float | str) -> str:
    return x if isinstance(x, str) else number(x)


def _x_axis(curves: Sequence[_Curve], labels: list[str] | None, log: bool) -> Axis:
    if labels is not None:
        return Axis(-0.5, max(len(labels), 1) - 0.5, tuple(float(i) for i in range(len(labels))))
    xs = [float(x) for curve in curves for x in curve.x if math.isfinite(float(x)) and (not log or float(x) > 0)]
    if not xs or min(xs) == max(xs):
        return logarithmic(xs) if log else linear(xs)
    low, high = min(xs), max(xs)  # no empty stretch beside the curves
    if log:
        low, high = low / (high / low) ** 0.015, high * (high / low) ** 0.015
        own = tuple(sorted(set(xs)))
        ticks = own if len(own) <= _OWN_TICKS else logarithmic(xs).ticks
    else:
        low, high = low - (high - low) * 0.015, high + (high - low) * 0.015
        ticks = linear(xs, n_ticks=9).ticks
    return Axis(low, high, tuple(tick for tick in ticks if low <= tick <= high), log)


def _y_axis(curves: Sequence[_Curve], log: bool) -> Axis:
    ys: list[float] = []
    for curve in curves:
        for mean, spread in zip(curve.mean, curve.spread, strict=True):
            ys.append(mean)
            if not math.isnan(spread):
                ys.append(mean + spread)
                if not log:  # below zero there is nothing to show on a log axis, and next to it far too much
                    ys.append(mean - spread)
    has_bars = any(curve.kind == "bar" for curve in curves)
    return logarithmic(ys) if log else linear(ys, include_zero=has_bars)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The box of the plot: values to pixels, None for what an axis cannot show."""

    x_axis: Axis
    y_axis: Axis
    labels: list[str] | None

    def x(self, value: float | str) -> float | None:
        position = float(self.labels.index(_label(value))) if self.labels is not None else float(value)
        return _scaled(self.x_axis, position, _LEFT, WIDTH - _RIGHT)

    def y(self, value: float) -> float | None:
        return _scaled(self.y_axis, value, HEIGHT - _BOTTOM, _TOP)

    def y_floor(self, value: float) -> float:
        """As `y`, with what lies under a log axis put on its floor."""
        low = self.y_axis.low
        found = self.y(max(value, low) if self.y_axis.log else value)
        return float(HEIGHT - _BOTTOM) if found is None else found

    @property
    def baseline(self) -> float:
        return self.y_floor(self.y_axis.low if self.y_axis.log else 0.0)


def _scaled(axis: Axis, value: float, start: float, end: float) -> float | None:
    if not math.isfinite(value) or (axis.log and value <= 0):
        return None
    return start + axis(value) * (end - start)


def _grid(frame: _Frame, first: SeriesRecord, title: str) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = [f'<text x="{_LEFT}" y="20" font-size="14" font-weight="600">{escape(_short(title, 78))}</text>']
    for tick, label in zip(frame.y_axis.ticks, frame.y_axis.labels, strict=True):
        y = frame.y(tick)
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="currentColor" stroke-opacity="0.15"/>'
            f'<text x="{_LEFT - 8}" y="{y:.1f}" dy="0.35em" text-anchor="end">{escape(label)}</text>'
        )
    parts.append(
        f'<line x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="currentColor" stroke-opacity="0.6"/>'
    )
    parts += _x_ticks(frame, bottom)
    if first.x_label:
        parts.append(
            f'<text x="{(_LEFT + right) / 2:.0f}" y="{bottom + 40}" text-anchor="middle">{escape(_short(first.x_label, 80))}</text>'
        )
    if first.y_label:
        middle = (_TOP + bottom) / 2
        parts.append(
            f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(_short(first.y_label, 38))}</text>'
        )
    return parts


def _x_ticks(frame: _Frame, bottom: float) -> list[str]:
    parts = []
    texts = frame.labels if frame.labels is not None else list(frame.x_axis.labels)
    room = (WIDTH - _LEFT - _RIGHT) / max(len(texts), 1)
    fits = max(3, int(room / _CHARACTER) - 1)
    every = 1
    if frame.labels is not None and room < 22:
        every = math.ceil(22 / room)
        fits = max(3, int(room * every / _CHARACTER) - 1)
    for i, (tick, text) in enumerate(zip(frame.x_axis.ticks, texts, strict=True)):
        x = _scaled(frame.x_axis, tick, _LEFT, WIDTH - _RIGHT)
        if x is None or i % every:
            continue
        shown = _short(text, fits) if frame.labels is not None else text
        full = f"<title>{escape(text)}</title>" if shown != text else ""
        parts.append(
            f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" stroke="currentColor" stroke-opacity="0.6"/>'
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{full}{escape(shown)}</text>'
        )
    return parts


def _line(curve: _Curve, frame: _Frame) -> list[str]:
    """Mean with its band, or points with whiskers. A gap where a value cannot be shown."""
    stretches: list[list[tuple[float, float, float, float]]] = [[]]  # x, y, upper and lower end of the spread
    for x_value, mean, spread in zip(curve.x, curve.mean, curve.spread, strict=True):
        x, y = frame.x(x_value), frame.y(mean)
        if x is None or y is None:
            stretches.append([])
            continue
        half = 0.0 if math.isnan(spread) else spread
        stretches[-1].append((x, y, frame.y_floor(mean + half), frame.y_floor(mean - half)))
    stretches = [points for points in stretches if points]
    has_spread = any(not math.isnan(spread) for spread in curve.spread)
    parts = []
    if curve.kind == "scatter":
        for points in stretches:
            for x, y, upper, lower in points:
                if has_spread:
                    parts.append(_whisker(x, upper, lower, curve.colour))
                parts.append(_marker(x, y, curve))
        return parts
    dash = f' stroke-dasharray="{_DASHES[curve.style % len(_DASHES)]}"' if curve.style % len(_DASHES) else ""
    for points in stretches:
        if has_spread and len(points) > 1:
            outline = [f"{x:.1f},{upper:.1f}" for x, _, upper, _ in points]
            outline += [f"{x:.1f},{lower:.1f}" for x, _, _, lower in reversed(points)]
            parts.append(f'<polygon points="{" ".join(outline)}" fill="{curve.colour}" fill-opacity="0.18"/>')
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{curve.colour}" stroke-width="2" stroke-linejoin="round"{dash}/>'
        )
        n_points = sum(map(len, stretches))
        every = max(1, math.ceil(n_points / 8)) if n_points > _MARKED_POINTS else 1
        parts += [_marker(x, y, curve) for x, y, _, _ in points[::every]]
    return parts


def _bars(curve: _Curve, frame: _Frame, i_bar: int, n_bars: int) -> list[str]:
    n_places = len(frame.labels or [""])
    width = (WIDTH - _LEFT - _RIGHT) / n_places * 0.76 / n_bars
    parts = []
    for x_value, mean, spread in zip(curve.x, curve.mean, curve.spread, strict=True):
        centre, y = frame.x(x_value), frame.y(mean)
        if centre is None or y is None:
            continue
        left = centre + (i_bar - n_bars / 2) * width
        top, bottom = sorted((y, frame.baseline))
        parts.append(
            f'<rect x="{left + 1:.1f}" y="{top:.1f}" width="{max(width - 2, 1):.1f}" height="{max(bottom - top, 0.5):.1f}" '
            f'fill="url(#{_hatch_id(curve)})" stroke="{curve.colour}"/>'
        )
        if not math.isnan(spread):
            upper, lower = frame.y_floor(mean + spread), frame.y_floor(mean - spread)
            parts.append(_whisker(left + width / 2, upper, lower, "currentColor"))
    return parts


def _whisker(x: float, upper: float, lower: float, colour: str) -> str:
    path = f"M{x - 3:.1f} {upper:.1f}h6m-3 0V{lower:.1f}m-3 0h6"
    return f'<path d="{path}" fill="none" stroke="{colour}"/>'


def _marker(x: float, y: float, curve: _Curve) -> str:
    shape = _MARKERS[curve.style % len(_MARKERS)]
    at = f"M{x:.1f} {y:.1f}"
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{curve.colour}"/>'
    filled = {
        "square": "m-3.2-3.2h6.4v6.4h-6.4z",
        "triangle": "m0-4.4l4 7.4h-8z",
        "diamond": "m0-4.6l4.6 4.6-4.6 4.6-4.6-4.6z",
    }
    if shape in filled:
        return f'<path d="{at}{filled[shape]}" fill="{curve.colour}"/>'
    strokes = {"cross": "m-3.5-3.5l7 7m0-7l-7 7", "plus": "m-4.5 0h9m-4.5-4.5v9"}
    return f'<path d="{at}{strokes[shape]}" fill="none" stroke="{curve.colour}" stroke-width="2"/>'


def _hatch_id(curve: _Curve) -> str:
    # an id of its own for each picture: a page may hold several, some of them hidden
    numbers = zlib.crc32(repr((curve.name, curve.x, curve.mean, curve.spread)).encode("utf-8", "replace"))
    return f"hatch-{curve.style % len(COLOURS) + 1}-{numbers:08x}"


def _hatches(curves: Sequence[_Curve]) -> str:
    """Fill patterns for bars: the first is plain, the others are hatched in different directions."""
    strokes = ("", "M0 8L8 0M-2 2L2-2M6 10L10 6", "M0 0L8 8M-2 6L2 10M6-2L10 2", "M0 4H8", "M4 0V8", "M0 4H8M4 0V8")
    parts = []
    for curve in {_hatch_id(curve): curve for curve in curves if curve.kind == "bar"}.values():
        slot = curve.style % len(COLOURS)
        ground = 0.75 if slot == 0 else 0.25
        lines = f'<path d="{strokes[slot]}" stroke="{curve.colour}" stroke-width="1.6"/>' if strokes[slot] else ""
        parts.append(
            f'<pattern id="{_hatch_id(curve)}" width="8" height="8" patternUnits="userSpaceOnUse">'
            f'<rect width="8" height="8" fill="{curve.colour}" fill-opacity="{ground}"/>{lines}</pattern>'
        )
    return f"<defs>{''.join(parts)}</defs>" if parts else ""


def _legend(curves: Sequence[_Curve]) -> tuple[list[str], int]:
    """Samples and names under the plot, in as many rows as they need; and the height of these rows."""
    parts = []
    x, row = float(_LEFT), 0
    for curve in curves:
        name = _short(curve.name, 60)
        width = 40 + len(name) * _CHARACTER + 14
        if x > _LEFT and x + width > WIDTH - _RIGHT:
            x, row = float(_LEFT), row + 1
        y = HEIGHT + 8 + row * 20
        if curve.kind == "bar":
            sample = f'<rect x="{x:.0f}" y="{y - 6}" width="28" height="12" fill="url(#{_hatch_id(curve)})" stroke="{curve.colour}"/>'
        else:
            dash = _DASHES[curve.style % len(_DASHES)]
            dashes = f' stroke-dasharray="{dash}"' if dash else ""
            line = f'<path d="M{x:.0f} {y}h28" fill="none" stroke="{curve.colour}" stroke-width="2"{dashes}/>'
            sample = ("" if curve.kind == "scatter" else line) + _marker(x + 14, y, curve)
        parts.append(f'{sample}<text x="{x + 36:.0f}" y="{y}" dy="0.35em">{escape(name)}</text>')
        x += width
    return parts, row * 20 + 28


def _description(curves: Sequence[_Curve], first: SeriesRecord) -> str:
    """What a screen reader says: the axes, and where each series starts and ends."""
    axes = f"{first.y_label or 'values'} over {first.x_label or 'their number'}"
    scale = " (log scale)" if first.log_y else ""
    sentences = [f"{axes}{scale}, mean over seeds."]
    for curve in curves[:12]:
        if curve.mean:
            start, end = (
                f"{_label(x)}: {number(y)}" for x, y in ((curve.x[0], curve.mean[0]), (curve.x[-1], curve.mean[-1]))
            )
            sentences.append(f"{curve.name}: from {start} to {end}.")
    return " ".join(sentences)


def _short(text: str, n: int) -> str:
    return text if len(text) <= n else text[: max(n - 1, 1)].rstrip() + "…"

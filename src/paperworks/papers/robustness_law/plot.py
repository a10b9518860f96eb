"""Small SVG plots without a plotting library."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 400.0, 20.0, 260.0


def curve_svg(summary: Sequence[dict[str, Any]]) -> str:
    """Sensitivity over width from the rows of `SensitivityCurve.summary`; infinite widths stand at the right edge."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in summary:
        groups.setdefault((row["model"], row["activation"]), []).append(row)
    finite = [row["width"] for row in summary if math.isfinite(row["width"])] or [1.0]
    heights = [row[key] for row in summary for key in ("sensitivity", "predicted") if row[key] > 0] or [1.0]
    left, right = math.log(min(finite)), math.log(max(finite) * (3 if len(finite) < len(summary) else 1))
    low, high = math.log(min(heights) / 1.2), math.log(max(heights) * 1.2)

    def x(width: float) -> float:
        share = 1.0 if not math.isfinite(width) else (math.log(width) - left) / max(right - left, 1e-9)
        return _LEFT + share * (_RIGHT - _LEFT)

    def y(value: float) -> float:
        share = (math.log(max(value, math.exp(low))) - low) / max(high - low, 1e-9)
        return _BOTTOM - share * (_BOTTOM - _TOP)

    parts = [
        (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 300" role="img" font-family="sans-serif" font-size="12" '
            'fill="currentColor"><title>Sensitivity over width; predictions are dashed</title>'
        ),
        f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="currentColor"/>',
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="294" text-anchor="middle">hidden units</text>',
        f'<text x="{_LEFT}" y="276">{min(finite):g}</text>',
        f'<text x="{_RIGHT}" y="276" text-anchor="end">{"∞" if len(finite) < len(summary) else f"{max(finite):g}"}</text>',
        f'<text x="4" y="{y(min(heights)):.0f}">{min(heights):.3g}</text><text x="4" y="{y(max(heights)):.0f}">{max(heights):.3g}</text>',
    ]
    for index, ((model, act), rows) in enumerate(groups.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        rows = sorted(rows, key=lambda row: row["width"])
        for key, dash in (("sensitivity", ""), ("predicted", ' stroke-dasharray="4 3"')):
            points = " ".join(f"{x(row['width']):.1f},{y(row[key]):.1f}" for row in rows)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"{dash}/>')
        for row in rows:
            at = f"{x(row['width']):.1f}"
            parts.append(f'<circle cx="{at}" cy="{y(row["sensitivity"]):.1f}" r="3" fill="{colour}"/>')
            parts.append(f'<path d="M{at} {y(row["low"]):.1f}V{y(row["high"]):.1f}" stroke="{colour}"/>')
        parts.append(f'<text x="412" y="{36 + 18 * index}" fill="{colour}">{html.escape(f"{model}, {act}")}</text>')
    return "".join([*parts, "</svg>"])


def radius_svg(radii: Sequence[float], title: str) -> str:
    """How the share of points that have flipped grows with the radius: a step curve from sorted radii, infinite ones left out."""
    finite = sorted(r for r in radii if math.isfinite(r))
    reach = max([*finite, 1e-12])
    path, share = f"M{_LEFT} {_BOTTOM}", 0.0
    for done, radius in enumerate(finite, start=1):
        share = done / len(radii)
        path += f"H{_LEFT + radius / reach * (_RIGHT - _LEFT):.1f}V{_BOTTOM - share * (_BOTTOM - _TOP):.1f}"
    return "".join(
        [
            (
                '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 300" role="img" font-family="sans-serif" font-size="12" '
                f'fill="currentColor"><title>{html.escape(title)}</title>'
            ),
            f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="currentColor"/>',
            f'<path d="{path}" fill="none" stroke="{_COLOURS[0]}" stroke-width="2"/>',
            f'<text x="{_LEFT}" y="276">0</text><text x="{_RIGHT}" y="276" text-anchor="end">{reach:.3g}</text>',
            f'<text x="{(_LEFT + _RIGHT) / 2}" y="294" text-anchor="middle">size of the change of the input</text>',
            f'<text x="4" y="{_BOTTOM}">0 %</text><text x="4" y="{_TOP + 8}">100 %</text></svg>',
        ]
    )

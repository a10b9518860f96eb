"""Plots: sane axes, means with bands, readable in both themes, nothing from a paper's text gets through as markup."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paperworks.claims.plot import COLOURS, plots, svg, table
from paperworks.claims.record import SeriesRecord
from paperworks.claims.scales import linear, logarithmic
from tests.claims.test_record import a_record

SVG = "{http://www.w3.org/2000/svg}"


def series(*y: tuple[float, ...], x: tuple[float | str, ...] | None = None, **more: object) -> SeriesRecord:
    return SeriesRecord(x=(x or tuple(map(float, range(len(y[0])))),), y=y, plot="p", **more)  # type: ignore[arg-type]


def draw(**curves: SeriesRecord) -> ElementTree.Element:
    return ElementTree.fromstring(svg("A plot", curves))


@given(st.lists(st.floats(-1e200, 1e200), min_size=1, max_size=20))
@example([0.0, 5e-324])
@example([1e16, 1e16 + 2])
def test_a_linear_axis_holds_its_values_with_a_handful_of_ticks(values: list[float]) -> None:
    axis = linear(values)
    assert 2 <= len(axis.ticks) <= 12
    assert list(axis.ticks) == sorted(set(axis.ticks))
    slack = 1e-9
    assert all(-slack <= axis(value) <= 1 + slack for value in values)
    assert len(set(axis.labels)) == len(axis.labels)


@given(st.lists(st.floats(1e-200, 1e200), min_size=1, max_size=20))
def test_a_log_axis_holds_its_values_with_a_handful_of_ticks(values: list[float]) -> None:
    axis = logarithmic(values)
    assert 2 <= len(axis.ticks) <= 10
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert all(-1e-9 <= axis(value) <= 1 + 1e-9 for value in values)
    assert len(set(axis.labels)) == len(axis.labels)


def test_text_is_escaped_everywhere() -> None:
    evil = '"><script>alert(1)</script>&'
    text = svg(
        evil,
        {
            evil: series((1.0, 2.0), x=(evil, "b"), x_label=evil, y_label=evil),
            "b" + evil: series((1.0, 2.0), x=(evil, "b")),
        },
    )
    assert "<script" not in text
    root = ElementTree.fromstring(text)
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == evil


def test_a_strict_content_security_policy_blocks_nothing() -> None:
    text = svg("p", {"a": series((1.0, 2.0), (2.0, 3.0)), "b": series((1.0, 2.0), kind="bar")})
    assert not re.search(r"\sstyle=|<style|\son\w+=|href=", text)


def test_screen_readers_get_a_title_and_the_ends_of_each_curve() -> None:
    root = draw(error=series((8.0, 2.0), (10.0, 4.0), x=(0.0, 5.0)))
    assert root.get("role") == "img"
    description = root.find(f"{SVG}desc")
    assert description is not None
    assert "error: from 0: 9 to 5: 3." in (description.text or "")


def test_the_line_is_the_mean_and_the_band_one_deviation() -> None:
    root = draw(error=series((0.0, 4.0), (2.0, 8.0)))
    line, band = root.find(f"{SVG}polyline"), root.find(f"{SVG}polygon")
    assert line is not None
    assert band is not None
    ticks = {
        element.text: float(element.get("y", "nan"))
        for element in root.findall(f"{SVG}text")
        if element.get("text-anchor") == "end"
    }
    pixels = (ticks["0"] - ticks["4"]) / 4  # of one unit
    (_, y0), (_, y1) = (map(float, point.split(",")) for point in line.get("points", "").split())
    assert (ticks["0"] - y0) / pixels == pytest.approx(1, abs=0.01)
    assert (ticks["0"] - y1) / pixels == pytest.approx(6, abs=0.01)
    upper = float(band.get("points", "").split()[1].split(",")[1])
    assert (ticks["0"] - upper) / pixels == pytest.approx(6 + math.sqrt(8), abs=0.01)  # deviation of (4, 8)


def test_series_differ_by_more_than_colour() -> None:
    text = svg("p", {name: series((1.0, 2.0)) for name in "abcdef"})
    root = ElementTree.fromstring(text)
    dashes = [line.get("stroke-dasharray") for line in root.findall(f"{SVG}polyline")]
    assert len(dashes) == len(set(dashes)) == 6
    bars = svg("p", {name: series((1.0, 2.0), kind="bar") for name in "abcdef"})
    assert len(set(re.findall(r'fill="url\((#[\w-]+)\)"', bars))) == 6


@pytest.mark.parametrize("ground", ["#ffffff", "#16181d"])
@pytest.mark.parametrize("colour", COLOURS)
def test_colours_can_be_told_from_both_grounds(colour: str, ground: str) -> None:
    def luminance(code: str) -> float:  # WCAG 2.2, relative luminance
        channels = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear_ = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear_[0] + 0.7152 * linear_[1] + 0.0722 * linear_[2]

    lighter, darker = sorted((luminance(colour), luminance(ground)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3


ODD = [
    series(()),
    series((math.nan,)),
    series((math.inf, 1.0)),
    series((0.0, -1.0, 1.0), log_y=True),
    series((-1.0,), log_y=True),
    series((5.0,)),
    series((5.0, 5.0)),
    series((1e-300, 1e300)),
    series((1.0, 2.0), x=(-1.0, 0.0), log_x=True),
    series((1.0, 2.0), x=(3.0, 3.0)),
    series((1.0, math.nan, 3.0), (1.0, 2.0, 3.0)),
    SeriesRecord(x=((0.0,), (0.0, 1.0)), y=((1.0,), (1.0, 2.0)), plot="p"),
    series(tuple(map(float, range(300))), x=tuple(f"label {i}" for i in range(300)), kind="bar"),
    series((-3.0, 2.0), kind="bar"),
    series((1.0, 2.0), kind="scatter", log_y=True),
]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_odd_series_are_drawn_without_odd_coordinates(odd: SeriesRecord) -> None:
    text = svg("p", {"odd": odd, "plain": series((1.0, 2.0))})
    ElementTree.fromstring(text)
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', text)
    assert table({"odd": odd}).columns == ("x", "odd") or not odd.aligned


def test_plots_are_grouped_and_what_has_no_number_is_not_drawn() -> None:
    record = a_record(
        series={
            "a": series((1.0, 2.0)),
            "b": series((1.0, 3.0)),
            "c": SeriesRecord(x=((0.0,),), y=((math.nan,),), plot="empty"),
        }
    )
    (plot,) = plots(record)
    assert plot.title == "p"
    assert plot.table.columns == ("x", "a", "b")
    assert plot.table.rows == (("0", "1", "1"), ("1", "2", "3"))


def test_the_table_gives_mean_and_spread_and_is_bounded() -> None:
    rows = table({"a": series((1.0, 2.0), (3.0, 2.0))}).rows
    assert rows == (("0", "2 ± 1.4"), ("1", "2 ± 0"))
    long = table({"a": series(tuple(map(float, range(1000))))}, max_rows=20)
    assert len(long.rows) == 20
    assert (long.rows[0][0], long.rows[-1][0], long.n_left_out) == ("0", "999", 980)

"""Plots of records, put into the page as SVG so that they take the page's colours, each with a table of its points beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from markupsafe import Markup

from paperworks.errors import NotFound, StoreError
from paperworks.hub.hub import Hub
from paperworks.hub.views import ClaimRow


@dataclass(frozen=True, slots=True)
class PlotView:
    """One picture, and its points for those who cannot or would rather not look."""

    title: str
    svg: Markup
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int


def of_claims(hub: Hub, rows: Iterable[ClaimRow]) -> dict[str, tuple[PlotView, ...]]:
    """The plots of every claim that has a record, by claim id."""
    return {row.id: of_record(hub, row.record) for row in rows if row.record}


def of_record(hub: Hub, name: str | None) -> tuple[PlotView, ...]:
    """The plots of a record by its name; none for a record that is gone or cannot be read."""
    if not name:
        return ()
    try:
        path = hub.records.path(name)
        return _drawn(path, path.stat().st_mtime_ns)
    except (NotFound, StoreError, OSError):
        return ()


@lru_cache(maxsize=128)
def _drawn(path: Path, stamp: int) -> tuple[PlotView, ...]:
    from paperworks.claims.plot import plots
    from paperworks.claims.record import Record

    return tuple(
        # the drawing escapes every text in it (see paperworks.claims.plot)
        PlotView(plot.title, Markup(plot.svg), plot.table.columns, plot.table.rows, plot.table.n_left_out)
        for plot in plots(Record.read(path))
    )

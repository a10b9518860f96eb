"""Reports for people: one standalone HTML file of any number of records, and the index of the records of a release."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined
from markupsafe import Markup

from paperworks._version import __version__
from paperworks.catalogue import Printed
from paperworks.claims.plot import plots
from paperworks.claims.record import Record, number
from paperworks.claims.store import RecordStore
from paperworks.claims.verdict import VERDICTS, sign
from paperworks.progress import duration


def html(records: Sequence[Record], title: str = "Claims, measured again") -> str:
    """One HTML document that needs no other file and no network: claimed beside measured, verdicts, plots with tables."""
    counts = [(sign(verdict), sum(record.verdict == verdict for record in records)) for verdict in VERDICTS]
    papers: dict[str, list[Record]] = {}
    for record in records:
        papers.setdefault(record.slug, []).append(record)
    return (
        _templates()
        .get_template("report.html")
        .render(
            title=title,
            papers=papers,
            counts=[(shown, count) for shown, count in counts if count],
            version=__version__,
        )
    )


def printed_text(printed: Printed) -> str:
    """What the paper reports, for people.

    >>> printed_text(Printed(value=83.87, baseline=8.17, setting="CIFAR-10", where="Table 2"))
    '83.87 against 8.17 (CIFAR-10), Table 2'
    """
    value, baseline = (_text(item) for item in (printed.value, printed.baseline))
    numbers = f"{value} against {baseline}" if value and baseline else value or baseline
    setting = f"({printed.setting})" if printed.setting else ""
    shown = " ".join(part for part in (numbers, setting) if part)
    return f"{shown}, {printed.where}" if shown else printed.where


def index(store: RecordStore) -> str:
    """The best-known record of every claim as a Markdown page, for `docs/measured/measured.md`."""
    lines = [
        "# Measured",
        "",
        "What was measured again of each claim, on which scale, and what came of it. The rules were written down in `paper.toml`",
        "before they were measured. This page is written by `paperworks measured build` from the records beside it.",
        "",
        "| paper | claim | as printed | measured | verdict | when and on what |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (slug, claim), record in store.best_of_all().items():
        path = store.file_of(record)
        place = f"{slug}/{path.name}" if path is not None and path.parent.name == slug else (path.name if path else "")
        shown = sign(record.verdict)
        measured = "; ".join(f"{name} {value.text}" for name, value in record.values.items())
        seeds = f"{len(record.seeds)} seed{'s' if len(record.seeds) != 1 else ''}"
        cells = (
            f"`{slug}`",
            _cell(record.statement) + f" (`{claim}`)",
            _cell(printed_text(record.printed)),
            _cell(measured),
            f"{shown.symbol} {shown.word} ({record.scale}, {seeds})",
            f"[{record.ended:%Y-%m-%d}]({place}), {_cell(record.environment.line)}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    escaped = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return escaped.replace("*", "\\*").replace("_", "\\_").replace("`", "\\`").replace("[", "\\[")


def _text(item: float | str | None) -> str:
    if item is None:
        return ""
    return item if isinstance(item, str) else f"{item:.10g}"


@cache
def _templates() -> Templates:
    templates = Templates(
        loader=PackageLoader("paperworks.claims"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"printed": printed_text, "duration": duration, "number": number}
    templates.globals |= {"sign": sign, "pictures": _pictures}
    return templates


def _pictures(record: Record) -> list[tuple[Markup, object]]:
    """SVG with its table. The SVG is built by us, every text in it escaped there."""
    return [(Markup(plot.svg), plot) for plot in plots(record)]

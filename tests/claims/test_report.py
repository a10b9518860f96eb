"""The report: claimed beside measured, complete in one file, safe whatever a record says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from paperworks.catalogue import Printed
from paperworks.claims.record import ValueSummary
from paperworks.claims.report import html, index
from paperworks.claims.store import RecordStore
from tests.claims.test_plot import series
from tests.claims.test_record import a_record

EVIL = "<script>alert(1)</script>\"'&"


class Tags(HTMLParser):
    """Counts what a browser would take for elements, and checks that they are closed in order."""

    VOID = frozenset({"meta", "br", "rect", "circle", "line", "path", "polyline", "polygon", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_claimed_stands_beside_measured() -> None:
    text = html(
        [
            a_record(
                printed=Printed(value=83.87, baseline=8.17, setting="CIFAR-10", where="Table 2"),
                seed_verdicts=("reproduced", "partly"),
            )
        ]
    )
    for part in ("83.87", "against 8.17", "CIFAR-10", "Table 2", "0.51 ± 0.0141", "reproduced", "scale <strong>cpu", "A processor, 2 cores",
                 "1 March 2026, 12:00 UTC", "ratio &lt; 0.6", "◐ partly", "2 seeds", "numpy 2.4.0"):  # fmt: skip
        assert part in text, part
    assert not Tags(text).open


def test_each_plot_has_a_table_beside_it() -> None:
    tags = Tags(html([a_record(series={"a": series((1.0, 2.0))})]))
    assert tags.seen.count("svg") == 1
    assert tags.seen.count("table") == 2  # the values, and the numbers of the plot


def test_nothing_that_a_record_says_becomes_markup() -> None:
    record = a_record(
        paper_title=EVIL, statement=EVIL, metric=EVIL, reason=EVIL, error=EVIL, notes=(EVIL,), data=(EVIL,),
        printed=Printed(value=EVIL, baseline=EVIL, setting=EVIL, where=EVIL), reproduced_rule=EVIL,
        values={"text": ValueSummary.over([EVIL])}, series={EVIL: series((1.0, 2.0), x_label=EVIL)},
    )  # fmt: skip
    tags = Tags(html([record]))
    assert "script" not in tags.seen
    assert not any(name.startswith("on") for name in tags.attributes)
    assert not tags.open


def test_the_report_needs_nothing_from_elsewhere() -> None:
    text = html([a_record(series={"a": series((1.0, 2.0))})])
    assert not re.search(r"(src|href)=|url\((?!#)|@import", text)


def test_a_failed_and_a_skipped_run_say_why() -> None:
    failed = a_record(
        state="failed",
        verdict="not-measured",
        reason="ZeroDivisionError: division by zero",
        error="Traceback ...",
        values={},
    )
    skipped = a_record(
        state="skipped", verdict="not-measured", reason="the data set is not on this machine", values={}, claim="other"
    )
    text = html([failed, skipped])
    assert "Traceback ..." in text
    assert "the data set is not on this machine" in text
    assert "Nothing was measured." in text


def test_the_index_links_the_best_record_of_every_claim(tmp_path: Path) -> None:
    a_record(statement="Halving | splits a_table *cell* <b>").save(tmp_path)
    a_record(scale="smoke", verdict="not-measured").save(tmp_path)
    text = index(RecordStore([tmp_path]))
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 7  # six cells, whatever stands in them
    assert "(made_up/made_up--halves--cpu--20260301T120000Z.json)" in rows[0]
    assert "● reproduced (cpu, 2 seeds)" in rows[0]
    assert "<b>" not in text

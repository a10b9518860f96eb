"""A small hub that is like a real one: three papers that run in different states, forty that were brought in, a source, a record.

Used by the tests of the pages and by the browser. Everything is made up here and goes through the public doors: `open_hub`,
`store_batch`, `Record.save`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from paperworks.catalogue import Printed, find
from paperworks.claims.environment import environment
from paperworks.claims.record import Record, SeriesRecord, ValueSummary
from paperworks.config import Settings
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.records import Batch, CounterRecord, LinkRecord, ListingRecord, PaperRecord, RefusedEntry
from paperworks.hub.store.load import store_batch
from paperworks.hub.store.models import Intake, Source
from paperworks.hub.times import utc_text

NOW = datetime(2026, 8, 21, 9, 30, tzinfo=UTC)

TOML = """\
slug = "{slug}"
title = "{title}"
authors = ["Ada Example", "Bert Muster"]
arxiv = "{arxiv}"
published = 2024-02-03
venue = "A Conference 2024"
categories = ["cs.LG", "stat.ML"]
code = "https://example.org/{slug}"
task = "recovery"
abstract = "We recover a matrix of rank $r$ from $O(nr)$ measurements even when half of them are corrupted. Error falls geometrically."
summary = "Half of the measurements may be nonsense, and the matrix still comes out. The step shrinks by a fixed factor each time."
use = "{use}"

[[claims]]
id = "falls-geometrically"
statement = "With half of the measurements corrupted, the error falls by a fixed factor at each step ($0.9$ or less)."
metric = "factor a step"
paper = {{ value = 0.9, setting = "n = 100, r = 5", where = "Theorem 2" }}
reproduced = "factor < 0.95"
refuted = "factor >= 1"
minutes = 0.5

[[claims]]
id = "beats-the-baseline"
statement = "It needs fewer steps than the smooth method on the same data."
metric = "steps"
paper = {{ value = 120, baseline = 900, where = "Figure 3" }}
reproduced = "steps < baseline"
refuted = "steps > 2 * baseline"

[[claims]]
id = "at-full-size"
statement = "At a million unknowns it fits into the memory of one accelerator."
metric = "GB"
paper = {{ value = 21.5, where = "Table 4" }}
reproduced = "memory < 24"
refuted = "memory > 48"
needs = "one accelerator of 24 GB"
"""

PACKAGE = '''\
"""Recover a low-rank matrix from corrupted measurements.

>>> recover([1.0, 2.0], rank=1)
[1.0, 2.0]
"""

from .idea import Recovery, recover

__all__ = ["Recovery", "recover"]
'''

IDEA = '''\
"""The method."""

from dataclasses import dataclass

import torch_is_never_imported_for_this_page


def recover(measured: list[float], *, rank: int = 1, steps: int = 100) -> list[float]:
    """Recover the matrix.

    measured (n,) floats, one a measurement.
    rank: at most the smaller side.

    Raises InputError for a rank that cannot be.

    >>> recover([1.0], rank=1)
    [1.0]
    """
    return measured


class Recovery:
    """The same as an estimator.

    Keeps the factors in `left_` and `right_`.
    """

    def __init__(self, rank: int = 1, *, step_size: float = 0.9) -> None:
        self.rank = rank

    def fit(self, measured: list[float]) -> "Recovery":
        """Fit and return self."""
        return self

    @property
    def error(self) -> float:
        """Relative error of the last step."""
        return 0.0

    def _private(self) -> None: ...
'''

README = """\
# Recovery

## When to use it

When some measurements are *wrong* and you do not know which. See [the paper](https://arxiv.org/abs/2402.00001).

```python
import paperworks as pw

matrix = pw.recovery.recover(measured, rank=5)
```

## Limits

| rank | time |
| ---- | ---- |
| 5    | 1 s  |
| 50   | 40 s |

<script>alert(1)</script>
"""


def make_catalogue(folder: Path) -> Path:
    """Three runnable papers: one whole, one whose method is to come, one without a README."""
    papers = (
        (
            "recovery",
            "Low-Rank Recovery from Half-Corrupted Measurements",
            "2402.00001",
            "Recover a low-rank matrix although half of the numbers are wrong.",
        ),
        (
            "pruner",
            "Pruning with $\\\\ell_1$ Budgets",
            "2402.00002",
            "Make a linear layer sparse and keep its answers.",
        ),
        ("bare", "A Bare Method", "2402.00003", "Do one thing without a word about it."),
    )
    for slug, title, arxiv, use in papers:
        place = folder / slug
        place.mkdir(parents=True)
        (place / "paper.toml").write_text(TOML.format(slug=slug, title=title, arxiv=arxiv, use=use), encoding="utf-8")
        if slug == "pruner":
            continue
        (place / "__init__.py").write_text(PACKAGE, encoding="utf-8")
        (place / "idea.py").write_text(IDEA, encoding="utf-8")
        (place / "reproduce.py").write_text("", encoding="utf-8")
    (folder / "recovery" / "README.md").write_text(README, encoding="utf-8")
    (folder / "recovery" / "cli.py").write_text("", encoding="utf-8")
    return folder


TOPICS = (
    "pruning",
    "retrieval",
    "diffusion",
    "alignment",
    "quantization",
    "long context",
    "table models",
    "robustness",
)
KINDS = ("A Study of", "Faster", "Rethinking", "Scaling Laws for", "On the Limits of")
NAMES = (
    "Grace Hopper",
    "Émilie du Châtelet",
    "Sofja Kowalewskaja",
    "Alan Turing",
    "Emmy Noether",
    "Kurt Gödel",
    "Mary Cartwright",
)


def records() -> list[PaperRecord]:
    """Forty papers over ten days, with formulas, markup as text, long and short author lists, counters and code links."""
    made = []
    for i in range(40):
        topic, kind = TOPICS[i % len(TOPICS)], KINDS[i % len(KINDS)]
        day = date(2026, 8, 20) - timedelta(days=i // 4)
        seen = datetime(day.year, day.month, day.day, 18, tzinfo=UTC)
        title = f"{kind} {topic.title()}" + (
            " with $\\mathcal{O}(n \\log n)$ Memory" if i % 3 == 0 else f" in {i + 2} Settings"
        )
        made.append(
            PaperRecord(
                title=title,
                abstract=f"We study {topic} when $x_i < y_i$ for all $i \\le {i + 1}$. Results on A & B improve by {i} %. "
                "The cost stays linear. Code is available.",
                authors=tuple(NAMES[(i + k) % len(NAMES)] for k in range(1 + i % 6)),
                arxiv=f"2608.{10000 + i}",
                categories=("cs.LG", "cs.CL") if i % 2 else ("cs.CV",),
                published=day - timedelta(days=1),
                announced=day,
                comment="12 pages" if i % 5 == 0 else "",
                links=(LinkRecord(kind="code", url=f"https://example.org/code/{i}", who="author", official=True),)
                if i % 4 == 1
                else (),
                counters=(CounterRecord(metric="upvotes", seen=seen, value=(i * 7) % 50),),
                listings=(ListingRecord(day=day, rank=i % 4),),
            )
        )
    for version, title, cost in (
        (2, "Faster Retrieval, Second Edition", "linear"),
        (3, "Faster Retrieval, Third Edition", "sublinear"),
    ):
        made.append(
            PaperRecord(
                title=title,
                abstract=f"We study retrieval when $x_i < y_i$. The cost is now {cost}.",
                authors=("Grace Hopper",),
                arxiv="2608.10001",
                version=version,
                categories=("cs.LG", "cs.CL"),
                published=date(2026, 8, 19),
                updated=date(2026, 8, 19 + version),
            )
        )
    made.append(
        PaperRecord(title="Only a DOI", doi="10.1000/Only.A.Doi", authors=("Kurt Gödel",), published=date(2025, 1, 2))
    )
    made.append(
        PaperRecord(
            title="An Old Paper",
            arxiv="cs/0701001",
            authors=("Alan Turing",),
            published=date(2007, 1, 2),
            categories=("cs.LG",),
        )
    )
    return made


def measured(hub: Hub, claim: str = "falls-geometrically") -> Record:
    """A record of three seeds with a plot."""
    spec = hub.catalogue["recovery"].claim(claim)
    return Record(
        slug="recovery",
        paper_title=hub.catalogue["recovery"].spec.title,
        claim=claim,
        statement=spec.statement,
        metric=spec.metric,
        printed=Printed(value=0.9, where="Theorem 2"),
        reproduced_rule=spec.reproduced,
        refuted_rule=spec.refuted,
        scale="cpu",
        seeds=(0, 1, 2),
        state="done",
        verdict="reproduced",
        values={"factor": ValueSummary.over([0.91, 0.92, 0.93])},
        series={
            "error": SeriesRecord(
                x=((0.0, 1.0, 2.0, 3.0),),
                y=((1.0, 0.5, 0.2, 0.1), (1.0, 0.6, 0.3, 0.1), (1.0, 0.4, 0.2, 0.05)),
                plot="error by step",
                y_label="error",
            )
        },
        environment=environment(),
        started=NOW - timedelta(minutes=3),
        ended=NOW - timedelta(minutes=1),
        duration_s=120.0,
    )


def open_world(folder: Path, *, empty: bool = False) -> Hub:
    """The hub of this world in `folder`; `empty`: as right after `paperworks init`, with no paper at all."""
    papers = folder / "catalogue"
    if not papers.exists():
        papers.mkdir(parents=True)
        if not empty:
            make_catalogue(papers)
    settings = Settings(home=folder / "home")
    hub = open_hub(settings, catalogue=find(papers, plugins=()), clock=lambda: NOW)
    if not empty:
        fill(hub)
    return hub


def fill(hub: Hub) -> None:
    with hub.db.write() as session:
        source = Source(kind="hf-daily", name="hf-daily", config={})
        session.add(source)
        session.flush()
        intake = Intake(
            source_id=source.id,
            started=utc_text(NOW - timedelta(hours=1)),
            ended=utc_text(NOW),
            state="refusals",
            refused=1,
            requests=2,
        )
        session.add(intake)
        session.flush()
        batch = Batch(
            records=tuple(records()),
            refused=(RefusedEntry(ordinal=3, reason="no title", raw='{"id": "x"}'),),
            cursor="2026-08-20",
        )
        counts = store_batch(session, source.id, intake.id, batch, NOW, settings=hub.settings)
        intake.new, intake.changed, intake.same = counts.new, counts.changed, counts.same
    measured(hub).save(hub.settings.records)

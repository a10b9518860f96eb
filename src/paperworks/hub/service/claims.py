"""The claims of the catalogue beside what was measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from paperworks.catalogue import ClaimSpec, RunnablePaper
from paperworks.claims.record import Record
from paperworks.claims.store import best_among
from paperworks.claims.verdict import VERDICTS
from paperworks.hub.hub import Hub
from paperworks.hub.times import utc_text
from paperworks.hub.views import ClaimRow, ValueView, Verdict

METHOD_TO_COME = "the method is to come"
OTHER_RULE = "measured under another rule than the one that stands now; measure it again"


@dataclass(frozen=True)
class Known:
    """The records of all claims, from one look at the folders."""

    by_claim: dict[tuple[str, str], list[Record]]  # newest first
    file_name: dict[int, str]  # id of a record -> name of its file

    @classmethod
    def of(cls, hub: Hub) -> Known:
        files = hub.records.files()
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in sorted(files.values(), key=lambda record: record.ended, reverse=True):
            groups.setdefault((record.slug, record.claim), []).append(record)
        return cls(groups, {id(record): path.name for path, record in files.items()})

    def records(self, slug: str, claim: str) -> list[Record]:
        return self.by_claim.get((slug, claim), [])


def claim_rows(hub: Hub, slug: str | None = None) -> list[ClaimRow]:
    """Every claim of the catalogue, or those of one paper, in the order of its `paper.toml`.

    Raises NotFound for a paper that is not in the catalogue.
    """
    papers = [hub.catalogue[slug]] if slug is not None else list(hub.catalogue.values())
    known = Known.of(hub)
    return [claim_row(paper, spec, known) for paper in papers for spec in paper.claims]


def claim_row(paper: RunnablePaper, spec: ClaimSpec, known: Known) -> ClaimRow:
    """One claim: the best known record decides the verdict, if the rule is still the one that it was measured under."""
    records = known.records(paper.slug, spec.id)
    record = best_among(records) or next(iter(records), None)
    verdict, reason = _verdict(paper, spec, record)
    can_run = paper.has_method and paper.has_measurements
    values = _values(record)
    return ClaimRow(
        slug=paper.slug,
        paper_title=paper.spec.title,
        paper_ref=paper.spec.arxiv or paper.slug,
        id=spec.id,
        statement=spec.statement,
        metric=spec.metric,
        printed=_printed(spec),
        where=spec.paper.where,
        reproduced_rule=spec.reproduced,
        refuted_rule=spec.refuted,
        verdict=verdict,
        reason=reason,
        scale=record.scale if record else None,
        seeds=len(record.seeds) if record else 0,
        values=values,
        measured_at=utc_text(record.ended) if record else None,
        environment=record.environment.line if record else "",
        record=known.file_name.get(id(record)) if record else None,
        needs=spec.needs,
        minutes=_minutes(spec, records),
        can_run=can_run,
        scales=spec.scales,
    )


def verdicts(hub: Hub, slug: str) -> tuple[Verdict, ...]:
    """One verdict a claim, in the order of `paper.toml`."""
    return tuple(row.verdict for row in claim_rows(hub, slug))


def tally(hub: Hub) -> dict[str, int]:
    """How many claims have which verdict."""
    counts = Counter(row.verdict for row in claim_rows(hub))
    return {verdict: counts.get(verdict, 0) for verdict in VERDICTS}


def _verdict(paper: RunnablePaper, spec: ClaimSpec, record: Record | None) -> tuple[Verdict, str]:
    if record is not None and record.has_verdict:
        if not record.has_rules_of(spec):
            return "not-measured", OTHER_RULE
        return record.verdict, record.reason
    if not paper.has_method:
        return "not-measured", METHOD_TO_COME
    if record is not None and record.reason:
        return "not-measured", record.reason
    if spec.needs:
        return "not-measured", f"not measured here: needs {spec.needs}"
    return "not-measured", "not measured yet"


def _printed(spec: ClaimSpec) -> str:
    printed = spec.paper
    text = "" if printed.value is None else _plain(printed.value)
    if printed.baseline is not None:
        text = f"{text} against {_plain(printed.baseline)}" if text else f"baseline {_plain(printed.baseline)}"
    if printed.setting:
        text = f"{text} ({printed.setting})" if text else printed.setting
    return text


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _values(record: Record | None) -> tuple[ValueView, ...]:
    if record is None:
        return ()
    return tuple(
        ValueView(name=name, mean=value.mean, spread=value.spread, text=value.text)
        for name, value in record.values.items()
    )


def _minutes(spec: ClaimSpec, records: list[Record]) -> float | None:
    """Expected duration at `cpu` over three seeds: from an earlier record, else from `paper.toml`."""
    for record in records:
        if record.scale == "cpu" and record.state == "done" and record.seeds:
            return 3 * record.duration_s / len(record.seeds) / 60
    return 3 * spec.minutes if spec.minutes is not None else None

"""The claims of the catalogue beside what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from paperworks.catalogue import ClaimSpec, RunnablePaper
from paperworks.claims.record import Record
from paperworks.claims.verdict import VERDICTS
from paperworks.hub.hub import Hub
from paperworks.hub.times import utc_text
from paperworks.hub.views import ClaimRow, ValueView, Verdict

METHOD_TO_COME = "the method is to come"
OTHER_RULE = "measured under another rule than the one that stands now; measure it again"


def claim_rows(hub: Hub, slug: str | None = None) -> list[ClaimRow]:
    """Every claim of the catalogue, or those of one paper, in the order of its `paper.toml`.

    Raises NotFound for a paper that is not in the catalogue.
    """
    papers = [hub.catalogue[slug]] if slug is not None else list(hub.catalogue.values())
    best = hub.records.best_of_all()
    return [claim_row(hub, paper, spec, best) for paper in papers for spec in paper.claims]


def claim_row(
    hub: Hub, paper: RunnablePaper, spec: ClaimSpec, best: Mapping[tuple[str, str], Record] | None = None
) -> ClaimRow:
    """One claim: the best known record decides the verdict, if the rule is still the one that it was measured under."""
    if best is None:
        best = hub.records.best_of_all()
    record = best.get((paper.slug, spec.id)) or hub.records.latest(paper.slug, spec.id)
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
        record=_name(hub, record),
        needs=spec.needs,
        minutes=_minutes(hub, paper, spec),
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


def _name(hub: Hub, record: Record | None) -> str | None:
    path = hub.records.file_of(record) if record is not None else None
    return path.name if path is not None else None


def _minutes(hub: Hub, paper: RunnablePaper, spec: ClaimSpec) -> float | None:
    """Expected duration at `cpu` over three seeds: from an earlier record, else from `paper.toml`."""
    measured = hub.records.latest(paper.slug, spec.id, "cpu")
    if measured is not None and measured.state == "done" and measured.seeds:
        return 3 * measured.duration_s / len(measured.seeds) / 60
    return 3 * spec.minutes if spec.minutes is not None else None

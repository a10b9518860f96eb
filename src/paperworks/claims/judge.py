"""From values over seeds to a verdict.

Numbers enter a rule by their mean over the seeds. Truth values and texts have no mean that a rule could use (two of three true is
neither true nor false), so a rule holds only if it holds with the truth values and texts of *every* seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paperworks.catalogue import ClaimSpec
from paperworks.claims.model import Value
from paperworks.claims.record import ValueSummary, kind_of
from paperworks.claims.rules import Rule
from paperworks.claims.verdict import Verdict
from paperworks.errors import ClaimError

Values = Mapping[str, Value]


def summarise(per_seed: Sequence[Values]) -> dict[str, ValueSummary]:
    """Each value over the seeds. Raises ClaimError when the seeds returned other names or other kinds."""
    names = set(per_seed[0])
    for index, values in enumerate(per_seed):
        if set(values) != names:
            odd = ", ".join(sorted(set(values) ^ names))
            raise ClaimError(f"the measurement returned other values with another seed: {odd} (repeat {index + 1})")
    summaries = {}
    for name in per_seed[0]:
        try:
            summaries[name] = ValueSummary.over([values[name] for values in per_seed])
        except ClaimError as error:
            raise ClaimError(f"value {name!r}: {error}") from error
    return summaries


def judge(spec: ClaimSpec, per_seed: Sequence[Values]) -> Verdict:
    """The verdict over all seeds: reproduced, refuted, or partly when neither rule holds.

    Raises RuleError when a rule speaks of what was not measured; ClaimError when both rules hold, which no result may do.
    """
    cases = _cases(per_seed)
    reproduced = _holds(Rule(spec.reproduced), cases)
    refuted = _holds(Rule(spec.refuted), cases)
    if reproduced and refuted:
        raise ClaimError(
            f"the rules of {spec.id!r} contradict each other: both '{spec.reproduced}' (reproduced) and '{spec.refuted}' (refuted) "
            f"hold for {cases[0]!r}; mend paper.toml so that they exclude each other"
        )
    return "reproduced" if reproduced else "refuted" if refuted else "partly"


def _cases(per_seed: Sequence[Values]) -> list[dict[str, Value]]:
    """What the rules are evaluated over: the means, once with the truth values and texts of each seed."""
    summaries = summarise(per_seed)
    means: dict[str, Value] = {
        name: summary.mean
        for name, summary in summaries.items()
        if summary.kind == "number" and summary.mean is not None
    }
    cases: list[dict[str, Value]] = []
    for values in per_seed:
        case = means | {name: value for name, value in values.items() if kind_of(value) != "number"}
        if case not in cases:
            cases.append(case)
    return cases


def _holds(rule: Rule, cases: Sequence[Values]) -> bool:
    results = [rule(case) for case in cases]  # all of them, so that a rule that breaks on one case is seen
    return all(results)

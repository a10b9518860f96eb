"""The four verdicts, with a word, a shape and a sentence each, so that no page has to tell them apart by colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["reproduced", "partly", "refuted", "not-measured"]


@dataclass(frozen=True, slots=True)
class VerdictSign:
    """How a verdict is shown to people."""

    verdict: Verdict
    word: str
    symbol: str  # one character, another shape for each
    sentence: str


_SIGNS: dict[Verdict, VerdictSign] = {
    "reproduced": VerdictSign("reproduced", "reproduced", "●", "The rule for 'reproduced' holds."),
    "partly": VerdictSign("partly", "partly", "◐", "Neither the rule for 'reproduced' nor that for 'refuted' holds."),
    "refuted": VerdictSign("refuted", "refuted", "✕", "The rule for 'refuted' holds."),
    "not-measured": VerdictSign("not-measured", "not measured", "○", "There is no verdict."),
}
VERDICTS: tuple[Verdict, ...] = tuple(_SIGNS)


def sign(verdict: Verdict) -> VerdictSign:
    """The word, shape and sentence of a verdict.

    >>> sign("partly").symbol, sign("not-measured").word
    ('◐', 'not measured')
    """
    return _SIGNS[verdict]

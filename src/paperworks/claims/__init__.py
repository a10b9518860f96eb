"""Claims measured again: the contract between a paper's `reproduce.py` and the runner.

A paper writes one function a claim:

    @claim("jpeg-restores-tap")
    def jpeg_restores_tap(run: Run) -> Measurement: ...

`paper.toml` holds the statement and the rule; the runner repeats the function over seeds, evaluates the rule, and records.
"""

from paperworks.claims.model import Measurement, Run, Series, claim

__all__ = ["Measurement", "Run", "Series", "claim"]

"""The parameters that every estimator hands on to `subgm` as they are."""

from __future__ import annotations

from typing import Any

from paperworks.progress import LogProgress, silent

SHARED = (
    *("step", "alpha", "eta0", "rho", "init", "max_iter", "tol", "max_rounds", "huber"),
    *("random_state", "callback", "checkpoint"),
)


def handed_on(estimator: Any) -> dict[str, Any]:
    """The shared parameters of an estimator by name, and where its progress goes."""
    progress = LogProgress(type(estimator).__name__) if estimator.verbose else silent
    return {name: getattr(estimator, name) for name in SHARED} | {"progress": progress}

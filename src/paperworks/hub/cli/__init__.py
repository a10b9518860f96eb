"""The hub's verbs on the command line. Each file adds a family; none of them does more than translate.

Every verb takes `--json`. Exit codes: 0 done, 1 failed, 2 usage, 3 done with refusals.
"""

from __future__ import annotations

import importlib
import importlib.util

import typer

FAMILIES = ("papers", "intake", "keeping", "search", "mail", "serve", "runs")


def add_to(app: typer.Typer) -> None:
    """Add the verbs of every family to the `paperworks` command."""
    for family in FAMILIES:
        name = f"{__name__}.{family}"
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name).add_to(app)

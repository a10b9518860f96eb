"""How one filter is carried out: not at all, in the visited lists only, over all rows at once, or from its few candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paperworks.papers.squash import search_kernel as kernel
from paperworks.papers.squash.filter_program import FilterProgram

ALL_AT_ONCE_ROWS = 1 << 18  # up to so many rows one sweep over the cells costs less than a call a list
SHARED_QUERIES = 4  # so many queries with one filter pay for a sweep over any number of rows
FEW = 64  # below n / FEW rows that pass, all of them are scored one by one after a sweep: lists would hold one or none each
BROAD = 0.1  # from this share of passing rows on, a search must reach as far as without a filter
RARE = 2048  # below n / RARE candidates, these are fetched from the sorted attribute instead of any sweep


@dataclass(frozen=True)
class Plan:
    """kind: 'none', 'everything', 'nothing', 'lists', 'sweep', 'candidates'; given: positions of candidates that pass."""

    kind: str
    filtered: int = kernel.NO_FILTER
    at_once: bool = False
    given: np.ndarray | None = None

    @property
    def reason(self) -> str:
        """For people."""
        return {
            "none": "no filter",
            "everything": "the filter lets every row pass, it is left out",
            "nothing": "no row can pass, known from the counts of values",
            "lists": "the filter is evaluated in the visited lists only",
            "sweep": "the filter is evaluated over all rows in one sweep",
            "candidates": "the rows that pass are fetched from the sorted values of an attribute",
        }[self.kind]


def is_broad(program: FilterProgram | None, n: int) -> bool:
    """Whether so many of n rows pass, by the counts of values, that the settings for searches without a filter are needed."""
    return program is None or program.expected() > BROAD * n


def plan_filter(program: FilterProgram | None, n: int, n_queries: int) -> Plan:
    """Choose by what the program knows without looking at rows."""
    if program is None:
        return Plan("none")
    if program.everything:
        return Plan("everything")
    if program.nothing:
        return Plan("nothing")
    if n <= ALL_AT_ONCE_ROWS:
        return Plan("sweep", kernel.PROGRAM, at_once=True)
    size = program.driver_size()
    if size is not None and size <= n // RARE:
        return Plan("candidates", kernel.GIVEN, given=program.positions())
    if n_queries >= SHARED_QUERIES or program.expected() <= n / FEW:
        return Plan("sweep", kernel.PROGRAM, at_once=True)
    return Plan("lists", kernel.PROGRAM)

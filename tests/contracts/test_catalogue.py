"""Every paper of the catalogue keeps the contract of a paper's folder."""

from __future__ import annotations

import pytest

from paperworks.catalogue import catalogue
from paperworks.testing import Check, paper_checks


def checks() -> list[object]:
    return [
        pytest.param(check, id=f"{slug}-{check.name}", marks=[pytest.mark.slow] if check.slow else [])
        for slug, paper in catalogue().items()
        if paper.builtin
        for check in paper_checks(paper)
    ]


@pytest.mark.parametrize("check", checks())
def test_paper(check: Check) -> None:
    check()


def test_no_folder_is_left_out() -> None:
    assert catalogue().problems == ()

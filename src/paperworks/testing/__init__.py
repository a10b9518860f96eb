"""Conformance suites: does a paper, or a source of papers, keep its side of the contract?

Third-party plugins use them in their own tests, as ours do:

    import pytest
    from paperworks.testing import paper_checks

    @pytest.mark.parametrize("check", paper_checks("my_paper"), ids=str)
    def test_my_paper(check):
        check()
"""

from paperworks.testing.check_paper import Check, CheckFailed, check_paper, paper_checks
from paperworks.testing.check_source import check_source, source_checks

__all__ = ["Check", "CheckFailed", "check_paper", "check_source", "paper_checks", "source_checks"]

"""The first eighteen papers of the catalogue: all there, their facts right, their rules able to decide."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.catalogue import Catalogue, ClaimSpec, find
from paperworks.claims.rules import Rule

SLUGS = {
    "squash", "prepacking", "raft", "wrap", "pruning_protection", "smp", "pela", "spdf", "booster", "elasticity",
    "iss", "dom", "pooling", "subgm", "lifting", "robustness_law", "preprocessing_bias", "threshold_features",
}  # fmt: skip
LATER_TITLES = {
    "2406.06144": "Language Models Resist Alignment: Evidence From Data Compression"
}  # from its third version on
CONSTANT = re.compile(r"(?<![A-Za-z_0-9.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


@pytest.fixture(scope="module")
def seed() -> Catalogue:
    return find(plugins=())


def claims() -> list[Any]:
    return [
        pytest.param(claim, id=f"{paper.slug}-{claim.id}")
        for paper in find(plugins=()).values()
        if paper.slug in SLUGS
        for claim in paper.claims
    ]


def names_of(claim: ClaimSpec) -> list[str]:
    return sorted(Rule(claim.reproduced).names | Rule(claim.refuted).names)


def near_thresholds(claim: ClaimSpec) -> list[float]:
    """The numbers of both rules and their neighbours: where a verdict turns."""
    constants = {float(text) for text in CONSTANT.findall(f"{claim.reproduced} {claim.refuted}")} | {0.0, 1.0}
    return sorted({sign * c + step for c in constants for sign in (1, -1) for step in (-1.0, -1e-4, 0.0, 1e-4, 1.0)})


def as_intervals(values: dict[str, float]) -> dict[str, float]:
    """Values as a measurement gives them: a `_low` is no higher than its `_high`, and its middle lies between them."""
    tidy = dict(values)
    for name in values:
        stem = name.removesuffix("_low")
        if stem != name and f"{stem}_high" in values:
            tidy[name], tidy[f"{stem}_high"] = sorted((values[name], values[f"{stem}_high"]))
    for name in values:
        low, high = tidy.get(f"{name}_low", -float("inf")), tidy.get(f"{name}_high", float("inf"))
        tidy[name] = min(max(tidy[name], low), high)
    return tidy


def test_all_are_there(seed: Catalogue) -> None:
    assert sorted(SLUGS - set(seed)) == []


def test_no_problems(seed: Catalogue) -> None:
    assert seed.problems == ()


def test_arxiv_ids_are_unique(seed: Catalogue) -> None:
    ids = [paper.spec.arxiv for paper in seed.values() if paper.spec.arxiv]
    assert sorted(ids) == sorted(set(ids))


@pytest.mark.parametrize("slug", sorted(SLUGS))
def test_the_entry_tells_a_person_enough(seed: Catalogue, slug: str) -> None:
    paper = seed[slug]
    assert len(paper.spec.abstract) > 400
    assert len(paper.claims) >= 5
    assert len(paper.readme.split()) >= 120
    if not paper.has_method:
        assert "The method is to come." in paper.readme
        assert paper.spec.code is None or paper.spec.code in paper.readme
    damage = r"\bell_|sim\d|\\|\$|\b[a-z]+20\d\d[a-z]+\b"  # stripped TeX, and keys of citations that lost their command
    assert re.findall(damage, f"{paper.spec.title} {paper.spec.abstract}") == []


@pytest.mark.parametrize("slug", sorted(SLUGS))
def test_what_two_cores_cannot_do_says_what_it_needs(seed: Catalogue, slug: str) -> None:
    for claim in seed[slug].claims:
        assert "smoke" in claim.scales, f"{claim.id}: its code could not be checked in seconds"
        if "cpu" in claim.scales:
            assert claim.minutes is not None, f"{claim.id}: how long does it take on two cores?"
        else:
            assert claim.needs, f"{claim.id}: what does it need?"


@pytest.mark.parametrize("claim", claims())
def test_rules_exclude_each_other(claim: ClaimSpec) -> None:
    reproduced, refuted = Rule(claim.reproduced), Rule(claim.refuted)
    number = st.one_of(
        st.sampled_from(near_thresholds(claim)),
        st.floats(-1e6, 1e6, allow_subnormal=False),
        st.floats(-3, 3, allow_subnormal=False),
    )

    @settings(max_examples=150, deadline=None)
    @given(st.fixed_dictionaries(dict.fromkeys(names_of(claim), number)))
    def check(values: dict[str, float]) -> None:
        values = as_intervals(values)
        assert not (reproduced(values) and refuted(values)), f"{claim.id} would be both for {values}"

    check()


@pytest.mark.parametrize("claim", claims())
def test_each_verdict_can_happen(claim: ClaimSpec) -> None:
    """A rule that never holds would decide nothing; found by trying values around the thresholds."""
    draw, thresholds = random.Random(0), near_thresholds(claim)
    for text in (claim.reproduced, claim.refuted):
        rule = Rule(text)
        own = sorted(rule.names)
        assert any(rule(as_intervals({name: draw.choice(thresholds) for name in own})) for _ in range(20_000)), (
            f"{claim.id}: no values make {text!r} hold"
        )


def test_the_check_of_rules_finds_a_contradiction() -> None:
    """The test above can fail: two rules that overlap by a hair are told apart from two that do not."""
    overlapping = {"id": "x", "statement": "Made up to overlap.", "metric": "m", "paper": {"where": "Table 1"}}
    claim = ClaimSpec.model_validate(overlapping | {"reproduced": "gain >= 2", "refuted": "gain <= 2"})
    with pytest.raises(AssertionError, match="would be both"):
        test_rules_exclude_each_other(claim)


def folded(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain.lower())


def test_facts_agree_with_the_seed_page(seed: Catalogue, shared_data: Path) -> None:
    path = shared_data / "arxiv" / "seed_papers.jsonl"
    if not path.is_file():
        pytest.skip("the folder with data sets holds no list of the first papers")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(SLUGS)
    for row in rows:
        paper = seed.by_arxiv(row["id"])
        assert paper is not None, f"{row['id']} {row['title']} is not in the catalogue"
        spec = paper.spec
        assert folded(spec.title) == folded(LATER_TITLES.get(row["id"], row["title"])), paper.slug
        assert spec.published == date.fromisoformat(row["published"]), paper.slug
        families = [folded(author.split()[-1]) for author in spec.authors]
        listed = [folded(author.split()[-1]) for author in row["authors"]]
        assert [name for name in families if name in listed] == listed, paper.slug
        categories = row["categories"] or []
        if row["categories_complete"]:
            assert list(spec.categories) == categories, paper.slug
        else:
            assert set(categories) <= set(spec.categories), paper.slug

"""Measure trending on real votes: how early its order agrees with the final one, and what sock puppets get.

    python benchmarks/bench_trending.py [--data FOLDER] [--write docs/benchmarks/trending.md]

The votes are observations of counters (`hf_daily/votes.csv.gz`): each paper's counter as seen at some moments after its listing
day began. For every moment the order is computed from what had been seen until then, by the hub's own arithmetic, and compared
with the order of the last counters.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import time
from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

from paperworks.config import TrendingSettings
from paperworks.hub import trending
from paperworks.hub.trending import HOUR, Seen

REPOSITORY = Path(__file__).resolve().parents[1]
LATE_HOURS = 96  # a counter seen this long after the day began counts as final
FEWEST_A_DAY = 5
BANDS = ((4, 12), (12, 20), (20, 30), (30, 48), (48, 72))


def data_folder(given: str | None) -> Path:
    named = given or os.environ.get("PAPERWORKS_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "hf_daily" / "votes.csv.gz").exists():
        raise SystemExit(f"no hf_daily/votes.csv.gz under {folder}; name the folder with --data or PAPERWORKS_DATA")
    return folder / "hf_daily"


def moment(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def read(folder: Path) -> tuple[dict[str, float], dict[str, list[Seen]]]:
    """Paper -> start of its listing day; paper -> observations in order of time."""
    began = {}
    for line in (folder / "papers.jsonl").read_text(encoding="utf-8").splitlines():
        paper = json.loads(line)
        began[paper["id"]] = moment(f"{paper['date']}T00:00Z")
    seen: defaultdict[str, list[Seen]] = defaultdict(list)
    with gzip.open(folder / "votes.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            seen[row["id"]].append(Seen(moment(row["observed_at"]), int(row["upvotes"])))
    return began, {paper: sorted(looks) for paper, looks in seen.items() if paper in began}


def agreement(began: dict[str, float], seen: dict[str, list[Seen]], half_life: float, weight: float) -> list[str]:
    """For each band of hours: Spearman of the order by key with the order by the last counter, over all papers and within days.

    Over all papers, heat is taken relative to each paper's own day, as if they had all been listed at once.
    """
    rows = []
    for low, high in BANDS:
        early, final, days, shares = [], [], [], []
        for paper, looks in seen.items():
            start = began[paper]
            until = [look for look in looks if low <= (look.at - start) / HOUR < high]
            if not until or (looks[-1].at - start) / HOUR < LATE_HOURS:
                continue
            known = [look for look in looks if look.at <= until[-1].at]
            # As if listed at one moment: shifted to a common day, so that only votes speak.
            shifted = [Seen(look.at - start + trending.EPOCH, look.value) for look in known]
            early.append(trending.key_of(trending.outside_votes(shifted, weight, trending.EPOCH), half_life))
            final.append(looks[-1].value)
            days.append(start)
            if looks[-1].value >= 5:
                shares.append(until[-1].value / looks[-1].value)
        within = []
        for day in set(days):
            at = [n for n, other in enumerate(days) if other == day]
            if len(at) >= FEWEST_A_DAY and len({final[n] for n in at}) > 1 and len({early[n] for n in at}) > 1:
                within.append(float(spearmanr([early[n] for n in at], [final[n] for n in at]).statistic))
        overall = float(np.corrcoef(rankdata(early), rankdata(final))[0, 1]) if len(early) > 2 else float("nan")
        inner = f"{np.median(within):.2f} ({len(within)} days)" if within else "-"
        rows.append(
            f"| {low}-{high} h | {len(early):,} | {overall:.2f} | {inner} | {np.median(shares):.0%} |"
            if shares
            else f"| {low}-{high} h | {len(early):,} | {overall:.2f} | {inner} | - |"
        )
    return rows


def arrivals(began: dict[str, float], seen: dict[str, list[Seen]]) -> list[str]:
    """Median share of the counter of about a week later that had been reached by an hour."""
    bands = ((0, 12), (12, 24), (24, 36), (36, 72), (72, 120), (120, 168))
    shares: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for paper, looks in seen.items():
        age = [(look.at - began[paper]) / HOUR for look in looks]
        if age[-1] < 168 or looks[-1].value < 5:
            continue
        for hours, look in zip(age, looks, strict=True):
            for band in bands:
                if band[0] <= hours < band[1]:
                    shares[band].append(look.value / looks[-1].value)
    return [
        f"| {low}-{high} h | {len(shares[low, high]):,} | {np.median(shares[low, high]):.0%} |"
        for low, high in bands
        if shares[low, high]
    ]


def stability(seen: dict[str, list[Seen]], began: dict[str, float], settings: TrendingSettings) -> tuple[int, int]:
    """Of 1,000 random pairs of real papers: how often order by key and order by heat differ at three later times, and how often
    the order by Hacker News's formula changes between them."""
    chance, papers = random.Random(0), sorted(seen)
    wrong = swapped = 0
    for _ in range(1000):
        pair = chance.sample(papers, 2)
        votes = [trending.outside_votes(seen[one], settings.outside_weight, began[one]) for one in pair]
        keys = [trending.key_of(one, settings.week_hours) for one in votes]
        last = max(seen[one][-1].at for one in pair)
        orders = set()
        for days in (0, 2, 30):
            now = last + days * 24 * HOUR
            heats = [
                sum(v.weight * 2.0 ** (-(now - v.at) / (settings.week_hours * HOUR)) for v in one) for one in votes
            ]
            if min(heats) > 0 and not np.isclose(*heats, rtol=1e-9):
                wrong += (heats[0] > heats[1]) != (keys[0] > keys[1])
            news = [max(0, seen[one][-1].value - 1) ** 0.8 / ((now - began[one]) / HOUR + 2) ** 1.8 for one in pair]
            orders.add(news[0] > news[1])
        swapped += len(orders) > 1
    return wrong, swapped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    settings = TrendingSettings()
    began, seen = read(data_folder(options.data))
    n_looks = sum(map(len, seen.values()))
    steps = [(one, other) for looks in seen.values() for one, other in pairwise(looks)]
    falls = sum(other.value < one.value for one, other in steps)
    started = time.process_time()
    for paper, looks in seen.items():
        votes = trending.outside_votes(looks, settings.outside_weight, began[paper])
        for half_life in trending.half_lives(settings).values():
            trending.key_of(votes, half_life)
    spent = time.process_time() - started
    wrong, swapped = stability(seen, began, settings)
    puppets = [
        (
            n,
            sum(
                trending.vote_weight(trust=trending.FRESH_TRUST, nth_of_day=1, kth_of_cluster=k)
                for k in range(1, n + 1)
            ),
        )
        for n in (1, 10, 50, 200, 1000)
    ]
    text = f"""# Trending, measured

Made by `python benchmarks/bench_trending.py` on {n_looks:,} observations of the upvotes of {len(seen):,} real papers
({len(steps):,} steps between two looks, {falls} of them down).

## How early the order agrees with the final one

The paper's key from what had been seen so many hours after its listing day began, against its last counter
({LATE_HOURS} h or later); Spearman's rank correlation over all papers as if listed at once, and its median within days of {FEWEST_A_DAY} papers or more.

| seen by | papers | order of today ({settings.day_hours:g} h half-life) | within a day | share of the last counter, median |
| --- | --- | --- | --- | --- |
{chr(10).join(agreement(began, seen, settings.day_hours, settings.outside_weight))}

The same for the week's half-life ({settings.week_hours:g} h):

| seen by | papers | order of the week | within a day | share of the last counter, median |
| --- | --- | --- | --- | --- |
{chr(10).join(agreement(began, seen, settings.week_hours, settings.outside_weight))}

## When votes arrive

Share of the counter of a week or more later, papers of five votes or more.

| seen by | observations | median share |
| --- | --- | --- |
{chr(10).join(arrivals(began, seen))}

## Does the order hold

Of 1,000 random pairs of these papers at three later moments: order by key and order by heat, computed vote by vote, differed {wrong} times.
The formula of Hacker News, (votes - 1)^0.8 / (hours + 2)^1.8, changed its mind about {swapped} of the pairs without a vote being cast.

## Sock puppets

Fresh accounts of one network prefix that vote for one paper, in votes of a trusted reader.

| accounts | they count |
| --- | --- |
{chr(10).join(f"| {n:,} | {count:.2f} |" for n, count in puppets)}

Four trusted readers count 4.0.

## Cost

All keys of these papers from all observations: {spent:.2f} s of CPU, {spent / max(1, len(seen)) * 1e6:.0f} microseconds a paper.
"""
    print(text)
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(text, encoding="utf-8")
    if wrong:
        raise SystemExit("the order by key is not the order by heat")


if __name__ == "__main__":
    main()

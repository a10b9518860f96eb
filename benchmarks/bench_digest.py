"""A thousand mails to the outbox: how long, and what is lost or doubled when the sender is killed again and again.

    python benchmarks/bench_digest.py [--subscribers 1000] [--papers 5000] [--kills 40] [--seed 0] [--no-write]

The store is made up here and seeded: papers of one week with titles and abstracts of made-up sentences, subscribers with one to three
subscriptions each (categories, searches, authors, trending) out of 60 wishes. Bar: 1,000 mails in 20 s, written and
fsynced, in one process. Then the same round on a fresh copy, killed with SIGKILL at random moments, until nothing waits.
Writes docs/benchmarks/digest.md.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select

from paperworks.catalogue import Catalogue
from paperworks.config import load
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.records import Batch, PaperRecord
from paperworks.hub.service import digest
from paperworks.hub.store import votes as vote_store
from paperworks.hub.store.load import store_batch
from paperworks.hub.store.models import Digest, DigestItem, Paper, Seen, Source, Subscriber, Subscription, Vote
from paperworks.hub.text import name_key
from paperworks.hub.times import utc_text

BAR_S = 20.0
START = datetime(2026, 8, 21, 8, 0, tzinfo=UTC)
REPORT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "digest.md"
CODES = ("cs.LG", "cs.CL", "cs.CV", "cs.AI", "stat.ML", "cs.RO", "cs.CR", "cs.IR", "math.OC", "cs.SD")
WORDS = [
    "pruning",
    "quantization",
    "retrieval",
    "diffusion",
    "alignment",
    "robustness",
    "sparse",
    "attention",
    "low-rank",
    "adaptation",
    "graph",
    "vision",
    "language",
    "speech",
    "planning",
    "agents",
    "benchmark",
    "distillation",
    "calibration",
    "uncertainty",
    "federated",
    "private",
    "tabular",
    "kernel",
    "spectral",
    "convex",
]
NAMES = [
    f"{first} {last}"
    for first in ("Ada", "Bo", "Chen", "Dana", "Emil", "Fay")
    for last in ("Writer", "Muster", "Vala", "Okoye", "Lind")
]
READ = re.compile(rb"Read: +\S+/paper/(\S+)")


def sentence(rng: random.Random) -> str:
    return f"We study {' '.join(rng.choices(WORDS, k=14))} with $x_{{{rng.randrange(9)}}} \\leq \\alpha^2$ and gain {rng.randrange(90)}%."


def build(home: Path, n_papers: int, n_subscribers: int, seed: int) -> None:
    """The made-up hub."""
    rng = random.Random(seed)
    with open_hub(load(home), catalogue=Catalogue(), clock=lambda: START - timedelta(hours=20)) as hub:
        records = [
            PaperRecord(
                title=" ".join(rng.choices(WORDS, k=8)).title() + rng.choice(("", " with $\\ell_1$ Budgets")),
                abstract=" ".join(sentence(rng) for _ in range(8)),
                authors=tuple(rng.sample(NAMES, rng.randint(1, 8))),
                arxiv=f"2608.{10000 + i}",
                categories=tuple(rng.sample(CODES, rng.randint(1, 3))),
                announced=date(2026, 8, 21) - timedelta(days=rng.choice((0, 0, 1, 1, 2, 3, 4, 5, 6))),
            )
            for i in range(n_papers)
        ]
        with hub.db.write() as session:
            source = Source(kind="file", name="made-up", config={})
            session.add(source)
            session.flush()
            for start in range(0, n_papers, 1000):
                store_batch(session, source.id, None, Batch(records=tuple(records[start : start + 1000])), hub.now())
            voted = rng.sample(list(session.scalars(select(Paper.id))), n_papers // 10)
            session.add_all(
                Vote(paper_id=i, reader_id=hub.reader_id, cast=utc_text(hub.now()), weight=1.0, cluster="")
                for i in voted
            )
            session.flush()
            vote_store.refresh_hot(session, voted, hub.settings, hub.now())
            add_subscribers(session, rng, n_subscribers)


def add_subscribers(session: object, rng: random.Random, n: int) -> None:
    wishes: list[tuple[str, dict[str, object]]] = [("topic", {"categories": [code]}) for code in CODES]
    wishes += [("topic", {"categories": rng.sample(CODES, 2)}) for _ in range(10)]
    wishes += [("query", {"query": f"{a} {b}"}) for a, b in (rng.sample(WORDS, 2) for _ in range(27))]
    wishes += [("author", {"author": name_key(name), "name": name}) for name in rng.sample(NAMES, 10)]
    wishes += [("trending", {"window": window}) for window in ("day", "week", "month")]
    confirmed = utc_text(START - timedelta(days=1))
    for i in range(n):
        email = f"reader{i}@example.org"
        subscriber = Subscriber(email=email, email_key=email, state="confirmed", created=confirmed, confirmed=confirmed)
        session.add(subscriber)  # type: ignore[attr-defined]
        session.flush()  # type: ignore[attr-defined]
        # the first is a category, so that everybody has a mail: what is counted is mails
        for kind, spec in [rng.choice(wishes[:20]), *rng.sample(wishes, rng.randint(0, 2))]:
            row = Subscription(subscriber_id=subscriber.id, kind=kind, spec=spec, hour=7, state="active")
            session.add(row)  # type: ignore[attr-defined]


def send_round(home: Path, now: datetime) -> dict[str, float]:
    """One round in this process: wall and CPU seconds, mails."""
    with open_hub(load(home), catalogue=Catalogue(), clock=lambda: now) as hub:
        wall, cpu = time.perf_counter(), time.process_time()
        planned = digest.plan_due(hub)
        after_plan = time.perf_counter()
        counts = digest.send_due(hub)
        return {
            "planned": planned,
            "plan_s": after_plan - wall,
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "sent": counts.sent,
            "empty": counts.empty,
        }


def state(hub: Hub) -> Counter[str]:
    with hub.db.read() as session:
        return Counter(dict(session.execute(select(Digest.state, func.count()).group_by(Digest.state)).all()))  # type: ignore[arg-type]


def check(home: Path, n_subscribers: int) -> dict[str, int]:
    """What the outbox and the store say when all is done."""
    recipients: Counter[str] = Counter()
    ids: Counter[bytes] = Counter()
    repeated = 0
    n_papers = 0
    for path in (home / "outbox").glob("*/*.eml"):
        raw = path.read_bytes()
        recipients[raw.partition(b"\r\nTo: ")[2].partition(b"\r\n")[0].decode()] += 1
        ids[raw.partition(b"\r\nMessage-ID: ")[2].partition(b"\r\n")[0]] += 1
        papers = READ.findall(raw)
        n_papers += len(papers)
        repeated += len(papers) - len(set(papers))
    with open_hub(load(home), catalogue=Catalogue(), clock=lambda: START) as hub, hub.db.read() as session:
        items = session.scalar(select(func.count()).select_from(DigestItem)) or 0
        seen = session.scalar(select(func.count()).select_from(Seen)) or 0
        sent = session.scalar(select(func.count()).select_from(Digest).where(Digest.state == "sent")) or 0
    return {
        "mails": sum(recipients.values()),
        "lost": n_subscribers - len(recipients),
        "doubled": sum(n - 1 for n in (*recipients.values(), *ids.values())),
        "papers": n_papers,
        "repeated_papers": repeated,
        "rows_not_sent": n_subscribers - sent,
        "seen_differs": abs(items - seen) + abs(n_papers - seen),
        "half_written": len(list((home / "outbox").glob("*/.*"))),
    }


def killed_rounds(home: Path, kills: int, seed: int, n_subscribers: int) -> tuple[int, int]:
    """Rounds of the sender in child processes, each killed at a random moment while mails are leaving, then one left alone.

    The clock goes on by eleven minutes a round, so that leases of the dead run out. Returns kills that hit a working sender, and
    rounds in all.
    """
    rng = random.Random(seed)
    hits = 0
    now = START
    for _ in range(kills):
        before = len(list((home / "outbox").glob("*/*.eml")))
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", str(home), now.isoformat()], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()  # it begins to send
        # a share of what is left, so that all kills fall on work
        target = before + 1 + rng.randrange(max(1, 2 * (n_subscribers - before) // (kills + 1)))
        until = time.perf_counter() + 60
        while child.poll() is None and time.perf_counter() < until:
            if (
                len(os.listdir(home / "outbox" / "2026-08-21") if (home / "outbox" / "2026-08-21").exists() else ())
                >= target
            ):
                time.sleep(rng.random() * 0.02)
                break
            time.sleep(0.002)
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            hits += 1
        child.wait()
        now += timedelta(minutes=11)
    for _ in range(2):
        send_round(home, now)
        now += timedelta(minutes=11)
    return hits, kills + 2


def child(home: Path, now: datetime) -> None:
    with open_hub(load(home), catalogue=Catalogue(), clock=lambda: now) as hub:
        print("sending", flush=True)
        digest.plan_due(hub)
        digest.send_due(hub)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--papers", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("HOME", "NOW"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(Path(given.child[0]), datetime.fromisoformat(given.child[1]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh, calm, killed = (Path(folder) / name for name in ("fresh", "calm", "killed"))
        build(fresh, given.papers, given.subscribers, given.seed)
        shutil.copytree(fresh, calm)
        shutil.copytree(fresh, killed)
        load = os.getloadavg()[0]
        round_ = send_round(calm, START)
        undisturbed = check(calm, given.subscribers)
        n_bytes = sum(path.stat().st_size for path in (calm / "outbox").glob("*/*.eml"))
        again = send_round(calm, START + timedelta(minutes=5))
        hits, rounds = killed_rounds(killed, given.kills, given.seed, given.subscribers)
        after = check(killed, given.subscribers)
    per_mail = 1000 * round_["wall_s"] / max(1, undisturbed["mails"])
    cpu_per_mail = 1000 * round_["cpu_s"] / max(1, undisturbed["mails"])
    bar = "met" if per_mail <= BAR_S else "missed"
    call = f"--subscribers {given.subscribers} --papers {given.papers} --kills {given.kills}"
    lines = [
        "# The digest: a thousand mails, and a sender that is killed",
        "",
        (
            f"`python benchmarks/bench_digest.py {call}`, {os.cpu_count()} cores, load {load:.1f} from other work when it began, Python "
            f"{sys.version.split()[0]}. {given.subscribers} subscribers with one to three subscriptions each out of 60 wishes, "
            f"{given.papers} made-up papers of one week, file outbox with fsync."
        ),
        "",
        "| what | measured | bar |",
        "| --- | --- | --- |",
        f"| mails written | {undisturbed['mails']} with {undisturbed['papers']} papers, {n_bytes / 1e6:.1f} MB | |",
        f"| wall time | {round_['wall_s']:.1f} s, {per_mail:.1f} ms a mail | 1,000 in {BAR_S:.0f} s: {bar} |",
        f"| processor time of that | {round_['cpu_s']:.1f} s, {cpu_per_mail:.1f} ms a mail | |",
        f"| of that planning | {1000 * round_['plan_s']:.0f} ms | |",
        f"| the next round, with nothing to do | {1000 * again['wall_s']:.0f} ms, {again['sent']} sent | 0 sent |",
        f"| kills that hit a working sender | {hits} of {given.kills}, {rounds} rounds | |",
        f"| mails lost | {after['lost']} | 0 |",
        f"| mails doubled (recipient or Message-ID) | {after['doubled']} | 0 |",
        f"| a paper twice in a mail | {after['repeated_papers']} | 0 |",
        f"| rows not `sent` at the end | {after['rows_not_sent']} | 0 |",
        f"| papers in mails that differ from `seen` | {after['seen_differs']} | 0 |",
        f"| half-written files left | {after['half_written']} | 0 |",
        "",
        (
            "A kill is SIGKILL from outside at a random moment while mails are leaving; the next round comes eleven minutes later by the "
            "hub's clock, when the lease of the dead sender has run out. The last two rounds are left alone. Other work on the machine "
            "stretches wall time; processor time says what a mail costs."
        ),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if not given.no_write:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(text, encoding="utf-8")
    wrong = [
        after[key] for key in ("lost", "doubled", "repeated_papers", "rows_not_sent", "seen_differs", "half_written")
    ]
    return 0 if per_mail <= BAR_S and not any(wrong) and not again["sent"] else 1


if __name__ == "__main__":
    sys.exit(main())

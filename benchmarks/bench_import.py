"""How fast a hub fills from files, and whether a killed import ends where an unkilled one ends.

    python benchmarks/bench_import.py            # 100,000 arXiv records, then the votes of 13,610 daily papers
    python benchmarks/bench_import.py --kill 20  # the import is killed 20 times (SIGKILL) and run again until it is done

The bar: 3,000 records a second into the store, 100,000 records in under 60 s, under 450 MB.
The data is found through PAPERWORKS_DATA, or in `../shared/data` beside the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import lzma
import os
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
# What a reader sees. Left out: when a paper was first seen, intakes and the cursor's stamp, which tell of the way and not of the state.
STATE = {
    "paper": "id, title, title_key, abstract, abstract_source, authors_text, primary_category, published, updated, announced,"
    " latest_version, comment, journal_ref, licence, withdrawn, slug, provenance",
    "identifier": "scheme, value, paper_id",
    "version": "paper_id, number, title, abstract, submitted, content_hash",
    "author": "id, name, name_key",
    "authorship": "paper_id, position, author_id, affiliation",
    "paper_category": "paper_id, code, is_primary",
    "link": "paper_id, kind, url, who, official",
    "listing": "source_id, paper_id, day, rank, url",
    "counter": "paper_id, source_id, metric, seen, value",
    "refused": "ordinal, reason, raw, settled",
}


def data_folder() -> Path:
    folder = Path(os.environ.get("PAPERWORKS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "arxiv" / "papers.jsonl.xz").exists():
        sys.exit(f"no arxiv/papers.jsonl.xz in {folder}; set PAPERWORKS_DATA to the folder that holds it")
    return folder


def state_hash(home: Path) -> dict[str, str]:
    """One hash a table, and one of the words index (as what it finds for all terms)."""
    found = {}
    with closing(sqlite3.connect(home / "hub.sqlite")) as connection:
        for table, columns in STATE.items():
            order = ", ".join(str(n + 1) for n in range(columns.count(",") + 1))
            digest = hashlib.sha256()
            for row in connection.execute(f"SELECT {columns} FROM {table} ORDER BY {order}"):
                digest.update(repr(row).encode())
            found[table] = digest.hexdigest()[:16]
        digest = hashlib.sha256()
        for row in connection.execute("SELECT term, doc, cnt FROM paper_fts_vocab ORDER BY term"):
            digest.update(repr(row).encode())
        found["words"] = digest.hexdigest()[:16]
        connection.execute(
            "INSERT INTO paper_fts (paper_fts, rank) VALUES ('integrity-check', 1)"
        )  # index against text
    return found


def on_disk(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("hub.sqlite*"))


def import_here(home: Path, paths: list[Path]) -> None:
    """What the child does; also the whole of `paperworks import`."""
    from paperworks.config import load
    from paperworks.hub.hub import open_hub
    from paperworks.hub.service.papers import import_files

    print("ready", flush=True)  # what is killed is the work, not the loading of Python modules
    with open_hub(load(home)) as hub:
        import_files(hub, paths)


def measure(folder: Path, home: Path) -> dict[str, object]:
    from sqlalchemy import text

    from paperworks.config import load
    from paperworks.hub.hub import open_hub
    from paperworks.hub.service.papers import import_files

    rows: dict[str, object] = {}
    with open_hub(load(home)) as hub:
        for name, paths in {
            "arXiv records": [folder / "arxiv" / "papers.jsonl.xz"],
            "Hugging Face daily papers": [folder / "hf_daily" / "papers.jsonl"],
            "their votes": [folder / "hf_daily" / "votes.csv.gz"],
            "arXiv records again, under another name": [_linked(folder / "arxiv" / "papers.jsonl.xz", home)],
        }.items():
            began, cpu = time.perf_counter(), time.process_time()
            view = import_files(hub, paths)
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            n = view.new + view.changed + view.same + view.refused
            began = time.perf_counter()
            with hub.db.read() as session:
                session.execute(
                    text("SELECT rowid FROM paper_fts WHERE paper_fts MATCH 'pruning' ORDER BY rank LIMIT 20")
                ).all()
            searchable = time.perf_counter() - began
            rows[name] = {
                "records": n, "new": view.new, "changed": view.changed, "same": view.same, "refused": view.refused,
                "wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "records_per_s": round(n / wall), "records_per_cpu_s": round(n / cpu),
                "until_searchable_s": round(wall + searchable, 2), "disk_MB": round(on_disk(home) / 1e6),
            }  # fmt: skip
            print(f"{name}: {n} records in {wall:.1f} s ({n / wall:.0f}/s; CPU {cpu:.1f} s, {n / cpu:.0f} a CPU second), searchable after {wall + searchable:.2f} s; "
                  f"new {view.new}, changed {view.changed}, same {view.same}, refused {view.refused}; on disk {on_disk(home) / 1e6:.0f} MB", flush=True)  # fmt: skip
    return rows


def _linked(path: Path, home: Path) -> Path:
    target = home / f"again-{path.name}"
    target.symlink_to(path)
    return target


def kill_test(folder: Path, scratch: Path, n_kills: int, n_lines: int, seed: int) -> dict[str, object]:
    """Compare the end state of a killed import with that of an unkilled one, on the first lines of the real file and all votes."""
    papers = scratch / "papers.jsonl"
    with (
        lzma.open(folder / "arxiv" / "papers.jsonl.xz", "rt", encoding="utf-8") as source,
        papers.open("w", encoding="utf-8") as cut,
    ):
        for n, line in enumerate(itertools.islice(source, n_lines)):
            cut.write("{not json\n" if n % 1009 == 500 else line)  # some are refused, and must be refused once
    paths = [papers, folder / "hf_daily" / "papers.jsonl", folder / "hf_daily" / "votes.csv.gz"]
    plain, killed = scratch / "plain", scratch / "killed"
    child = _run(plain, paths)
    began = time.perf_counter()
    if child.wait():
        sys.exit(f"the import failed with code {child.returncode}")
    whole = time.perf_counter() - began
    print(f"unkilled: {whole:.1f} s", flush=True)
    rng = random.Random(seed)
    kills = runs = 0
    while True:
        runs += 1
        child = _run(killed, paths)
        if kills < n_kills:
            # Short lives, so that all kills fall within the work: from the making of the tables to some batches later.
            try:
                child.wait(timeout=rng.uniform(0.01, 2.0 * whole / n_kills))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.wait()
                kills += 1
                continue
        if child.wait() == 0:
            break
        sys.exit(f"the import failed with code {child.returncode}")
    one, other = state_hash(plain), state_hash(killed)
    same = one == other
    print(f"killed {kills} times, {runs} starts: {'the same end state' if same else 'ANOTHER END STATE'}", flush=True)
    for table in one:
        print(f"  {table:15} {one[table]} {other[table]} {'' if one[table] == other[table] else 'DIFFERS'}")
    if not same:
        sys.exit(1)
    return {"lines": n_lines, "kills": kills, "starts": runs, "same_end_state": same}


def _run(home: Path, paths: list[Path]) -> subprocess.Popen[bytes]:
    """A child that has loaded its modules and is about to open the hub."""
    child = subprocess.Popen([sys.executable, __file__, "--child", str(home), *map(str, paths)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kill", type=int, default=0, metavar="N")
    parser.add_argument("--lines", type=int, default=20_000, help="of the arXiv file, with --kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="put the figures into this JSON file")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        home, *paths = map(Path, arguments.child)
        import_here(home, paths)
        return
    folder = data_folder()
    scratch = Path(tempfile.mkdtemp(prefix="paperworks-import-"))
    try:
        if arguments.kill:
            figures = kill_test(folder, scratch, arguments.kill, arguments.lines, arguments.seed)
        else:
            (scratch / "hub").mkdir()
            figures = measure(folder, scratch / "hub")
            rates = {unit: figures["arXiv records"][f"records_per_{unit}"] for unit in ("s", "cpu_s")}  # type: ignore[index]
            print(f"the bar of 3,000 records a second is {'met' if rates['s'] >= 3000 else 'MISSED'}: {rates['s']} "
                  f"(a CPU second, which a busy machine disturbs less: {rates['cpu_s']})")  # fmt: skip
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if arguments.write:
        about = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "cores": os.cpu_count()}
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(json.dumps({"about": about, "figures": figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

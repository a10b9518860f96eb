"""Work in a child process that is nice to others: its progress comes back as lines of JSON, its last words when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from paperworks.progress import Progress

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def run_apart(module: str, arguments: list[str], order: str, progress: Progress) -> str | None:
    """Run `python -m module arguments` with `order` on its standard input; None, or its last words if it failed.

    The child reports with `tell`. Whatever interrupts the wait kills it.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | ONE_THREAD,
    ) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stderr is not None
            child.stdin.write(order)
            child.stdin.close()
            for line in child.stdout:
                done, total, note = json.loads(line)
                progress(done, total, note)
            words = child.stderr.read().strip()
        except BaseException:
            child.kill()
            raise
    if not child.returncode:
        return None
    return words.splitlines()[-1][:500] if words else f"exit {child.returncode}"


def tell(done: float, total: float | None = None, note: str = "") -> None:
    """The child's progress: one line for `run_apart`."""
    sys.stdout.write(json.dumps([done, total, note]) + "\n")
    sys.stdout.flush()

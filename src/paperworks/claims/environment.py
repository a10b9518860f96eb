"""What a measurement was made on: machine, versions, revision. Nothing here imports the libraries that it names."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from paperworks._version import __version__
from paperworks.claims.places import checkout
from paperworks.progress import size

LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "torch",
    "transformers",
    "peft",
    "datasets",
    "xgboost",
    "xgboost-cpu",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Environment(BaseModel):
    """The machine and the versions of one run."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    python: str
    platform: str
    cpu: str
    cores: int  # that this process may use
    threads: str  # what limits the threads of the libraries ('OMP_NUM_THREADS=1'), or 'not limited'
    memory_bytes: int | None
    device: str = "cpu"
    versions: dict[str, str]  # of the installed libraries that measurements lean on
    paperworks: str
    revision: str | None  # git revision of a checkout; '+' at the end: with changes that are not committed

    @property
    def line(self) -> str:
        """One line for people: 'AMD EPYC, 2 cores, 25.2 GB, Python 3.11.7'."""
        memory = f", {size(self.memory_bytes)}" if self.memory_bytes else ""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        device = "" if self.device == "cpu" else f", {self.device}"
        return f"{self.cpu}, {cores}{memory}{device}, Python {self.python}"


def environment(device: str = "cpu") -> Environment:
    """The environment of this process, now."""
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=_cpu(),
        cores=_cores(),
        threads=_threads(),
        memory_bytes=_memory(),
        device=device,
        versions=_versions(),
        paperworks=__version__,
        revision=_revision(),
    )


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass  # not Linux: the platform's own word is used
    return platform.processor() or platform.machine() or "unknown processor"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads() -> str:
    limits = [f"{name}={os.environ[name]}" for name in _THREAD_VARIABLES if os.environ.get(name)]
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        limits.append(f"torch {torch.get_num_threads()}")
    return ", ".join(limits) or "not limited"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _revision() -> str | None:
    root = checkout()
    if root is None or not (root / ".git").exists():
        return None
    revision = _git(root, "rev-parse", "--short=12", "HEAD")
    if not revision:
        return None
    return revision + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src") else "")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

"""The conformance suite of a paper's folder: its shape, its documentation, and that every claim runs at smoke scale."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType

from paperworks.catalogue import RunnablePaper, catalogue, read_spec
from paperworks.errors import InputError, PaperworksError

SMOKE_CPU_S = 20.0  # for one claim; counted in CPU time, so that a busy machine does not fail a paper
EXAMPLE_S = 300.0
_HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "lithops")
_CODE_BLOCK = re.compile(r"^```(?:python|py)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


class CheckFailed(AssertionError):
    """A paper breaks its contract; the message says where and what to do."""


@dataclass(frozen=True)
class Check:
    """One named check: call it; it returns nothing, or raises CheckFailed. `unittest.SkipTest`: it cannot be checked here."""

    name: str
    run: Callable[[], None]
    slow: bool = False

    def __call__(self) -> None:
        self.run()

    def __str__(self) -> str:
        return self.name


def check_paper(paper: RunnablePaper | ModuleType | Path | str) -> dict[str, float]:
    """Run all checks of a paper; returns the seconds that each took (NaN: it could not be checked here).

    paper: a slug of the catalogue, an imported package, or its folder (whose parent must be importable).
    Raises CheckFailed with all that is wrong, not only the first.
    """
    seconds: dict[str, float] = {}
    wrong: list[str] = []
    for check in paper_checks(paper):
        began = time.monotonic()
        try:
            check()
        except CheckFailed as error:
            wrong.append(f"{check.name}: {error}")
        except unittest.SkipTest:
            seconds[check.name] = float("nan")
            continue
        seconds[check.name] = time.monotonic() - began
    if wrong:
        raise CheckFailed("\n".join(wrong))
    return seconds


def paper_checks(paper: RunnablePaper | ModuleType | Path | str) -> Iterator[Check]:
    """The checks of a paper, in the order in which a newcomer meets the problems. Nothing is imported until one is called.

    A folder with facts alone ('method to come') has only the check of its `paper.toml`.
    """
    paper = _resolve(paper)
    yield Check("paper.toml", partial(_toml, paper))
    if not paper.has_method:
        return
    yield Check("files", partial(_files, paper))
    yield Check("public-names", partial(_public_names, paper))
    yield Check("docstrings", partial(_docstrings, paper))
    yield Check("claims-have-functions", partial(_claims_have_functions, paper))
    yield Check("imports", partial(_imports, paper), slow=True)
    yield Check("readme-example", partial(_readme_example, paper), slow=True)
    for spec in paper.claims:
        yield Check(f"smoke-{spec.id}", partial(_smoke, paper, spec.id), slow=True)


def _resolve(paper: RunnablePaper | ModuleType | Path | str) -> RunnablePaper:
    if isinstance(paper, RunnablePaper):
        return paper
    if isinstance(paper, str):
        return catalogue()[paper]
    package = paper.__name__ if isinstance(paper, ModuleType) else None
    if isinstance(paper, ModuleType):
        if not paper.__file__:
            raise InputError(f"{package} is not a package in a folder; give the package that holds paper.toml")
        paper = Path(paper.__file__).parent
    for known in catalogue().values():
        if known.folder.resolve() == paper.resolve():
            return known
    return RunnablePaper(read_spec(paper / "paper.toml"), paper, package or paper.name, builtin=False)


def _toml(paper: RunnablePaper) -> None:
    try:
        read_spec(paper.folder / "paper.toml")
    except PaperworksError as error:
        raise CheckFailed(str(error)) from error


def _files(paper: RunnablePaper) -> None:
    missing = [name for name in ("README.md", "toy.py", "reproduce.py") if not (paper.folder / name).is_file()]
    if missing:
        raise CheckFailed(f"{paper.folder} lacks {', '.join(missing)}; every paper's folder has the same shape")
    if len(paper.readme.split()) < 40:
        raise CheckFailed("README.md says too little: when to use it, how, and its limits")


def _load(paper: RunnablePaper, module: str = "") -> ModuleType:
    try:
        return paper.load(module)
    except Exception as error:
        name = f"{paper.package}.{module}" if module else paper.package
        _skip_without_extra(paper, error)
        raise CheckFailed(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _skip_without_extra(paper: RunnablePaper, error: BaseException) -> None:
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if paper.spec.extra and isinstance(error, ImportError) and (hasattr(error, "extra") or name in _HEAVY):
        raise unittest.SkipTest(f"{paper.slug} needs the extra {paper.spec.extra!r}, which is not installed") from error


def _public_names(paper: RunnablePaper) -> None:
    module = _load(paper)
    names = getattr(module, "__all__", None)
    if not isinstance(names, (list, tuple)) or not names:
        raise CheckFailed(f"{paper.package} needs an __all__ that names its public API")
    lost = [name for name in names if not hasattr(module, name)]
    if lost:
        raise CheckFailed(f"{paper.package}.__all__ names {', '.join(lost)}, which the package does not have")
    if len(inspect.cleandoc(module.__doc__ or "").splitlines()) < 3:
        raise CheckFailed(f"{paper.package} needs a docstring: what it does in a few lines, and an example")


def _docstrings(paper: RunnablePaper) -> None:
    module = _load(paper)
    bare = []
    for name in getattr(module, "__all__", ()):
        item = getattr(module, name, None)
        if not (inspect.isclass(item) or inspect.isroutine(item)):
            continue
        if not inspect.getdoc(item):
            bare.append(name)
        if inspect.isclass(item) and item.__module__.startswith(paper.package):
            bare += [
                f"{name}.{method}"
                for method, function in vars(item).items()
                if not method.startswith("_")
                and isinstance(function, (property, staticmethod, classmethod, FunctionType))
                and not inspect.getdoc(getattr(item, method, None))
            ]
    if bare:
        raise CheckFailed(f"without a docstring: {', '.join(bare)}")


def _claims_have_functions(paper: RunnablePaper) -> None:
    from paperworks.claims.find import functions

    _load(paper, "reproduce")
    _load(paper, "toy")
    try:
        found = functions(paper)
    except PaperworksError as error:
        raise CheckFailed(str(error)) from error
    bare = [spec.id for spec in paper.claims if spec.id not in found]
    if bare:
        raise CheckFailed(f"reproduce.py has no function for: {', '.join(bare)}")


def _imports(paper: RunnablePaper) -> None:
    """In a fresh process: what importing the package, its toy data and its measurements pulls in."""
    modules = [
        paper.package,
        *(f"{paper.package}.{path.stem}" for path in sorted(paper.folder.glob("*.py")) if path.stem != "__init__"),
    ]
    script = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "print('\\n' + json.dumps([n for n in sys.modules if '.' not in n or n.startswith('paperworks.hub')]))\n"
    )
    done = _python(script, Path.cwd())
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        if paper.spec.extra and re.match(r"(ModuleNotFoundError|paperworks\.errors\.MissingExtra)", last[0]):
            raise unittest.SkipTest(last[0])
        raise CheckFailed(f"a module of {paper.package} cannot be imported in a fresh process: {last[0]}")
    loaded = set(json.loads(done.stdout.strip().splitlines()[-1]))
    hub = sorted(name for name in loaded if name.startswith("paperworks.hub"))
    if hub:
        raise CheckFailed(f"{paper.package} imports {hub[0]}; a paper never imports the hub")
    heavy = sorted(loaded & set(_HEAVY))
    if heavy and not paper.spec.extra:
        raise CheckFailed(
            f'{paper.package} imports {", ".join(heavy)}, which a plain install lacks; import it on use, or set extra = "nn"'
        )


def _readme_example(paper: RunnablePaper) -> None:
    blocks = _CODE_BLOCK.findall(paper.readme)
    if not blocks:
        raise CheckFailed("README.md has no ```python block; show an example that can be copied and run")
    with tempfile.TemporaryDirectory(prefix="paperworks-example-") as folder:
        done = _python(blocks[0], Path(folder))
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        if paper.spec.extra and re.match(r"(ModuleNotFoundError|paperworks\.errors\.MissingExtra)", last[0]):
            raise unittest.SkipTest(last[0])
        raise CheckFailed(f"the first example of README.md does not run: {last[0]}\n{done.stderr[-2000:]}")


def _smoke(paper: RunnablePaper, claim_id: str) -> None:
    from paperworks.claims.runner import run_claim

    if "smoke" not in paper.claim(claim_id).scales:
        raise CheckFailed(f"claim {claim_id!r} has no scale 'smoke'; a run of seconds on made-up data checks its code")
    began = time.process_time()
    try:
        record = run_claim(paper, claim_id, "smoke", seeds=(0,))
    except PaperworksError as error:
        _skip_without_extra(paper, error)
        raise CheckFailed(str(error)) from error
    seconds = time.process_time() - began
    if record.state == "skipped":
        if paper.spec.extra and f"paperworks[{paper.spec.extra}]" in record.reason:
            raise unittest.SkipTest(record.reason)
        raise CheckFailed(f"a smoke run needs nothing from outside, but: {record.reason}")
    if record.state == "failed":
        raise CheckFailed(f"{record.reason}\n{record.error}")
    if seconds > SMOKE_CPU_S:  # the first run after an install may have compiled kernels: the second tells
        began = time.process_time()
        run_claim(paper, claim_id, "smoke", seeds=(0,))
        seconds = time.process_time() - began
    if seconds > SMOKE_CPU_S:
        raise CheckFailed(
            f"the smoke run of {claim_id!r} took {seconds:.0f} s of CPU; make its data smaller (at most {SMOKE_CPU_S:.0f} s)"
        )


def _python(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh process that finds what this one finds, offline."""
    offline = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=os.environ | offline | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=EXAMPLE_S,
        check=False,
    )

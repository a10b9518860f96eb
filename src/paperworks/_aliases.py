"""Make `paperworks.<slug>` another name of the package of that paper, also in `from paperworks.<slug> import ...`.

The same module object answers to both names, so that classes are one and the same. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

# abc classes and pathlib are left out on purpose: `import paperworks` must load almost nothing
HERE = os.path.dirname(__file__)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class _Alias:
    def __init__(self, target: str) -> None:
        self.target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.target)
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own_spec  # the import system has put the alias's in its place


class PaperFinder:
    """Finds `paperworks.<slug>` and what is below it, where there is no room of that name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        first, _, rest = fullname.partition(".")
        slug, _, below = rest.partition(".")
        if first != "paperworks" or not slug or slug.startswith("_"):
            return None
        if os.path.isdir(os.path.join(HERE, slug)) or os.path.isfile(os.path.join(HERE, f"{slug}.py")):
            return None
        from paperworks.catalogue import catalogue

        paper = catalogue().papers.get(slug)
        if paper is None or not paper.has_method:
            return None
        name = f"{paper.package}.{below}" if below else paper.package
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                return None
            raise
        return ModuleSpec(fullname, _Alias(name), is_package=hasattr(module, "__path__"))  # type: ignore[arg-type]  # a loader by shape


def install() -> None:
    """Put the finder before those that look into folders; once."""
    if not any(isinstance(finder, PaperFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PaperFinder())

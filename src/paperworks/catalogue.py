"""Find the papers by their `paper.toml`, check them, serve them.

Built-in papers are the folders of `paperworks/papers/`. A third party's are packages named by an entry point of the group
`paperworks.papers`. A folder that cannot be read is named in `Catalogue.problems` and left out; it stops nothing else.
Nothing here imports a paper: reading the catalogue is cheap, and never needs torch.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from paperworks.claims.rules import Rule
from paperworks.errors import CatalogueError, NotFound, RuleError

Task = Literal["data", "training", "compression", "safety", "serving", "retrieval", "recovery", "tabular", "theory"]
Scale = Literal["smoke", "cpu", "gpu"]
SCALES: tuple[Scale, ...] = ("smoke", "cpu", "gpu")
ENTRY_POINT_GROUP = "paperworks.papers"
SLUG = r"^[a-z][a-z0-9_]{1,39}$"
KEBAB = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Printed(_Strict):
    """What the paper itself reports for a claim: numbers as printed, and where."""

    value: float | str | None = None
    baseline: float | str | None = None
    setting: str = ""
    where: str = Field(min_length=1)  # 'Table 2', 'Theorem 1', 'Figure 3'


class ClaimSpec(_Strict):
    """One claim of a paper, with the rule that was written down before it was measured."""

    id: str = Field(pattern=KEBAB)
    statement: str = Field(min_length=10)
    metric: str = Field(min_length=1)
    paper: Printed
    reproduced: str  # a rule over the names that the measurement returns
    refuted: str  # between the two: partly
    scales: tuple[Scale, ...] = SCALES
    minutes: float | None = Field(
        default=None, gt=0
    )  # expected for one seed at `cpu` on two cores, before this machine has a record
    needs: str = ""  # what it takes when two cores are not enough: 'one GPU of 24 GB and Llama-2-7B'

    @field_validator("reproduced", "refuted")
    @classmethod
    def _rule_parses(cls, text: str) -> str:
        try:
            Rule(text)
        except RuleError as error:
            raise ValueError(str(error)) from error
        return text


class PaperSpec(_Strict):
    """The contents of a `paper.toml`."""

    slug: str = Field(pattern=SLUG)
    title: str = Field(min_length=3)
    authors: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    arxiv: str | None = Field(default=None, pattern=r"^(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})$")
    doi: str | None = None
    published: date
    venue: str = ""
    categories: tuple[Annotated[str, Field(pattern=r"^[a-z-]+(\.[A-Za-z-]+)?$")], ...] = Field(min_length=1)
    code: str | None = Field(default=None, pattern=r"^https?://")
    task: Task
    abstract: str = ""  # arXiv's own (CC0); the hub shows it when no source has brought the paper
    summary: str = Field(min_length=40)  # two or three sentences of ours, plain words
    use: str = Field(min_length=10, max_length=160)  # what it does for you, one line
    extra: Literal["", "images", "nn", "serverless"] = ""  # the optional install that the method needs
    claims: tuple[ClaimSpec, ...] = ()

    @model_validator(mode="after")
    def _claim_ids_are_unique(self) -> PaperSpec:
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) != len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise ValueError(f"claim ids must be unique, these occur twice: {', '.join(twice)}")
        return self


@dataclass(frozen=True, slots=True)
class RunnablePaper:
    """A paper with a folder here: its facts, where it lies, and what of it exists."""

    spec: PaperSpec
    folder: Path
    package: str  # dotted name to import
    builtin: bool = True

    @property
    def slug(self) -> str:
        return self.spec.slug

    @property
    def claims(self) -> tuple[ClaimSpec, ...]:
        return self.spec.claims

    @property
    def has_method(self) -> bool:
        """Whether the method can be imported. A folder with facts alone is honest about it: 'method to come'."""
        return (self.folder / "__init__.py").exists()

    @property
    def has_measurements(self) -> bool:
        return (self.folder / "reproduce.py").exists()

    @property
    def readme(self) -> str:
        """README.md as text; empty when there is none."""
        path = self.folder / "README.md"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def claim(self, claim_id: str) -> ClaimSpec:
        for spec in self.claims:
            if spec.id == claim_id:
                return spec
        known = ", ".join(spec.id for spec in self.claims) or "none"
        raise NotFound(f"{self.slug} has no claim {claim_id!r}; its claims are: {known}")

    def load(self, module: str = "") -> ModuleType:
        """Import the package, or one of its modules ('reproduce', 'cli')."""
        if not self.has_method:
            raise NotFound(f"the method of {self.slug} is to come; `paperworks papers` lists what runs here")
        return import_module(f"{self.package}.{module}" if module else self.package)


@dataclass(frozen=True, slots=True)
class Problem:
    """A folder or plugin that could not be taken in, for people to read."""

    name: str
    message: str


@dataclass(frozen=True)
class Catalogue(Mapping[str, RunnablePaper]):
    """All papers by slug, in order of publication, newest first."""

    papers: dict[str, RunnablePaper] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def __getitem__(self, slug: str) -> RunnablePaper:
        try:
            return self.papers[slug]
        except KeyError:
            raise NotFound(f"no paper {slug!r} in the catalogue; known: {', '.join(self.papers) or 'none'}") from None

    def __contains__(self, slug: object) -> bool:
        return slug in self.papers

    def __iter__(self) -> Iterator[str]:
        return iter(self.papers)

    def __len__(self) -> int:
        return len(self.papers)

    def by_arxiv(self, arxiv_id: str) -> RunnablePaper | None:
        return next((paper for paper in self.papers.values() if paper.spec.arxiv == arxiv_id), None)


def read_spec(path: Path) -> PaperSpec:
    """Read and check one `paper.toml`.

    Raises CatalogueError naming the file, the field and what was wrong with it.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{path} is not valid TOML: {error}") from error
    try:
        spec = PaperSpec.model_validate(raw)
    except ValidationError as error:
        raise CatalogueError(f"{path}: {_explain(error, raw)}") from error
    if spec.slug != path.parent.name:
        raise CatalogueError(
            f"{path}: slug is {spec.slug!r} but the folder is {path.parent.name!r}; they must be the same"
        )
    return spec


def _explain(error: ValidationError, raw: dict[str, object]) -> str:
    lines = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"]) or "the file"
        match = re.match(r"claims\.(\d+)", place)
        claims = raw.get("claims")
        if match and isinstance(claims, list) and isinstance(claims[int(match[1])], dict):
            place = f"{place} (claim {claims[int(match[1])].get('id', '?')!r})"
        lines.append(f"{place}: {item['msg']}")
    return "; ".join(lines)


def find(builtin: Path | None = None, plugins: tuple[EntryPoint, ...] | None = None) -> Catalogue:
    """Read every `paper.toml`: the built-in folders first, then the installed plugins."""
    builtin = builtin or Path(__file__).parent / "papers"
    found: list[RunnablePaper] = []
    problems: list[Problem] = []
    for path in sorted(builtin.glob("*/paper.toml")):
        try:
            found.append(RunnablePaper(read_spec(path), path.parent, f"paperworks.papers.{path.parent.name}"))
        except CatalogueError as error:
            problems.append(Problem(path.parent.name, str(error)))
    taken = {paper.slug for paper in found}
    for point in plugins if plugins is not None else tuple(entry_points(group=ENTRY_POINT_GROUP)):
        try:
            paper = _from_plugin(point)
            if paper.slug in taken:
                raise CatalogueError(f"slug {paper.slug!r} is taken by another paper; rename the plugin's")
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it is named and left out
            problems.append(Problem(point.name, f"plugin {point.name!r} ({point.value}): {error}"))
            continue
        taken.add(paper.slug)
        found.append(paper)
    found.sort(key=lambda paper: (paper.spec.published, paper.slug), reverse=True)
    return Catalogue({paper.slug: paper for paper in found}, tuple(problems))


def _from_plugin(point: EntryPoint) -> RunnablePaper:
    spec = importlib.util.find_spec(point.module)
    if spec is None or not spec.submodule_search_locations:
        raise CatalogueError(f"{point.module} is not an installed package")
    folder = Path(next(iter(spec.submodule_search_locations)))
    return RunnablePaper(read_spec(folder / "paper.toml"), folder, point.module, builtin=False)


@cache
def catalogue() -> Catalogue:
    """The catalogue of this installation, read once."""
    return find()

"""Shapes that only the API has: lists with a cursor, what is posted, and the problem document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from paperworks.hub.views import (
    ClaimRow,
    FacetView,
    IntakeView,
    PaperCard,
    RefusedView,
    RunEventView,
    RunView,
    SourceView,
    VersionView,
    View,
)


class Problem(View):
    """What went wrong (RFC 9457), and what to do about it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    fix: str = Field(description="The next step, in words.")
    instance: str = ""
    request_id: str = ""


class _List(View):
    next: str | None = Field(default=None, description="Give it as `cursor` to get what comes next; null at the end.")


class PaperList(_List):
    items: tuple[PaperCard, ...]
    total: int | None = Field(
        description="How many there are in all, for a search about how many (see `capped`); null where nobody counts."
    )


class SearchList(PaperList):
    query: str
    canonical: str = Field(description="The query as it was understood.")
    mode: str
    capped: bool = Field(description="More than `total` match; they were not counted further.")
    facets: dict[str, tuple[FacetView, ...]]
    notes: tuple[str, ...] = Field(description="What was not understood, or what answered in words only and why.")
    direct: str | None = Field(default=None, description="The paper that an identifier or address in the query names.")


class VersionList(_List):
    items: tuple[VersionView, ...]


class ClaimList(_List):
    items: tuple[ClaimRow, ...]


class RunList(_List):
    items: tuple[RunView, ...]


class EventList(_List):
    items: tuple[RunEventView, ...]
    state: str = Field(description="State of the run; poll on with `after` while it is queued, running or cancelling.")


class SourceList(_List):
    items: tuple[SourceView, ...]


class IntakeList(_List):
    items: tuple[IntakeView, ...]


class RefusedList(_List):
    items: tuple[RefusedView, ...]


class VoteView(View):
    """A paper's votes of readers here, and whether yours is among them."""

    ref: str
    votes: int
    voted: bool


class FeedView(View):
    """An address that can be followed. `{…}` stands for what is to be filled in."""

    title: str
    atom: str
    json_feed: str


class FeedList(_List):
    items: tuple[FeedView, ...]


class RunOrder(BaseModel):
    """Which claim to measure, at what scale, with which seeds."""

    model_config = ConfigDict(extra="forbid")

    slug: Annotated[str, Field(max_length=80, examples=["iss"], description="Short name of a paper that runs here.")]
    claim: Annotated[str, Field(max_length=120, examples=["jpeg-restores-tap"])]
    scale: Literal["smoke", "cpu", "gpu"] = "cpu"
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1, max_length=20)] = (0, 1, 2)


class Entrance(View):
    """Where things are."""

    hub: str
    version: str
    papers: str
    trending: str
    claims: str
    runs: str
    sources: str
    intakes: str
    export: str
    feeds: str
    openapi: str
    documentation: str

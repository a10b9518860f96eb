"""What a source yields. Sources make these and never touch the store; the store takes these and never asks a source."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=400)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)


class LinkRecord(_Frozen):
    kind: Literal["pdf", "html", "code", "project", "data"]
    url: str = Field(pattern=r"^https?://", max_length=2000)
    who: Literal["author", "site", "reader"] = "site"
    official: bool = False


class CounterRecord(_Frozen):
    """A counter as it stood elsewhere at a moment."""

    metric: Literal["upvotes", "comments", "stars"]
    seen: datetime  # with time zone
    value: int = Field(ge=0)


class ListingRecord(_Frozen):
    """A source listed the paper on a day ('Hugging Face daily papers of 21 August')."""

    day: date
    rank: int | None = None
    url: str = ""


class PaperRecord(_Frozen):
    """One paper as one source tells it. Text is plain Unicode: no HTML, white space folded; TeX is left as it is.

    At least one of `arxiv`, `doi`, `openreview`, `acl`, `url` identifies it. A record without a title (a line of a table of
    votes, say) adds what it has to a paper that is known, and is refused by the store when the paper is not.
    """

    title: str = Field(
        default="", max_length=2000
    )  # empty: only adds to a paper that is known already (counters, abstract)
    abstract: str = Field(default="", max_length=50_000)
    authors: tuple[Name, ...] = ()
    affiliations: tuple[str, ...] = ()  # beside authors, '' where unknown
    arxiv: str | None = None  # without version
    version: int = Field(default=1, ge=1)
    doi: str | None = None
    openreview: str | None = None
    acl: str | None = None
    url: str | None = None
    categories: tuple[str, ...] = ()  # primary first
    published: date | None = None
    updated: date | None = None
    announced: date | None = None
    comment: str = ""
    journal_ref: str = ""
    licence: str = ""
    withdrawn: bool = False
    links: tuple[LinkRecord, ...] = ()
    counters: tuple[CounterRecord, ...] = ()
    listings: tuple[ListingRecord, ...] = ()

    @property
    def identifiers(self) -> dict[str, str]:
        """Scheme -> value of every identifier given."""
        pairs = {s: getattr(self, s) for s in ("arxiv", "doi", "openreview", "acl", "url")}
        return {scheme: value for scheme, value in pairs.items() if value}


class RefusedEntry(_Frozen):
    """An entry of a batch that could not be read."""

    ordinal: int  # line number (from 1) of a file, position in the batch otherwise
    reason: str
    raw: str = ""  # cut to 64 KiB by the store


class Batch(_Frozen):
    """Some records and where to go on after them. The store takes the records and the cursor in one transaction."""

    records: tuple[PaperRecord, ...] = ()
    refused: tuple[RefusedEntry, ...] = ()
    cursor: str | None = None
    requests: int = 0

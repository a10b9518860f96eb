"""A paper's own pages: overview, method, claims, similar. And the vote."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from paperworks.hub.hub import Hub
from paperworks.hub.service import papers, votes
from paperworks.hub.service import search as search_service
from paperworks.hub.views import PaperPage, VersionView
from paperworks.hub.web import method as methods
from paperworks.hub.web import plots, timing
from paperworks.hub.web.asking import HubOf, go, local, wants_json
from paperworks.hub.web.render import page

router = APIRouter()
TABS = (("overview", "Overview"), ("method", "Method"), ("claims", "Claims"), ("similar", "Similar"))
SCHEME_WORDS = {"arxiv": "arXiv", "doi": "DOI", "openreview": "OpenReview", "acl": "ACL Anthology", "url": "Address"}
LINK_WORDS = {"pdf": "PDF", "html": "Full text", "code": "Code", "project": "Project page", "data": "Data"}
WHO_WORDS = {"author": "its authors", "site": "the site that listed it", "reader": "a reader"}
SOURCE_WORDS = {
    "arxiv": "arXiv",
    "doi": "its publisher",
    "hf": "Hugging Face",
    "feed": "a feed",
    "file": "a file",
    "catalogue": "the catalogue",
}
NEAREST = 5
Diff = list[tuple[Literal["same", "new", "old"], str]]


@router.get("/paper/{ref:path}")
def paper(request: Request, hub: HubOf, ref: str) -> Response:
    ref, tab = _split(ref)
    with timing.span("paper"):
        view = papers.paper_page(hub, ref)
    if view.card.ref != ref:
        return go(f"/paper/{_address(view.card.ref, tab)}")
    return page(request, f"paper_{tab}.html", paper=view, tab=tab, tabs=TABS, **_CONTEXT[tab](hub, view))


@router.post("/vote")
def vote(
    request: Request,
    hub: HubOf,
    ref: Annotated[str, Form(max_length=400)],
    act: Annotated[Literal["cast", "withdraw"], Form()] = "cast",
    next: Annotated[str, Form(max_length=3000)] = "/",
) -> Response:
    changed = (votes.vote if act == "cast" else votes.unvote)(hub, ref)
    if wants_json(request):
        step = 1 if act == "cast" else -1
        return JSONResponse({"voted": act == "cast", "change": step if changed else 0})
    return go(local(next))


def _split(path: str) -> tuple[str, str]:
    """The ref and the tab: a ref may itself hold slashes (old arXiv ids, DOIs)."""
    ref, _, last = path.rstrip("/").rpartition("/")
    return (ref, last) if ref and last in dict(TABS) else (path.rstrip("/"), "overview")


def _address(ref: str, tab: str) -> str:
    from paperworks.hub.web.render import ref_path

    return ref_path(ref) + ("" if tab == "overview" else f"/{tab}")


def _overview(hub: Hub, view: PaperPage) -> dict[str, Any]:
    return {
        "scheme_words": SCHEME_WORDS,
        "link_words": LINK_WORDS,
        "who_words": WHO_WORDS,
        "source_words": SOURCE_WORDS,
        "identifier_links": _identifier_links(view.identifiers),
        "changes": changes(view.versions),
        "nearest": view.similar[:NEAREST],
    }


def _method(hub: Hub, view: PaperPage) -> dict[str, Any]:
    slug = view.card.slug
    with timing.span("reference"):
        return {"method": methods.describe(hub.catalogue[slug]) if slug and slug in hub.catalogue else None}


def _claims(hub: Hub, view: PaperPage) -> dict[str, Any]:
    return {"plots": plots.of_claims(hub, view.claims)}


def _similar(hub: Hub, view: PaperPage) -> dict[str, Any]:
    with timing.span("similar"):
        return {"similar": search_service.similar(hub, view.card.ref, k=20)}


_CONTEXT = {"overview": _overview, "method": _method, "claims": _claims, "similar": _similar}


def _identifier_links(identifiers: dict[str, str]) -> dict[str, str]:
    """Where an identifier leads; the abstract page of arXiv, not its PDF, as arXiv asks."""
    from urllib.parse import quote

    bases = {
        "arxiv": "https://arxiv.org/abs/",
        "doi": "https://doi.org/",
        "openreview": "https://openreview.net/forum?id=",
        "acl": "https://aclanthology.org/",
    }
    links = {
        scheme: bases[scheme] + quote(value, safe="/:.") for scheme, value in identifiers.items() if scheme in bases
    }
    if identifiers.get("url", "").startswith(("https://", "http://")):
        links["url"] = identifiers["url"]
    return links


@dataclass(frozen=True, slots=True)
class Change:
    """What a version changed against the one before it; empty lists where nothing did."""

    number: int
    submitted: str | None
    title: Diff
    abstract: Diff
    sentence: str


def changes(versions: tuple[VersionView, ...]) -> list[Change]:
    """Newest first, each against the version before it."""
    ordered = sorted(versions, key=lambda version: version.number)
    found = []
    for before, now in zip([None, *ordered], ordered, strict=False):
        title = words_changed(before.title, now.title) if before and before.title != now.title else []
        abstract = words_changed(before.abstract, now.abstract) if before and before.abstract != now.abstract else []
        parts = [name for name, diff in (("title", title), ("abstract", abstract)) if diff]
        if before is None:
            sentence = "the first that is known here"
        else:
            sentence = f"{' and '.join(parts)} changed" if parts else "title and abstract as before"
        found.append(Change(now.number, now.submitted, title, abstract, sentence))
    return found[::-1]


def words_changed(before: str, now: str) -> Diff:
    """The words of both texts, marked as same, new or old.

    >>> words_changed("a red fox", "a blue fox")
    [('same', 'a '), ('old', 'red'), ('new', 'blue'), ('same', ' fox')]
    """
    old, new = (re.findall(r"\s+|\S+", text) for text in (before, now))
    diff: Diff = []
    for what, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            diff.append(("same", "".join(old[a:b])))
            continue
        if a < b:
            diff.append(("old", "".join(old[a:b])))
        if c < d:
            diff.append(("new", "".join(new[c:d])))
    return diff

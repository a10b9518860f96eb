"""All papers, and searches among them. A search is its address: it can be kept, followed and mailed."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from paperworks.hub.service import search as service
from paperworks.hub.web import timing
from paperworks.hub.web.asking import HubOf, go
from paperworks.hub.web.render import page, ref_path

router = APIRouter()
FACET_WORDS = {
    "state": "State",
    "has": "With",
    "category": "Category",
    "year": "Year",
    "verdict": "Verdict",
    "code": "Code",
}
QUERY_LANGUAGE = (
    ("low-rank recovery", "words, any order; by meaning as well"),
    ('"exact phrase"', "these words, in this order"),
    ("-survey", "without this word"),
    ("pruning OR sparsity", "one or the other"),
    ("title:attention", "in the title"),
    ("author:hinton", "by this author"),
    ("cat:cs.LG", "in this category; cat:cs takes all of cs"),
    ("after:2024-01 before:2025", "published in between"),
    ("has:method", "runs here; also has:code, has:claims"),
    ("verdict:reproduced", "with a claim of this verdict"),
    ("sort:new", "newest first; also sort:hot, sort:relevance"),
    ("2301.13838", "an arXiv id, DOI or address opens the paper"),
)


@router.get("/papers")
def search(
    request: Request,
    hub: HubOf,
    q: Annotated[str, Query(max_length=2000)] = "",
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    sort: Literal["", "relevance", "new", "hot"] = "",
    mode: Literal["", "both", "words", "meaning"] = "",
) -> Response:
    with timing.span("search"):
        result = service.search(hub, q, cursor=cursor, mode=mode or None, sort=sort or None)
    for name, took in result.timing_ms.items():
        timing.add(name, took)
    if result.direct is not None and cursor is None:
        return go(f"/paper/{ref_path(result.direct)}")
    return page(
        request,
        "search.html",
        result=result,
        sort=sort,
        mode=mode,
        facet_words=FACET_WORDS,
        query_language=QUERY_LANGUAGE,
    )

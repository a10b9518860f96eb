"""Lists: a day, a category, an author; and the ways into them."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError
from paperworks.hub.service import papers
from paperworks.hub.service import search as search_service
from paperworks.hub.web import timing
from paperworks.hub.web.asking import HubOf, go
from paperworks.hub.web.render import address, page

router = APIRouter()
Cursor = Annotated[str | None, Query(max_length=500)]


@router.get("/day")
def latest_day(request: Request, hub: HubOf, day: Annotated[str | None, Query(max_length=20)] = None) -> Response:
    if day:
        return go(f"/day/{_checked(day)}")
    with timing.span("papers"):
        listing = papers.day_page(hub, None)
    return page(request, "day.html", listing=listing)


@router.get("/day/{day}")
def one_day(request: Request, hub: HubOf, day: str) -> Response:
    with timing.span("papers"):
        listing = papers.day_page(hub, _checked(day))
    return page(request, "day.html", listing=listing)


def _checked(day: str) -> str:
    from datetime import date

    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise InputError(f"a day is written as 2026-08-21, got {day!r}") from None


@router.get("/category")
def categories(request: Request, hub: HubOf) -> Response:
    with timing.span("search"):
        result = search_service.search(hub, "")
    found = sorted(result.facets.get("category", ()), key=lambda facet: facet.name)
    return page(request, "categories.html", categories=found, capped=result.capped)


@router.get("/category/{code}")
def category(request: Request, hub: HubOf, code: str, cursor: Cursor = None) -> Response:
    with timing.span("papers"):
        listing = papers.category_page(hub, code, cursor)
    feed = f"/feed/category/{quote(code, safe='')}"
    return page(
        request,
        "list.html",
        kind="Category",
        heading=listing.title,
        listing=listing,
        next_address=address(request.url.path, cursor=listing.next) if listing.next else None,
        feed=(f"{feed}.atom", f"{feed}.json"),
        subscribe=address("/subscribe", kind="topic", categories=code),
        empty="No paper in this category has come in yet.",
    )


@router.get("/author")
def authors(request: Request, hub: HubOf, name: Annotated[str, Query(max_length=200)] = "") -> Response:
    cleaned = re.sub(r'["\s]+', " ", name).strip()
    if cleaned:
        return go(address("/papers", q=f'author:"{cleaned}"'))
    return page(request, "authors.html")


@router.get("/author/{key}")
def author(request: Request, hub: HubOf, key: str, cursor: Cursor = None) -> Response:
    with timing.span("papers"):
        listing = papers.author_page(hub, key, cursor)
    feed = f"/feed/author/{quote(key, safe='')}"
    return page(
        request,
        "list.html",
        kind="Author",
        heading=listing.title,
        listing=listing,
        next_address=address(request.url.path, cursor=listing.next) if listing.next else None,
        feed=(f"{feed}.atom", f"{feed}.json"),
        subscribe=address("/subscribe", kind="author", author=listing.title),
        empty="No paper by this author has come in yet.",
    )

"""The resources of `/api/v1`. Translation only: every one asks a verb of `hub.service` and gives back its view models.

Refs stand in addresses as on the pages: an arXiv id (`2301.13838`, `cs/0701001`), `doi:10.…`, `p:17`, or the short name of a
paper that runs here. What goes wrong is a problem document with a `fix` line, made by `web/errors.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from paperworks import __version__
from paperworks.errors import NotFound
from paperworks.hub.hub import Hub
from paperworks.hub.service import claims as claims_service
from paperworks.hub.service import intake as intake_service
from paperworks.hub.service import papers as papers_service
from paperworks.hub.service import runs as runs_service
from paperworks.hub.service import search as search_service
from paperworks.hub.service import votes as votes_service
from paperworks.hub.views import PaperCard, PaperPage, RunView, Verdict, Window
from paperworks.hub.web.api import models
from paperworks.hub.web.api.answers import answer, part, position
from paperworks.hub.web.api.repeat import once
from paperworks.hub.web.asking import HubOf
from paperworks.hub.web.render import page as render_page

PREFIX = "/api/v1"
PAGE = 20
MOST = 100
_PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {"schema": models.Problem.model_json_schema()}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    304: {"description": "The asker has it already (`If-None-Match`)."},
    404: {**_PROBLEM, "description": "There is no such thing here."},
    422: {**_PROBLEM, "description": "Something in the request cannot be used; `detail` says what, `fix` what to do."},
}

router = APIRouter()
api = APIRouter(prefix=PREFIX, responses=_RESPONSES)

Size = Annotated[int, Query(ge=1, le=MOST, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=1500, description="`next` of the answer before.")]
Fields = Annotated[
    str | None, Query(max_length=1000, description="Names of the fields to keep, with commas: `ref,title`.")
]
Ref = Annotated[
    str, InPath(max_length=400, description="arXiv id, `doi:…`, `p:…` or short name.", examples=["2301.13838"])
]
RunId = Annotated[int, InPath(ge=1, lt=2**53)]


@router.get("/api", include_in_schema=False)
def documentation(request: Request, hub: HubOf) -> Response:
    """The API as a page, made from its own description; no script of anybody."""
    return render_page(
        request,
        "api.html",
        groups=_groups(request.app.openapi()),
        prefix=PREFIX,
        base=hub.settings.base_url.rstrip("/"),
    )


@api.get("", response_model=models.Entrance, tags=["entrance"], summary="Where things are")
def entrance(request: Request, hub: HubOf) -> Response:
    names = ("papers", "trending", "claims", "runs", "sources", "intakes", "export", "feeds")
    view = models.Entrance(
        hub=hub.settings.hub_name,
        version=__version__,
        openapi=f"{PREFIX}/openapi.json",
        documentation="/api",
        **{name: f"{PREFIX}/{name}" for name in names},
    )
    return answer(request, view)


# -- papers ---------------------------------------------------------------------------------------------------------


@api.get("/papers", response_model=models.SearchList, tags=["papers"], summary="Search, or list, papers")
def papers(
    request: Request,
    hub: HubOf,
    q: Annotated[
        str,
        Query(
            max_length=2000,
            description="The query language of the search box; empty: all, newest first.",
            examples=["pruning after:2024 has:method"],
        ),
    ] = "",
    mode: Annotated[
        Literal["words", "meaning", "both"] | None,
        Query(description="How to look; both unless the query says otherwise."),
    ] = None,
    sort: Annotated[Literal["relevance", "new", "hot"] | None, Query()] = None,
    size: Size = PAGE,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    """Words, `"exact phrases"`, `-not`, `OR`, `title:`, `author:`, `cat:`, `after:`, `before:`, `has:method|code|claims`, `verdict:`.

    Any text is a query; what was not understood stands in `notes`. `next` stays right while papers arrive.
    """
    found = search_service.search(hub, q, cursor=cursor, mode=mode, sort=sort, size=size)
    view = models.SearchList(
        items=found.cards,
        total=found.about,
        next=found.next,
        query=found.query,
        canonical=found.canonical,
        mode=found.mode,
        capped=found.capped,
        facets=found.facets,
        notes=found.notes,
        direct=found.direct,
    )
    return answer(request, view, fields=fields)


@api.get("/papers/{ref:path}/similar", response_model=models.PaperList, tags=["papers"], summary="Papers like this one")
def similar(
    request: Request, hub: HubOf, ref: Ref, k: Annotated[int, Query(ge=1, le=50)] = 10, fields: Fields = None
) -> Response:
    cards = search_service.similar(hub, ref, k=k)
    return answer(request, models.PaperList(items=tuple(cards), total=len(cards)), fields=fields)


@api.get(
    "/papers/{ref:path}/versions",
    response_model=models.VersionList,
    tags=["papers"],
    summary="Its versions, as far as known",
)
def versions(request: Request, hub: HubOf, ref: Ref, fields: Fields = None) -> Response:
    return answer(request, models.VersionList(items=papers_service.paper_page(hub, ref).versions), fields=fields)


@api.get(
    "/papers/{ref:path}/claims",
    response_model=models.ClaimList,
    tags=["papers", "claims"],
    summary="Its claims: as printed, as measured",
)
def paper_claims(request: Request, hub: HubOf, ref: Ref, fields: Fields = None) -> Response:
    return answer(request, models.ClaimList(items=papers_service.paper_page(hub, ref).claims), fields=fields)


@api.get("/papers/{ref:path}/votes", response_model=models.VoteView, tags=["votes"], summary="Its votes")
def votes(request: Request, hub: HubOf, ref: Ref) -> Response:
    return answer(request, _vote_view(hub, ref))


@api.put("/papers/{ref:path}/votes", response_model=models.VoteView, tags=["votes"], summary="Vote for it")
def vote(request: Request, hub: HubOf, ref: Ref) -> Response:
    """Voting twice is voting once."""
    votes_service.vote(hub, ref)
    return answer(request, _vote_view(hub, ref))


@api.delete("/papers/{ref:path}/votes", response_model=models.VoteView, tags=["votes"], summary="Take the vote back")
def unvote(request: Request, hub: HubOf, ref: Ref) -> Response:
    votes_service.unvote(hub, ref)
    return answer(request, _vote_view(hub, ref))


@api.get("/papers/{ref:path}", response_model=PaperPage, tags=["papers"], summary="Everything about one paper")
def paper(request: Request, hub: HubOf, ref: Ref, fields: Fields = None) -> Response:
    return answer(request, papers_service.paper_page(hub, ref), fields=fields)


def _vote_view(hub: Hub, ref: str) -> models.VoteView:
    card = papers_service.paper_page(hub, ref).card
    return models.VoteView(ref=card.ref, votes=card.votes, voted=card.voted)


# -- lists ----------------------------------------------------------------------------------------------------------


@api.get("/trending", response_model=models.PaperList, tags=["lists"], summary="What trends, with the reasons")
def trending(
    request: Request,
    hub: HubOf,
    window: Annotated[
        Window, Query(description="How fast votes cool: half-lives of a day, half a week, half a month.")
    ] = "week",
    size: Size = PAGE,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    start = position(cursor)
    cards: list[PaperCard] = votes_service.trending(hub, window, limit=size + 1, offset=start)
    after = f"n{start + size}" if len(cards) > size else None
    shown = tuple(cards[:size])
    return answer(request, models.PaperList(items=shown, total=None, next=after), fields=fields)


@api.get("/days/{day}", response_model=models.PaperList, tags=["lists"], summary="What was announced on a day")
def day(
    request: Request,
    hub: HubOf,
    day: Annotated[str, InPath(pattern=r"^(latest|\d{4}-\d{2}-\d{2})$", examples=["2026-08-21", "latest"])],
    size: Size = PAGE,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    found = papers_service.day_page(hub, None if day == "latest" else day)
    items, after = part(list(found.cards), position(cursor), size)
    return answer(request, models.PaperList(items=items, total=found.total, next=after), fields=fields)


@api.get("/categories/{code}", response_model=models.PaperList, tags=["lists"], summary="A category, newest first")
def category(
    request: Request,
    hub: HubOf,
    code: Annotated[str, InPath(max_length=32, examples=["cs.LG"])],
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    found = papers_service.category_page(hub, code, cursor)
    return answer(request, models.PaperList(items=found.cards, total=found.total, next=found.next), fields=fields)


@api.get("/authors/{key}", response_model=models.PaperList, tags=["lists"], summary="Papers of an author, newest first")
def author(
    request: Request,
    hub: HubOf,
    key: Annotated[str, InPath(max_length=400, description="`key` of an author in a paper.")],
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    found = papers_service.author_page(hub, key, cursor)
    return answer(request, models.PaperList(items=found.cards, total=found.total, next=found.next), fields=fields)


# -- claims and runs ------------------------------------------------------------------------------------------------


@api.get("/claims", response_model=models.ClaimList, tags=["claims"], summary="All claims: as printed, as measured")
def claims(
    request: Request,
    hub: HubOf,
    slug: Annotated[str | None, Query(max_length=80, description="Only those of this paper.")] = None,
    verdict: Annotated[Verdict | None, Query()] = None,
    size: Size = MOST,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    rows = [row for row in claims_service.claim_rows(hub, slug) if verdict is None or row.verdict == verdict]
    items, after = part(rows, position(cursor), size)
    return answer(request, models.ClaimList(items=items, next=after), fields=fields)


@api.get("/runs", response_model=models.RunList, tags=["runs"], summary="The latest measurements")
def runs(
    request: Request,
    hub: HubOf,
    slug: Annotated[str | None, Query(max_length=80)] = None,
    size: Size = PAGE,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    start = position(cursor)
    found = runs_service.runs(hub, limit=min(start, 10_000) + size + 1, slug=slug)
    items, after = part(found, start, size)
    return answer(request, models.RunList(items=items, next=after), fields=fields)


@api.post(
    "/runs",
    status_code=202,
    response_model=RunView,
    tags=["runs"],
    summary="Ask for a measurement",
    responses={
        202: {"description": "It is queued; `Location` says where to look."},
        409: {**_PROBLEM, "description": "The key was used for something else."},
    },
)
def ask_run(
    request: Request,
    hub: HubOf,
    order: models.RunOrder,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            max_length=200,
            description="Sent again with the same key, the same run is given back.",
        ),
    ] = None,
) -> Response:
    """The claim is measured in a process of its own when its turn comes. What is waiting or going on already is given back instead."""

    def make() -> int:
        return runs_service.ask_run(hub, order.slug, order.claim, order.scale, order.seeds, asked_by="api").id

    run = runs_service.run_view(hub, once(hub, "runs", key, order.model_dump_json(), make))
    return answer(request, run, status=202, headers={"Location": f"{PREFIX}/runs/{run.id}"})


@api.get("/runs/{run_id}/events", response_model=models.EventList, tags=["runs"], summary="What has happened in it")
def events(
    request: Request,
    hub: HubOf,
    run_id: RunId,
    after: Annotated[int, Query(ge=0, lt=2**53, description="Only events with a greater number.")] = 0,
    size: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Response:
    """In order. Ask again with `after` = the number of the last one you have."""
    state = runs_service.run_view(hub, run_id).state  # first: an event of its end is then never missed
    found = runs_service.events(hub, run_id, after=after, limit=size)
    return answer(request, models.EventList(items=tuple(found), state=state))


@api.post(
    "/runs/{run_id}/resume",
    status_code=202,
    response_model=RunView,
    tags=["runs"],
    summary="Go on with it",
    responses={202: {"description": "It is queued again."}},
)
def resume(request: Request, hub: HubOf, run_id: RunId) -> Response:
    """For a run that was interrupted, cancelled or failed: finished seeds are kept."""
    run = runs_service.resume(hub, run_id)
    return answer(request, run, status=202, headers={"Location": f"{PREFIX}/runs/{run.id}"})


@api.get("/runs/{run_id}", response_model=RunView, tags=["runs"], summary="One measurement as it stands")
def run(request: Request, hub: HubOf, run_id: RunId, fields: Fields = None) -> Response:
    return answer(request, runs_service.run_view(hub, run_id), fields=fields)


@api.delete("/runs/{run_id}", response_model=RunView, tags=["runs"], summary="Cancel it")
def cancel(request: Request, hub: HubOf, run_id: RunId) -> Response:
    """A run that has ended stays as it is."""
    return answer(request, runs_service.cancel(hub, run_id))


# -- sources --------------------------------------------------------------------------------------------------------


@api.get(
    "/sources",
    response_model=models.SourceList,
    tags=["sources"],
    summary="Where papers come from, and why nothing came",
)
def sources(request: Request, hub: HubOf, fields: Fields = None) -> Response:
    return answer(request, models.SourceList(items=tuple(intake_service.sources(hub))), fields=fields)


@api.get("/intakes", response_model=models.IntakeList, tags=["sources"], summary="The latest turns of the sources")
def intakes(request: Request, hub: HubOf, size: Size = 50, cursor: Cursor = None, fields: Fields = None) -> Response:
    start = position(cursor)
    items, after = part(intake_service.intake_log(hub, min(start, 10_000) + size + 1), start, size)
    return answer(request, models.IntakeList(items=items, next=after), fields=fields)


@api.get(
    "/intakes/{intake_id}/refused",
    response_model=models.RefusedList,
    tags=["sources"],
    summary="What could not be read in one turn",
)
def refused(
    request: Request, hub: HubOf, intake_id: RunId, size: Size = 50, cursor: Cursor = None, fields: Fields = None
) -> Response:
    items, after = part(intake_service.refused(hub, intake_id), position(cursor), size)
    return answer(request, models.RefusedList(items=items, next=after), fields=fields)


# -- taking things away ---------------------------------------------------------------------------------------------

_EXPORTS = {
    "jsonl": ("application/x-ndjson", "jsonl"),
    "bibtex": ("application/x-bibtex; charset=utf-8", "bib"),
    "ris": ("application/x-research-info-systems; charset=utf-8", "ris"),
    "csv": ("text/csv; charset=utf-8", "csv"),
}


@api.get(
    "/export",
    tags=["papers"],
    summary="Papers in an open format",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "A stream, one paper after the other.",
            "content": {name.partition(";")[0]: {} for name, _ in _EXPORTS.values()},
        }
    },
)
def export(
    hub: HubOf,
    format: Annotated[Literal["jsonl", "bibtex", "ris", "csv"], Query()] = "jsonl",
    q: Annotated[str | None, Query(max_length=2000, description="Only what this search finds; all without it.")] = None,
) -> Response:
    media_type, ending = _EXPORTS[format]
    lines = papers_service.export(hub, format, q or None)
    return StreamingResponse(
        _started(lines),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="papers.{ending}"'},
    )


def _started(lines: Iterator[str]) -> Iterator[str]:
    """The same stream with its first piece made already, so that what cannot be exported is a problem and not half a file."""
    head = next(lines, "")

    def rest() -> Iterator[str]:
        yield head
        yield from lines

    return rest()


@api.get("/feeds", response_model=models.FeedList, tags=["lists"], summary="What can be followed")
def feeds(request: Request, hub: HubOf) -> Response:
    from paperworks.hub.web.feeds import ADDRESSES

    base = hub.settings.base_url.rstrip("/")
    items = tuple(
        models.FeedView(
            title=title, atom=base + path.replace("{kind}", "atom"), json_feed=base + path.replace("{kind}", "json")
        )
        for title, path in ADDRESSES
    )
    return answer(request, models.FeedList(items=items))


@api.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
def nothing(rest: str) -> Response:
    raise NotFound(f"the API has nothing at /{rest[:200]}; /api lists what it has")


router.include_router(api)


# -- the page -------------------------------------------------------------------------------------------------------


def _groups(description: dict[str, Any]) -> list[dict[str, Any]]:
    """The OpenAPI description in the order of a page: tag -> operations with their parameters."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in description.get("paths", {}).items():
        for method, operation in methods.items():
            parameters = [
                {
                    "name": item["name"],
                    "place": item["in"],
                    "required": item.get("required", False),
                    "what": _pieces(item.get("description", "")),
                    "values": _values(item.get("schema", {})),
                }
                for item in operation.get("parameters", ())
            ]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = body.get("$ref", "").rpartition("/")[2]
            posted = description.get("components", {}).get("schemas", {}).get(name, {}).get("properties", {})
            groups.setdefault((operation.get("tags") or ["other"])[0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation.get("summary", ""),
                    "description": _pieces(operation.get("description", "")),
                    "parameters": parameters,
                    "posted": [
                        {"name": key, "what": _pieces(value.get("description", "")), "values": _values(value)}
                        for key, value in posted.items()
                    ],
                    "id": operation.get("operationId", f"{method}-{path}"),
                }
            )
    return [{"name": name, "operations": operations} for name, operations in groups.items()]


def _pieces(text: str) -> list[tuple[bool, str]]:
    """(is code, text), by the backticks of a docstring.

    >>> _pieces("give `next` back")
    [(False, 'give '), (True, 'next'), (False, ' back')]
    """
    return [(n % 2 == 1, piece) for n, piece in enumerate(text.split("`")) if piece]


def _values(schema: dict[str, Any]) -> str:
    """What a parameter takes, in words."""
    inner = [_values(item) for item in schema.get("anyOf", ()) if item.get("type") != "null"]
    if inner:
        return " or ".join(inner)
    if "enum" in schema:
        said = ", ".join(map(str, schema["enum"]))
    elif "const" in schema:
        said = str(schema["const"])
    elif schema.get("type") == "integer":
        said = (
            f"{schema['minimum']} to {schema['maximum']}"
            if "minimum" in schema and "maximum" in schema
            else "a whole number"
        )
    else:
        said = {"string": "text", "array": "a list"}.get(schema.get("type", ""), schema.get("type", ""))
    return f"{said}; {schema['default']!r} if left out" if schema.get("default") not in (None, "") else said

"""Error answers: what was wrong, what was got, what to do next. A page for people, a problem document for programs (RFC 9457)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from paperworks.errors import (
    Cancelled,
    CatalogueError,
    DataMissing,
    InputError,
    MissingExtra,
    NotFound,
    PaperworksError,
    SourceError,
    StoreError,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One error answer: status, heading, what happened, and the next step."""

    status: int
    title: str
    detail: str
    fix: str


SEARCH_OR_ADD = "Search for it by words, or bring it in: paperworks add ID."
NEXT_STEP: dict[type[PaperworksError], tuple[int, str, str]] = {
    NotFound: (404, "Not found", SEARCH_OR_ADD),
    InputError: (422, "That cannot be used", "Change what was typed and send it again."),
    MissingExtra: (409, "An optional install is missing", "Install it as the sentence says, then start the hub again."),
    DataMissing: (409, "A data set is missing", "Get it as the sentence says, then press the button again."),
    CatalogueError: (500, "A paper's folder cannot be read", "Mend the file that is named, then start the hub again."),
    SourceError: (502, "A source did not answer as asked", "Nothing was lost; look at Sources for its next turn."),
    StoreError: (503, "The hub's folder cannot be used", "Look at disk space and permissions: paperworks doctor."),
    Cancelled: (409, "That was stopped", "Start it again when you like."),
}
BY_STATUS: dict[int, tuple[str, str, str]] = {
    404: ("Not found", "There is no page at this address.", "Go to the front page, or search."),
    405: (
        "Not that way",
        "This address does not take this kind of request.",
        "Use the button on the page it belongs to.",
    ),
    422: ("That cannot be used", "Something in the request has the wrong form.", "Go back and change it."),
    429: ("Too many requests", "The hub was asked too often.", "Wait a minute and try again."),
}


def refusal_of(error: Exception) -> Refusal:
    """The answer that an exception becomes; nothing of an unexpected one leaks out."""
    if isinstance(error, PaperworksError):
        for kind, (status, title, fix) in NEXT_STEP.items():
            if isinstance(error, kind):
                return Refusal(status, title, str(error), fix)
        return Refusal(400, "That did not work", str(error), "Change what was asked and try again.")
    if isinstance(error, RequestValidationError):
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'] if part not in ('query', 'body', 'path'))}: {item['msg']}"
            for item in error.errors()
        )
        title, detail, fix = BY_STATUS[422]
        return Refusal(422, title, wrong or detail, fix)
    if isinstance(error, HTTPException):
        title, detail, fix = BY_STATUS.get(error.status_code, ("That did not work", "", "Go back and try again."))
        own = str(error.detail) if error.detail and not _is_phrase(error) else detail
        return Refusal(error.status_code, title, own, fix)
    return Refusal(
        500,
        "Something broke in the hub",
        "The page could not be made. What went wrong stands in the log, under the request id below.",
        "Try again; if it stays, run: paperworks doctor.",
    )


def _is_phrase(error: HTTPException) -> bool:
    from http import HTTPStatus

    try:
        return error.detail == HTTPStatus(error.status_code).phrase
    except ValueError:
        return False


def answer(request: Request, refusal: Refusal) -> Response:
    """The refusal as a page, or as a problem document below /api and for whoever asks for JSON."""
    request_id = str(request.scope.get("paperworks.request_id", ""))
    accept = request.headers.get("accept", "")
    if request.url.path.startswith("/api/") or ("json" in accept and "text/html" not in accept):
        body = {
            "type": "about:blank",
            "title": refusal.title,
            "status": refusal.status,
            "detail": refusal.detail,
            "fix": refusal.fix,
            "instance": request.url.path,
            "request_id": request_id,
        }
        return JSONResponse(body, refusal.status, media_type="application/problem+json")
    from paperworks.hub.web.render import page

    return page(request, "error.html", status_code=refusal.status, refusal=refusal, request_id=request_id)


def handle(request: Request, error: Exception) -> Response:
    refusal = refusal_of(error)
    if refusal.status >= 500:
        log.error("request failed: %s", error, exc_info=error)
    return answer(request, refusal)


def add_handlers(app: FastAPI) -> None:
    for kind in (PaperworksError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, handle)

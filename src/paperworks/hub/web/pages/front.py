"""The front page."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from paperworks.hub.service import papers
from paperworks.hub.views import Window
from paperworks.hub.web import timing
from paperworks.hub.web.asking import HubOf
from paperworks.hub.web.render import page

router = APIRouter()
WINDOW_WORDS = {"day": "today", "week": "this week", "month": "this month"}
LAST_VISIT = "last_visit"  # when the reader was here before; moves on when half a day has passed
THIS_VISIT = "this_visit"


@router.get("/", response_class=HTMLResponse)
def front(request: Request, hub: HubOf, window: Window = "week") -> HTMLResponse:
    with timing.span("papers"):
        view = papers.front_page(hub, window)
    before = request.cookies.get(LAST_VISIT, "")
    response = page(
        request,
        "front.html",
        front=view,
        window_words=WINDOW_WORDS,
        runs_here=[card for card in view.runnable if card.state == "runs-here"],
        to_come=[card for card in view.runnable if card.state != "runs-here"],
        fresh={card.id for card in view.recent if before and card.first_seen > before},
    )
    _remember_visit(request, response, hub.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
    return response


def _remember_visit(request: Request, response: HTMLResponse, now: str) -> None:
    """Two cookies: this visit begins anew after an absence, and only then does 'last visit' move on."""
    this = request.cookies.get(THIS_VISIT)
    if this is None:
        last = request.cookies.get("visited", now)
        response.set_cookie(LAST_VISIT, last, max_age=365 * 86400, httponly=True, samesite="lax")
    response.set_cookie(THIS_VISIT, this or now, max_age=4 * 3600, httponly=True, samesite="lax")
    response.set_cookie("visited", now, max_age=365 * 86400, httponly=True, samesite="lax")

"""Subscribing by two steps, and leaving by one.

No GET changes anything, since mail scanners press links. The one-click POST of a mail program (RFC 8058) ends everything at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from fastapi import APIRouter, Form, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from paperworks.errors import InputError, NotFound
from paperworks.hub.service import digest as digest_service
from paperworks.hub.service import subscriptions as service
from paperworks.hub.web import timing
from paperworks.hub.web.asking import HubOf, go
from paperworks.hub.web.render import address, page

router = APIRouter()
KINDS = (
    ("trending", "What trends"),
    ("topic", "New papers of some categories"),
    ("query", "New papers that a search finds"),
    ("author", "New papers of an author"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
Kind = Literal["trending", "topic", "query", "author"]
DONE_WORDS = {
    "one": "That subscription has ended.",
    "changed": "Changed.",
    "never": "This address will not be written to again.",
    "all": "All subscriptions have ended.",
}


class Wish(BaseModel):
    """What the form holds."""

    kind: Kind = "trending"
    window: Literal["day", "week", "month"] = "day"
    categories: str = Field("", max_length=400)
    query: str = Field("", max_length=1000)
    author: str = Field("", max_length=200)
    cadence: Literal["daily", "weekly"] = "daily"
    weekday: int = Field(0, ge=0, le=6)
    hour: int = Field(7, ge=0, le=23)
    time_zone: str = Field("UTC", max_length=60)
    email: str = Field("", max_length=254)
    preview: str = Field("", max_length=10)

    def spec(self) -> dict[str, Any]:
        """What the kind needs. Raises InputError when it is missing."""
        if self.kind == "trending":
            return {"window": self.window}
        if self.kind == "topic":
            codes = [code for code in re.split(r"[\s,;]+", self.categories) if code]
            if not codes:
                raise InputError("name at least one category, such as cs.LG")
            return {"categories": codes}
        if self.kind == "query":
            if not self.query.strip():
                raise InputError("type the words of the search, such as: pruning -survey")
            return {"query": self.query.strip()}
        if not self.author.strip():
            raise InputError("type the author's name")
        return {"name": self.author.strip()}


@dataclass(frozen=True, slots=True)
class FormView:
    """One button on a page of few words."""

    action: str
    label: str
    fields: dict[str, str]


@cache
def zones() -> tuple[str, ...]:
    return tuple(
        sorted(zone for zone in available_timezones() if "/" in zone and not zone.startswith(("Etc/", "SystemV/")))
    )


@router.get("/subscribe")
def form(request: Request, hub: HubOf, wish: Annotated[Wish, Query()]) -> Response:
    digest, problem = None, ""
    if wish.preview:
        try:
            with timing.span("preview"):
                digest = digest_service.preview(hub, wish.kind, wish.spec(), cadence=wish.cadence)
        except InputError as error:
            problem = str(error)
    return _form(request, wish, problem=problem, digest=digest)


@router.post("/subscribe")
def subscribe(request: Request, hub: HubOf, wish: Annotated[Wish, Form()]) -> Response:
    if not wish.email.strip():
        return _form(request, wish, problem="Type the e-mail address that the mails go to.", status_code=422)
    try:
        service.subscribe(
            hub,
            wish.email,
            wish.kind,
            wish.spec(),
            wish.cadence,
            wish.hour,
            wish.weekday,
            wish.time_zone,
            network=request.client.host if request.client else "",
        )
    except InputError as error:
        return _form(request, wish, problem=str(error), status_code=422)
    return go("/subscribe/sent")


def _form(request: Request, wish: Wish, problem: str = "", status_code: int = 200, **context: Any) -> Response:
    context.setdefault("digest", None)
    return page(
        request,
        "subscribe.html",
        status_code=status_code,
        wish=wish,
        problem=problem,
        kinds=KINDS,
        weekdays=WEEKDAYS,
        zones=zones(),
        **context,
    )


@router.get("/subscribe/sent")
def sent(request: Request, hub: HubOf) -> Response:
    lines = ["Look in your mail: there is one with a button to confirm. Until you press it nothing else is sent."]
    if hub.settings.mail.transport == "outbox":
        lines.append(
            f"This hub puts its mails into a folder, {hub.settings.outbox}, until a mail server is set. Open the newest file there."
        )
    return page(request, "notice.html", heading="Nearly there", lines=lines, forms=[])


@router.get("/confirm/{ticket}")
def confirm_form(request: Request, hub: HubOf, ticket: str) -> Response:
    view = service.confirm_view(hub, ticket)
    lines = [f"{view.email} would get:", *[item.sentence for item in view.subscriptions]]
    forms = [FormView(f"/confirm/{ticket}", "Yes, send it to me", {})]
    return page(request, "notice.html", heading="Is this what you want?", lines=lines, forms=forms)


@router.post("/confirm/{ticket}")
def confirm(request: Request, hub: HubOf, ticket: str) -> Response:
    service.confirm(hub, ticket)
    return go("/confirmed")


@router.get("/confirmed")
def confirmed(request: Request) -> Response:
    lines = [
        "The first mail comes at the hour you chose. Every mail has a link to change or end it, which needs no sign-in."
    ]
    return page(request, "notice.html", heading="Done", lines=lines, forms=[])


@router.get("/never/{ticket}")
def never_form(request: Request, ticket: str) -> Response:
    lines = ["This hub will not write to the address of that mail again, whoever types it into a form."]
    forms = [FormView(f"/never/{ticket}", "Never write to me again", {})]
    return page(request, "notice.html", heading="No mail from here", lines=lines, forms=forms)


@router.post("/never/{ticket}")
def never_from_confirmation(request: Request, hub: HubOf, ticket: str) -> Response:
    service.never(hub, ticket)
    return page(request, "notice.html", heading="No mail from here", lines=[DONE_WORDS["never"]], forms=[])


@router.get("/u/{ticket}")
def manage(request: Request, hub: HubOf, ticket: str, done: Annotated[str, Query(max_length=20)] = "") -> Response:
    subscriber = service.unsubscribe_view(hub, ticket)
    return page(request, "unsubscribe.html", subscriber=subscriber, ticket=ticket, done=DONE_WORDS.get(done, ""))


@router.post("/u/{ticket}")
def one_click(hub: HubOf, ticket: str) -> Response:
    """RFC 8058: no cookie, no sign-in, no redirect; pressing twice is the same as once, and an unknown ticket changes nothing."""
    try:
        service.unsubscribe(hub, ticket)
    except NotFound:
        return PlainTextResponse("There is no such subscription; nothing was changed.\n", 404)
    return PlainTextResponse("You are unsubscribed.\n")


@router.post("/u/{ticket}/end")
def end(hub: HubOf, ticket: str, subscription: Annotated[int | None, Form()] = None) -> Response:
    service.unsubscribe(hub, ticket, subscription)
    return go(address(f"/u/{ticket}", done="all" if subscription is None else "one"))


@router.post("/u/{ticket}/change")
def change(
    hub: HubOf,
    ticket: str,
    subscription: Annotated[int, Form()],
    cadence: Annotated[Literal["daily", "weekly"], Form()],
) -> Response:
    service.change(hub, ticket, subscription, cadence=cadence)
    return go(address(f"/u/{ticket}", done="changed"))


@router.post("/u/{ticket}/never")
def never(hub: HubOf, ticket: str) -> Response:
    service.never(hub, ticket)
    return go(address(f"/u/{ticket}", done="never"))

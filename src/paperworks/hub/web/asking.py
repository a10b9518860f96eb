"""Small things that several page families need of a request."""

from __future__ import annotations

from typing import Annotated, cast
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse

from paperworks.hub.hub import Hub


def hub_of(request: Request) -> Hub:
    return cast("Hub", request.app.state.hub)


HubOf = Annotated[Hub, Depends(hub_of)]


def local(address: str, otherwise: str = "/") -> str:
    """`address` if it stays on this site, else `otherwise`: a form must not send a reader elsewhere.

    >>> local("/papers?q=a"), local("//evil.example"), local("https://evil.example/"), local("/\\\\evil.example")
    ('/papers?q=a', '/', '/', '/')
    """
    parts = urlsplit(address)
    stays = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return address if stays and address.isprintable() else otherwise


def go(address: str) -> RedirectResponse:
    """After a form: see the page, by GET."""
    return RedirectResponse(address, status_code=303)


def wants_json(request: Request) -> bool:
    """Whether our script asked, which changes the page by itself."""
    return request.headers.get("accept", "").startswith("application/json")

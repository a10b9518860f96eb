"""What a reader's browser remembers: the theme, in a cookie."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import Response

from paperworks.hub.web.asking import go, local
from paperworks.hub.web.render import THEME_COOKIE

router = APIRouter()


@router.post("/theme")
def theme(
    request: Request,
    theme: Annotated[Literal["auto", "light", "dark"], Form()],
    next: Annotated[str, Form(max_length=3000)] = "/",
) -> Response:
    response = go(local(next))
    secure = request.url.scheme == "https"
    response.set_cookie(THEME_COOKIE, theme, max_age=365 * 86400, httponly=True, samesite="lax", secure=secure)
    return response

"""Put the hub on the web: guards, pages, static files, and the API and feeds beside them.

Translation only: every page asks `hub.service` and renders what it is given.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from paperworks import __version__
from paperworks.hub.hub import Hub
from paperworks.hub.web import errors, feeds
from paperworks.hub.web.api import router as api
from paperworks.hub.web.pages import (
    about,
    claims,
    front,
    health,
    lists,
    papers,
    preferences,
    runs,
    search,
    sources,
    subscriptions,
)
from paperworks.hub.web.render import HERE
from paperworks.hub.web.security import Guard, host_name
from paperworks.hub.web.timing import Metrics, Timing

PAGES = (front, search, papers, lists, claims, runs, subscriptions, sources, preferences, about, health)
YEAR_S = 365 * 24 * 3600


def create_app(hub: Hub) -> FastAPI:
    """The whole site of an opened hub; whoever opened it closes it."""
    app = FastAPI(
        title=hub.settings.hub_name,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.hub = hub
    app.state.metrics = Metrics()
    errors.add_handlers(app)
    for family in PAGES:
        app.include_router(family.router, include_in_schema=False)
    app.include_router(feeds.router, include_in_schema=False)
    app.include_router(api.router)
    app.mount("/static", _Kept(directory=HERE / "static"), name="static")
    hosts = {*hub.settings.allowed_hosts, host_name(hub.settings.base_url.partition("://")[2].partition("/")[0])}
    app.add_middleware(Guard, allowed_hosts=hosts, https=hub.settings.base_url.startswith("https://"))
    app.add_middleware(Timing, metrics=app.state.metrics)  # added last, stands outside
    return app


class _Kept(StaticFiles):
    """Static files; their addresses carry a hash of the content, so they may be kept for a year."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200 and scope.get("query_string", b"").startswith(b"v="):
            response.headers["Cache-Control"] = f"public, max-age={YEAR_S}, immutable"
        return response

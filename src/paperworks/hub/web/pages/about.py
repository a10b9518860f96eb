"""What the hub says about itself, and how trending is made."""

from __future__ import annotations

import platform
import sqlite3

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from paperworks import __version__
from paperworks.hub.web.asking import HubOf
from paperworks.hub.web.render import page

router = APIRouter()


@router.get("/about")
def about(request: Request, hub: HubOf) -> Response:
    facts = {
        "paperworks": __version__,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "Runnable papers": str(sum(paper.has_method for paper in hub.catalogue.values())),
        "Mail leaves by": hub.settings.mail.transport,
    }
    return page(request, "about.html", facts=facts)


@router.get("/trending/how")
def how(request: Request, hub: HubOf) -> Response:
    return page(request, "how.html", trending=hub.settings.trending)

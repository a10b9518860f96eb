"""Where papers come from: each source with its last intake, what was refused and why, and 'ask it now'."""

from __future__ import annotations

import logging
import threading
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import NotFound, PaperworksError
from paperworks.hub.hub import Hub
from paperworks.hub.service import intake
from paperworks.hub.web.asking import HubOf, go
from paperworks.hub.web.render import page
from paperworks.progress import LogProgress

router = APIRouter()
log = logging.getLogger(__name__)
INTAKE_WORDS = {
    "running": "going on",
    "done": "done",
    "refusals": "done with refusals",
    "failed": "failed",
    "interrupted": "interrupted",
}
_one_at_a_time = threading.Lock()


@router.get("/sources")
def sources(request: Request, hub: HubOf) -> Response:
    return page(
        request,
        "sources.html",
        sources=intake.sources(hub),
        intakes=intake.intake_log(hub, 50),
        intake_words=INTAKE_WORDS,
    )


@router.get("/sources/intake/{intake_id}")
def refused(request: Request, hub: HubOf, intake_id: int) -> Response:
    return page(request, "intake.html", intake_id=intake_id, entries=intake.refused(hub, intake_id))


@router.post("/sources/run")
def run(hub: HubOf, name: Annotated[str, Form(max_length=200)]) -> Response:
    if not any(source.name == name for source in intake.sources(hub)):
        raise NotFound(f"there is no source {name!r}; `paperworks source add` makes one")
    threading.Thread(target=_intake, args=(hub, name), name=f"intake-{name}", daemon=True).start()
    return go("/sources")


def _intake(hub: Hub, name: str) -> None:
    """In the background: an intake may take minutes. What came of it is shown by its row in the log of intakes."""
    with _one_at_a_time:
        try:
            intake.run_intake(hub, name, progress=LogProgress(f"intake {name}"))
        except PaperworksError as error:
            log.warning("intake source=%s: %s", name, error)
        except Exception:
            log.exception("intake source=%s broke", name)


@router.post("/sources/retry")
def retry(hub: HubOf) -> Response:
    intake.retry_refused(hub)
    return go("/sources")

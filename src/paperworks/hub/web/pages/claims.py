"""All claims, beside what was measured; plots and records for download."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from paperworks.catalogue import SCALES
from paperworks.hub.service import claims
from paperworks.hub.views import ClaimRow, Verdict
from paperworks.hub.web import timing
from paperworks.hub.web.asking import HubOf
from paperworks.hub.web.render import page

router = APIRouter()


@dataclass
class Group:
    """The claims of one paper that are shown."""

    title: str
    ref: str
    rows: list[ClaimRow] = field(default_factory=list)


def _measured_first(group: Group) -> tuple[bool, bool]:
    """Papers with a verdict, then those that can be measured, then what is to come; else the catalogue's order."""
    return all(row.verdict == "not-measured" for row in group.rows), not any(row.can_run for row in group.rows)


@router.get("/claims")
def all_claims(
    request: Request,
    hub: HubOf,
    verdict: Verdict | Literal[""] = "",
    scale: Literal["", "smoke", "cpu", "gpu"] = "",
) -> Response:
    with timing.span("claims"):
        rows = claims.claim_rows(hub)
    groups: dict[str, Group] = {}
    for row in rows:
        if (not verdict or row.verdict == verdict) and (not scale or row.scale == scale):
            groups.setdefault(row.slug, Group(row.paper_title, row.paper_ref)).rows.append(row)
    return page(
        request,
        "claims.html",
        groups=sorted(groups.values(), key=_measured_first),
        tallies=Counter(row.verdict for row in rows),
        total=len(rows),
        verdict=verdict,
        scale=scale,
        scales=[name for name in SCALES if any(row.scale == name for row in rows)],
    )


@router.get("/records/{name}")
def record(hub: HubOf, name: str) -> Response:
    """The record of a measurement, as it lies on disk."""
    path = hub.records.path(name)
    return FileResponse(path, media_type="application/json", filename=path.name)

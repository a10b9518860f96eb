"""How every answer of the API leaves: chosen fields, an ETag, and nothing at all when the asker has it already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError

MOST_FIELDS = 60


def answer(
    request: Request,
    view: BaseModel,
    *,
    fields: str | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """`view` as JSON. With `fields`, objects keep only those; in a list, the objects of `items`.

    Safe requests get an ETag, and 304 when `If-None-Match` names it. Raises InputError for a field that does not exist.
    """
    body = view.model_dump(mode="json")
    if fields is not None:
        wanted = [name for part in fields.split(",") if (name := part.strip())]
        item = _item_type(view)
        known = set((item or type(view)).model_fields)
        if not wanted or len(wanted) > MOST_FIELDS or (unknown := [name for name in wanted if name not in known]):
            given = (
                f"got {', '.join(repr(name[:40]) for name in unknown)}"
                if wanted and len(wanted) <= MOST_FIELDS
                else f"got {len(wanted)} names"
            )
            raise InputError(f"fields takes names out of {', '.join(sorted(known))}; {given}")
        if item is None:
            body = {name: body[name] for name in wanted}
        else:
            body["items"] = [{name: entry[name] for name in wanted} for entry in body["items"]]
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return conditional(request, raw, "application/json", status=status, headers=headers)


def _item_type(view: BaseModel) -> type[BaseModel] | None:
    """What `items` of a list holds."""
    field = type(view).model_fields.get("items")
    kind = getattr(field.annotation, "__args__", (None,))[0] if field is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def conditional(
    request: Request,
    raw: bytes,
    media_type: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    modified: str | None = None,
) -> Response:
    """The answer with its ETag; 304 without a body when the asker has it."""
    tag = f'"{hashlib.sha256(raw).hexdigest()[:32]}"'
    sent = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding", **(headers or {})}
    if modified:
        sent["Last-Modified"] = modified
    if request.method in ("GET", "HEAD") and status == 200 and _has(request, tag, modified):
        return Response(status_code=304, headers=sent)
    return Response(raw, status, headers=sent, media_type=media_type)


def _has(request: Request, tag: str, modified: str | None) -> bool:
    named = request.headers.get("if-none-match")
    if named is not None:  # it alone decides when it is there
        tags = [one.strip().removeprefix("W/") for one in named.split(",")]
        return "*" in tags or tag in tags
    since = request.headers.get("if-modified-since")
    if modified is None or since is None:
        return False
    try:
        return parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
    except (ValueError, TypeError):
        return False


def position(cursor: str | None) -> int:
    """Where a list that is counted off goes on. Raises InputError for a cursor that none of our answers gave."""
    if cursor is None:
        return 0
    if cursor.startswith("n") and cursor[1:].isascii() and cursor[1:].isdigit() and len(cursor) <= 10:
        return int(cursor[1:])
    raise InputError(f"{cursor[:60]!r} is not a cursor; give the `next` of the answer before, or none to start")


def part(items: list[Any], start: int, size: int) -> tuple[tuple[Any, ...], str | None]:
    """One page of a whole list, and the cursor of the next."""
    return tuple(items[start : start + size]), f"n{start + size}" if start + size < len(items) else None

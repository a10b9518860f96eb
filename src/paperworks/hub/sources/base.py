"""What a source is, and how one is found by its kind.

A source is one small class. `fetch(cursor, http)` yields batches; it never touches the store, and it moves no cursor of its own: the
store takes a batch and its cursor in one transaction, and gives the last cursor back at the next turn. An entry that cannot be
read is refused alone; a whole answer that is not what was asked raises SourceError, and nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic import ValidationError

from paperworks.config import SourceSettings
from paperworks.errors import InputError, SourceError
from paperworks.hub.records import Batch, RefusedEntry

if TYPE_CHECKING:
    from paperworks.hub.sources.http import PoliteClient

ENTRY_POINT_GROUP = "paperworks.sources"
RAW_LIMIT = 64 * 1024  # characters of a refused entry that are kept


@runtime_checkable
class Source(Protocol):
    """One way papers come in."""

    kind: str
    name: str

    def fetch(self, cursor: str | None, http: PoliteClient) -> Iterator[Batch]:
        """Batches from `cursor` on (None: from the start). Raises SourceError when an answer is not what was asked."""
        ...


Factory = Callable[[Mapping[str, Any], SourceSettings], Source]

_BUILT_IN = {
    "arxiv": "paperworks.hub.sources.arxiv:make",
    "hf-daily": "paperworks.hub.sources.huggingface:make",
    "feed": "paperworks.hub.sources.feeds:make",
    "file": "paperworks.hub.sources.files:make",
}


def kinds() -> tuple[str, ...]:
    """The kinds that can be opened: the built-in ones first, then those of plugins (entry points `paperworks.sources`)."""
    return (*_BUILT_IN, *sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)} - set(_BUILT_IN)))


def open_source(kind: str, config: Mapping[str, Any] | None = None, settings: SourceSettings | None = None) -> Source:
    """A source of that kind, ready to fetch. Loaded on use: a broken plugin cannot stop the hub from starting.

    Raises InputError for an unknown kind or a config that the kind does not take, SourceError for a plugin that fails to load.
    """
    config, settings = dict(config or {}), settings or SourceSettings()
    if kind in _BUILT_IN:
        module, _, function = _BUILT_IN[kind].partition(":")
        factory: Factory = getattr(import_module(module), function)
        return factory(config, settings)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == kind:
            try:
                made = point.load()(config, settings)
            except InputError:
                raise
            except Exception as error:
                raise SourceError(
                    f"the plugin {point.value} for sources of kind {kind!r} failed: {error}; mend or uninstall it"
                ) from error
            if not isinstance(made, Source):
                raise SourceError(
                    f"the plugin {point.value} gave {type(made).__name__}, which has no kind, name and fetch; mend or uninstall it"
                )
            return made
    raise InputError(f"no source of kind {kind!r}; known kinds: {', '.join(kinds())}")


def take(config: Mapping[str, Any], kind: str, allowed: Iterable[str]) -> dict[str, Any]:
    """The config without empty values. Raises InputError that names what the kind does not take."""
    known = {*allowed, "name"}
    if unknown := sorted(set(config) - known):
        raise InputError(f"a source of kind {kind} takes {', '.join(sorted(known))}, not {', '.join(unknown)}")
    return {key: value for key, value in config.items() if value not in (None, "", (), [])}


def words(value: Any) -> tuple[str, ...]:
    """A setting that may be one string or a list of strings."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise InputError(f"expected a text or a list of texts, got {value!r}")


def refuse(ordinal: int, reason: str | Exception, raw: str = "") -> RefusedEntry:
    """An entry set aside, with a reason that people can read."""
    if isinstance(reason, ValidationError):
        reason = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'record'}: {item['msg']}"
            for item in reason.errors(include_url=False)[:4]
        )
    return RefusedEntry(ordinal=ordinal, reason=str(reason)[:1000] or "could not be read", raw=safe(raw[:RAW_LIMIT]))


def safe(text: str) -> str:
    """The text with lone surrogates replaced, so that it can be stored as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")

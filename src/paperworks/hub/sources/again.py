"""Read a refused entry again, from the text that was kept of it, after a mistake of ours has been mended."""

from __future__ import annotations

import json

from paperworks.errors import InputError, SourceError
from paperworks.hub.records import PaperRecord
from paperworks.hub.sources import arxiv, oai
from paperworks.hub.sources.files import from_object


def read_again(raw: str) -> PaperRecord:
    """The paper in a kept entry: XML of arXiv's query API or of OAI-PMH, or a JSON object of any known shape.

    Raises ValueError (pydantic's included) when it still cannot be read, and InputError for what was not kept in a form that can be
    read again, such as entries of feeds and of other people's plugins.
    """
    start = raw.find("<")
    if raw.lstrip().startswith("{"):
        return from_object(json.loads(raw))
    if start >= 0 and "entry" in raw[start : start + 20]:
        return _entry(raw[start:], arxiv.read_entry)
    if start >= 0 and "record" in raw[start : start + 20]:
        return _entry(raw[start:], oai.read_record)
    raise InputError("this kind of entry can only be asked for again: paperworks intake --since DAY")


def _entry(text: str, read: arxiv.EntryReader) -> PaperRecord:
    try:
        return read(arxiv.read_xml(text.encode("utf-8", "replace"), "the kept entry"))
    except SourceError as error:
        raise ValueError(f"the kept entry is cut off or damaged ({error})") from error

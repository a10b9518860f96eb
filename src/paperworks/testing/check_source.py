"""The conformance suite of a source: it brings papers, goes on from its cursors, and keeps nothing of an answer that is none."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator
from functools import partial

import httpx2

from paperworks.config import SourceSettings
from paperworks.errors import InputError, SourceError
from paperworks.hub.records import Batch, PaperRecord
from paperworks.hub.sources.base import Source
from paperworks.hub.sources.http import MemoryGate, PoliteClient
from paperworks.hub.text import plain
from paperworks.testing.check_paper import Check, CheckFailed

Make = Callable[[], Source]
Answer = Callable[[str], bytes]  # what the service answers to a GET of this address, under status 200

NO_ANSWERS = {
    "nothing": b"",
    "a web page": b"<!doctype html><html><body>Sorry</body></html>",
    "'Rate exceeded.'": b"Rate exceeded.",
    "bytes that are no text": b"\xff\xfe\x00\xd8",
    "an error object": b'{"error": "Sorry, we can\'t find the page you are looking for."}',
    "XML with entities": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>',
    "half a document": b'[{"id": "2301.13838", "title": "Half',
}
MOST_BATCHES = 1_000


def check_source(make: Make, answer: Answer | None = None) -> None:
    """Run all checks of a source. Raises CheckFailed at the first that fails; what cannot be checked is passed over."""
    for check in source_checks(make, answer):
        try:
            check()
        except unittest.SkipTest:
            continue


def source_checks(make: Make, answer: Answer | None = None) -> list[Check]:
    """The checks, one by one, for a parametrized test.

    make: gives a fresh source, ready to fetch.
    answer: what its service answers to an address; the answers must hold at least one paper. None for a source that asks nobody:
    the checks of bad answers are then skipped.
    """
    named: dict[str, Callable[[Make, Answer | None], None]] = {
        "has a kind and a name": _named,
        "brings papers in plain text": _brings,
        "brings the same when asked again": _repeats,
        "goes on from every cursor of its own": _goes_on,
        "survives a damaged cursor": _damaged_cursor,
        "keeps nothing of a refusal": _refusals,
        **{f"keeps nothing of {what}": partial(_no_answer, what) for what in NO_ANSWERS},
    }
    return [Check(name, partial(run, make, answer)) for name, run in named.items()]


def _client(answer: Callable[[httpx2.Request], httpx2.Response]) -> PoliteClient:
    return PoliteClient(
        SourceSettings(arxiv_gap_s=0), MemoryGate(), sleep=lambda seconds: None, resolve=lambda host, port: ["93.184.216.34"],
        transport=httpx2.MockTransport(answer),
    )  # fmt: skip


def _answering(answer: Answer | None) -> PoliteClient:
    def reply(request: httpx2.Request) -> httpx2.Response:
        if answer is None:
            raise CheckFailed(f"the source asked {request.url}; give source_checks the answers of its service")
        address = str(request.url.copy_with(host=request.headers["host"].partition(":")[0]))
        return httpx2.Response(200, stream=httpx2.ByteStream(answer(address)))

    return _client(reply)


def _fetch(make: Make, cursor: str | None, answer: Answer | None) -> list[Batch]:
    with _answering(answer) as http:
        batches: list[Batch] = []
        walk: Iterator[Batch] = make().fetch(cursor, http)
        for batch in walk:
            if not isinstance(batch, Batch):
                raise CheckFailed(f"fetch must yield Batch, got {type(batch).__name__}")
            batches.append(batch)
            if len(batches) > MOST_BATCHES:
                raise CheckFailed(f"fetch went on after {MOST_BATCHES} batches; it must come to an end")
        return batches


def _papers(batches: list[Batch]) -> list[PaperRecord]:
    return [record for batch in batches for record in batch.records]


def _named(make: Make, answer: Answer | None) -> None:
    source = make()
    for attribute in ("kind", "name"):
        value = getattr(source, attribute, None)
        if not isinstance(value, str) or not value.strip():
            raise CheckFailed(f"the source needs a {attribute}: a text that is not empty, got {value!r}")
    if not isinstance(source, Source):
        raise CheckFailed("the source needs a method fetch(cursor, http) that yields batches")


def _brings(make: Make, answer: Answer | None) -> None:
    batches = _fetch(make, None, answer)
    records = _papers(batches)
    if not records:
        raise CheckFailed(f"no paper came in {len(batches)} batches; give answers that hold at least one")
    for record in records:
        if not record.identifiers:
            raise CheckFailed(f"{record.title[:60]!r} has no identifier; set arxiv, doi, openreview, acl or url")
        for name in ("title", "abstract"):
            text = getattr(record, name)
            if plain(text) != text:
                raise CheckFailed(
                    f"the {name} of {record.identifiers} is not plain text; pass it through paperworks.hub.text.plain"
                )
        for counter in record.counters:
            if counter.seen.tzinfo is None:
                raise CheckFailed(f"a counter of {record.identifiers} was seen at a time without zone; use UTC")
    if any(not entry.reason for batch in batches for entry in batch.refused):
        raise CheckFailed("a refused entry has no reason; say what was wrong with it")


def _same(record: PaperRecord) -> PaperRecord:
    return record.model_copy(update={"counters": ()})  # the time of looking differs


def _repeats(make: Make, answer: Answer | None) -> None:
    first, second = (_papers(_fetch(make, None, answer)) for _ in range(2))
    if [_same(record) for record in first] != [_same(record) for record in second]:
        raise CheckFailed(
            "two turns from the start gave different papers for the same answers; what is random or kept must go"
        )


def _goes_on(make: Make, answer: Answer | None) -> None:
    batches = _fetch(make, None, answer)
    whole = {str(record.identifiers) for record in _papers(batches)}
    seen: set[str] = set()
    for batch in batches[:20]:
        seen |= {str(record.identifiers) for record in batch.records}
        if batch.cursor is None:
            continue
        rest = {str(record.identifiers) for record in _papers(_fetch(make, batch.cursor, answer))}
        if lost := whole - seen - rest:
            raise CheckFailed(
                f"stopped after cursor {batch.cursor[:80]!r} and started again, {len(lost)} papers were lost, {sorted(lost)[0]} among them"
            )


def _damaged_cursor(make: Make, answer: Answer | None) -> None:
    for cursor in ("", "nonsense", "[]", "{}", "-1", "9" * 400, "\x00"):
        try:
            _fetch(make, cursor, answer)
        except (InputError, SourceError):
            continue
        except CheckFailed:
            raise
        except Exception as error:
            raise CheckFailed(
                f"the cursor {cursor[:20]!r} raised {type(error).__name__}: {error}; start again, or raise SourceError"
            ) from error


def _refusals(make: Make, answer: Answer | None) -> None:
    if answer is None:
        raise unittest.SkipTest("the source asks nobody")
    for status in (404, 429, 500):
        with _client(lambda request, status=status: httpx2.Response(status, stream=httpx2.ByteStream(b"no"))) as http:  # type: ignore[misc]
            _must_fail(make(), http, f"status {status}")


def _no_answer(what: str, make: Make, answer: Answer | None) -> None:
    if answer is None:
        raise unittest.SkipTest("the source asks nobody")
    with _client(lambda request: httpx2.Response(200, stream=httpx2.ByteStream(NO_ANSWERS[what]))) as http:
        _must_fail(make(), http, what)


def _must_fail(source: Source, http: PoliteClient, what: str) -> None:
    try:
        batches = list(source.fetch(None, http))
    except SourceError as error:
        if len(str(error)) < 20:
            raise CheckFailed(
                f"{what} raised SourceError({str(error)!r}); say what was asked, what came and what to do"
            ) from error
        return
    except Exception as error:
        raise CheckFailed(f"{what} raised {type(error).__name__}: {error}; raise SourceError") from error
    raise CheckFailed(
        f"{what} was taken for an answer: {len(batches)} batches came; raise SourceError, so that no cursor moves"
    )

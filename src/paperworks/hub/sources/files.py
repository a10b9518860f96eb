"""Papers from files, and from standard input: JSONL, JSON, BibTeX, RIS, CSV, arXiv ids one a line; plain, gzip, bzip2 or xz.

Read as a stream, in batches; the cursor is the file and the line to go on after. Every refused line names its number. The format is told by the
file's name, else by its first line.

JSON objects may be `PaperRecord`s, or the shapes that are found in the wild: `{id, title, authors, categories, abstract, date}`
of arXiv dumps, the large arXiv snapshot (`authors_parsed`, `versions`), entries of Hugging Face's daily papers, and flat
`{id, title, date, published, upvotes, seen, comments, github}`. A CSV of `id, observed_at, upvotes` brings counters alone.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from paperworks.config import SourceSettings
from paperworks.errors import InputError, SourceError
from paperworks.hub.identifiers import Reference, parse_arxiv, parse_reference
from paperworks.hub.records import Batch, CounterRecord, LinkRecord, ListingRecord, PaperRecord, RefusedEntry
from paperworks.hub.sources.arxiv import ArxivIds, category_codes, day
from paperworks.hub.sources.base import Source, refuse, take, words
from paperworks.hub.sources.http import PoliteClient
from paperworks.hub.sources.huggingface import author_names, count, entries_of, read_entry
from paperworks.hub.sources.oai import split_authors
from paperworks.hub.text import plain, tex_to_unicode

BATCH = 500
LONGEST_LINE = 1024 * 1024  # bytes
LONGEST_DOCUMENT = 64 * 1024 * 1024  # bytes of a JSON file that is one document
LONGEST_ENTRY_LINES = 2_000  # of one BibTeX or RIS entry
STDIN = "-"

_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
_ENDINGS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".bib": "bibtex", ".bibtex": "bibtex", ".ris": "ris", ".csv": "csv",
    ".tsv": "csv", ".txt": "ids", ".ids": "ids",
}  # fmt: skip
_PACKED: dict[str, Callable[..., IO[bytes]]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}  # type: ignore[dict-item]
FORMATS = ("jsonl", "json", "bibtex", "ris", "csv", "ids")

Line = tuple[int, bytes]  # number from 1; at most LONGEST_LINE + 1 bytes
Entry = tuple[int, PaperRecord | RefusedEntry]  # the last line that the entry took


def make(config: Mapping[str, Any], settings: SourceSettings) -> Source:
    given = take(config, "file", ("path", "paths", "format"))
    paths = words(given.get("paths", ())) + words(given.get("path", ()))
    if not paths:
        raise InputError("a source of kind file needs a path, or - for standard input")
    return FileSource(paths, settings, name=given.get("name"), format=given.get("format"))


class FileSource:
    """One or more files, in order."""

    kind = "file"

    def __init__(
        self,
        paths: Sequence[str | Path],
        settings: SourceSettings | None = None,
        *,
        name: str | None = None,
        format: str | None = None,
        stdin: IO[bytes] | None = None,
    ) -> None:
        if format is not None and format not in FORMATS:
            raise InputError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
        self.paths = tuple(str(path) for path in paths)
        self.settings, self.format = settings or SourceSettings(), format
        self.name = (
            name
            or ("standard input" if self.paths == (STDIN,) else ", ".join(Path(path).name for path in self.paths))[:200]
        )
        self._stdin = stdin

    def fetch(self, cursor: str | None, http: PoliteClient) -> Iterator[Batch]:
        """A cursor of another state of the file (its size or time has changed) is not used: the file is read from its start."""
        at, line, stamp = _position(cursor)
        for n, path in enumerate(self.paths):
            if n < at:
                continue
            now = _stamp(path)
            done = line if n == at and stamp == now and path != STDIN else 0
            for batch, reached in self._read(path, done, http):
                yield batch.model_copy(update={"cursor": json.dumps([n, reached, now])})

    def _read(self, path: str, done: int, http: PoliteClient) -> Iterator[tuple[Batch, int]]:
        with _opened(path, self._stdin) as file:
            lines = _lines(file, path)
            format, lines = self._told(path, lines)
            if format == "ids":
                yield from self._ids(lines, done, http)
                return
            records: list[PaperRecord] = []
            refused: list[RefusedEntry] = []
            reached = done
            for reached, entry in _READERS[format](lines, path):
                if reached <= done:
                    continue
                if isinstance(entry, PaperRecord):
                    records.append(entry)
                else:
                    refused.append(entry)
                if len(records) + len(refused) >= BATCH and format != "json":
                    yield Batch(records=tuple(records), refused=tuple(refused)), reached
                    records, refused = [], []
            yield Batch(records=tuple(records), refused=tuple(refused)), reached

    def _ids(self, lines: Iterator[Line], done: int, http: PoliteClient) -> Iterator[tuple[Batch, int]]:
        """Ids are asked for at arXiv, a hundred a request."""
        refused: list[RefusedEntry] = []
        found: dict[str, int] = {}
        reached = done
        for reached, raw in lines:
            if reached <= done or not (text := raw.decode("utf-8", "replace").strip()) or text.startswith("#"):
                continue
            reference = parse_reference(text)
            if reference is None or reference.scheme != "arxiv":
                refused.append(refuse(reached, f"line {reached}: {text[:80]!r} is not an arXiv id or address", text))
            else:
                found.setdefault(
                    f"{reference.value}v{reference.version}" if reference.version else reference.value, reached
                )
            if len(found) >= 100 or len(refused) >= BATCH:
                yield self._asked(found, refused, http), reached
                found, refused = {}, []
        yield self._asked(found, refused, http), reached

    def _asked(self, found: dict[str, int], refused: list[RefusedEntry], http: PoliteClient) -> Batch:
        if not found:
            return Batch(refused=tuple(refused))
        numbers = list(found.values())
        (batch,) = ArxivIds(list(found), self.settings).fetch(None, http)
        missing = [
            entry.model_copy(
                update={
                    "ordinal": (n := numbers[min(entry.ordinal, len(numbers)) - 1]),
                    "reason": f"line {n}: {entry.reason}",
                }
            )
            for entry in batch.refused
        ]
        return Batch(records=batch.records, refused=(*refused, *missing), requests=batch.requests)

    def _told(self, path: str, lines: Iterator[Line]) -> tuple[str, Iterator[Line]]:
        """The format, by what was said, by the file's name, or by the first line that is not empty."""
        if self.format:
            return self.format, lines
        name = path.lower()
        for ending in _PACKED:
            name = name.removesuffix(ending)
        ending = os.path.splitext(name)[1]
        if path != STDIN and ending in _ENDINGS:
            return _ENDINGS[ending], lines
        seen: list[Line] = []
        for number, raw in lines:
            seen.append((number, raw))
            if raw.strip().removeprefix(b"\xef\xbb\xbf") or number > 1000:
                break
        first = seen[-1][1].decode("utf-8", "replace").lstrip("\ufeff").strip() if seen else ""

        def again() -> Iterator[Line]:
            yield from seen
            yield from lines

        if first.startswith("{"):
            told = "jsonl" if first.endswith("}") or len(first) > 2 else "json"
        elif first.startswith("["):
            told = "json"
        elif first.startswith(("@", "%")):
            told = "bibtex"
        elif re.match(r"TY  ?- ", first):
            told = "ris"
        elif (known := parse_reference(first)) and known.scheme == "arxiv":
            told = "ids"
        elif {_column(name) for name in re.split(r"[,;\t]", first)} & set(_COLUMNS):
            told = "csv"
        elif not first:
            told = "jsonl"
        else:
            what = "standard input" if path == STDIN else path
            raise SourceError(
                f"{what} begins with {first[:60]!r}, which is none of JSON lines, BibTeX, RIS, CSV with named columns or arXiv ids; "
                f"say which it is by the ending of its name or by format ({', '.join(FORMATS)})"
            )
        return told, again()


def _position(cursor: str | None) -> tuple[int, int, str]:
    try:
        n, line, stamp = json.loads(cursor) if cursor else (0, 0, "")
    except (ValueError, TypeError):
        return 0, 0, ""
    return (n, line, stamp) if isinstance(n, int) and isinstance(line, int) and isinstance(stamp, str) else (0, 0, "")


def _stamp(path: str) -> str:
    if path == STDIN:
        return ""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextmanager
def _opened(path: str, stdin: IO[bytes] | None) -> Iterator[IO[bytes]]:
    if path == STDIN:
        yield stdin if stdin is not None else sys.stdin.buffer
        return
    opener = next((opener for ending, opener in _PACKED.items() if path.lower().endswith(ending)), open)
    try:
        file = opener(path, "rb")
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}; check the name and the permissions"
        ) from error
    with file:
        yield file


def _lines(file: IO[bytes], path: str) -> Iterator[Line]:
    """Numbered lines. A line that is too long comes cut, so that it is refused and not kept in memory."""
    number = 0
    try:
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            yield number, raw
            while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
                if not (raw := file.readline(LONGEST_LINE + 1)):
                    break
    except _DAMAGED as error:
        what = "standard input" if path == STDIN else path
        raise SourceError(
            f"{what} is damaged or breaks off after line {number} ({error}); what was read so far is kept, get the file again"
        ) from error


def _text(number: int, raw: bytes) -> str:
    if len(raw) > LONGEST_LINE:
        raise ValueError(f"the line is longer than {LONGEST_LINE // 1024} KiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the line is not UTF-8 ({error.reason} at byte {error.start + 1}); convert the file to UTF-8"
        ) from error


def _refused(number: int, error: Exception, raw: bytes | str) -> RefusedEntry:
    text = raw[: 64 * 1024].decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    entry = refuse(number, error, text)
    return entry.model_copy(update={"reason": f"line {number}: {entry.reason}"})


# -- JSON -----------------------------------------------------------------------------------------------------------


def _jsonl(lines: Iterator[Line], path: str) -> Iterator[Entry]:
    read = json.JSONDecoder(parse_constant=_no_constant).decode
    for number, raw in lines:
        if not raw.strip():
            continue
        try:
            yield number, from_object(read(_text(number, raw)))
        except json.JSONDecodeError as error:
            yield number, _refused(number, ValueError(f"not JSON: {error.msg} at character {error.pos + 1}"), raw)
        except (ValidationError, ValueError, TypeError, RecursionError) as error:
            yield number, _refused(number, error, raw)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _json(lines: Iterator[Line], path: str) -> Iterator[Entry]:
    """One document: a list of papers, or a saved day of Hugging Face's daily papers. Positions stand for lines."""
    parts: list[bytes] = []
    total = 0
    for _, raw in lines:
        parts.append(raw)
        total += len(raw)
        if total > LONGEST_DOCUMENT or len(raw) > LONGEST_LINE:
            raise SourceError(f"{path} is too large for one JSON document; write one object a line and name it .jsonl")
    if not b"".join(parts).strip():
        return
    try:
        found = json.loads(b"".join(parts))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON ({error}); mend the file") from error
    if (
        isinstance(found, dict)
        and "error" not in found
        and "status" not in found
        and ("id" in found or "title" in found)
    ):
        found = [found]
    try:
        entries = entries_of(found)
    except SourceError as error:
        raise SourceError(f"{path} holds no papers ({error}); mend the file") from error
    for n, item in enumerate(entries, start=1):
        try:
            yield n, from_object(item)
        except (ValidationError, ValueError, TypeError, RecursionError) as error:
            yield n, refuse(n, f"entry {n}: {refuse(n, error).reason}", repr(item)[:65536])


_RECORD_FIELDS = frozenset(PaperRecord.model_fields)
_OF_RECORD_ONLY = frozenset(
    ("arxiv", "affiliations", "links", "counters", "listings", "version", "openreview", "acl", "withdrawn", "licence")
)


def from_object(item: Any) -> PaperRecord:
    """A paper out of a JSON object of any of the known shapes. Raises ValueError or ValidationError."""
    if not isinstance(item, dict):
        raise ValueError(f"expected an object with the facts of a paper, got {type(item).__name__}")
    if isinstance(item.get("paper"), dict):
        return read_entry(item, listed=None, seen=moment(item.get("seen")) or datetime.now(UTC))
    if "id" not in item and (item.keys() & _OF_RECORD_ONLY):
        return _exact(item)
    return _loose(item)


def _exact(item: dict[str, Any]) -> PaperRecord:
    record = PaperRecord.model_validate(item)
    change: dict[str, Any] = {
        name: cleaned
        for name in ("title", "abstract", "comment", "journal_ref", "licence")
        if (cleaned := plain(value := getattr(record, name))) != value
    }
    if (names := tuple(plain(name) for name in record.authors)) != record.authors:
        if not all(names):
            raise ValueError("authors: a name is empty once its markup is dropped")
        change["authors"] = names
    for scheme in ("arxiv", "doi", "openreview", "acl"):
        value = getattr(record, scheme)
        if value is None:
            continue
        reference = parse_reference(f"{scheme}:{value}")
        if reference is None:
            raise ValueError(f"{scheme}: {value[:60]!r} is not an identifier of that kind")
        change |= _named(reference, change, record)
    record = record.model_copy(update=change) if change else record
    if not record.identifiers:
        raise ValueError("nothing identifies the paper; give one of arxiv, doi, openreview, acl, url")
    if record.url and not record.url.startswith(("http://", "https://")):
        raise ValueError(f"url: {record.url[:60]!r} does not start with https://")
    return record


def _named(reference: Reference, change: dict[str, Any], record: PaperRecord) -> dict[str, Any]:
    named: dict[str, Any] = {reference.scheme: reference.value}
    if reference.version and "version" not in record.model_fields_set:
        named["version"] = reference.version
    if reference.scheme == "arxiv" and record.doi and parse_reference(f"doi:{record.doi}") == reference:
        named["doi"] = None  # arXiv's own DOI says the same
    return named


def _loose(item: dict[str, Any]) -> PaperRecord:
    get = item.get
    identity = _identity(item)
    title = plain(_string(item, "title"))
    authors: Any = get("authors_parsed") or get("authors") or get("author") or ()
    if isinstance(authors, str):
        authors = split_authors(plain(authors))
    elif get("authors_parsed") and isinstance(authors, list):
        parts = (item for item in authors if isinstance(item, list) and len(item) >= 2)
        authors = [" ".join(str(part) for part in (first, last, *rest[:1]) if part) for last, first, *rest in parts]
    categories = get("categories") or ()
    if isinstance(categories, str):
        categories = re.split(r"[\s,;]+", categories)
    seen, upvotes = moment(get("seen") or get("observed_at")), count(get("upvotes"))
    comments = get("comments")
    counters = []
    if upvotes is not None or (isinstance(comments, int) and "upvotes" in item):
        when = seen or datetime.now(UTC)
        values = {"upvotes": upvotes, "comments": count(comments) if not isinstance(comments, str) else None}
        counters = [
            {"metric": metric, "seen": when, "value": value} for metric, value in values.items() if value is not None
        ]
    listed = _date(item, "date")
    versions = get("versions")
    numbers = [found for entry in versions if isinstance(entry, dict) and (found := re.fullmatch(r"v(\d{1,4})", str(entry.get("version")), re.A))] if isinstance(versions, list) else []  # fmt: skip
    published = _date(item, "published") or (
        _mail_date(versions[0]) if numbers and isinstance(versions, list) else None
    )
    links = (
        [LinkRecord(kind="code", url=url, who="site")]
        if (url := _address(get("github") or get("code") or get("code_url")))
        else []
    )
    return PaperRecord(
        title=title,
        abstract=plain(_string(item, "abstract", "summary")),
        authors=author_names(authors),
        version=identity.pop("version", None) or max((int(found[1]) for found in numbers), default=1),
        categories=category_codes([code for code in categories if isinstance(code, str)])
        if isinstance(categories, (list, tuple))
        else (),
        published=published,
        updated=_date(item, "updated", "update_date"),
        announced=_date(item, "announced") or listed,
        comment=plain(comments) if isinstance(comments, str) else "",
        journal_ref=plain(_string(item, "journal-ref", "journal_ref")),
        licence=plain(_string(item, "license", "licence")),
        links=tuple(links),
        counters=tuple(CounterRecord.model_validate(counter) for counter in counters),
        listings=(ListingRecord(day=listed, url=""),) if counters and listed else (),
        **identity,
    )


def _identity(item: Mapping[str, Any]) -> dict[str, Any]:
    """What names the paper: the scheme's own field, or whatever `id` or `url` turns out to be."""
    named: dict[str, Any] = {}
    for name in ("id", "arxiv", "arxiv_id", "eprint", "doi", "openreview", "acl", "url", "pdf_url"):
        value = item.get(name)
        if not isinstance(value, str) or not (value := value.strip()):
            continue
        reference = parse_reference(value) or (parse_arxiv(value) if name == "eprint" else None)
        if reference is None and name == "url" and _address(value):
            named.setdefault("url", value[:2000])
        elif reference is None and name in ("id", "arxiv", "arxiv_id", "doi"):
            if name != "id":
                raise ValueError(f"{name}: {value[:60]!r} is not an identifier of that kind")
        elif reference is not None and reference.scheme not in named:
            named[reference.scheme] = reference.value
            if reference.version and reference.scheme == "arxiv":
                named["version"] = reference.version
    if not named.keys() & {"arxiv", "doi", "openreview", "acl", "url"}:
        given = f"; id is {str(item['id'])[:60]!r}" if "id" in item else ""
        raise ValueError(f"nothing identifies the paper; give an arXiv id, a DOI or an address{given}")
    if "url" in named and len(named) > 1:
        del named["url"]
    return named


def _string(item: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = item.get(name)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise ValueError(f"{name}: expected a text, got {type(value).__name__}")
        return value
    return ""


def _date(item: Mapping[str, Any], *names: str) -> date | None:
    for name in names:
        value = item.get(name)
        if value is None or value == "":
            continue
        try:
            return day(str(value))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return None


def _mail_date(version: Any) -> date | None:
    try:
        return parsedate_to_datetime(version["created"]).date()
    except (ValueError, TypeError, KeyError):
        return None


_WEB = re.compile(r"https?://[^\s<>\"\ud800-\udfff]{3,1990}$")


def _address(value: Any) -> str:
    return value if isinstance(value, str) and _WEB.match(value) else ""


def moment(value: Any) -> datetime | None:
    """A time with its zone (UTC where none is written); None for nothing. Raises ValueError for what is no time.

    >>> moment("2024-06-01T17:07Z").isoformat()
    '2024-06-01T17:07:00+00:00'
    """
    if value in (None, ""):
        return None
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError(f"{str(value)[:40]!r} is not a time like 2026-08-21T17:07Z")
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a time like 2026-08-21T17:07Z") from None
    try:
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value!r} lies outside the years that can be kept") from None


# -- BibTeX ---------------------------------------------------------------------------------------------------------


def _bibtex(lines: Iterator[Line], path: str) -> Iterator[Entry]:
    """Entry by entry, so that a broken one costs itself alone. An entry starts with '@' at the start of a line."""
    macros: dict[str, str] = {}
    for start, end, raw in _blocks(lines, lambda line: line.lstrip().startswith(b"@")):
        kind = re.match(rb"\s*@\s*([A-Za-z]+)", raw)
        name = kind[1].lower() if kind else b""
        if name in (b"comment", b"preamble", b""):
            continue
        try:
            if len(raw) > LONGEST_LINE or end - start > LONGEST_ENTRY_LINES:
                raise ValueError("the entry is longer than an entry can be; is a closing brace missing?")
            text = _text(start, raw)
            if name == b"string":
                macros |= _bib_macros(text, macros)
            else:
                yield end, _bib_entry(text, macros)
        except (ValidationError, ValueError, TypeError, RecursionError) as error:
            yield end, _refused(start, error, raw)


def _blocks(lines: Iterator[Line], begins: Callable[[bytes], bool]) -> Iterator[tuple[int, int, bytes]]:
    """(first line, last line, bytes) of the pieces of a file; what comes before the first beginning is left out."""
    start = last = 0
    size = 0
    parts: list[bytes] = []
    for number, raw in lines:
        if begins(raw):
            if start:
                yield start, last, b"".join(parts)
            start, parts, size = number, [], 0
        if start:
            last = number
            if size <= LONGEST_LINE:
                parts.append(raw)
                size += len(raw)
    if start:
        yield start, last, b"".join(parts)


def _bib_parser(macros: Mapping[str, str]) -> Any:
    from pybtex.database.input.bibtex import Parser, month_names

    return Parser(macros={**month_names, **macros})


def _bib_macros(text: str, macros: Mapping[str, str]) -> dict[str, str]:
    from pybtex.errors import capture
    from pybtex.exceptions import PybtexError

    parser = _bib_parser(macros)
    try:
        with capture() as problems:
            parser.parse_string(text)
    except PybtexError as error:
        raise ValueError(f"not BibTeX: {error}") from error
    if problems:
        raise ValueError(f"not BibTeX: {problems[0]}")
    return dict(parser.macros.items())


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _bib_entry(text: str, macros: Mapping[str, str]) -> PaperRecord:
    from pybtex.errors import capture
    from pybtex.exceptions import PybtexError

    try:
        with capture() as problems:
            data = _bib_parser(macros).parse_string(text)
    except PybtexError as error:
        raise ValueError(f"not BibTeX: {error}") from error
    if problems:
        raise ValueError(f"not BibTeX: {problems[0]}")
    if len(data.entries) != 1:
        raise ValueError(f"expected one entry, found {len(data.entries)}; is a brace missing?")
    entry = next(iter(data.entries.values()))
    fields = {str(name).lower(): str(value) for name, value in entry.fields.items()}
    people = entry.persons.get("author") or ()
    names = [_unbrace(str(" ".join((*person.first_names, *person.middle_names, *person.prelast_names, *person.last_names, *person.lineage_names)))) for person in people]  # fmt: skip
    flat = {
        "title": _unbrace(fields.get("title", "")),
        "abstract": _unbrace(fields.get("abstract", "")),
        "authors": [name for name in names if name != "others"],
        "doi": fields.get("doi"),
        "url": fields.get("url") or fields.get("howpublished", "").removeprefix("\\url{").rstrip("}"),
        "eprint": fields.get("eprint")
        if fields.get("archiveprefix", fields.get("eprinttype", "arxiv")).lower() == "arxiv"
        else None,
        "categories": fields.get("primaryclass", ""),
        "published": _bib_date(fields),
        "journal_ref": _unbrace(fields.get("journal") or fields.get("booktitle") or ""),
    }
    if not flat["eprint"] and (found := re.search(r"arxiv:\s*(\S+)", fields.get("journal", ""), re.IGNORECASE)):
        flat["eprint"] = found[1]
    if not plain(str(flat["title"])):
        raise ValueError(f"the entry {entry.key!r} has no title")
    return _loose(flat)


def _bib_date(fields: Mapping[str, str]) -> str:
    if re.match(r"\d{4}-\d\d-\d\d$", fields.get("date", ""), re.ASCII):
        return fields["date"]
    year = re.match(r"\d{4}", fields.get("year", "") or fields.get("date", ""), re.ASCII)
    if not year:
        return ""
    month = fields.get("month", "").strip().lower()[:3]
    number = (
        _MONTHS.index(month) + 1
        if month in _MONTHS
        else int(month)
        if month.isascii() and month.isdigit() and 1 <= int(month) <= 12
        else 1
    )
    return f"{year[0]}-{number:02d}-01"


def _unbrace(text: str) -> str:
    """BibTeX's protecting braces dropped outside of formulas, accents as letters."""
    parts = re.split(r"(\$[^$]*\$)", tex_to_unicode(text) if "$" not in text else text)
    return "".join(
        part if part.startswith("$") and len(part) > 1 else tex_to_unicode(part).replace("{", "").replace("}", "")
        for part in parts
    )


# -- RIS ------------------------------------------------------------------------------------------------------------


def _ris(lines: Iterator[Line], path: str) -> Iterator[Entry]:
    import rispy

    for start, end, raw in _blocks(lines, lambda line: re.match(rb"\s*TY  ?- ", line) is not None):
        try:
            if len(raw) > LONGEST_LINE or end - start > LONGEST_ENTRY_LINES:
                raise ValueError("the entry is longer than an entry can be; is a line 'ER  -' missing?")
            text = _text(start, raw)
            if not re.search(r"^\s*ER  ?-", text, re.MULTILINE):
                raise ValueError("the entry has no end; is a line 'ER  -' missing?")
            try:
                found = rispy.loads(text)
            except Exception as error:  # the library raises whatever it stumbles over
                raise ValueError(f"not RIS: {error}") from error
            if len(found) != 1:
                raise ValueError(f"expected one entry, found {len(found)}")
            yield end, _ris_entry(found[0])
        except (ValidationError, ValueError, TypeError, RecursionError) as error:
            yield end, _refused(start, error, raw)


def _ris_entry(entry: Mapping[str, Any]) -> PaperRecord:
    def text(*names: str) -> str:
        return next((str(entry[name]) for name in names if isinstance(entry.get(name), str)), "")

    addresses = [str(item) for item in entry.get("urls") or ()]
    arxiv = next((item for item in addresses if (found := parse_reference(item)) and found.scheme == "arxiv"), None)
    names = entry.get("authors") or entry.get("first_authors") or ()
    year = re.match(r"(\d{4})(?:/(\d\d?))?(?:/(\d\d?))?", text("date", "publication_year", "year"), re.ASCII)
    flat = {
        "title": text("title", "primary_title"),
        "abstract": text("abstract", "notes_abstract"),
        "authors": [turned(name) for name in names if isinstance(name, str)],
        "doi": text("doi"),
        "arxiv": arxiv,
        "url": addresses[0] if addresses else "",
        "published": f"{year[1]}-{int(year[2] or 1):02d}-{int(year[3] or 1):02d}" if year else "",
        "journal_ref": text("journal_name", "secondary_title", "alternate_title3"),
    }
    if not plain(str(flat["title"])):
        raise ValueError("the entry has no title")
    return _loose(flat)


def turned(name: str) -> str:
    """'Last, First' turned around.

    >>> turned("Peña, José"), turned("Bo Li")
    ('José Peña', 'Bo Li')
    """
    last, comma, first = name.partition(",")
    return f"{first.strip()} {last.strip()}" if comma and first.strip() else name


# -- CSV ------------------------------------------------------------------------------------------------------------

_COLUMNS = {
    "id": "id", "arxiv": "arxiv", "arxiv_id": "arxiv", "doi": "doi", "url": "url", "link": "url", "title": "title", "abstract": "abstract",
    "summary": "abstract", "authors": "authors", "author": "authors", "categories": "categories", "category": "categories", "date": "date",
    "published": "published", "publication_date": "published", "year": "year", "publication_year": "year", "updated": "updated",
    "github": "github", "code": "github", "code_url": "github", "repository": "github", "upvotes": "upvotes", "votes": "upvotes",
    "comments": "comments", "observed_at": "observed_at", "seen": "observed_at", "journal": "journal_ref", "publication_title": "journal_ref",
    "comment": "comment",
}  # fmt: skip


def _column(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().strip('"').strip("\ufeff").lower())


def _csv(lines: Iterator[Line], path: str) -> Iterator[Entry]:
    numbers = [0]

    def texts() -> Iterator[str]:
        for number, raw in lines:
            numbers[0] = number
            yield raw[: LONGEST_LINE + 1].decode("utf-8", "surrogateescape").replace("\x00", "\ufffd")

    stream = texts()
    header = next(stream, "")
    delimiter = max(",;\t", key=header.count)
    try:
        names = [_COLUMNS.get(_column(name), "") for name in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error as error:
        raise SourceError(f"{path} cannot be read as CSV ({error}); mend its first line") from error
    if not header.strip():
        return
    if not {"id", "arxiv", "doi", "url"} & set(names):
        raise SourceError(
            f"{path}: none of the columns {', '.join(repr(name.strip()[:30]) for name in header.split(delimiter)[:8])} names a paper; "
            "name one of them id, arxiv, doi or url in the first line"
        )
    csv.field_size_limit(LONGEST_LINE)
    rows = csv.reader(stream, delimiter=delimiter)
    votes: tuple[int, str, list[dict[str, str]]] | None = None
    while True:
        first = numbers[0] + 1
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            yield numbers[0], _refused(first, ValueError(f"not CSV: {error}"), "")
            continue
        if not any(row):
            continue
        item = {name: value.strip() for name, value in zip(names, row, strict=False) if name and value.strip()}
        key = item.get("id", "") or item.get("arxiv", "")
        if votes and (votes[1] != key or "title" in item or len(votes[2]) >= 1000):
            yield _counted(votes)
            votes = None
        if key and "observed_at" in item and "title" not in names:
            votes = votes or (first, key, [])
            votes[2].append(item | {"line": str(numbers[0])})
            continue
        try:
            yield numbers[0], _row(item, len(row), len(names))
        except (ValidationError, ValueError, TypeError) as error:
            yield numbers[0], _refused(first, error, delimiter.join(row))
    if votes:
        yield _counted(votes)


def _row(item: dict[str, Any], n_cells: int, n_names: int) -> PaperRecord:
    if n_cells > n_names:
        raise ValueError(
            f"the row has {n_cells} cells and the first line names {n_names}; is a quotation mark missing?"
        )
    for value in item.values():
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError("the row is not UTF-8; convert the file to UTF-8")
    if authors := item.get("authors"):
        item["authors"] = (
            [turned(name) for name in authors.split(";")] if ";" in authors else list(split_authors(authors))
        )
    if (year := item.pop("year", "")) and "published" not in item:
        if not re.fullmatch(r"\d{4}", year, re.ASCII):
            raise ValueError(f"year: {year[:20]!r} is not a year like 2026")
        item["published"] = f"{year}-01-01"
    if (upvotes := item.get("upvotes")) is not None and count(upvotes) is None:
        raise ValueError(f"upvotes: {upvotes[:20]!r} is not a whole number from 0 on")
    if (comments := count(item.get("comments"))) is not None:
        item["comments"] = comments
    if comment := item.pop("comment", None):
        item["comments"] = comment
    return _loose(item)


def _counted(votes: tuple[int, str, list[dict[str, str]]]) -> Entry:
    """Consecutive observations of one paper as one record without a title."""
    first, key, rows = votes
    last = int(rows[-1]["line"])
    try:
        reference = parse_reference(key)
        if reference is None:
            raise ValueError(f"{key[:60]!r} does not name a paper")
        counters: dict[tuple[str, datetime], CounterRecord] = {}
        for row in rows:
            when = moment(row["observed_at"])
            if when is None or (value := count(row.get("upvotes", row.get("comments")))) is None:
                raise ValueError(
                    f"the observation {row.get('upvotes', '')[:20]!r} at line {row['line']} is not a whole number from 0 on"
                )
            counters["upvotes", when] = CounterRecord(
                metric="upvotes" if "upvotes" in row else "comments", seen=when, value=value
            )
        return last, PaperRecord.model_validate(
            {reference.scheme: reference.value, "counters": tuple(counters.values())}
        )
    except (ValidationError, ValueError, TypeError) as error:
        return last, _refused(first, error, "\n".join(json.dumps(row) for row in rows[:50]))


_READERS: dict[str, Callable[[Iterator[Line], str], Iterator[Entry]]] = {
    "jsonl": _jsonl, "json": _json, "bibtex": _bibtex, "ris": _ris, "csv": _csv,
}  # fmt: skip


def read_text(text: str, format: str | None = None) -> Iterator[Batch]:
    """Papers out of a text, as if it came by standard input; ids are not asked for.

    >>> [batch.records[0].title for batch in read_text('{"id": "2301.13838", "title": "A title"}')]
    ['A title']
    """
    source = FileSource((STDIN,), format=format, stdin=io.BytesIO(text.encode("utf-8", "surrogatepass")))
    with PoliteClient() as http:
        yield from source.fetch(None, http)

"""The query language: text in, a tree out. Any text is a query; nothing raises, and nothing goes to the database as typed.

    low-rank recovery     words, any order            "exact phrase"      these words in this order
    -survey               not this                    pruning OR sparsity one or the other
    title:attention       in the title                author:"Ada Example"
    cat:cs.LG  cat:cs     category, or all of cs      year:2024  after:2024-01  before:2025-06-30
    has:method|code|claims    verdict:reproduced      is:unread  shelf:name
    sort:relevance|new|hot    mode:words|meaning|both

What is not understood is words, with a note. `before:` leaves the named day, month or year out; `after:` takes it in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from paperworks.hub.views import Verdict

Field = Literal["any", "title", "author"]
Mode = Literal["words", "meaning", "both"]
Sort = Literal["relevance", "new", "hot"]

LONGEST = 2_000  # characters that are read
MOST_PARTS = 64  # words, phrases and filters of one query
MODES: tuple[str, ...] = get_args(Mode)
SORTS: tuple[str, ...] = get_args(Sort)
HAS = ("method", "code", "claims")
VERDICTS: tuple[str, ...] = get_args(Verdict)
PERSONAL = ("is", "shelf")


@dataclass(frozen=True, slots=True)
class Text:
    """Words to be found in a field; `exact`: in this order. `negative`: not to be found."""

    text: str
    field: Field = "any"
    exact: bool = False
    negative: bool = False

    def __str__(self) -> str:
        name = "" if self.field == "any" else f"{self.field}:"
        body = f'"{self.text}"' if self.exact or not _PLAIN.fullmatch(self.text) else self.text
        return f"{'-' if self.negative else ''}{name}{body}"


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on facts: kind cat, year, after, before, has, verdict."""

    kind: str
    value: str
    negative: bool = False

    def __str__(self) -> str:
        return f"{'-' if self.negative else ''}{self.kind}:{self.value}"


Part = Text | Filter


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these: all of them text, or all of them filters."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return " OR ".join(str(part) for part in self.parts)


Node = Text | Filter | AnyOf


@dataclass(frozen=True, slots=True)
class Query:
    """All of `nodes` hold. `sort` and `mode` are None where the text does not say."""

    nodes: tuple[Node, ...] = ()
    sort: Sort | None = None
    mode: Mode | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The query as understood; parsed again it is the same query."""
        said = [str(node) for node in self.nodes]
        said += [f"sort:{self.sort}"] if self.sort else []
        said += [f"mode:{self.mode}"] if self.mode else []
        return " ".join(said)

    @property
    def words(self) -> tuple[Text, ...]:
        """Plain words, which rank but need not all be there."""
        return tuple(node for node in self.nodes if isinstance(node, Text) and _is_soft(node))

    @property
    def alternatives(self) -> tuple[tuple[Text, ...], ...]:
        """The `a OR b` groups of text."""
        groups = (node.parts for node in self.nodes if isinstance(node, AnyOf))
        return tuple(texts for parts in groups if (texts := tuple(part for part in parts if isinstance(part, Text))))

    @property
    def required(self) -> tuple[Text, ...]:
        """Phrases and fields, each of which must be there."""
        return tuple(n for n in self.nodes if isinstance(n, Text) and not n.negative and not _is_soft(n))

    @property
    def excluded(self) -> tuple[Text, ...]:
        return tuple(node for node in self.nodes if isinstance(node, Text) and node.negative)

    @property
    def filters(self) -> tuple[tuple[Filter, ...], ...]:
        """Conditions on facts: all of the tuples, any within one."""
        found = []
        for node in self.nodes:
            parts = node.parts if isinstance(node, AnyOf) else (node,)
            filters = tuple(part for part in parts if isinstance(part, Filter))
            if filters:
                found.append(filters)
        return tuple(found)

    @property
    def has_text(self) -> bool:
        """Whether anything is to be found by words or meaning, beyond leaving things out."""
        return bool(self.words or self.alternatives or self.required)

    @property
    def meaning(self) -> str:
        """What a search by meaning looks for: all text but authors and what is excluded."""
        texts = [*self.words, *(text for group in self.alternatives for text in group), *self.required]
        return " ".join(text.text for text in texts if text.field != "author" and not text.negative)

    def with_filter(self, extra: Filter) -> Query:
        """The same query with one more filter."""
        return self if extra in self.nodes else replace(self, nodes=(*self.nodes, extra))

    def without_filter(self, extra: Filter) -> Query:
        return replace(self, nodes=tuple(node for node in self.nodes if node != extra))


def _is_soft(text: Text) -> bool:
    return text.field == "any" and not text.exact and not text.negative


_PLAIN = re.compile(r"[^\s\":-][^\s\":]*")
_PIECE = re.compile(
    r"""(?P<minus>-?)
        (?:(?P<key>[A-Za-z]{2,8}):(?=[^\s]))?
        (?:"(?P<phrase>[^"]*)(?:"|$)|(?P<word>[^\s"]+))""",
    re.VERBOSE,
)
_EDGES = "-()[]{}\"'.,;!?*"  # of a word; what hangs on it in running text
_DATE = re.compile(r"((?:19|20)\d\d)(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01]))?)?", re.ASCII)
_CATEGORY = re.compile(r"[a-zA-Z][a-zA-Z-]{1,15}(?:\.[a-zA-Z-]{2,12})?", re.ASCII)


def parse(text: str) -> Query:
    """Read a query. Never raises; at most the first 2,000 characters and 64 parts are read, with a note.

    >>> str(parse('low-rank recovery cat:cs.lg -"medical imaging" sort:new'))
    'low-rank recovery cat:cs.LG -"medical imaging" sort:new'
    >>> parse("after:yesterday pruning").notes
    ("'after:yesterday' is not a day, month or year like 2024-01-31, 2024-01 or 2024; read as words",)
    """
    notes: list[str] = []
    if len(text) > LONGEST:
        notes.append(f"only the first {LONGEST:,} characters were read")
        text = text[:LONGEST]
    text = text.replace("\x00", " ").replace("“", '"').replace("”", '"').replace("„", '"')
    reader = _Reader(notes)
    for n_parts, piece in enumerate(_PIECE.finditer(text)):
        if n_parts >= MOST_PARTS:
            notes.append(f"only the first {MOST_PARTS} parts were read")
            break
        reader.take(piece)
    return reader.query()


class _Reader:
    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.groups: list[list[Part]] = []
        self.sort: Sort | None = None
        self.mode: Mode | None = None
        self.join_next = False
        self.joinable = False  # whether the last part can stand left of an OR

    def take(self, piece: re.Match[str]) -> None:
        minus, key, phrase, word = piece["minus"] == "-", (piece["key"] or "").lower(), piece["phrase"], piece["word"]
        value = phrase if phrase is not None else word or ""
        if not key and not minus and phrase is None and value == "OR":
            self.join_next = self.joinable
            return
        if key and (handler := _KEYS.get(key)) is not None:
            found = handler(self, key, value, minus, phrase is not None)
            if found is _DONE:
                self.joinable = self.join_next = False
                return
            if isinstance(found, (Text, Filter)):
                self._append(found)
                return
            if found:
                self.notes.append(f"{piece[0]!r} {found}; read as words")
        if phrase is not None and not key:
            if _has_letters(value):
                self._append(Text(" ".join(value.split()), exact=True, negative=minus))
            return
        whole = f"{piece['key']}:{value}" if key else value
        for part in re.split(r"[\s:]+", whole):  # 'https://x.org' and 'foo:bar' are words
            cleaned = part.strip(_EDGES)
            if _has_letters(cleaned):
                self._append(Text(cleaned, exact=cleaned == "OR", negative=minus))

    def _append(self, part: Part) -> None:
        if self.join_next and self.groups:
            group = self.groups[-1]
            if part.negative or any(held.negative for held in group):
                self.notes.append("a part with '-' cannot stand beside OR; each counts by itself")
            elif isinstance(part, Filter) is not isinstance(group[0], Filter):
                self.notes.append("OR between words and a filter is not understood; both must hold")
            else:
                if part not in group:
                    group.append(part)
                self.join_next = False
                return
        self.join_next = False
        self.joinable = True
        self.groups.append([part])

    def query(self) -> Query:
        nodes: list[Node] = []
        for group in self.groups:
            node: Node = group[0] if len(group) == 1 else AnyOf(tuple(group))
            if node not in nodes:
                nodes.append(node)
        return Query(tuple(nodes), self.sort, self.mode, tuple(dict.fromkeys(self.notes)))

    # -- keys: a part, a note why not, or _DONE

    def text_in(self, key: str, value: str, minus: bool, exact: bool) -> _Found:
        value = " ".join(value.split())
        if not _has_letters(value):
            return "has no letters to look for"
        field: Field = "author" if key == "author" else "title"
        if not exact:
            value = value.strip(_EDGES)
        return Text(value, field, exact or not _PLAIN.fullmatch(value), minus)

    def category(self, key: str, value: str, minus: bool, exact: bool) -> _Found:
        if not _CATEGORY.fullmatch(value):
            return "is not a category like cs.LG or cs"
        archive, dot, subject = value.partition(".")
        if len(subject) == 2:
            subject = subject.upper()
        return Filter("cat", f"{archive.lower()}{dot}{subject}", minus)

    def day(self, key: str, value: str, minus: bool, exact: bool) -> _Found:
        found = _DATE.fullmatch(value)
        if not found:
            return "is not a day, month or year like 2024-01-31, 2024-01 or 2024"
        if key == "year" and len(value) != 4:
            return "is not a year like 2024"
        if minus and key != "year":
            return "cannot be left out; turn it around with after: or before:"
        return Filter(key, value, minus)

    def has(self, key: str, value: str, minus: bool, exact: bool) -> _Found:
        return Filter("has", value.lower(), minus) if value.lower() in HAS else f"is not one of {', '.join(HAS)}"

    def verdict(self, key: str, value: str, minus: bool, exact: bool) -> _Found:
        known = value.lower() in VERDICTS
        return Filter("verdict", value.lower(), minus) if known else f"is not one of {', '.join(VERDICTS)}"

    def personal(self, key: str, value: str, minus: bool, exact: bool) -> _Found:
        self.notes.append(
            f"{key}:{value[:40]} needs reading states and shelves, which this hub does not keep yet; left out"
        )
        return _DONE

    def set_sort(self, key: str, value: str, minus: bool, exact: bool) -> _Found:
        for name in get_args(Sort):
            if name == value.lower() and not minus:
                self.sort = name
                return _DONE
        return f"is not one of {', '.join(SORTS)}"

    def set_mode(self, key: str, value: str, minus: bool, exact: bool) -> _Found:
        for name in get_args(Mode):
            if name == value.lower() and not minus:
                self.mode = name
                return _DONE
        return f"is not one of {', '.join(MODES)}"


class _Done:
    """A part that changes how the search is done, not what it looks for."""


_DONE = _Done()
_Found = Text | Filter | str | _Done
_KEYS: dict[str, Callable[[_Reader, str, str, bool, bool], _Found]] = {
    "title": _Reader.text_in,
    "author": _Reader.text_in,
    "cat": _Reader.category,
    "after": _Reader.day,
    "before": _Reader.day,
    "year": _Reader.day,
    "has": _Reader.has,
    "verdict": _Reader.verdict,
    "is": _Reader.personal,
    "shelf": _Reader.personal,
    "sort": _Reader.set_sort,
    "mode": _Reader.set_mode,
}


def _has_letters(text: str) -> bool:
    return any(char.isalnum() for char in text)


def join(nodes: Iterable[Node]) -> str:
    """Parts as they would be typed."""
    return " ".join(str(node) for node in nodes)

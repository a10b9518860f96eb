"""Search by words: from a parsed query to FTS5's own language, and ranked ids back.

Only strings made here reach FTS5: words in double quotes, joined by its operators. Words are ranked by BM25 with the title
eight times and authors three times the abstract. All words must be there when that leaves twenty papers; else the rare ones
decide, at most eight, since every paper that holds a frequent word would have to be scored for next to nothing.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from paperworks.hub.search.columns import numbers
from paperworks.hub.search.query import Query, Text

TITLE, ABSTRACT, AUTHORS = 8.0, 1.0, 3.0
RANK = f"bm25({TITLE}, {ABSTRACT}, {AUTHORS})"
ENOUGH = 20  # papers with all words, so that the rest need not be looked at
FREQUENT = 0.05  # share of papers above which a word decides nothing
FEW = 500  # papers that are scored in no time, whatever their share
EMPTY = 0.5  # share above which it is not even asked for beside others
MOST_RARE = 8
MOST_WORDS = 32
MOST = 50_000  # papers that a search by words looks at
TOKENIZE = "porter unicode61 remove_diacritics 2"  # as in the first migration
COLUMNS = {"any": "", "title": "title : ", "author": "authors_text : "}

_SURFACE = re.compile(r"[^\W_]+")


def surfaces(text: str) -> list[str]:
    """The words of a text as they stand.

    >>> surfaces("Low-rank: a survey")
    ['Low', 'rank', 'a', 'survey']
    """
    return _SURFACE.findall(text)


class Stemmer:
    """Words as the words index holds them, by SQLite's own tokenizer in a database in memory. Safe in threads."""

    def __init__(self, most: int = 50_000) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._known: OrderedDict[str, str] = OrderedDict()
        self._memory = sqlite3.connect(":memory:", check_same_thread=False)
        self._memory.execute(f"CREATE VIRTUAL TABLE word USING fts5(body, tokenize='{TOKENIZE}')")
        self._memory.execute("CREATE VIRTUAL TABLE stem USING fts5vocab('word', 'instance')")

    def stems(self, words: Sequence[str]) -> list[str]:
        """One stem a word; '' for what the index does not hold, parts joined by blanks for what it takes apart."""
        with self._lock:
            unknown = list(dict.fromkeys(word for word in words if word not in self._known))
            if unknown:
                self._memory.executemany("INSERT INTO word (rowid, body) VALUES (?, ?)", enumerate(unknown))
                found = self._memory.execute("SELECT doc, term FROM stem ORDER BY doc, offset").fetchall()
                self._memory.execute("DELETE FROM word")
                self._memory.commit()
                made: dict[int, str] = {}
                for at, term in found:
                    made[at] = f"{made[at]} {term}" if at in made else term
                for at, word in enumerate(unknown):
                    self._known[word] = made.get(at, "")
            stems = [self._known[word] for word in words]
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return stems


class Frequencies:
    """In how many papers a stem occurs, from `paper_fts_vocab`; remembered until the hub has grown by a hundredth."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = -1
        self._n = 0
        self._held: dict[str, int] = {}

    def papers(self, session: Session) -> int:
        """How many papers there are, about."""
        newest = session.scalar(sql("SELECT max(id) FROM paper")) or 0
        with self._lock:
            if newest == self._at or (self._at > 0 and self._at < newest <= self._at + self._at // 100):
                return self._n
        n = session.scalar(sql("SELECT count(*) FROM paper")) or 0
        with self._lock:
            self._at, self._n, self._held = newest, n, {}
        return n

    def of(self, session: Session, stems: Iterable[str]) -> dict[str, int]:
        """Stem -> number of papers; what is not there is asked for each time, since it may have come."""
        wanted = [stem for stem in dict.fromkeys(stems) if stem]
        with self._lock:
            held = {stem: self._held[stem] for stem in wanted if stem in self._held}
        for stem in wanted:
            if stem not in held:
                found = session.execute(
                    sql("SELECT doc FROM paper_fts_vocab WHERE term = :term"), {"term": stem}
                ).scalar()
                held[stem] = int(found or 0)
        with self._lock:
            self._held.update({stem: n for stem, n in held.items() if n})
            if len(self._held) > 100_000:
                self._held.clear()
        return held


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the query: as typed, its stem, and in how many papers it is."""

    surface: str
    stem: str
    n_papers: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of the words index. `every` wants all words, `some` the rare ones; '' where there is nothing to ask."""

    every: str
    some: str
    required: str  # phrases and fields alone, which a search by meaning must respect too
    excluded: str
    words: tuple[Word, ...]
    unknown: tuple[str, ...]  # words that no paper has

    @property
    def stems(self) -> frozenset[str]:
        return frozenset(stem for word in self.words for stem in word.stem.split())


def plan(query: Query, session: Session, stemmer: Stemmer, frequencies: Frequencies) -> Plan:
    """Decide what to ask for."""
    n = max(1, frequencies.papers(session))
    typed = list(dict.fromkeys(part for text in query.words for part in surfaces(text.text)))[:MOST_WORDS]
    groups = [
        [part for text in group if not text.exact and text.field == "any" for part in surfaces(text.text)[:MOST_WORDS]]
        for group in query.alternatives
    ]
    firm = [text for group in query.alternatives for text in group if text.exact or text.field != "any"]
    others = [part for text in (*query.required, *firm) for part in surfaces(text.text)]
    every_surface = list(dict.fromkeys([*typed, *(part for group in groups for part in group), *others]))
    stems = dict(zip(every_surface, stemmer.stems(every_surface), strict=True))
    counts = frequencies.of(session, (stem for joined in stems.values() for stem in joined.split()))

    def word(surface: str) -> Word:
        stem = stems[surface]
        return Word(surface, stem, min((counts[part] for part in stem.split()), default=0))

    soft = _distinct(word(surface) for surface in typed if stems[surface])
    unknown = tuple(one.surface for one in soft if not one.n_papers)
    known = [one for one in soft if one.n_papers]
    telling = [one for one in known if one.n_papers <= EMPTY * n] or known
    required = [piece for text in query.required if (piece := _piece(text))]
    choices: list[str] = []
    for group in query.alternatives:
        pieces = [piece for text in group if (piece := _piece(text))]
        strict = any(text.exact or text.field != "any" for text in group)  # as a phrase or a field by itself would be
        if pieces:
            (required if strict else choices).append(" OR ".join(pieces))
    every = _all([*required, *choices, *(_quoted(one.surface) for one in telling)])
    grouped = _distinct(word(surface) for group in groups for surface in group if stems[surface])
    candidates = [*known, *(one for one in grouped if one.n_papers and one not in known)]
    rare = [one for one in candidates if one.n_papers <= max(FEW, FREQUENT * n)]
    if not rare:
        rare = sorted(candidates, key=lambda one: one.n_papers)[:2]
    rare = sorted(rare, key=lambda one: one.n_papers)[:MOST_RARE]
    some = _all([*required, " OR ".join(_quoted(one.surface) for one in rare)])
    if unknown and not known and not choices:
        every = ""  # no paper has any of the words
        some = "" if not required else _all(required)
    elif unknown:
        every = "" if not choices else every
    return Plan(
        every=every,
        some=some,
        required=_all(required),
        excluded=" OR ".join(piece for text in query.excluded if (piece := _piece(text))),
        words=tuple(_distinct([*soft, *grouped, *(word(part) for part in others if stems[part])])),
        unknown=unknown,
    )


def matched(session: Session, match: str, *, by_rank: bool = True) -> np.ndarray:
    """Ids of all papers that match, int64; best first by BM25, or ascending. At most `MOST` of the best."""
    if not by_rank:
        return numbers(session, "SELECT rowid FROM paper_fts WHERE paper_fts MATCH :match", {"match": match})
    query = (
        f"SELECT rowid FROM paper_fts WHERE paper_fts MATCH :match AND rank MATCH '{RANK}' ORDER BY rank LIMIT {MOST}"
    )
    return numbers(session, query, {"match": match})


def neighbours(session: Session, word: str, stem: str, limit: int = 400) -> list[str]:
    """Stems of the index that begin like a word nobody has, for a proposal of another spelling."""
    begin = stem[:2]
    if len(begin) < 2:
        return []
    found = session.execute(
        sql(
            "SELECT term FROM paper_fts_vocab WHERE term >= :low AND term < :high AND length(term) BETWEEN :short AND :long "
            "AND doc > 1 ORDER BY doc DESC LIMIT :limit"
        ),
        {"low": begin, "high": begin + "\U0010ffff", "short": len(stem) - 2, "long": len(stem) + 2, "limit": limit},
    )
    return [row[0] for row in found]


# -- marks ----------------------------------------------------------------------------------------------------------


def marks(text: str, stems: frozenset[str], stemmer: Stemmer) -> list[tuple[int, int, str]]:
    """Where words of the query stand in a text: start, end, stem."""
    spans = list(_SURFACE.finditer(text))
    words = list({match[0] for match in spans})
    wanted = {
        word: stem
        for word, stem in zip(words, stemmer.stems(words), strict=True)
        if stem in stems or (" " in stem and not stems.isdisjoint(stem.split()))
    }
    return [(match.start(), match.end(), wanted[match[0]]) for match in spans if match[0] in wanted]


# -- pieces of FTS5's language --------------------------------------------------------------------------------------


def _piece(text: Text) -> str:
    """A text as FTS5 is asked for it; '' when it has no word."""
    parts = surfaces(text.text)[:MOST_WORDS]
    if not parts:
        return ""
    column = COLUMNS[text.field]
    if text.field == "author" and 1 < len(parts) <= 6:  # first and last name in either order, an initial in between
        return f"{column}NEAR({' '.join(_quoted(part) for part in parts)}, 2)"
    if not text.exact and text.field == "any":
        return _all([_quoted(part) for part in parts])
    return f'{column}"{" ".join(parts)}"'


def any_of(surfaces: Sequence[str]) -> str:
    """At least one of these words, in FTS5's language."""
    return " OR ".join(_quoted(surface) for surface in surfaces)


def _quoted(surface: str) -> str:
    return f'"{surface}"'


def _all(pieces: Sequence[str]) -> str:
    pieces = [piece for piece in pieces if piece]
    return " AND ".join(f"({piece})" for piece in pieces)


def _distinct(words: Iterable[Word]) -> list[Word]:
    """The first of each stem."""
    return list({word.stem: word for word in reversed(list(words))}.values())[::-1]

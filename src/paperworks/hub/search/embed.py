"""Turn texts into unit vectors: the hub's own embedder, and others by entry point.

The hub's own is learnt from its own papers, offline: TF-IDF over words, cut to its strongest directions by a truncated SVD
(latent semantic analysis: Deerwester, Dumais, Furnas, Landauer, Harshman 1990). Plugins offer others under the entry point
group `paperworks.embedders`; each names an object with the shape of `EmbedderKind`. Nothing here imports torch.

n texts, d dimensions, t terms.
"""

from __future__ import annotations

import hashlib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from paperworks.errors import InputError, StoreError
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)
GROUP = "paperworks.embedders"
OWN = "svd"
DIMS = 256
SEED = 0
TITLE_WEIGHT = 1  # a word of the title counts as so many; 3 was worse (docs/benchmarks/search.md)
EVENING = 0.25  # power of the singular values that directions are divided by
MOST_TERMS = 60_000
FEW = 1000  # papers; below, words that occur once are kept as well


class Embedder(Protocol):
    """Texts to unit vectors of one space. Equal `name` and `fingerprint` mean that vectors can be compared."""

    name: str
    fingerprint: str
    dims: int

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """texts (n,) -> float32 (n, d), rows of length 1, or 0 for a text of which nothing is known.

        A paper is given as its title, a line break and its abstract; a query has no line break.
        """
        ...


class EmbedderKind(Protocol):
    """What an entry point names: how to make an embedder, and how to open it again."""

    name: str

    def make(self, texts: Sequence[str], folder: Path, progress: Progress = silent) -> Embedder:
        """Learn from these papers (or learn nothing) and keep in `folder` what `open` needs."""
        ...

    def open(self, folder: Path) -> Embedder: ...


def kinds() -> dict[str, str]:
    """Names of all embedders that are installed -> where they come from."""
    found = {point.name: point.value for point in entry_points(group=GROUP)}
    return {OWN: "paperworks", **{name: value for name, value in found.items() if name != OWN}}


def kind_of(name: str) -> EmbedderKind:
    """The embedder of that name. Raises InputError for an unknown one and for one that cannot be loaded."""
    if name == OWN:
        return Svd()
    for point in entry_points(group=GROUP):
        if point.name == name:
            try:
                loaded = point.load()
                kind: EmbedderKind = loaded() if isinstance(loaded, type) else loaded
                for verb in ("make", "open"):
                    if not callable(getattr(kind, verb, None)):
                        raise TypeError(f"it has no {verb}()")
            except Exception as error:
                raise InputError(
                    f"the embedder {name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}; mend or "
                    f"uninstall it, or set embedder = {OWN!r}"
                ) from error
            return kind
    raise InputError(f"there is no embedder {name!r}; installed are {', '.join(kinds())}")


# -- words ----------------------------------------------------------------------------------------------------------

_TERM = re.compile(r"[^\W_]{2,40}")


def terms(text: str) -> list[str]:
    """Words of two letters or more, without case and accents.

    >>> terms("Low-rank Régression, in $O(n)$")
    ['low', 'rank', 'regression', 'in']
    """
    text = text.lower()
    if not text.isascii():
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return _TERM.findall(text)


def _weighed(text: str) -> Counter[str]:
    title, line_break, abstract = text.partition("\n")
    counted = Counter(terms(title))
    if line_break:
        for term in counted:
            counted[term] *= TITLE_WEIGHT
        counted.update(terms(abstract))
    return counted


# -- the hub's own --------------------------------------------------------------------------------------------------


class SvdEmbedder:
    """Weights of words (t,), and where each word points: float32 (t, d). Made by `Svd.make`."""

    name = OWN

    def __init__(self, vocabulary: Sequence[str], idf: np.ndarray, directions: np.ndarray, fingerprint: str) -> None:
        self.vocabulary = list(vocabulary)
        self.idf = idf
        self.directions = directions
        self.fingerprint = fingerprint
        self.dims = int(directions.shape[1])
        self.learnt: np.ndarray | None = None  # vectors of the papers it was learnt from, right after `make`
        self._place = {term: place for place, term in enumerate(self.vocabulary)}

    def __contains__(self, term: str) -> bool:
        return term in self._place

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See `Embedder.embed`."""
        out = np.zeros((len(texts), self.dims), dtype=np.float32)
        for row, text in enumerate(texts):
            places, weights = self._row(_weighed(text))
            if len(places):
                out[row] = weights @ self.directions[places]
        return unit(out)

    def weight(self, term: str) -> float:
        """How telling a word is (its inverse document frequency); 0 for a word not known."""
        place = self._place.get(term)
        return 0.0 if place is None else float(self.idf[place])

    def _row(self, counted: Counter[str]) -> tuple[np.ndarray, np.ndarray]:
        known = [(place, n) for term, n in counted.items() if (place := self._place.get(term)) is not None]
        places = np.fromiter((place for place, _ in known), np.int64, len(known))
        counts = np.fromiter((n for _, n in known), np.float32, len(known))
        return places, (1 + np.log(np.maximum(counts, 1))) * self.idf[places]


class Svd:
    """Learns the hub's own space."""

    name = OWN

    def __init__(self, dims: int = DIMS, seed: int = SEED) -> None:
        self.dims = dims
        self.seed = seed

    def make(self, texts: Sequence[str], folder: Path, progress: Progress = silent) -> SvdEmbedder:
        """Learn from papers and write `terms.txt`, `idf.npy`, `directions.npy` into `folder`.

        The dimensions shrink with the papers: at most one fewer than papers, and than words.
        Raises InputError for fewer than three papers.
        """
        from scipy import sparse

        if len(texts) < 3:
            raise InputError(f"a space of meaning is learnt from three papers or more, got {len(texts)}")
        n = len(texts)
        met: dict[str, int] = {}  # every word ever met, numbered
        columns: list[np.ndarray] = []
        values: list[np.ndarray] = []
        for text in _reporting(texts, progress, "reading words"):
            counted = _weighed(text)
            columns.append(np.array([met.setdefault(term, len(met)) for term in counted], dtype=np.int32))
            values.append(np.fromiter(counted.values(), np.float32, len(counted)))
        bounds = np.cumsum([0, *(len(column) for column in columns)])
        terms_at, weights = np.concatenate(columns), np.concatenate(values)
        del columns, values
        frequency = np.bincount(terms_at, minlength=len(met))
        least = 1 if n < FEW else 2 if n < 10 * FEW else 5
        usual = [(term, number) for term, number in met.items() if frequency[number] >= least]
        usual.sort(key=lambda item: (-frequency[item[1]], item[0]))
        kept = sorted(usual[:MOST_TERMS])
        if not kept:
            raise InputError("a space of meaning cannot be learnt from papers without words")
        vocabulary = [term for term, _ in kept]
        numbers = np.array([number for _, number in kept])
        place = np.full(len(met), -1, dtype=np.int64)
        place[numbers] = np.arange(len(kept))
        idf = (np.log((1 + n) / (1 + frequency[numbers])) + 1).astype(np.float32)
        stays = place[terms_at] >= 0
        bounds = np.concatenate([[0], np.cumsum(stays)])[bounds]
        terms_at, weights = place[terms_at[stays]], weights[stays]
        weights = (1 + np.log(weights)) * idf[terms_at]
        lengths = np.sqrt(np.add.reduceat(np.append(weights**2, 0), np.minimum(bounds[:-1], len(weights))))
        lengths[np.diff(bounds) == 0] = 1
        weights = (weights / np.repeat(np.maximum(lengths, 1e-12), np.diff(bounds))).astype(np.float32)
        table: Any = sparse.csr_matrix((weights, terms_at, bounds), shape=(n, len(vocabulary)))
        dims = max(1, min(self.dims, n - 1, len(vocabulary) - 1))
        progress(0, None, "finding directions")
        directions, strengths = strongest_directions(table, dims, seed=self.seed)
        # The first directions say little more than 'a paper'; evened out a little, the others are heard (docs/benchmarks/search.md).
        directions = (directions / np.maximum(strengths, 1e-6) ** EVENING).astype(np.float32)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "terms.txt").write_text("\n".join(vocabulary), encoding="utf-8")
        np.save(folder / "idf.npy", idf)
        np.save(folder / "directions.npy", directions)
        made = self.open(folder)
        made.learnt = unit(np.asarray(table @ directions))
        return made

    def open(self, folder: Path) -> SvdEmbedder:
        """Open what `make` wrote. Raises StoreError when it is not whole."""
        try:
            vocabulary = (folder / "terms.txt").read_text(encoding="utf-8").split("\n")
            idf = np.load(folder / "idf.npy")
            directions = np.load(folder / "directions.npy")
        except (OSError, ValueError) as error:
            raise StoreError(
                f"the space of meaning in {folder} cannot be read ({error}); run: paperworks reindex"
            ) from error
        if idf.shape != (len(vocabulary),) or directions.ndim != 2 or len(directions) != len(vocabulary):
            raise StoreError(f"the space of meaning in {folder} is not whole; run: paperworks reindex")
        digest = hashlib.sha256("\n".join(vocabulary).encode())
        digest.update(idf.tobytes())
        digest.update(np.ascontiguousarray(directions).data)
        return SvdEmbedder(vocabulary, idf, directions, digest.hexdigest()[:32])


def strongest_directions(
    table: Any, dims: int, *, seed: int = 0, rounds: int = 3, extra: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """The right singular vectors of a sparse (n, t) matrix for its `dims` largest singular values: float32 (t, dims), (dims,).

    Randomised range finder with power iterations (Halko, Martinsson, Tropp 2011, algorithms 4.4 and 5.1).
    """
    n, t = table.shape
    rng = np.random.default_rng(seed)
    width = min(dims + extra, n, t)
    basis = np.asarray(table @ rng.standard_normal((t, width), dtype=np.float32))  # (n, width)
    for _ in range(rounds):
        basis, _r = np.linalg.qr(basis)
        basis = np.asarray(table @ np.linalg.qr(np.asarray(table.T @ basis))[0])
    basis, _r = np.linalg.qr(basis)
    small = np.asarray(table.T @ basis).T  # (width, t)
    _u, strengths, right = np.linalg.svd(small, full_matrices=False)
    # The sign of a singular vector is anybody's; fixed, so that the same papers give the same space.
    chosen = right[:dims]
    signs = np.sign(chosen[np.arange(len(chosen)), np.abs(chosen).argmax(axis=1)])
    return np.ascontiguousarray((chosen * signs[:, None]).T, dtype=np.float32), strengths[:dims]


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32 (n, d); rows of zeros stay, what is not finite becomes zero."""
    rows = np.nan_to_num(np.asarray(rows, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _reporting(texts: Iterable[str], progress: Progress, note: str, every: int = 2000) -> Iterator[str]:
    total = len(texts) if isinstance(texts, Sequence) else None
    for done, text in enumerate(chain(texts)):
        if done % every == 0:
            progress(done, total, note)
        yield text

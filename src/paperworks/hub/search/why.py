"""Say why a search found a paper: which words, where they stand, and the part of the abstract that shows it.

Offsets count characters of plain text; whoever renders puts the marks there.
"""

from __future__ import annotations

from collections.abc import Mapping

from paperworks.hub.search.words import Plan, Stemmer, marks
from paperworks.hub.views import WhyView

LONGEST = 280  # characters of a snippet
COMMON = 0.3  # share of papers above which a word is not worth a mark beside rarer ones


def explain(title: str, abstract: str, plan: Plan, stemmer: Stemmer, n_papers: int, *, by_meaning: bool) -> WhyView:
    """Why this paper: marks into its title, and a snippet of its abstract with marks of its own."""
    telling = {word for word in plan.words if word.n_papers <= COMMON * max(1, n_papers)} or set(plan.words)
    surface: Mapping[str, str] = {stem: word.surface for word in telling for stem in word.stem.split()}
    stems = frozenset(surface)
    in_title = marks(title, stems, stemmer) if stems else []
    in_abstract = marks(abstract, stems, stemmer) if stems else []
    snippet, snippet_marks = _snippet(abstract, in_abstract)
    met = list(
        dict.fromkeys(
            surface[part] for _, _, stem in [*in_title, *in_abstract] for part in stem.split() if part in surface
        )
    )
    said = []
    if met:
        said.append("with " + ", ".join(f"‘{word}’" for word in met[:6]))
    if by_meaning:
        said.append("near in meaning" if met else "by meaning, without a word of the query")
    return WhyView(
        by_words=bool(met),
        by_meaning=by_meaning,
        title_marks=tuple((start, end) for start, end, _ in in_title),
        snippet=snippet,
        snippet_marks=snippet_marks,
        sentence="; ".join(said),
    )


def _snippet(abstract: str, found: list[tuple[int, int, str]]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """From the beginning of the sentence after which the most different words stand, cut after a word; '' without any."""
    if not found:
        return "", ()
    best, best_start = -1, 0
    for first, _, _ in found:
        start = abstract.rfind(". ", 0, first)
        start = start + 2 if start >= 0 else 0  # near enough to a sentence for a snippet
        different = len({stem for at, _, stem in found if start <= at < start + LONGEST})
        if different > best:
            best, best_start = different, start
    stop = min(len(abstract), best_start + LONGEST)
    last = max((end for at, end, _ in found if best_start <= at and end <= stop), default=best_start)
    if stop < len(abstract):
        cut = abstract.rfind(" ", last, stop)
        stop = cut if cut > 0 else stop
    before, after = "… " if best_start else "", " …" if stop < len(abstract) else ""
    shift = len(before) - best_start
    spans = tuple((at + shift, end + shift) for at, end, _ in found if best_start <= at and end <= stop)
    if not spans:  # one sentence longer than a snippet, its words at the end
        start = max(best_start, found[-1][1] - LONGEST)
        if start > best_start:
            start = abstract.find(" ", start, found[-1][0]) + 1 or start
        return f"… {abstract[start : found[-1][1]]}", tuple(
            (at - start + 2, end - start + 2) for at, end, _ in found if at >= start
        )
    return f"{before}{abstract[best_start:stop]}{after}", spans

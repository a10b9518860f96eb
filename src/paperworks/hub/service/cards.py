"""Papers as cards of a list, in a constant number of queries; and the paper that a reference names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from paperworks.errors import NotFound
from paperworks.hub.hub import Hub
from paperworks.hub.identifiers import parse_reference
from paperworks.hub.service.claims import Known, claim_row
from paperworks.hub.store.models import Author, Authorship, Identifier, Link, Paper, PaperCategory, Vote
from paperworks.hub.views import AuthorView, PaperCard, PaperState, WhyView

SCHEMES = ("arxiv", "doi", "openreview", "acl", "url")


def build_cards(
    hub: Hub,
    session: Session,
    ids: Sequence[int],
    *,
    whys: Mapping[int, WhyView] | None = None,
    scores: Mapping[int, float] | None = None,
) -> list[PaperCard]:
    """The cards of these papers, in the order given; ids that no longer exist are left out.

    The number of queries does not depend on the number of papers.
    """
    from paperworks.hub.service.votes import heat  # which makes cards itself

    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return []
    rows = {paper.id: paper for paper in session.scalars(select(Paper).where(Paper.id.in_(wanted)))}
    identifiers = _identifiers(session, wanted)
    authors = _authors(session, wanted)
    categories = _categories(session, wanted)
    code = _code_links(session, wanted)
    standing = select(Vote.paper_id, func.count()).where(Vote.paper_id.in_(wanted), Vote.withdrawn.is_(None))
    votes = dict(session.execute(standing.group_by(Vote.paper_id)).all())
    voted = set(
        session.scalars(
            select(Vote.paper_id).where(
                Vote.paper_id.in_(wanted), Vote.withdrawn.is_(None), Vote.reader_id == hub.reader_id
            )
        )
    )
    heats = heat(hub, session, wanted)
    known = Known.of(hub) if any(paper.slug for paper in rows.values()) else Known({}, {})
    cards = []
    for paper_id in ids:
        paper = rows.get(paper_id)
        if paper is None:
            continue
        runnable = hub.catalogue.papers.get(paper.slug) if paper.slug else None
        code_url = code.get(paper_id) or (runnable.spec.code if runnable else None)
        state: PaperState = "code-elsewhere" if code_url else "paper-only"
        if runnable:
            state = "runs-here" if runnable.has_method else "method-to-come"
        cards.append(
            PaperCard(
                id=paper.id,
                ref=paper_ref(paper.id, identifiers[paper_id]),
                title=paper.title,
                authors=tuple(authors[paper_id]),
                abstract=paper.abstract,
                published=paper.published,
                announced=paper.announced,
                first_seen=paper.first_seen,
                categories=tuple(categories[paper_id]),
                state=state,
                slug=paper.slug if runnable else None,
                use=runnable.spec.use if runnable else "",
                verdicts=tuple(claim_row(runnable, spec, known).verdict for spec in runnable.claims)
                if runnable
                else (),
                code_url=code_url,
                votes=votes.get(paper_id, 0),
                voted=paper_id in voted,
                heat=heats.get(paper_id),
                why=whys.get(paper_id) if whys else None,
                score=scores.get(paper_id) if scores else None,
            )
        )
    return cards


def paper_ref(paper_id: int, identifiers: Mapping[str, str]) -> str:
    """What stands in addresses: the arXiv id, else 'doi:...', else 'p:ID'.

    >>> paper_ref(7, {"arxiv": "2301.13838", "doi": "10.1/x"}), paper_ref(7, {"doi": "10.1/x"}), paper_ref(7, {})
    ('2301.13838', 'doi:10.1/x', 'p:7')
    """
    if "arxiv" in identifiers:
        return identifiers["arxiv"]
    return f"doi:{identifiers['doi']}" if "doi" in identifiers else f"p:{paper_id}"


def find_paper(hub: Hub, session: Session, reference: str) -> int:
    """The id of the paper that `reference` names: arXiv id (with or without version) or address, DOI, slug, 'p:ID', any other
    known identifier.

    Raises NotFound that says how to bring the paper in.
    """
    text = reference.strip()
    found: int | None = None
    if text.startswith("p:") and text[2:].isascii() and text[2:].isdigit() and len(text) < 18:
        found = session.scalar(select(Paper.id).where(Paper.id == int(text[2:])))
    elif parsed := parse_reference(text):
        found = _by_identifier(session, parsed.scheme, parsed.value)
        if found is None:
            how = (
                f"run `paperworks add {parsed.value}` to bring it in"
                if parsed.scheme == "arxiv"
                else "import it from a file"
            )
            raise NotFound(f"no paper with {parsed.scheme} {parsed.value} in this hub; {how}")
    elif text:
        found = session.scalar(select(Paper.id).where(Paper.slug == text))
        if found is None:
            values = [(scheme, text) for scheme in SCHEMES]
            found = next((hit for pair in values if (hit := _by_identifier(session, *pair)) is not None), None)
    if found is None:
        known = f"the papers that run here are: {', '.join(hub.catalogue.papers) or 'none'}"
        raise NotFound(
            f"no paper {text[:200]!r} in this hub; give an arXiv id, a DOI, an address or a short name ({known})"
        )
    return found


def _by_identifier(session: Session, scheme: str, value: str) -> int | None:
    return session.scalar(select(Identifier.paper_id).where(Identifier.scheme == scheme, Identifier.value == value))


def identifiers_of(session: Session, ids: Iterable[int]) -> dict[int, dict[str, str]]:
    """Scheme -> value for each paper; of several of one scheme the first in the alphabet."""
    return _identifiers(session, list(ids))


def _identifiers(session: Session, ids: list[int]) -> defaultdict[int, dict[str, str]]:
    query = (
        select(Identifier.paper_id, Identifier.scheme, Identifier.value)
        .where(Identifier.paper_id.in_(ids))
        .order_by(Identifier.scheme, Identifier.value)
    )
    found: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for paper_id, scheme, value in session.execute(query):
        found[paper_id].setdefault(scheme, value)
    return found


def _authors(session: Session, ids: list[int]) -> defaultdict[int, list[AuthorView]]:
    query = (
        select(Authorship.paper_id, Author.name, Author.name_key, Authorship.affiliation)
        .join(Author, Author.id == Authorship.author_id)
        .where(Authorship.paper_id.in_(ids))
        .order_by(Authorship.paper_id, Authorship.position)
    )
    found: defaultdict[int, list[AuthorView]] = defaultdict(list)
    for paper_id, name, key, affiliation in session.execute(query):
        found[paper_id].append(AuthorView(name=name, key=key, affiliation=affiliation))
    return found


def _categories(session: Session, ids: list[int]) -> defaultdict[int, list[str]]:
    query = (
        select(PaperCategory.paper_id, PaperCategory.code)
        .where(PaperCategory.paper_id.in_(ids))
        .order_by(PaperCategory.paper_id, PaperCategory.is_primary.desc(), PaperCategory.code)
    )
    found: defaultdict[int, list[str]] = defaultdict(list)
    for paper_id, code in session.execute(query):
        found[paper_id].append(code)
    return found


def _code_links(session: Session, ids: list[int]) -> dict[int, str]:
    query = (
        select(Link.paper_id, Link.url)
        .where(Link.paper_id.in_(ids), Link.kind == "code")
        .order_by(Link.official.desc(), Link.url)
    )
    found: dict[int, str] = {}
    for paper_id, url in session.execute(query):
        found.setdefault(paper_id, url)
    return found

"""What people and programs are shown: frozen models, built once by the service, rendered as page, JSON, feed and mail.

All text is plain Unicode with TeX as typed; whoever renders decides on MathML, Unicode or nothing. Days and times as in the store.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["reproduced", "partly", "refuted", "not-measured"]
PaperState = Literal["runs-here", "method-to-come", "code-elsewhere", "paper-only"]
Window = Literal["day", "week", "month"]


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class AuthorView(View):
    name: str
    key: str  # for /author/KEY
    affiliation: str = ""


class LinkView(View):
    kind: str
    url: str
    who: str
    official: bool


class HeatView(View):
    """Why a paper stands where it stands in the trending list."""

    heat: float
    readers: int
    outside: int
    age_hours: float | None
    sentence: str  # 'heat 12.4: 3 readers here, 31 on Hugging Face, 20 h old'


class WhyView(View):
    """Why a search found it: marked spans (start, end) into the title and the snippet; by meaning when no word matched."""

    by_words: bool
    by_meaning: bool
    title_marks: tuple[tuple[int, int], ...] = ()
    snippet: str = ""
    snippet_marks: tuple[tuple[int, int], ...] = ()
    sentence: str = ""


class PaperCard(View):
    """A paper in a list."""

    id: int
    ref: str  # what stands in URLs: arXiv id, else 'doi:...', else 'p:ID'
    title: str
    authors: tuple[AuthorView, ...]
    abstract: str
    published: str | None
    announced: str | None
    first_seen: str
    categories: tuple[str, ...]
    state: PaperState
    slug: str | None
    use: str = ""  # the one-line use of a runnable paper
    verdicts: tuple[Verdict, ...] = ()  # one a claim, in the order of paper.toml
    code_url: str | None = None
    votes: int = 0
    voted: bool = False
    heat: HeatView | None = None
    why: WhyView | None = None
    score: float | None = None


class VersionView(View):
    number: int
    submitted: str | None
    title: str
    abstract: str


class ValueView(View):
    """One measured value over seeds."""

    name: str
    mean: float | None
    spread: float | None
    text: str  # '61.2 ± 0.8'


class ClaimRow(View):
    """A claim: as printed beside as measured."""

    slug: str
    paper_title: str
    paper_ref: str
    id: str
    statement: str
    metric: str
    printed: str  # '83.87 against 8.17 (CIFAR-10, ResNet-18)'
    where: str
    reproduced_rule: str
    refuted_rule: str
    verdict: Verdict
    reason: str  # why it was not measured, or ''
    scale: str | None
    seeds: int
    values: tuple[ValueView, ...]
    measured_at: str | None
    environment: str  # one line: 'AMD EPYC, 2 cores, Python 3.11.7'
    record: str | None  # name of the record, for download
    needs: str
    minutes: float | None  # expected duration of a cpu run over three seeds
    can_run: bool
    scales: tuple[str, ...]


class PaperPage(View):
    card: PaperCard
    identifiers: dict[str, str]
    links: tuple[LinkView, ...]
    versions: tuple[VersionView, ...]
    comment: str
    journal_ref: str
    licence: str
    withdrawn: bool
    abstract_source: str
    summary: str  # ours, of a runnable paper
    claims: tuple[ClaimRow, ...]
    similar: tuple[PaperCard, ...]


class FacetView(View):
    name: str
    label: str
    count: int
    query: str  # the query that adds this filter
    active: bool = False


class SearchPage(View):
    query: str
    canonical: str  # the query as understood
    mode: str
    cards: tuple[PaperCard, ...]
    about: int  # how many matched, capped
    capped: bool
    facets: dict[str, tuple[FacetView, ...]]
    next: str | None  # opaque cursor
    notes: tuple[str, ...]  # what was not understood, what answered in words only, and why
    timing_ms: dict[str, float]
    direct: str | None = None  # ref of the paper that an identifier or address names


class RunView(View):
    id: int
    slug: str
    claim: str
    statement: str
    paper_ref: str
    scale: str
    seeds: tuple[int, ...]
    state: str
    asked: str
    started: str | None
    ended: str | None
    done: float
    total: float | None
    note: str
    remaining_s: float | None
    verdict: Verdict | None
    record: str | None
    message: str
    queue_position: int | None = None
    last_event: int = 0


class RunEventView(View):
    n: int
    at: str
    kind: str
    body: dict[str, Any]


class IntakeView(View):
    id: int
    source: str
    started: str
    ended: str | None
    state: str
    requests: int
    new: int
    changed: int
    same: int
    refused: int
    message: str


class RefusedView(View):
    id: int
    intake_id: int
    ordinal: int
    reason: str
    raw: str
    settled: bool


class SourceView(View):
    name: str
    kind: str
    config: dict[str, Any]
    due: str | None
    failures: int
    paused_reason: str | None
    papers: int
    last: IntakeView | None
    explanation: str  # why nothing came, in words


class DayPage(View):
    day: str
    cards: tuple[PaperCard, ...]
    total: int
    previous: str | None
    next: str | None
    explanation: str  # explains silence


class ListPage(View):
    """A plain list: category, author."""

    title: str
    cards: tuple[PaperCard, ...]
    total: int
    next: str | None


class SubscriptionView(View):
    id: int
    kind: str
    spec: dict[str, Any]
    cadence: str
    hour: int
    weekday: int
    most: int
    sentence: str  # 'papers matching "pruning -survey", every day at 7:00'


class SubscriberView(View):
    id: int
    email: str
    state: str
    time_zone: str
    subscriptions: tuple[SubscriptionView, ...]


class DigestSection(View):
    title: str
    cards: tuple[PaperCard, ...]
    reasons: tuple[str, ...]


class DigestView(View):
    """One mail, before it is rendered."""

    subject: str
    date: str
    hub_name: str
    base_url: str
    sections: tuple[DigestSection, ...]
    unsubscribe_url: str
    manage_url: str
    count: int
    note: str = ""  # what a reader must know beside the papers: that this is a sample, or that there is nothing today


class LetterView(View):
    """One mail of the outbox, as in a list."""

    name: str  # day/file, for asking for one
    day: str
    recipient: str
    subject: str
    date: str
    bytes: int


class LetterText(View):
    """One mail of the outbox, opened."""

    letter: LetterView
    headers: tuple[tuple[str, str], ...]
    text: str
    html: str  # empty for a mail without


class MailCounts(View):
    """What came of one round of sending."""

    planned: int = 0
    sent: int = 0
    empty: int = 0
    failed: int = 0
    later: int = 0  # could not leave now, or are in other hands; they come with a later round


class FrontPage(View):
    window: Window
    trending: tuple[PaperCard, ...]
    runnable: tuple[PaperCard, ...]
    recent: tuple[PaperCard, ...]  # announced last
    papers: int
    claims: dict[str, int]  # verdict -> count
    problems: tuple[str, ...]  # catalogue entries that could not be read

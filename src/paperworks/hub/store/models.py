"""The tables. Times are UTC text `YYYY-MM-DDTHH:MM:SSZ` (they sort, and any shell can read them); days are `YYYY-MM-DD`.

Integer keys inside, identifiers outside. JSON only where nobody filters. Full text (`paper_fts`, FTS5 over title, abstract and
authors) and its triggers are made by the migrations, since SQLAlchemy does not know virtual tables.
Claims stay in `paper.toml` and records of runs stay JSON files; `run` indexes them and can be rebuilt.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, ForeignKey, Index, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


# The day that lists go by: announced, else first seen. Queries must use this very text to be served by its index.
PAPER_DAY = "coalesce(announced, substr(first_seen, 1, 10))"


# Tables whose rows are little more than their key are kept as one tree: half the size, half the work of an insert.
_KEY_IS_THE_TABLE = {"sqlite_with_rowid": False}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON, list[Any]: JSON, str: Text}


class Paper(Base):
    """One work, whatever its versions and sources. The text shown is that of the newest version, best source."""

    __tablename__ = "paper"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    title_key: Mapped[str] = mapped_column(index=True)  # folded, for finding the same work under another identifier
    abstract: Mapped[str] = mapped_column(default="")
    abstract_source: Mapped[str] = mapped_column(default="")  # arxiv, doi, hf, feed, file: earlier wins
    authors_text: Mapped[str] = mapped_column(default="")  # all names, for full text and for lists without a join
    primary_category: Mapped[str] = mapped_column(default="")
    published: Mapped[str | None] = mapped_column(index=True)  # day of the first version
    updated: Mapped[str | None]
    announced: Mapped[str | None] = mapped_column(index=True)  # listing day; `first_seen` where unknown
    first_seen: Mapped[str] = mapped_column(index=True)
    latest_version: Mapped[int] = mapped_column(default=1)
    comment: Mapped[str] = mapped_column(default="")
    journal_ref: Mapped[str] = mapped_column(default="")
    licence: Mapped[str] = mapped_column(default="")
    withdrawn: Mapped[bool] = mapped_column(default=False)
    slug: Mapped[str | None] = mapped_column(unique=True)  # the runnable paper of the catalogue, if there is one
    provenance: Mapped[dict[str, Any]] = mapped_column(
        default=dict
    )  # field -> [version, source kind, updated]; see load.py

    identifiers: Mapped[list[Identifier]] = relationship(back_populates="paper", cascade="all, delete-orphan")
    authorships: Mapped[list[Authorship]] = relationship(
        back_populates="paper", cascade="all, delete-orphan", order_by="Authorship.position"
    )
    links: Mapped[list[Link]] = relationship(cascade="all, delete-orphan")

    __table_args__ = (
        Index("ix_paper_primary_category_published", "primary_category", "published"),
        Index("ix_paper_day", text(PAPER_DAY)),
    )


class Identifier(Base):
    """A name by which the world knows a paper: scheme arxiv, doi, openreview, acl, url."""

    __tablename__ = "identifier"

    scheme: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), index=True)
    paper: Mapped[Paper] = relationship(back_populates="identifiers")

    __table_args__ = (_KEY_IS_THE_TABLE,)


class Version(Base):
    __tablename__ = "version"

    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    abstract: Mapped[str] = mapped_column(default="")
    submitted: Mapped[str | None]
    content_hash: Mapped[str]
    source_id: Mapped[int | None] = mapped_column(ForeignKey("source.id", ondelete="SET NULL"))


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(unique=True)  # folded


class Authorship(Base):
    __tablename__ = "authorship"

    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), index=True)
    affiliation: Mapped[str] = mapped_column(default="")
    paper: Mapped[Paper] = relationship(back_populates="authorships")
    author: Mapped[Author] = relationship()

    __table_args__ = (_KEY_IS_THE_TABLE,)


class PaperCategory(Base):
    __tablename__ = "paper_category"

    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    code: Mapped[str] = mapped_column(String(32), primary_key=True)
    is_primary: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (Index("ix_paper_category_code", "code", "paper_id"), _KEY_IS_THE_TABLE)


class Link(Base):
    """Kinds: pdf, html, code, project, data. `who` said so: author, site, reader."""

    __tablename__ = "link"

    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    url: Mapped[str] = mapped_column(primary_key=True)
    who: Mapped[str] = mapped_column(default="site")
    official: Mapped[bool] = mapped_column(default=False)


class Source(Base):
    __tablename__ = "source"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]  # arxiv, hf-daily, feed, file
    name: Mapped[str] = mapped_column(unique=True)
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    cursor: Mapped[str | None]
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]
    due: Mapped[str | None] = mapped_column(index=True)
    failures: Mapped[int] = mapped_column(default=0)
    paused_reason: Mapped[str | None]


class Intake(Base):
    """One turn of one source. States: running, done, refusals (done with refusals), failed, interrupted."""

    __tablename__ = "intake"

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id", ondelete="CASCADE"))
    started: Mapped[str]
    ended: Mapped[str | None]
    state: Mapped[str] = mapped_column(default="running")
    requests: Mapped[int] = mapped_column(default=0)
    new: Mapped[int] = mapped_column(default=0)
    changed: Mapped[int] = mapped_column(default=0)
    same: Mapped[int] = mapped_column(default=0)
    refused: Mapped[int] = mapped_column(default=0)
    message: Mapped[str] = mapped_column(default="")

    __table_args__ = (Index("ix_intake_source_id_started", "source_id", "started"),)


class Refused(Base):
    """An entry that could not be read, kept so that it can be tried again after a fix."""

    __tablename__ = "refused"

    id: Mapped[int] = mapped_column(primary_key=True)
    intake_id: Mapped[int] = mapped_column(ForeignKey("intake.id", ondelete="CASCADE"), index=True)
    ordinal: Mapped[int]  # line number of a file, or position in the batch
    reason: Mapped[str]
    raw: Mapped[str]  # 64 KiB at most
    settled: Mapped[bool] = mapped_column(default=False, index=True)


class Listing(Base):
    __tablename__ = "listing"

    source_id: Mapped[int] = mapped_column(ForeignKey("source.id", ondelete="CASCADE"), primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    rank: Mapped[int | None]
    url: Mapped[str] = mapped_column(default="")

    __table_args__ = (Index("ix_listing_day", "day", "source_id"), _KEY_IS_THE_TABLE)


class Counter(Base):
    """One observation of a counter elsewhere (upvotes, comments, stars); append only."""

    __tablename__ = "counter"

    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id", ondelete="CASCADE"), primary_key=True)
    metric: Mapped[str] = mapped_column(String(16), primary_key=True)
    seen: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]

    __table_args__ = (Index("ix_counter_source_id_metric_seen", "source_id", "metric", "seen"), _KEY_IS_THE_TABLE)


class Reader(Base):
    __tablename__ = "reader"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(unique=True)
    display: Mapped[str] = mapped_column(default="")
    role: Mapped[str] = mapped_column(default="reader")  # reader, admin
    trust: Mapped[float] = mapped_column(default=1.0)
    created: Mapped[str]
    time_zone: Mapped[str] = mapped_column(default="UTC")
    last_seen: Mapped[str | None]


class Vote(Base):
    """One reader's vote; its weight is fixed when it is cast."""

    __tablename__ = "vote"

    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    reader_id: Mapped[int] = mapped_column(ForeignKey("reader.id"), primary_key=True)
    cast: Mapped[str]
    withdrawn: Mapped[str | None]
    weight: Mapped[float] = mapped_column(default=1.0)
    cluster: Mapped[str] = mapped_column(default="")

    __table_args__ = (
        Index("ix_vote_reader_id_cast", "reader_id", "cast"),
        Index("ix_vote_paper_id_cluster", "paper_id", "cluster"),
    )


class Hot(Base):
    """Trending keys (see hub/trending.py); a paper without any vote has no row."""

    __tablename__ = "hot"

    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    key_day: Mapped[float]
    key_week: Mapped[float]
    key_month: Mapped[float]
    parts: Mapped[dict[str, Any]] = mapped_column(default=dict)

    __table_args__ = (
        Index("ix_hot_key_day", "key_day"),
        Index("ix_hot_key_week", "key_week"),
        Index("ix_hot_key_month", "key_month"),
    )


class Subscriber(Base):
    """States: unconfirmed, confirmed, ended."""

    __tablename__ = "subscriber"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    email_key: Mapped[str] = mapped_column(unique=True)  # folded, IDNA
    state: Mapped[str] = mapped_column(default="unconfirmed", index=True)
    created: Mapped[str]
    confirmed: Mapped[str | None]
    ended: Mapped[str | None]
    soft_bounces: Mapped[int] = mapped_column(default=0)
    time_zone: Mapped[str] = mapped_column(default="UTC")


class Subscription(Base):
    """Kinds: trending, topic (categories), query, author. `spec` holds what the kind needs. States: pending, active, ended."""

    __tablename__ = "subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(ForeignKey("subscriber.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    spec: Mapped[dict[str, Any]] = mapped_column(default=dict)
    cadence: Mapped[str] = mapped_column(default="daily")  # daily, weekly
    hour: Mapped[int] = mapped_column(default=7)
    weekday: Mapped[int] = mapped_column(default=0)  # 0 Monday; for weekly
    least: Mapped[int] = mapped_column(default=1)
    most: Mapped[int] = mapped_column(default=20)
    state: Mapped[str] = mapped_column(default="active")


class Digest(Base):
    """One mail of one period. States: planned, sending, sent, empty, failed, unsure."""

    __tablename__ = "digest"

    id: Mapped[int] = mapped_column(primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(ForeignKey("subscriber.id", ondelete="CASCADE"))
    period: Mapped[str]  # the local date
    state: Mapped[str] = mapped_column(default="planned")
    message_id: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    handing_over: Mapped[bool] = mapped_column(default=False)  # set before the transport is called
    claimed_until: Mapped[str | None]
    sent: Mapped[str | None]
    error: Mapped[str] = mapped_column(default="")

    __table_args__ = (
        UniqueConstraint("subscriber_id", "period"),
        Index("ix_digest_state_claimed_until", "state", "claimed_until"),
    )


class DigestItem(Base):
    __tablename__ = "digest_item"

    digest_id: Mapped[int] = mapped_column(ForeignKey("digest.id", ondelete="CASCADE"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"))
    section: Mapped[str] = mapped_column(default="")  # its heading, so that a mail written again is the same mail
    reason: Mapped[str] = mapped_column(default="")


class Seen(Base):
    """What a subscriber has been sent, over all subscriptions: never the same paper twice."""

    __tablename__ = "seen"

    subscriber_id: Mapped[int] = mapped_column(ForeignKey("subscriber.id", ondelete="CASCADE"), primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    digest_id: Mapped[int | None] = mapped_column(ForeignKey("digest.id", ondelete="SET NULL"))


class Suppression(Base):
    """Addresses that get no mail of any kind; only a hash, and it outlives the subscriber."""

    __tablename__ = "suppression"

    email_hash: Mapped[str] = mapped_column(primary_key=True)
    why: Mapped[str]  # complaint, hard bounce, own wish
    at: Mapped[str]


class Ticket(Base):
    """A secret mailed to somebody; only its hash is kept. Purposes: confirm (of a subscription), unsubscribe, never."""

    __tablename__ = "ticket"

    secret_hash: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str]
    subject: Mapped[int] = mapped_column(index=True)  # subscription.id of a confirmation, else subscriber.id
    created: Mapped[str]
    expires: Mapped[str | None] = mapped_column(index=True)
    used: Mapped[str | None]


class HubRun(Base):
    """A measurement asked for in the hub. States: queued, running, done, failed, cancelled, interrupted."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str]
    claim: Mapped[str]
    scale: Mapped[str]
    seeds: Mapped[list[Any]]
    state: Mapped[str] = mapped_column(default="queued", index=True)
    asked: Mapped[str]
    started: Mapped[str | None]
    ended: Mapped[str | None]
    pid: Mapped[int | None]
    heartbeat: Mapped[str | None]
    record: Mapped[str | None]  # file name under the records folder
    verdict: Mapped[str | None]
    message: Mapped[str] = mapped_column(default="")
    asked_by: Mapped[str] = mapped_column(default="")

    __table_args__ = (Index("ix_run_slug_claim_started", "slug", "claim", "started"),)


class RunEvent(Base):
    __tablename__ = "run_event"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str]
    kind: Mapped[str]
    body: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Gate(Base):
    """When a host (or a family of hosts) may be asked again, shared by the server and the command line."""

    __tablename__ = "gate"

    host: Mapped[str] = mapped_column(primary_key=True)
    free_at: Mapped[float]  # Unix time


class Audit(Base):
    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str] = mapped_column(index=True)
    who: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str] = mapped_column(default="")
    detail: Mapped[str] = mapped_column(default="")


class Fact(Base):
    """Small facts of the hub itself: schema of the vectors in force, generation of the words index, last beat."""

    __tablename__ = "fact"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]

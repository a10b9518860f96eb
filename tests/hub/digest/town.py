"""A small hub with a clock that tests can turn, and papers that arrive when a test says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from sqlalchemy import select

from paperworks.catalogue import Catalogue
from paperworks.config import Settings, load
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.records import Batch, PaperRecord
from paperworks.hub.service import digest, subscriptions, votes
from paperworks.hub.store.load import store_batch
from paperworks.hub.store.models import Digest, Source

NOON = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)  # a Friday
TOPIC = ("topic", {"categories": ["cs.LG"]})
LINK = re.compile(r"https?://[^\s\"<>]+/(?:confirm|never|u)/([A-Za-z0-9_-]{20,})")


class Town:
    """A hub, its clock, and short words for what tests do with it."""

    def __init__(self, folder: Path, now: datetime = NOON, **settings: Any) -> None:
        self.time = now
        folder.mkdir(parents=True, exist_ok=True)
        self.settings: Settings = load(folder, **settings)
        self.hub: Hub = open_hub(self.settings, catalogue=Catalogue(), clock=lambda: self.time)
        self._next = 0

    def at(self, text: str) -> None:
        """Turn the clock: '2026-08-22 07:00' in UTC."""
        self.time = datetime.fromisoformat(text).replace(tzinfo=UTC)

    def later(self, **span: float) -> None:
        self.time += timedelta(**span)

    def arrive(
        self,
        n: int = 1,
        *,
        category: str = "cs.LG",
        title: str = "Pruning, Part {i}",
        abstract: str = "We prune. It works. It is fast.",
        authors: Sequence[str] = ("Ada Writer",),
        announced: date | None = None,
        vote: bool = False,
    ) -> None:
        """`n` new papers come in now."""
        records = []
        for _ in range(n):
            self._next += 1
            i = self._next
            records.append(
                PaperRecord(
                    title=title.format(i=i),
                    abstract=abstract,
                    authors=tuple(authors),
                    arxiv=f"2608.{10000 + i}",
                    categories=(category,),
                    announced=announced or self.time.date(),
                    published=announced or self.time.date(),
                )
            )
        with self.hub.db.write() as session:
            source = session.scalar(select(Source).where(Source.name == "hf-daily"))
            if source is None:
                source = Source(kind="hf-daily", name="hf-daily", config={})
                session.add(source)
                session.flush()
            store_batch(session, source.id, None, Batch(records=tuple(records)), self.time)
        if vote:
            for record in records:
                votes.vote(self.hub, record.arxiv or "")

    def ask(
        self, email: str = "ada@example.org", kind: str = "topic", spec: dict[str, Any] | None = None, **more: Any
    ) -> str:
        """Subscribe without confirming; the ticket of the mail, or '' when none came."""
        before = set(self.mails())
        subscriptions.subscribe(self.hub, email, kind, spec if spec is not None else TOPIC[1], **more)
        new = [path for path in self.mails() if path not in before]
        return ticket_of(read(new[0])) if new else ""

    def join(
        self, email: str = "ada@example.org", kind: str = "topic", spec: dict[str, Any] | None = None, **more: Any
    ) -> None:
        subscriptions.confirm(self.hub, self.ask(email, kind, spec, **more))

    def beat(self) -> None:
        """What the server does every half minute."""
        digest.plan_due(self.hub)
        digest.send_due(self.hub)

    def mails(self, kind: str = "") -> list[Path]:
        """All mails in the outbox; kind 'digest' or 'confirm'."""
        found = sorted(self.settings.outbox.glob("*/*.eml"))
        return [path for path in found if not kind or path.name.startswith("confirm.") == (kind == "confirm")]

    def digests(self) -> list[EmailMessage]:
        return [read(path) for path in self.mails("digest")]

    def states(self) -> list[str]:
        with self.hub.db.read() as session:
            return list(session.scalars(select(Digest.state).order_by(Digest.id)))


def read(path: Path) -> EmailMessage:
    mail = message_from_bytes(path.read_bytes(), policy=default)
    assert isinstance(mail, EmailMessage)
    return mail


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body(preferencelist=(kind,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def ticket_of(mail: EmailMessage) -> str:
    """The first ticket in the text part: to confirm, or to change and end."""
    found = LINK.search(part(mail, "plain"))
    assert found, part(mail, "plain")
    return found[1]


def papers_in(mail: EmailMessage) -> list[str]:
    """arXiv ids in the text part, in order."""
    return re.findall(r"Read: +\S+/paper/(\S+)", part(mail, "plain"))

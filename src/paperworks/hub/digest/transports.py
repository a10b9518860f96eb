"""How a written mail leaves. The default is a folder of `.eml` files, which works on a fresh install.

A transport is any object with the shape of `Transport`. Others are found by the entry points `paperworks.transports`: the name is
what stands in the setting `mail.transport`, the object is called with the settings and returns a transport.
What a transport raises decides what happens next: TransientFailure is tried again, PermanentFailure is not,
UnsureFailure (the connection broke after the message was given) is tried once more with the same Message-ID.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from paperworks.config import Settings
from paperworks.errors import InputError, PaperworksError
from paperworks.hub import crash

ENTRY_POINT_GROUP = "paperworks.transports"


class MailFailure(PaperworksError):
    """The mail did not leave."""


class TransientFailure(MailFailure):
    """Not now; worth another try later (a 4xx answer, a full disk)."""


class PermanentFailure(MailFailure):
    """Not ever (a 5xx answer)."""


class UnsureFailure(MailFailure):
    """It may have left: the other side was given the message and did not say what became of it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail ready to leave."""

    message_id: str  # with its angle brackets
    sender: str  # envelope sender
    recipient: str
    day: str  # YYYY-MM-DD; fixed for a message, whenever it is handed over
    content: bytes  # the whole message, lines ending in CRLF


class Transport(Protocol):
    """Takes letters. `repeatable`: the same Message-ID handed over twice is there once."""

    @property
    def name(self) -> str: ...

    @property
    def repeatable(self) -> bool: ...

    def hand_over(self, letter: Letter) -> None:
        """Return when the letter is in safe hands; raise a MailFailure otherwise."""
        ...

    def close(self) -> None: ...


class FileOutbox:
    """`outbox/2026-08-21/<message-id>.eml`, written beside its place and then renamed, so that no reader sees half a mail.

    The name follows from the Message-ID: handing the same letter over again changes nothing.
    """

    name = "outbox"
    repeatable = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, letter: Letter) -> Path:
        return self.folder / letter.day / f"{file_name(letter.message_id)}.eml"

    def hand_over(self, letter: Letter) -> None:
        path = self.path_of(letter)
        if path.exists():
            return
        draft = path.parent / f".{path.name}.{os.getpid()}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(letter.content)
                file.flush()
                os.fsync(file.fileno())
            crash.point("outbox.before-rename")
            os.replace(draft, path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise TransientFailure(
                f"the outbox cannot be written: {error}; check space and rights of {self.folder}"
            ) from error
        crash.point("outbox.after-rename")

    def close(self) -> None:
        """Nothing is held open."""

    def letters(self) -> Iterator[Path]:
        """All mails, newest day first, in the order of their names within a day."""
        if not self.folder.is_dir():
            return
        for day in sorted((entry for entry in self.folder.iterdir() if entry.is_dir()), reverse=True):
            yield from sorted(path for path in day.glob("*.eml") if not path.name.startswith("."))

    def sweep(self) -> int:
        """Remove drafts whose process is gone; returns how many."""
        removed = 0
        if self.folder.is_dir():
            for draft in self.folder.glob("*/.*.eml.*"):
                pid = draft.name.rpartition(".")[2]
                if pid.isdigit() and not _alive(int(pid)):
                    draft.unlink(missing_ok=True)
                    removed += 1
        return removed


def file_name(message_id: str) -> str:
    """A Message-ID as a file name: nothing but letters, digits and `._@+-`, and never hidden.

    >>> file_name("<3f2a.2026-08-21@hub.example>"), file_name("<../../etc/passwd>")
    ('3f2a.2026-08-21@hub.example', '_.._etc_passwd')
    """
    return re.sub(r"[^A-Za-z0-9._@+-]", "_", message_id.strip("<>")).lstrip(".")[:200] or "_"


def open_transport(settings: Settings) -> Transport:
    """The transport that the setting `mail.transport` names.

    Raises InputError for a name that nobody answers to, or a plugin that cannot be loaded.
    """
    wanted = settings.mail.transport
    if wanted == "outbox":
        return FileOutbox(settings.outbox)
    found = entry_points(group=ENTRY_POINT_GROUP)
    for entry in found:
        if entry.name == wanted:
            try:
                factory: Callable[[Settings], Transport] = entry.load()
                return factory(settings)
            except Exception as error:
                raise InputError(f"the mail transport {wanted!r} ({entry.value}) cannot be used: {error}") from error
    known = ", ".join(sorted({"outbox", *(entry.name for entry in found)}))
    raise InputError(f"no mail transport is called {wanted!r}; set mail.transport to one of: {known}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

"""The one polite client. Every request that leaves the hub for papers goes through `PoliteClient.get`.

Polite: one request at a time a family of hosts, with the gap that the family asks for; `User-Agent` with a contact; gzip; conditional
requests; `Retry-After` obeyed, else waits of 5 s doubling to 15 min with jitter, six tries in all.
Careful: limits on time, on decompressed size and on redirects; addresses given by people only reach public hosts (`public=True`).
"""

from __future__ import annotations

import ipaddress
import logging
import random
import re
import socket
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Protocol
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx2

from paperworks import __version__
from paperworks.config import SourceSettings
from paperworks.errors import SourceError
from paperworks.progress import duration, size

log = logging.getLogger(__name__)

TRIES = 6
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 15 * 60.0
REDIRECTS = 3
_AGAIN = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}
_MOVED = {301, 302, 303, 307, 308}


class Gate(Protocol):
    """Who may ask when. `wait` returns as soon as the family of hosts may be asked again, and books that moment."""

    def wait(self, family: str) -> None: ...


class MemoryGate:
    """A gate within one process. The hub's own gate keeps the same in the database, so that commands and server do not add up."""

    def __init__(
        self,
        gaps: Mapping[str, float] | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gaps = dict(gaps or {})
        self._sleep, self._clock = sleep, clock
        self._free: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, family: str) -> None:
        with self._lock:
            now = self._clock()
            free = max(now, self._free.get(family, now))
            self._free[family] = free + self.gaps.get(family, 0.0)
        if free > now:
            self._sleep(free - now)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status 200 with a body, or 304 without."""

    url: str
    status: int
    body: bytes
    content_type: str = ""
    etag: str | None = None
    last_modified: str | None = None

    @property
    def not_modified(self) -> bool:
        return self.status == 304

    @property
    def looks_like_html(self) -> bool:
        start = self.body[:400].lstrip().lower()
        return start.startswith((b"<!doctype html", b"<html")) or (
            "html" in self.content_type and not start.startswith(b"<?xml")
        )


class _Again(Exception):
    """Worth another try. `after_s`: how long the other side asked to wait."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


_ONE_AT_A_TIME: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class PoliteClient:
    """Ask one address after the other, politely.

    `sleep`, `clock`, `chance` and `resolve` are there for tests. `requests` counts what was sent, tries and redirects included.
    """

    def __init__(
        self,
        settings: SourceSettings | None = None,
        gate: Gate | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        resolve: Callable[[str, int], list[str]] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.settings = settings or SourceSettings()
        gap = self.settings.arxiv_gap_s
        self.gate: Gate = gate or MemoryGate({"arxiv": gap, "huggingface": min(1.0, gap)}, sleep=sleep, clock=clock)
        self.requests = 0
        self._sleep, self._clock, self._chance = sleep, clock, chance
        self._resolve = resolve or addresses
        self._client = httpx2.Client(
            timeout=self.settings.timeout_s,
            follow_redirects=False,
            trust_env=True,
            transport=transport,
            headers={"User-Agent": user_agent(self.settings.contact), "Accept-Encoding": "gzip, deflate"},
        )

    def __enter__(self) -> PoliteClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def family(self, url: str) -> str:
        """The family of hosts that shares one gate: all of arXiv is one."""
        host = (urlsplit(url).hostname or "").lower()
        if (
            host == "arxiv.org"
            or host.endswith(".arxiv.org")
            or url.startswith((self.settings.arxiv_query, self.settings.arxiv_oai))
        ):
            return "arxiv"
        if host in ("huggingface.co", "hf.co") or url.startswith(self.settings.huggingface):
            return "huggingface"
        return host

    def get(
        self,
        url: str,
        params: Mapping[str, str | int] | None = None,
        *,
        accept: str = "*/*",
        etag: str | None = None,
        last_modified: str | None = None,
        public: bool = False,
        check: Callable[[Answer], str | None] | None = None,
    ) -> Answer:
        """One answer, after as many polite tries as it takes.

        `check` looks at an answer with status 200 and returns what is wrong with it, if it is worth asking again ('Rate exceeded.').
        `public` refuses addresses that are not on the public internet, at every redirect.
        Raises SourceError: what was asked, what came, what to do.
        """
        asked = self._with_params(url, params)
        headers = {"Accept": accept}
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        host = urlsplit(asked).hostname or asked
        waited = 0.0
        for attempt in range(1, TRIES + 1):
            try:
                answer = self._once(asked, headers, public)
                if check and not answer.not_modified and (wrong := check(answer)):
                    raise _Again(wrong)
                return answer
            except _Again as again:
                if again.after_s is not None and again.after_s > LONGEST_WAIT_S:
                    raise SourceError(
                        f"{host}: {again}, and asks to wait {duration(again.after_s)}; nothing was taken, the source goes on at its next turn"
                    ) from None
                if attempt == TRIES:
                    raise SourceError(
                        f"{host}: {again}, {TRIES} tries over {duration(waited)}; nothing was taken. "
                        "Look whether the service is up and this machine is online; the source goes on at its next turn"
                    ) from None
                wait = (
                    again.after_s
                    if again.after_s is not None
                    else min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S)
                )
                wait *= 1 + 0.25 * self._chance()  # never earlier than asked
                waited += wait
                log.info("%s: %s; try %d of %d in %s", host, again, attempt + 1, TRIES, duration(wait))
                self._sleep(wait)
        raise AssertionError("unreachable")

    def _with_params(self, url: str, params: Mapping[str, str | int] | None) -> str:
        try:
            made = (
                httpx2.URL(url, params={key: str(value) for key, value in params.items()})
                if params
                else httpx2.URL(url)
            )
        except (httpx2.InvalidURL, ValueError, TypeError) as error:
            raise SourceError(
                f"{url[:200]!r} is not an address ({error}); give one that starts with https://"
            ) from error
        if made.scheme not in ("http", "https") or not made.host:
            raise SourceError(f"{url[:200]!r} is not an address that can be asked; give one that starts with https://")
        return str(made)

    def _once(self, url: str, headers: Mapping[str, str], public: bool) -> Answer:
        first = url
        for _ in range(REDIRECTS + 1):
            family = self.family(url)
            with _ONE_AT_A_TIME[family]:
                self.gate.wait(family)
                answer, location = self._send(url, headers, public or _origin(url) != _origin(first))
            if location is None:
                assert answer is not None
                return answer
            target = urljoin(url, location)
            if urlsplit(target).scheme not in ("http", "https") or (
                url.startswith("https:") and not target.startswith("https:")
            ):
                raise SourceError(
                    f"{first} sends on to {target[:200]}, which is not https; nothing was taken, correct the address"
                )
            url = target
        raise SourceError(f"{first} sends on more than {REDIRECTS} times; give the address it ends at")

    def _send(self, url: str, headers: Mapping[str, str], public: bool) -> tuple[Answer | None, str | None]:
        self.requests += 1
        extensions: dict[str, object] = {}
        target = url
        send_headers = dict(headers)
        if public:
            target, host = self._pinned(url)
            send_headers["Host"] = host
            extensions["sni_hostname"] = urlsplit(url).hostname
        host = urlsplit(url).hostname or url
        deadline = self._clock() + self.settings.timeout_s
        try:
            request = self._client.build_request("GET", target, headers=send_headers, extensions=extensions)
            response = self._client.send(request, stream=True)
        except httpx2.TimeoutException as error:
            raise _Again(f"no answer within {duration(self.settings.timeout_s)}") from error
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise SourceError(f"{url[:200]!r} cannot be asked ({error}); correct the address") from error
        except (httpx2.HTTPError, OSError) as error:
            raise _Again(f"no connection ({error or type(error).__name__})") from error
        try:
            status = response.status_code
            if status in _MOVED:
                location = response.headers.get("location")
                if not location:
                    raise SourceError(
                        f"{host} answered {status} without saying where to; nothing was taken, look at {url[:200]}"
                    )
                return None, location
            if status in _AGAIN:
                after = retry_after(response.headers.get("retry-after"))
                raise _Again(f"answered {status} ({_meaning(status)})", after)
            if status == 304:
                return Answer(
                    url, 304, b"", etag=headers.get("If-None-Match"), last_modified=headers.get("If-Modified-Since")
                ), None
            if status != 200:
                raise SourceError(
                    f"{host} answered {status} ({_meaning(status)}) to {url[:300]}; nothing was taken, look whether the address is right"
                )
            body = self._read(response, host, deadline)
        except httpx2.TimeoutException as error:
            raise _Again(f"the answer stopped for {duration(self.settings.timeout_s)}") from error
        except (httpx2.HTTPError, OSError) as error:
            raise _Again(f"the answer broke off ({error or type(error).__name__})") from error
        finally:
            response.close()
        got = response.headers
        return Answer(
            url, 200, body, got.get("content-type", "").lower(), got.get("etag"), got.get("last-modified")
        ), None

    def _read(self, response: httpx2.Response, host: str, deadline: float) -> bytes:
        """The body, decompressed here so that a small answer that unfolds into a huge one is noticed while it unfolds."""
        limit = self.settings.max_bytes
        too_large = SourceError(
            f"{host} answered more than {size(limit)}; nothing was taken. Ask for less, or raise sources.max_bytes"
        )
        coding = response.headers.get("content-encoding", "").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise SourceError(
                f"{host} packed its answer as {coding[:40]!r}, which was not asked for; nothing was taken"
            )
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if coding not in ("", "identity") else None
        parts: list[bytes] = []
        total = received = 0
        for chunk in response.iter_raw():
            received += len(chunk)
            if received > limit:
                raise too_large
            if self._clock() > deadline:
                raise _Again(f"the answer took longer than {duration(self.settings.timeout_s)}")
            if unpack is not None:
                try:
                    chunk = unpack.decompress(chunk, limit - total + 1)
                except zlib.error as error:
                    raise _Again(f"the packed answer is damaged ({error})") from error
            total += len(chunk)
            if total > limit:
                raise too_large
            parts.append(chunk)
        if unpack is not None and received and not unpack.eof:
            raise _Again("the packed answer broke off")
        return b"".join(parts)

    def _pinned(self, url: str) -> tuple[str, str]:
        """The address with its host replaced by a public IP that it stands for, and the Host header to send.

        The name is looked up once and the connection goes to what was looked up: a second look-up cannot point elsewhere.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise SourceError(f"{url[:200]!r} has no usable port; correct the address") from None
        if parts.username is not None or parts.password is not None:
            raise SourceError(f"the address of {host} holds a user name or password; give it without")
        if port not in (80, 443):
            raise SourceError(f"{host}:{port} is not a usual web port; only 80 and 443 are asked")
        found = self._resolve(host, port)
        if not found:
            raise _Again(f"no such host {host!r}")
        for address in found:
            if not is_public(address):
                raise SourceError(
                    f"{host} stands for {address}, which is not on the public internet; such addresses are not asked"
                )
        pinned = f"[{found[0]}]" if ":" in found[0] else found[0]
        netloc = pinned if parts.port is None else f"{pinned}:{port}"
        return urlunsplit(
            (parts.scheme, netloc, parts.path or "/", parts.query, "")
        ), host if parts.port is None else f"{host}:{port}"


def user_agent(contact: str = "") -> str:
    """How the hub introduces itself; the contact comes from the setting `sources.contact`."""
    contact = re.sub(r"[^\x21-\x7e]", "", contact)
    mail = f"; mailto:{contact}" if "@" in contact else f"; {contact}" if contact else ""
    return f"paperworks/{__version__} (+https://paperworks.readthedocs.io{mail})"


def addresses(host: str, port: int) -> list[str]:
    """All IP addresses of a host; empty when there is no such host."""
    try:
        return sorted({str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        return []


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet; an IPv4 address inside an IPv6 one is judged as itself.

    >>> is_public("8.8.8.8"), is_public("127.0.0.1"), is_public("::ffff:169.254.169.254")
    (True, False, False)
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return ip.is_global and not ip.is_multicast


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds asked for by a `Retry-After` header: a number or a date. None when it says nothing usable.

    >>> retry_after("120"), retry_after("soon")
    (120.0, None)
    """
    if not value:
        return None
    if re.fullmatch(r"\d{1,9}", value.strip(), re.ASCII):
        return float(value)
    try:
        when = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, when - (time.time() if now is None else now))


def _origin(url: str) -> tuple[str | None, str]:
    parts = urlsplit(url)
    return parts.hostname, parts.netloc.rpartition("@")[2]


def _meaning(status: int) -> str:
    known = {
        429: "too many requests",
        403: "not allowed",
        404: "nothing there",
        503: "out of service for now",
        500: "an error on their side",
    }
    return known.get(status) or httpx2.codes.get_reason_phrase(status).lower() or "no usual status"

"""The polite client against a real server that misbehaves."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
import zlib

import httpx2
import pytest
from fake_service import Reply
from hypothesis import given
from hypothesis import strategies as st

from paperworks.config import SourceSettings
from paperworks.errors import SourceError
from paperworks.hub.sources.http import MemoryGate, PoliteClient, is_public, retry_after


def test_it_says_who_asks_and_takes_gzip(service, http):
    service.answer = lambda asked: Reply(
        gzip.compress(b"hello", mtime=0), headers={"Content-Encoding": "gzip", "ETag": '"1"'}
    )
    answer = http.get(f"{service.url}/x", {"q": "a b"})
    assert (answer.body, answer.etag) == (b"hello", '"1"')
    asked = service.asked[0]
    assert asked.query == {"q": "a b"}
    assert asked.headers["user-agent"].startswith("paperworks/")
    assert "mailto:ops@example.org" in asked.headers["user-agent"]
    assert "gzip" in asked.headers["accept-encoding"]


def test_an_unchanged_answer_costs_no_body(service, http):
    service.answer = lambda asked: Reply(status=304) if asked.headers.get("if-none-match") == '"1"' else Reply(b"new")
    assert http.get(service.url, etag='"1"').not_modified
    assert http.get(service.url, etag='"0"').body == b"new"


def test_waits_double_from_five_seconds_and_six_tries_are_all(service, http, waits):
    service.answer = lambda asked: Reply(status=503)
    with pytest.raises(SourceError, match=r"503.*6 tries.*next turn"):
        http.get(service.url)
    assert waits == [5, 10, 20, 40, 80]
    assert len(service.asked) == http.requests == 6


def test_retry_after_is_obeyed_and_never_undercut(service, settings, waits):
    service.in_turn(Reply(status=429, headers={"Retry-After": "37"}), Reply(b"there"))
    with PoliteClient(settings, sleep=waits) as http:  # with jitter
        assert http.get(service.url).body == b"there"
    assert 37 <= waits[0] <= 37 * 1.25


def test_asked_to_wait_longer_than_a_quarter_of_an_hour_it_gives_up_for_this_turn(service, http, waits):
    service.answer = lambda asked: Reply(status=429, headers={"Retry-After": "7200"})
    with pytest.raises(SourceError, match="2 h 0 min"):
        http.get(service.url)
    assert (waits, len(service.asked)) == ([], 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_refusal_is_not_asked_again(service, http, status):
    service.answer = lambda asked: Reply(status=status)
    with pytest.raises(SourceError, match=str(status)):
        http.get(service.url)
    assert len(service.asked) == 1


def test_an_answer_that_breaks_off_is_asked_again(service, http):
    service.in_turn(Reply(b"x" * 1000, cut_after=10), Reply(b"whole"))
    assert http.get(service.url).body == b"whole"


@pytest.mark.parametrize("packed", [gzip.compress(b"hello" * 50, mtime=0)[:-12], b"not gzip at all"])
def test_a_damaged_packing_is_asked_again(service, http, packed):
    service.in_turn(Reply(packed, headers={"Content-Encoding": "gzip"}), Reply(b"whole"))
    assert http.get(service.url).body == b"whole"


def test_a_bomb_is_noticed_while_it_unfolds(service, http):
    bomb = gzip.compress(b"\0" * 200_000_000, 9, mtime=0)
    assert len(bomb) < 300_000
    service.answer = lambda asked: Reply(bomb, headers={"Content-Encoding": "gzip"})
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(SourceError, match=r"more than 2 MB"):
        http.get(service.url)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


def test_too_much_and_unknown_packings_are_refused(service, http):
    service.answer = lambda asked: Reply(b"x" * 2_000_001)
    with pytest.raises(SourceError, match="more than 2 MB"):
        http.get(service.url)
    service.answer = lambda asked: Reply(zlib.compress(b"x"), headers={"Content-Encoding": "br"})
    with pytest.raises(SourceError, match="'br'"):
        http.get(service.url)


def test_three_redirects_are_followed_and_no_more(service, http):
    def answer(asked):
        n = int(asked.path.rsplit("/", 1)[1])
        return Reply(b"end") if n == 0 else Reply(status=302, headers={"Location": f"/hop/{n - 1}"})

    service.answer = answer
    assert http.get(f"{service.url}/hop/3").body == b"end"
    with pytest.raises(SourceError, match="more than 3 times"):
        http.get(f"{service.url}/hop/4")


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:1/", "http://169.254.169.254/latest", "http://[::1]/", "file:///etc/passwd", "gopher://x/"],
)
def test_a_redirect_never_leads_inside(service, http, target):
    service.answer = lambda asked: Reply(status=302, headers={"Location": target})
    with pytest.raises(SourceError, match=r"public internet|usual web port|not https"):
        http.get(service.url)
    assert len(service.asked) == 1


def test_a_public_address_is_looked_up_once_and_that_address_is_asked():
    seen = []

    def transport(request: httpx2.Request) -> httpx2.Response:
        seen.append((str(request.url), request.headers["host"], request.extensions.get("sni_hostname")))
        return httpx2.Response(200, stream=httpx2.ByteStream(b"feed"))

    names = {"good.example": ["93.184.216.34"], "inside.example": ["93.184.216.34", "10.0.0.7"]}
    with PoliteClient(
        SourceSettings(), transport=httpx2.MockTransport(transport), resolve=lambda host, port: names.get(host, [])
    ) as http:
        assert http.get("https://good.example/feed.xml?a=1", public=True).body == b"feed"
        assert seen == [("https://93.184.216.34/feed.xml?a=1", "good.example", "good.example")]
        with pytest.raises(SourceError, match=r"10\.0\.0\.7.*not on the public internet"):
            http.get("https://inside.example/", public=True)
        with pytest.raises(SourceError, match="user name"):
            http.get("https://me:secret@good.example/", public=True)
        with pytest.raises(SourceError, match="8080"):
            http.get("https://good.example:8080/", public=True)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1%eth0", "fc00::1",
     "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "nonsense"],
)  # fmt: skip
def test_addresses_inside_are_not_public(address):
    assert not is_public(address)


def test_no_connection_is_tried_again_and_told(http, waits):
    with pytest.raises(SourceError, match="no connection"):
        http.get("http://127.0.0.1:9/")
    assert len(waits) == 5


@given(st.text(max_size=60))
def test_any_address_is_asked_or_refused_with_a_sentence(text):
    with (
        PoliteClient(
            SourceSettings(),
            transport=httpx2.MockTransport(lambda request: httpx2.Response(200, stream=httpx2.ByteStream(b""))),
            sleep=lambda s: None,
            resolve=lambda h, p: [],
        ) as http,
        contextlib.suppress(SourceError),
    ):
        assert http.get(text).status == 200


def test_the_gate_keeps_the_gap_between_requests_of_a_family():
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(round(seconds, 6))
        now[0] += seconds

    gate = MemoryGate({"arxiv": 3.0}, sleep=sleep, clock=lambda: now[0])
    for _ in range(3):
        gate.wait("arxiv")
    gate.wait("elsewhere")
    assert slept == [3, 3]
    now[0] += 10
    gate.wait("arxiv")
    assert slept == [3, 3]


def test_all_of_arxiv_is_one_family():
    with PoliteClient() as http:
        families = {
            http.family(url)
            for url in (
                "https://export.arxiv.org/api/query",
                "https://oaipmh.arxiv.org/oai",
                "https://rss.arxiv.org/rss/cs",
                "https://arxiv.org/",
            )
        }
        assert families == {"arxiv"}
        assert http.family("https://notarxiv.org/") == "notarxiv.org"


def test_one_request_at_a_time_a_family_over_clients_and_threads(service, settings):
    inside, most = [0], [0]
    lock = threading.Lock()

    def answer(asked):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.03)
        with lock:
            inside[0] -= 1
        return Reply(b"x")

    service.answer = answer

    def ask():
        with PoliteClient(settings) as http:
            http.get(settings.arxiv_query)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], len(service.asked)) == (1, 5)


def test_retry_after_may_be_a_date():
    assert retry_after("Fri, 21 Aug 2026 12:00:30 GMT", now=1787313600.0) == pytest.approx(30.0)
    assert retry_after("Fri, 21 Aug 2020 12:00:30 GMT", now=1787313600.0) == 0
    assert [retry_after(value) for value in ("", None, "-3", "1e9", "tomorrow", "9" * 40)] == [None] * 6

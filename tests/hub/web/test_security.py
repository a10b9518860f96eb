"""Guards: host, size, origin, headers; and hostile text in every field through every page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from paperworks.hub.hub import Hub
from paperworks.hub.web.app import create_app
from paperworks.hub.web.security import CONTENT_SECURITY_POLICY

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize("path", ["/", "/nowhere", "/static/paperworks.css", "/healthz"])
def test_every_answer_carries_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"] == POLICY == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "strict-transport-security" not in headers
    assert "x-request-id" in headers


def test_https_hubs_ask_for_https_ever_after(hub: Hub, tmp_path: Path) -> None:
    other = Hub(hub.settings.model_copy(update={"base_url": "https://hub.example.org"}), hub.db, hub.catalogue)
    client = TestClient(create_app(other), base_url="https://hub.example.org")
    assert "max-age" in client.get("/about").headers["strict-transport-security"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil:8000"])
def test_only_known_hosts_are_answered(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert "What to do" in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1:9999", "localhost", "LOCALHOST:8000", "[::1]:8000"])
def test_this_machine_is_answered_on_any_port(client: TestClient, host: str) -> None:
    assert client.get("/about", headers={"Host": host}).status_code == 200


FORM = {"theme": "dark", "next": "/"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {},
        {"Authorization": "Bearer x", "Cookie": "a=b"},
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "/theme",
        "/vote",
        "/runs",
        "/runs/1/cancel",
        "/subscribe",
        "/sources/run",
        "/confirm/x",
        "/u/x/end",
        "/u/x/never",
    ],
)
def test_a_form_from_another_site_is_refused(hub: Hub, headers: dict[str, str], path: str) -> None:
    answer = TestClient(create_app(hub), base_url="http://127.0.0.1:8000").post(path, data=FORM, headers=headers)
    assert answer.status_code == 403
    assert "Nothing was changed" in answer.text


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://127.0.0.1:8000"}]
)
def test_the_hubs_own_forms_pass(hub: Hub, headers: dict[str, str]) -> None:
    client = TestClient(create_app(hub), base_url="http://127.0.0.1:8000", follow_redirects=False)
    assert client.post("/theme", data=FORM, headers=headers).status_code == 303


def test_one_click_unsubscribe_needs_no_origin_and_only_that(hub: Hub) -> None:
    client = TestClient(create_app(hub), base_url="http://127.0.0.1:8000")
    answer = client.post(
        "/u/unknown", data={"List-Unsubscribe": "One-Click"}, headers={"Origin": "https://mail.example"}
    )
    assert answer.status_code == 404  # not 403: it was let in, and there is no such ticket
    assert client.post("/u/unknown/never", headers={"Origin": "https://mail.example"}).status_code == 403
    assert client.put("/u/unknown", headers={"Origin": "https://mail.example"}).status_code == 403


def test_a_long_query_string_gets_a_readable_page(client: TestClient) -> None:
    answer = client.get("/papers?q=" + "a" * 2100)
    assert answer.status_code == 414
    assert "Shorten the search" in answer.text
    assert client.get("/papers?q=" + "a" * 1900).status_code == 200


def test_a_large_body_gets_a_readable_page(client: TestClient) -> None:
    assert client.post("/vote", data={"ref": "x" * 1_100_000}).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"ref=" + b"x" * 32768

    answer = client.post("/vote", content=chunks(), headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 413
    assert "One mebibyte" in answer.text or "one mebibyte" in answer.text


def test_request_ids_are_kept_only_when_harmless(client: TestClient) -> None:
    assert client.get("/about", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/about", headers={"X-Request-ID": "a b<script>"}).headers["x-request-id"] != "a b<script>"


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "$\\href{javascript:alert(1)}{x}$",
    "$<img src=x onerror=alert(1)>$",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A hub in which every field that comes from outside holds markup, written straight into the tables."""
    from world import open_world

    from paperworks.hub.store.models import (
        Author,
        Authorship,
        Identifier,
        Intake,
        Link,
        Paper,
        PaperCategory,
        Refused,
        Source,
        Version,
    )

    with open_world(tmp_path_factory.mktemp("hostile")) as hub:
        with hub.db.write() as session:
            for i, text in enumerate(HOSTILE):
                source = Source(kind="feed", name=f"{text} {i}", config={text: text}, paused_reason=text)
                session.add(source)
                session.flush()
                intake = Intake(source_id=source.id, started="2026-08-21T00:00:00Z", message=text, refused=1)
                session.add(intake)
                session.flush()
                session.add(Refused(intake_id=intake.id, ordinal=1, reason=text, raw=text))
                author = Author(name=text, name_key=f"{text}-{i}")
                paper = Paper(
                    title=f"{text} hostile", title_key=f"k{i}", abstract=f"{text} hostile abstract. {text}", authors_text=text, comment=text,
                    journal_ref=text, licence=text, abstract_source=text, primary_category=text[:30], first_seen="2026-08-21T00:00:00Z",
                    announced="2026-08-21", published="2026-08-20", latest_version=2,
                )  # fmt: skip
                session.add_all([author, paper])
                session.flush()
                session.add_all(
                    [
                        Identifier(scheme="arxiv", value=f"2607.{10000 + i}", paper_id=paper.id),
                        Identifier(scheme="url", value=f"javascript:alert({i})", paper_id=paper.id),
                        Authorship(paper_id=paper.id, position=0, author_id=author.id, affiliation=text),
                        PaperCategory(paper_id=paper.id, code=text[:30], is_primary=True),
                        Link(paper_id=paper.id, kind="code", url=f"https://example.org/{text}", who=text),
                        Version(
                            paper_id=paper.id,
                            number=1,
                            title=f"{text} old",
                            abstract=f"{text} before",
                            content_hash="a",
                        ),
                        Version(
                            paper_id=paper.id, number=2, title=f"{text} new", abstract=f"{text} after", content_hash="b"
                        ),
                    ]
                )
        yield TestClient(create_app(hub), base_url="http://127.0.0.1:8000", headers=OWN)


def check(html: str) -> None:
    assert (
        re.findall(
            r"<(?:script|img|iframe|object|embed|style|form action=x)[^>]*(?:alert|onerror|src=x)", html, re.IGNORECASE
        )
        == []
    )
    assert re.findall(r"<script(?![^>]*\ssrc=\"/static/)", html) == []
    assert re.findall(r"<[a-zA-Z][^>]*\son[a-z]+\s*=\s*[^>]*>", re.sub(r'"[^"]*"', '""', html)) == []
    assert re.findall(r"(?:href|src|action|xlink:href)\s*=\s*[\"']?\s*javascript:", html, re.IGNORECASE) == []
    assert "49{% raw" not in html


PATHS = (
    "/", "/papers", "/papers?q=hostile", "/day", "/day/2026-08-21", "/category", "/sources", "/subscribe?preview=1",
    *(f"/paper/2607.{10000 + i}{tab}" for i in range(len(HOSTILE)) for tab in ("", "/method", "/claims", "/similar")),
    *(f"/sources/intake/{2 + i}" for i in range(len(HOSTILE))),
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_markup_from_outside_stays_text(hostile: TestClient, path: str) -> None:
    answer = hostile.get(path)
    assert answer.status_code == 200, answer.text[-1500:]
    check(answer.text)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "path",
    ["/papers", "/category/{}", "/author/{}", "/paper/{}", "/subscribe", "/author", "/day/{}", "/u/{}", "/nowhere/{}"],
)
def test_markup_in_an_address_stays_text(hostile: TestClient, path: str, text: str) -> None:
    from urllib.parse import quote

    if "{}" in path:
        answer = hostile.get(path.format(quote(text, safe="")))
    else:
        answer = hostile.get(
            path, params=dict.fromkeys(("q", "query", "author", "categories", "name", "email", "cursor"), text)
        )
    assert answer.status_code < 500
    check(answer.text)


def test_the_checker_itself_finds_markup() -> None:
    for bad in (
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '<a href="javascript:x">',
        "<svg onload=alert(1)>",
    ):
        with pytest.raises(AssertionError):
            check(bad)

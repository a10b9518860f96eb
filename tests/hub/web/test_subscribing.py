"""From the form to the mail and out again: no GET changes anything, one click ends everything."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from world import open_world

from paperworks.hub.hub import Hub
from paperworks.hub.service import digest
from paperworks.hub.web.app import create_app

WISH = {
    "kind": "trending",
    "window": "week",
    "cadence": "daily",
    "hour": "7",
    "time_zone": "Europe/Berlin",
    "email": "reader@example.org",
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def client(hub: Hub) -> TestClient:
    own = {"Sec-Fetch-Site": "same-origin"}
    return TestClient(create_app(hub), base_url="http://127.0.0.1:8000", headers=own, follow_redirects=False)


def mails(hub: Hub) -> list[email.message.EmailMessage]:
    found = sorted(hub.settings.outbox.rglob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
    return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found]  # type: ignore[misc]


def link(mail: email.message.EmailMessage, kind: str) -> str:
    body = mail.get_body(("plain",))
    assert body
    match = re.search(rf"https?://[^\s/]+(/{kind}/\S+)", body.get_content())
    assert match, body.get_content()
    return match[1].rstrip(".")


def test_subscribe_confirm_read_and_leave(client: TestClient, hub: Hub) -> None:
    answer = client.post("/subscribe", data=WISH)
    assert (answer.status_code, answer.headers["location"]) == (303, "/subscribe/sent")
    (mail,) = mails(hub)
    confirm = link(mail, "confirm")
    for _ in range(2):  # scanners press links
        page = client.get(confirm)
        assert page.status_code == 200
        assert "reader@example.org" in page.text
    digest.plan_due(hub, everybody=True)
    digest.send_due(hub)
    assert len(mails(hub)) == 1, "nothing is sent before the button was pressed"
    assert client.post(confirm).headers["location"] == "/confirmed"
    digest.plan_due(hub, everybody=True)
    digest.send_due(hub)
    papers = mails(hub)[-1]
    address = re.search(r"<https?://[^/>]+(/u/[^>]+)>", str(papers["List-Unsubscribe"])) or re.search(
        r"(/u/\S+)", papers.as_string()
    )
    assert address
    out = address[1]
    assert "Weekly instead" in client.get(out).text
    number = re.search(r'name="subscription" value="(\d+)"', client.get(out).text)
    assert number
    client.post(f"{out}/change", data={"subscription": number[1], "cadence": "weekly"})
    assert "Daily instead" in client.get(out).text
    stranger = TestClient(create_app(hub), base_url="http://127.0.0.1:8000", follow_redirects=False)
    for _ in range(2):  # twice is the same as once
        answer = stranger.post(out, data={"List-Unsubscribe": "One-Click"}, headers={"Origin": "https://mail.example"})
        assert answer.status_code == 200
    assert "No mail any more" in client.get(out).text
    assert client.post(f"{out}/never").status_code == 303


def test_never_from_the_confirmation_mail(client: TestClient, hub: Hub) -> None:
    client.post("/subscribe", data=WISH)
    never = link(mails(hub)[0], "never")
    assert "Never write to me again" in client.get(never).text
    assert client.post(never).status_code == 200
    client.post("/subscribe", data=WISH)
    assert len(mails(hub)) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"email": ""}, "e-mail address"),
        ({"email": "not an address"}, "address"),
        ({"kind": "query", "query": " "}, "words"),
        ({"kind": "topic", "categories": ""}, "category"),
        ({"kind": "author"}, "name"),
        ({"time_zone": "Mars/Olympus"}, "zone"),
    ],
)
def test_a_wrong_form_comes_back_with_what_was_typed(
    client: TestClient, hub: Hub, change: dict[str, str], says: str
) -> None:
    answer = client.post("/subscribe", data=WISH | change)
    assert answer.status_code == 422
    problem = re.search(r'id="problem">([^<]+)<', answer.text)
    assert problem
    assert says in problem[1]
    assert f'value="{(WISH | change)["time_zone"]}"' in answer.text
    assert mails(hub) == []


def test_the_preview_needs_no_address(client: TestClient) -> None:
    html = client.get("/subscribe?kind=query&query=pruning&preview=1").text
    assert "Pruning" in html
    assert 'role="alert"' in client.get("/subscribe?kind=query&query=&preview=1").text

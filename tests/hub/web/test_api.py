"""The JSON API from outside: every resource, every rule of the contract, and bad input of every kind."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from world import NOW, open_world

from paperworks.hub.store.models import Fact, HubRun
from paperworks.hub.views import PaperCard
from paperworks.hub.web.app import create_app

API = "/api/v1"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with open_world(tmp_path_factory.mktemp("api")) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(hub):
    with TestClient(create_app(hub), base_url="http://localhost", raise_server_exceptions=False) as asking:
        yield asking


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["fix"]
    return body


ORDER = {"slug": "recovery", "claim": "falls-geometrically", "scale": "smoke", "seeds": [3]}


def test_the_entrance_leads_to_everything(client):
    body = client.get(API).json()
    for name in (
        "papers",
        "trending",
        "claims",
        "runs",
        "sources",
        "intakes",
        "export",
        "feeds",
        "openapi",
        "documentation",
    ):
        assert client.get(body[name]).status_code == 200, name


def test_all_papers_by_cursor_are_each_given_once(client):
    seen, cursor, pages = [], None, 0
    while True:
        body = client.get(f"{API}/papers", params={"size": 7, **({"cursor": cursor} if cursor else {})}).json()
        assert len(body["items"]) <= 7
        seen += [item["ref"] for item in body["items"]]
        pages += 1
        cursor = body["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 45
    assert pages == 7


def test_a_search_finds_and_says_how(client):
    body = client.get(f"{API}/papers", params={"q": "Retrieval"}).json()
    assert body["query"] == "Retrieval"
    assert body["total"] >= len(body["items"]) > 0
    assert any("Retrieval" in item["title"] for item in body["items"])
    assert set(PaperCard.model_fields) == set(body["items"][0])


def test_fields_leave_out_the_rest(client):
    body = client.get(f"{API}/papers", params={"fields": "ref, title", "size": 3}).json()
    assert [set(item) for item in body["items"]] == [{"ref", "title"}] * 3
    assert "next" in body
    assert set(client.get(f"{API}/papers/2608.10001?fields=card").json()) == {"card"}
    assert "no_such_field" in problem(client.get(f"{API}/papers?fields=ref,no_such_field"), 422)["detail"]
    problem(client.get(f"{API}/papers?fields=,"), 422)


@pytest.mark.parametrize(
    "ref",
    [
        "2608.10001",
        "2608.10001v2",
        "recovery",
        "2402.00001",
        "doi:10.1000/only.a.doi",
        "cs/0701001",
        "https%3A%2F%2Farxiv.org%2Fabs%2F2608.10001",
    ],
)
def test_a_paper_under_every_name_it_has(client, ref):
    body = client.get(f"{API}/papers/{ref}").json()
    assert body["card"]["title"]
    assert body["identifiers"]
    for part in ("similar", "versions", "claims", "votes"):
        assert client.get(f"{API}/papers/{ref}/{part}").status_code == 200, part


def test_parts_of_a_paper(client):
    assert [row["id"] for row in client.get(f"{API}/papers/recovery/claims").json()["items"]] == [
        "falls-geometrically",
        "beats-the-baseline",
        "at-full-size",
    ]
    assert [item["number"] for item in client.get(f"{API}/papers/2608.10001/versions").json()["items"]][-1] == 2
    assert len(client.get(f"{API}/papers/2608.10001/similar?k=3&fields=ref").json()["items"]) <= 3


@pytest.mark.parametrize(
    "path",
    [
        "papers/2608.99999",
        "papers/nothing-of-that-name",
        "papers/2608.99999/similar",
        "papers/x/versions",
        "papers/x/claims",
        "papers/x/votes",
        "runs/4711",
        "runs/4711/events",
        "authors/nobody",
        "claims?slug=nothing",
        "nothing",
        "papers/doi:10.1/none/votes",
    ],
)
def test_what_is_not_there_is_a_problem_with_a_next_step(client, path):
    problem(client.get(f"{API}/{path}"), 404)


def test_a_vote_is_cast_once_and_taken_back(client):
    address = f"{API}/papers/2608.10007/votes"
    before = client.get(address).json()
    assert (before["ref"], before["voted"]) == ("2608.10007", False)
    for _ in range(2):
        assert client.put(address).json() == {"ref": "2608.10007", "votes": before["votes"] + 1, "voted": True}
    for _ in range(2):
        assert client.delete(address).json() == before
    problem(client.put(f"{API}/papers/2608.99999/votes"), 404)
    problem(client.delete(f"{API}/papers/2608.99999/votes"), 404)


def test_an_unchanged_answer_costs_nothing(client):
    first = client.get(f"{API}/papers/2608.10003")
    tag = first.headers["etag"]
    for named in (tag, f'"other", W/{tag}', "*"):
        again = client.get(f"{API}/papers/2608.10003", headers={"If-None-Match": named})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(f"{API}/papers/2608.10003", headers={"If-None-Match": '"other"'}).status_code == 200
    client.put(f"{API}/papers/2608.10003/votes")
    assert client.get(f"{API}/papers/2608.10003", headers={"If-None-Match": tag}).status_code == 200
    client.delete(f"{API}/papers/2608.10003/votes")


def test_lists(client):
    whole = [item["ref"] for item in client.get(f"{API}/trending?window=day&size=30&fields=ref").json()["items"]]
    first = client.get(f"{API}/trending?window=day&size=10").json()
    second = client.get(f"{API}/trending?window=day&size=10&cursor={first['next']}").json()
    assert [item["ref"] for item in first["items"] + second["items"]] == whole[:20]
    day = client.get(f"{API}/days/2026-08-20?size=3").json()
    assert (len(day["items"]), day["total"]) == (3, 4)
    assert len(client.get(f"{API}/days/2026-08-20?size=3&cursor={day['next']}").json()["items"]) == 1
    assert client.get(f"{API}/days/latest").json()["total"] >= 1
    assert client.get(f"{API}/categories/cs.CV").json()["total"] == 20
    key = client.get(f"{API}/papers/2608.10001").json()["card"]["authors"][0]["key"]
    assert client.get(f"{API}/authors/{key}").json()["items"]


def test_claims_by_verdict(client):
    everything = client.get(f"{API}/claims").json()["items"]
    assert len(everything) == 9
    good = client.get(f"{API}/claims?verdict=reproduced").json()["items"]
    assert [(row["slug"], row["id"]) for row in good] == [("recovery", "falls-geometrically")]
    assert len(client.get(f"{API}/claims?slug=bare").json()["items"]) == 3
    first = client.get(f"{API}/claims?size=5").json()
    assert len(client.get(f"{API}/claims?size=5&cursor={first['next']}").json()["items"]) == 4


def test_a_run_is_queued_watched_and_cancelled(client, hub):
    asked = client.post(f"{API}/runs", json=ORDER | {"seeds": [11, 12]})
    assert asked.status_code == 202
    run = asked.json()
    assert asked.headers["location"] == f"{API}/runs/{run['id']}"
    assert (run["state"], run["seeds"], run["scale"]) == ("queued", [11, 12], "smoke")
    assert client.get(asked.headers["location"]).json() == run
    assert run["id"] in [item["id"] for item in client.get(f"{API}/runs?slug=recovery").json()["items"]]
    events = client.get(f"{API}/runs/{run['id']}/events?after=0").json()
    assert events["state"] == "queued"
    assert client.delete(f"{API}/runs/{run['id']}").json()["state"] == "cancelled"
    assert client.delete(f"{API}/runs/{run['id']}").json()["state"] == "cancelled"
    again = client.post(f"{API}/runs/{run['id']}/resume")
    assert (again.status_code, again.json()["state"]) == (202, "queued")
    client.delete(f"{API}/runs/{run['id']}")


def count_runs(hub):
    with hub.db.read() as session:
        return session.scalar(select(func.count()).select_from(HubRun))


def test_the_same_key_gives_the_same_run_and_another_order_is_refused(client, hub):
    headers = {"Idempotency-Key": "5f0c1d1e-once"}
    first = client.post(f"{API}/runs", json=ORDER, headers=headers).json()
    client.delete(f"{API}/runs/{first['id']}")
    n = count_runs(hub)
    again = client.post(f"{API}/runs", json=ORDER, headers=headers)
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (202, first["id"], "cancelled")
    assert count_runs(hub) == n
    assert "new key" in problem(client.post(f"{API}/runs", json=ORDER | {"seeds": [4]}, headers=headers), 409)["detail"]
    other = client.post(f"{API}/runs", json=ORDER, headers={"Idempotency-Key": "another"}).json()
    assert other["id"] != first["id"]
    client.delete(f"{API}/runs/{other['id']}")
    problem(client.post(f"{API}/runs", json=ORDER, headers={"Idempotency-Key": "   "}), 422)
    problem(client.post(f"{API}/runs", json=ORDER, headers={"Idempotency-Key": "x" * 201}), 422)


def test_a_key_is_forgotten_after_a_day(client, hub, monkeypatch):
    headers = {"Idempotency-Key": "kept-for-a-day"}
    first = client.post(f"{API}/runs", json=ORDER, headers=headers).json()
    client.delete(f"{API}/runs/{first['id']}")
    monkeypatch.setattr(hub, "_clock", lambda: NOW + timedelta(days=2))
    later = client.post(f"{API}/runs", json=ORDER, headers=headers).json()
    assert later["id"] != first["id"]
    client.delete(f"{API}/runs/{later['id']}")
    with hub.db.read() as session:
        names = list(session.scalars(select(Fact.name).where(Fact.name.startswith("once:"))))
    assert len(names) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"slug": "nothing"}, 404),
        ({"claim": "nothing"}, 404),
        ({"slug": "pruner"}, 404),
        ({"scale": "huge"}, 422),
        ({"seeds": []}, 422),
        ({"seeds": list(range(21))}, 422),
        ({"seeds": [-1]}, 422),
        ({"seeds": ["x"]}, 422),
        ({"colour": "red"}, 422),
    ],
)
def test_an_order_that_cannot_be_is_refused(client, hub, change, status):
    n = count_runs(hub)
    problem(client.post(f"{API}/runs", json=ORDER | change), status)
    assert count_runs(hub) == n


def test_bodies_that_are_no_orders(client):
    for content in (b"", b"{", b"[]", b"null", b"\xff\xfe"):
        problem(client.post(f"{API}/runs", content=content, headers={"Content-Type": "application/json"}), 422)
    problem(client.post(f"{API}/runs", content=b"x" * 1_100_000, headers={"Content-Type": "application/json"}), 413)


def test_sources_and_intakes(client):
    assert [item["name"] for item in client.get(f"{API}/sources").json()["items"]] == ["hf-daily"]
    (intake,) = client.get(f"{API}/intakes").json()["items"]
    assert intake["state"] == "refusals"
    assert intake["refused"] >= 1
    (entry,) = client.get(f"{API}/intakes/{intake['id']}/refused").json()["items"]
    assert entry["reason"] == "no title"


@pytest.mark.parametrize("format", ["jsonl", "bibtex", "ris", "csv"])
def test_export_in_every_format(client, format):
    response = client.get(f"{API}/export", params={"format": format})
    assert response.status_code == 200
    assert "attachment" in response.headers["content-disposition"]
    assert "Only a DOI" in response.text
    if format == "jsonl":
        assert len([json.loads(line) for line in response.text.splitlines()]) == 45


def test_export_of_a_search(client):
    text = client.get(f"{API}/export?q=Retrieval").text
    assert 0 < len(text.splitlines()) < 45
    problem(client.get(f"{API}/export?format=docx"), 422)


@pytest.mark.parametrize(
    "path",
    [
        "papers?size=0",
        "papers?size=101",
        "papers?size=x",
        "papers?sort=best",
        "papers?mode=magic",
        "trending?window=year",
        "trending?cursor=x",
        "trending?cursor=n99999999999",
        "claims?verdict=maybe",
        "claims?cursor=%00",
        "runs?cursor=n-1",
        "runs/0",
        "runs/x",
        f"runs/{2**60}",
        "days/yesterday",
        "days/2026-13-40",
        "intakes?size=9999",
        "categories/x?cursor=!!!",
        "runs/1/events?after=-1",
        "papers/2608.10001/similar?k=0",
    ],
)
def test_bad_parameters_are_problems(client, path):
    problem(client.get(f"{API}/{path}"), 422)


def test_a_query_string_over_two_kibibytes_is_refused(client):
    problem(client.get(f"{API}/papers?q={'a' * 2100}"), 414)
    assert client.get(f"{API}/papers?q={'a' * 1900}").status_code == 200


def test_methods_that_are_not_taken(client):
    for method, path in (("POST", "papers"), ("DELETE", "papers/2608.10001"), ("PATCH", "runs/1"), ("PUT", "claims")):
        assert problem(client.request(method, f"{API}/{path}"), client.request(method, f"{API}/{path}").status_code)[
            "status"
        ] in (404, 405)


def test_another_site_cannot_vote(client):
    problem(client.put(f"{API}/papers/2608.10001/votes", headers={"Origin": "https://evil.example"}), 403)
    assert not client.get(f"{API}/papers/2608.10001/votes").json()["voted"]


def test_the_description_is_openapi_and_names_every_resource(client):
    body = client.get(f"{API}/openapi.json").json()
    assert body["openapi"].startswith("3.1")
    paths = set(body["paths"])
    for path in (
        "/papers",
        "/papers/{ref}",
        "/papers/{ref}/similar",
        "/papers/{ref}/versions",
        "/papers/{ref}/claims",
        "/papers/{ref}/votes",
        "/runs",
        "/runs/{run_id}",
        "/runs/{run_id}/events",
        "/claims",
        "/sources",
        "/intakes",
        "/trending",
        "/export",
    ):
        assert API + path in paths, path
    assert all(path.startswith(API) for path in paths)
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            for status in ("404", "422"):
                assert list(operation["responses"][status]["content"]) == ["application/problem+json"], (
                    method,
                    path,
                    status,
                )
    assert "HTTPValidationError" not in json.dumps(body["paths"])


def test_the_page_about_the_api_asks_nobody_else(client):
    response = client.get("/api")
    assert response.status_code == 200
    for path in ("/api/v1/papers/{ref}", "/api/v1/runs", "Idempotency-Key", "fields"):
        assert path in response.text
    assert not re.search(r"""(src|href)=["'](https?:)?//""", response.text)
    assert "<script>" not in response.text
    assert "`" not in response.text


@hypothesis_settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(q=st.text(max_size=60), cursor=st.none() | st.text(max_size=20), ref=st.text(min_size=1, max_size=20))
def test_any_text_gives_an_answer_or_a_problem(client, q, cursor, ref):
    from urllib.parse import quote

    params = {"q": q.encode("utf-8", "replace").decode()} | (
        {"cursor": cursor.encode("utf-8", "replace").decode()} if cursor is not None else {}
    )
    found = client.get(f"{API}/papers", params=params)
    assert found.status_code in (200, 422)
    one = client.get(f"{API}/papers/{quote(ref.encode('utf-8', 'replace'), safe='')}")
    assert one.status_code in (200, 404, 422)
    if one.status_code != 200:
        problem(one, one.status_code)

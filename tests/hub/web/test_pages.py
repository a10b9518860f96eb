"""Every page: answers, says what it must, and is well formed."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from paperworks.hub.hub import Hub

PAGES = (
    "/",
    "/?window=day",
    "/papers",
    "/papers?q=pruning",
    "/papers?q=zzzzqqqq",
    "/papers?q=pruning&sort=new&mode=words",
    "/paper/2402.00001",
    "/paper/2402.00001/method",
    "/paper/2402.00001/claims",
    "/paper/2402.00001/similar",
    "/paper/2402.00002/method",
    "/paper/2402.00003/method",
    "/paper/2608.10001",
    "/paper/2608.10001/method",
    "/paper/cs/0701001",
    "/paper/doi:10.1000/only.a.doi",
    "/day",
    "/day/2026-08-20",
    "/day/2026-08-15",
    "/category",
    "/category/cs.LG",
    "/author",
    "/author/emmy-noether",
    "/claims",
    "/claims?verdict=reproduced",
    "/claims?verdict=refuted",
    "/runs",
    "/subscribe",
    "/subscribe?preview=1",
    "/subscribe?kind=query&query=pruning",
    "/subscribe/sent",
    "/confirmed",
    "/sources",
    "/sources/intake/1",
    "/trending/how",
    "/about",
)
WITHOUT_PAPERS = (
    "/",
    "/papers",
    "/papers?q=a",
    "/day",
    "/category",
    "/author",
    "/claims",
    "/runs",
    "/subscribe",
    "/subscribe?preview=1",
    "/sources",
    "/trending/how",
    "/about",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text[-2000:]
    html = answer.text
    assert len(re.findall(r"<h1[ >]", html)) == 1
    assert "<main" in html
    assert 'lang="en"' in html
    assert not re.findall(r"<[^>]+\s(?:style|on[a-z]+)=", html), (
        "style and handlers belong into the files that the policy allows"
    )
    assert re.findall(r"<script(?![^>]*\ssrc=)", html) == []
    assert "<style" not in html
    assert "Server-Timing" in answer.headers
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids)), "every id occurs once"


@pytest.mark.parametrize("path", WITHOUT_PAPERS)
def test_every_page_answers_before_there_is_a_paper(empty: TestClient, path: str) -> None:
    answer = empty.get(path)
    assert answer.status_code == 200, answer.text[-2000:]
    assert len(re.findall(r"<h1[ >]", answer.text)) == 1


def test_an_empty_hub_says_how_to_bring_papers_in(empty: TestClient) -> None:
    assert "paperworks add" in empty.get("/").text
    assert "paperworks source add" in empty.get("/sources").text


def test_front_page_shows_what_runs_and_its_verdicts(client: TestClient) -> None:
    html = client.get("/").text
    assert "Recover a low-rank matrix although half of the numbers are wrong." in html
    assert "1 reproduced, 2 not measured" in html
    assert "Method to come" in html


def test_formulas_become_mathml_and_less_than_signs_stay_text(client: TestClient) -> None:
    html = client.get("/paper/2608.10000").text
    assert "<math" in html
    assert "A &amp; B" in html


def test_method_tab_has_example_readme_and_reference_without_importing_the_method(client: TestClient) -> None:
    html = client.get("/paper/2402.00001/method").text
    assert "matrix = pw.recovery.recover(measured, rank=5)" in html
    assert "<h3>When to use it</h3>" in html
    assert "<th>rank</th>" in html
    assert 'id="api-recover"' in html
    assert "recover(measured: list[float], *, rank: int=1, steps: int=100) -&gt; list[float]" in html
    assert "Relative error of the last step." in html
    assert "_private" not in html
    assert "paperworks recovery --help" in html
    assert "paperworks reproduce recovery" in html
    assert "<script>alert" not in html


def test_a_method_that_is_to_come_is_honest_about_it(client: TestClient) -> None:
    assert "The method is to come" in client.get("/paper/2402.00002/method").text
    assert "paperworks scaffold 2608.10001" in client.get("/paper/2608.10001/method").text


def test_claims_tab_shows_printed_beside_measured_with_rule_plot_and_record(client: TestClient, hub: Hub) -> None:
    html = client.get("/paper/2402.00001/claims").text
    assert "0.9 (n = 100, r = 5)" in html
    assert "0.92 ± 0.01" in html
    assert "factor &lt; 0.95" in html
    assert "at cpu scale" in html
    assert "<svg" in html
    assert "about 2 min 0 s" in html  # three seeds took 120 s before
    found = re.search(r'href="(/records/[^"]+)"', html)
    assert found
    record = client.get(found[1])
    assert record.json()["claim"] == "falls-geometrically"
    assert client.get("/records/..%2F..%2Fhub.sqlite").status_code == 404
    assert client.get("/records/hub.sqlite").status_code == 404


def test_versions_show_what_changed(client: TestClient) -> None:
    html = client.get("/paper/2608.10001").text
    assert "Version 3" in html
    assert re.search(r"<ins>[^<]*Third", html)
    assert "<del>" in html


def test_another_name_of_a_paper_leads_to_its_address(client: TestClient) -> None:
    for name in ("2402.00001v3", "recovery"):
        answer = client.get(f"/paper/{name}/claims")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/paper/2402.00001/claims"


def test_an_identifier_in_the_search_box_opens_the_paper(client: TestClient) -> None:
    answer = client.get("/papers", params={"q": "arXiv:2608.10001v1"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/paper/2608.10001"


def test_claims_are_filtered_by_verdict(client: TestClient) -> None:
    assert "It needs fewer steps" not in client.get("/claims?verdict=reproduced").text
    assert "No claim with this verdict" in client.get("/claims?verdict=refuted").text


def test_a_silent_day_is_explained(client: TestClient) -> None:
    html = client.get("/day/2026-07-04").text
    assert "Saturday 4 July 2026" in html
    assert 'role="note"' in html


def test_a_vote_is_a_form_and_can_be_taken_back(client: TestClient) -> None:
    form = {"ref": "2608.10005", "act": "cast", "next": "/papers?q=a"}
    answer = client.post("/vote", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/papers?q=a")
    assert 'aria-pressed="true"' in client.get("/paper/2608.10005").text
    script = {"Accept": "application/json"}
    again = form | {"act": "withdraw"}
    assert client.post("/vote", data=again, headers=script).json() == {"voted": False, "change": -1}
    assert client.post("/vote", data=again, headers=script).json() == {"voted": False, "change": 0}
    assert client.post("/vote", data=form, headers=script).json() == {"voted": True, "change": 1}
    assert client.post("/vote", data=form, headers=script).json() == {"voted": True, "change": 0}
    client.post("/vote", data=again)


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "/a\nb"]
)
def test_a_form_sends_nobody_to_another_site(client: TestClient, elsewhere: str) -> None:
    answer = client.post("/theme", data={"theme": "dark", "next": elsewhere})
    assert answer.headers["location"] == "/"


def test_the_theme_is_kept_in_a_cookie_without_script(client: TestClient) -> None:
    answer = client.post("/theme", data={"theme": "dark", "next": "/about"})
    cookie = answer.headers["set-cookie"]
    assert "theme=dark" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert 'data-theme="dark"' in client.get("/about", headers={"Cookie": "theme=dark"}).text
    assert 'data-theme="auto"' in client.get("/about", headers={"Cookie": 'theme="><script>'}).text
    client.cookies.clear()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/paper/9999.99999", 404),
        ("/runs/999", 404),
        ("/day/not-a-day", 422),
        ("/runs/x", 422),
        ("/?window=year", 422),
        ("/u/unknown-ticket", 404),
    ],
)
def test_every_error_page_says_the_next_step(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert "What to do" in answer.text
    assert answer.headers["x-request-id"] in answer.text


def test_errors_are_problem_documents_for_programs(client: TestClient) -> None:
    answer = client.get("/paper/9999.99999", headers={"Accept": "application/json"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404
    assert "paperworks add" in answer.json()["detail"] + answer.json()["fix"]


def test_what_breaks_inside_is_told_without_its_inside(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from paperworks.hub.service import papers
    from paperworks.hub.web.app import create_app

    def broken(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(papers, "front_page", broken)
    answer = TestClient(create_app(hub), base_url="http://127.0.0.1", raise_server_exceptions=False).get("/")
    assert answer.status_code == 500
    assert "secret inside" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_health_and_metrics(client: TestClient) -> None:
    health = client.get("/healthz")
    assert health.status_code == 200
    assert "database: ok" in health.text
    client.get("/about")
    metrics = client.get("/metrics").text
    assert re.search(r'paperworks_requests_total\{method="GET",route="/about",status="200"\} [1-9]', metrics)
    assert 'paperworks_request_seconds_bucket{route="/about",le="+Inf"}' in metrics


def test_new_since_the_last_visit_is_marked(client: TestClient) -> None:
    assert 'class="new"' not in client.get("/").text
    assert 'class="new"' in client.get("/", headers={"Cookie": "last_visit=2026-08-01T00:00:00Z"}).text
    assert 'class="new"' not in client.get("/", headers={"Cookie": "last_visit=2026-09-01T00:00:00Z"}).text
    client.cookies.clear()


def test_static_files_have_addresses_with_a_hash_and_may_be_kept(client: TestClient) -> None:
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', client.get("/").text)
    assert len(found) == 3
    for address in found:
        assert "immutable" in client.get(address).headers["cache-control"]
    assert client.get("/static/../app.py").status_code == 404


def test_the_sheet_and_the_script_stay_small(client: TestClient) -> None:
    assert len(client.get("/static/paperworks.css").content) < 15 * 1024
    assert client.get("/static/paperworks.js").text.count("\n") < 160

"""In a real browser: accessible in both themes, alone on its host, by keyboard, without scripts, on a narrow screen, live."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import update

from paperworks.hub.hub import Hub
from paperworks.hub.service import runs
from paperworks.hub.store.models import HubRun, RunEvent
from paperworks.hub.times import utc_text

PAGES = (
    "/",
    "/papers",
    "/papers?q=pruning",
    "/papers?q=zzzzqqqq",
    "/paper/2402.00001",
    "/paper/2402.00001/method",
    "/paper/2402.00001/claims",
    "/paper/2402.00001/similar",
    "/paper/2402.00002/method",
    "/paper/2608.10001",
    "/day",
    "/day/2026-08-15",
    "/category",
    "/category/cs.LG",
    "/author",
    "/author/emmy-noether",
    "/claims",
    "/runs",
    "/sources",
    "/sources/intake/1",
    "/subscribe",
    "/subscribe?preview=1",
    "/subscribe/sent",
    "/trending/how",
    "/about",
    "/nowhere",
)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context()
    opened.set_default_timeout(10_000)
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def problems_of(page: Page) -> list[str]:
    """What the browser complains about: blocked by policy, broken script, failed request."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_an_accessibility_violation(browser: Browser, address: str, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=theme)
    page = context.new_page()
    wrong: dict[str, Any] = {}
    for path in PAGES:
        page.goto(address + path)
        result = Axe().run(
            page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        )
        for violation in result.response["violations"]:
            wrong[f"{path} {violation['id']}"] = [node["html"][:200] for node in violation["nodes"][:3]]
    context.close()
    assert wrong == {}


def test_the_theme_of_the_cookie_wins_and_is_accessible_against_the_system(browser: Browser, address: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(address + "/about")
    dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.get_by_role("button", name="Light theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.reload()
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert light != dark
    assert Axe().run(page).response["violations"] == []
    context.close()


def test_no_page_asks_another_host_or_breaks_its_policy(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    problems = problems_of(page)
    for path in PAGES:
        page.goto(address + path)
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert [text for text in problems if "404" not in text] == []
    assert len(asked) > len(PAGES)


@pytest.mark.parametrize("width", [320, 380, 800])
def test_nothing_scrolls_sideways(browser: Browser, address: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    wide = {}
    for path in PAGES:
        page.goto(address + path)
        excess = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if excess > 0:
            wide[path] = excess
    context.close()
    assert wide == {}


def test_search_vote_and_subscribe_by_keyboard_alone(page: Page, address: str) -> None:
    problems = problems_of(page)
    page.goto(address + "/")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("pruning")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}/papers?q=pruning")
    page.keyboard.press("j")
    page.keyboard.press("j")
    current = page.locator("[data-item].current")
    expect(current).to_have_count(1)
    before = current.locator(".vote button").get_attribute("aria-pressed")
    page.keyboard.press("u")
    expect(current.locator(".vote button")).to_have_attribute("aria-pressed", "false" if before == "true" else "true")
    page.keyboard.press("u")
    expect(current.locator(".vote button")).to_have_attribute("aria-pressed", before or "false")
    page.keyboard.press("?")
    expect(page.locator("#keys-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys-dialog")).to_be_hidden()
    page.keyboard.press("o")
    page.wait_for_url(f"{address}/paper/**")
    page.keyboard.press("h")
    page.wait_for_url(f"{address}/")
    page.goto(address + "/subscribe")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "email":
            break
    page.keyboard.type("reader@example.org")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/subscribe/sent")
    assert problems == []


def test_keys_rest_while_typing(page: Page, address: str) -> None:
    page.goto(address + "/papers")
    page.locator("#q").press_sequentially("jok?h/")
    expect(page.locator("#q")).to_have_value("jok?h/")
    expect(page.locator(".current")).to_have_count(0)


def test_the_skip_link_is_the_first_stop_and_goes_to_the_content(page: Page, address: str) -> None:
    page.goto(address + "/papers")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_filters_swap_and_back_returns(page: Page, address: str) -> None:
    page.goto(address + "/?window=week")
    page.get_by_role("link", name="Today").click()
    expect(page.locator("h1")).to_have_text("Trending today")
    expect(page).to_have_url(f"{address}/?window=day")
    page.go_back()
    expect(page.locator("h1")).to_have_text("Trending this week")


def test_more_papers_are_added_to_the_list(page: Page, address: str) -> None:
    page.goto(address + "/category/cs.LG")
    before = page.locator("#list > li").count()
    page.get_by_role("link", name="More papers").click()
    expect(page.locator("#list > li")).not_to_have_count(before)
    titles = page.locator("#list a[data-open]").evaluate_all("links => links.map(link => link.href)")
    assert len(titles) == len(set(titles)) > before


def test_everything_works_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + "/")
    page.locator("#q").fill("retrieval")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url(f"{address}/papers?q=retrieval")
    before = page.locator(".vote button").first.get_attribute("aria-pressed") or "false"
    after = "false" if before == "true" else "true"
    page.locator(".vote button").first.click()
    expect(page.locator(".vote button").first).to_have_attribute("aria-pressed", after)
    assert page.url == f"{address}/papers?q=retrieval"
    page.locator(".vote button").first.click()
    expect(page.locator(".vote button").first).to_have_attribute("aria-pressed", before)
    page.get_by_role("button", name="Dark theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto(address + "/category/cs.LG")
    first = page.locator("#list a[data-open]").first.get_attribute("href") or ""
    page.get_by_role("link", name="More papers").click()
    page.wait_for_url("**/category/cs.LG?cursor=*")
    expect(page.locator("#list a[data-open]").first).not_to_have_attribute("href", first)
    page.goto(address + "/subscribe")
    page.get_by_role("button", name="Look at it first").click()
    page.wait_for_url("**preview=1**")
    page.goto(address + "/paper/2402.00001/claims")
    page.locator(".measure-form button").first.click()
    page.wait_for_url("**/runs/*")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-state]")).to_have_text("Cancelled")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("[data-state]")).to_have_text("Waiting")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-state]")).to_have_text("Cancelled")
    context.close()


def test_a_run_is_live_survives_a_reload_and_ends_by_itself(page: Page, address: str, hub: Hub) -> None:
    problems = problems_of(page)
    run = runs.ask_run(hub, "recovery", "beats-the-baseline", "smoke", (7,))

    def happens(n: int, kind: str, **body: object) -> None:
        with hub.db.write() as session:
            session.add(RunEvent(run_id=run.id, n=n, at=utc_text(hub.now()), kind=kind, body=body))

    def becomes(**fields: object) -> None:
        with hub.db.write() as session:
            session.execute(update(HubRun).where(HubRun.id == run.id).values(**fields))

    page.goto(f"{address}/runs/{run.id}")
    expect(page.locator("[data-state]")).to_have_text("Waiting")
    becomes(state="running", started=utc_text(hub.now()))
    expect(page.locator("[data-state]")).to_have_text("Running")
    happens(1, "log", level="info", message="first words <b>")
    happens(2, "progress", done=5, total=10, note="half way", seed=7)
    expect(page.locator("[data-log]")).to_contain_text("first words <b>")
    expect(page.locator("[data-bar]")).to_have_js_property("value", 0.5)
    page.reload()
    expect(page.locator("[data-log]")).to_contain_text("first words <b>")
    happens(3, "measurement", seed=7, values={"steps": 118, "baseline": 903.5, "ok": True})
    expect(page.locator("[data-measurements]")).to_contain_text("903.5")
    assert page.locator("[data-log]").inner_text().count("first words") == 1, "a reload repeats nothing"
    becomes(state="failed", message="it was only a test", ended=utc_text(hub.now()))
    expect(page.locator("[data-state]")).to_have_text("Failed")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(page.locator("[data-measurements] tbody tr")).to_have_count(3)
    assert problems == []


def test_events_resume_after_the_last_one_that_was_seen(hub: Hub, address: str) -> None:
    from urllib.request import Request, urlopen

    run = runs.ask_run(hub, "recovery", "falls-geometrically", "smoke", (9,))
    with hub.db.write() as session:
        for n in (1, 2, 3):
            session.add(RunEvent(run_id=run.id, n=n, at=utc_text(hub.now()), kind="log", body={"message": f"line {n}"}))
    runs.cancel(hub, run.id)
    request = Request(f"{address}/runs/{run.id}/events?after=0", headers={"Last-Event-ID": "2"})
    with urlopen(request, timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = answer.read().decode()
    assert "line 3" in text
    assert "line 2" not in text
    assert text.rstrip().endswith("data: {}")


def test_a_copied_example_is_the_example(browser: Browser, address: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(address + "/paper/2402.00001/method")
    page.locator("[data-copy]").first.click()
    expect(page.locator("#said")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator(".copyable code").first.inner_text()
    context.close()

"""Runs in the hub: queued, done one at a time, kept event by event, cancelled, interrupted, resumed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from paperworks.errors import InputError, NotFound
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.jobs import RunThread, mark_interrupted
from paperworks.hub.service import runs as service
from paperworks.hub.store.models import HubRun

SLUG = "preprocessing_bias"


class Scripted:
    """A worker that says what it is told to, and ends early when it is cancelled."""

    pid = 4242

    def __init__(self, events: list[dict[str, Any]], hold: bool = False) -> None:
        self.script = events
        self.hold = hold
        self.cancelled = threading.Event()

    def events(self) -> Iterator[dict[str, Any]]:
        yield from self.script
        if self.hold:
            assert self.cancelled.wait(60), "nobody cancelled"
            yield {"kind": "cancelled", "message": "asked to stop"}

    def cancel(self) -> None:
        self.cancelled.set()


@pytest.fixture
def hub(tmp_path) -> Iterator[Hub]:
    from paperworks.config import load

    with open_hub(load(tmp_path)) as opened:
        yield opened


@pytest.fixture
def claim(hub: Hub) -> str:
    return hub.catalogue[SLUG].claims[0].id


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def thread_with(hub: Hub) -> Iterator[Any]:
    threads: list[RunThread] = []

    def start(process: Any) -> RunThread:
        thread = RunThread(hub, spawn=lambda _hub, _run: process)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.stop()
        thread.join(10)


GOOD = [
    {"kind": "progress", "done": 1, "total": 4, "note": "fold 1", "seed": 0},
    {"kind": "log", "message": "hello"},
    {"kind": "progress", "done": 4, "total": 4, "note": "fold 4", "seed": 1},
    {"kind": "heartbeat"},
    {"kind": "record", "path": "/somewhere/r.json", "verdict": "partly", "state": "done", "reason": ""},
]


def test_a_run_is_done_and_its_events_are_kept_in_order(hub: Hub, claim: str, thread_with) -> None:
    run = service.ask_run(hub, SLUG, claim, "smoke", seeds=(0, 1))
    thread_with(Scripted(GOOD))
    until(lambda: service.run_view(hub, run.id).state == "done")
    view = service.run_view(hub, run.id)
    assert (view.verdict, view.record) == ("partly", "r.json")
    assert view.done == view.total == 2
    events = service.events(hub, run.id)
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events if event.kind != "progress"] == ["log", "record", "state"]
    assert service.events(hub, run.id, after=events[1].n) == events[2:]


def test_the_last_progress_is_never_dropped(hub: Hub, claim: str, thread_with) -> None:
    run = service.ask_run(hub, SLUG, claim, "smoke", seeds=(0,))
    many = [{"kind": "progress", "done": n, "total": 500, "seed": 0} for n in range(1, 501)]
    thread_with(Scripted([*many, {"kind": "record", "path": "r.json"}]))
    until(lambda: service.run_view(hub, run.id).state == "done")
    progress = [event.body["done"] for event in service.events(hub, run.id) if event.kind == "progress"]
    assert progress[-1] == 500
    assert len(progress) < 50


def test_asking_twice_gives_the_same_run(hub: Hub, claim: str) -> None:
    first = service.ask_run(hub, SLUG, claim, "smoke")
    assert service.ask_run(hub, SLUG, claim, "smoke").id == first.id
    assert service.ask_run(hub, SLUG, claim, "smoke", seeds=(7,)).id != first.id


def test_a_waiting_run_is_cancelled_at_once(hub: Hub, claim: str) -> None:
    run = service.ask_run(hub, SLUG, claim, "smoke")
    assert run.queue_position == 0
    assert service.cancel(hub, run.id).state == "cancelled"
    assert service.resume(hub, run.id).state == "queued"


def test_a_running_run_is_cancelled_and_says_how_to_go_on(hub: Hub, claim: str, thread_with) -> None:
    run = service.ask_run(hub, SLUG, claim, "smoke")
    thread_with(Scripted([{"kind": "progress", "done": 1, "total": 2, "seed": 0}], hold=True))
    until(lambda: service.run_view(hub, run.id).state == "running")
    service.cancel(hub, run.id)
    until(lambda: service.run_view(hub, run.id).state == "cancelled")
    assert "resume" in service.run_view(hub, run.id).message


def test_a_worker_that_dies_without_a_word_is_a_failure_with_a_sentence(hub: Hub, claim: str, thread_with) -> None:
    run = service.ask_run(hub, SLUG, claim, "smoke")
    thread_with(Scripted([]))
    until(lambda: service.run_view(hub, run.id).state == "failed")
    assert "without a result" in service.run_view(hub, run.id).message


def test_a_method_that_raises_is_a_failure_with_its_record(hub: Hub, claim: str, thread_with) -> None:
    run = service.ask_run(hub, SLUG, claim, "smoke")
    end = {
        "kind": "record",
        "path": "/r.json",
        "verdict": "not-measured",
        "state": "failed",
        "reason": "ZeroDivisionError",
    }
    thread_with(Scripted([end]))
    until(lambda: service.run_view(hub, run.id).state == "failed")
    view = service.run_view(hub, run.id)
    assert (view.record, view.message) == ("r.json", "ZeroDivisionError")


def test_runs_of_a_server_that_was_killed_are_interrupted_and_can_be_resumed(hub: Hub, claim: str) -> None:
    run = service.ask_run(hub, SLUG, claim, "smoke")
    with hub.db.write() as session:
        row = session.get(HubRun, run.id)
        assert row is not None
        row.state, row.pid = "running", 999_999
    assert mark_interrupted(hub) == 1
    assert service.run_view(hub, run.id).state == "interrupted"
    assert service.resume(hub, run.id).state == "queued"


def test_stopping_the_thread_leaves_the_run_interrupted(hub: Hub, claim: str, thread_with) -> None:
    run = service.ask_run(hub, SLUG, claim, "smoke")
    thread = thread_with(Scripted([], hold=True))
    until(lambda: service.run_view(hub, run.id).state == "running")
    thread.stop()
    thread.join(15)
    assert service.run_view(hub, run.id).state == "interrupted"


def test_what_cannot_be_run_is_refused_with_a_reason(hub: Hub, claim: str) -> None:
    with pytest.raises(NotFound, match="no paper"):
        service.ask_run(hub, "nothing", claim)
    with pytest.raises(NotFound, match="its claims are"):
        service.ask_run(hub, SLUG, "nothing")
    with pytest.raises(InputError, match="scales"):
        service.ask_run(hub, SLUG, claim, "galactic")
    with pytest.raises(InputError, match="seeds"):
        service.ask_run(hub, SLUG, claim, "smoke", seeds=())
    with pytest.raises(NotFound, match="no run 99"):
        service.run_view(hub, 99)


def test_a_paper_without_a_method_is_honest_about_it(hub: Hub) -> None:
    slug = next((slug for slug, paper in hub.catalogue.items() if not paper.has_method and paper.claims), None)
    if slug is None:
        pytest.skip("every paper of the catalogue has its method")
    with pytest.raises(NotFound, match="to come"):
        service.ask_run(hub, slug, hub.catalogue[slug].claims[0].id)

"""Asking again until every request has one good answer, on threads and on processes, with every fault."""

from __future__ import annotations

import time

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.squash.serverless import faults
from paperworks.papers.squash.serverless.checks import read_reply
from paperworks.papers.squash.serverless.drivers import Call, ProcessDriver, ThreadDriver
from paperworks.papers.squash.serverless.faults import FaultyDriver
from paperworks.papers.squash.serverless.gather import Gather
from paperworks.papers.squash.serverless.payload import Message, decode, encode


def double(payload, setup, fault):
    """A function that answers with twice the number it was sent."""
    message = decode(payload)
    if fault in ("die", "raise") or (fault == "hang" and setup.get("really_hang")):
        faults.fail(fault)
    if fault == "hang":
        time.sleep(0.6)  # late; a thread cannot be killed
    answer = Message("answer", {"request": message.fields["request"]}, {"x": message.arrays["x"] * setup["by"]})
    return faults.spoil(fault, encode(answer))


def requests(n):
    def one(i):
        payload = encode(Message("search", {"request": f"r{i}"}, {"x": np.array([i])}))
        return payload, lambda data: int(read_reply(data, f"r{i}").arrays["x"][0])

    return {i: one(i) for i in range(n)}


def only(fault, request, starts=1):
    """A plan: the first `starts` starts of one request go wrong."""
    return lambda message, start: fault if message.fields["request"] == request and start < starts else None


def run(driver, plan=None, n=4, retries=2, timeout_s=20.0, deadline_s=300.0):
    driver = FaultyDriver(driver, plan) if plan else driver
    gather = Gather(driver, retries)
    try:
        gather.ask(requests(n), timeout_s)
        gather.finish(deadline_s)
    finally:
        driver.close()
    return gather


def threads(**setup):
    return ThreadDriver(double, {"by": 2, **setup}, workers=4)


def test_without_faults_everything_is_asked_once():
    gather = run(threads())
    assert gather.answers == {0: 0, 1: 2, 2: 4, 3: 6}
    assert (gather.tally.n_calls, gather.tally.n_retried, gather.reasons) == (4, 0, {})


@pytest.mark.parametrize("fault", ["raise", "corrupt", "cut", "other-request"])
def test_only_the_request_that_went_wrong_is_asked_again(fault):
    gather = run(threads(), only(fault, "r2", starts=2))
    assert gather.answers == {0: 0, 1: 2, 2: 4, 3: 6}
    assert (gather.tally.n_calls, gather.tally.n_retried) == (6, 2)
    assert gather.tally.n_failed == (2 if fault == "raise" else 0)
    assert gather.tally.n_refused == (0 if fault == "raise" else 2)


@pytest.mark.parametrize("fault", ["raise", "corrupt", "cut", "other-request", "lost"])
def test_what_goes_wrong_every_time_is_reported_and_the_others_are_kept(fault):
    gather = run(threads(), only(fault, "r2", starts=99), timeout_s=0.3)
    assert gather.answers == {0: 0, 1: 2, 3: 6}
    assert list(gather.reasons) == [2]
    assert "attempt 3 of 3" in gather.reasons[2]


def test_a_lost_call_is_started_again_after_its_time():
    gather = run(threads(), only("lost", "r1"), timeout_s=0.3)
    assert gather.answers == {0: 0, 1: 2, 2: 4, 3: 6}
    assert (gather.tally.n_timed_out, gather.tally.n_retried) == (1, 1)


def test_a_driver_is_told_which_calls_are_given_up():
    """So that it can end what hangs: without it a process would keep its place for ever."""
    told = []

    class Told(FaultyDriver):
        def give_up(self, numbers):
            told.extend(numbers)
            super().give_up(numbers)

    driver = Told(threads(), only("lost", "r1", starts=2))
    gather = Gather(driver, retries=1)
    gather.ask(requests(3), timeout_s=0.2)
    gather.finish(30)
    driver.close()
    assert sorted(gather.answers) == [0, 2]
    assert len(set(told)) == 2


def test_a_second_answer_is_dropped():
    gather = run(threads(), only("twice", "r0"))
    assert gather.answers == {0: 0, 1: 2, 2: 4, 3: 6}
    assert gather.tally.n_calls == 4
    assert gather.tally.n_duplicates == 1


def test_a_late_answer_counts_if_nobody_else_answered_and_is_dropped_if_somebody_did():
    driver = ThreadDriver(double, {"by": 2}, workers=4)
    gather = Gather(FaultyDriver(driver, only("hang", "r1")), retries=1)
    gather.ask(requests(2), timeout_s=0.2)
    gather.finish(30)
    assert gather.answers == {0: 0, 1: 2}
    assert gather.tally.n_timed_out == 1
    time.sleep(0.8)
    gather.pump()
    assert gather.tally.n_duplicates == 1
    driver.close()


def test_the_deadline_gives_up_what_is_left():
    begun = time.monotonic()
    gather = run(threads(), only("lost", "r1", starts=99), retries=9, timeout_s=60, deadline_s=0.3)
    assert time.monotonic() - begun < 5
    assert gather.answers == {0: 0, 2: 4, 3: 6}
    assert "within 0.3 s" in gather.reasons[1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die", "hang", "raise", "corrupt"])
def test_a_process_that_goes_wrong_costs_its_own_call_alone(fault):
    driver = ProcessDriver(double, {"by": 3, "really_hang": True}, workers=2)
    gather = run(driver, only(fault, "r1"), timeout_s=4.0)
    assert gather.answers == {0: 0, 1: 3, 2: 6, 3: 9}
    assert (gather.tally.n_calls, gather.tally.n_retried) == (5, 1)
    assert gather.tally.n_timed_out == (fault == "hang")


class _SlowStart:
    """Unpacks slowly, as a module with large imports does."""

    def __call__(self, payload, setup, fault):
        return double(payload, setup, fault)

    def __reduce__(self):
        return (_wake_slowly, ())


def _wake_slowly():
    if not hasattr(_wake_slowly, "awake"):
        time.sleep(1.5)
        _wake_slowly.awake = True
    return _SlowStart()


@pytest.mark.slow
def test_the_start_of_a_process_is_no_time_of_the_call():
    gather = run(ProcessDriver(_SlowStart(), {"by": 3}, workers=1), n=2, retries=0, timeout_s=1.0)
    assert gather.answers == {0: 0, 1: 3}
    assert gather.tally.n_timed_out == 0


@pytest.mark.slow
def test_closing_ends_the_processes_that_hang():
    driver = ProcessDriver(double, {"by": 3, "really_hang": True}, workers=1)
    gather = run(driver, only("hang", "r0", starts=99), n=1, retries=0, timeout_s=0.5)
    assert list(gather.reasons) == [0]
    for thread in driver._threads:
        thread.join(20)
        assert not thread.is_alive()


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match="retries"):
        Gather(threads(), -1)
    with pytest.raises(InputError, match="timeout_s"):
        Gather(threads(), 1).ask(requests(1), 0)
    with pytest.raises(InputError, match="worker"):
        ThreadDriver(double, {}, workers=0)
    gather = Gather(threads(), 0)
    gather.ask(requests(1), 5)
    with pytest.raises(InputError, match="before"):
        gather.ask(requests(1), 5)
    with pytest.raises(InputError, match="no fault 'boom'"):
        FaultyDriver(threads(), lambda *_: "boom").start([Call(0, requests(1)[0][0])])

"""Calls as functions of Lithops on this machine, with objects on an S3-compatible server."""

from __future__ import annotations

import os

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.squash.serverless import faults
from paperworks.papers.squash.serverless.checks import read_reply
from paperworks.papers.squash.serverless.drivers import Call
from paperworks.papers.squash.serverless.faults import FaultyDriver
from paperworks.papers.squash.serverless.gather import Gather
from paperworks.papers.squash.serverless.lithops_driver import LithopsDriver
from paperworks.papers.squash.serverless.payload import Message, decode, encode


def double(payload, setup, fault):
    faults.fail(fault)
    message = decode(payload)
    fields = {"request": message.fields["request"], "pid": os.getpid(), "storage": type(setup["storage"]).__name__}
    return faults.spoil(fault, encode(Message("answer", fields, {"x": message.arrays["x"] * setup["by"]})))


double.__module__ = "__main__"  # by value: the test module is not installed where functions run


@pytest.fixture
def driver(s3_config):
    driver = LithopsDriver(double, {"by": 3}, s3_config)
    yield driver
    driver.close()


def _request(i, n=1):
    payload = encode(Message("search", {"request": f"r{i}"}, {"x": np.full(n, i)}))
    return payload, lambda data: read_reply(data, f"r{i}")


@pytest.mark.slow
def test_functions_answer_and_the_one_that_dies_is_asked_again(driver):
    plan = {("r1", 0): "die", ("r2", 0): "raise", ("r3", 0): "corrupt"}
    gather = Gather(
        FaultyDriver(driver, lambda message, start: plan.get((message.fields["request"], start))), retries=1
    )
    gather.ask({i: _request(i) for i in range(4)}, timeout_s=60)
    gather.finish(120)
    assert gather.reasons == {}
    assert {i: int(answer.arrays["x"][0]) for i, answer in gather.answers.items()} == {0: 0, 1: 3, 2: 6, 3: 9}
    assert (gather.tally.n_calls, gather.tally.n_failed, gather.tally.n_refused) == (7, 2, 1)
    assert {answer.fields["storage"] for answer in gather.answers.values()} == {"Storage"}
    assert os.getpid() not in {answer.fields["pid"] for answer in gather.answers.values()}


@pytest.mark.slow
def test_a_message_larger_than_any_payload_goes_through_storage(driver):
    gather = Gather(driver, retries=0)
    gather.ask(
        {0: _request(1, n=1_200_000), 1: _request(2)}, timeout_s=60
    )  # 9.6 MB each way, and a small one beside it
    gather.finish(60)
    assert gather.reasons == {}
    assert gather.answers[0].arrays["x"].sum() == 3_600_000
    assert gather.answers[1].arrays["x"].tolist() == [6]
    storage = driver.executor.storage
    assert storage.list_keys(storage.bucket, "paperworks-squash/messages/") == []


def test_calls_that_cannot_be_started_are_outcomes(driver, monkeypatch):
    monkeypatch.setattr(driver.executor, "map", lambda *_, **__: (_ for _ in ()).throw(OSError("no quota")))
    driver.start([Call(5, b"x")])
    (outcome,) = driver.poll(0)
    assert (outcome.number, outcome.data, outcome.error) == (5, None, "OSError: no quota")


def test_an_unusable_configuration_says_what_lithops_said(s3_config):
    with pytest.raises(InputError, match="Lithops cannot be started"):
        LithopsDriver(double, {}, {"lithops": {"backend": "no_such_cloud", "storage": "localhost"}})

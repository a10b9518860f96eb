"""An answer is used only if it can be right."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.papers.squash.serverless.allocator import PartitionRequest
from paperworks.papers.squash.serverless.checks import check_partition_answer, read_reply
from paperworks.papers.squash.serverless.errors import PayloadError, WorkerFailed, WrongAnswer
from paperworks.papers.squash.serverless.payload import Message, encode

INF = np.inf
REQUEST = PartitionRequest(
    request_id="ab", partition=3, n_rows=5, k=3, query_ids=np.array([7, 9]), queries=np.zeros((2, 2), "f4"),
    bitmaps=np.array([[1, 0, 1, 0, 0]], bool), bitmap_of=np.array([0, -1]), expected=np.array([2, 3]),
)  # fmt: skip


def answer(**changes):
    fields = {"request": "ab", "partition": 3, "deployment": "d"}
    arrays = {
        "distances": np.array([[1, 2, INF], [0, 0, 4]], "f4"),
        "positions": np.array([[2, 0, -1], [4, 1, 0]]),
        "ids": np.array([[20, 0, -1], [40, 10, 0]]),
    }
    for name, value in changes.items():
        (fields if name in fields else arrays)[name] = value
    return Message("answer", fields, arrays)


def test_a_right_answer_passes():
    check_partition_answer(answer(), REQUEST, "d")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"partition": 2}, "partition 2"),
        ({"deployment": "old"}, "old"),
        ({"distances": np.zeros((2, 2), "f4")}, "shape"),
        ({"distances": np.zeros((2, 3), "f8")}, "dtype"),
        ({"positions": np.zeros((2, 3), "i4")}, "dtype"),
        ({"positions": np.array([[2, -1, -1], [4, 1, 0]])}, "number of rows"),  # one row short
        ({"positions": np.array([[2, 0, 4], [4, 1, 0]])}, "number of rows"),  # one too many
        ({"positions": np.array([[2, 0, -1], [5, 1, 0]])}, "outside"),
        ({"ids": np.array([[20, -1, -1], [40, 10, 0]])}, "no id"),
        ({"distances": np.array([[1, INF, INF], [0, 0, 4]], "f4")}, "finite"),
        ({"distances": np.array([[1, 2, 3], [0, 0, 4]], "f4")}, "finite"),
        ({"distances": np.array([[1, 2, np.nan], [0, 0, 4]], "f4")}, "finite"),
        ({"distances": np.array([[-1, 2, INF], [0, 0, 4]], "f4")}, "negative"),
        ({"distances": np.array([[2, 1, INF], [0, 0, 4]], "f4")}, "ascend"),
        ({"positions": np.array([[2, 0, -1], [4, 1, 4]])}, "twice"),
        ({"positions": np.array([[2, 1, -1], [4, 1, 0]])}, "filter"),
    ],
)
def test_an_answer_that_cannot_be_right_is_refused(changes, complaint):
    with pytest.raises(WrongAnswer, match=complaint):
        check_partition_answer(answer(**changes), REQUEST, "d")


def test_replies_to_others_and_failures_are_told_apart():
    assert read_reply(encode(answer()), "ab").kind == "answer"
    with pytest.raises(WrongAnswer, match="another request"):
        read_reply(encode(answer()), "cd")
    with pytest.raises(WorkerFailed, match="ObjectMissing: shard 3"):
        read_reply(encode(Message("failed", {"request": "ab", "error": "ObjectMissing", "text": "shard 3"})), "ab")
    with pytest.raises(WrongAnswer, match="another request"):
        read_reply(encode(Message("failed", {"error": "ObjectMissing"})), "ab")
    with pytest.raises(WrongAnswer, match="'search'"):
        read_reply(encode(Message("search", {"request": "ab"})), "ab")
    with pytest.raises(PayloadError):
        read_reply(b"garbage", "ab")

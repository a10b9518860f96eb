"""What runs at the other end: it answers what it can and reports what it cannot, whatever bytes it is sent."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash.filters import Attr
from paperworks.papers.squash.serverless.batch import Settings, Share, allocate_message, read_outcomes
from paperworks.papers.squash.serverless.deploy import deploy
from paperworks.papers.squash.serverless.errors import PayloadError, WrongAnswer
from paperworks.papers.squash.serverless.payload import Message, decode, encode
from paperworks.papers.squash.serverless.store import FolderStore
from paperworks.papers.squash.serverless.tree import Node, Tree
from paperworks.papers.squash.serverless.worker import Worker, load_engine, make_driver, work

sys.path.append(str(Path(__file__).parent))
import squash_plain_engine as plain

N, D, P, K = 90, 4, 3, 5


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worker")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N, D)).astype("f4")
    engine = plain.PlainEngine()
    store = FolderStore(folder / "store")
    made = deploy(plain.build(folder / "idx", vectors, rng.integers(0, 9, N), P), store, engine)
    setup = {"location": str(store.root), "cache": {"root": str(folder / "kept")}, "engine": engine}
    return {"setup": setup, "deployment": made, "vectors": vectors, "folder": folder}


def ask(there, fields=(), arrays=(), kind="search"):
    bitmaps = np.packbits(np.ones((1, N // P), bool), axis=1)
    all_fields = {
        "request": "r",
        "deployment": there["deployment"].name,
        "partition": 1,
        "rows": N // P,
        "k": K,
        "search": {},
    }
    all_arrays = {"queries": np.zeros((2, D), "f4"), "bitmaps": bitmaps, "bitmap_of": np.array([0, -1], "i4")}
    all_fields.update(fields)
    all_arrays.update(arrays)
    sent = {name: value for name, value in all_arrays.items() if value is not None}
    told = {name: value for name, value in all_fields.items() if value is not ...}
    return decode(work(encode(Message(kind, told, sent)), there["setup"], None))


def test_a_search_is_answered(there):
    reply = ask(there)
    assert reply.kind == "answer"
    distances, ids = plain.truth(there["vectors"][30:60], np.zeros((2, D), "f4"), [np.ones(30, bool)] * 2, K)
    np.testing.assert_array_equal(reply.arrays["positions"], ids)
    np.testing.assert_array_equal(reply.arrays["ids"], ids + 30)
    np.testing.assert_allclose(reply.arrays["distances"], distances, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "arrays", "complaint"),
    [
        ({"partition": 3}, {}, "no partition 3"),
        ({"partition": -1}, {}, "no partition -1"),
        ({"partition": "1"}, {}, "no partition '1'"),
        ({"partition": True}, {}, "no partition True"),
        ({"deployment": "../../etc"}, {}, "not the name"),
        ({"deployment": "ab" * 32}, {}, "is not in"),
        ({"rows": 31}, {}, "31 rows"),
        ({"k": 0}, {}, "k=0"),
        ({"k": "5"}, {}, "k='5'"),
        ({"search": []}, {}, "asks for"),
        ({"search": ...}, {}, "lacks 'search'"),
        ({}, {"queries": None}, "lacks 'queries'"),
        ({}, {"queries": np.zeros((2, D))}, "float32"),
        ({}, {"queries": np.full((2, D), np.nan, "f4")}, "finite"),
        ({}, {"bitmaps": np.zeros((1, 9), np.uint8)}, "4 bytes"),
        ({}, {"bitmap_of": np.array([0, 1], "i4")}, "does not hold"),
        ({}, {"bitmap_of": np.array([-2, 0], "i4")}, "does not hold"),
        ({}, {"bitmap_of": np.array([0], "i4")}, "which bitmap"),
    ],
)
def test_what_does_not_fit_is_reported_and_not_answered(there, fields, arrays, complaint):
    reply = ask(there, fields, arrays)
    assert reply.kind == "failed"
    assert reply.fields["request"] == "r"
    assert complaint in reply.fields["text"]


def test_other_kinds_and_garbage_are_reported(there):
    assert "asks for nothing" in ask(there, kind="delete").fields["text"]
    reply = decode(work(b"garbage", there["setup"], None))
    assert (reply.kind, reply.fields["request"], reply.fields["error"]) == ("failed", None, "PayloadError")
    empty = encode(Message("allocate", {"deployment": there["deployment"].name}))
    assert "no work for an allocator" in decode(work(empty, there["setup"], None)).fields["text"]


@given(st.binary(max_size=80))
@settings(max_examples=30, deadline=None)
def test_no_bytes_make_it_raise(there, data):
    assert decode(work(data, there["setup"], None)).kind == "failed"


def _share(n=7):
    filters = [Attr("year") >= 3, None, np.arange(N) % 2 == 0, np.arange(5), Attr("year") >= 3]
    from paperworks.papers.squash.filters import as_filter

    held = [as_filter(one) for one in filters]
    return Share.of(np.arange(n * D, dtype="f4").reshape(n, D), [held[i % len(held)] for i in range(n)])


def test_a_share_travels_whole_and_in_parts():
    share = _share()
    assert len(share.filters) == 4  # equal expressions are one
    part = share.part(2, 6)
    assert part.query_ids.tolist() == [2, 3, 4, 5]
    described, arrays = part.to_arrays()
    sent = decode(encode(Message("allocate", {"filters": described}, arrays)))
    back = Share.from_arrays(sent.fields["filters"], sent.arrays)
    np.testing.assert_array_equal(back.queries, share.queries[2:6])
    for i in range(4):
        before, after = share.filters[share.filter_of[2 + i]], back.filters[back.filter_of[i]]
        if before is None:
            assert after is None
        elif hasattr(before, "mask"):
            np.testing.assert_array_equal(before.mask, after.mask)
        elif hasattr(before, "ids"):
            np.testing.assert_array_equal(before.ids, after.ids)
        else:
            assert before.key == after.key


@pytest.mark.parametrize(
    ("described", "changes"),
    [
        ([{"op": "??"}], {}),
        ([{"rows": 8}], {}),
        ([5], {}),
        ([None], {"filter_of": np.array([1])}),
        ([None], {"filter_of": np.array([-1])}),
        ([None], {"queries": np.zeros((2, D), "f4")}),
        ([None], {"filter_of": np.array([0, 0])}),
    ],
)
def test_a_damaged_share_is_refused(described, changes):
    arrays = {"query_ids": np.array([0]), "queries": np.zeros((1, D), "f4"), "filter_of": np.array([0]), **changes}
    with pytest.raises(PayloadError):
        Share.from_arrays(described, arrays)


def test_settings_travel_and_are_checked():
    for threshold in (1.0, 1.3, float("inf")):
        sent = Settings(k=3, threshold=threshold, search={"all": {"k": 3}}, batch=7, timeout_s=2.5, retries=0)
        assert Settings.from_json(sent.to_json()) == sent
    for wrong in (
        {"k": 0},
        {"k": True},
        {"k": 2.5},
        {"batch": 0},
        {"retries": -1},
        {"threshold": 0.5},
        {"timeout_s": float("inf")},
    ):
        with pytest.raises(InputError):
            Settings(**wrong)
    for content in ({}, {"threshold": 1, "colour": 2}, {"threshold": 1, "k": 0}):
        with pytest.raises(PayloadError):
            Settings.from_json(content)


def test_an_allocator_that_is_sent_the_wrong_queries_says_so(there):
    tree, share = Tree(2, 1), _share()
    right = allocate_message(share.part(0, 3), Settings(k=K), tree, Node(0, 1), 7, "r", there["deployment"].name)
    wrong = allocate_message(share.part(1, 4), Settings(k=K), tree, Node(0, 1), 7, "r", there["deployment"].name)
    assert decode(work(encode(right), there["setup"], None)).kind == "answer"
    reply = decode(work(encode(wrong), there["setup"], None))
    assert "not those of allocator 0" in reply.fields["text"]


def _outcomes(**changes):
    fields = {"deployment": "d", "reasons": {"1": "why"}, "stats": {"n": 1.0}}
    arrays = {
        "distances": np.array([[1, 2], [3, np.inf]], "f4"),
        "ids": np.array([[5, 6], [7, -1]]),
        "wanted": np.array([2, 2]),
        "missing": np.array([[4, 1]]),
    }
    for name, value in changes.items():
        (fields if name in fields else arrays)[name] = value
    return read_outcomes(Message("answer", fields, arrays), np.array([3, 4]), 2, 3, "d")


def test_an_allocators_answer_is_read():
    outcomes = _outcomes()
    assert outcomes.reasons == {1: "why"}
    assert outcomes.missing.tolist() == [[4, 1]]


@pytest.mark.parametrize(
    "changes",
    [
        {"deployment": "other"},
        {"distances": np.zeros((2, 3), "f4")},
        {"ids": np.array([[5, 6], [7, -1]], "i4")},
        {"missing": np.array([[9, 1]])},  # a query that was not asked
        {"missing": np.array([[4, 3]])},  # a partition that there is not
        {"missing": np.zeros((0, 2), int)},  # then query 4 would have to be complete, and it is one row short
        {"wanted": np.array([1, 2])},
        {"wanted": np.array([2, 3])},
        {"distances": np.array([[2, 1], [3, np.inf]], "f4")},
        {"distances": np.array([[1, np.inf], [3, np.inf]], "f4")},
        {"distances": np.array([[-1, 2], [3, np.inf]], "f4")},
        {"ids": np.array([[-1, 6], [7, -1]])},
        {"reasons": []},
        {"stats": None},
    ],
)
def test_an_allocators_answer_that_cannot_be_right_is_refused(changes):
    with pytest.raises(WrongAnswer):
        _outcomes(**changes)


def test_the_list_of_a_deployment_is_retained_like_any_file(there, tmp_path):
    setup = {**there["setup"], "cache": {"root": str(tmp_path / "kept")}}
    first, name = Worker(setup), there["deployment"].name
    assert first.deployment(name).name == name
    gets = first.store.traffic.n_gets
    second = Worker(setup)  # a new process in the same container
    assert second.deployment(name).name == name
    assert (gets, second.store.traffic.n_gets) == (1, 0)
    kept = tmp_path / "kept" / "objects" / name
    kept.write_bytes(b"spoilt")
    assert Worker(setup).deployment(name).name == name


def test_files_that_another_process_pushed_out_are_fetched_again(there, tmp_path, monkeypatch):
    setup = {**there["setup"], "cache": {"root": str(tmp_path / "kept")}}
    worker, opened = Worker(setup), []
    deployment = worker.deployment(there["deployment"].name)
    real = worker.engine.open_partition

    def open_late(folder, rows):
        opened.append(folder)
        if len(opened) == 1:  # between fetching and opening
            for path in (tmp_path / "kept" / "objects").iterdir():
                path.unlink()
        return real(folder, rows)

    monkeypatch.setattr(worker.engine, "open_partition", open_late)
    assert worker.partition(deployment, 0).ids.tolist() == list(range(30))
    assert len(opened) == 2


def test_engines_and_drivers_come_from_fixed_lists():
    with pytest.raises(InputError, match="no engine"):
        load_engine("os.system")
    with pytest.raises(InputError, match="threads, processes or lithops"):
        make_driver({"kind": "ssh"}, {})


def test_without_lithops_the_extra_is_named(monkeypatch, tmp_path):
    from paperworks.errors import MissingExtra
    from paperworks.papers.squash.serverless import ServerlessSquash

    monkeypatch.setitem(sys.modules, "lithops", None)
    with pytest.raises(MissingExtra, match=r"paperworks\[serverless\]"):
        ServerlessSquash(tmp_path, executor={"lithops": {"backend": "localhost"}})
    with pytest.raises(MissingExtra, match=r"paperworks\[serverless\]"):
        ServerlessSquash("s3://bucket/index")

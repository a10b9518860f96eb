"""Folders and buckets answer alike; rows are read by few ranged requests."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.errors import ObjectMissing, ServerlessError
from paperworks.papers.squash.serverless.store import FolderStore, ObjectRef, coalesce, open_store, read_rows


def test_what_is_put_is_got(store, tmp_path):
    path = tmp_path / "file"
    content = np.random.default_rng(0).bytes(3_000_000)  # more than one block
    path.write_bytes(content)
    store.put("a/small", b"one")
    store.put("a/small", b"two")
    store.put_file("b/large", path)
    assert store.get("a/small") == b"two"
    assert store.get("b/large") == content
    assert b"".join(store.blocks("b/large")) == content
    assert store.get_range("b/large", 1_500_000, 1_500_010) == content[1_500_000:1_500_010]
    assert (store.size("b/large"), store.size("b/none")) == (3_000_000, None)
    assert store.keys("") == ["a/small", "b/large"]
    assert store.keys("b/") == ["b/large"]
    store.delete("a/small")
    assert store.keys("") == ["b/large"]


def test_requests_and_bytes_are_counted(store):
    store.put("key", b"0123456789")
    store.get("key")
    store.get_range("key", 2, 5)
    traffic = store.traffic
    assert (traffic.n_puts, traffic.bytes_written, traffic.n_gets, traffic.bytes_read) == (1, 10, 2, 13)


def test_a_missing_object_and_one_that_is_too_short_are_named(store):
    store.put("short", b"0123")
    for read in (store.get, lambda key: store.get_range(key, 0, 2), lambda key: list(store.blocks(key))):
        with pytest.raises(ObjectMissing, match="none"):
            read("none")
    with pytest.raises(ObjectMissing, match="short"):
        store.get_range("short", 2, 8)
    with pytest.raises(ObjectMissing, match="short"):
        store.get_range("short", 20, 28)


@pytest.mark.parametrize("key", ["../out", "/etc/passwd", "a//b", "a/../../b", "", "a b", "a/"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, key):
    store = FolderStore(tmp_path)
    for use in (store.get, store.size, store.delete, lambda name: store.put(name, b"")):
        with pytest.raises(InputError, match="not a name"):
            use(key)


def test_a_write_that_fails_leaves_the_old_object(tmp_path, monkeypatch):
    store = FolderStore(tmp_path)
    store.put("key", b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        store.put("key", b"new")
    monkeypatch.undo()
    assert store.get("key") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_bucket_that_does_not_exist_says_so(s3_bucket):
    storage, _ = s3_bucket
    store = open_store("s3://no-such-bucket/x", storage=storage)
    with pytest.raises(ServerlessError, match="no-such-bucket"):
        store.put("key", b"")
    with pytest.raises(ServerlessError, match="no-such-bucket"):
        store.get("key")


def test_a_location_names_its_kind(tmp_path):
    assert open_store(tmp_path).root == tmp_path
    assert open_store(f"file://{tmp_path}").root == tmp_path
    with pytest.raises(InputError, match="no bucket"):
        open_store("s3:///prefix", storage=object())
    bucket = open_store("s3://bucket/some/prefix/", storage=object())
    assert (bucket.bucket, bucket.prefix) == ("bucket", "some/prefix")


@given(st.lists(st.integers(0, 200), unique=True).map(sorted), st.integers(1, 64), st.integers(0, 300))
def test_spans_hold_every_row_and_no_gap_that_is_too_wide(rows, row_bytes, gap_bytes):
    spans = coalesce(np.array(rows, np.int64), row_bytes, gap_bytes)
    inside = [row for first, stop in spans for row in range(first, stop)]
    assert set(rows) <= set(inside)
    assert len(inside) == len(set(inside))
    assert all(first in rows and stop - 1 in rows for first, stop in spans)
    for (_, stop), (first, _) in itertools.pairwise(spans):
        assert (first - stop) * row_bytes > gap_bytes
    # inside a span no run of unwanted rows is dearer than a request
    for first, stop in spans:
        wanted = [row for row in rows if first <= row < stop]
        assert all((b - a - 1) * row_bytes <= gap_bytes for a, b in itertools.pairwise(wanted))


@given(st.lists(st.integers(0, 99), max_size=40), st.integers(0, 2000))
@settings(max_examples=40)
def test_rows_come_in_the_order_asked(tmp_path_factory, rows, gap_bytes):
    matrix = np.random.default_rng(1).normal(size=(100, 7)).astype("f4")
    store = FolderStore(tmp_path_factory.getbasetemp() / "rows")
    store.put("matrix", b"header.." + matrix.tobytes())
    got = read_rows(store, "matrix", np.array(rows, np.int64), "<f4", 7, offset=8, gap_bytes=gap_bytes)
    np.testing.assert_array_equal(got, matrix[rows])


def test_near_rows_take_one_request_and_far_rows_one_each(store):
    matrix = np.arange(40_000, dtype="<f4").reshape(10_000, 4)
    store.put("matrix", matrix.tobytes())
    before = store.traffic.n_gets
    read_rows(store, "matrix", np.array([9, 3, 5, 9_000]), "<f4", 4, gap_bytes=64)
    assert store.traffic.n_gets - before == 2
    assert store.traffic.bytes_read == (7 + 1) * 16
    with pytest.raises(ObjectMissing):
        read_rows(store, "matrix", np.array([10_000]), "<f4", 4)
    with pytest.raises(InputError, match="-1"):
        read_rows(store, "matrix", np.array([-1]), "<f4", 4)


def test_a_reference_is_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    # SHA-256 of "abc" from the standard (FIPS 180-4, example)
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert ObjectRef.of_file(path) == ObjectRef(expected, 3)
    assert ObjectRef.of_file(path).key == f"objects/ba/{expected}"
    for digest, size in [("xyz", 3), (expected.upper(), 3), (expected, -1), (expected, True), (None, 3)]:
        with pytest.raises(InputError):
            ObjectRef(digest, size)

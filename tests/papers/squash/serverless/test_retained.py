"""Files kept between calls: fetched once, whole or not at all, bounded, shared by processes."""

from __future__ import annotations

import multiprocessing
import os
import time

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.squash.serverless.errors import ObjectMissing, ServerlessError
from paperworks.papers.squash.serverless.retained import RetainedFiles, default_root
from paperworks.papers.squash.serverless.store import FolderStore, ObjectRef


def _fill(store, tmp_path, **contents):
    files = {}
    for name, content in contents.items():
        path = tmp_path / "source"
        path.write_bytes(content)
        files[name] = ObjectRef.of_file(path)
        store.put_file(files[name].key, path)
    return files


@pytest.fixture
def folder_store(tmp_path):
    return FolderStore(tmp_path / "store")


def test_the_second_use_fetches_nothing(store, tmp_path):
    files = _fill(store, tmp_path, codes=b"c" * 5000, signs=b"s" * 300)
    first = RetainedFiles(tmp_path / "kept")
    view = first.folder(files, store)
    assert (view / "codes").read_bytes() == b"c" * 5000
    assert first.counts() == {"hits": 0, "misses": 2, "bytes_hit": 0, "bytes_fetched": 5300}
    gets = store.traffic.n_gets
    second = RetainedFiles(tmp_path / "kept")  # as a new process in the same container
    assert second.folder(files, store) == view
    assert second.counts() == {"hits": 2, "misses": 0, "bytes_hit": 5300, "bytes_fetched": 0}
    assert store.traffic.n_gets == gets


def test_a_new_version_fetches_only_what_changed(folder_store, tmp_path):
    old = _fill(folder_store, tmp_path, codes=b"same" * 100, meta=b"old")
    new = {**old, **_fill(folder_store, tmp_path, meta=b"newer")}
    kept = RetainedFiles(tmp_path / "kept")
    old_view = kept.folder(old, folder_store)
    new_view = kept.folder(new, folder_store)
    assert kept.bytes_fetched == 400 + 3 + 5
    assert ((old_view / "meta").read_bytes(), (new_view / "meta").read_bytes()) == (b"old", b"newer")


def test_another_content_under_the_name_is_never_used(folder_store, tmp_path):
    files = _fill(folder_store, tmp_path, codes=b"right")
    for wrong in (b"wrong", b"longer than it should be", b"r", b""):
        folder_store.put(files["codes"].key, wrong)
        with pytest.raises(ObjectMissing, match="not what was deployed"):
            RetainedFiles(tmp_path / "kept").folder(files, folder_store)
    folder_store.put(files["codes"].key, b"right")
    assert (RetainedFiles(tmp_path / "kept").folder(files, folder_store) / "codes").read_bytes() == b"right"


def test_a_missing_object_is_named_and_leaves_nothing(folder_store, tmp_path):
    files = _fill(folder_store, tmp_path, codes=b"x")
    folder_store.delete(files["codes"].key)
    kept = RetainedFiles(tmp_path / "kept")
    with pytest.raises(ObjectMissing, match=files["codes"].sha256):
        kept.folder(files, folder_store)
    assert kept.kept_bytes() == 0
    assert not [path for path in (tmp_path / "kept" / "aside").iterdir() if path.suffix != ".lock"]


def test_a_cut_file_is_fetched_again(folder_store, tmp_path):
    files = _fill(folder_store, tmp_path, codes=b"0123456789")
    kept = RetainedFiles(tmp_path / "kept")
    path = (kept.folder(files, folder_store) / "codes").resolve()
    path.chmod(0o600)
    path.write_bytes(b"0123")
    assert (kept.folder(files, folder_store) / "codes").read_bytes() == b"0123456789"
    assert kept.misses == 2


def test_a_changed_file_is_noticed_when_asked_to_verify(folder_store, tmp_path):
    files = _fill(folder_store, tmp_path, codes=b"0123456789")
    path = (RetainedFiles(tmp_path / "kept").folder(files, folder_store) / "codes").resolve()
    path.chmod(0o600)
    path.write_bytes(b"9876543210")
    kept = RetainedFiles(tmp_path / "kept", verify=True)
    assert (kept.folder(files, folder_store) / "codes").read_bytes() == b"0123456789"
    assert kept.bytes_fetched == 10


def test_the_least_recently_used_leave_first_and_the_bound_holds(folder_store, tmp_path):
    kept = RetainedFiles(tmp_path / "kept", max_bytes=2500)
    pieces = [_fill(folder_store, tmp_path, codes=bytes([i]) * 1000) for i in range(4)]
    for piece in (pieces[0], pieces[1], pieces[0], pieces[2]):  # 1 is older than 0 when 2 needs room
        kept.folder(piece, folder_store)
        assert kept.kept_bytes() <= 2500
        time.sleep(0.01)
    before = kept.misses
    kept.folder(pieces[0], folder_store)
    assert kept.misses == before
    kept.folder(pieces[1], folder_store)
    assert kept.misses == before + 1


def test_a_piece_that_can_never_fit_is_refused_with_advice(folder_store, tmp_path):
    files = _fill(folder_store, tmp_path, codes=b"x" * 100)
    with pytest.raises(ServerlessError, match="more partitions"):
        RetainedFiles(tmp_path / "kept", max_bytes=99).folder(files, folder_store)


def test_the_files_of_one_piece_do_not_push_each_other_out(folder_store, tmp_path):
    files = _fill(folder_store, tmp_path, a=b"a" * 40, b=b"b" * 40, c=b"c" * 20)
    view = RetainedFiles(tmp_path / "kept", max_bytes=100).folder(files, folder_store)
    assert [len((view / name).read_bytes()) for name in "abc"] == [40, 40, 20]


def test_a_mapped_file_outlives_its_eviction(folder_store, tmp_path):
    kept = RetainedFiles(tmp_path / "kept", max_bytes=1000)
    first = kept.folder(_fill(folder_store, tmp_path, codes=b"\x07" * 800), folder_store)
    mapped = np.memmap(first / "codes", np.uint8, "r")
    kept.folder(_fill(folder_store, tmp_path, codes=b"\x08" * 800), folder_store)
    assert not (first / "codes").exists()
    assert mapped.min() == mapped.max() == 7


def test_leftovers_of_a_killed_download_are_cleared_away(folder_store, tmp_path):
    RetainedFiles(tmp_path / "kept")
    leftover = tmp_path / "kept" / "aside" / "tmpabc"
    leftover.write_bytes(b"half")
    RetainedFiles(tmp_path / "kept")
    assert leftover.exists()  # it may still be written to
    os.utime(leftover, (0, 0))
    RetainedFiles(tmp_path / "kept")
    assert not leftover.exists()


def _fetch(root, store_root, files, start, queue):
    start.wait(30)
    kept = RetainedFiles(root)
    view = kept.folder(files, FolderStore(store_root))
    queue.put((kept.bytes_fetched, (view / "codes").read_bytes() == b"z" * 2_000_000))


def test_processes_that_start_together_fetch_once(folder_store, tmp_path):
    files = _fill(folder_store, tmp_path, codes=b"z" * 2_000_000)
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    arguments = (tmp_path / "kept", folder_store.root, files, start, queue)
    workers = [context.Process(target=_fetch, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    results = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert sum(fetched for fetched, _ in results) == 2_000_000
    assert all(right for _, right in results)


def test_a_folder_that_others_may_write_is_refused(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(InputError, match="others"):
        RetainedFiles(shared)
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="others"):
        RetainedFiles(tmp_path / "link")


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERWORKS_SQUASH_CACHE", str(tmp_path / "chosen"))
    assert default_root() == tmp_path / "chosen"
    with pytest.raises(InputError, match="max_bytes"):
        RetainedFiles(tmp_path, max_bytes=0)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", ".hidden", ""])
def test_names_that_lead_out_of_the_folder_are_refused(folder_store, tmp_path, name):
    files = _fill(folder_store, tmp_path, codes=b"x")
    with pytest.raises(InputError, match="not a name"):
        RetainedFiles(tmp_path / "kept").folder({name: files["codes"]}, folder_store)


def test_making_room_spares_the_files_of_the_piece_itself(folder_store, tmp_path):
    kept = RetainedFiles(tmp_path / "kept", max_bytes=100)
    files = _fill(folder_store, tmp_path, old=b"o" * 40, other=b"x" * 40, new=b"n" * 30)
    kept.folder({"old": files["old"]}, folder_store)
    time.sleep(0.01)
    kept.folder({"other": files["other"]}, folder_store)
    # `old` is the least recently used, and needed: `other` has to go instead
    view = kept.folder({"new": files["new"], "old": files["old"]}, folder_store)
    assert kept.misses == 3
    assert len((view / "old").read_bytes()) == 40

"""The folder of an index: replaced as a whole, and never trusted blindly."""

from __future__ import annotations

import json
import multiprocessing
import os

import numpy as np
import pytest

from paperworks.errors import StoreError
from paperworks.papers.squash import storage
from paperworks.papers.squash.storage import DamagedIndex, NewerIndex, open_folder, save_array, write_folder


def write_value(value):
    def write(path):
        save_array(path, "first", np.full(1000, value))
        save_array(path, "second", np.full((3, 5), value))

    return write


def read_value(folder):
    def read():
        opened = open_folder(folder)
        return set(np.concatenate([opened.load("first"), opened.load("second").ravel()]).tolist())

    return storage.read_steadily(read)


def test_arrays_and_schema_come_back(tmp_path):
    folder = write_folder(tmp_path / "idx", {"d": 5}, write_value(3))
    opened = open_folder(folder, verify="all")
    assert opened.schema["d"] == 5
    mapped = opened.load("second")
    assert isinstance(mapped, np.memmap)
    assert mapped.shape == (3, 5)
    assert not mapped.flags.writeable
    assert read_value(folder) == {3}


def test_arrays_without_elements_come_back(tmp_path):
    folder = write_folder(tmp_path / "idx", {}, lambda path: save_array(path, "none", np.zeros((0, 4), np.float32)))
    assert open_folder(folder).load("none").shape == (0, 4)


@pytest.mark.parametrize("harm", ["truncate", "change", "remove"])
def test_a_damaged_file_is_named(tmp_path, harm):
    folder = write_folder(tmp_path / "idx", {}, write_value(1))
    path = next(folder.glob("data-*/first.npy"))
    content = bytearray(path.read_bytes())
    if harm == "truncate":
        path.write_bytes(content[:-1])
    elif harm == "change":
        content[-3] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    with pytest.raises(DamagedIndex, match=r"first\.npy"):
        read_value(folder)


def test_a_change_in_a_big_file_is_found_when_all_is_verified(tmp_path):
    folder = write_folder(tmp_path / "idx", {}, lambda path: save_array(path, "vectors", np.zeros(100)))
    path = next(folder.glob("data-*/vectors.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    open_folder(folder)
    with pytest.raises(DamagedIndex, match="SHA-256"):
        open_folder(folder, verify="all")


def test_foreign_changed_and_newer_manifests_are_refused(tmp_path):
    folder = write_folder(tmp_path / "idx", {"n": 1}, write_value(1))
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    for change, error in (
        ({"version": 99}, NewerIndex),
        ({"format": "other"}, DamagedIndex),
        ({"schema": {"n": 2}}, DamagedIndex),
        ({"files": {"../../secret.npy": {"bytes": 1, "sha256": "0"}}}, DamagedIndex),
    ):
        manifest.write_text(json.dumps(content | change))
        with pytest.raises(error):
            open_folder(folder)
    manifest.write_text("{")
    with pytest.raises(DamagedIndex, match="cannot be read"):
        open_folder(folder)
    manifest.unlink()
    with pytest.raises(DamagedIndex, match="holds no index"):
        open_folder(folder)


def test_a_manifest_cannot_point_outside_even_with_a_right_sum(tmp_path):
    folder = write_folder(tmp_path / "idx", {}, write_value(1))
    content = json.loads((folder / "manifest.json").read_text())
    content["data"] = "../elsewhere"
    content["sum"] = storage._sum(content)
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DamagedIndex, match="outside"):
        open_folder(folder)


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="other files"):
        write_folder(tmp_path, {}, write_value(1))
    (tmp_path / "notes.txt").unlink()
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(StoreError, match="not overwritten"):
        write_folder(tmp_path, {}, write_value(1))
    assert "web app" in (tmp_path / "manifest.json").read_text()


def test_a_full_disk_leaves_the_old_index(tmp_path):
    folder = write_folder(tmp_path / "idx", {}, write_value(1))

    def fail(path):
        save_array(path, "first", np.zeros(10))
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        write_folder(folder, {}, fail)
    assert read_value(folder) == {1}
    assert len(list(folder.iterdir())) == 2  # the manifest and one data folder


def test_a_crash_before_the_rename_leaves_the_old_index(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "idx", {}, write_value(1))

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, {}, write_value(2))
    monkeypatch.undo()
    assert read_value(folder) == {1}


def _rewrite(folder, n):
    for value in range(n):
        write_folder(folder, {}, write_value(value))


@pytest.mark.skipif(os.name != "posix", reason="open files cannot be replaced elsewhere")
def test_readers_see_one_version_while_a_writer_replaces_it(tmp_path):
    folder = write_folder(tmp_path / "idx", {}, write_value(-1))
    writer = multiprocessing.get_context("spawn").Process(target=_rewrite, args=(folder, 30))
    writer.start()
    seen = set()
    while writer.is_alive():
        values = read_value(folder)
        assert len(values) == 1
        seen |= values
    writer.join()
    assert writer.exitcode == 0
    assert read_value(folder) == {29}
    assert len(seen) > 1


def test_mapped_arrays_outlive_the_replacement(tmp_path):
    folder = write_folder(tmp_path / "idx", {}, write_value(1))
    old = open_folder(folder).load("first")
    write_folder(folder, {}, write_value(2))
    assert set(old.tolist()) == {1}

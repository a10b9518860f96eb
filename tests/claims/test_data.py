"""Finding data sets, and keeping partial results."""

from __future__ import annotations

from pathlib import Path

import pytest

from paperworks.claims.checkpoint import FileCheckpoint, MemoryCheckpoint
from paperworks.claims.data import Data, Noted
from paperworks.errors import ClaimError, DataMissing, InputError


def test_the_named_folder_comes_before_the_configured_one(tmp_path: Path) -> None:
    for folder in ("named", "configured"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text(folder)
    (tmp_path / "configured" / "b.csv").write_text("b")
    data = Data(tmp_path / "named", configured=tmp_path / "configured", beside=False)
    assert data.path("a.csv").read_text() == "named"
    assert data.path("b.csv").read_text() == "b"
    assert data.has("a.csv")
    assert not data.has("c.csv")


def test_missing_data_says_where_it_was_looked_for_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as caught:
        Data(tmp_path / "named", configured=tmp_path / "configured", beside=False).path("tabular/concrete.csv.gz")
    for part in (
        "tabular/concrete.csv.gz",
        str(tmp_path / "named"),
        str(tmp_path / "configured"),
        "--data",
        "PAPERWORKS_DATA",
    ):
        assert part in str(caught.value)
    with pytest.raises(DataMissing, match="no folder is set"):
        Data(beside=False).path("a.csv")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../secret", "a/../../secret"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="named by a path inside"):
        Data(tmp_path, beside=False).path(name)


def test_what_was_used_is_noted_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    used: list[str] = []
    noted = Noted(Data(tmp_path, beside=False), used)
    for _ in range(2):
        noted.path("a.csv")
        noted.path("folder")
    noted.has("a.csv")
    # e3b0c442...: the SHA-256 of nothing
    assert used == ["a.csv (0 B, sha256 e3b0c44298fc1c14)", "folder (a folder)"]


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_checkpoint_gives_back_what_was_put(tmp_path: Path, kind: str) -> None:
    kept = FileCheckpoint(tmp_path / "kept") if kind == "file" else MemoryCheckpoint()
    assert kept.get("a") is None
    kept.put("a", [1, 2])
    kept.put("a", {"x": (1, 2)})
    kept.put("a/../b", None)
    assert kept.get("a") == {"x": [1, 2]}  # JSON: a tuple comes back as a list, in both kinds
    assert kept.get("a/../b") is None
    with pytest.raises(ClaimError, match=r"checkpoint\.folder"):
        kept.put("array", object())
    (kept.folder / "weights.bin").write_bytes(b"x")
    assert kept.folder.is_dir()


def test_keys_never_leave_the_folder_nor_meet(tmp_path: Path) -> None:
    kept = FileCheckpoint(tmp_path / "kept")
    keys = ["../../etc", "a b", "a_b", "a/b", "", ".", "x" * 500, "ä"]
    for number, key in enumerate(keys):
        kept.put(key, number)
    assert [kept.get(key) for key in keys] == list(range(len(keys)))
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / "kept"}


def test_a_damaged_checkpoint_counts_as_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = FileCheckpoint(tmp_path)
    kept.put("a", 1)
    next(tmp_path.glob("*.json")).write_text('{"key": ')
    assert kept.get("a") is None
    assert "measured again" in caplog.text

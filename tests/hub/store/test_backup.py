"""A backup comes back whole, and nothing else gets in."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from paperworks.config import Settings, load
from paperworks.errors import InputError, StoreError
from paperworks.hub.hub import Hub, open_hub
from paperworks.hub.store.backup import backup, nightly, restore
from paperworks.hub.store.lock import serving
from paperworks.hub.store.models import Fact

NOW = datetime(2026, 8, 21, 9, 30, tzinfo=UTC)


def remember(hub: Hub, value: str) -> None:
    with hub.db.write() as session:
        session.merge(Fact(name="kept", value=value))


def remembered(settings: Settings) -> str | None:
    with open_hub(settings) as hub, hub.db.read() as session:
        fact = session.get(Fact, "kept")
        return fact.value if fact else None


@pytest.fixture
def saved(hub: Hub, tmp_path: Path) -> Path:
    remember(hub, "before")
    (hub.home / "records" / "a.json").write_text('{"a": 1}')
    (hub.home / "paperworks.toml").write_text('hub_name = "mine"\n[mail]\nsmtp_password = "geheim"\n')
    return backup(hub.db, hub.home, tmp_path / "hub.zip", NOW)


def test_what_was_saved_comes_back(hub: Hub, saved: Path) -> None:
    remember(hub, "after")
    (hub.home / "records" / "a.json").unlink()
    hub.close()
    kept = restore(saved, hub.home, NOW)
    assert remembered(load(hub.home)) == "before"
    assert (hub.home / "records" / "a.json").read_text() == '{"a": 1}'
    assert kept is not None
    assert (kept / "hub.sqlite").exists(), "the state before the restore is kept"
    (hub.home / "hub.sqlite").unlink()
    (kept / "hub.sqlite").rename(hub.home / "hub.sqlite")
    assert remembered(load(hub.home)) == "after"


def test_a_backup_opens_in_an_empty_folder(saved: Path, tmp_path: Path) -> None:
    assert restore(saved, tmp_path / "new", NOW) is None
    assert remembered(load(tmp_path / "new")) == "before"
    assert load(tmp_path / "new").hub_name == "mine"


def test_passwords_stay_at_home_unless_asked_for(hub: Hub, saved: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert b"geheim" not in archive.read("paperworks.toml")
    with zipfile.ZipFile(backup(hub.db, hub.home, tmp_path / "all.zip", NOW, secrets=True)) as archive:
        assert b"geheim" in archive.read("paperworks.toml")


def test_what_is_being_written_is_saved_as_it_stood(hub: Hub, tmp_path: Path) -> None:
    remember(hub, "before")
    with hub.db.write() as session:
        session.merge(Fact(name="kept", value="half"))
        session.flush()
        made = backup(hub.db, hub.home, tmp_path / "hub.zip", NOW)
    restore(made, tmp_path / "new", NOW)
    assert remembered(load(tmp_path / "new")) == "before"


def test_an_existing_file_is_not_overwritten(hub: Hub, saved: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        backup(hub.db, hub.home, saved, NOW)


def test_a_folder_that_is_served_is_left_alone(hub: Hub, saved: Path) -> None:
    with serving(hub.home), pytest.raises(StoreError, match="serves the folder"):
        restore(saved, hub.home, NOW)


def rewritten(saved: Path, target: Path, change: dict[str, bytes | None], honest: bool = True) -> Path:
    """The backup with members replaced, added or (None) left out; `honest` mends the manifest as a careful attacker would."""
    with zipfile.ZipFile(saved) as source:
        members = {name: source.read(name) for name in source.namelist()} | change
    manifest = json.loads(members.pop("manifest.json") or b"{}")
    kept = {name: data for name, data in members.items() if data is not None}
    if honest and "files" in manifest:
        manifest["files"] = {name: len(data) for name, data in kept.items()}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in kept.items():
            archive.writestr(name, data)
        if change.get("manifest.json", b"") is not None:
            archive.writestr("manifest.json", json.dumps(manifest))
    return target


@pytest.mark.parametrize(
    ("change", "honest", "said"),
    [
        ({"../evil.json": b"{}"}, True, "it holds"),
        ({"records/../../evil.json": b"{}"}, True, "it holds"),
        ({"/etc/evil": b""}, True, "it holds"),
        ({"run.py": b"print()"}, True, "it holds"),
        ({"records/..json": b"{}", "records/b.json": b"{}"}, False, "manifest"),
        ({"records/a.json": b"{}"}, False, "differ from its manifest"),
        ({"records/b.json": b" " * 3_000_000}, True, "unpacks from"),
        ({"hub.sqlite": None}, True, "lacks hub.sqlite"),
        ({"manifest.json": None}, True, "lacks manifest.json"),
        ({"hub.sqlite": b"not a database at all"}, True, "damaged"),
        ({"manifest.json": b"{}"}, True, "cannot be read"),
    ],
)
def test_a_zip_that_is_no_backup_changes_nothing(
    hub: Hub, saved: Path, tmp_path: Path, change: dict[str, bytes | None], honest: bool, said: str
) -> None:
    bad = rewritten(saved, tmp_path / "bad.zip", change, honest)
    remember(hub, "after")
    hub.close()
    (hub.home / "serve.lock").touch()  # a lock file stays behind, empty
    before = sorted(path.name for path in hub.home.iterdir())
    with pytest.raises(InputError, match=said):
        restore(bad, hub.home, NOW)
    assert sorted(path.name for path in hub.home.iterdir()) == before
    assert remembered(load(hub.home)) == "after"
    assert not (tmp_path / "evil.json").exists()


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_half_a_file_is_refused(hub: Hub, saved: Path, tmp_path: Path, cut: int) -> None:
    half = tmp_path / "half.zip"
    half.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(InputError, match="not a whole zip file"):
        restore(half, hub.home, NOW)
    with pytest.raises(InputError, match="there is no file"):
        restore(tmp_path / "nothing.zip", hub.home, NOW)


def test_seven_days_and_four_weeks_are_kept(hub: Hub) -> None:
    day = datetime(2026, 7, 1, 3, tzinfo=UTC)
    for n in range(60):
        assert nightly(hub.db, hub.home, day + timedelta(days=n)) is not None
        assert nightly(hub.db, hub.home, day + timedelta(days=n, hours=5)) is None, "one a day"
    kept = sorted(path.stem.removeprefix("hub-") for path in (hub.home / "backups").glob("hub-*.zip"))
    last = [(day + timedelta(days=n)).date().isoformat() for n in range(53, 60)]
    assert kept[-7:] == last
    assert kept[:-7] == ["2026-08-03", "2026-08-10", "2026-08-17"], "with Monday 24 August among the last seven"

"""Records and their store: written whole, read strictly, a broken file stops nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.catalogue import Printed
from paperworks.claims.environment import Environment
from paperworks.claims.files import write_atomically
from paperworks.claims.record import Record, SeriesRecord, ValueSummary, number
from paperworks.claims.store import RecordStore
from paperworks.errors import NotFound, StoreError

WHEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MACHINE = Environment(
    python="3.11.7", platform="Linux", cpu="A processor", cores=2, threads="not limited", memory_bytes=8_000_000_000,
    versions={"numpy": "2.4.0"}, paperworks="0.1.0", revision=None,
)  # fmt: skip


def a_record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "slug": "made_up", "paper_title": "A made-up paper", "claim": "halves", "statement": "The number is halved.",
        "metric": "ratio", "printed": Printed(value=0.5, where="Table 1"), "reproduced_rule": "ratio < 0.6",
        "refuted_rule": "ratio > 0.8", "scale": "cpu", "seeds": (0, 1), "state": "done", "verdict": "reproduced",
        "values": {"ratio": ValueSummary.over([0.5, 0.52])}, "environment": MACHINE,
        "started": WHEN - timedelta(minutes=1), "ended": WHEN, "duration_s": 60.0,
    }  # fmt: skip
    return Record(**(fields | changes))


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = a_record(
        series={"sizes": SeriesRecord(x=((1.0, 2.0),), y=((1.0, 0.5), (1.0, 0.52)), plot="sizes", log_y=True)}
    )
    path = record.save(tmp_path)
    assert path == tmp_path / "made_up" / "made_up--halves--cpu--20260301T120000Z.json"
    assert Record.read(path) == record
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity


@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=4)
    | st.lists(st.booleans(), min_size=1)
    | st.lists(st.text(), min_size=1)
)
def test_any_values_survive_the_file(values: list[Any]) -> None:
    record = a_record(values={"v": ValueSummary.over(values)})
    again = Record.model_validate_json(record.model_dump_json())
    assert again == record
    assert [type(item) for item in again.values["v"].per_seed] == [type(item) for item in values]


def test_two_records_of_one_second_are_both_kept(tmp_path: Path) -> None:
    paths = {a_record().save(tmp_path) for _ in range(3)}
    assert len(paths) == 3
    assert len(RecordStore([tmp_path]).all()) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a record"),
        ('{"schema_version": 1', "not a record"),
        ("[]", "not a record"),
        ("{}", "slug: Field required"),
        ('{"schema_version": 2}', "schema_version"),
    ],
)
def test_a_broken_file_is_a_sentence_that_names_it(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=says) as caught:
        Record.read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        Record.read(tmp_path / "nothing.json")


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        a_record(ended=datetime(2026, 3, 1))


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "made_up").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        a_record().save(tmp_path)


def test_the_best_is_the_newest_verdict_at_the_largest_scale(tmp_path: Path) -> None:
    old_gpu = a_record(scale="gpu", verdict="partly", ended=WHEN - timedelta(days=300))
    for record in (
        old_gpu,
        a_record(scale="gpu", verdict="refuted", ended=WHEN - timedelta(days=400)),
        a_record(),
        a_record(scale="gpu", state="failed", verdict="not-measured", ended=WHEN + timedelta(days=1)),
        a_record(scale="smoke", verdict="not-measured", ended=WHEN + timedelta(days=2)),
    ):
        record.save(tmp_path)
    store = RecordStore([tmp_path])
    assert store.best("made_up", "halves") == old_gpu
    assert store.best_of_all() == {("made_up", "halves"): old_gpu}
    latest = store.latest("made_up", "halves")
    assert latest is not None
    assert latest.scale == "smoke"
    assert store.latest("made_up", "halves", "cpu") == a_record()
    assert store.best("made_up", "other") is None


def test_broken_files_are_reported_and_the_others_are_served(tmp_path: Path) -> None:
    a_record().save(tmp_path)
    (tmp_path / "made_up" / "broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "made_up" / ".half.json.x.tmp").write_text("{", encoding="utf-8")
    store = RecordStore([tmp_path, tmp_path / "nowhere"])
    assert len(store.all()) == 1
    assert [broken.path.name for broken in store.problems()] == ["broken.json"]


def test_the_store_sees_what_changes(tmp_path: Path) -> None:
    store = RecordStore([tmp_path])
    assert store.all() == []
    path = a_record().save(tmp_path)
    assert len(store.all()) == 1
    assert store.path(path.name) == path
    assert store.file_of(store.all()[0]) == path
    path.unlink()
    assert store.all() == []
    with pytest.raises(NotFound, match="no record"):
        store.path(path.name)


def test_a_record_knows_whether_the_rules_changed_since() -> None:
    from paperworks.catalogue import ClaimSpec

    spec = ClaimSpec(
        id="halves", statement="The number is halved.", metric="ratio", paper=Printed(where="Table 1"),
        reproduced="ratio  <  0.6", refuted="ratio > 0.8",
    )  # fmt: skip
    assert a_record().has_rules_of(spec)
    assert not a_record(reproduced_rule="ratio < 0.7").has_rules_of(spec)


@given(st.floats())
def test_every_number_has_a_text(value: float) -> None:
    assert number(value)


WRITE_FOREVER = """
import sys
from pathlib import Path
from paperworks.claims.files import write_atomically
path, text = Path(sys.argv[1]), "x" * 4_000_000
print("ready", flush=True)
for i in range(10**6):
    write_atomically(path, f"{i} {text} end")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_while_writing_leaves_no_half_file(tmp_path: Path) -> None:
    """Twelve kills at moments spread over writing, flushing and renaming: what is read is always one whole text."""
    path = tmp_path / "record.json"
    write_atomically(path, "0  end")
    for attempt in range(12):
        child = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.01 + 0.007 * attempt)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert path.read_text().endswith(" end")
    assert path.stat().st_size > 4_000_000  # the children did write
    assert list(RecordStore([tmp_path]).all()) == []  # leftovers of killed writers are no records


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]

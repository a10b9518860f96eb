"""`paperworks reproduce` and `paperworks measured`: exit codes, streams, files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paperworks.claims.store import RecordStore
from tests.claims.test_runner import body
from tests.claims.test_worker import SLOW_SEED_1
from tests.conftest import MakePaper
from tests.test_plugins import run


@pytest.mark.parametrize(
    ("ratio", "code"),
    [("0.5", 0), ("0.7", 4), ("0.9", 4), ("1 / 0", 1), ("len(run.data.path('none').name)", 4)],
)
def test_the_exit_code_tells_the_verdict(
    make_paper: MakePaper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ratio: str, code: int
) -> None:
    make_paper(body(f"return Measurement({{'ratio': {ratio}}})"), install=True)
    assert run(monkeypatch, tmp_path, "reproduce", "made_up", "--in-process", "--seeds", "2") == code
    (record,) = RecordStore([tmp_path / "home" / "records"]).all()
    assert record.seeds == (() if record.state == "failed" else (0, 1))  # of a failed one those that were finished


def test_a_broken_folder_is_a_failure_and_the_others_are_measured(
    make_paper: MakePaper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_paper(install=True, claims={"halves": {}, "also": {}})
    assert run(monkeypatch, tmp_path, "reproduce", "made_up", "--in-process", "--json") == 1
    captured = capsys.readouterr()
    assert [record["claim"] for record in json.loads(captured.out)] == ["halves"]
    assert "no function for 'also'" in captured.err


@pytest.mark.parametrize(
    "arguments",
    [("reproduce",), ("reproduce", "made_up", "--all"), ("reproduce", "made_up", "--scale", "huge"), ("reproduce", "made_up", "--seeds", "0"),
     ("reproduce", "--all", "--claim", "halves"), ("nonsense",), ("reproduce", "made_up", "--nonsense")],
)  # fmt: skip
def test_wrong_usage_is_code_2(
    make_paper: MakePaper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    make_paper(install=True)
    assert run(monkeypatch, tmp_path, *arguments) == 2


@pytest.mark.parametrize(("slug", "claim"), [("other", None), ("made_up", "other")])
def test_unknown_names_are_told_with_the_known_ones(
    make_paper: MakePaper,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    slug: str,
    claim: str | None,
) -> None:
    make_paper(install=True)
    assert run(monkeypatch, tmp_path, "reproduce", slug, *(["--claim", claim] if claim else [])) == 1
    assert "made_up" in capsys.readouterr().err


def test_results_on_one_stream_progress_on_the_other_and_a_report(
    make_paper: MakePaper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_paper(install=True)
    arguments = (
        "reproduce",
        "made_up",
        "--json",
        "--report",
        str(tmp_path / "report.html"),
        "--records",
        str(tmp_path / "records"),
    )
    assert run(monkeypatch, tmp_path, *arguments) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)[0]["verdict"] == "reproduced"
    assert "3 of 3 (100 %)" in captured.err
    assert "The number is halved" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert run(monkeypatch, tmp_path, "measured", "list", "--records", str(tmp_path / "records")) == 0
    assert "halves" in capsys.readouterr().out
    assert run(monkeypatch, tmp_path, "measured", "build", "--folder", str(tmp_path / "records")) == 0
    assert "● reproduced" in (tmp_path / "records" / "measured.md").read_text(encoding="utf-8")
    assert (
        run(
            monkeypatch,
            tmp_path,
            "measured",
            "report",
            str(tmp_path / "b.html"),
            "--records",
            str(tmp_path / "records"),
        )
        == 0
    )
    assert (tmp_path / "b.html").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
@pytest.mark.parametrize("more", [[], ["--in-process"]])
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(
    make_paper: MakePaper, tmp_path: Path, more: list[str]
) -> None:
    paper = make_paper(SLOW_SEED_1, install=True)
    command = [
        sys.executable,
        "-m",
        "paperworks.cli",
        "--home",
        str(tmp_path / "home"),
        "reproduce",
        "made_up",
        "--json",
        *more,
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell ignores this signal for what it starts in the background, and that is inherited
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not _reached(paper.folder / "calls.txt", "1") and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert json.loads(out) == []
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    (paper.folder / "go").touch()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["resumed_seeds"] == [0]


def _reached(path: Path, seed: str) -> bool:
    return path.exists() and seed in path.read_text().split()

"""Progress: throttled lines, the last one always, numbers for people."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.progress import LogProgress, PlainProgress, duration, size, terminal, track


def test_log_lines_are_few_and_the_last_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    progress = LogProgress("work", every_s=3600)
    with caplog.at_level(logging.INFO):
        for done in range(1, 101):
            progress(done, 100)
    assert [record.message for record in caplog.records] in (
        ["work 1 of 100 (1 %)", "work 100 of 100 (100 %)"],
        ["work 100 of 100 (100 %)"],  # on a machine that was switched on less than an hour ago
    )


def test_a_pipe_gets_plain_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal("work") as progress:
        progress(3, 3, "done")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "work 3 of 3 (100 %) done\n")
    assert isinstance(progress, PlainProgress)


def test_track_reports_each_item() -> None:
    seen: list[tuple[float, float | None]] = []
    assert list(track("abc", lambda done, total=None, note="": seen.append((done, total)))) == ["a", "b", "c"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert list(track(iter("ab"), lambda done, total=None, note="": seen.append((done, total)))) == ["a", "b"]
    assert seen[-1] == (2, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.4, "59 s"),
        (59.99, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3599.9, "1 h 0 min"),
        (3600, "1 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_durations_never_show_sixty(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e7))
def test_no_duration_shows_sixty_of_anything(seconds: float) -> None:
    assert "60 s" not in duration(seconds)
    assert " 60 min" not in f" {duration(seconds)}"


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (41_000_000, "41 MB"), (2.5e13, "25 TB")]
)
def test_sizes(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text

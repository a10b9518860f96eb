"""Settings: variables win over the file, the file over the defaults; each mistake is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from paperworks.config import SETTINGS_FILE, load
from paperworks.errors import InputError


def test_variables_win_over_the_file_and_the_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / SETTINGS_FILE).write_text(
        'hub_name = "ours"\n[mail]\nsmtp_port = 25\nsmtp_host = "mx"\n', encoding="utf-8"
    )
    monkeypatch.setenv("PAPERWORKS_MAIL__SMTP_PORT", "2525")
    settings = load(tmp_path)
    assert (settings.hub_name, settings.mail.smtp_port, settings.mail.smtp_host) == ("ours", 2525, "mx")
    assert settings.mail.transport == "outbox"


def test_everything_lies_in_one_folder(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert {settings.records.parent, settings.outbox.parent, settings.vectors.parent} == {tmp_path}
    assert str(tmp_path / "hub.sqlite") in settings.database_url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hub_name = ", "not valid TOML"),
        ("colour = 1", "colour"),
        ("[trending]\nday_hours = -1", r"trending.day_hours"),
        ('run_memory_gib = "much"', "run_memory_gib"),
    ],
)
def test_each_mistake_is_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / SETTINGS_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        load(tmp_path)
    assert SETTINGS_FILE in str(caught.value)


def test_a_password_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPERWORKS_MAIL__SMTP_PASSWORD", "hunter2")
    settings = load(tmp_path)
    assert settings.mail.smtp_password == "hunter2"
    assert "hunter2" not in repr(settings)

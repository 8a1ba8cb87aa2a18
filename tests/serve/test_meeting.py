"""Where workers find each other."""

import logging
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gateway.config.settings import Settings
from gateway.serve.meeting import MeetingPlace


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def settings(**prometheus: Any) -> Settings:
    return Settings.model_validate({"prometheus": prometheus, "node": {"name": "blue"}})


def test_all_workers_have_the_same_for_as_long_as_there_are_any(tmp_path: Path) -> None:
    meeting = MeetingPlace()
    first, later = meeting.named_in(settings()), meeting.named_in(settings(namespaces=["chat"]))
    [directory] = tmp_path.iterdir()
    assert first.prometheus.directory == later.prometheus.directory == str(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (first.node.name, later.prometheus.namespaces) == ("blue", ("chat",))
    (directory / "left.sock").write_text("")
    meeting.close()
    assert list(tmp_path.iterdir()) == []


def test_none_is_made_where_it_is_named_or_not_wanted(tmp_path: Path) -> None:
    meeting = MeetingPlace()
    named, unwanted = settings(directory="/run/gateway"), settings(enabled=False)
    assert meeting.named_in(named) is named
    assert meeting.named_in(unwanted) is unwanted
    meeting.close()
    assert list(tmp_path.iterdir()) == []


def test_without_room_for_one_workers_start_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    meeting = MeetingPlace()
    for _ in range(2):
        assert meeting.named_in(settings()).prometheus.directory == ""
    with caplog.at_level(logging.WARNING):
        meeting.close()
    assert caplog.text.count("/metrics tells of one worker at a time") == 1

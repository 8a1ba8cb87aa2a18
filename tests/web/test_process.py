"""What the system tells of a process, and where it does not."""

import resource
from pathlib import Path

import pytest

from gateway.web import process
from gateway.web.process import read_process


def test_memory_files_and_time() -> None:
    found = read_process()
    assert found.resident is not None
    assert found.resident > 1_000_000
    assert found.seconds > 0


def test_files_are_counted() -> None:
    before = read_process().descriptors
    with Path(__file__).open():
        during = read_process().descriptors
    assert before is not None
    assert during == before + 1


class Kernel:
    """One that does not tell the number of files as their directory's size."""

    st_size = 0


def test_older_kernels_are_counted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_process().descriptors
    monkeypatch.setattr(Path, "stat", lambda _self: Kernel())
    after = read_process().descriptors
    assert before is not None
    assert after in (before, before + 1), "the look itself may take one"


def test_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "_PROC", tmp_path / "none")
    found = read_process()
    assert (found.resident, found.descriptors) == (None, None)


@pytest.mark.parametrize(("limit", "told"), [(1024, 1024), (resource.RLIM_INFINITY, None)])
def test_the_limit(limit: int, told: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (limit, limit))
    assert read_process().most == told

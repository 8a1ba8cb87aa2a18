"""How many files may be open, and what happens before there are no more."""

import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway import files
from gateway.recurring import Recurring


@pytest.fixture(autouse=True)
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What is cut off here: no part of the process's own count, which others read."""
    counts: Counter[str] = Counter()
    monkeypatch.setattr(files, "_cut", Recurring(logging.getLogger("gateway.files"), time.monotonic, counts=counts))
    return counts


@pytest.fixture
def few() -> Iterator[ExitStack]:
    """A limit of 40 more files than are open, and what the test opens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (_next() + 40, hard))
        yield opened


def _next() -> int:
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


def _open(opened: ExitStack) -> int:
    number = os.open(os.devnull, os.O_RDONLY)
    opened.callback(os.close, number)
    return number


def _open_all(opened: ExitStack) -> None:
    while True:
        _open(opened)


def test_the_last_files_are_not_for_clients(few: ExitStack) -> None:
    most = files.limit()
    assert most == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    while not files.scarce():
        number = _open(few)
    assert number + 1 == files.room(most) == most - files.spare(most)
    assert _open(few)  # for the broker, say


def test_with_many_left_they_are_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    real = os.open

    def look(path: str, flags: int) -> int:
        looks.append(path)
        return real(path, flags)

    lookout = files.Lookout()
    monkeypatch.setattr(os, "open", look)
    assert not any(lookout.scarce() for _ in range(3 * (files.MOST_UNLOOKED + 1)))
    assert len(looks) == 3


def test_numbers_are_looked_at_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes one file with each connection looks at the first number that is too high."""
    monkeypatch.setattr(files, "limit", lambda: 1000)
    numbers, first = files.Numbers(), 1000 - files.spare(1000) // 2
    looks = [number for number in range(3, first + 1) if numbers.due() and numbers.exhausted(number) in (True, False)]
    assert looks[-1] == first
    assert len(looks) < first / 10
    assert numbers.due(), "until there is room, each is"
    assert numbers.exhausted(first + 1)
    assert numbers.due()


def test_before_each_client_they_are_looked_at_in_time(few: ExitStack) -> None:
    lookout = files.Lookout()
    while not lookout.scarce():
        number = _open(few)
    assert number + 1 == files.room(files.limit())


def test_without_any_file_they_are_scarce(few: ExitStack) -> None:
    with pytest.raises(OSError, match="Too many open files"):
        _open_all(few)
    assert files.scarce()


def test_some_are_kept_even_from_who_has_said_nothing_yet(
    few: ExitStack, caplog: pytest.LogCaptureFixture, counts: Counter[str]
) -> None:
    most = files.limit()
    assert not files.exhausted(most - files.spare(most) // 2 - 1)
    assert all(files.exhausted(most - files.spare(most) // 2) for _ in range(3))
    assert counts == {"file_limit": 3}
    assert caplog.text.count("connections are closed unheard") == 1


@pytest.mark.parametrize("known", [True, False])
def test_where_there_is_no_limit(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    monkeypatch.setattr(files, "KNOWN", known)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert files.limit() == 0
    assert not files.scarce()
    assert not files.exhausted(1_000_000)


@pytest.mark.parametrize(("most", "spare"), [(64, 16), (128, 16), (256, 32), (1024, 128), (1_048_576, 128)])
def test_spare_files(most: int, spare: int) -> None:
    assert files.spare(most) == spare
    assert files.room(most) == most - spare

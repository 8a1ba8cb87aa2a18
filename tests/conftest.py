"""What holds for every test."""

import faulthandler
import signal
from collections.abc import Generator
from types import FrameType

import pytest

DEADLINE = 120
"""Seconds after which a test that hangs fails instead of holding up everything."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Give each test, fixtures included, a deadline."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback()
        raise TimeoutError(f"the test took longer than {DEADLINE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was captured may hold half characters, which cannot be told to the process that reports."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report

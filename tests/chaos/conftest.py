"""A deadline that fits."""

import signal
from collections.abc import Iterator

import pytest

from tests.chaos.stage import SECONDS

AROUND = 300
"""Seconds beside the faults: the start, coming to rest, the end."""


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """The deadline of every other test is too short for a long run."""
    left = signal.alarm(int(SECONDS) + AROUND)
    yield
    signal.alarm(max(1, left))

"""Work that nobody waits for: kept, logged, ended."""

import asyncio

import pytest

from gateway.tasks import Tasks


async def test_failures_are_told(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def fails() -> None:
        raise ZeroDivisionError

    tasks.spawn(fails())
    await tasks.finish(within=5)
    assert "ZeroDivisionError" in caplog.text
    assert not tasks.running


async def test_what_is_stuck_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    ended = asyncio.Event()

    async def is_stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.spawn(is_stuck())
    await tasks.finish(within=0)
    await ended.wait()
    assert not caplog.records

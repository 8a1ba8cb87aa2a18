"""A connection that is made again: what the log says of it, however often it breaks."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.redis import link as module
from gateway.redis.link import Link
from gateway.redis.refusals import Refusals
from tests.waiting import until


class Connection:
    """One that closes when it is told to, or at once."""

    def __init__(self, ended: str = "") -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if ended:
            self.closed.set_result(ended)

    async def close(self, reason: str) -> None:
        """Nothing is to be closed."""


@asynccontextmanager
async def running(open_: Callable[[], Connection]) -> AsyncIterator[Link[Any]]:
    async def opened() -> Connection:
        return open_()

    link: Link[Any] = Link(lambda: "redis:6379 for commands", opened, lambda: None, Refusals(lambda: "redis:6379"))
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_BACKOFF", 0.0)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


async def test_it_begins_lasts_and_ends(lines: Callable[[], list[str]]) -> None:
    attempts = 0

    def open_() -> Connection:
        nonlocal attempts
        attempts += 1
        if attempts < 20:
            raise OSError("no route" if attempts < 10 else "refused")
        return Connection()

    async with running(open_) as link:
        await until(lambda: link.connected)
    assert lines() == [
        "Redis redis:6379 for commands: no route; trying again until it works",
        "Redis redis:6379 for commands: refused; trying again until it works (9 times in 0 s)",
        "Redis redis:6379 for commands: connected (0 s)",
    ]


async def test_the_first_connection_is_no_news_for_an_operator(
    lines: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Connection) as link:
        await until(lambda: link.connected)
    assert lines() == ["Redis redis:6379 for commands: connected"]
    assert caplog.records[0].levelno == logging.INFO


async def test_a_server_that_lets_in_and_drops_again_is_no_flood(lines: Callable[[], list[str]]) -> None:
    """As one behind a proxy that has nobody behind it."""
    async with running(lambda: Connection("READONLY, or whatever it says")) as link:
        await until(lambda: link.connects >= 100)
    assert lines() == [
        "Redis redis:6379 for commands: connected",
        "Redis redis:6379 for commands: READONLY, or whatever it says; trying again until it works",
        "Redis redis:6379 for commands: connected (0 s)",
    ]

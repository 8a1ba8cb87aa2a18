"""Hearing what was published: one message for all who ask in a tick, and no waiting for what does not come."""

import asyncio

import pytest

from gateway.errors import BrokerUnavailable
from gateway.redis import echo as echoes
from gateway.redis.echo import Echo
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import settle


class Server:
    """Answers as the test wants, and sends nothing back by itself."""

    def __init__(self) -> None:
        self.echo = Echo(self.publish)
        self.published: list[int] = []
        self.receivers: int | Exception = 1

    def publish(self, number: int) -> "asyncio.Future[int]":
        self.published.append(number)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if isinstance(self.receivers, Exception):
            answer.set_exception(self.receivers)
        else:
            answer.set_result(self.receivers)
        return answer

    def hear(self, number: int) -> None:
        self.echo.hear(str(number).encode())


@pytest.fixture
async def server() -> Server:
    return Server()


async def test_one_message_serves_all_who_ask_in_a_tick(server: Server) -> None:
    first = [asyncio.create_task(server.echo.wait()) for _ in range(3)]
    await settle()
    later = asyncio.create_task(server.echo.wait())
    await settle()
    assert server.published == [1, 2]
    server.hear(1)
    await settle()
    assert [task.done() for task in (*first, later)] == [True, True, True, False]
    server.hear(2)
    await later


async def test_who_is_cancelled_disturbs_nobody(server: Server) -> None:
    one, two = (asyncio.create_task(server.echo.wait()) for _ in range(2))
    await settle()
    one.cancel()
    await settle()
    assert (one.cancelled(), two.done()) == (True, False)
    server.hear(1)
    await two


@pytest.mark.parametrize("receivers", [0, BrokerUnavailable()])
async def test_what_nobody_can_hear_is_not_waited_for(server: Server, receivers: int | Exception) -> None:
    server.receivers = receivers
    await server.echo.wait()
    server.receivers = 1
    waiting = asyncio.create_task(server.echo.wait())
    await settle()
    assert not waiting.done()
    server.hear(2)
    await waiting


async def test_a_server_that_sends_nothing_back_holds_nobody_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(echoes, "PATIENCE", 0)
    await server.echo.wait()
    monkeypatch.undo()
    for _ in range(3):  # they would never end
        await server.echo.wait()
        await settle()
    assert len(server.echo._under_way) == 1
    assert caplog.text.count("nothing published here has come back") == 1
    server.hear(server.published[-1])
    assert server.echo._under_way == {}
    waiting = asyncio.create_task(server.echo.wait())
    await settle()
    assert not waiting.done()
    server.hear(server.published[-1])
    await waiting


async def test_what_was_published_has_arrived(shared_server: RedisServer) -> None:
    arrived: list[bytes] = []
    async with started_shard(shared_server.url) as shard:
        await shard.subscribe(b"news", arrived.append)
        for number in range(100):
            await shard.execute("PUBLISH", b"news", number)
            await shard.echo()
            assert arrived[-1] == str(number).encode()

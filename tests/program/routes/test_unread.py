"""Streams that stop when nobody reads them, on whichever node."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from gateway import Client
from gateway.core.feeds import LINGER
from gateway.program.routes.unread import INTERVAL
from gateway.testing import Kit
from tests.program.routes.clients import gateway_with
from tests.redis_server import RedisServer
from tests.waiting import until

LIMIT = 10.0
SOON = LIMIT + LINGER + 2 * INTERVAL
"""Seconds after which one that nobody reads has been stopped."""


async def endless() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


def create_app() -> FastAPI:
    gateway = gateway_with()
    gateway.channel(
        "answer:{id}",
        history_size=100,
        replay=True,
        allow_subscribe_for_client=True,
        allow_subscribe_for_anonymous=True,
    )

    @gateway.rpc("ask")
    async def ask(client: Client) -> str:
        return (await client.stream(endless(), stop_when_unread=LIMIT)).channel

    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    return app


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    async with Kit(create_app, nodes=2) as kit:
        yield kit


async def test_one_that_nobody_ever_reads(kit: Kit) -> None:
    stream = await kit.gateway.stream("answer:1", endless(), stop_when_unread=LIMIT)
    other = await kit.gateway.stream("answer:2", endless())
    await kit.clock.advance(LIMIT - 2 * INTERVAL)
    assert stream.running
    await kit.clock.advance(3 * INTERVAL)
    assert await stream.wait() == "stopped"
    assert other.running


@pytest.mark.parametrize("node", [0, 1])
async def test_the_last_reader_leaves_and_another_comes_in_time(kit: Kit, node: int) -> None:
    stream = await kit.gateway.stream("answer:1", endless(), stop_when_unread=LIMIT)
    readers = [await kit.connect(node=node) for _ in range(2)]
    for reader in readers:
        await reader.subscribe("answer:1")
    await kit.clock.advance(SOON)
    await readers[0].close()
    await kit.clock.advance(SOON)
    await readers[1].close()
    await kit.clock.advance(LIMIT - 2 * INTERVAL)
    late = await kit.connect(node=node)
    await late.subscribe("answer:1")
    await kit.clock.advance(SOON)
    assert stream.running
    await late.unsubscribe("answer:1")
    await kit.clock.advance(SOON)
    assert await stream.wait() == "stopped"


async def test_who_listens_in_the_program_is_a_reader(kit: Kit) -> None:
    async with kit.nodes[1].gateway.listen("answer:1"):
        stream = await kit.gateway.stream("answer:1", endless(), stop_when_unread=LIMIT)
        await kit.clock.advance(SOON)
        assert stream.running
    await kit.clock.advance(SOON)
    assert not stream.running


async def test_a_broker_that_cannot_tell_stops_nothing(kit: Kit) -> None:
    stream = await kit.gateway.stream("answer:1", endless(), stop_when_unread=LIMIT)
    kit.broker.kill(node=0)
    await kit.clock.advance(SOON)
    kit.broker.restore(node=0)
    await kit.clock.advance(LIMIT - 2 * INTERVAL)
    assert stream.running
    await kit.clock.advance(SOON)
    assert await stream.wait() == "stopped"


async def test_a_stream_for_one_client(kit: Kit) -> None:
    client = await kit.connect()
    channel = await client.rpc("ask")
    await kit.clock.advance(SOON)
    streams = kit.gateway.running.streams
    assert list(streams._running) == [channel]
    await client.close()
    await kit.clock.advance(SOON)
    assert streams._running == {}


async def test_nothing_is_watched_when_none_is_left(kit: Kit) -> None:
    watch = kit.gateway.running.streams._unread
    stream = await kit.gateway.stream("answer:1", endless(), stop_when_unread=LIMIT)
    stream.stop()
    await stream.wait()
    await kit.clock.advance(2 * INTERVAL)
    assert (watch._limits, watch._alone, watch._looking) == ({}, {}, False)
    again = await kit.gateway.stream("answer:1", endless(), stop_when_unread=INTERVAL)
    await kit.clock.advance(2 * INTERVAL)
    assert not again.running


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
async def test_seconds_that_are_none(kit: Kit, seconds: float) -> None:
    with pytest.raises(ValueError, match="is a number of seconds, for example 30"):
        await kit.gateway.stream("answer:1", endless(), stop_when_unread=seconds)


async def test_readers_elsewhere_by_redis(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: dict[str, Any] = {"type": "redis", "redis": {"address": server.url}}
    one, other = (gateway_with(engine=engine) for _ in range(2))
    for gateway in (one, other):
        gateway.channel("answer:{id}", history_size=100, replay=True)
    async with one.lifespan(), other.lifespan():
        watch = one.running.streams._unread
        looks = 0

        async def unread() -> set[Any]:
            nonlocal looks
            looks += 1
            return await type(watch)._unread(watch)

        monkeypatch.setattr(watch, "_unread", unread)
        monkeypatch.setattr("gateway.program.routes.unread.INTERVAL", 0.1)
        async with other.listen("answer:1"):
            stream = await one.stream("answer:1", endless(), stop_when_unread=0.1)
            await until(lambda: looks > 2)
            assert stream.running
        assert await stream.wait() == "stopped"

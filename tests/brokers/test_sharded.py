"""Several brokers as one: what is for nodes comes once, and by whichever of them lives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from gateway.brokers.base import Claim, HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.redis import RedisBroker
from gateway.brokers.sharded import ShardedBroker
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable
from gateway.jump import jump
from gateway.messages import Payload, Position, Publication
from gateway.redis.opening import open_shards
from tests.brokers.recorder import Recorder
from tests.redis_server import RedisServer
from tests.waiting import until

KEPT = StreamOptions(history_size=10, history_ttl=60.0)
SAID = Publication(Payload(b'"x"'))
ROOMS = [f"room{number}" for number in range(40)]


Start = Callable[[str, Recorder], Awaitable[ShardedBroker]]


@pytest.fixture
def servers() -> Iterator[list[RedisServer]]:
    with RedisServer() as first, RedisServer() as second:
        yield [first, second]


@pytest.fixture
async def start(servers: list[RedisServer]) -> AsyncIterator[Start]:
    """Starts the broker of one more node."""
    async with AsyncExitStack() as stack:

        async def start(name: str, heard: Recorder) -> ShardedBroker:
            settings = RedisSettings(address=",".join(server.url for server in servers), io_timeout=0.5)
            shards = open_shards(settings)
            for shard in shards:
                await shard.start()
                stack.push_async_callback(shard.close)
            broker = ShardedBroker([RedisBroker(shard) for shard in shards])
            await broker.start(name, heard)
            stack.push_async_callback(broker.close)
            return broker

        yield start


async def test_one_that_is_away_harms_its_own_channels_alone(servers: list[RedisServer], start: Start) -> None:
    heard = Recorder()
    one, two = await start("n1", heard), await start("n2", Recorder())
    await asyncio.gather(*(one.subscribe(room) for room in ROOMS))
    await asyncio.gather(*(two.publish(room, SAID, KEPT, PublishOptions()) for room in ROOMS))
    await until(lambda: len(heard.publications) == len(ROOMS))
    await one.publish_control(b"hello")
    await two.publish_control(b"for one", "n1")
    await until(lambda: heard.controls == [b"hello", b"for one"])

    servers[1].kill()
    await until(lambda: not one.health().connected and not two.health().connected)
    for room in ROOMS:
        publishing = two.publish(room, SAID, KEPT, PublishOptions())
        if jump(room, 2) == 0:
            assert (await publishing).offset == 2
        else:
            with pytest.raises(BrokerUnavailable):
                await publishing
    await two.publish_control(b"still")
    await until(lambda: heard.controls[2:] == [b"still"])

    servers[1].start()
    await until(lambda: one.health().ok and two.health().ok)
    assert heard.gaps
    await two.publish_control(b"both again")
    await until(lambda: heard.controls[3:] == [b"both again"])


async def test_positions_are_checked_where_their_streams_are(start: Start) -> None:
    broker = await start("n1", Recorder())
    tops = [(await broker.history(room, HistoryFilter(), KEPT))[1] for room in ROOMS]
    claims = [Claim(room, top, KEPT) for room, top in zip(ROOMS, tops, strict=True)]
    wrong = [claim._replace(position=Position(7, claim.position.epoch)) for claim in claims[::2]]
    assert await broker.verify([*claims, *wrong]) == [True] * len(claims) + [False] * len(wrong)


async def test_all_are_away(servers: list[RedisServer], start: Start) -> None:
    broker = await start("n1", Recorder())
    for server in servers:
        server.kill()
    await until(lambda: not broker.health().connected)
    with pytest.raises(BrokerUnavailable):
        await broker.publish_control(b"nobody hears")

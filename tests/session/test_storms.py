"""Thousands who come at once, and what they cost Redis: counted by Redis itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pytest

from gateway.brokers.redis import RedisBroker
from gateway.brokers.redis_history import CHANNELS_PER_CALL
from gateway.core.node import Node
from gateway.redis.pubsub import CHANNELS_PER_COMMAND
from gateway.redis.shard import Shard
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.session.rig import Client, Rig

CLIENTS = 5_000
TICKS = 40
"""Turns of the event loop over which they come, a part of them in each."""
HANDFUL = TICKS // 2
"""Reads: each is under way for two turns at least, and those who come meanwhile share the next."""
CHANNELS = 20_000
OPTIONS = {"history_size": 10, "history_ttl": 60, "force_recovery": True}

_Answer = TypeVar("_Answer")


class RedisRig(Rig):
    """A node that Redis joins to others, and a way to ask Redis what it has done."""

    def __init__(self, server: RedisServer, shard: Shard) -> None:
        super().__init__({}, {})
        self._server = server
        self.node = Node(
            self.settings,
            RedisBroker(shard, self.clock),
            self.presence,
            blocks=self.node.blocked.store,
            clock=self.clock,
            wheel=self.wheel,
        )

    async def calls(self) -> dict[str, int]:
        """How often each command was called, since they were last counted."""
        return await asyncio.to_thread(self._calls)

    def _calls(self) -> dict[str, int]:
        with self._server.client() as client:
            stats: Any = client.info("commandstats")
            client.config_resetstat()
        return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}

    async def crowd(self, count: int) -> list[Client]:
        return [await self.connected() for _ in range(count)]


@pytest.fixture
async def rig(server: RedisServer) -> AsyncIterator[RedisRig]:
    async with started_shard(server.url, probe_interval=60) as shard:
        rig = RedisRig(server, shard)
        await rig.node.broker.start(rig.node.uid, rig.node)
        yield rig
        await rig.node.broker.close()


async def over_many_ticks(
    work: Callable[[Client], Awaitable[_Answer]], clients: Sequence[Client], ticks: int = TICKS
) -> list[_Answer]:
    """Answers for all of them, of whom a part comes in each turn of the event loop."""
    share = -(-len(clients) // ticks)
    tasks = []
    for start in range(0, len(clients), share):
        tasks += [asyncio.ensure_future(work(client)) for client in clients[start : start + share]]
        await asyncio.sleep(0)
    return await asyncio.gather(*tasks)


async def test_thousands_subscribe_to_one_channel(rig: RedisRig) -> None:
    clients = await rig.crowd(CLIENTS)
    position = await rig.publish("room:all", "before")
    await rig.calls()
    answers = await over_many_ticks(lambda client: client.subscribe("room:all"), clients)
    calls = await rig.calls()
    assert {(answer["offset"], answer["epoch"]) for answer in answers} == {(1, position.epoch)}
    assert calls["subscribe"] == 1
    assert 1 <= calls["evalsha"] <= HANDFUL


async def test_thousands_come_back_to_one_channel(rig: RedisRig) -> None:
    """And each recovers what it has missed, that published while they come as well."""
    position = await rig.publish("room:all", "seen")
    await rig.publish("room:all", "missed")
    clients = await rig.crowd(CLIENTS)
    await rig.calls()

    async def come_back(client: Client) -> list[str]:
        answer = await client.subscribe("room:all", recover=True, offset=position.offset, epoch=position.epoch)
        assert answer["recovered"]
        return [each["data"] for each in answer["publications"]]

    coming = asyncio.ensure_future(over_many_ticks(come_back, clients))
    await rig.publish("room:all", "meanwhile")
    recovered = await coming
    calls = await rig.calls()
    assert calls["subscribe"] == 1
    assert 1 <= calls["evalsha"] - 1 <= HANDFUL
    for client, found in zip(clients, recovered, strict=True):
        assert [*found, *(push["pub"]["data"] for push in client.take())] == ["missed", "meanwhile"]


@pytest.mark.parametrize("ticks", [1, TICKS])
async def test_thousands_of_channels_at_once(rig: RedisRig, ticks: int) -> None:
    clients = await rig.crowd(CHANNELS // 100)
    await rig.calls()

    async def subscribe(client: Client) -> int:
        number = clients.index(client) * 100
        await client.say(*({"id": 10 + each, "subscribe": {"channel": f"room:{number + each}"}} for each in range(100)))
        return sum("subscribe" in reply for reply in client.take())

    assert await over_many_ticks(subscribe, clients, ticks) == [100] * len(clients)
    calls = await rig.calls()
    assert len(rig.node.hub.channels) == CHANNELS
    assert CHANNELS // CHANNELS_PER_COMMAND <= calls["subscribe"] <= CHANNELS // 20, "many in one command"
    assert CHANNELS // CHANNELS_PER_CALL <= calls["evalsha"] <= CHANNELS // 20, "as many in one script"
    assert calls["hmget"] == CHANNELS, "each has a stream of its own"
    await rig.publish("room:0", "first")
    await rig.publish(f"room:{CHANNELS - 1}", "last")
    await rig.node.broker.echo()
    assert [clients[0].data(), clients[-1].data()] == [["first"], ["last"]]

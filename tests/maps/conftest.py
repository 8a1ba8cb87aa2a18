"""The map stores, each with a broker that hands on what is published: the contract suite runs over all."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from gateway.brokers.base import Broker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.brokers.sharded import ShardedBroker
from gateway.maps.base import MapOptions, MapStore
from gateway.maps.memory import MemoryMaps
from gateway.maps.redis import RedisMaps
from gateway.maps.sharded import ShardedMaps
from gateway.program.engine import one_of
from tests.brokers.recorder import Recorder
from tests.redis_fixtures import opened_shards


@dataclass
class Ground:
    """A store, and what a node hears of it."""

    maps: MapStore
    broker: Broker
    heard: Recorder = field(default_factory=Recorder)

    async def sweep(self, options: MapOptions) -> None:
        await self.maps.sweep(lambda _channel: options)


@pytest.fixture(params=["memory", "redis", "shards", "sentinel", "cluster"])
async def ground(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    if request.param == "memory":
        memory = MemoryBroker()
        ground = Ground(MemoryMaps(memory.deliver), memory)
        await memory.start("n1", ground.heard)
        yield ground
        return
    async with opened_shards(request.param, request) as [shards]:
        brokers: list[Broker] = [RedisBroker(shard) for shard in shards]
        stores: list[MapStore] = [RedisMaps(shard) for shard in shards]
        ground = Ground(one_of(ShardedMaps, stores), one_of(ShardedBroker, brokers))
        await ground.broker.start("n1", ground.heard)
        yield ground
        await ground.broker.close()

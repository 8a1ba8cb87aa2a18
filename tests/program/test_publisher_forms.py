"""The synchronous publisher over every form of Redis, heard by nodes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.brokers.base import HistoryFilter, StreamOptions
from gateway.brokers.redis import RedisBroker
from gateway.brokers.sharded import ShardedBroker
from gateway.config.settings import ChannelOptions, ChannelSettings, EngineSettings, RedisSettings, Settings
from gateway.errors import BrokerUnavailable
from gateway.program.engine import one_of
from gateway.program.publisher import Publisher
from gateway.redis.keys import slot
from gateway.redis.opening import open_shards
from tests.brokers.recorder import Recorder
from tests.redis_fixtures import redis_address
from tests.redis_topologies import ClusterTopology, SentinelTopology
from tests.waiting import until

ROOMS = [f"room{number}" for number in range(60)]
KEPT = StreamOptions(history_size=10, history_ttl=60.0)


def settings_for(address: str) -> Settings:
    return Settings(
        engine=EngineSettings(type="redis", redis=RedisSettings(address=address, io_timeout=2.0)),
        channel=ChannelSettings(without_namespace=ChannelOptions(history_size=10, history_ttl=60.0)),
    )


@pytest.fixture(params=["redis", "shards", "sentinel", "cluster"])
async def address(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    with redis_address(request.param, request) as address:
        yield address


async def test_nodes_hear_it_and_its_orders(address: str) -> None:
    settings, heard = settings_for(address), Recorder()
    shards = open_shards(settings.engine.redis)
    for shard in shards:
        await shard.start()
    broker = one_of(ShardedBroker, [RedisBroker(shard) for shard in shards])
    await broker.start("n1", heard)
    await asyncio.gather(*(broker.subscribe(room) for room in ROOMS))

    def publish() -> list[int]:
        with Publisher(settings) as publisher:
            receipts = publisher.broadcast(ROOMS, "hi", idempotency_key="k")
            again = publisher.broadcast(ROOMS, "hi", idempotency_key="k")
            publisher.disconnect("ann")
            publisher.block("ann", for_=1)
            publisher.unblock("ann")
        assert receipts == again
        assert all(receipt.nodes == 1 for receipt in receipts)
        return [receipt.offset for receipt in receipts]

    assert await asyncio.to_thread(publish) == [1] * len(ROOMS)
    await until(lambda: len(heard.publications) == len(ROOMS) and heard.controls)
    assert len(heard.controls) == 1, "once, by however many servers"
    for room in ROOMS:
        assert (await broker.history(room, HistoryFilter(), KEPT))[1].offset == 1
    await broker.close()
    for shard in shards:
        await shard.close()


def test_it_finds_the_new_master() -> None:
    with SentinelTopology() as group, Publisher(settings_for(group.url)) as publisher:
        first = publisher.publish("news", 1)
        group.failover()
        second = _until_published(publisher)
        assert second > first.offset


def _until_published(publisher: Publisher) -> int:
    for _ in range(5):
        try:
            return publisher.publish("news", 2).offset
        except BrokerUnavailable:
            continue
    raise AssertionError("it does not find the new master")


def test_slots_that_move_and_slots_on_their_way() -> None:
    with ClusterTopology(replicas=0) as cluster, Publisher(settings_for(cluster.url)) as publisher:
        place = slot(publisher._shards[0].keys.of(b"c", "news"))
        assert publisher.publish("news", 1).offset == 1
        cluster.migrate_slots([place])
        assert publisher.publish("news", 2).offset == 2
        with cluster.migrating(place):
            assert publisher.publish("news", 3).offset == 3
        assert publisher.broadcast(["news", *ROOMS], 4)[0].offset == 4

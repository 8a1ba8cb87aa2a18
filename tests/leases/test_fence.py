"""A publish behind a fence is accepted only while the channel's lease is held by who has that fence."""

from collections.abc import AsyncIterator

import pytest

from gateway.brokers.base import Broker, Fenced, HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.postgres import PostgresBroker
from gateway.brokers.redis import RedisBroker
from gateway.brokers.sharded import ShardedBroker
from gateway.leases.base import Lease, Leases
from gateway.leases.memory import MemoryLeases
from gateway.leases.postgres import PostgresLeases
from gateway.leases.redis import RedisLeases
from gateway.leases.sharded import ShardedLeases
from gateway.messages import Payload, Position, Publication, Receipt
from gateway.postgres.database import Database
from gateway.program.engine import one_of
from tests.brokers.recorder import Recorder
from tests.engines import STORES
from tests.postgres_fixtures import postgres_settings, running
from tests.redis_fixtures import opened_shards
from tests.waiting import until

PLAIN = StreamOptions()
KEPT = StreamOptions(history_size=5, history_ttl=60.0)

Pair = tuple[Broker, Leases]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=STORES)
async def pair(request: pytest.FixtureRequest, recorder: Recorder) -> AsyncIterator[Pair]:
    """Broker and leases of one backend; the broker hears ``room``."""
    if request.param == "memory":
        leases = MemoryLeases()
        broker = MemoryBroker(holds=leases.holds)
        await broker.start("n1", recorder)
        await broker.subscribe("room")
        yield broker, leases
        return
    if request.param == "postgres":
        database = Database(postgres_settings(request.getfixturevalue("postgres_server")))
        postgres, kept = PostgresBroker(database), PostgresLeases(database)
        async with running(database):
            await postgres.start("n1", recorder)
            await postgres.subscribe("room")
            yield postgres, kept
            await postgres.close()
        return
    async with opened_shards(request.param, request) as [shards]:
        redis: Broker = one_of(ShardedBroker, [RedisBroker(shard) for shard in shards])
        shared: Leases = one_of(ShardedLeases, [RedisLeases(shard) for shard in shards])
        await redis.start("n1", recorder)
        await redis.subscribe("room")
        yield redis, shared
        await redis.close()


async def take(leases: Leases) -> Lease:
    lease = await leases.acquire("room", "n1")
    assert isinstance(lease, Lease)
    return lease


async def say(broker: Broker, text: str, lease: Lease, stream: StreamOptions, key: str = "") -> Position:
    options = PublishOptions(fence=lease.fence, idempotency_key=key)
    return await broker.publish("room", Publication(Payload(text.encode())), stream, options)


@pytest.mark.parametrize("stream", [PLAIN, KEPT])
@pytest.mark.parametrize("key", ["", "once"])
async def test_an_old_holder_is_refused(pair: Pair, recorder: Recorder, stream: StreamOptions, key: str) -> None:
    broker, leases = pair
    old = await take(leases)
    assert (await say(broker, "a", old, stream, key and "1")).offset == int(stream.keeps_history)
    await leases.release(old)
    with pytest.raises(Fenced):
        await say(broker, "from nobody", old, stream, key)
    new = await take(leases)
    with pytest.raises(Fenced):
        await say(broker, "too late", old, stream, key and "1")
    assert (await say(broker, "b", new, stream, key and "2")).offset == 2 * int(stream.keeps_history)
    await until(lambda: len(recorder.texts) == 2)
    assert recorder.texts == ["a", "b"]


@pytest.mark.parametrize("stream", [PLAIN, KEPT])
async def test_once_is_once_behind_a_fence_too(pair: Pair, recorder: Recorder, stream: StreamOptions) -> None:
    broker, leases = pair
    lease = await take(leases)
    first = await say(broker, "a", lease, stream, "k")
    assert await say(broker, "again", lease, stream, "k") == first
    await say(broker, "b", lease, stream)
    await until(lambda: len(recorder.texts) == 2)
    assert recorder.texts == ["a", "b"]


async def test_others_publish_as_ever(pair: Pair, recorder: Recorder) -> None:
    broker, leases = pair
    await take(leases)
    await broker.publish("room", Publication(Payload(b"anybody")), KEPT, PublishOptions())
    publications, _ = await broker.history("room", HistoryFilter(limit=-1), KEPT)
    assert [each.data for each in publications] == [b"anybody"]


async def test_a_fence_holds_for_its_channel_alone(pair: Pair) -> None:
    broker, leases = pair
    lease = await take(leases)
    with pytest.raises(Fenced):
        await broker.publish("other", Publication(Payload(b"1")), PLAIN, PublishOptions(fence=lease.fence))


async def test_memory_without_leases_accepts_every_fence() -> None:
    broker = MemoryBroker()
    assert await broker.publish("room", Publication(Payload(b"1")), PLAIN, PublishOptions(fence="1:n1")) == Receipt()

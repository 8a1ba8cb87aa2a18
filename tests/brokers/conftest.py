from collections.abc import AsyncIterator

import pytest

from gateway.brokers.base import Broker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.brokers.sharded import ShardedBroker
from gateway.program.engine import one_of
from tests.brokers.postgres_nodes import postgres_broker
from tests.brokers.recorder import Recorder
from tests.postgres_fixtures import postgres_settings
from tests.postgres_server import PostgresServer
from tests.redis_fixtures import REDISES, opened_shards


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=["memory", *REDISES, "postgres"])
async def broker(request: pytest.FixtureRequest, recorder: Recorder) -> AsyncIterator[Broker]:
    """Each implementation, started as node ``n1``."""
    if request.param == "memory":
        memory = MemoryBroker()
        await memory.start("n1", recorder)
        yield memory
        await memory.close()
        return
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        async with postgres_broker(postgres_settings(server), recorder) as postgres:
            yield postgres
        return
    async with opened_shards(request.param, request) as [shards]:
        redis: Broker = one_of(ShardedBroker, [RedisBroker(shard) for shard in shards])
        await redis.start("n1", recorder)
        yield redis
        await redis.close()

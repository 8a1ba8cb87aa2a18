from collections.abc import AsyncIterator

import pytest

from gateway.brokers.base import Broker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from tests.brokers.postgres_nodes import postgres_broker
from tests.brokers.recorder import Recorder
from tests.postgres_fixtures import postgres_settings
from tests.postgres_server import PostgresServer
from tests.redis_fixtures import redis_url, started_shard, teach_scripts
from tests.redis_server import RedisServer


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=["memory", "redis", "fakeredis", "postgres"])
async def broker(
    request: pytest.FixtureRequest, shared_server: RedisServer, recorder: Recorder
) -> AsyncIterator[Broker]:
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
    with redis_url(request.param, shared_server) as url:
        async with started_shard(url) as shard:
            if request.param == "fakeredis":
                await teach_scripts(shard)
            redis = RedisBroker(shard)
            await redis.start("n1", recorder)
            yield redis
            await redis.close()

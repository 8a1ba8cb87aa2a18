from collections.abc import AsyncIterator

import pytest

from gateway.brokers.base import Broker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from tests.brokers.recorder import Recorder
from tests.redis_fixtures import redis_url, started_shard, teach_scripts
from tests.redis_server import RedisServer


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=["memory", "redis", "fakeredis"])
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
    with redis_url(request.param, shared_server) as url:
        async with started_shard(url) as shard:
            if request.param == "fakeredis":
                await teach_scripts(shard)
            redis = RedisBroker(shard)
            await redis.start("n1", recorder)
            yield redis
            await redis.close()

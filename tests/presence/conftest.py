from collections.abc import AsyncIterator

import pytest

from gateway.messages import ClientInfo
from gateway.presence.base import PresenceStore
from gateway.presence.memory import MemoryPresence
from gateway.presence.redis import RedisPresence
from gateway.presence.survey import SurveyPresence
from tests.broadcast.lines import started_line
from tests.redis_fixtures import redis_url, started_shard, teach_scripts
from tests.redis_server import RedisServer


@pytest.fixture
def swept() -> list[tuple[str, ClientInfo]]:
    return []


@pytest.fixture(params=["memory", "redis", "fakeredis", "broadcaster-memory", "broadcaster-postgres"])
async def store(
    request: pytest.FixtureRequest, shared_server: RedisServer, swept: list[tuple[str, ClientInfo]]
) -> AsyncIterator[PresenceStore]:
    """Each implementation, started as node ``n1``."""
    if request.param == "memory":
        memory = MemoryPresence()
        await memory.start("n1", lambda channel, info: swept.append((channel, info)))
        yield memory
        await memory.close()
        return
    if request.param.startswith("broadcaster"):
        url = "memory://"
        if request.param.endswith("postgres"):
            url = request.getfixturevalue("postgres").create_database("contract")
        async with started_line(url) as (_, peers):
            survey = SurveyPresence(peers)
            await survey.start("n1", lambda channel, info: swept.append((channel, info)))
            yield survey
            await survey.close()
        return
    with redis_url(request.param, shared_server) as url:
        async with started_shard(url) as shard:
            if request.param == "fakeredis":
                await teach_scripts(shard)
            redis = RedisPresence(shard)
            await redis.start("n1", lambda channel, info: swept.append((channel, info)))
            yield redis
            await redis.close()

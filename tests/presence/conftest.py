from collections.abc import AsyncIterator

import pytest

from gateway.messages import ClientInfo
from gateway.postgres.database import Database
from gateway.presence.base import PresenceStore
from gateway.presence.memory import MemoryPresence
from gateway.presence.postgres import PostgresPresence
from gateway.presence.redis import RedisPresence
from gateway.presence.sharded import ShardedPresence
from gateway.presence.survey import SurveyPresence
from gateway.program.engine import one_of
from tests.broadcast.lines import started_line
from tests.engines import PRESENCE
from tests.postgres_fixtures import postgres_settings, running
from tests.redis_fixtures import opened_shards


@pytest.fixture
def swept() -> list[tuple[str, ClientInfo]]:
    return []


@pytest.fixture(params=PRESENCE)
async def store(request: pytest.FixtureRequest, swept: list[tuple[str, ClientInfo]]) -> AsyncIterator[PresenceStore]:
    """Each implementation, started as node ``n1``."""
    if request.param == "memory":
        memory = MemoryPresence()
        await memory.start("n1", lambda channel, info: swept.append((channel, info)))
        yield memory
        await memory.close()
        return
    if request.param == "postgres":
        database = Database(postgres_settings(request.getfixturevalue("postgres_server")))
        postgres = PostgresPresence(database)
        async with running(database):
            await postgres.start("n1", lambda channel, info: swept.append((channel, info)))
            yield postgres
            await postgres.close()
        return
    if request.param.startswith("broadcaster"):
        url = "memory://"
        if request.param.endswith("postgres"):
            url = request.getfixturevalue("postgres_server").create_database("contract")
        async with started_line(url) as (_, peers):
            survey = SurveyPresence(peers)
            await survey.start("n1", lambda channel, info: swept.append((channel, info)))
            yield survey
            await survey.close()
        return
    async with opened_shards(request.param, request) as [shards]:
        redis: PresenceStore = one_of(ShardedPresence, [RedisPresence(shard) for shard in shards])
        await redis.start("n1", lambda channel, info: swept.append((channel, info)))
        yield redis
        await redis.close()

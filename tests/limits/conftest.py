from collections.abc import AsyncIterator

import pytest

from gateway.limits.base import LimitStore
from gateway.limits.memory import MemoryLimits
from gateway.limits.postgres import PostgresLimits
from gateway.limits.redis import RedisLimits
from gateway.postgres.database import Database
from tests.postgres_fixtures import postgres_settings, running
from tests.redis_fixtures import redis_url, started_shard, teach_scripts
from tests.redis_server import RedisServer


@pytest.fixture(params=["memory", "redis", "fakeredis", "postgres"])
async def store(request: pytest.FixtureRequest, shared_server: RedisServer) -> AsyncIterator[LimitStore]:
    if request.param == "memory":
        yield MemoryLimits()
        return
    if request.param == "postgres":
        database = Database(postgres_settings(request.getfixturevalue("postgres_server")))
        postgres = PostgresLimits(database)
        async with running(database):
            yield postgres
        return
    with redis_url(request.param, shared_server) as url:
        async with started_shard(url) as shard:
            if request.param == "fakeredis":
                await teach_scripts(shard)
            yield RedisLimits(shard)

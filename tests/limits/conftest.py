from collections.abc import AsyncIterator

import pytest

from gateway.limits.base import LimitStore
from gateway.limits.memory import MemoryLimits
from gateway.limits.postgres import PostgresLimits
from gateway.limits.redis import RedisLimits
from gateway.limits.sharded import ShardedLimits
from gateway.postgres.database import Database
from gateway.program.engine import one_of
from tests.engines import STORES
from tests.postgres_fixtures import postgres_settings, running
from tests.redis_fixtures import opened_shards


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[LimitStore]:
    if request.param == "memory":
        yield MemoryLimits()
        return
    if request.param == "postgres":
        database = Database(postgres_settings(request.getfixturevalue("postgres_server")))
        postgres = PostgresLimits(database)
        async with running(database):
            yield postgres
        return
    async with opened_shards(request.param, request) as [shards]:
        stores: list[LimitStore] = [RedisLimits(shard) for shard in shards]
        yield one_of(ShardedLimits, stores)

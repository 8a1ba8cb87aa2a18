from collections.abc import AsyncIterator

import pytest

from gateway.limits.base import LimitStore
from gateway.limits.memory import MemoryLimits
from gateway.limits.redis import RedisLimits
from gateway.limits.sharded import ShardedLimits
from gateway.program.engine import one_of
from tests.redis_fixtures import REDISES, opened_shards


@pytest.fixture(params=["memory", *REDISES])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[LimitStore]:
    if request.param == "memory":
        yield MemoryLimits()
        return
    async with opened_shards(request.param, request) as [shards]:
        stores: list[LimitStore] = [RedisLimits(shard) for shard in shards]
        yield one_of(ShardedLimits, stores)

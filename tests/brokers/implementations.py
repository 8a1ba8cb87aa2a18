"""The brokers, each with what it can do: the contract suite runs over all that have what a test is about."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from gateway.brokers.base import Broker, BrokerEvents
from gateway.brokers.broadcast import BroadcastBroker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from tests.broadcast.lines import started_line
from tests.kafka_server import KafkaServer
from tests.postgres_server import PostgresServer
from tests.redis_fixtures import redis_url, started_shard, teach_scripts
from tests.redis_server import RedisServer

Open = Callable[[pytest.FixtureRequest, BrokerEvents], AbstractAsyncContextManager[Broker]]


@dataclass(frozen=True)
class Implementation:
    """``open`` gives it started, as node ``n1``, over a server that is empty."""

    name: str
    open: Open
    history: bool = True
    """Keeps streams, with their positions and versions."""
    idempotency: bool = True
    """Remembers idempotency keys."""
    counts: bool = True
    """Tells how many nodes took a publication."""


@asynccontextmanager
async def _memory(_request: pytest.FixtureRequest, events: BrokerEvents) -> AsyncIterator[Broker]:
    async with _started(MemoryBroker(), events) as broker:
        yield broker


@asynccontextmanager
async def _redis(kind: str, request: pytest.FixtureRequest, events: BrokerEvents) -> AsyncIterator[Broker]:
    server: RedisServer = request.getfixturevalue("shared_server")
    with redis_url(kind, server) as url:
        async with started_shard(url) as shard:
            if kind == "fakeredis":
                await teach_scripts(shard)
            async with _started(RedisBroker(shard), events) as broker:
                yield broker


@asynccontextmanager
async def _broadcaster(scheme: str, request: pytest.FixtureRequest, events: BrokerEvents) -> AsyncIterator[Broker]:
    url = "memory://"
    if scheme == "redis":
        redis: RedisServer = request.getfixturevalue("server")
        url = redis.url
    elif scheme == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.create_database("contract")
    elif scheme == "kafka":
        kafka: KafkaServer = request.getfixturevalue("kafka")
        url = kafka.url
    async with started_line(url) as (_, peers), _started(BroadcastBroker(peers), events) as broker:
        yield broker


@asynccontextmanager
async def _started(broker: Broker, events: BrokerEvents) -> AsyncIterator[Broker]:
    await broker.start("n1", events)
    yield broker
    await broker.close()


def _over(scheme: str) -> Implementation:
    name, open_ = f"broadcaster-{scheme}", partial(_broadcaster, scheme)
    return Implementation(name, open_, history=False, idempotency=False, counts=False)


IMPLEMENTATIONS = [
    Implementation("memory", _memory),
    Implementation("redis", partial(_redis, "redis")),
    Implementation("fakeredis", partial(_redis, "fakeredis")),
    _over("memory"),
    _over("postgres"),
    _over("redis"),
    _over("kafka"),
]


def over(*, history: bool | None = None, idempotency: bool | None = None) -> pytest.MarkDecorator:
    """Run a test over those implementations that can, or cannot, do this."""
    found = [
        each for each in IMPLEMENTATIONS if history in (None, each.history) and idempotency in (None, each.idempotency)
    ]
    return pytest.mark.parametrize("implementation", found, ids=lambda each: each.name, indirect=True)

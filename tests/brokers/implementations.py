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
from gateway.brokers.sharded import ShardedBroker
from gateway.program.engine import one_of
from tests.broadcast.lines import started_line
from tests.brokers.postgres_nodes import postgres_broker
from tests.kafka_server import KafkaServer
from tests.postgres_fixtures import postgres_settings
from tests.postgres_server import PostgresServer
from tests.redis_fixtures import REDISES, opened_shards
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
    async with opened_shards(kind, request) as [shards]:
        brokers: list[Broker] = [RedisBroker(shard) for shard in shards]
        async with _started(one_of(ShardedBroker, brokers), events) as broker:
            yield broker


@asynccontextmanager
async def _postgres(request: pytest.FixtureRequest, events: BrokerEvents) -> AsyncIterator[Broker]:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    async with postgres_broker(postgres_settings(server), events) as broker:
        yield broker


@asynccontextmanager
async def _broadcaster(scheme: str, request: pytest.FixtureRequest, events: BrokerEvents) -> AsyncIterator[Broker]:
    url = "memory://"
    if scheme == "redis":
        redis: RedisServer = request.getfixturevalue("server")
        url = redis.url
    elif scheme == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
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
    *(Implementation(kind, partial(_redis, kind)) for kind in REDISES),
    Implementation("postgres", _postgres),
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

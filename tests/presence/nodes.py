"""Presence of several nodes over one real Redis, and what may happen to a node."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import patch

from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo
from gateway.presence.redis import RedisPresence
from gateway.redis.connection import unavailable
from gateway.redis.owned import Intervals
from gateway.redis.server import Server
from tests.redis.owners import freeze
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer

Members = list[tuple[str, ClientInfo]]


@asynccontextmanager
async def node(
    server: RedisServer, name: str, swept: Members | None = None, *, lease: float = 0.5, sweep: float = 0.1
) -> AsyncIterator[RedisPresence]:
    seen: Members = [] if swept is None else swept
    async with started_shard(server.url, io_timeout=0.5) as shard:
        presence = RedisPresence(shard, Intervals(lease, lease / 5, sweep))
        await presence.start(name, lambda channel, info: seen.append((channel, info)))
        try:
            yield presence
        finally:
            await presence.close()


async def die(presence: RedisPresence) -> None:
    """End a node's presence as kill -9 would: nothing is given back, and ``close`` finds nothing."""
    await freeze(presence)
    presence._members.clear()
    presence._owned._names = ()


def noted(server: RedisServer, owner: str) -> set[bytes]:
    """Channels in an owner's index."""
    with server.client() as client:
        return set().union(*(client.smembers(key) for key in client.keys(f"gateway:{{p*}}:x:{owner}")))


def cut(presence: RedisPresence) -> None:
    """Break the connection for commands."""
    assert isinstance(presence._shard, Server)
    connection = presence._shard._commands.connection
    assert connection is not None
    connection.drop("cut")


def others_are_back(presence: RedisPresence) -> None:
    """After an outage other nodes have had the time to find back, too."""
    presence._due = 0.0
    presence.renewed()


@contextmanager
def fail_at(
    presence: RedisPresence, number: int, *, carried_out: bool, times: int = sys.maxsize
) -> Iterator[Callable[[], int]]:
    """Cut the connection at one of the next commands, whether Redis has carried it out or not, and fail what follows.

    Gives what tells how many commands there were.
    """
    shard, sent = presence._shard, 0

    async def unanswered(call: Callable[..., Awaitable[Any]], words: Sequence[Any]) -> None:
        if carried_out:
            await call(*words)
        cut(presence)
        raise BrokerUnavailable

    def failing(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        def counted(*words: Any) -> Awaitable[Any]:
            nonlocal sent
            sent += 1
            if sent == number:
                return asyncio.ensure_future(unanswered(call, words))
            return unavailable() if number < sent < number + times else call(*words)

        return counted

    # a script does not go by way of `execute`
    with patch.object(shard, "execute", failing(shard.execute)), patch.object(shard, "run", failing(shard.run)):
        yield lambda: sent

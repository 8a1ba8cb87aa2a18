"""What may happen to a node that owns entries in Redis, and what is seen of it."""

import asyncio
from typing import Any, Protocol

from gateway.redis.owned import OwnedEntries
from gateway.redis.shard import Shard
from tests.redis_server import RedisServer


class Owning(Protocol):
    """A store of owned entries."""

    _owned: OwnedEntries[Any]
    _shard: Shard


def certain(store: Owning) -> bool:
    """Whether Redis holds for its owner what is true, as far as is known."""
    owned = store._owned
    return owned.held and not (owned._doubtful or owned.moving)


def doubt(store: Owning) -> None:
    """Have it look again which server it is, as after a reconnect."""
    store._owned._reconnects = -1


async def freeze(store: Owning) -> None:
    """Have a node do nothing by itself."""
    tasks = store._owned._tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def keys(server: RedisServer, pattern: str) -> list[bytes]:
    with server.client() as client:
        found: list[bytes] = client.keys(pattern)
        return found

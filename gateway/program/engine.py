"""What joins the nodes, as the settings choose it: the broker, and the stores beside it."""

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from gateway.blocks.base import BlockStore
from gateway.blocks.memory import MemoryBlocks
from gateway.blocks.redis import RedisBlocks
from gateway.blocks.sharded import ShardedBlocks
from gateway.brokers.base import Broker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.brokers.sharded import ShardedBroker
from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.health import ServerHealth
from gateway.leases.base import Leases
from gateway.leases.memory import MemoryLeases
from gateway.leases.redis import RedisLeases
from gateway.leases.sharded import ShardedLeases
from gateway.limits.base import LimitStore
from gateway.limits.memory import MemoryLimits
from gateway.limits.redis import RedisLimits
from gateway.limits.sharded import ShardedLimits
from gateway.occupancy.base import Occupancy
from gateway.occupancy.memory import MemoryOccupancy
from gateway.occupancy.redis import RedisOccupancy
from gateway.occupancy.sharded import ShardedOccupancy
from gateway.presence.base import PresenceStore
from gateway.presence.memory import MemoryPresence
from gateway.presence.redis import RedisPresence
from gateway.presence.sharded import ShardedPresence
from gateway.redis.opening import open_shards
from gateway.redis.shard import Shard

_Part = TypeVar("_Part")
_Whole = TypeVar("_Whole")


class Engine:
    """Broker and stores of one node; those of Redis share its connections."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.shards: list[Shard] = []
        """The connections to Redis; none for the memory engine."""
        self._apart: list[Shard] = []
        self.broker: Broker
        self.presence: PresenceStore
        self.leases: Leases
        self.occupancy: Occupancy
        self.limits: LimitStore
        self.blocks: BlockStore
        if settings.engine.type == "memory":
            leases = MemoryLeases()
            self.broker, self.presence = MemoryBroker(clock, leases.holds), MemoryPresence()
            self.leases, self.occupancy, self.limits = leases, MemoryOccupancy(), MemoryLimits(clock)
            self.blocks = MemoryBlocks(clock)
        else:
            self._join_by_redis(settings, clock)

    def _join_by_redis(self, settings: Settings, clock: Callable[[], float]) -> None:
        shards = open_shards(settings.engine.redis)
        apart = open_shards(settings.presence.redis, "presence.redis") if settings.presence.enabled else []
        self.shards = [*shards, *apart]
        self._apart = apart
        self.broker = one_of(ShardedBroker, [RedisBroker(shard, clock) for shard in shards])
        self.presence = one_of(ShardedPresence, [RedisPresence(shard) for shard in apart or shards])
        self.leases = one_of(ShardedLeases, [RedisLeases(shard) for shard in shards])
        self.occupancy = one_of(ShardedOccupancy, [RedisOccupancy(shard) for shard in shards])
        limits: list[LimitStore] = [RedisLimits(shard) for shard in shards]
        self.limits = one_of(ShardedLimits, limits)
        self.blocks = one_of(ShardedBlocks, [RedisBlocks(shard) for shard in shards])

    def presence_servers(self) -> list[ServerHealth]:
        """How the servers are that presence has for itself."""
        each = [(number, server) for number, shard in enumerate(self._apart) for server in shard.health()]
        return [replace(server, shard=f"presence:{number}") for number, server in each]

    async def start(self) -> None:
        await asyncio.gather(*(shard.start() for shard in self.shards))

    async def close(self) -> None:
        await asyncio.gather(*(shard.close() for shard in self.shards))


def one_of(sharded: Callable[[list[_Part]], _Whole], parts: list[_Part]) -> _Part | _Whole:
    """Of one part that, of several what joins them."""
    return parts[0] if len(parts) == 1 else sharded(parts)


@dataclass(frozen=True)
class Environment:
    """What a gateway finds in its process: the time, and what joins it to other nodes."""

    clock: Callable[[], float] = time.time
    wheel: Callable[[], Wheel] = Wheel
    engine: Callable[[Settings], Engine] = Engine
    on_start: Callable[[object], None] = lambda _gateway: None
    """Is told of each gateway that is about to run."""


ENVIRONMENT: ContextVar[Environment] = ContextVar("ENVIRONMENT", default=Environment())  # noqa: B039  frozen
"""Those of the gateways that start in this context: `gateway.testing` brings its own."""

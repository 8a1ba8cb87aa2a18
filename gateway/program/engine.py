"""What joins the nodes, as the settings choose it: the broker, and the stores beside it."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from gateway.blocks.base import BlockStore
from gateway.blocks.memory import MemoryBlocks
from gateway.blocks.none import NoBlocks
from gateway.blocks.redis import RedisBlocks
from gateway.broadcast.line import Line
from gateway.broadcast.peers import Peers
from gateway.brokers.base import Broker
from gateway.brokers.broadcast import BroadcastBroker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.leases.base import Leases
from gateway.leases.memory import MemoryLeases
from gateway.leases.redis import RedisLeases
from gateway.limits.base import LimitStore
from gateway.limits.memory import MemoryLimits
from gateway.limits.redis import RedisLimits
from gateway.occupancy.base import Occupancy
from gateway.occupancy.memory import MemoryOccupancy
from gateway.occupancy.redis import RedisOccupancy
from gateway.presence.base import PresenceStore
from gateway.presence.memory import MemoryPresence
from gateway.presence.redis import RedisPresence
from gateway.presence.survey import SurveyPresence
from gateway.redis.shard import Shard


class Engine:
    """Broker and stores of one node; those of Redis share its connections."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.shard: Shard | None = None
        """The connections to Redis, if that is the engine."""
        self.peers: Peers | None = None
        """The other nodes on a line of `broadcaster`, if that is the engine."""
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
        elif settings.engine.type == "broadcaster":
            broadcaster = settings.engine.broadcaster
            peers = self.peers = Peers(Line(broadcaster), broadcaster.probe_interval)
            self.broker, self.presence = BroadcastBroker(peers, clock), SurveyPresence(peers)
            # nothing is kept: who needs leases or occupancy is refused at the start, and limits are each node's own
            self.leases, self.occupancy, self.limits = MemoryLeases(), MemoryOccupancy(), MemoryLimits(clock)
            self.blocks = NoBlocks()
        else:
            shard = self.shard = Shard(settings.engine.redis)
            self.broker, self.presence = RedisBroker(shard, clock), RedisPresence(shard)
            self.leases, self.occupancy, self.limits = RedisLeases(shard), RedisOccupancy(shard), RedisLimits(shard)
            self.blocks = RedisBlocks(shard)

    async def start(self) -> None:
        if self.shard is not None:
            await self.shard.start()
        if self.peers is not None:
            await self.peers.line.start()

    async def close(self) -> None:
        if self.peers is not None:
            await self.peers.leave()
            await self.peers.line.close()
        if self.shard is not None:
            await self.shard.close()


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

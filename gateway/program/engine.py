"""What joins the nodes, as the settings choose it: the broker, and the stores beside it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from gateway.blocks.base import BlockStore
from gateway.blocks.memory import MemoryBlocks
from gateway.blocks.none import NoBlocks
from gateway.blocks.redis import RedisBlocks
from gateway.blocks.sharded import ShardedBlocks
from gateway.broadcast.line import Line
from gateway.broadcast.peers import Peers
from gateway.brokers.base import Broker
from gateway.brokers.broadcast import BroadcastBroker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.brokers.rules import Rule
from gateway.brokers.sharded import ShardedBroker
from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.errors import SettingsError
from gateway.health import ServerHealth
from gateway.leases.base import Leases
from gateway.leases.memory import MemoryLeases
from gateway.leases.redis import RedisLeases
from gateway.leases.sharded import ShardedLeases
from gateway.limits.base import LimitStore
from gateway.limits.memory import MemoryLimits
from gateway.limits.redis import RedisLimits
from gateway.limits.sharded import ShardedLimits
from gateway.maps.base import MapStore
from gateway.maps.memory import MemoryMaps
from gateway.maps.redis import RedisMaps
from gateway.maps.sharded import ShardedMaps
from gateway.occupancy.base import Occupancy
from gateway.occupancy.memory import MemoryOccupancy
from gateway.occupancy.redis import RedisOccupancy
from gateway.occupancy.sharded import ShardedOccupancy
from gateway.outbox.base import Outbox
from gateway.outbox.memory import MemoryOutbox
from gateway.outbox.redis import RedisOutbox
from gateway.outbox.sharded import ShardedOutbox
from gateway.presence.base import PresenceStore
from gateway.presence.memory import MemoryPresence
from gateway.presence.redis import RedisPresence
from gateway.presence.sharded import ShardedPresence
from gateway.presence.survey import SurveyPresence
from gateway.redis.opening import open_shards
from gateway.redis.shard import Shard

if TYPE_CHECKING:
    from gateway.postgres.database import Database

_Part = TypeVar("_Part")
_Whole = TypeVar("_Whole")


class Engine:
    """Broker and stores of one node; those of Redis share its connections."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.shards: list[Shard] = []
        """The connections to Redis, if that is the engine."""
        self.database: Database | None = None
        """The connections to PostgreSQL, if that is the engine."""
        self.peers: Peers | None = None
        """The other nodes on a line of `broadcaster`, if that is the engine."""
        self._apart: list[Shard] = []
        self.broker: Broker
        self.presence: PresenceStore
        self.leases: Leases
        self.occupancy: Occupancy
        self.limits: LimitStore
        self.blocks: BlockStore
        self.outbox: Outbox | None = None
        """None where there are no apps, and where nothing can be kept of what they have to be told."""
        self.maps: MapStore | None = None
        """None where there are none."""
        self._rules: Callable[[Sequence[Rule]], None] = lambda _rules: None
        if settings.engine.type == "memory":
            leases = MemoryLeases()
            broker = MemoryBroker(clock, leases.holds)
            self.broker, self.presence, self.maps = broker, MemoryPresence(), MemoryMaps(broker.deliver, clock)
            self.leases, self.occupancy, self.limits = leases, MemoryOccupancy(), MemoryLimits(clock)
            self.blocks = MemoryBlocks(clock)
            self.outbox = MemoryOutbox(clock=clock) if settings.pusher.enabled else None
        elif settings.engine.type == "postgres":
            self._join_by_postgres(settings, clock)
        elif settings.engine.type == "broadcaster":
            self._join_by_broadcaster(settings, clock)
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
        if settings.pusher.enabled:
            outboxes: list[Outbox] = [RedisOutbox(shard) for shard in shards]
            self.outbox = one_of(ShardedOutbox, outboxes)
        maps: list[MapStore] = [RedisMaps(shard, clock) for shard in shards]
        self.maps = one_of(ShardedMaps, maps)

    def _join_by_postgres(self, settings: Settings, clock: Callable[[], float]) -> None:
        try:  # an extra, which most do without
            from gateway.blocks.postgres import PostgresBlocks
            from gateway.brokers.postgres import PostgresBroker
            from gateway.leases.postgres import PostgresLeases
            from gateway.limits.postgres import PostgresLimits
            from gateway.occupancy.postgres import PostgresOccupancy
            from gateway.postgres.database import Database
            from gateway.presence.postgres import PostgresPresence
        except ImportError as error:
            raise SettingsError(
                'engine.type = "postgres" needs the library asyncpg: pip install "wsgateway[postgres]"'
            ) from error
        database = self.database = Database(settings.engine.postgres)
        self.broker, self.presence = PostgresBroker(database, clock), PostgresPresence(database)
        self.leases, self.occupancy = PostgresLeases(database), PostgresOccupancy(database)
        self.limits, self.blocks = PostgresLimits(database), PostgresBlocks(database)
        self._rules = self.broker.set_rules

    def _join_by_broadcaster(self, settings: Settings, clock: Callable[[], float]) -> None:
        broadcaster = settings.engine.broadcaster
        peers = self.peers = Peers(Line(broadcaster), broadcaster.probe_interval)
        self.broker, self.presence = BroadcastBroker(peers, clock), SurveyPresence(peers)
        # nothing is kept: who needs leases or occupancy is refused at the start, and limits are each node's own
        self.leases, self.occupancy, self.limits = MemoryLeases(), MemoryOccupancy(), MemoryLimits(clock)
        self.blocks = NoBlocks()

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Say how channels keep their streams, to a backend that takes publications from others than nodes."""
        self._rules(rules)

    def presence_servers(self) -> list[ServerHealth]:
        """How the servers are that presence has for itself."""
        each = [(number, server) for number, shard in enumerate(self._apart) for server in shard.health()]
        return [replace(server, shard=f"presence:{number}") for number, server in each]

    async def start(self) -> None:
        await asyncio.gather(*(each.start() for each in self._connections()))

    async def close(self) -> None:
        if self.peers is not None:
            await self.peers.leave()
        await asyncio.gather(*(each.close() for each in self._connections()))

    def _connections(self) -> "list[Shard | Database | Line]":
        found: list[Shard | Database | Line] = [*self.shards]
        if self.database is not None:
            found.append(self.database)
        if self.peers is not None:
            found.append(self.peers.line)
        return found


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

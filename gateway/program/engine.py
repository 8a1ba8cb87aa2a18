"""What joins the nodes, as the settings choose it: the broker, and the stores beside it."""

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.blocks.base import BlockStore
from gateway.blocks.memory import MemoryBlocks
from gateway.blocks.redis import RedisBlocks
from gateway.brokers.base import Broker
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis import RedisBroker
from gateway.brokers.rules import Rule
from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.errors import SettingsError
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
from gateway.redis.shard import Shard

if TYPE_CHECKING:
    from gateway.postgres.database import Database


class Engine:
    """Broker and stores of one node; those of Redis share its connections."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.shard: Shard | None = None
        """The connections to Redis; None for other engines."""
        self.database: Database | None = None
        """The connections to PostgreSQL; None for other engines."""
        self.broker: Broker
        self.presence: PresenceStore
        self.leases: Leases
        self.occupancy: Occupancy
        self.limits: LimitStore
        self.blocks: BlockStore
        self._rules: Callable[[Sequence[Rule]], None] = lambda _rules: None
        if settings.engine.type == "memory":
            leases = MemoryLeases()
            self.broker, self.presence = MemoryBroker(clock, leases.holds), MemoryPresence()
            self.leases, self.occupancy, self.limits = leases, MemoryOccupancy(), MemoryLimits(clock)
            self.blocks = MemoryBlocks(clock)
        elif settings.engine.type == "postgres":
            self._join_by_postgres(settings, clock)
        else:
            shard = self.shard = Shard(settings.engine.redis)
            self.broker, self.presence = RedisBroker(shard, clock), RedisPresence(shard)
            self.leases, self.occupancy, self.limits = RedisLeases(shard), RedisOccupancy(shard), RedisLimits(shard)
            self.blocks = RedisBlocks(shard)

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

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Say how channels keep their streams, to a backend that takes publications from others than nodes."""
        self._rules(rules)

    async def start(self) -> None:
        for connections in (self.shard, self.database):
            if connections is not None:
                await connections.start()

    async def close(self) -> None:
        for connections in (self.shard, self.database):
            if connections is not None:
                await connections.close()


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

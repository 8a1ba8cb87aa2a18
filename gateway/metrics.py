"""Every metric of a node. Counting is an addition to an attribute; what is told of them is in `web.exposition`."""

import time
from collections import Counter
from collections.abc import Callable, Mapping

from msgspec import Struct

from gateway.health import ServerHealth


class Gauges(Struct, frozen=True):
    """What is read off the node when metrics are asked for."""

    connections: int
    users: int
    subscriptions: int
    channels: int
    nodes: int
    broker_connected: bool
    broker_lag: float
    broker_reconnects: int
    skipped: Mapping[str, int] = {}
    """What other releases have written and this one cannot read, in this process, by kind."""
    broker_servers: tuple[ServerHealth, ...] = ()
    broker_refused: Mapping[str, int] = {}
    """How often the broker has refused something, by kind."""


class Metrics:
    """Counters of one node: several gateways live in one process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.started_at = clock()
        self.publications_in = 0
        self.publications_out = 0
        self.deliveries = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.commands: Counter[str] = Counter()
        self.errors: Counter[int] = Counter()
        self.disconnects: Counter[int] = Counter()
        self.refused_connections: Counter[str] = Counter()
        self.failed_publications: Counter[str] = Counter()
        self.over_limit: Counter[tuple[str, str, bool]] = Counter()
        """By the layer of client.rate_limit, the command, and whether it was only counted."""
        self.lost_positions = 0
        self.recoveries: Counter[bool] = Counter()
        self.gauges: Callable[[], Gauges] | None = None

    def watch(self, gauges: Callable[[], Gauges]) -> None:
        self.gauges = gauges

    def delivered(self, messages: int, size: int) -> None:
        self.deliveries += messages
        self.bytes_out += size

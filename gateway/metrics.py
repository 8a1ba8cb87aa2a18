"""Every metric of a node. Counting is an addition to an attribute; what is told of them is in `web.exposition`."""

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from gateway.health import ServerHealth

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for times, from what a quiet node takes to what a deadline ends."""

LAGS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Bounds for times that are waited for on purpose."""

SIZES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Bounds for numbers of publications."""


class Histogram:
    """How many values lie within each of some fixed bounds. To observe one is a bisection and two additions."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Of each bound those that are not greater, but than the bound before; the last is of what is beyond all."""
        self.total = 0.0
        """The sum of the values."""

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Histograms(dict[str, Histogram]):
    """Times by the name of what took them, made as they come. Names are the code's own, never a client's."""

    def __missing__(self, name: str) -> Histogram:
        found = self[name] = Histogram()
        return found


class NamespaceCounts:
    """What is counted of one namespace, where `prometheus.namespaces` wants it."""

    __slots__ = ("deliveries", "publications_in", "publications_out")

    def __init__(self) -> None:
        self.publications_in = 0
        self.publications_out = 0
        self.deliveries = 0


class Reads(Struct, frozen=True):
    """How often something was asked of the store, and how often an answer served others who asked meanwhile."""

    put: int = 0
    shared: int = 0

    def __add__(self, other: "Reads") -> "Reads":
        return Reads(self.put + other.put, self.shared + other.shared)


class SlowClient(Protocol):
    """One client that reads too slowly."""

    def waiting(self) -> int:
        """Bytes that wait for it in this process."""


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
    draining: bool = False
    warnings: int = 0
    """What an operator has to see to, by the health check."""
    waiting_publications: int = 0
    """Publications that wait for the broker."""
    waiting_bytes: int = 0
    """Bytes of their data."""
    history_reads: Reads = Reads()
    presence_reads: Reads = Reads()
    name: str = ""
    version: str = ""


class Metrics:
    """Counters of one node: several gateways live in one process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.started_at = clock()
        self.publications_in = 0
        self.publications_out = 0
        self.deliveries = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.commands: defaultdict[str, int] = defaultdict(int)  # counts faster than a Counter, and each command does
        self.errors: Counter[int] = Counter()
        self.disconnects: Counter[int] = Counter()
        self.opened_connections: Counter[str] = Counter()
        """By transport."""
        self.refused_connections: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.failed_publications: Counter[str] = Counter()
        self.over_limit: Counter[tuple[str, str, bool]] = Counter()
        """By the layer of client.rate_limit, the command, and whether it was only counted."""
        self.lost_positions = 0
        self.recoveries: Counter[bool] = Counter()
        self.dropped: Counter[str] = Counter()
        """Publications that somebody did not get, by who: `held`, `listener`, `plain`."""
        self.jwks_fetches: Counter[bool] = Counter()
        """By whether they succeeded."""
        self.api_errors: Counter[tuple[str, int]] = Counter()
        """By method and code."""
        self.namespaces: dict[str, NamespaceCounts] = {}
        """Those that are counted by themselves."""
        self.delivery_lag = Histogram()
        self.loop_lag = Histogram()
        self.ping_round_trip = Histogram()
        self.connect_time = Histogram()
        self.recovery_size = Histogram(SIZES)
        self.api_time = Histograms()
        """By method."""
        self.handler_time = Histograms()
        """By event."""
        self.proxy_time: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)
        """What backends took that decide events, by event and name of the proxy."""
        self.proxy_errors: Counter[tuple[str, str, str]] = Counter()
        """What they did not decide, by event, name and kind."""
        self.proxy_calls: Counter[tuple[str, str]] = Counter()
        """Calls that are under way, by event and name."""
        self.webhook_requests: Counter[str] = Counter()
        """Requests to the webhooks of apps, by how they ended."""
        self.webhook_events: Counter[str] = Counter()
        """Events of apps: `told`, `put_aside`, `lost`."""
        self.webhook_time = Histogram()
        self.webhook_lag = Histogram(LAGS)
        """From when an event happened to when it was told."""
        self.webhook_failing = 0
        """Webhooks that this node is telling, and that fail just now."""
        self.slow: set[SlowClient] = set()
        """Clients that are slow just now."""

    @property
    def queued(self) -> int:
        """Bytes that wait in this process for slow clients."""
        return sum(client.waiting() for client in self.slow)

    def delivered(self, messages: int, size: int) -> None:
        self.deliveries += messages
        self.bytes_out += size

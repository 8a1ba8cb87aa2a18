"""Every metric of a node. Counting is an addition to an attribute; families are made when scraped."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE_LATEST", "Gauges", "Metrics"]


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


class Metrics:
    """Counters of one node; a collector of its own, so that several gateways live in one process."""

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
        self.lost_positions = 0
        self.recoveries: Counter[bool] = Counter()
        self._gauges: Callable[[], Gauges] | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def watch(self, gauges: Callable[[], Gauges]) -> None:
        self._gauges = gauges

    def delivered(self, messages: int, size: int) -> None:
        self.deliveries += messages
        self.bytes_out += size

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        if self._gauges is not None:
            yield from _gauges(self._gauges())

    def _counters(self) -> Iterator[Metric]:
        for name, help_text, value in (
            ("publications_in", "Publications sent to the broker by this node", self.publications_in),
            ("publications_out", "Publications that came from the broker", self.publications_out),
            ("deliveries", "Messages handed to connections by the fan-out", self.deliveries),
            ("received_bytes", "Bytes of commands received from clients", self.bytes_in),
            ("sent_bytes", "Bytes of messages handed to connections", self.bytes_out),
            ("lost_positions", "Subscriptions that were found to have missed a publication", self.lost_positions),
        ):
            yield CounterMetricFamily(f"gateway_{name}", help_text, value=value)
        commands = CounterMetricFamily("gateway_commands", "Commands of clients", labels=["command"])
        for command, count in self.commands.items():
            commands.add_metric([command], count)
        errors = CounterMetricFamily("gateway_errors", "Errors answered to clients", labels=["code"])
        for code, count in self.errors.items():
            errors.add_metric([str(code)], count)
        disconnects = CounterMetricFamily("gateway_disconnects", "Connections ended, by code", labels=["code"])
        for code, count in self.disconnects.items():
            disconnects.add_metric([str(code)], count)
        recoveries = CounterMetricFamily("gateway_recoveries", "Attempts to recover", labels=["recovered"])
        for recovered, count in self.recoveries.items():
            recoveries.add_metric([str(recovered).lower()], count)
        yield from (commands, errors, disconnects, recoveries)


def _gauges(gauges: Gauges) -> Iterator[Metric]:
    for name, help_text, value in (
        ("connections", "Clients connected to this node", gauges.connections),
        ("users", "Users connected to this node", gauges.users),
        ("subscriptions", "Subscriptions on this node", gauges.subscriptions),
        ("channels", "Channels with subscribers on this node", gauges.channels),
        ("nodes", "Nodes that this node knows to be alive", gauges.nodes),
        ("broker_connected", "Whether the broker answers and is heard", int(gauges.broker_connected)),
        ("broker_lag_seconds", "Time from publish to arrival, last measured", gauges.broker_lag),
    ):
        yield GaugeMetricFamily(f"gateway_{name}", help_text, value=value)
    yield CounterMetricFamily(
        "gateway_broker_reconnects", "Times the broker connection came back", value=gauges.broker_reconnects
    )

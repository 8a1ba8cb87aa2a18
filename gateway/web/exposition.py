"""Metrics in Prometheus' text format; the only importer of prometheus_client, which a start need not wait for."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from gateway import files
from gateway.health import ServerHealth
from gateway.metrics import Gauges, Metrics

__all__ = ["CONTENT_TYPE_LATEST", "render"]


def render(metrics: Metrics) -> bytes:
    """The text of ``/metrics``, whose type is `CONTENT_TYPE_LATEST`."""
    registry = CollectorRegistry()
    registry.register(_Collector(metrics))
    return generate_latest(registry)


class _Collector:
    """What prometheus_client reads families from."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from _counters(self._metrics)
        if self._metrics.gauges is not None:
            yield from _gauges(self._metrics.gauges())


def _counters(metrics: Metrics) -> Iterator[Metric]:
    for name, help_text, value in (
        ("publications_in", "Publications sent to the broker by this node", metrics.publications_in),
        ("publications_out", "Publications that came from the broker", metrics.publications_out),
        ("deliveries", "Messages handed to connections by the fan-out", metrics.deliveries),
        ("received_bytes", "Bytes of commands received from clients", metrics.bytes_in),
        ("sent_bytes", "Bytes of messages handed to connections", metrics.bytes_out),
        ("lost_positions", "Subscriptions that were found to have missed a publication", metrics.lost_positions),
    ):
        yield CounterMetricFamily(f"gateway_{name}", help_text, value=value)
    commands = CounterMetricFamily("gateway_commands", "Commands of clients", labels=["command"])
    for command, count in metrics.commands.items():
        commands.add_metric([command], count)
    errors = CounterMetricFamily("gateway_errors", "Errors answered to clients", labels=["code"])
    for code, count in metrics.errors.items():
        errors.add_metric([str(code)], count)
    disconnects = CounterMetricFamily("gateway_disconnects", "Connections ended, by code", labels=["code"])
    for code, count in metrics.disconnects.items():
        disconnects.add_metric([str(code)], count)
    refused = CounterMetricFamily("gateway_refused_connections", "Connections not admitted", labels=["reason"])
    for reason, count in (metrics.refused_connections + files.CUT).items():
        refused.add_metric([reason], count)
    recoveries = CounterMetricFamily("gateway_recoveries", "Attempts to recover", labels=["recovered"])
    for recovered, count in metrics.recoveries.items():
        recoveries.add_metric([str(recovered).lower()], count)
    failed = CounterMetricFamily(
        "gateway_failed_publications",
        "Publications that failed, by whether they may be stored",
        labels=["stored"],
    )
    for stored, count in metrics.failed_publications.items():
        failed.add_metric([stored], count)
    over = CounterMetricFamily(
        "gateway_over_limit", "What was over a rate limit", labels=["layer", "command", "dry_run"]
    )
    for (layer, command, dry_run), count in metrics.over_limit.items():
        over.add_metric([layer, command, str(dry_run).lower()], count)
    yield from (commands, errors, disconnects, refused, recoveries, failed, over)


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
    skipped = CounterMetricFamily(
        "gateway_skipped_messages", "Messages and entries of other releases that could not be read", labels=["kind"]
    )
    for kind, count in gauges.skipped.items():
        skipped.add_metric([kind], count)
    yield skipped
    yield CounterMetricFamily(
        "gateway_broker_reconnects", "Times the broker connection came back", value=gauges.broker_reconnects
    )
    refused = CounterMetricFamily("gateway_broker_errors", "What the broker has refused, by kind", labels=["kind"])
    for kind, count in gauges.broker_refused.items():
        refused.add_metric([kind], count)
    yield refused
    yield from _shards(gauges.broker_servers)


def _shards(servers: Iterable[ServerHealth]) -> Iterator[Metric]:
    """Each by the number of its address in the settings, and by its name there or in its cluster."""
    labels = ["shard", "server"]
    connected = GaugeMetricFamily("gateway_broker_shard_connected", "Whether the server answers", labels=labels)
    deaf = GaugeMetricFamily("gateway_broker_shard_deaf", "Whether nothing arrives from the server", labels=labels)
    lag = GaugeMetricFamily("gateway_broker_shard_lag_seconds", "Time from publish to arrival", labels=labels)
    reconnects = CounterMetricFamily("gateway_broker_shard_reconnects", "Times it came back", labels=labels)
    keys = GaugeMetricFamily("gateway_broker_shard_keys", "Keys of the database", labels=labels)
    memory = GaugeMetricFamily("gateway_broker_shard_memory_bytes", "Memory that the server uses", labels=labels)
    most = GaugeMetricFamily("gateway_broker_shard_max_memory_bytes", "Memory it may use, 0: any", labels=labels)
    for server in servers:
        names = [server.shard, server.server]
        connected.add_metric(names, int(server.connected))
        deaf.add_metric(names, int(server.deaf))
        lag.add_metric(names, server.lag)
        reconnects.add_metric(names, server.reconnects)
        for family, value in ((keys, server.keys), (memory, server.memory), (most, server.max_memory)):
            if value >= 0:
                family.add_metric(names, value)
    yield from (connected, deaf, lag, reconnects, keys, memory, most)

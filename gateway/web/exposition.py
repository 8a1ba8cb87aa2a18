"""What is told of a node's metrics: each family's name, kind, meaning and labels, written once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from platform import python_version
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from gateway import files
from gateway.health import ServerHealth
from gateway.metrics import Gauges, Histogram, Metrics, NamespaceCounts, Reads
from gateway.web.process import Process

Kind = Literal["counter", "gauge", "histogram"]
Value = float | Histogram
Values = Iterable[tuple[tuple[str, ...], Value]]
"""By the values of the labels."""


class Family(Struct, array_like=True):
    """One metric with its samples, as processes tell it each other: each a name, labels and a value."""

    name: str
    kind: Kind
    help: str
    samples: list[tuple[str, dict[str, str], float]]


class Reading(NamedTuple):
    """What the metrics of one node are read from."""

    metrics: Metrics
    gauges: Gauges
    process: Process


class Definition(Struct, frozen=True):
    """One metric. Its unit is the end of its name; that of a counter has ``_total`` besides."""

    kind: Kind
    name: str
    help: str
    read: Callable[[Reading], Values]
    labels: tuple[str, ...] = ()
    """Beside ``node``, which all of a node's have."""

    @property
    def exposed(self) -> str:
        """The name as it is written: of a histogram without what its parts have besides."""
        return self.name + "_total" * (self.kind == "counter")

    def family(self, reading: Reading, node: Mapping[str, str]) -> Family:
        samples: list[tuple[str, dict[str, str], float]] = []
        for values, value in self.read(reading):
            labels = {**node, **dict(zip(self.labels, values, strict=True))}
            if isinstance(value, Histogram):
                samples += _buckets(self.name, labels, value)
            else:
                samples.append((self.exposed, labels, float(value)))
        return Family(self.name, self.kind, self.help, samples)


def read(node: str, reading: Reading) -> list[Family]:
    """Every metric of the node with this id."""
    return [definition.family(reading, {"node": node}) for definition in DEFINITIONS]


def _buckets(name: str, labels: dict[str, str], histogram: Histogram) -> Iterator[tuple[str, dict[str, str], float]]:
    """Cumulative, as Prometheus wants them."""
    count = 0
    for bound, more in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        count += more
        yield f"{name}_bucket", {**labels, "le": "+Inf" if bound == float("inf") else str(bound)}, count
    yield f"{name}_count", labels, count
    yield f"{name}_sum", labels, histogram.total


# — how a value is read —


def _one(read: Callable[[Reading], Value]) -> Callable[[Reading], Values]:
    return lambda reading: [((), read(reading))]


def _by(read: Callable[[Reading], Mapping[Any, Value]]) -> Callable[[Reading], Values]:
    """By one label, whose values are the keys, or by several."""
    return lambda reading: [(_texts(key), value) for key, value in read(reading).items()]


def _texts(key: Any) -> tuple[str, ...]:
    values = key if isinstance(key, tuple) else (key,)
    return tuple(str(each).lower() if isinstance(each, bool) else str(each) for each in values)


def _reads(read: Callable[[Reading], Reads]) -> Callable[[Reading], Values]:
    return _by(lambda reading: {False: read(reading).put, True: read(reading).shared})


def _servers(read: Callable[[ServerHealth], float]) -> Callable[[Reading], Values]:
    return lambda reading: [((each.shard, each.server), read(each)) for each in reading.gauges.broker_servers]


def _told(read: Callable[[ServerHealth], float]) -> Callable[[Reading], Values]:
    """Of those servers that tell it, or may be asked."""
    servers = _servers(read)
    return lambda reading: [
        (names, value) for names, value in servers(reading) if isinstance(value, Histogram) or value >= 0
    ]


def _namespaces(read: Callable[[NamespaceCounts], float]) -> Callable[[Reading], Values]:
    return _by(lambda reading: {name: read(counts) for name, counts in reading.metrics.namespaces.items()})


def _known(read: Callable[[Process], float | None]) -> Callable[[Reading], Values]:
    """What not every system tells."""
    return lambda reading: [((), value) for value in [read(reading.process)] if value is not None]


def _counter(name: str, text: str, read: Callable[[Metrics], float]) -> Definition:
    return Definition("counter", name, text, _one(lambda reading: read(reading.metrics)))


def _counters(name: str, label: str, text: str, read: Callable[[Metrics], Mapping[Any, int]]) -> Definition:
    return Definition("counter", name, text, _by(lambda reading: read(reading.metrics)), tuple(label.split()))


def _gauge(name: str, text: str, read: Callable[[Gauges], float]) -> Definition:
    return Definition("gauge", name, text, _one(lambda reading: read(reading.gauges)))


def _histogram(name: str, text: str, read: Callable[[Metrics], Histogram]) -> Definition:
    return Definition("histogram", name, text, _one(lambda reading: read(reading.metrics)))


def _histograms(name: str, label: str, text: str, read: Callable[[Metrics], Mapping[str, Histogram]]) -> Definition:
    return Definition("histogram", name, text, _by(lambda reading: read(reading.metrics)), (label,))


def _build(reading: Reading) -> Values:
    return [((reading.gauges.name, reading.gauges.version, python_version()), 1)]


def _broker_errors(reading: Reading) -> Values:
    return _by(lambda reading: reading.gauges.broker_refused)(reading)


SERVER = ("shard", "server")
"""A server by the number of its address in the settings, and by its name there or in its cluster."""

DEFINITIONS: tuple[Definition, ...] = (
    Definition("gauge", "gateway_build_info", "1, and what runs here", _build, ("name", "version", "python")),
    # — what there is —
    _gauge("gateway_connections", "Clients connected to this node", lambda g: g.connections),
    _gauge("gateway_users", "Users connected to this node", lambda g: g.users),
    _gauge("gateway_subscriptions", "Subscriptions on this node", lambda g: g.subscriptions),
    _gauge("gateway_channels", "Channels with subscribers on this node", lambda g: g.channels),
    _gauge("gateway_nodes", "Nodes that this node knows to be alive", lambda g: g.nodes),
    _gauge("gateway_draining", "Whether the node sends its clients away and lets nobody in", lambda g: g.draining),
    _gauge("gateway_warnings", "What the health check warns of", lambda g: g.warnings),
    # — connections —
    _counters("gateway_opened_connections", "transport", "Connections admitted", lambda m: m.opened_connections),
    _counters(
        "gateway_refused_connections", "reason", "Connections not admitted", lambda m: m.refused_connections + files.CUT
    ),
    _counters("gateway_refusals", "reason", "What was refused or cut off", lambda m: m.refusals),
    _counters("gateway_over_limit", "layer command dry_run", "What was over a rate limit", lambda m: m.over_limit),
    _counters("gateway_disconnects", "code", "Connections ended, by code", lambda m: m.disconnects),
    _counters("gateway_jwks_fetches", "ok", "Fetches of token keys from their endpoints", lambda m: m.jwks_fetches),
    _histogram("gateway_connect_seconds", "Time from a connect command to its answer", lambda m: m.connect_time),
    _histogram("gateway_ping_seconds", "Time from a ping to the client's pong", lambda m: m.ping_round_trip),
    Definition(
        "gauge",
        "gateway_slow_clients",
        "Clients that just now read more slowly than they are written to",
        _one(lambda reading: len(reading.metrics.slow)),
    ),
    Definition(
        "gauge",
        "gateway_queued_bytes",
        "Bytes that wait in this process for slow clients",
        _one(lambda reading: reading.metrics.queued),
    ),
    # — commands —
    _counters("gateway_commands", "command", "Commands of clients", lambda m: m.commands),
    _counters("gateway_errors", "code", "Errors answered to clients", lambda m: m.errors),
    _counter("gateway_received_bytes", "Bytes of commands received from clients", lambda m: m.bytes_in),
    _histograms(
        "gateway_handler_seconds",
        "event",
        "Time of the program's handlers, with dependencies",
        lambda m: m.handler_time,
    ),
    Definition(
        "histogram",
        "gateway_proxy_seconds",
        "Time of a backend's answers to proxied events, failures counted",
        _by(lambda reading: reading.metrics.proxy_time),
        ("event", "name"),
    ),
    _counters(
        "gateway_proxy_errors",
        "event name kind",
        "Proxied events that a backend did not decide, by what was wrong",
        lambda m: m.proxy_errors,
    ),
    Definition(
        "gauge",
        "gateway_proxy_calls",
        "Calls of backends that are under way",
        _by(lambda reading: reading.metrics.proxy_calls),
        ("event", "name"),
    ),
    _counters(
        "gateway_webhook_requests",
        "outcome",
        "Requests to the webhooks of apps, by how they ended",
        lambda m: m.webhook_requests,
    ),
    _counters(
        "gateway_webhook_events",
        "outcome",
        "Events of apps that were told, put aside as dead letters, or lost",
        lambda m: m.webhook_events,
    ),
    _histogram("gateway_webhook_seconds", "Time of a webhook's answers, failures counted", lambda m: m.webhook_time),
    _histogram(
        "gateway_webhook_lag_seconds",
        "Time from an event to its being told, with the delay of departures",
        lambda m: m.webhook_lag,
    ),
    Definition(
        "gauge",
        "gateway_webhooks_failing",
        "Webhooks that fail just now, on the node that tells",
        _one(lambda reading: reading.metrics.webhook_failing),
    ),
    _histograms("gateway_api_seconds", "method", "Time of calls of the server API", lambda m: m.api_time),
    _counters("gateway_api_errors", "method code", "Errors answered by the server API", lambda m: m.api_errors),
    # — publications —
    _counter(
        "gateway_publications_in", "Publications of this node that the broker has accepted", lambda m: m.publications_in
    ),
    _counter("gateway_publications_out", "Publications that came from the broker", lambda m: m.publications_out),
    _counter("gateway_deliveries", "Messages handed to connections by the fan-out", lambda m: m.deliveries),
    _counter("gateway_sent_bytes", "Bytes of messages handed to connections", lambda m: m.bytes_out),
    _histogram(
        "gateway_delivery_lag_seconds",
        "Time from publish to the writing to subscribers, of a sample: ten publications a second at most",
        lambda m: m.delivery_lag,
    ),
    _counters(
        "gateway_failed_publications",
        "stored",
        "Publications that failed, by whether they may be stored",
        lambda m: m.failed_publications,
    ),
    _gauge("gateway_waiting_publications", "Publications that wait for the broker", lambda g: g.waiting_publications),
    _gauge("gateway_waiting_bytes", "Bytes of publications that wait for the broker", lambda g: g.waiting_bytes),
    _counters("gateway_dropped_publications", "what", "Publications that somebody did not get", lambda m: m.dropped),
    Definition(
        "counter",
        "gateway_namespace_publications_in",
        "Accepted publications, of the namespaces in prometheus.namespaces",
        _namespaces(lambda counts: counts.publications_in),
        ("namespace",),
    ),
    Definition(
        "counter",
        "gateway_namespace_publications_out",
        "Publications that came from the broker, of the namespaces in prometheus.namespaces",
        _namespaces(lambda counts: counts.publications_out),
        ("namespace",),
    ),
    Definition(
        "counter",
        "gateway_namespace_deliveries",
        "Subscribers that publications were for, of the namespaces in prometheus.namespaces",
        _namespaces(lambda counts: counts.deliveries),
        ("namespace",),
    ),
    # — streams and presence —
    _counter(
        "gateway_lost_positions",
        "Subscriptions that were found to have missed a publication",
        lambda m: m.lost_positions,
    ),
    _counters("gateway_recoveries", "recovered", "Attempts to recover", lambda m: m.recoveries),
    _histogram("gateway_recovery_publications", "Publications of a successful recovery", lambda m: m.recovery_size),
    Definition(
        "counter",
        "gateway_history_reads",
        "Reads of history, by whether another's answer served",
        _reads(lambda reading: reading.gauges.history_reads),
        ("shared",),
    ),
    Definition(
        "counter",
        "gateway_presence_reads",
        "Reads of presence, by whether another's answer served",
        _reads(lambda reading: reading.gauges.presence_reads),
        ("shared",),
    ),
    # — the broker —
    _gauge("gateway_broker_connected", "Whether the broker answers and is heard", lambda g: g.broker_connected),
    _gauge("gateway_broker_lag_seconds", "Time from publish to arrival, last measured", lambda g: g.broker_lag),
    Definition(
        "counter",
        "gateway_broker_reconnects",
        "Times the broker connection came back",
        _one(lambda reading: reading.gauges.broker_reconnects),
    ),
    Definition("counter", "gateway_broker_errors", "What the broker has refused, by kind", _broker_errors, ("kind",)),
    Definition(
        "gauge",
        "gateway_broker_shard_connected",
        "Whether the server answers",
        _servers(lambda server: server.connected),
        SERVER,
    ),
    Definition(
        "gauge",
        "gateway_broker_shard_deaf",
        "Whether nothing arrives from the server",
        _servers(lambda server: server.deaf),
        SERVER,
    ),
    Definition(
        "gauge",
        "gateway_broker_shard_lag_seconds",
        "Time from publish to arrival",
        _servers(lambda server: server.lag),
        SERVER,
    ),
    Definition(
        "counter",
        "gateway_broker_shard_reconnects",
        "Times it came back",
        _servers(lambda server: server.reconnects),
        SERVER,
    ),
    Definition("gauge", "gateway_broker_shard_keys", "Keys of the database", _told(lambda server: server.keys), SERVER),
    Definition(
        "gauge",
        "gateway_broker_shard_memory_bytes",
        "Memory that the server uses",
        _told(lambda server: server.memory),
        SERVER,
    ),
    Definition(
        "gauge",
        "gateway_broker_shard_max_memory_bytes",
        "Memory that the server may use; 0 is without limit",
        _told(lambda server: server.max_memory),
        SERVER,
    ),
    Definition(
        "counter",
        "gateway_skipped_messages",
        "Messages and entries of other releases that could not be read",
        _by(lambda reading: reading.gauges.skipped),
        ("kind",),
    ),
    # — the process —
    _histogram(
        "gateway_loop_lag_seconds",
        "By how much the event loop comes too late, looked at ten times a second",
        lambda m: m.loop_lag,
    ),
    Definition(
        "gauge", "process_resident_memory_bytes", "Resident memory of the process", _known(lambda p: p.resident)
    ),
    Definition("gauge", "process_open_fds", "Open file descriptors of the process", _known(lambda p: p.descriptors)),
    Definition("gauge", "process_max_fds", "File descriptors that the process may open", _known(lambda p: p.most)),
    Definition("counter", "process_cpu_seconds", "Processor time of the process", _known(lambda p: p.seconds)),
    Definition(
        "gauge",
        "process_start_time_seconds",
        "When the node started (Unix seconds)",
        _one(lambda r: r.metrics.started_at),
    ),
)

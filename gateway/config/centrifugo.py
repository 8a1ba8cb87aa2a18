"""Files written for Centrifugo v6: what has another place here, what nobody needs here, and what there is not.

The names are those of its configuration (https://centrifugal.dev/docs/server/configuration), by dotted key. Below
``channel.without_namespace`` all is as in ``channel.namespaces``.
"""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct, field

from gateway.config.files import leaves, nested

MOVED: Mapping[str, str] = {
    "presence_manager.enabled": "presence.enabled",
    "presence_manager.redis.*": "presence.redis.*",
    "shutdown.timeout": "shutdown.drain_time",
    "websocket.message_size_limit": "client.message_size_limit",
}
"""Where something stands here that has the same meaning."""

_NO_GRPC = "the gateway speaks no gRPC: let {} use HTTP"
_NO_CONSUMER = "the gateway reads no queue: let who writes to it publish by the server API, or a program read it"
_FIXED_PATH = "paths are fixed, below http_server.root_path: have the proxy in front rewrite this one, or leave it out"

MISSING: Mapping[str, str] = {
    "*.handler_prefix": _FIXED_PATH,
    "*.insecure_skip_jwks_endpoint_safety_check": "addresses are made of words alone that issuer_regex and "
    "audience_regex list; leave it out",
    "admin.web_path": "the admin page comes with the gateway; leave it out",
    "admin.web_proxy_address": "the admin page comes with the gateway; leave it out",
    "broker.enabled": 'one engine is both: set engine.type = "redis" or "postgres", and presence.enabled for another '
    "Redis of presence",
    "channel.namespaces.subscribe_stream_proxy_enabled": "there are no streams from a backend: let it publish by the "
    "server API while channels are occupied",
    "client.connect_code_to_unidirectional_disconnect.enabled": "these codes are fixed; leave it out",
    "consumers": _NO_CONSUMER,
    "controller.enabled": "nodes talk by the engine; leave it out",
    "debug.enabled": "there is no profiler at a URL: take py-spy, which needs no change of the server",
    "graphite.enabled": "there is no push to Graphite: let Telegraf or the OpenTelemetry collector read /metrics",
    "grpc_api.enabled": _NO_GRPC.format("callers"),
    "http_api.disabled": "without http_api.key the server API refuses every call; leave it out",
    "http_server.http3.enabled": "let the proxy in front speak HTTP/3",
    "http_server.tls_autocert.enabled": "let the proxy in front get certificates (Caddy does), or certbot write the "
    "files of http_server.tls, which are read anew when they change",
    "init.enabled": "there is no such endpoint; leave it out",
    "log.file": "the log goes to standard error: let systemd, Docker or the shell write the file",
    "map_broker.type": "maps are kept by the engine: give engine.type the same value, or leave it out",
    "opentelemetry.google_cloud_adc_auth": "send spans to a collector, which logs in there",
    "pid_file": "let the service manager hold the process: deploy/systemd has a unit",
    "rpc.ping.enabled": "ping by the protocol's own pings, or answer it in the RPC proxy",
    "uni_grpc.enabled": _NO_GRPC.format("clients"),
    "webtransport.enabled": "there is no WebTransport: clients fall back to WebSocket, or to HTTP",
    "websocket.disabled": "WebSockets are always served: have the proxy in front refuse the path",
}
"""What would be wanted of a setting that is not off, by key or pattern: it stops the start. What to do instead."""

NEEDLESS: Mapping[str, str] = {
    "*.grpc.*": "backends are asked by HTTP",
    "*.grpc_metadata": "backends are asked by HTTP",
    "*.http.tls.client_ca_pem": "it is for servers",
    "*.presence_hash_field_ttl": "presence lives by the leases of nodes",
    "*.presence_ttl": "presence lives by the leases of nodes",
    "*.presence_user_mapping": "users are counted without",
    "*.redis.*tls.client_ca_pem": "it is for servers",
    "*.read_buffer_size": "buffers size themselves",
    "*.redis.client_name": "connections need no name",
    "*.redis.force_resp2": "it is RESP2",
    "*.redis.history_use_lists": "a channel that keeps one publication is no stream anyway",
    "*.redis.replica_client.*": "all is asked of the primary",
    "*.redis.sentinel_client_name": "connections need no name",
    "*.use_write_buffer_pool": "buffers size themselves",
    "*.write_buffer_size": "buffers size themselves",
    "admin.external": "the page has a port of its own if http_server.internal_port says so",
    "broker.*": "belongs to broker.enabled",
    "channel.namespaces.subscribe_stream_proxy_*": "belongs to subscribe_stream_proxy_enabled",
    "channel.proxy.subscribe_stream.*": "belongs to subscribe_stream_proxy_enabled of a namespace",
    "client.connect_code_to_unidirectional_disconnect.*": "belongs to its enabled",
    "client.concurrency": "a client's calls that wait for a program or a backend run side by side anyway",
    "client.presence_update_interval": "presence lives by the leases of nodes",
    "controller.*": "belongs to controller.enabled",
    "debug.*": "belongs to debug.enabled",
    "enable_unreleased_features": "there are none",
    "graphite.*": "belongs to graphite.enabled",
    "grpc_api.*": "belongs to grpc_api.enabled",
    "http_api.external": "the API has a port of its own if http_server.internal_port says so",
    "http_server.*tls.insecure_skip_verify": "it is for clients",
    "http_server.*tls.server_ca_pem": "it is for clients",
    "http_server.*tls.server_name": "it is for clients",
    "http_server.h2c_external": "HTTP/2 is the proxy's in front",
    "http_server.tls_autocert.*": "belongs to http_server.tls_autocert.enabled",
    "init.*": "belongs to init.enabled",
    "map_broker.*": "maps are kept by the engine, with its settings",
    "node.info_metrics_aggregate_interval": "metrics are told as they are",
    "opentelemetry.consuming": "there are no consumers",
    "presence_manager.type": "presence.enabled stands for Redis",
    "prometheus.instrument_http_handlers": "calls are measured anyway",
    "prometheus.native_histograms": "histograms have buckets",
    "prometheus.recovered_publications_histogram": "it is there anyway",
    "rpc.ping.*": "belongs to rpc.ping.enabled",
    "swagger.*": "the API is described at /docs anyway",
    "uni_grpc.*": "belongs to uni_grpc.enabled",
    "uni_websocket.*": "what websocket and client say of it holds",
    "usage_stats.*": "nothing is sent to anybody",
    "webtransport.*": "belongs to webtransport.enabled",
    "websocket.decompressed_message_size_limit": "client.message_size_limit holds for what is unpacked",
}
"""What makes no difference here, by key or pattern, and why."""

PREFIXES: Mapping[str, str] = {
    "admin": "/admin",
    "debug": "/debug/pprof",
    "emulation": "/emulation",
    "health": "/health",
    "http_api": "/api",
    "http_stream": "/connection/http_stream",
    "init": "/connection/init",
    "prometheus": "/metrics",
    "sse": "/connection/sse",
    "swagger": "/swagger",
    "uni_http_stream": "/connection/uni_http_stream",
    "uni_sse": "/connection/uni_sse",
    "uni_websocket": "/connection/uni_websocket",
    "websocket": "/connection/websocket",
    "webtransport": "/connection/webtransport",
}
"""The paths that are as they are here, or that nothing is at."""

_OFF: Mapping[str, Any] = {
    **{f"{section}.handler_prefix": path for section, path in PREFIXES.items()},
}
"""Values that ask for nothing, beside the empty ones."""


class Adopted(Struct):
    """What a file says, in the words of this gateway; and by key what is passed over, and what cannot be had."""

    values: dict[str, Any] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    needless: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def adopt(values: Mapping[str, Any], known: Iterable[str]) -> Adopted:
    """Understand the values of a file, by dotted key. ``known`` are the settings that there are, which stay."""
    adopted = Adopted()
    ours = frozenset(known)
    given = {key: value for key, value in values.items() if (key, value) != ("http_server.internal_port", "")}
    _spread_format(given)
    if given.get("map_broker.type") == given.get("engine.type", "memory"):
        given.pop("map_broker.type", None)
    for section in ("engine.redis", "presence_manager.redis"):
        _join_addresses(given, section)
    for key, value in sorted(given.items(), key=lambda item: _moved(_general(item[0])) is not None):
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            kept: Any = [
                nested(dict(_sort(leaves(each), f"{key}.{index}.", ours, adopted))) for index, each in enumerate(value)
            ]
            if not _matching(key, MISSING):
                adopted.values[key] = kept
                continue
        for name, kept in _sort({key: value}, "", ours, adopted):
            adopted.values.setdefault(name, kept)
    return adopted


def _sort(values: Mapping[str, Any], prefix: str, ours: frozenset[str], adopted: Adopted) -> Iterator[tuple[str, Any]]:
    """Those that hold here, under their names here; the rest is noted."""
    for name, value in values.items():
        key = prefix + name
        general = _general(key)
        if general in ours:
            yield name, value
        elif instead := _matching(general, MISSING):
            if value and value != _OFF.get(general) and not _disabled(value):
                adopted.missing[key] = instead
        elif why := _matching(general, NEEDLESS):
            adopted.needless[key] = why
        elif moved := _moved(general):
            adopted.moved[key] = moved
            yield moved, value
        else:
            yield name, value  # what it is not, is told with what it could have been


def _general(key: str) -> str:
    """A key as the tables have it."""
    parts = [part for part in key.split(".") if not part.isdecimal()]
    return ".".join(parts).replace("channel.without_namespace.", "channel.namespaces.", 1)


def _moved(key: str) -> str | None:
    for pattern, target in MOVED.items():
        if fnmatchcase(key, pattern):
            return target.replace("*", key.removeprefix(pattern.rstrip("*"))) if "*" in pattern else target
    return None


def _matching(key: str, table: Mapping[str, str]) -> str | None:
    """The text of the key itself, or of the first pattern that it fits."""
    return table.get(key) or next((text for pattern, text in table.items() if fnmatchcase(key, pattern)), None)


def _disabled(value: Any) -> bool:
    """Whether it is a list of what is switched off, each by itself."""
    return isinstance(value, list) and all(isinstance(each, dict) and each.get("enabled") is False for each in value)


def _spread_format(values: dict[str, Any]) -> None:
    """``channel.publication_data_format`` holds for all namespaces that have none of their own."""
    shared = values.pop("channel.publication_data_format", None)
    if not shared:
        return
    values.setdefault("channel.without_namespace.publication_data_format", shared)
    namespaces = values.get("channel.namespaces")
    if isinstance(namespaces, list) and all(isinstance(each, dict) for each in namespaces):
        values["channel.namespaces"] = [{"publication_data_format": shared, **each} for each in namespaces]


def _join_addresses(values: dict[str, Any], section: str) -> None:
    """One ``address`` of what Centrifugo has in several settings: of a cluster, of sentinels, and the database."""
    for kind in ("sentinel", "cluster"):
        several = values.pop(f"{section}.{kind}_address", None)
        if several:
            groups = [several] if isinstance(several, str) else several
            values[f"{section}.address"] = [_group(kind, str(each)) for each in groups]
    database = values.pop(f"{section}.db", None)
    address = values.get(f"{section}.address", "redis://127.0.0.1:6379")
    if database:
        addresses = [address] if isinstance(address, str) else address
        values[f"{section}.address"] = [_with_database(str(each), database) for each in addresses]


def _group(kind: str, servers: str) -> str:
    """The servers of a cluster, or sentinels, as one address; it may be one already."""
    if "://" in servers:
        return servers
    first, *others = [server.strip() for server in servers.split(",")]
    return f"redis+{kind}://{first}" + ("?addr=" + "&addr=".join(others) if others else "")


def _with_database(address: str, database: Any) -> str:
    if "://" not in address:
        address = f"redis://{address}"
    place, mark, query = address.partition("?")
    if place.partition("://")[2].partition("/")[2] or place.startswith("unix:"):
        return address  # it says so itself
    return f"{place.rstrip('/')}/{database}{mark}{query}"

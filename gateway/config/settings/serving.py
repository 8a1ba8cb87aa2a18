"""Settings of the process: where it listens, what it serves, how it stops."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.durations import Duration
from gateway.config.places import Place, read_places
from gateway.config.secrets import Keys
from gateway.config.settings.section import Section


def _check_places(written: str | tuple[str, ...]) -> str | tuple[str, ...]:
    read_places(written, 0)
    return written


def _normal_prefix(path: str) -> str:
    path = path.strip("/")
    if not re.fullmatch(r"[\w.~/-]*", path, re.ASCII):
        raise ValueError('a prefix has letters, digits, "/", "-", ".", "_" and "~"')
    return f"/{path}" if path else ""


Addresses = Annotated[str | tuple[str, ...], AfterValidator(_check_places)]
Prefix = Annotated[str, AfterValidator(_normal_prefix)]
"""Of a path: a slash before, none behind."""


class ShutdownSettings(Section):
    """How clients are sent away when a node stops."""

    grace: Duration = 5.0
    """Time before that: the node serves as ever and takes new clients, but is not ready, until balancers know."""
    drain_rate: int = Field(default=100, ge=1)
    """Connections asked to leave each second."""
    drain_time: Duration = 120.0
    """Longest time for all of them; the rate is higher where that is needed."""


class HTTPAPISettings(Section):
    """The server API at /api."""

    key: str = ""
    """Key that callers send in X-API-Key; without any every call is refused."""
    keys: Keys = Field(default={})
    """More keys by name, each as good: one for each caller, or one that follows another."""
    insecure: bool = False
    """Let everybody call. For trying out only."""
    error_mode: Literal["", "transport"] = ""
    """`transport` tells errors by HTTP status."""


class ServerTLSSettings(Section):
    """TLS for those who connect. Keys and certificates are PEM: the text itself, or the path of a file."""

    enabled: bool = False
    """Serve by TLS, 1.2 or newer. Unix sockets are served without."""
    cert_pem: str = ""
    """Certificate, and behind it those of the authorities between. A file is read anew when it has changed."""
    key_pem: str = ""
    """Its key."""
    client_ca_pem: str = ""
    """Authorities of client certificates: with it, nobody connects without one."""


class HTTPServerSettings(Section):
    """Where the gateway listens. Not where systemd has opened the sockets: then these are taken."""

    address: Addresses = "127.0.0.1"
    """Address to bind, `host:port` or `unix:/path`; several as a list, or by commas. Empty or `::` takes all."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to bind, of addresses without one; 0 takes a free one."""
    internal_address: Addresses = ""
    """As `address`, for operators; by default the same hosts."""
    internal_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(default=None, examples=[9000])
    """Port for operators and backends: `/api`, `/apps`, `/metrics`, `/health`, `/admin` and `/docs` are there alone."""
    unix_socket_mode: str = Field(default="0660", pattern=r"^0?[0-7]{3}$")
    """Who may connect to a Unix socket, as in chmod."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes, each with a listening socket of its own on the same port."""
    tls: ServerTLSSettings = ServerTLSSettings()
    """TLS by the gateway itself."""
    tls_external: bool = False
    """TLS for clients alone, not for operators apart. They may have another certificate: `internal_tls`, as `tls`."""
    internal_tls: ServerTLSSettings = ServerTLSSettings()
    """Another certificate for operators; by default they get the same."""
    proxy_protocol: bool = False
    """Every connection of clients begins with a PROXY header, v1 or v2, of a proxy in `forwarded_allow_ips`."""
    forwarded_allow_ips: str = "127.0.0.1"
    """Proxies whose X-Forwarded-For is believed, separated by commas; whoever comes by a Unix socket is one."""
    root_path: Prefix = ""
    """Prefix under which a proxy publishes the gateway, whether the proxy strips it or not."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Where clients are served, and operators with them, unless `internal_places` has a place."""
        return read_places(self.address, self.port)

    @property
    def internal_places(self) -> tuple[Place, ...]:
        """Where operators are served apart. Raises ``ValueError`` for an address that lacks a port."""
        if self.internal_address:
            return read_places(self.internal_address, self.internal_port)
        if self.internal_port is None:
            return ()
        hosts = [place.host for place in self.places if not place.path] or ["127.0.0.1"]
        return tuple(Place(host, self.internal_port) for host in dict.fromkeys(hosts))

    @property
    def tls_for_operators(self) -> ServerTLSSettings:
        """What holds at the places apart."""
        if self.internal_tls.enabled:
            return self.internal_tls
        return ServerTLSSettings() if self.tls_external else self.tls


class HealthSettings(Section):
    """Health checks at /health."""

    enabled: bool = True
    """Serve them."""
    ready_without_broker: bool = True
    """Stay in the balancer when the broker is away: connections live on, and only what needs it fails."""
    isolated_after: Duration = 15.0
    """How long the broker and all other nodes must be silent before this one sends its clients to them; 0 is never."""


class PrometheusSettings(Section):
    """Metrics at /metrics."""

    enabled: bool = True
    """Serve them."""
    namespaces: tuple[str, ...] = Field(default=(), max_length=100, examples=[["chat"]])
    """Namespaces that have counters of their own; of channels as routes the patterns, as `chat:{room}`."""
    directory: str = ""
    """Where processes that share a port find each other, to tell metrics as one; made by `gateway serve` if empty."""


class DemoSettings(Section):
    """The page at / for trying out."""

    enabled: bool = False
    """Serve the page, and a connection token to anybody who asks."""


class AsyncAPISettings(Section):
    """What clients may send and what they get: a document at /asyncapi.json, a page at /asyncapi."""

    enabled: bool = True
    """Serve them, where there are routes: in an application."""
    title: str = ""
    """Title of the document; by default the application's."""
    version: str = ""
    """Version of the program that it tells of; by default the application's."""


class NodeSettings(Section):
    """This node."""

    name: str = ""
    """Name in the registry; by default the first letters of its id."""
    group: str = ""
    """The same for all processes behind one port, and for no others; `gateway serve` finds one if empty."""

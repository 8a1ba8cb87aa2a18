"""Settings of the process: where it listens, what it serves, how it stops."""

from typing import Literal

from pydantic import Field

from gateway.config.durations import Duration
from gateway.config.settings.section import Section


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
    """Key that callers send in X-API-Key; without one every call is refused."""
    insecure: bool = False
    """Let everybody call. For trying out only."""
    error_mode: Literal["", "transport"] = ""
    """`transport` tells errors by HTTP status."""


class HTTPServerSettings(Section):
    """Where the gateway listens."""

    address: str = "127.0.0.1"
    """Address to bind."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to bind; 0 takes a free one."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes, each with a listening socket of its own on the same port."""
    forwarded_allow_ips: str = "127.0.0.1"
    """Proxies whose X-Forwarded-For is believed, separated by commas."""
    root_path: str = ""
    """Prefix under which a proxy publishes the gateway."""


class HealthSettings(Section):
    """Health checks at /health."""

    enabled: bool = True
    """Serve them."""
    ready_without_broker: bool = True
    """Stay in the balancer when the broker is away: connections live on, and only what needs it fails."""


class PrometheusSettings(Section):
    """Metrics at /metrics."""

    enabled: bool = True
    """Serve them."""


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

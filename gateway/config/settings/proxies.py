"""Settings of proxies: events that a backend decides over HTTP."""

from typing import Annotated

from pydantic import Field

from gateway.config.durations import Duration
from gateway.config.secrets import Keys
from gateway.config.settings.engines import TLSSettings
from gateway.config.settings.section import Section

DEFAULT = "default"
"""Name of the proxy that stands with its event, as `channel.proxy.subscribe`; others stand in `proxies`."""


class ToErrorSettings(Section):
    """The error that a status stands for."""

    code: int = Field(default=0, ge=0, le=2**32 - 1)
    """Its code; 0 is none."""
    message: str = ""
    """What the client reads."""
    temporary: bool = False
    """Whether it is to try again."""


class ToDisconnectSettings(Section):
    """The disconnect that a status stands for."""

    code: int = Field(default=0, ge=0, le=4999)
    """Its code, from 3000 to 4999; 0 is none."""
    reason: str = ""
    """What the client reads."""


class StatusTransform(Section):
    """What a status of the backend's answer means, where it is not 200."""

    status_code: int = Field(ge=100, le=599, examples=[403])
    """The status."""
    to_error: ToErrorSettings = ToErrorSettings()
    """The error that the client gets."""
    to_disconnect: ToDisconnectSettings = ToDisconnectSettings()
    """How the client is closed."""


class ProxyTLSSettings(TLSSettings):
    """TLS to the backend. Keys and certificates are PEM: the text itself, or the path of a file."""

    enabled: bool = False
    """Go by what stands here; an `https://` endpoint is checked by the authorities of the system otherwise."""


class ProxyHTTPSettings(Section):
    """How the backend is spoken to by HTTP."""

    static_headers: Keys = Field(default={})
    """Headers of each request, such as `{Authorization = "Bearer …"}`; a client's take their place."""
    status_to_code_transforms: tuple[StatusTransform, ...] = Field(
        default=(), examples=[[{"status_code": 403, "to_error": {"code": 403, "message": "forbidden"}}]]
    )
    """What statuses other than 200 mean; without, they are failures."""
    tls: ProxyTLSSettings = ProxyTLSSettings()
    """TLS to the backend."""


class ProxySettings(Section):
    """A backend that decides events."""

    endpoint: str = Field(default="", examples=["http://127.0.0.1:3000/centrifugo/connect"])
    """URL to which events are posted."""
    timeout: Annotated[Duration, Field(gt=0)] = 1.0
    """How long the backend may take for an answer; a call waits no longer than that for its turn, either."""
    http_headers: tuple[str, ...] = Field(default=(), examples=[["Cookie", "Authorization"]])
    """Headers of the request that opened the connection which the backend is sent."""
    emulated_headers: tuple[str, ...] = Field(default=(), examples=[["Authorization"]])
    """Headers that it is sent as the client's connect command has them: whatever the client wants them to be."""
    binary_encoding: bool = False
    """Send data as base64 (`b64data`)."""
    include_connection_meta: bool = False
    """Send the connection's `meta`, which its token or the connect event gave it."""
    concurrency: int = Field(default=64, ge=1)
    """Calls of a node at a time."""
    queue_size: int = Field(default=1024, ge=0)
    """Calls that wait for their turn; more are answered with error 100, as while the backend is away."""
    response_size_limit: int = Field(default=1048576, ge=1)
    """Largest answer, in bytes."""
    http: ProxyHTTPSettings = ProxyHTTPSettings()
    """HTTP."""


class EventProxySettings(ProxySettings):
    """A backend that decides an event of connections."""

    enabled: bool = False
    """Ask it."""


class NamedProxySettings(ProxySettings):
    """A backend that namespaces name, in place of those in `channel.proxy` and `rpc.proxy`."""

    name: str = Field(pattern=r"^[-a-zA-Z0-9_.]{2,}$", examples=["billing"])
    """By which they do: letters, digits, `-`, `_`, `.`; at least two."""


class ClientProxySettings(Section):
    """Backends that decide who may connect, and how long they stay."""

    connect: EventProxySettings = EventProxySettings()
    """Who a client without token is, and whether it may connect."""
    refresh: EventProxySettings = EventProxySettings()
    """Whether a connection goes on whose time is over; clients cannot refresh theirs by a token then."""


class ChannelProxySettings(Section):
    """Backends that decide what happens in channels, where a namespace asks the one named `default`."""

    subscribe: ProxySettings = ProxySettings()
    """Who may subscribe."""
    publish: ProxySettings = ProxySettings()
    """What clients may publish."""
    map_publish: ProxySettings = ProxySettings()
    """What clients may set in maps."""
    map_remove: ProxySettings = ProxySettings()
    """What clients may remove from maps."""
    sub_refresh: ProxySettings = ProxySettings()
    """Whether a subscription goes on whose time is over."""
    cache_empty: ProxySettings = ProxySettings()
    """What an empty cache begins with."""
    shared_poll_refresh: ProxySettings = ProxySettings()
    """What the keys have that are tracked in a channel which is polled."""


class RPCOptions(Section):
    """What holds for the methods of one namespace."""

    proxy_enabled: bool = False
    """Ask a backend."""
    proxy_name: str = DEFAULT
    """Which: `default` is `rpc.proxy`, others stand in `proxies`."""


class RPCNamespace(RPCOptions):
    """Options of the methods whose names begin with `name:`."""

    name: str = Field(pattern=r"^[-a-zA-Z0-9_.]{2,}$", examples=["billing"])
    """The text before the boundary: letters, digits, `-`, `_`, `.`; at least two."""


class RPCSettings(Section):
    """Calls of clients (rpc) that a backend answers."""

    namespace_boundary: str = Field(default=":", min_length=1)
    """Ends the namespace in a method's name."""
    proxy: ProxySettings = ProxySettings()
    """The backend named `default`."""
    without_namespace: RPCOptions = RPCOptions()
    """Options of the methods without namespace."""
    namespaces: tuple[RPCNamespace, ...] = Field(default=(), examples=[[{"name": "orders", "proxy_enabled": True}]])
    """Options by namespace."""

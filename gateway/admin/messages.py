"""Requests and results of the page, beside those of the server API.

Field names are those of the page's JSON. Required ones have an empty default, which is answered as a bad request.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.config.listing import Setting
from gateway.errors import DisconnectCode

Limit = Annotated[int, Meta(ge=1, le=200)]


class Nothing(Struct):
    """Asks for all there is."""


class Counts(Struct):
    """A histogram: of each bound how many are not greater, but than the bound before; the last of what is beyond."""

    bounds: tuple[float, ...]
    counts: list[int]


class Reason(Struct):
    reason: str
    text: str


class NodeShown(Struct, kw_only=True):
    """How a node is, and its counters since the start; None is what its system does not tell."""

    uid: str
    name: str
    version: str
    uptime: int
    status: str
    reasons: list[Reason]
    connections: int
    users: int
    subscriptions: int
    channels: int
    connection_limit: int
    rss: int | None
    cpu: float
    descriptors: int | None
    descriptor_limit: int | None
    publications_in: int
    publications_out: int
    deliveries: int
    bytes_in: int
    bytes_out: int
    slow: int
    queued: int
    loop_lag: Counts
    delivery_lag: Counts
    at: float


class NodesResult(Struct):
    nodes: list[dict[str, Any]]
    """Each a `NodeShown`."""
    missing: list[str] = []


class ConnectionsRequest(Struct, kw_only=True):
    """Connections in the order of their client ids, behind ``cursor``. What is empty does not narrow."""

    user: str = ""
    channel: str = ""
    address: str = ""
    """One, or a network."""
    node: str = ""
    limit: Limit = 50
    cursor: str = ""


class ConnectionShown(Struct, kw_only=True):
    client: str
    node: str
    node_name: str
    user: str
    address: str
    protocol: str
    transport: str
    state: str
    since: float
    subscriptions: int
    queued: int
    round_trip: float | None


class ConnectionsResult(Struct):
    connections: list[ConnectionShown]
    cursor: str
    """Empty after the last page."""
    missing: list[str]


class ConnectionRequest(Struct, kw_only=True):
    """One connection, and its subscriptions behind ``cursor``."""

    node: str = ""
    client: str = ""
    cursor: str = ""


class SubscriptionShown(Struct, omit_defaults=True):
    channel: str
    state: str
    server_side: bool
    positioned: bool
    recoverable: bool
    offset: int | None = None
    epoch: str | None = None


class ConnectionResult(Struct, kw_only=True):
    connection: ConnectionShown
    expire_at: int
    user_agent: str
    """Empty if it does not say, or `admin.enabled` is off where it is connected."""
    info: Any
    subscriptions: list[SubscriptionShown]
    cursor: str


class CloseRequest(Struct, kw_only=True):
    """Close one connection. By default its client returns; ``code`` says it otherwise than by ``reconnect``."""

    node: str = ""
    client: str = ""
    reconnect: bool = True
    code: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.code:
            self.code = DisconnectCode.FORCE_RECONNECT if self.reconnect else DisconnectCode.FORCE_DISCONNECT


class Subscribers(Struct):
    node: str
    name: str
    count: int


class ChannelResult(Struct, kw_only=True, omit_defaults=True):
    channel: str
    namespace: str | None = None
    route: str | None = None
    """In place of a namespace: how the program has written the channel's pattern."""
    options: dict[str, Any]
    subscribers: list[Subscribers]
    missing: list[str]


class SettingsResult(Struct):
    settings: list[Setting]

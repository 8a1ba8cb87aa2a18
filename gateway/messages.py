"""What clients, server and broker say to each other, whatever the wire format.

Names and defaults follow the Centrifuge protocol. A field at its default is left out on the wire; a field
without default is always written. Requests come from clients, results answer them, pushes come unasked.
"""

from typing import Annotated, Any, TypeVar

from msgspec import Meta, Raw, Struct
from msgspec.msgpack import Decoder, Encoder

NO_PAYLOAD = Raw()

Offset = Annotated[int, Meta(ge=0, le=2**53)]
"""A place in a stream: counts from 1, and stays exact in JSON and in Redis scripts."""


class Payload(bytes):
    """Application data: carried as the publisher's own bytes, never parsed and written again."""

    __slots__ = ()


_OPAQUE = b"\0"
"""Stands before what is no JSON, where that may be instead; no JSON begins so, and it outlasts all stores."""


def opaque(data: bytes) -> Payload:
    """Info of a client, or data of its subscription, that is no JSON: for those alone whose protocol is binary."""
    return Payload(_OPAQUE + data)


def is_opaque(payload: Payload | None) -> bool:
    return payload is not None and payload[:1] == _OPAQUE


def revealed(payload: bytes) -> bytes:
    """Info or data as it was given, be it JSON or not."""
    return payload.removeprefix(_OPAQUE)


class Quoted(Payload):
    """What somebody gets who has negotiated delta: where payloads are JSON, its text is a string there."""

    __slots__ = ()


class Position(Struct, omit_defaults=True, frozen=True):
    """Where a subscriber stands in a channel's stream."""

    offset: Offset = 0
    epoch: str = ""


class Receipt(Position, omit_defaults=True, frozen=True):
    """What has become of a publish: the publication's position, which is empty without history.

    ``nodes`` is how many nodes took it, those on which somebody subscribes to the channel; of a repeat, what the first
    was answered.
    """

    nodes: int = 0


class Exclusion(Struct, omit_defaults=True, frozen=True):
    """Who does not get a publication live: connections by their client id, and all connections of users."""

    clients: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


class ClientInfo(Struct, omit_defaults=True, gc=False):
    """Who a client is: ``conn_info`` comes from the connection, ``chan_info`` from the subscription."""

    user: str
    client: str
    conn_info: Payload | None = None
    chan_info: Payload | None = None


class Publication(Struct, omit_defaults=True):
    """Data in a channel. ``offset`` is 0 when the channel keeps no history.

    ``binary`` marks data that is not valid JSON; ``time`` is when it was published (Unix ms) and is not sent
    to clients; ``epoch`` and ``exclude`` are only set on live publications. One in no channel is a message to one
    client. ``trace`` is the span that has published it (a traceparent), if its trace is sampled: for nodes alone.
    ``patchable`` says that whoever has negotiated delta may be sent a patch, and ``delta`` that the data is one.

    In a map it is what one ``key`` has now, or says that it is ``removed``. ``previous`` is what the key had before,
    for nodes that make patches.
    """

    data: Payload
    info: ClientInfo | None = None
    offset: Offset = 0
    tags: dict[str, str] | None = None
    binary: bool = False
    time: int = 0
    epoch: str = ""
    exclude: Exclusion | None = None
    trace: str = ""
    delta: bool = False
    version: int = 0
    patchable: bool = False
    key: str = ""
    removed: bool = False
    previous: Payload | None = None


# — requests —


class FilterNode(Struct, omit_defaults=True, gc=False):
    """Part of a filter by tags. Which fields it has goes by ``op``: see `gateway.core.tags`."""

    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: list[str] = []
    nodes: "list[FilterNode]" = []


class SubscribeRequest(Struct):
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Offset = 0
    data: Raw = NO_PAYLOAD
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: FilterNode | None = None
    flag: int = 0
    type: int = 0
    phase: int = 0
    cursor: str = ""
    limit: int = 0

    @property
    def since(self) -> Position | None:
        """Where a returning client says that it stood."""
        return Position(self.offset, self.epoch) if self.recover else None


class ConnectRequest(Struct):
    token: str = ""
    data: Raw = NO_PAYLOAD
    subs: dict[str, SubscribeRequest] = {}
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}


class UnsubscribeRequest(Struct):
    channel: str = ""


class PublishRequest(Struct):
    channel: str = ""
    data: Raw = NO_PAYLOAD
    type: int = 0
    key: str = ""
    removed: bool = False


class PresenceRequest(Struct):
    channel: str = ""


class PresenceStatsRequest(Struct):
    channel: str = ""


class HistoryRequest(Struct):
    channel: str = ""
    limit: int = 0
    since: Position | None = None
    reverse: bool = False


class PingRequest(Struct):
    pass


class SendRequest(Struct):
    data: Raw = NO_PAYLOAD


class RPCRequest(Struct):
    data: Raw = NO_PAYLOAD
    method: str = ""


class RefreshRequest(Struct):
    token: str = ""


class KeyedItem(Struct):
    """A key, and which version of it the client has."""

    key: str = ""
    version: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class TrackBatch(Struct):
    """Keys as they were signed."""

    signature: str = ""
    items: list[KeyedItem] = []


class SubRefreshRequest(Struct):
    channel: str = ""
    token: str = ""
    type: int = 0
    track: list[TrackBatch] = []
    untrack: list[str] = []


class Pong(Struct):
    """The client's answer to a ping: a command without id."""


Request = (
    ConnectRequest
    | SubscribeRequest
    | UnsubscribeRequest
    | PublishRequest
    | PresenceRequest
    | PresenceStatsRequest
    | HistoryRequest
    | PingRequest
    | SendRequest
    | RPCRequest
    | RefreshRequest
    | SubRefreshRequest
    | Pong
)


class Command(Struct):
    """One request of a client. ``id`` is 0 for those that want no reply."""

    id: int
    request: Request


# — results —


class SubscribeResult(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Publication] = []
    recovered: bool = False
    offset: Offset = 0
    positioned: bool = False
    data: Payload | None = None
    was_recovering: bool = False
    delta: bool = False
    id: int = 0
    type: int = 0
    phase: int = 0
    cursor: str = ""
    state: list[Publication] = []
    publish_debounce: int = 0


class ConnectResult(Struct, omit_defaults=True):
    client: str
    version: str
    expires: bool = False
    ttl: int = 0
    data: Payload | None = None
    subs: dict[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: int = 0


class UnsubscribeResult(Struct, omit_defaults=True):
    pass


class PublishResult(Struct, omit_defaults=True):
    pass


class PresenceResult(Struct, omit_defaults=True):
    presence: dict[str, ClientInfo]


class PresenceStatsResult(Struct, omit_defaults=True):
    num_clients: int
    num_users: int


class HistoryResult(Struct, omit_defaults=True):
    publications: list[Publication]
    offset: int
    epoch: str


class RPCResult(Struct, omit_defaults=True):
    data: Payload | None = None


class RefreshResult(Struct, omit_defaults=True):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class SubRefreshResult(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0
    items: list[Publication] = []


Result = (
    ConnectResult
    | SubscribeResult
    | UnsubscribeResult
    | PublishResult
    | PresenceResult
    | PresenceStatsResult
    | HistoryResult
    | RPCResult
    | RefreshResult
    | SubRefreshResult
)

# — pushes —


class Join(Struct, omit_defaults=True):
    info: ClientInfo


class Leave(Struct, omit_defaults=True):
    info: ClientInfo


class Unsubscribe(Struct, omit_defaults=True):
    code: int
    reason: str


class Subscribe(Struct, omit_defaults=True):
    """A server-side subscription made while the client was connected."""

    recoverable: bool = False
    epoch: str = ""
    offset: Offset = 0
    positioned: bool = False
    data: Payload | None = None


class Refresh(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0


class MemberAdded(Struct):
    """The first connection of a user has come to a channel: for clients who know members by user."""

    user: str
    info: Payload | None = None


class MemberRemoved(Struct):
    """The last connection of a user has left it."""

    user: str


class SubscriptionCount(Struct):
    """How many connections a channel has, on all nodes."""

    count: int


Announcement = Join | Leave | MemberAdded | MemberRemoved | SubscriptionCount
"""Who is in a channel: by connection, by user, or how many. Protocols have words for one or the other."""

Push = Publication | Announcement | Unsubscribe | Subscribe | Refresh


# — between nodes: msgpack, never pickle, for Redis is not to run code in a node —


_Message = TypeVar("_Message")


def _to_wire(value: Any) -> bytes:
    assert isinstance(value, Payload)
    return bytes(value)


def _from_wire(kind: type, value: Any) -> Any:
    if type(value) is not bytes:  # a number would become as many zeros
        raise TypeError(f"{type(value).__name__} in place of bytes")
    return kind(value)


pack = Encoder(enc_hook=_to_wire).encode


def unpacker(kind: type[_Message]) -> Decoder[_Message]:
    """A decoder for one kind of message. Raises ``msgspec.DecodeError``."""
    return Decoder(kind, dec_hook=_from_wire)

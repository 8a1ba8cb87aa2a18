"""Requests and results of the server API, as they stand in HTTP bodies.

Source: Centrifuge protocol, "Server HTTP API". Required fields have an empty default here: their absence is
an error in the answer's envelope (107), not an unreadable body.
"""

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct, field

from gateway.messages import ClientInfo, Offset, Position

Timestamp = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""Unix seconds."""
Limit = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Version = Annotated[int, Meta(ge=0, le=2**63 - 1)]


def _no_payload() -> Raw:
    return Raw()


class Flag(Struct):
    value: bool = False


class Override(Struct):
    """Channel options that hold for one subscription."""

    presence: Flag | None = None
    join_leave: Flag | None = None
    force_push_join_leave: Flag | None = None
    force_recovery: Flag | None = None
    force_positioning: Flag | None = None


class Publishing(Struct, kw_only=True):
    """What publish and broadcast share. ``b64data`` (base64) wins over ``data``."""

    data: Raw = field(default_factory=_no_payload)
    b64data: str = ""
    skip_history: bool = False
    tags: dict[str, str] | None = None
    idempotency_key: str = ""
    delta: bool = False
    version: Version = 0
    version_epoch: str = ""


class PublishRequest(Publishing, kw_only=True):
    """Publish data into a channel."""

    channel: str = ""


class BroadcastRequest(Publishing, kw_only=True):
    """Publish the same data into many channels."""

    channels: list[str] = []


class SharedPollPublishRequest(Struct, kw_only=True):
    """Tell what a key has of which a backend is polled, before it is asked; to all who have an older version."""

    channel: str = ""
    key: str = ""
    version: Version = 0
    data: Raw = field(default_factory=_no_payload)
    b64data: str = ""
    epoch: str = ""


class Addressed(Struct, kw_only=True):
    """Names the connections of a user, narrowed by ``client`` and ``session``.

    An empty user means the anonymous clients, so the field must be there.
    """

    user: str | None = None
    client: str = ""
    session: str = ""


class SubscribeRequest(Addressed, kw_only=True):
    """Subscribe a user's connections to a channel."""

    channel: str = ""
    expire_at: Timestamp = 0
    info: Raw = field(default_factory=_no_payload)
    b64info: str = ""
    data: Raw = field(default_factory=_no_payload)
    b64data: str = ""
    recover_since: Position | None = None
    override: Override | None = None


class UnsubscribeRequest(Addressed, kw_only=True):
    """Unsubscribe a user's connections from a channel."""

    channel: str = ""


class DisconnectReason(Struct):
    code: int = 0
    reason: str = ""


class DisconnectRequest(Addressed, kw_only=True):
    """Close a user's connections, but those whose client ids stand in ``whitelist``."""

    whitelist: list[str] = []
    disconnect: DisconnectReason | None = None


class RefreshRequest(Addressed, kw_only=True):
    """Set when a user's connections expire (Unix seconds; 0 is never), or end them (``expired``)."""

    expired: bool = False
    expire_at: Timestamp = 0
    info: Raw = field(default_factory=_no_payload)


class BlockUserRequest(Struct, kw_only=True):
    """Close a user's connections and let it in no more, until ``expire_at`` (Unix seconds; 0 is without end)."""

    user: str = ""
    expire_at: Timestamp = 0


class UnblockUserRequest(Struct, kw_only=True):
    """Let a user in again."""

    user: str = ""


class BlockedUsersRequest(Struct, kw_only=True):
    """List the users that are blocked, by id: at most ``limit``, behind the ``cursor`` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    cursor: str = ""


class ChannelRequest(Struct, kw_only=True):
    """Names a channel."""

    channel: str = ""


class PresenceStatsRequest(ChannelRequest, kw_only=True):
    """Count who is subscribed: connections and users."""


class HistoryRemoveRequest(ChannelRequest, kw_only=True):
    """Forget a channel's history; its position goes on."""


class PresenceRequest(Struct, kw_only=True):
    """List who is subscribed: all, or in pages of about ``limit`` from ``cursor``, empty at the beginning."""

    channel: str = ""
    limit: Limit = 0
    cursor: str = ""


class HistoryRequest(Struct, kw_only=True):
    """Read a channel's stream: ``limit`` -1 is all, 0 the position alone."""

    channel: str = ""
    limit: Limit = 0
    since: Position | None = None
    reverse: bool = False


class ChannelsRequest(Struct, kw_only=True):
    """List the channels with subscribers, by name; ``pattern`` such as ``room:*``.

    At most ``limit``; 0 is as many as one answer holds, 100,000. ``cursor`` is that of the page before.
    """

    pattern: str = ""
    limit: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    cursor: str = ""


class InfoRequest(Struct):
    """Ask which nodes are alive."""


class RPCRequest(Struct, kw_only=True):
    """Call a method that an application adds to the server."""

    method: str = ""
    params: Raw = field(default_factory=_no_payload)


class BatchRequest(Struct, kw_only=True):
    """Several commands, each ``{"<method>": <request>}``."""

    commands: list[dict[str, Raw]] = []
    parallel: bool = False


# — results —


class Done(Struct):
    """It is done."""


class PublishResult(Struct, omit_defaults=True):
    """Where the publication stands; empty without history."""

    offset: Offset = 0
    epoch: str = ""


class ErrorBody(Struct, omit_defaults=True):
    code: int
    message: str
    temporary: bool = False


class PublishReply(Struct, omit_defaults=True):
    result: PublishResult | None = None
    error: ErrorBody | None = None


class BroadcastResult(Struct):
    """One reply for each channel, in order."""

    responses: list[PublishReply]


class PresenceResult(Struct, omit_defaults=True):
    """By client id. There are more, from ``cursor`` on, if it is given."""

    presence: dict[str, ClientInfo] | Raw
    cursor: str = ""


class BlockedUser(Struct, omit_defaults=True):
    user: str
    expire_at: int = 0


class BlockedUsersResult(Struct, omit_defaults=True):
    """There are more, from ``cursor`` on, if it is given."""

    users: list[BlockedUser]
    cursor: str = ""


class PresenceStatsResult(Struct):
    num_clients: int
    num_users: int


class HistoryResult(Struct):
    publications: list[Any]
    offset: Offset
    epoch: str


class ChannelCount(Struct, gc=False):
    num_clients: int


class ChannelsResult(Struct, omit_defaults=True):
    """With ``cursor`` there are more; when ``partial``, the nodes named ``missing`` have not answered."""

    channels: dict[str, ChannelCount]
    cursor: str = ""
    partial: bool = False
    missing: list[str] = []


class NodeResult(Struct):
    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_subs: int
    num_channels: int
    uptime: int


class InfoResult(Struct):
    nodes: list[NodeResult]

"""The Pusher protocol, version 7: what clients of an app's namespace are sent, and what they send.

A publication is an event: its name stands in the tag ``event``, and ``message`` is one's without it. What a backend has
posted is data as a string, byte for byte: usually JSON, else the tag ``format`` says ``text``. What a client has
published, which a publication with an ``info`` is, keeps its JSON type.

Source: Pusher Channels protocol, "Double encoding", "Channel events", "Presence events"; RFC 8259.
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, encode

from gateway.errors import Disconnect, DisconnectCode, Error
from gateway.kinds import Names, kind_of
from gateway.messages import (
    Command,
    MemberAdded,
    MemberRemoved,
    Payload,
    Publication,
    Push,
    Result,
    SubscriptionCount,
    is_opaque,
)

EVENT, FORMAT = "event", "format"
"""Tags of a publication: the name of the event, and of what kind its data is, where it is no JSON."""

TEXT = "text"

SERVER_EVENT, CLIENT_EVENT = "message", "client-message"
"""What a publication without name is called: one of a backend, and one of another client."""

CLOSES: dict[int, tuple[int, str]] = {
    DisconnectCode.CONNECTION_CLOSED: (4200, "connection closed"),
    DisconnectCode.SHUTDOWN: (4200, "shutdown"),
    DisconnectCode.FORCE_RECONNECT: (4200, "reconnect"),
    DisconnectCode.NO_PONG: (4201, "no pong in time"),
    DisconnectCode.STALE: (4201, "no pong in time"),
    DisconnectCode.SLOW: (4100, "slow"),
    DisconnectCode.WRITE_ERROR: (4100, "write error"),
    DisconnectCode.INTERNAL: (4100, "internal server error"),
    DisconnectCode.TOO_MANY_REQUESTS: (4100, "too many requests"),
    DisconnectCode.INSUFFICIENT_STATE: (4200, "insufficient state"),
    DisconnectCode.STATE_INVALIDATED: (4200, "state invalidated"),
    DisconnectCode.EXPIRED: (4200, "connection expired"),
    DisconnectCode.SUBSCRIPTION_EXPIRED: (4200, "subscription expired"),
}
"""The codes of this protocol for those of the gateway. What is not here is for good: 4009.

From 4200 on clients return at once, from 4100 on after a second, and below that they stay away.
"""


class Said(Struct):
    """A message of a client."""

    event: str
    data: Raw = Raw(b"{}")
    channel: str = ""


_said = Decoder(Said).decode


def closing(reason: Disconnect) -> Disconnect:
    """The same end in the codes of this protocol. Those of programs, from 4000 on, and of WebSockets stay."""
    if not 3000 <= reason.code < 4000:
        return reason
    code, text = CLOSES.get(reason.code, (4009, reason.reason))
    return Disconnect(code, text)


class PusherProtocol:
    """Satisfies `WireProtocol` for the clients of one namespace. Each message is a frame of its own."""

    name: ClassVar[str] = "pusher"
    binary: ClassVar[bool] = False
    unidirectional: ClassVar[bool] = False
    omits: ClassVar[bool] = False
    ping: ClassVar[bytes] = b'{"event":"pusher:ping","data":"{}"}'
    pong: ClassVar[bytes] = b'{"event":"pusher:pong","data":{}}'

    def __init__(self, names: Names) -> None:
        self.names = names

    def read(self, frame: bytes) -> Said:
        """What a client says. Raises ``ValueError`` for what is no message."""
        try:
            frame.decode()
            return _said(frame)
        except (DecodeError, UnicodeError, RecursionError) as error:
            raise ValueError(str(error)) from None

    def decode(self, frame: bytes, *, admitted: bool = True) -> list[Command]:
        """Its messages are no commands: see ``read``."""
        raise Disconnect(DisconnectCode.BAD_REQUEST)

    def encode_result(self, command_id: int, result: Result) -> bytes:
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)

    def encode_error(self, command_id: int, error: Error) -> bytes:
        return said("pusher:error", {"code": None, "message": error.message})

    def encode_push(self, channel: str, push: Push) -> bytes:
        name = self.names.outside(channel)
        match push:
            case Publication():
                return _event(name, push)
            case MemberAdded(user=user, info=info):
                shown = Raw(shown_info(info))
                return told("pusher_internal:member_added", name, {"user_id": user, "user_info": shown})
            case MemberRemoved(user=user):
                return told("pusher_internal:member_removed", name, {"user_id": user})
            case SubscriptionCount(count=count):
                return told("pusher_internal:subscription_count", name, {"subscription_count": count})
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)

    def join(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(messages)


def said(event: str, data: Any) -> bytes:
    """A message about the connection, with an object for data."""
    return encode({"event": event, "data": data})


def told(event: str, channel: str, data: Any) -> bytes:
    """A message about a channel, with data in a string."""
    return encode({"event": event, "channel": channel, "data": encode(data).decode()})


def shown_info(info: Payload | None) -> bytes:
    """What others are shown of a member: null, if there is nothing, or it is no JSON."""
    return b"null" if info is None or is_opaque(info) else info


def _event(channel: str, publication: Publication) -> bytes:
    """A publication as an event; data that is no JSON at all in base64."""
    tags, data, sender = publication.tags or {}, publication.data or b"null", publication.info
    if publication.binary:
        data = encode(b64encode(data).decode())
    if sender is None:
        name = tags.get(EVENT, SERVER_EVENT)
        text = data if tags.get(FORMAT) == TEXT else encode(data.decode())
        return b'{"event":%b,"channel":%b,"data":%b}' % (encode(name), encode(channel), text)
    name = tags.get(EVENT, CLIENT_EVENT)
    user = b""
    if sender.user and kind_of(channel).presence:
        user = b',"user_id":%b' % encode(sender.user)
    return b'{"event":%b,"channel":%b,"data":%b%b}' % (encode(name), encode(channel), data, user)

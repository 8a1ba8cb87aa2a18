"""The Pusher protocol, version 7: what clients of an app's namespace are sent, and what they send.

A publication is an event: its name stands in the tag ``event``, and ``message`` is one's without it. What a backend has
posted is data as a string, byte for byte: usually JSON, else the tag ``format`` says ``text``. What a client has
published, which a publication with an ``info`` is, keeps its JSON type.

Source: Pusher Channels protocol, "Double encoding", "Channel events", "Presence events"; RFC 8259.
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, decode, encode

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
from gateway.protocols.plain import shown_data

EVENT, FORMAT = "event", "format"
"""Tags of a publication: the name of the event, and of what kind its data is, where it is no JSON."""

TEXT = "text"

SERVER_EVENT, CLIENT_EVENT = "message", "client-message"
"""What a publication without name is called: one of a backend, and one of another client."""

PONG = b'{"event":"pusher:pong","data":"{}"}'
"""Answers a client's ping."""

CLOSES: dict[int, int] = {
    DisconnectCode.NO_PONG: 4201,
    DisconnectCode.STALE: 4201,
    DisconnectCode.SLOW: 4100,
    DisconnectCode.WRITE_ERROR: 4100,
    DisconnectCode.INTERNAL: 4100,
    DisconnectCode.TOO_MANY_REQUESTS: 4100,
    DisconnectCode.CONNECTION_LIMIT: 4004,
}
"""The codes of this protocol for those of the gateway. For others it is 4200 or, if they are for good, 4009.

From 4200 on clients return at once, from 4100 on after a second, and below that they stay away.
"""

_T = TypeVar("_T")
_SOCKET_ID = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
_NO_TAGS: Mapping[str, str] = {}


class Said(Struct):
    """A message of a client. Of keys that are there twice, the last counts."""

    event: str
    data: Raw = Raw(b"{}")
    channel: str = ""


_said = Decoder(Said).decode


class _Event(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A publication as it stands on the wire."""

    event: str
    channel: str = ""
    data: str | Raw
    user_id: str = ""
    offset: int = 0
    epoch: str = ""


def is_socket_id(text: str) -> bool:
    """Whether a connection may be named so."""
    return _SOCKET_ID.fullmatch(text) is not None


def closing(reason: Disconnect) -> Disconnect:
    """The same end in the codes of this protocol. Those of programs, from 4000 on, and of WebSockets stay."""
    if not 3000 <= reason.code < 4000:
        return reason
    code = CLOSES.get(reason.code) or (4200 if reason.reconnect else 4009)
    return Disconnect(code, reason.reason)


def read_data(data: Raw, kind: type[_T]) -> _T:
    """What a message is about: an object or, as older clients write it, a string of one. Raises ``ValueError``."""
    try:
        text = bytes(data)
        return decode(decode(text, type=str) if text.startswith(b'"') else text, type=kind)
    except (DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


class PusherProtocol:
    """Satisfies `WireProtocol` for the clients of one namespace. Each message is a frame of its own."""

    name: ClassVar[str] = "pusher"
    binary: ClassVar[bool] = False
    unidirectional: ClassVar[bool] = False
    omits: ClassVar[bool] = False
    ping: ClassVar[bytes] = b'{"event":"pusher:ping","data":"{}"}'
    pong: ClassVar[bytes] = b'{"event":"pusher:pong","data":{}}'

    def __init__(self, names: Names, *, offsets: bool = False) -> None:
        self.names = names
        self.offsets = offsets
        """Whether clients are told where in a stream an event stands, which is no part of the protocol."""

    def read(self, frame: bytes) -> Said:
        """What a client says. Raises ``ValueError`` for what is no message."""
        try:
            if not frame.isascii():
                frame.decode()  # what others are sent of it is passed on unread
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
        if type(push) is Publication:
            event = _event(name, push)
            if self.offsets:
                event.offset, event.epoch = push.offset, push.epoch
            return encode(event)
        match push:
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


def _event(channel: str, publication: Publication) -> _Event:
    """A publication as an event; data that is no JSON is a string in base64."""
    tags, sender = publication.tags or _NO_TAGS, publication.info
    data: str | Raw
    if publication.binary:
        data = f'"{b64encode(publication.data).decode()}"'
    else:
        shown = shown_data(publication)
        # what is no string cannot be text, whatever its publisher says of it
        text = shown.startswith(b'"') and tags.get(FORMAT) == TEXT
        data = shown.decode() if sender is None and not text else Raw(shown)
    if sender is None:
        return _Event(event=tags.get(EVENT, SERVER_EVENT), channel=channel, data=data)
    user = sender.user if kind_of(channel).presence else ""
    return _Event(event=tags.get(EVENT, CLIENT_EVENT), channel=channel, data=data, user_id=user)

"""What clients of the Pusher protocol are answered, as bytes, and what they are told of what is refused.

Source: Pusher Channels protocol, "Connection events", "Channel events", "Error codes".
"""

from collections.abc import Mapping

from msgspec.json import encode

from gateway.errors import Error, ErrorCode
from gateway.messages import Position
from gateway.protocols.pusher import said, told

UNKNOWN_KEY, DISABLED, OVER_QUOTA, NO_PATH, BAD_VERSION, OTHER_VERSION = 4001, 4003, 4004, 4005, 4006, 4007
UNAUTHORIZED = 4009
OVER_CAPACITY, RECONNECT, SILENT = 4100, 4200, 4201
EVENT_REFUSED, WATCHLIST_TOO_LONG = 4301, 4302
"""Codes of errors, most of which close the connection, too."""

AUTH, LIMIT, SERVER = "AuthError", "LimitReached", "ServerError"
"""Types of errors that answer a subscribe."""


NO_DATA = b'"{}"'


class SubscribeRefused(Error):  # noqa: N818  the protocol's own error, with what it says
    """A subscribe is not granted, as the client is told."""

    def __init__(self, kind: str, text: str, status: int) -> None:
        super().__init__(ErrorCode.PERMISSION_DENIED, text)
        self.kind = kind
        self.status = status


_REFUSALS: dict[int, tuple[str, int]] = {
    ErrorCode.INTERNAL: (SERVER, 500),
    ErrorCode.UNKNOWN_CHANNEL: (AUTH, 400),
    ErrorCode.BAD_REQUEST: (AUTH, 400),
    ErrorCode.NOT_AVAILABLE: (AUTH, 400),
    ErrorCode.UNAUTHORIZED: (AUTH, 401),
    ErrorCode.PERMISSION_DENIED: (AUTH, 403),
    ErrorCode.LIMIT_EXCEEDED: (LIMIT, OVER_CAPACITY),
    ErrorCode.TOO_MANY_REQUESTS: (LIMIT, 429),
}
"""What a subscribe is answered that has failed for a reason of the gateway's, or of the program's."""


def established(socket_id: str, activity_timeout: float) -> bytes:
    """The first message: nothing may come before it."""
    data = {"socket_id": socket_id, "activity_timeout": max(1, round(activity_timeout))}
    return said("pusher:connection_established", encode(data).decode())


def failed(code: int | None, text: str) -> bytes:
    """Something about the connection; before it is established the code must be a number."""
    return said("pusher:error", {"code": code, "message": text})


def refused(channel: str, error: Error) -> bytes:
    """A subscribe is not granted."""
    if isinstance(error, SubscribeRefused):
        kind, status = error.kind, error.status
    else:
        own = error.code if 400 <= error.code < 600 else 403  # the program's own code may be one of HTTP
        kind, status = _REFUSALS.get(error.code, (AUTH, own))
    data = {"type": kind, "error": error.message, "status": status}
    return encode({"event": "pusher:subscription_error", "channel": channel, "data": data})


def subscribed(channel: str, data: bytes = NO_DATA, resume: bytes = b"") -> bytes:
    """A subscribe is granted: in a presence channel ``data`` is the snapshot of its roster.

    ``resume`` is what `resumption` has made.
    """
    rest = b',"resume":%b' % resume if resume else b""
    event = b"pusher_internal:subscription_succeeded"
    return b'{"event":"%b","channel":%b,"data":%b%b}' % (event, encode(channel), data, rest)


def resumption(position: Position, recovered: bool) -> bytes:
    """From where the client goes on, and whether it has missed nothing: an extension of this gateway."""
    return encode({"offset": position.offset, "epoch": position.epoch, "recovered": recovered})


def cache_miss(channel: str) -> bytes:
    return told("pusher:cache_miss", channel, {})


def signed_in(user_data: str) -> bytes:
    return said("pusher:signin_success", {"user_data": user_data})


def watched(changes: Mapping[str, list[str]]) -> bytes:
    """Who of a watchlist is ``online`` and ``offline``; without a channel, or clients would not hear it."""
    events = [{"name": name, "user_ids": users} for name, users in changes.items() if users]
    return said("pusher_internal:watchlist_events", {"events": events})

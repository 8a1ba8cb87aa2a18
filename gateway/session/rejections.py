"""What is said of a client that is turned away or cut off: to the log, and by a counter, for each kind."""

import logging
from typing import Protocol

from gateway.auth.tokens import TokenExpired, TokenRefused
from gateway.core.node import Node
from gateway.core.tags import TagsFilter
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode

TIMEOUT, TOO_MANY = "message timeout", "too many errors"
"""Reasons by their words: their codes are those of other breaches, too."""

_FRAME = "bad_frame", "what it sends is not RFC 6455"
_COMMAND = "bad_command", "what it sends is no command of the protocol, or none that may come now"

KINDS: dict[int, tuple[str, str]] = {
    1002: _FRAME,
    1003: _FRAME,
    1007: _FRAME,
    1008: _FRAME,
    1009: ("message_size", "larger than client.message_size_limit, or than 64 KiB before it was let in"),
    DisconnectCode.SLOW: (
        "slow_client",
        "takes nothing for websocket.write_timeout, or has client.queue_max_size waiting for it",
    ),
    DisconnectCode.NO_PONG: ("no_pong", "no answer to a ping within client.pong_timeout"),
    DisconnectCode.INVALID_TOKEN: ("token_other", "its token is for another user, channel or client"),
    DisconnectCode.BAD_REQUEST: _COMMAND,
    DisconnectCode.STALE: ("stale", "no connect command within client.stale_close_delay"),
    DisconnectCode.CONNECTION_LIMIT: ("user_connection_limit", "its user has client.user_connection_limit of them"),
    DisconnectCode.CHANNEL_LIMIT: ("channel_limit", "more than client.channel_limit channels come with connect"),
    DisconnectCode.PERMISSION_DENIED: (
        "permission_denied",
        "the program says so, or client.disallow_anonymous_connection_tokens",
    ),
    DisconnectCode.NOT_AVAILABLE: _COMMAND,
    DisconnectCode.BLOCKED: ("blocked", "its user is on the block list"),
}
"""By the code with which it is closed: the kind, and why, or which setting says so."""

_BY_REASON = {
    TIMEOUT: ("message_timeout", "a message is not finished within client.message_timeout"),
    TOO_MANY: ("too_many_errors", "more of its commands fail than client.rate_limit.client_error allows"),
}
"""By its words."""

_USUAL = frozenset((DisconnectCode.NO_PONG,))
"""What comes of lost networks, day by day."""


class Told(Protocol):
    """A session; as text it is its name in logs."""

    @property
    def node(self) -> Node: ...


def tell(session: Told, reason: Disconnect) -> None:
    """A client is closed by ``reason``. What is no fault of its own is not told."""
    if tell_of_token(session, reason) or reason.code not in KINDS:
        return
    kind, why = _BY_REASON.get(reason.reason, KINDS[reason.code])
    said = reason.reason if reason.reason.isprintable() else ascii(reason.reason)  # the client's words may be in it
    level = logging.INFO if reason.code in _USUAL else logging.WARNING
    session.node.refusals.happened(kind, "%s: closed with %d %s: %s", str(session), reason.code, said, why, level=level)


def tell_of_token(session: Told, reason: Exception) -> bool:
    """Whether it is a token for which a client is refused; if so it is told what is wrong with it."""
    error = reason.__cause__
    if not isinstance(error, TokenRefused):
        return False
    level = logging.INFO if isinstance(error, TokenExpired) else logging.WARNING  # a new one is fetched, day by day
    why = f"{error} (key {error.key})" if error.key else str(error)
    kind, text = f"token_{error.claim}", "%s: token refused: %s"
    session.node.refusals.happened(kind, text, str(session), why, reason=why, level=level)
    return True


def check_filter(node: Node, who: object, channel: str, tags: TagsFilter, most: int) -> None:
    """Raises ``Error`` (106) if a channel would have too many different filters on this node."""
    there = node.hub.channels[channel].filters() if channel in node.hub.channels else ()
    if tags not in there and len(there) >= most:
        what = "%s: subscription to %s refused: tags_filter_limit = %d different filters are there"
        node.refusals.happened("tags_filter_limit", what, str(who), channel, most)
        raise Error(ErrorCode.LIMIT_EXCEEDED, "limit exceeded: too many different tags filters")

"""A connection below ASGI: what our own WebSocket protocol class offers to an application in the scope.

``scope["extensions"]["gateway.transport"]`` is a `RawConnection`. An application that has accepted the WebSocket
may `attach` a receiver to it and return: from then on frames go straight to the receiver, without task or queue.
"""

from enum import IntEnum
from typing import Any, Protocol

from starlette.types import Scope

from gateway.transports.deflate import Compression
from gateway.transports.handshake import Headers, UpgradeRequest

EXTENSION = "gateway.transport"

CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to read what is left and answer the close frame."""


QUEUED = 65536
"""Bytes of messages that wait for whoever takes them before no more are read."""

MESSAGE_COST = 128
"""Bytes that a message takes besides its payload, so that empty ones count."""


class ReadyState(IntEnum):
    """Where a connection stands. In the order of its life, so that states can be compared."""

    OPENING = 0
    """The request is arriving."""
    ASKED = 1
    """The application has the request."""
    OPEN = 2
    CLOSING = 3
    """A close frame has been sent; what still arrives counts only as the answer to it."""
    CLOSED = 4
    """Refused, failed or gone: nothing that arrives counts any more."""


class Receiver(Protocol):
    """Who hears of what happens on a connection. None of it waits, none of it raises."""

    def take(self, messages: list[tuple[int, bytes]]) -> None:
        """Messages of one read, as (opcode, payload): text, which is valid UTF-8, or binary."""

    def pause(self) -> None:
        """Much waits to be written: the peer reads slowly."""

    def resume(self) -> None:
        """What waited has been written, nearly all of it."""

    def hear_pong(self, payload: bytes) -> None:
        """A control frame that answers a ping, or comes unasked."""

    def drain(self) -> None:
        """The server is stopping: close."""

    def breach(self, code: int, reason: str) -> None:
        """The peer has broken the protocol, or sent too much, and is lost next."""

    def lose(self, code: int, reason: str) -> None:
        """The peer has closed or gone (code 1006), or broken the protocol. Called once, and the last."""


class RawConnection(Protocol):
    """One WebSocket. Nothing here waits, or raises when the connection is gone."""

    @property
    def compression(self) -> Compression | None:
        """How messages may be compressed; None if the client could not read them."""

    def came_to(self, endpoint: Any, scope: Scope) -> None:
        """The application has led it to this endpoint, with this scope: others may be spared the way."""

    def attach(self, receiver: Receiver, limit: int) -> None:
        """Hand the connection over, once it has been accepted. The application may return.

        A message of more than ``limit`` bytes fails the connection (1009), as one over the server's own limit does.
        """

    def limit(self, size: int) -> None:
        """From now on no message may be larger than this, nor than the server's own limit."""

    def write(self, data: bytes) -> None:
        """Whole frames, as `frames.frame` makes them."""

    def waiting(self) -> int:
        """Bytes written that the kernel has not taken yet."""

    def unread(self) -> int:
        """Those, and what the kernel has that the peer has not acknowledged, as far as it tells."""

    def hold(self) -> None:
        """Read nothing more for now."""

    def sip(self) -> None:
        """Read little at a time for now, and not more than ``QUEUED`` bytes: what has been read must be kept."""

    def go_on(self) -> None:
        """Read again, as much as comes."""

    def close(self, code: int, reason: str) -> None:
        """Close, after what was written before; ends in `Receiver.lose`, also when the peer does not answer."""

    def abort(self) -> None:
        """Drop the connection with all that waits to be written."""


class AskedConnection(RawConnection, Protocol):
    """The connection as it is before it is open, too."""

    def accept(self, subprotocol: str | None, headers: Headers) -> None:
        """Answer that the WebSocket is open. Raises ``ValueError`` for a header that cannot be sent."""

    def refuse(self, response: bytes) -> None:
        """Answer with an HTTP response instead."""


class RawEndpoint(Protocol):
    """Takes connections from the server as they come, with no application call between."""

    def open(self, connection: AskedConnection, request: UpgradeRequest) -> None:
        """Accept the connection and attach to it, or refuse it. Does not wait."""

    def turn_away(self, client: tuple[str, int] | None, headers: Headers, reason: str) -> None:
        """A request from there opens no WebSocket, and has been answered so. No ``headers`` if these made no sense."""


def discard(_data: bytes) -> None:
    """What writing is once the connection is gone."""


def raw_connection(scope: Scope) -> Any:
    """The connection, a `RawConnection`, if the server offers it, else None."""
    return (scope.get("extensions") or {}).get(EXTENSION)

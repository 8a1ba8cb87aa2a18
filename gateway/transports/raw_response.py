"""A response below ASGI: what our own HTTP protocol class offers to an application in the scope.

``scope["extensions"]["gateway.response"]`` is a `RawResponse`. An application that has sent a response's head may
`attach` to it, if it is `ready`, and write what else there is to the socket: in chunks, whose frames are its own
affair. What ends the response is ASGI's last message still, with a body that is empty.
"""

from typing import Any, Protocol

from starlette.types import Scope

EXTENSION = "gateway.response"


class Overseer(Protocol):
    """Who hears of what happens to the connection. None of it waits, none of it raises."""

    def pause(self) -> None:
        """Much waits to be written: the peer reads slowly."""

    def resume(self) -> None:
        """What waited has been written, nearly all of it."""

    def lose(self) -> None:
        """The connection is gone. Called once, and the last."""


class RawResponse(Protocol):
    """One response. Nothing here waits, or raises when the connection is gone."""

    def ready(self) -> bool:
        """Whether the body may be written here: its head has left, and says that it comes in chunks, as it is."""

    def outlast(self) -> None:
        """Let nothing be answered behind this response: what comes is dropped, and so the peer's end is heard.

        To be called when the head has left: a server reads no further while a request waits.
        """

    def attach(self, overseer: Overseer) -> None:
        """Have somebody hear of the connection until the response is over."""

    def write(self, data: bytes) -> None:
        """Whole chunks, as `chunk` makes them."""

    def waiting(self) -> int:
        """Bytes written that the kernel has not taken yet."""

    def unread(self) -> int:
        """Those, and what the kernel has that the peer has not acknowledged, as far as it tells."""

    def abort(self) -> None:
        """Drop the connection with all that waits to be written."""


def chunk(data: bytes) -> bytes:
    """Bytes of a body as they stand on the wire (RFC 9112, section 7.1). None at all would end it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def raw_response(scope: Scope) -> Any:
    """The response, a `RawResponse`, if the server offers it, else None."""
    return (scope.get("extensions") or {}).get(EXTENSION)

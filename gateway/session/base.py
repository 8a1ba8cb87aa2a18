"""The words of a session: what it knows of the client, and how it reaches it."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from gateway.core.audience import Write, Writer
from gateway.core.node import Node
from gateway.core.wheel import Timer
from gateway.errors import Disconnect


def new_id() -> str:
    """A random UUID (RFC 9562, version 4), at a third of what the standard library takes for one."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def replace_expiry(
    node: Node, before: Timer | None, expire_at: int, grace: float, passed: Callable[[], None]
) -> Timer | None:
    """Have ``passed`` called ``grace`` seconds after the moment (Unix seconds; 0 is never), instead of as before."""
    if before is not None:
        before.cancel()
    return node.wheel.after(expire_at - node.clock() + grace, passed) if expire_at else None


class Handshake(Struct):
    """What is known of a client before its first command. Header names are lower case.

    ``scope`` is the ASGI scope of the request that opened the connection, where the program may want to see it;
    ``seen`` is what the program makes of it, once for all events.
    """

    headers: Mapping[str, str] = {}
    scope: Mapping[str, Any] = {}
    seen: Any = None


class Transport(Writer, Protocol):
    """How a session reaches its client. Nothing raises, also after the end."""

    @property
    def name(self) -> str:
        """What operators call it: ``websocket``, ``sse``."""

    def behind(self) -> bool:
        """Whether the client may still be at what was written before: then a deadline of the transport's runs."""

    async def drained(self) -> None:
        """Wait while the client reads slowly: what answers more commands would only pile up."""

    def waiting(self) -> int:
        """Bytes that wait for the client in this process."""

    def close(self, reason: Disconnect) -> None:
        """Close, after what was sent before. The transport calls ``Session.end`` once it is closed."""


class Nowhere:
    """The transport of a session that has ended, which does not keep the one it had: the two would keep each other.

    Satisfies `Transport`.
    """

    __slots__ = ()

    name = ""

    def send(self, frame: Any) -> None:
        """Nobody is there to read it."""

    @property
    def write(self) -> Write:
        return self.send

    def behind(self) -> bool:
        return False

    async def drained(self) -> None:
        """Nothing waits."""

    def waiting(self) -> int:
        return 0

    def close(self, reason: Disconnect) -> None:
        """It is closed."""


NOWHERE = Nowhere()

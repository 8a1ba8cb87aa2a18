"""Writing to a client past its server's application interface, and what becomes of one that reads slowly."""

from typing import Protocol

from gateway.core.audience import Write
from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.session import Speaking
from gateway.transports.raw import discard
from gateway.transports.slow_consumer import SlowConsumer, WriteLimits

CALM = 16384
"""Bytes on their way to a client that it can take within ``client.pong_timeout``, however bad its line."""


class WrittenTo(Protocol):
    """The part of a connection that is needed for it. Nothing here waits, or raises when the connection is gone."""

    def write(self, data: bytes) -> None: ...

    def waiting(self) -> int:
        """Bytes written that the kernel has not taken yet."""

    def unread(self) -> int:
        """Those, and what the kernel has that the peer has not acknowledged, as far as it tells."""


class DirectWriting:
    """Satisfies `slow_consumer.Writing`, and of `session.Transport` all but its end. Set ``session`` before its use."""

    __slots__ = ("_connection", "_limits", "_open", "_slow", "_wheel", "session", "write")

    session: Speaking

    def __init__(self, connection: WrittenTo, wheel: Wheel, limits: WriteLimits) -> None:
        self._connection = connection
        self.write: Write = connection.write
        """The socket's own, as long as there is nothing to look after."""
        self._wheel = wheel
        self._limits = limits
        self._open = True
        self._slow: SlowConsumer | None = None

    # — for the session —

    def send(self, frame: bytes) -> None:
        if self._open:
            self._connection.write(frame)
            if self._slow is not None:
                self._slow.wrote(len(frame))

    def behind(self) -> bool:
        if self._slow is None and self._connection.unread() > CALM:
            self._watch()  # the kernel has it, and may keep it for as long as this process would
        return self._slow is not None

    async def drained(self) -> None:
        if self._slow is not None:
            await self._slow.over()

    # — for the connection —

    def pause(self) -> None:
        if self._slow is None:
            self._watch()

    def resume(self) -> None:
        if self._slow is not None:
            self._slow.end()
            self.catch_up()

    def _shut(self) -> None:
        """Write nothing more."""
        if self._slow is not None:
            self._slow.end()
            self._slow = None
        self._open = False
        self._route(discard)  # a method of its own would have it keep itself

    def _route(self, write: Write) -> None:
        self.write = write
        self.session.reroute()

    # — slow clients —

    def waiting(self) -> int:
        return self._connection.waiting()

    def unread(self) -> int:
        return self._connection.unread()

    def slow(self) -> bool:
        return self._connection.waiting() > 0 or self._connection.unread() > CALM

    def step(self) -> int:
        return 0

    def catch_up(self) -> None:
        self._slow = None
        self._route(self._connection.write)

    def give_up(self) -> None:
        self.session.reject(Disconnect(DisconnectCode.SLOW))

    def _watch(self) -> None:
        if self._open:
            self._slow = SlowConsumer(self, self._wheel, self._limits)
            self._route(self.send)

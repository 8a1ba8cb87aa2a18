"""How a plain client is written to, while the application's route goes on reading.

On any server through its ASGI ``send``; on our own protocol class straight to the socket, where one buffer serves
all clients of a channel. A plain client takes no message apart, so each is a frame of its own.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from starlette.types import Message, Receive

from gateway.core.audience import Write
from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.session import Session, Transport
from gateway.transports.asgi import AsgiTransport
from gateway.transports.conversation import ServerConnection
from gateway.transports.raw import ReadyState
from gateway.transports.slow_consumer import SlowConsumer, WriteLimits

CALM = 65536
"""Bytes waiting in a socket's buffer that make a client slow: asyncio's own mark, at which it says so."""

GONE: Message = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
"""What is received of a client that has not let the connection end."""


class PlainTransport(Transport, Protocol):
    """How a plain client is written to, and read from."""

    async def receive(self, receive: Receive) -> Message:
        """The next message; after our close, the end of the connection within the time for closing."""

    async def finish(self) -> None:
        """Write what waits for the client, if it reads it in time, and nothing after that."""


class Threshold:
    """Keeps what is for a client until its WebSocket is open.

    That is ``limit`` bytes at most. Satisfies `Transport`.
    """

    name = "websocket"

    def __init__(self, limit: int, overflow: Callable[[], None]) -> None:
        self._limit = limit
        self._overflow = overflow
        self._frames: list[Any] = []
        self._size = 0
        self._reason: Disconnect | None = None

    def send(self, frame: Any) -> None:
        self._size += len(frame) if isinstance(frame, bytes) else sum(map(len, frame))
        if self._size <= self._limit:
            self._frames.append(frame)
        else:
            # soon, for the fan-out that is writing just now must not be changed under its hands
            asyncio.get_running_loop().call_soon(self._overflow)

    @property
    def write(self) -> Write:
        return self.send

    def behind(self) -> bool:
        return False

    async def drained(self) -> None:
        """Nobody commands anything here."""

    def waiting(self) -> int:
        return self._size

    def close(self, reason: Disconnect) -> None:
        self._reason = reason

    def pass_on(self, transport: Transport) -> None:
        """It is open: the client's own transport goes on."""
        for frame in self._frames:
            transport.send(frame)
        if self._reason is not None:
            transport.close(self._reason)


class PlainPortableTransport(AsgiTransport):
    """Writes by the server's ``send``."""

    __slots__ = ("_over", "_reader")

    name: ClassVar[str] = "websocket"

    _over: bool
    _reader: asyncio.Task[Any] | None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._over = False
        self._reader = None

    def message(self, frame: Any) -> Message:
        return {"type": "websocket.send", "text" if type(frame) is str else "bytes": frame}

    def size(self, frame: Any) -> int:
        return len(frame.encode() if type(frame) is str else frame)

    def farewell(self, reason: Disconnect) -> Message:
        return {"type": "websocket.close", "code": reason.code, "reason": reason.reason}

    def send(self, frame: Any) -> None:
        for each in frame:
            super().send(each)

    async def pass_on(self, message: Message) -> None:
        """Send what the route sends by itself, behind what waits here. After our close it finds the client gone."""
        if self._pump is not None:
            await asyncio.wait([self._pump])
        if self._closing:
            raise ConnectionResetError
        await self._send(message)

    async def receive(self, receive: Receive) -> Message:
        reader = self._reader = asyncio.current_task()
        assert reader is not None
        try:
            return GONE if self._over else await receive()
        except asyncio.CancelledError:
            if not self._over or reader.uncancel():
                raise
            return GONE
        finally:
            self._reader = None

    async def finish(self) -> None:
        if self._pump is not None:
            if not self._closing:
                self._bound_closing()
            await asyncio.wait([self._pump])
        self.closed()

    def _abort(self) -> None:
        """Only what waits here is cancelled: what else the route does is its own affair."""
        self._over = True
        if self._reader is not None:
            self._reader.cancel()
        self.closed()


class PlainDirectTransport:
    """Writes past the ASGI conversation, which keeps on reading. Satisfies `slow_consumer.Writing`."""

    __slots__ = ("_connection", "_limits", "_open", "_slow", "_wheel", "session")

    name: ClassVar[str] = "websocket"
    session: Session

    def __init__(self, connection: ServerConnection, wheel: Wheel, limits: WriteLimits) -> None:
        self._connection = connection
        self._wheel = wheel
        self._limits = limits
        self._open = True
        self._slow: SlowConsumer | None = None

    def send(self, frame: bytes) -> None:
        connection = self._connection
        if not self._open or connection.state is not ReadyState.OPEN:  # the route may have closed it
            return
        connection.write(frame)
        if self._slow is not None:
            self._slow.wrote(len(frame))
        elif connection.waiting() > CALM:
            self._slow = SlowConsumer(self, self._wheel, self._limits)

    write = send

    def behind(self) -> bool:
        return self._slow is not None

    async def drained(self) -> None:
        """Nobody commands anything here."""

    def close(self, reason: Disconnect) -> None:
        self._shut()
        self._connection.close(reason.code, reason.reason)

    async def receive(self, receive: Receive) -> Message:
        return await receive()  # the connection itself sees to it that a close ends

    async def finish(self) -> None:
        self._shut()  # what has been written is the socket's

    def _shut(self) -> None:
        self._open = False
        if self._slow is not None:
            self._slow.end()
            self._slow = None

    # — slow clients —

    def waiting(self) -> int:
        return self._connection.waiting()

    def unread(self) -> int:
        return self._connection.unread() - self._connection.written

    def slow(self) -> bool:
        return self._connection.waiting() > CALM

    def step(self) -> int:
        return 0

    def catch_up(self) -> None:
        self._slow = None

    def give_up(self) -> None:
        self.session.reject(Disconnect(DisconnectCode.SLOW))

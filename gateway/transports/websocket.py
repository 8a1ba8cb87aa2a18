"""WebSocket over plain ASGI: runs on any server.

A frame is written by starting the server's ``send`` coroutine on the spot. It nearly always ends at once, for
servers only append to the socket's buffer; then the fan-out has cost neither a task nor a queue. Where it
waits, because the client reads slowly, a task carries on and later frames line up behind it, up to a limit.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Generator, Mapping
from types import CoroutineType
from typing import Any, Protocol

from starlette.types import Message, Receive, Scope, Send

from gateway.errors import Disconnect, DisconnectCode
from gateway.protocols.base import Wire
from gateway.session import Session
from gateway.transports.base import Entrance
from gateway.wheel import Timer, Wheel

_DONE: Any = object()

CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to read what is left and answer the close frame."""


class Abortable(Protocol):
    """What our own server offers in the scope: to drop a connection that ASGI can only close."""

    def abort(self) -> None: ...


def text_frame(payload: bytes) -> str:
    """What ``send`` takes: ASGI wants text frames decoded."""
    return payload.decode()


class WebSocketTransport:
    """One client's WebSocket, as the session sees it."""

    __slots__ = (
        "_backlog",
        "_closing",
        "_limit",
        "_peer",
        "_pump",
        "_send",
        "_size",
        "_task",
        "_timer",
        "_wheel",
        "_writable",
        "session",
    )

    def __init__(self, scope: Scope, send: Send, limit: int, wheel: Wheel) -> None:
        self.session: Session | None = None
        self._send = send
        self._limit = limit
        self._wheel = wheel
        self._peer: Abortable | None = (scope.get("extensions") or {}).get("gateway.transport")
        self._task = asyncio.current_task()
        self._pump: asyncio.Task[None] | None = None
        self._backlog: deque[Message] = deque()
        self._size = 0
        self._writable = True
        self._closing = False
        self._timer: Timer | None = None

    def send(self, frame: str) -> None:
        # the fan-out's inner loop: what can be spared here is spared
        if not self._writable:
            return
        message = {"type": "websocket.send", "text": frame}
        if self._pump is None:
            writing = self._send(message)
            if type(writing) is CoroutineType:
                steps = writing.__await__()
                try:
                    waits_for = next(steps, _DONE)
                except Exception:  # the server says in its own way that the client has gone
                    self._fail()
                    return
                if waits_for is _DONE:
                    return
                writing = _Resumed(steps, waits_for)
            self._pump = asyncio.get_running_loop().create_task(self._drain(writing))
        else:
            self._backlog.append(message)
            self._size += len(frame.encode())
            if self._size > self._limit:
                self._overflow()

    def close(self, reason: Disconnect) -> None:
        self._writable = False
        if self._closing:
            return
        self._closing = True
        self._timer = self._wheel.after(CLOSE_TIMEOUT, self._abort)
        self._backlog.append({"type": "websocket.close", "code": reason.code, "reason": reason.reason})
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._drain())

    def closed(self) -> None:
        """The connection is over: nothing more is written."""
        self._writable = False
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        if self._pump is not None:
            self._pump.cancel()

    async def _drain(self, begun: Awaitable[None] | None = None) -> None:
        try:
            if begun is not None:
                await begun
            while self._backlog:
                message = self._backlog.popleft()
                self._size -= len(message.get("text", "").encode())
                await self._send(message)
        except Exception:
            self._fail()
        finally:
            self._pump = None

    def _overflow(self) -> None:
        """The client reads too slowly. What waits for it is dropped, and it is told so if it still reads."""
        self._writable = False
        self._backlog.clear()
        self._size = 0
        self._give_up(DisconnectCode.SLOW)

    def _give_up(self, code: DisconnectCode) -> None:
        """End the session: soon, for the fan-out that is writing just now must not be changed under its hands."""
        if self.session is not None:
            asyncio.get_running_loop().call_soon(self.session.disconnect, Disconnect(code))

    def _fail(self) -> None:
        """Nothing can be written any more; the server may not notice that the connection is over."""
        self._writable = False
        if not self._closing:
            self._closing = True
            self._timer = self._wheel.after(CLOSE_TIMEOUT, self._abort)
        self._give_up(DisconnectCode.WRITE_ERROR)

    def _abort(self) -> None:
        if self._task is None:
            return
        if self._peer is not None:
            self._peer.abort()
        else:
            self._task.cancel()


class _Resumed:
    """Carries on with a coroutine that has been started by hand, from the future that it waits for."""

    def __init__(self, steps: Generator[Any, Any, None], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except BaseException as error:
                    waits_for = self._steps.throw(error)
                else:
                    waits_for = self._steps.send(value)
        except StopIteration:
            return


class WebSocketEndpoint:
    """A raw ASGI application for WebSocket connections.

    ``wires`` maps subprotocols that clients may offer to what is spoken then; the empty name is for clients
    that offer none of them.
    """

    def __init__(self, entrance: Entrance, wires: Mapping[str, Wire], limit: int, wheel: Wheel) -> None:
        self._entrance = entrance
        self._wires = wires
        self._limit = limit
        self._wheel = wheel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        status = self._entrance.refuse(scope)
        if status:
            await _deny(scope, send, status)
            return
        subprotocol = next((each for each in scope.get("subprotocols", ()) if each and each in self._wires), None)
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        transport = WebSocketTransport(scope, send, self._limit, self._wheel)
        session = self._entrance.open(self._wires[subprotocol or ""], transport, scope)
        transport.session = session
        try:
            await _converse(session, receive)
        except asyncio.CancelledError:
            if not session.closed:  # cancelled by the server; otherwise by the transport, after its close timeout
                raise
        finally:
            transport.closed()
            self._entrance.close(session)


async def _converse(session: Session, receive: Receive) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        await session.receive(message["bytes"] if text is None else text.encode())


async def _deny(scope: Scope, send: Send, status: int) -> None:
    """Refuse the handshake by HTTP status, where the server can."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return
    headers = [(b"retry-after", b"1")] if status == 503 else []
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b""})

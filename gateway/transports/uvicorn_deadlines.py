"""Uvicorn's protocol classes, with an end to every wait for a peer.

Uvicorn waits without end for a request head, for the rest of a WebSocket message, and for a peer that must
read before its connection can close. `protocol_classes` gives the classes for ``uvicorn.Config(http=, ws=)``.
"""

import asyncio
import logging
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Coroutine
from types import GeneratorType
from typing import Any, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.streams import StreamReader

EXTENSION = "gateway.transport"
"""Key in ``scope["extensions"]`` under which an application finds a `RawTransport`."""

HEAD_LIMIT = 65536
"""Most bytes of a request line and headers. Nginx allows 32 KiB, Node 16, httptools any number."""

DEFAULT_TIMEOUT = 10.0
"""Seconds for a class used as it stands, as in ``uvicorn --http gateway.transports.uvicorn_deadlines:HttpProtocol``."""

FRAGMENTS = 1024
"""Fragments of one message. Nobody needs them smaller than 64 bytes, and each costs as much as a message."""

CONTROL_FRAMES = 256
"""Pings and pongs in one read from the socket. While they are answered nobody else is."""

UNREAD_PONGS = 65536
"""Bytes that may wait to be sent when a ping asks for more. Pongs go past every limit of the application."""

TEXT, BINARY = 0x81, 0x82
"""First bytes of whole messages: final frame, and the opcode."""

_BETWEEN_FRAMES = StreamReader.at_eof.__code__
"""Where the parser of `websockets` waits when it has no part of a frame."""


_log = logging.getLogger("gateway.websocket")


def _is_ours(record: logging.LogRecord) -> bool:
    """Leave out what uvicorn logs as errors of the server, and are a client's to make."""
    return not str(record.msg).startswith(("Invalid UTF-8", "ASGI callable returned without completing"))


_log.addFilter(_is_ours)


class RawTransport:
    """What an application may do with its connection that ASGI has no word for."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def abort(self) -> None:
        """Drop the connection and all that waits to be sent."""
        self._transport.abort()

    def buffered(self) -> int:
        """Bytes that wait because the peer does not read."""
        return self._transport.get_write_buffer_size()


class Deadline:
    """The time by which a peer must finish what it has begun."""

    __slots__ = ("_excused", "_expire", "_loop", "_seconds", "_timer")

    def __init__(self, loop: AbstractEventLoop, seconds: float, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._expire = expire
        self._timer: TimerHandle | None = None
        self._excused = False

    def begin(self, *, excused: bool = False) -> None:
        """Start the time, unless it runs. An excuse lets it run once more: for while we did not read."""
        self._excused |= excused
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._fire)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._excused = False

    def _fire(self) -> None:
        self._timer = None
        if self._excused:
            self._excused = False
            self.begin()
        else:
            self._expire()


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1: a request's head and its body each arrive in time, and the head is of limited size."""

    timeout = DEFAULT_TIMEOUT

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline = Deadline(self.loop, self.timeout, self._overdue)
        self._reading = True
        self._in_head = True
        self._head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._deadline.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._in_head:
            # Headers are counted when whole. One that never ends would otherwise grow in the parser.
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                self.send_400_response("Request head too large.")
                return
        # Blank lines between requests begin none, but have stopped uvicorn's keep-alive timer.
        if self._reading or (self.cycle.response_complete and self.timeout_keep_alive_task is None):
            self._deadline.begin(excused=self.flow.read_paused)
        else:
            self._deadline.end()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = cast(Any, {EXTENSION: RawTransport(self.transport)})
        self._reading = self._in_head = True
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        self._deadline.end()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reading = False

    def handle_websocket_upgrade(self) -> None:
        self._deadline.end()
        super().handle_websocket_upgrade()

    def timeout_keep_alive_handler(self) -> None:
        # close() would wait without end for a peer that has not read its response yet.
        self.transport.abort()

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > HEAD_LIMIT:
            raise ValueError("request head too large")  # httptools stops, and uvicorn answers 400

    def _overdue(self) -> None:
        self.transport.abort()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket: a message once begun arrives in time, and closing ends though the peer does not read."""

    timeout = DEFAULT_TIMEOUT

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Uvicorn's own logger would tell every URL with its query, hence every token in one.
        self.logger = self.conn.logger = _log
        self._control_frames = 0
        self.close_timeout = self.timeout
        self._deadline = Deadline(self.loop, self.timeout, self._overdue)
        self._abort_timer: TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._deadline.end()
        if self._abort_timer is not None:
            self._abort_timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._control_frames = 0
        super().data_received(data)
        if not self.handshake_initiated:
            self._refuse()
        if self.transport.is_closing():
            self._deadline.end()
            self._abort_later()
        elif self._unfinished():
            # Paused means that another message was completed by this read, too: neither wait is the peer's fault.
            self._deadline.begin(excused=self.read_paused)
        else:
            self._deadline.end()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        if len(self.frames) > FRAGMENTS:
            self._violated("too many fragments")

    def handle_ping(self) -> None:
        if self._is_one_too_many() or self.transport.get_write_buffer_size() > UNREAD_PONGS:
            self._violated("too many pings")
        else:
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._is_one_too_many():
            self._violated("too many pongs")
        else:
            super().handle_pong(event)

    def _is_one_too_many(self) -> bool:
        self._control_frames += 1
        return self._control_frames > CONTROL_FRAMES

    def handle_connect(self, event: Request) -> None:
        offers = event.headers.get_all("Sec-WebSocket-Protocol")
        if offers and not any(offer.strip() for offer in offers):
            # centrifuge-python sends the header without value. Grammar forbids it, and it means none.
            del event.headers["Sec-WebSocket-Protocol"]
        super().handle_connect(event)
        if self.response.status_code == 101:
            cast(dict[str, Any], self.scope["extensions"])[EXTENSION] = RawTransport(self.transport)

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        # uvicorn's coroutine is handed on, since one of our own around it would cost every message
        if message["type"] == "websocket.send" and self._writes_at_once():
            text = message.get("text")
            payload = (message.get("bytes") or b"") if text is None else text.encode()
            self.transport.write(_header(BINARY if text is None else TEXT, len(payload)) + payload)
            return _done()
        if message["type"] == "websocket.close":
            self._abort_later()
        return super().send(message)

    def _writes_at_once(self) -> bool:
        """Whether a frame may go out as it is: nothing to compress, nothing to wait for, nobody gone."""
        conn = self.conn
        return conn.state is OPEN and self.writable.is_set() and not conn.extensions and not self.disconnected

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._abort_later()

    def shutdown(self) -> None:
        super().shutdown()
        self._abort_later()

    def _unfinished(self) -> bool:
        """Whether a fragment or a part of a frame waits for its end."""
        if self.frames:
            return True
        parser = cast("GeneratorType[Any, Any, Any]", self.conn.parser)
        while parser.gi_yieldfrom is not None:
            parser = cast("GeneratorType[Any, Any, Any]", parser.gi_yieldfrom)
        return parser.gi_code is not _BETWEEN_FRAMES

    def _refuse(self) -> None:
        """Answer a handshake that `websockets` cannot parse; uvicorn would leave the client without word."""
        answer = b"".join(self.conn.data_to_send()) or self.conn.reject(400, "Invalid WebSocket handshake.").serialize()
        self.transport.write(answer)
        self.transport.close()

    def _overdue(self) -> None:
        self._violated("message timeout")

    def _violated(self, reason: str) -> None:
        """End a connection that takes more than its part: close code 1008 (RFC 6455, section 7.4.1)."""
        if self.handshake_complete and not self.close_sent:
            self.conn.fail(1008, reason)
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1008, "reason": reason})
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        """Bound the wait for a peer that must read, or answer, before the connection closes."""
        if self._abort_timer is None and not self.disconnected:
            self._abort_timer = self.loop.call_later(self.close_timeout, self.transport.abort)


def _header(opcode: int, size: int) -> bytes:
    """The header of a whole, unmasked frame (RFC 6455, section 5.2)."""
    if size < 126:
        return bytes((opcode, size))
    if size < 65536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big")
    return bytes((opcode, 127)) + size.to_bytes(8, "big")


async def _done() -> None:
    """What is awaited when there is nothing to wait for."""


def protocol_classes(timeout: float) -> tuple[type[HttpProtocol], type[WebSocketProtocol]]:
    """The classes for uvicorn's ``http`` and ``ws``, with `timeout` seconds for every wait."""
    return (
        type("HttpProtocol", (HttpProtocol,), {"timeout": timeout}),
        type("WebSocketProtocol", (WebSocketProtocol,), {"timeout": timeout}),
    )

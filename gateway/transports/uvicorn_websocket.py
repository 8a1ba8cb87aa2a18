"""WebSockets for uvicorn: frames parsed and written here, with nothing between a session and its socket.

``gateway serve`` uses it by itself. For an application of your own::

    uvicorn --ws gateway.transports.uvicorn_websocket:WebSocketProtocol app:app

Ordinary routes run on it as they are; the gateway's own endpoints use the extension of `gateway.transports.raw`.
Options of uvicorn that count: ``ws_max_size``, ``ws_ping_interval`` and ``ws_ping_timeout`` (ordinary routes alone).
permessage-deflate is off, whatever ``ws_per_message_deflate`` says, for its default is on: use
`CompressingWebSocketProtocol`, or set ``offered`` in a subclass.
"""

import asyncio
import random
from asyncio import AbstractEventLoop
from collections.abc import Mapping
from typing import Any

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.transports.conversation import Conversation, websocket_scope
from gateway.transports.deflate import Agreement, Compression, agree
from gateway.transports.frames import (
    ABNORMAL,
    CLOSE,
    PING,
    POLICY,
    PONG,
    TOO_BIG,
    FrameParser,
    Violation,
    close_frame,
    frame,
    parse_close,
)
from gateway.transports.handshake import Headers, Refusal, UpgradeRequest, accept, read_request, read_usual
from gateway.transports.kernel import lift_user_timeout, unacknowledged
from gateway.transports.raw import EXTENSION, QUEUED, RawEndpoint, ReadyState, Receiver
from gateway.transports.short_way import remember, way_of
from gateway.transports.uvicorn_closing import ClosingProtocol

CONTROL_FRAMES = 256
"""Pings and pongs in one read from the socket. While they are answered nobody else is."""

UNREAD_PONGS = 65536
"""Bytes that may wait to be sent when a ping is answered: pongs go past every limit of the application. Asyncio's own
mark, so that it says when less waits again."""

DRAIN_RATE = 500
"""Connections closed each second when uvicorn shuts down: a storm of returning clients is worse than waiting."""

LONGEST_DRAIN = 30.0
"""Seconds at most. With uvicorn's timeout_graceful_shutdown, four fifths of that."""


class WebSocketProtocol(ClosingProtocol):
    """One connection. Satisfies `RawConnection`."""

    __slots__ = ("_agreement", "_app_state", "_head", "_ping", "_request", "config", "peer", "server", "written")

    offered: Compression | None = None
    """What to do for clients that can decompress; None sends and takes no compressed messages."""
    endpoints: Mapping[str, RawEndpoint] = {}
    """By path, or by that of `any_below`: who is given connections without an application call between.

    The rest is for the application.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        peer: tuple[str, int] | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.config = config
        self.server = server_state
        self.loop = _loop or asyncio.get_running_loop()
        self.state = ReadyState.OPENING
        self.peer = peer
        """Where the connection comes from, if the socket does not tell it."""
        self.written = 0
        self._app_state: dict[str, Any] | None = app_state
        self._head: bytearray | None = None
        """What has come of a request that is not whole, or not like most."""
        self._request: UpgradeRequest | None = None
        self._agreement: Agreement | None = None
        self._receiver = None
        self._held = self._sipping = False
        self._ping: bytes | None = None
        """The latest that has not been answered, since so much waits."""
        self._deadline = self._close_timer = None

    # — from the socket —

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is none by inheritance
        self.write = self.transport.write
        self.server.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own classes

    def come_from(self, peer: tuple[str, int]) -> None:
        self.peer = peer

    def data_received(self, data: bytes) -> None:
        if self.state is ReadyState.OPENING:
            self._open(data)
            return
        if self.state is ReadyState.CLOSED:
            return
        parser = self._parser
        messages = parser.feed(data)
        control = None
        for opcode, _ in messages:
            if opcode >= CLOSE:
                control = [message for message in messages if message[0] >= CLOSE]
                messages = [message for message in messages if message[0] < CLOSE]
                break
        if messages and self.state < ReadyState.CLOSING and self._receiver is not None:
            self._receiver.take(messages)
        if control:
            self._answer(control)
        if parser.violation is not None:
            self._fail(parser.violation)
        elif self._deadline is not None or parser.unfinished:
            if messages:
                self._end_watch()
            self._watch()
            if self.state is ReadyState.ASKED and parser.kept > QUEUED:
                self.hold()  # whose client does not wait for the answer can wait for it itself

    def eof_received(self) -> None:
        if self.waiting():
            self._bound_closing()  # the transport closes itself, once the peer has read what is left

    def pause_writing(self) -> None:
        lift_user_timeout(self.transport.get_extra_info("socket"))  # from here on it is our own deadline that counts
        if self._receiver is not None:
            self._receiver.pause()

    def resume_writing(self) -> None:
        ping, self._ping = self._ping, None
        if ping is not None:
            self._answer_ping(ping)
        if self._receiver is not None:
            self._receiver.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        self.state = ReadyState.CLOSED
        for timer in (self._deadline, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._lose(ABNORMAL, "")

    # — the handshake —

    def _open(self, data: bytes) -> None:
        if self._head is None and (request := read_usual(data)) is not None:
            self._give(request)
        else:
            self._gather(data)
            self._read_head()

    def _gather(self, data: bytes) -> bytearray:
        """What has arrived of the head, with this."""
        if self._head is None:
            self._head = bytearray()
        self._head += data
        return self._head

    def _read_head(self) -> None:
        assert self._head is not None
        try:
            found = read_request(self._head)
        except Refusal as refusal:
            for turning_away in list(self.endpoints.values())[:1]:  # it was for one of them
                turning_away.turn_away(self.client, refusal.request_headers, str(refusal))
            self.refuse(refusal.response)
            return
        if found is None:
            self._watch()
            return
        request, rest = found
        self._end_watch()
        self._give(request)
        if rest:
            self.data_received(rest)

    def _give(self, request: UpgradeRequest) -> None:
        """Give the connection to whom it is for."""
        self._head = None
        self._request = request
        request.client = self.peer or peer_of(self.transport)
        self.state = ReadyState.ASKED
        if self.offered is not None:
            self._agreement = agree(request.values(b"sec-websocket-extensions"), self.offered)
        path = request.target if "?" not in request.target else request.target.partition("?")[0]
        endpoint = self.endpoints.get(path) or self.endpoints.get(any_below(path))
        if endpoint is not None:
            endpoint.open(self, request)
        elif (way := way_of(self, path)) is None or not way.go(self, request, self._app_state or {}):
            self._begin_parsing(self.config.ws_max_size)
            self._ask(request)

    def _begin_parsing(self, limit: int) -> None:
        self._parser = FrameParser(limit, self._agreement.client_window_bits if self._agreement else 0)

    def _ask(self, request: UpgradeRequest) -> None:
        """Call the application."""
        scope = websocket_scope(request, self.config, self.transport)
        scope["state"], self._app_state = (self._app_state or {}).copy(), None
        scope["extensions"] = {"websocket.http.response": {}, EXTENSION: self}
        keepalive = self.config.ws_ping_interval or 0, self.config.ws_ping_timeout or 0
        self._receiver = conversation = Conversation(self, scope, keepalive)
        task = self.loop.create_task(conversation.run(self.config.loaded_app))
        self.server.tasks.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, call: "asyncio.Task[None]") -> None:
        """The application call is over."""
        self.server.tasks.discard(call)
        if self.state is ReadyState.CLOSED:
            self._receiver = None

    def accept(self, subprotocol: str | None, headers: Headers) -> None:
        assert self._request is not None
        extensions = self._agreement.answer if self._agreement else ""
        self.write(accept(self._request.key, subprotocol, extensions, headers, self.server.default_headers))
        self._request = None
        self.state = ReadyState.OPEN
        if self._held or self._sipping:
            self.go_on()

    def refuse(self, response: bytes) -> None:
        self.state = ReadyState.CLOSED
        self._head = self._request = None
        self._end_watch()
        self.write(response)
        self._close_transport()

    # — for receivers —

    @property
    def client(self) -> tuple[str, int] | None:
        return self.peer or peer_of(self.transport)

    @property
    def compression(self) -> Compression | None:
        return self._agreement.compression if self._agreement else None

    def came_to(self, endpoint: RawEndpoint, scope: Scope) -> None:
        remember(self, scope, endpoint)

    def attach(self, receiver: Receiver, limit: int) -> None:
        conversation = self._receiver
        if conversation is not None and not isinstance(conversation, Conversation):
            raise RuntimeError("the connection has been handed over before")
        self._receiver = receiver if self.state <= ReadyState.OPEN else None  # it loses the connection at once
        if conversation is None:
            self._begin_parsing(limit if limit < self.config.ws_max_size else self.config.ws_max_size)
            return
        self.limit(limit)
        if not conversation.hand_over(receiver, limit) and self.state is ReadyState.OPEN:
            self._fail(Violation(TOO_BIG, "message is too big"))

    def limit(self, size: int) -> None:
        self._parser.limit(min(size, self.config.ws_max_size))

    def waiting(self) -> int:
        return self.transport.get_write_buffer_size()

    def unread(self) -> int:
        return self.waiting() + unacknowledged(self.transport.get_extra_info("socket"))

    def shutdown(self) -> None:
        """Uvicorn stops. Connections close one after the other, in no order."""
        if self._receiver is None or self.state is ReadyState.CLOSED:
            self._close_transport()
            return
        longest = LONGEST_DRAIN
        if self.config.timeout_graceful_shutdown is not None:
            longest = min(longest, 0.8 * self.config.timeout_graceful_shutdown)
        spread = min(longest, (len(self.server.connections) - 1) / DRAIN_RATE)
        self.loop.call_later(random.uniform(0, spread), self._drain)  # noqa: S311  spreads, hides nothing

    def _drain(self) -> None:
        if self._receiver is not None:
            self._receiver.drain()

    # — frames —

    def _answer(self, control: list[tuple[int, bytes]]) -> None:
        if len(control) > CONTROL_FRAMES:
            self._fail(Violation(POLICY, "too many control frames"))
            return
        for opcode, payload in control:
            if opcode == PING:
                self._answer_ping(payload)
            elif opcode == PONG and self._receiver is not None:
                self._receiver.hear_pong(payload)
            elif opcode == CLOSE:
                self._answer_close(*parse_close(payload))

    def _answer_ping(self, payload: bytes) -> None:
        if self.waiting() > UNREAD_PONGS:
            self._ping = payload  # the latest is enough (RFC 6455, section 5.5.3)
        elif self.state is ReadyState.OPEN:
            self.write(frame(PONG, payload))

    def _answer_close(self, code: int, reason: str) -> None:
        if self.state is ReadyState.OPEN:
            self.write(close_frame(code))
        self.state = ReadyState.CLOSING
        self._lose(code, reason)
        self._close_transport()


class CompressingWebSocketProtocol(WebSocketProtocol):
    """The same with permessage-deflate for clients that offer it."""

    __slots__ = ()

    offered = Compression()


def any_below(path: str) -> str:
    """What an endpoint is named by that takes the last part of a path, whatever it is: ``/app/*``."""
    return f"{path.rpartition('/')[0]}/*"


def peer_of(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """Address and port, as ASGI has them. To ask the socket would make one of it, in uvloop."""
    found = transport.get_extra_info("peername")
    return found[:2] if type(found) is tuple else None  # of IPv6 there are four parts


def protocol_class(
    timeout: float, compression: Compression | None, endpoints: Mapping[str, RawEndpoint] | None = None
) -> type[WebSocketProtocol]:
    """The class for uvicorn's ``ws``, with `timeout` seconds for every wait."""
    given = {"timeout": timeout, "offered": compression, "endpoints": endpoints or {}}
    return type("WebSocketProtocol", (WebSocketProtocol,), {"__slots__": (), **given})

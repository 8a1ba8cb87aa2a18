"""Where WebSockets come in: a raw ASGI application that opens sessions on what the server offers."""

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.limits.addresses import Peer
from gateway.protocols.base import Wire, WireProtocol
from gateway.transports.admission import Asking, Refusal, Scoped
from gateway.transports.base import UNAUTHENTICATED, Acceptor
from gateway.transports.deflate import Compression
from gateway.transports.direct import DirectTransport
from gateway.transports.frames import ABNORMAL, BINARY, PING, TEXT, frame, message_frame
from gateway.transports.handshake import Headers, UpgradeRequest, response
from gateway.transports.raw import AskedConnection, RawConnection, raw_connection
from gateway.transports.websocket import converse, portable_wire, transport_of

SUBPROTOCOL = b"sec-websocket-protocol"

_PING = frame(PING, b"")


class Spoken(NamedTuple):
    """What a client and we speak."""

    protocol: WireProtocol
    subprotocol: str | None
    """The one of those offered, by which it was agreed."""
    pings_apart: bool
    """Whether the client wants to be pinged by control frames, which any WebSocket library answers by itself."""


class WebSocketEndpoint:
    """A raw ASGI application for WebSocket connections; to our own server, a `RawEndpoint`.

    ``protocols`` maps subprotocols that clients may offer to what is spoken then; the empty name is for clients
    that offer none. ``formats`` has those that clients may ask for in the address, whatever they offer.

    Source: Centrifuge client protocol v2, "WebSocket: choosing the format".
    """

    def __init__(
        self,
        acceptor: Acceptor,
        protocols: Mapping[str, WireProtocol],
        settings: Settings,
        wheel: Wheel,
        formats: Mapping[str, WireProtocol] | None = None,
    ) -> None:
        self._acceptor = acceptor
        self._protocols = protocols
        self._formats = formats or {}
        self._wheel = wheel
        self._largest = settings.client.message_size_limit
        self._first_limit = min(self._largest, UNAUTHENTICATED)
        self._portable = {protocol: portable_wire(protocol) for protocol in protocols.values()}
        self._direct: dict[tuple[WireProtocol, Compression | None, bool], Wire] = {}
        self._usual = Spoken(protocols[""], None, False)
        """With who offers nothing and asks for nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        peer, asking = self._acceptor.peer(scope), Scoped(scope)
        if refusal := self._acceptor.turn_back(peer, asking):
            await deny(scope, send, refusal)
            return
        query = scope.get("query_string", b"").decode("latin-1")
        spoken = self._choose(peer, scope.get("subprotocols", ()), query)
        if isinstance(spoken, Refusal):
            await deny(scope, send, spoken)
            return
        await send({"type": "websocket.accept", "subprotocol": spoken.subprotocol})
        connection = raw_connection(scope)
        if connection is None:
            await self._converse(spoken.protocol, scope, receive, send)
        else:
            connection.came_to(self, scope)
            self._attach(spoken, peer, asking, connection)

    def open(self, connection: AskedConnection, request: UpgradeRequest) -> None:
        peer = self._acceptor.peer_of(request)
        spoken: Spoken | Refusal | None = self._acceptor.turn_back(peer, request)
        if spoken is None:
            spoken = self._usual
            if "?" in request.target or SUBPROTOCOL in request.names:
                spoken = self._choose(peer, request.values(SUBPROTOCOL), request.target.partition("?")[2])
        if isinstance(spoken, Refusal):
            connection.refuse(response(*spoken))
            return
        connection.accept(spoken.subprotocol, [])
        self._attach(spoken, peer, request, connection)

    def turn_away(self, client: tuple[str, int] | None, headers: Headers, reason: str) -> None:
        where = self._acceptor.address({"client": client, "headers": headers})
        self._acceptor.refusals.happened("handshake", "%s: no WebSocket is opened: %s", where, reason)

    def _choose(self, peer: Peer, subprotocols: Iterable[str], query: str) -> Spoken | Refusal:
        """What is spoken with a client that has offered these. Some offer an empty one, which stands for none."""
        offered = [each for each in subprotocols if each]
        subprotocol = next((each for each in offered if each in self._protocols), None)
        if offered and subprotocol is None:
            return self._acceptor.reject_subprotocols(peer, offered, [each for each in self._protocols if each])
        asked = parse_qs(query) if query else {}
        formats = (self._formats.get(asked[each][0]) for each in ("format", "cf_protocol") if each in asked)
        protocol = next(filter(None, formats), self._protocols[subprotocol or ""])
        return Spoken(protocol, subprotocol, asked.get("cf_ws_frame_ping_pong", ())[:1] == ["true"])

    def _attach(self, spoken: Spoken, peer: Peer, asking: Asking, connection: RawConnection) -> None:
        """Hand the connection over to a session. The application call ends, and the connection lives on."""
        acceptor, compression = self._acceptor, connection.compression
        transport = DirectTransport(connection, acceptor, self._wheel, acceptor.write_limits, self._largest)
        key = spoken.protocol, compression, spoken.pings_apart
        try:
            wire = self._direct[key]
        except KeyError:
            opcode = BINARY if spoken.protocol.binary else TEXT
            framed = partial(frame, opcode)
            if compression is not None:
                framed = partial(message_frame, opcode, compression=compression)
            wire = self._direct[key] = Wire(spoken.protocol, framed, _PING if spoken.pings_apart else None)
        transport.session = acceptor.let_in(wire, transport, peer, asking)
        connection.attach(transport, self._first_limit)

    async def _converse(self, protocol: WireProtocol, scope: Scope, receive: Receive, send: Send) -> None:
        transport = transport_of(protocol)(send, self._wheel, self._acceptor.write_limits)
        session = self._acceptor.open(self._portable[protocol], transport, scope)
        transport.session = session
        code, reason = ABNORMAL, ""
        try:
            code, reason = await converse(session, receive, self._largest)
        except asyncio.CancelledError:
            if not session.closed:  # cancelled by the server; otherwise by the transport, after its close timeout
                raise
        finally:
            transport.closed()
            self._acceptor.close(session, code, reason)


async def deny(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Refuse the handshake by HTTP status, where the server can."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": refusal.headers})
    await send({"type": "websocket.http.response.body", "body": refusal.body})

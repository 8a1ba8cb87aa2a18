"""Where WebSockets come in: a raw ASGI application that opens sessions on what the server offers."""

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial

from starlette.types import Receive, Scope, Send

from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.protocols.base import Wire, WireProtocol
from gateway.transports.admission import Refusal
from gateway.transports.base import UNAUTHENTICATED, Acceptor
from gateway.transports.deflate import Compression
from gateway.transports.direct import DirectTransport
from gateway.transports.frames import ABNORMAL, BINARY, TEXT, message_frame
from gateway.transports.handshake import Headers, UpgradeRequest, response
from gateway.transports.raw import AskedConnection, RawConnection, raw_connection
from gateway.transports.websocket import WebSocketTransport, converse, text_frame


class WebSocketEndpoint:
    """A raw ASGI application for WebSocket connections; to our own server, a `RawEndpoint`.

    ``protocols`` maps subprotocols that clients may offer to what is spoken then; the empty name is for clients
    that offer none of them.
    """

    def __init__(
        self, acceptor: Acceptor, protocols: Mapping[str, WireProtocol], settings: Settings, wheel: Wheel
    ) -> None:
        self._acceptor = acceptor
        self._protocols = protocols
        self._wheel = wheel
        self._largest = settings.client.message_size_limit
        self._portable = {protocol: Wire(protocol, text_frame) for protocol in protocols.values()}
        self._direct: dict[tuple[WireProtocol, Compression | None], Wire] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if refusal := self._acceptor.refuse(scope):
            await deny(scope, send, refusal)
            return
        subprotocol = self._choose(scope.get("subprotocols", ()))
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        protocol = self._protocols[subprotocol or ""]
        connection = raw_connection(scope)
        if connection is None:
            await self._converse(protocol, scope, receive, send)
        else:
            self._attach(protocol, scope, connection)

    def open(self, connection: AskedConnection, request: UpgradeRequest) -> None:
        scope = {"client": connection.client, "headers": request.headers}
        if refusal := self._acceptor.refuse(scope):
            connection.refuse(response(*refusal))
            return
        subprotocol = self._choose(request.values(b"sec-websocket-protocol"))
        connection.accept(subprotocol, [])
        self._attach(self._protocols[subprotocol or ""], scope, connection)

    def turn_away(self, client: tuple[str, int] | None, headers: Headers, reason: str) -> None:
        where = self._acceptor.address({"client": client, "headers": headers})
        self._acceptor.refusals.happened("handshake", "%s: no WebSocket is opened: %s", where, reason)

    def _choose(self, subprotocols: Iterable[str]) -> str | None:
        return next((each for each in subprotocols if each and each in self._protocols), None)

    def _attach(self, protocol: WireProtocol, scope: Scope, connection: RawConnection) -> None:
        """Hand the connection over to a session. The application call ends, and the connection lives on."""
        transport = DirectTransport(connection, self._acceptor, self._wheel, self._acceptor.write_limits, self._largest)
        key = protocol, connection.compression
        wire = self._direct.get(key)
        if wire is None:
            opcode = BINARY if protocol.binary else TEXT
            wire = self._direct[key] = Wire(protocol, partial(message_frame, opcode, compression=key[1]))
        transport.session = self._acceptor.open(wire, transport, scope)
        connection.attach(transport, min(self._largest, UNAUTHENTICATED))

    async def _converse(self, protocol: WireProtocol, scope: Scope, receive: Receive, send: Send) -> None:
        transport = WebSocketTransport(send, self._wheel, self._acceptor.write_limits)
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

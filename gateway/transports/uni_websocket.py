"""WebSockets whose clients only listen: one connect request comes up, or stands in the query, and pushes go down.

Source: Centrifuge protocol, "Unidirectional transports".
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope, Send

from gateway.config.settings import Settings
from gateway.errors import Disconnect, DisconnectCode
from gateway.limits.addresses import Peer
from gateway.protocols.base import StreamProtocol
from gateway.session import ClientSession
from gateway.transports.admission import Asking, Refusal, Scoped
from gateway.transports.asgi import AsgiTransport
from gateway.transports.base import UNAUTHENTICATED, Acceptor
from gateway.transports.deflate import Compression
from gateway.transports.direct import DirectTransport
from gateway.transports.endpoint import deny
from gateway.transports.frames import ABNORMAL, NO_CODE, PING, TEXT, TOO_BIG, frame
from gateway.transports.handshake import Headers, UpgradeRequest, response
from gateway.transports.raw import AskedConnection, RawConnection, raw_connection
from gateway.transports.single_frames import DirectWire, PortableWire
from gateway.transports.websocket import payload_of, websocket_farewell

PATH = "/connection/uni_websocket"


class UniPortableWire(PortableWire):
    """A frame for each push, or for all that come together."""

    __slots__ = ("_joins",)

    def __init__(self, protocol: StreamProtocol, *, joins: bool) -> None:
        self._joins = joins
        super().__init__(protocol)
        self.ping = self.pack([protocol.ping])

    def pack(self, messages: Sequence[bytes]) -> list[Any]:
        return super().pack([self.protocol.join(messages)] if self._joins else messages)


class UniDirectWire(DirectWire):
    """The same for a socket; and with each ping one of RFC 6455, that something comes back."""

    __slots__ = ("_joins",)

    def __init__(self, protocol: StreamProtocol, compression: Compression | None, *, joins: bool) -> None:
        self._joins = joins
        super().__init__(protocol, compression)
        self.ping = frame(PING, b"") + self.ping

    def pack(self, messages: Sequence[bytes]) -> bytes:
        return super().pack([self.protocol.join(messages)] if self._joins else messages)


class UniDirectTransport(DirectTransport):
    """On a raw connection. What comes after the connect request is not looked at."""

    __slots__ = ("_asked", "_last_words")

    name: ClassVar[str] = "uni_websocket"

    def __init__(self, connection: RawConnection, acceptor: Acceptor, words: "LastWords", *, asked: bool) -> None:
        super().__init__(connection, acceptor, acceptor.wheel, acceptor.write_limits, 0)
        self._last_words = words
        self._asked = asked

    def begin(self, request: bytes) -> None:
        """The connect request has come with the handshake."""
        super().take([(TEXT, request)])

    def take(self, messages: list[tuple[int, bytes]]) -> None:
        if not self._asked:
            self._asked = True
            super().take(messages[:1])

    def close(self, reason: Disconnect) -> None:
        if push := self._last_words.push(reason):
            self.send(self.session.wire.pack([push]))
        super().close(reason)


class UniPortableTransport(AsgiTransport):
    """On any server."""

    __slots__ = ("_last_words", "_wire")

    name: ClassVar[str] = "uni_websocket"

    def __init__(self, send: Send, acceptor: Acceptor, wire: UniPortableWire, words: "LastWords") -> None:
        super().__init__(send, acceptor.wheel, acceptor.write_limits)
        self._wire = wire
        self._last_words = words

    def message(self, frame: Any) -> Message:
        return {"type": "websocket.send", "text" if type(frame) is str else "bytes": frame}

    def size(self, frame: Any) -> int:
        return len(frame.encode() if type(frame) is str else frame)

    def farewell(self, reason: Disconnect) -> Message:
        return websocket_farewell(reason)

    def send(self, frame: list[Any]) -> None:
        for each in frame:
            super().send(each)

    def close(self, reason: Disconnect) -> None:
        if push := self._last_words.push(reason):
            self.send(self._wire.pack([push]))
        super().close(reason)


class LastWords:
    """What clients are told at the end, before the close frame says the same."""

    def __init__(self, protocol: StreamProtocol, *, disabled: bool) -> None:
        self._protocol = protocol
        self._disabled = disabled

    def push(self, reason: Disconnect) -> bytes | None:
        if self._disabled or reason.code <= DisconnectCode.CONNECTION_CLOSED:
            return None
        return self._protocol.encode_disconnect(reason)


class UniWebSocketEndpoint:
    """A raw ASGI application for such connections; to our own server, a `RawEndpoint`."""

    def __init__(self, acceptor: Acceptor, protocol: StreamProtocol, settings: Settings) -> None:
        options = settings.uni_websocket
        self._acceptor = acceptor
        self._protocol = protocol
        self._joins = options.join_push_messages
        self._words = LastWords(protocol, disabled=options.disable_disconnect_push)
        self._largest = min(settings.client.message_size_limit, UNAUTHENTICATED)
        self._portable = UniPortableWire(protocol, joins=self._joins)
        self._direct: dict[Compression | None, UniDirectWire] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        peer, asking = self._acceptor.peer(scope), Scoped(scope)
        asked = self._asked(peer, asking, scope["query_string"].decode("latin-1"))
        if isinstance(asked, Refusal):
            await deny(scope, send, asked)
            return
        await send({"type": "websocket.accept"})
        connection = raw_connection(scope)
        if connection is None:
            await self._converse(asked, scope, receive, send)
        else:
            self._attach(asked, peer, asking, connection)

    def open(self, connection: AskedConnection, request: UpgradeRequest) -> None:
        peer = self._acceptor.peer_of(request)
        asked = self._asked(peer, request, request.target.partition("?")[2])
        if isinstance(asked, Refusal):
            connection.refuse(response(*asked))
            return
        connection.accept(None, [])
        self._attach(asked, peer, request, connection)

    def turn_away(self, client: tuple[str, int] | None, headers: Headers, reason: str) -> None:
        where = self._acceptor.address({"client": client, "headers": headers})
        self._acceptor.refusals.happened("handshake", "%s: no WebSocket is opened: %s", where, reason)

    def _asked(self, peer: Peer, asking: Asking, query: str) -> bytes | Refusal | None:
        """The connect request in the query, if there is one, or how the client is refused."""
        if refusal := self._acceptor.turn_back(peer, asking):
            return refusal
        [text] = parse_qs(query).get("cf_connect", [""])[:1]
        if not text:
            return None
        request = text.encode()
        if len(request) > self._largest:
            told = "%s: connect request of more than %d bytes refused"
            self._acceptor.refusals.happened("message_size", told, peer.address, self._largest)
            return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, [])
        try:
            self._protocol.decode(request)
        except Disconnect:
            return Refusal(HTTPStatus.BAD_REQUEST, [], b"The connect request in cf_connect cannot be read.\n")
        return request

    def _attach(self, asked: bytes | None, peer: Peer, asking: Asking, connection: RawConnection) -> None:
        """Hand the connection over to a session. The application call ends, and the connection lives on."""
        transport = UniDirectTransport(connection, self._acceptor, self._words, asked=asked is not None)
        compression = connection.compression
        wire = self._direct.get(compression)
        if wire is None:
            wire = self._direct[compression] = UniDirectWire(self._protocol, compression, joins=self._joins)
        transport.session = self._acceptor.let_in(wire, transport, peer, asking)
        connection.attach(transport, self._largest)
        if asked is not None:
            transport.begin(asked)

    async def _converse(self, asked: bytes | None, scope: Scope, receive: Receive, send: Send) -> None:
        transport = UniPortableTransport(send, self._acceptor, self._portable, self._words)
        session = transport.session = self._acceptor.open(self._portable, transport, scope)
        code, reason = ABNORMAL, ""
        try:
            code, reason = await _listen(session, asked, receive, self._largest)
        except asyncio.CancelledError:
            if not session.closed:  # cancelled by the server; otherwise by the transport, after its close timeout
                raise
        finally:
            transport.closed()
            self._acceptor.close(session, code, reason)


async def _listen(session: ClientSession, asked: bytes | None, receive: Receive, largest: int) -> tuple[int, str]:
    """Give the session its connect request, the first message if there is none yet, until the connection ends.

    Returns the code and the reason with which it was closed.
    """
    if asked is not None:
        await session.receive(asked)
    while (message := await receive())["type"] == "websocket.receive":
        if asked is None:
            asked = payload_of(message)
            if len(asked) > largest:
                session.reject(Disconnect(TOO_BIG, "message is too big"))
            else:
                await session.receive(asked)
    return message.get("code", NO_CODE), message.get("reason") or ""

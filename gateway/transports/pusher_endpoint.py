"""Where clients of the Pusher protocol come in: ``/app/{key}``.

Every connection is accepted first, and refused by a message and a close code, for their library is told of no status
of HTTP. A refusal that can be told at once makes no session. Who is refused for want of room returns after a second.

Source: Pusher Channels protocol, "Connecting to Pusher", "Error codes"; pusher-js, ``connection_manager``.
"""

import asyncio
from functools import partial
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs, unquote
from weakref import WeakValueDictionary

from starlette.types import Message, Receive, Scope, Send

from gateway.apps.base import App, Apps
from gateway.config.settings import Settings
from gateway.errors import Disconnect, Error
from gateway.kinds import Names
from gateway.limits.addresses import Peer
from gateway.protocols.pusher import PusherProtocol
from gateway.session import PusherSession
from gateway.session.pusher import Shared, replies
from gateway.transports.admission import Asking, Scoped
from gateway.transports.asgi import AsgiTransport
from gateway.transports.base import Acceptor
from gateway.transports.deflate import Compression
from gateway.transports.direct import DirectTransport
from gateway.transports.frames import ABNORMAL, PING, TEXT, frame
from gateway.transports.handshake import Headers, UpgradeRequest
from gateway.transports.raw import AskedConnection, RawConnection, raw_connection
from gateway.transports.single_frames import DirectWire, PortableWire
from gateway.transports.websocket import converse, websocket_farewell

PATH = "/app/"
"""Behind it stands the app's key."""

BINARY_MESSAGE = b"\0"
"""In place of one that is binary, which none is here: it cannot be read, as the client is told."""

_PROTOCOLS = frozenset(("5", "6", "7"))


class PusherPortableWire(PortableWire):
    """Frames for any server. Kept by those who use it alone: there may be one for each of thousands of apps."""

    __slots__ = ("__weakref__",)

    def __init__(self, protocol: PusherProtocol) -> None:
        super().__init__(protocol)
        self.ping = self.pack([protocol.ping])


class PusherDirectWire(DirectWire):
    """The same for a socket; pings are WebSocket's own, which browsers answer by themselves."""

    __slots__ = ("__weakref__", "compression")

    def __init__(self, protocol: PusherProtocol, compression: Compression | None) -> None:
        super().__init__(protocol, compression)
        self.compression = compression
        self.ping, self.pings_apart = frame(PING, b""), True


class PusherDirectTransport(DirectTransport):
    """On a raw connection."""

    __slots__ = ()

    name: ClassVar[str] = "pusher"

    def take(self, messages: list[tuple[int, bytes]]) -> None:
        super().take([each if each[0] == TEXT else (TEXT, BINARY_MESSAGE) for each in messages])


class PusherPortableTransport(AsgiTransport):
    """On any server."""

    __slots__ = ()

    name: ClassVar[str] = "pusher"

    def message(self, frame: str) -> Message:
        return {"type": "websocket.send", "text": frame}

    def size(self, frame: str) -> int:
        return len(frame.encode())

    def farewell(self, reason: Disconnect) -> Message:
        return websocket_farewell(reason)

    def send(self, frame: list[str]) -> None:
        for each in frame:
            super().send(each)


class Dismissed:
    """Who is on a raw connection that is being closed: nobody. Satisfies `raw.Receiver`."""

    __slots__ = ()

    def take(self, messages: list[tuple[int, bytes]]) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def hear_pong(self, payload: bytes) -> None: ...

    def drain(self) -> None: ...

    def breach(self, code: int, reason: str) -> None: ...

    def lose(self, code: int, reason: str) -> None: ...


class Refused(NamedTuple):
    """What a client is told that may not come in."""

    code: int
    text: str


class Asked(NamedTuple):
    """What a client asks for by the address that it has come to."""

    key: str
    resumes: bool


class PusherEndpoint:
    """A raw ASGI application for such connections; to our own server, a `RawEndpoint`."""

    def __init__(self, acceptor: Acceptor, apps: Apps, shared: Shared, settings: Settings) -> None:
        self._acceptor = acceptor
        self._apps = apps
        self._shared = shared
        self._largest = settings.client.message_size_limit
        self._wires = Wires()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        peer, asking = self._acceptor.peer(scope), Scoped(scope)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        asked = self._asked(peer, asking, path, scope.get("query_string", b"").decode("latin-1"))
        if isinstance(asked, Refused):
            await send({"type": "websocket.send", "text": replies.failed(*asked).decode()})
            await send(websocket_farewell(Disconnect(*asked)))
            return
        connection = raw_connection(scope)
        if connection is None:
            await self._converse(asked, peer, asking, receive, send)
        else:
            self._attach(asked, peer, asking, connection)

    def open(self, connection: AskedConnection, request: UpgradeRequest) -> None:
        peer = self._acceptor.peer_of(request)
        connection.accept(None, [])
        path, _, query = request.target.partition("?")
        asked = self._asked(peer, request, unquote(path), query)
        if isinstance(asked, Refused):
            connection.attach(Dismissed(), 0)
            connection.write(frame(TEXT, replies.failed(*asked)))
            connection.close(*asked)
        else:
            self._attach(asked, peer, request, connection)

    def turn_away(self, client: tuple[str, int] | None, headers: Headers, reason: str) -> None:
        where = self._acceptor.address({"client": client, "headers": headers})
        self._acceptor.refusals.happened("handshake", "%s: no WebSocket is opened: %s", where, reason)

    # — who may come in —

    def _asked(self, peer: Peer, asking: Asking, path: str, query: str) -> Asked | Refused:
        """What a client asks for, or how it is refused, as far as that can be said at once."""
        if self._acceptor.turn_back(peer, asking, check_origin=False):
            return Refused(replies.OVER_CAPACITY, "no more connections are taken just now")
        key = path.rpartition(PATH)[2]
        if not key or "/" in key:
            return self._refuse(peer, Refused(replies.NO_PATH, "the address is /app/ and the key of an app"))
        asked = parse_qs(query)
        version = asked.get("protocol", ["7"])[0]
        if not (version.isascii() and version.isdigit()):
            return self._refuse(peer, Refused(replies.BAD_VERSION, "protocol is a number"))
        if version not in _PROTOCOLS:
            return self._refuse(peer, Refused(replies.OTHER_VERSION, "protocols 5 to 7 are spoken"))
        app = self._apps.known(key)
        if app is not None and (refused := self._judge(peer, asking, app)):
            return refused
        return Asked(key, asked.get("resume", [""])[0] == "1")

    def _judge(self, peer: Peer, asking: Asking, app: App) -> Refused | None:
        """How a client of an app is refused, if it is."""
        settings = app.settings
        if not settings.enabled:
            return self._refuse(peer, Refused(replies.DISABLED, "the app is disabled"), app)
        if self._acceptor.forbids(peer, asking, settings.allowed_origins, "allowed_origins of the app"):
            return Refused(replies.UNAUTHORIZED, "the page's origin may not connect")
        if 0 < settings.max_connections <= self._shared.quota.count(app.id):
            return self._refuse(peer, Refused(replies.OVER_QUOTA, "the app has as many connections as it may"), app)
        return None

    def _refuse(self, peer: Peer, refused: Refused, app: App | None = None) -> Refused:
        """Count and tell it; the key, which clients can make up, is not told."""
        whose = f"app {app.id}" if app else "no app"
        what = "%s: connection refused with %d, of %s: %s"
        self._acceptor.refusals.happened(
            "pusher_connection", what, peer.address, refused.code, whose, refused.text, reason=whose
        )
        return refused

    # — sessions —

    def _begin(self, session: PusherSession, asked: Asked, peer: Peer, asking: Asking) -> None:
        """Let the client in, or refuse it; if somebody has to be asked, when that is done."""
        app = self._apps.known(asked.key)
        if app is not None and not self._must_ask(app):
            self._welcome(session, app)
        else:
            self._shared.node.begin(self._find(session, asked, peer, asking))

    async def _find(self, session: PusherSession, asked: Asked, peer: Peer, asking: Asking) -> None:
        try:
            app = await self._apps.find(asked.key)
        except Error:  # of which whoever cannot tell has told
            session.turn_away(replies.OVER_CAPACITY, "the app cannot be looked up just now")
            return
        if app is not None and self._must_ask(app):
            await self._shared.quota.learn(app.id)
        if session.closed:
            return
        if app is None:
            refused: Refused | None = self._refuse(peer, Refused(replies.UNKNOWN_KEY, "no app has this key"))
        else:
            refused = self._judge(peer, asking, app)
        if refused is not None:
            session.turn_away(*refused)
        elif app is not None:
            self._welcome(session, app)

    def _must_ask(self, app: App) -> bool:
        """Whether other nodes have to be asked how many connections they have."""
        return app.settings.max_connections > 0 and self._shared.quota.is_unknown(app.id)

    def _welcome(self, session: PusherSession, app: App) -> None:
        session.wire = self._wires.of(session.wire, app.names, resumes=session.resumes)
        session.welcome(app)

    def _attach(self, asked: Asked, peer: Peer, asking: Asking, connection: RawConnection) -> None:
        """Hand the connection over to a session. The application call ends, and the connection lives on."""
        acceptor = self._acceptor
        transport = PusherDirectTransport(connection, acceptor, acceptor.wheel, acceptor.write_limits, 0)
        wire = self._wires.direct(connection.compression)
        make = partial(PusherSession, shared=self._shared, resumes=asked.resumes)
        session = transport.session = acceptor.let_in_as(make, wire, transport, peer, asking)
        connection.attach(transport, self._largest)
        self._begin(session, asked, peer, asking)

    async def _converse(self, asked: Asked, peer: Peer, asking: Asking, receive: Receive, send: Send) -> None:
        acceptor = self._acceptor
        transport = PusherPortableTransport(send, acceptor.wheel, acceptor.write_limits)
        make = partial(PusherSession, shared=self._shared, resumes=asked.resumes)
        session = transport.session = acceptor.let_in_as(make, self._wires.portable, transport, peer, asking)
        code, reason = ABNORMAL, ""
        try:
            self._begin(session, asked, peer, asking)
            code, reason = await converse(session, partial(_receive, receive), self._largest)
        except asyncio.CancelledError:
            if not session.closed:  # cancelled by the server; otherwise by the transport, after its close timeout
                raise
        finally:
            transport.closed()
            acceptor.close(session, code, reason)


class Wires:
    """The wires that sessions use just now; each of one way to write, and of the names of one namespace."""

    def __init__(self) -> None:
        self._made: WeakValueDictionary[Any, PusherDirectWire | PusherPortableWire] = WeakValueDictionary()
        self._beginners: dict[Compression | None, PusherDirectWire] = {}
        """Of connections whose app is not known yet."""
        self.portable = PusherPortableWire(PusherProtocol(Names("")))

    def direct(self, compression: Compression | None) -> PusherDirectWire:
        """Of a raw connection whose app is not known yet."""
        wire = self._beginners.get(compression)
        if wire is None:
            wire = self._beginners[compression] = PusherDirectWire(PusherProtocol(Names("")), compression)
        return wire

    def of(self, beginner: Any, names: Names, *, resumes: bool) -> PusherDirectWire | PusherPortableWire:
        """The wire of an app, in place of the one that it has begun with."""
        key = beginner, names.prefix, resumes
        wire = self._made.get(key)
        if wire is None:
            protocol = PusherProtocol(names, offsets=resumes)
            if isinstance(beginner, PusherDirectWire):
                wire = PusherDirectWire(protocol, beginner.compression)
            else:
                wire = PusherPortableWire(protocol)
            self._made[key] = wire
        return wire


async def _receive(receive: Receive) -> Message:
    """A message of the client; one that is binary becomes one that cannot be read."""
    message = await receive()
    if message["type"] == "websocket.receive" and message.get("text") is None:
        return {**message, "text": None, "bytes": BINARY_MESSAGE}
    return message

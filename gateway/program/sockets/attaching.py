"""How a WebSocket of the application's own route becomes a connection of the gateway's."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Literal, TypedDict, Unpack

from msgspec import structs
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from gateway.auth.tokens import TokenExpired, TokenRefused, TokenVerifier
from gateway.channels import check_names
from gateway.core.node import Node
from gateway.errors import BrokerUnavailable, Disconnect, Error, KeysUnavailable
from gateway.program.encoding import encode_data
from gateway.program.keywords import check_keywords
from gateway.program.sockets.connection import ClientLeft, PlainConnection
from gateway.program.sockets.session import EXPIRED, PlainSession
from gateway.program.sockets.writing import PlainDirectTransport, PlainPortableTransport
from gateway.protocols.base import Wire
from gateway.protocols.plain import Plain, PlainBytes, PlainJson, PlainText
from gateway.session import Handshake, connecting, tell
from gateway.session.application import Admission, unix_seconds, user_id
from gateway.transports.base import Acceptor
from gateway.transports.deflate import Compression
from gateway.transports.raw import raw_connection
from gateway.transports.single_frames import DirectWire, PortableWire

Format = Literal["text", "json", "bytes"]

POLICY, TRY_AGAIN = 1008, 1013
"""Close codes: the client may not come in; not now, for the node is full or stops."""


class Options(TypedDict, total=False):
    """How a WebSocket is attached."""

    user: str | int | None
    """Who the client is; without, and without ``token``, it is nobody in particular."""
    token: str | None
    """Its connection token, which names the user: only who has a good one comes in, and no longer than it lasts.

    Once it is given, None, as a query without token has it, is not a good one.
    """
    format: Format
    """What messages are, in both directions; ``text`` by default."""
    info: Any
    """What presence shows, in place of the token's own."""
    expires: float | datetime | None
    """When its time with ``user`` ends (Unix seconds, or a datetime): it is closed with 4001 then."""
    subprotocol: str | None
    """What to accept with."""
    channels: Sequence[str]
    """What it hears before it is accepted: from the open on nothing is missed."""
    check_origin: bool
    """Whether pages must come from one of client.allowed_origins: a route that goes by cookies needs it."""


class Attachment:
    """A WebSocket in the gateway's channels for the length of a block.

    The block ends without error when the client leaves while its connection, or the WebSocket itself, sends, receives
    or subscribes. That another connection is over, to which the block sends, is an error as any other. Where the
    broker is away, ``WebSocketException`` closes with 1013. So it is with what the block's own tasks raise in a group.
    """

    def __init__(self, opening: Callable[[], Awaitable[PlainConnection]], acceptor: Acceptor) -> None:
        self._opening = opening
        self._acceptor = acceptor

    async def __aenter__(self) -> PlainConnection:
        self._connection = await self._opening()
        return self._connection

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        over = self._connection.closed
        await self._connection.left()
        if error is None:
            return False
        errors = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
        rest = errors.split(lambda each: self._is_end(each))[1]  # a method it would not take
        if rest is None:
            return True
        if rest.split(BrokerUnavailable)[1] is not None:
            return False
        refusal = turned_away(self._connection.websocket, self._acceptor)
        if not over:
            try:
                raise refusal from error
            finally:
                del refusal  # this frame is in its traceback, and would keep it
        return True

    def _is_end(self, error: BaseException) -> bool:
        """Whether that is the end of this block's own connection."""
        if isinstance(error, ClientLeft):
            return error.connection is self._connection
        return isinstance(error, WebSocketDisconnect) and self._connection.gone


def turned_away(websocket: WebSocket, acceptor: Acceptor) -> WebSocketException:
    """Closes a WebSocket that has no broker, and is to come back."""
    tell_away(websocket, acceptor, f"closed with {TRY_AGAIN}")
    return WebSocketException(TRY_AGAIN, "try again later")


def tell_away(connection: HTTPConnection, acceptor: Acceptor, answer: str) -> None:
    """A route has asked for what needs the broker, and its client is answered so."""
    where, path = acceptor.address(connection.scope), connection.url.path
    text = "%s: %s %s, for the broker is away"
    acceptor.refusals.happened("broker_away", text, where, path, answer, reason=answer)


class Sockets:
    """Attaches plain WebSockets to a node, and lets each of its clients in as the acceptor does."""

    def __init__(self, acceptor: Acceptor, node: Node, tokens: TokenVerifier) -> None:
        self.node = node
        self._acceptor = acceptor
        self._tokens = tokens
        self._protocols: dict[str, Plain] = {"text": PlainText(), "json": PlainJson(), "bytes": PlainBytes()}
        self._portable: dict[Plain, Wire] = {each: PortableWire(each) for each in self._protocols.values()}
        self._direct: dict[tuple[Plain, Compression | None], Wire] = {}

    def attach(self, websocket: WebSocket, **options: Unpack[Options]) -> Attachment:
        """Open for the length of a block."""
        check_keywords("attach()", options, Options.__annotations__)
        return Attachment(partial(self.open, websocket, **options), self._acceptor)

    async def open(
        self,
        websocket: WebSocket,
        *,
        strict: bool = True,
        prepare: Callable[[PlainConnection], Awaitable[object]] | None = None,
        **options: Unpack[Options],
    ) -> PlainConnection:
        """Make it known, subscribe it, and accept it, unless the route has.

        Whoever opens it detaches it.
        ``prepare`` is done before it is accepted, too. With ``strict``, a message that is not in its format ends it.

        Raises ``WebSocketException``, which FastAPI answers and no route need catch: 1008 for a token that is none
        and for a foreign origin, 1013 for a node that is full or stops, before the WebSocket is accepted, hence HTTP
        403 to the client; 4001 for a good token whose time has passed, 3504 over client.user_connection_limit, and
        3510 for a user that is blocked, after, so that a page sees the code, as 1013 when the broker is away. A page
        that sees 4001, then or later, fetches a new token.
        """
        protocol = self._protocols.get(options.get("format", "text"))
        if protocol is None:
            known = ", ".join(map(repr, self._protocols))
            raise ValueError(f"format must be one of {known}, not {options['format']!r}")
        check_names(options.get("channels", ()))
        if "token" in options and "user" in options:
            raise TypeError("give user or token, not both: the token names the user")
        if "token" in options and "expires" in options:
            raise TypeError("give expires with user only: a token says itself when it expires")
        if refusal := self._acceptor.refuse(websocket.scope, check_origin=options.get("check_origin", False)):
            raise WebSocketException(*_REFUSALS[refusal.status])
        admission = await self._identify(options, websocket)
        try:
            if admission is None:
                raise Disconnect(EXPIRED, "token expired")
            connection = self._begin(websocket, protocol, admission)
        except Disconnect as reason:
            await _accept(websocket, options)
            raise WebSocketException(reason.code, reason.reason) from reason
        except Error as error:  # the user connects too often
            await _accept(websocket, options)
            raise WebSocketException(TRY_AGAIN, "try again later") from error
        try:
            await self._subscribe(connection, options.get("channels", ()), prepare)
            await _accept(websocket, options)
            connection.open(strict=strict)
        except BrokerUnavailable as error:
            await connection.left()
            await _accept(websocket, options)
            raise turned_away(websocket, self._acceptor) from error
        except BaseException:
            connection.detach()
            raise
        return connection

    async def _identify(self, options: Options, websocket: WebSocket) -> Admission | None:
        """Who the client is, None if its token's time has passed."""
        expire_at = unix_seconds(options.get("expires"))
        admission: Admission | None = Admission(user_id(options.get("user")), expire_at, refreshable=False)
        if 0 < expire_at <= self.node.clock():
            admission = None
        if "token" in options:
            admission = await self._by_token(options["token"] or "", websocket)
        if admission is not None and "info" in options:
            admission = structs.replace(admission, info=encode_data(options["info"]))
        return admission

    async def _by_token(self, token: str, websocket: WebSocket) -> Admission | None:
        client, keys = self.node.settings.client, self._tokens.connection_keys
        try:
            if keys is not None and not keys.has(token):
                await keys.fetch(token)
            known = self._tokens.connection(token)
        except KeysUnavailable as error:
            where = self._acceptor.address(websocket.scope)
            self.node.refusals.happened("keys_away", "%s: token not looked at: %s", where, error.problem)
            raise WebSocketException(TRY_AGAIN, "try again later") from error
        except TokenRefused as error:
            self._tell(error, websocket)
            if isinstance(error, TokenExpired):
                return None
            raise WebSocketException(POLICY, "invalid token") from error
        if not known.user and client.disallow_anonymous_connection_tokens:
            raise WebSocketException(POLICY, "the token names no user")
        expire_at = 0 if client.insecure else known.expire_at
        if expire_at and expire_at <= self.node.clock():
            return None
        return Admission(known.user, expire_at, known.info, refreshable=False)

    def _tell(self, error: TokenRefused, websocket: WebSocket) -> None:
        where = self._acceptor.address(websocket.scope)
        self.node.refusals.happened(f"token_{error.claim}", "%s: token refused: %s", where, error)

    def _begin(self, websocket: WebSocket, protocol: Plain, admission: Admission) -> PlainConnection:
        """Make it known. Raises ``Disconnect`` if its user has too many connections."""
        wire, transport = self._reach(websocket, protocol)
        handshake = Handshake(scope=websocket.scope)
        session = PlainSession(self.node, self._tokens, wire, transport, handshake)
        self._acceptor.locate(session, websocket.scope)
        session.begin()
        try:
            connecting.admit(session, admission)
        except Disconnect as reason:
            tell(session, reason)
            raise
        transport.session = session  # not before: of one that is not let in nobody sees to the end
        connection = PlainConnection(websocket, session, protocol, transport, self._acceptor)
        self._acceptor.add(session)
        return connection

    async def _subscribe(
        self,
        connection: PlainConnection,
        channels: Sequence[str],
        prepare: Callable[[PlainConnection], Awaitable[object]] | None,
    ) -> None:
        personal = self.node.channels.personal(connection.user)
        try:
            for channel in [*([personal] if personal else []), *channels]:
                await connection.subscribe(channel)
            if prepare is not None:
                await prepare(connection)
        except ClientLeft:
            return  # it is told when it is open
        connection.supersede()

    def _reach(
        self, websocket: WebSocket, protocol: Plain
    ) -> tuple[Wire, PlainPortableTransport | PlainDirectTransport]:
        wheel, limits = self.node.wheel, self._acceptor.write_limits
        raw = raw_connection(websocket.scope)
        if raw is None:
            # below Starlette's own send, which would have the route's next receive fail once we have closed
            transport = PlainPortableTransport(websocket._send, wheel, limits)
            websocket._send = transport.pass_on
            return self._portable[protocol], transport
        key = protocol, raw.compression
        wire = self._direct.get(key)
        if wire is None:
            wire = self._direct[key] = DirectWire(*key)
        return wire, PlainDirectTransport(raw, wheel, limits)


async def _accept(websocket: WebSocket, options: Options) -> None:
    if websocket.application_state is WebSocketState.CONNECTING:
        await websocket.accept(options.get("subprotocol"))


_REFUSALS: dict[int, tuple[int, str]] = {
    HTTPStatus.FORBIDDEN: (POLICY, "origin not allowed"),
    HTTPStatus.SERVICE_UNAVAILABLE: (TRY_AGAIN, "try again later"),
    HTTPStatus.TOO_MANY_REQUESTS: (TRY_AGAIN, "try again later"),
}

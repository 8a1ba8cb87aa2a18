"""A plain WebSocket in the gateway's channels, as the application's code uses it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from gateway.errors import LONGEST_REASON, Disconnect, DisconnectCode
from gateway.program.encoding import encode_data, encode_publication
from gateway.program.sockets.session import PlainSession, subscribe, unsubscribe
from gateway.program.sockets.writing import PlainTransport
from gateway.protocols.plain import Plain
from gateway.session import FAIR
from gateway.transports.base import Acceptor
from gateway.transports.frames import CLOSE_CODES


class ClientLeft(WebSocketDisconnect):
    """The ``connection`` is over. It ends the block of ``attach`` that is its own, without going further."""

    def __init__(self, connection: "PlainConnection", code: int, reason: str | None) -> None:
        super().__init__(code, reason)
        self.connection = connection

    def __str__(self) -> str:
        return f"client {self.connection.id} has left: {self.code} {self.reason}"


class PlainConnection:
    """One client. ``async for`` yields what it sends, and ends when the connection does.

    To ``send`` never waits for the client: one who reads more slowly than it is sent to is cut off, with 3008, like
    any other of the gateway's clients. What is too large for that goes by ``websocket.send_bytes``, which waits.
    """

    def __init__(
        self,
        websocket: WebSocket,
        session: PlainSession,
        protocol: Plain,
        transport: PlainTransport,
        acceptor: Acceptor,
    ) -> None:
        self.websocket = websocket
        self._session = session
        self._protocol = protocol
        self._transport = transport
        self._acceptor = acceptor
        self._left: asyncio.Event | None = None
        self._count = 0

    @property
    def id(self) -> str:
        """Names the connection: the ``client`` of presence, and of the server API."""
        return self._session.client

    @property
    def user(self) -> str:
        return self._session.user

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._left is not None or self._session.closed

    # — channels —

    async def subscribe(self, channel: str, *, info: Any = None, replay: int | None = None) -> None:
        """Deliver the channel's publications to this client; nothing is done if they are already.

        Nobody is asked: who may hear what is for the code that calls this to decide. ``replay`` sends the newest so
        many of the channel's history first; by default, all if its option ``replay`` is set, else none. ``info`` is
        shown in presence. Raises ``Error``: 102 for a channel that there cannot be, 106 over client.channel_limit,
        108 for a replay without history.
        """
        self._check()
        try:
            await subscribe(self._session, channel, None if info is None else encode_data(info), replay)
        except Disconnect as reason:
            self._session.disconnect(reason)
        finally:
            self._check()

    async def unsubscribe(self, channel: str) -> None:
        """Deliver no more of the channel; nothing is done if nothing was delivered."""
        self._session.node.check_loop()
        await unsubscribe(self._session, channel)

    # — messages —

    async def send(self, value: Any) -> None:
        """Send to this client alone what a publication of this value would look like to it.

        It leaves at once, so that whatever the route does with the WebSocket next comes after it. Raises
        ``TypeError`` for a value that the connection's format cannot carry.
        """
        self._check()
        try:
            message = self._protocol.encode_push("", encode_publication(value))
        except Disconnect as reason:
            advice = f"attach(websocket, format='bytes'), this is {self._protocol.name!r}"
            raise TypeError(f"bytes need a connection in the format for them: {advice}") from reason
        self._session.node.hub.send(self._session, message)
        self._count += 1
        if self._count % FAIR == 0:  # others have their turn, and the client's end is noticed
            await asyncio.sleep(0)

    async def receive(self) -> Any:
        """The client's next message: ``str``, ``bytes`` or what the JSON says, as the format is.

        A message that is not in the format closes the connection, with 1003 or 1007. Raises ``ClientLeft``.
        """
        while True:
            message = await self._next()
            if message["type"] == "websocket.disconnect":
                self.detach()
                raise ClientLeft(self, message.get("code", 1005), message.get("reason"))
            if self.closed:  # what comes after our close does not count
                continue
            text = message.get("text")
            content: str | bytes = message["bytes"] if text is None else text
            self._session.node.metrics.bytes_in += len(content)
            try:
                return self._protocol.read(content)
            except Disconnect as reason:
                self._session.disconnect(reason)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            try:
                value = await self.receive()
            except ClientLeft:
                return
            yield value

    async def _next(self) -> Message:
        if self.websocket.client_state is WebSocketState.DISCONNECTED:  # the route has received it by itself
            return {"type": "websocket.disconnect"}
        return await self._transport.receive(self.websocket.receive)

    def _check(self) -> None:
        self._session.node.check_loop()
        if self.closed:
            reason = self._session.reason or Disconnect(DisconnectCode.CONNECTION_CLOSED)
            raise ClientLeft(self, reason.code, reason.reason)

    # — the end —

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, after what was sent before. Raises ``ValueError`` for what a close frame cannot say."""
        self._session.node.check_loop()
        if code not in CLOSE_CODES:
            raise ValueError(f"code = {code} is no server's to send; your own are 3000 to 4999, for example 4001")
        if len(reason.encode(errors="replace")) > LONGEST_REASON:
            raise ValueError(f"reason must not be longer than {LONGEST_REASON} bytes, for example 'signed out'")
        farewell = Disconnect(code)
        farewell.reason = reason
        self._session.disconnect(farewell)

    def detach(self) -> None:
        """Leave every channel. The WebSocket stays as it is, and belongs to the route alone from now on."""
        if self._left is None:
            self._left = asyncio.Event()
            self._acceptor.sessions.discard(self._session)
            self._session.node.hub.flush()
            self._session.node.spawn(self._leave(self._left))

    async def left(self) -> None:
        """Detach, and wait until the channels know."""
        self.detach()
        assert self._left is not None
        await self._left.wait()

    async def _leave(self, left: asyncio.Event) -> None:
        try:
            await self._session.end()
            await self._session.left()  # it may have been ended before, and be about to leave
            await self._transport.finish()
        finally:
            left.set()

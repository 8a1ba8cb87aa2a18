"""A plain WebSocket in the gateway's channels, as the application's code uses it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Any

from msgspec import ValidationError, convert
from msgspec.structs import asdict
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from gateway.errors import LONGEST_REASON, Disconnect, DisconnectCode
from gateway.messages import Position
from gateway.program.encoding import encode_data, encode_publication
from gateway.program.sockets.inbox import ChannelMessage, Inbox
from gateway.program.sockets.reading import Reading
from gateway.program.sockets.session import EXPIRED, PlainSession, Subscribed, Wanted, redirect, subscribe, unsubscribe
from gateway.program.sockets.writing import PlainTransport, Threshold
from gateway.protocols.plain import Plain
from gateway.session import FAIR, State
from gateway.session.application import unix_seconds
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
        """The WebSocket need not be accepted yet; ``open`` says when it is."""
        self.websocket = websocket
        self._session = session
        self._limit = session.node.settings.client.queue_max_size
        # the session's own, which does not keep this: who has ended keeps no transport
        self._overflow = partial(session.disconnect, Disconnect(DisconnectCode.SLOW))
        session.transport = threshold = Threshold(self._limit, self._overflow)
        self._threshold: Threshold | None = threshold
        self._protocol = protocol
        self._transport = transport
        self._wire = session.wire
        self._acceptor = acceptor
        self._reading: Reading | None = None
        self._inbox: Inbox | None = None
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

    @property
    def channels(self) -> list[str]:
        """Those that it is subscribed to."""
        return [name for name, subscription in self._session.subscriptions.items() if subscription.live]

    def open(self, *, strict: bool) -> None:
        """The WebSocket is accepted: send what waits, and hear what the client says.

        With ``strict``, it ends when that is not in its format, whoever asks for it.
        """
        receive = self.websocket._receive
        self._reading = Reading(
            self._session, self._protocol, self._transport, receive, strict=strict, left=self.detach
        )
        self.websocket._receive = self._reading.receive
        threshold, self._threshold = self._threshold, None
        assert threshold is not None, "it is opened once"
        if self._session.state is not State.ENDED:
            self._session.transport = self._transport
            self._session.reroute()
        threshold.pass_on(self._transport)

    @property
    def gone(self) -> bool:
        """Whether the WebSocket has ended, from the client's side or the route's."""
        return WebSocketState.DISCONNECTED in (self.websocket.client_state, self.websocket.application_state)

    def supersede(self) -> None:
        """End its user's older connections, where a user may have one alone."""
        self._session.supersede()

    # — channels —

    async def subscribe(
        self, channel: str, *, info: Any = None, replay: int | None = None, since: Position | None = None
    ) -> Subscribed:
        """Deliver the channel's publications to this client; nothing is done if they are already.

        Nobody is asked: who may hear what is for the code that calls this to decide. ``replay`` sends the newest so
        many of the channel's history first; by default, all if its option ``replay`` is set, else none. With 0 nothing
        comes but the answer's position, from which a client may go on later; by default it is empty. ``since``
        sends what came after that position instead: the answer's ``recovered`` says whether that was all of it; if
        not, because the channel has lost some, nothing comes but what ``replay`` brings. ``info`` is shown in presence.

        Raises ``Error``: 102 for a channel that there cannot be, 106 over client.channel_limit, 108 for a replay
        without history. Raises ``ValueError`` for what is no position.
        """
        self._check()
        data = None if info is None else encode_data(info)
        return await self._subscribe(channel, Wanted(data, replay, _checked(since)))

    async def show(self, channel: str) -> None:
        """Subscribe, and appear in presence whatever the options say, if it is somebody."""
        await self._subscribe(channel, Wanted(shown=bool(self.user)))

    async def _subscribe(self, channel: str, wanted: Wanted) -> Subscribed:
        self._check()
        try:
            return await subscribe(self._session, channel, wanted)
        except Disconnect as reason:
            self._session.disconnect(reason)
            raise
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
            advice = f"attach(websocket, format='bytes'), this one is {self._protocol.name}"
            raise TypeError(f"bytes need a connection in the format for them: {advice}") from reason
        if self._inbox is None:
            self._session.node.hub.send(self._session, message)
        else:
            self._session.node.metrics.bytes_out += len(message)
            self._transport.send(self._wire.pack([message]))
        self._count += 1
        if self._count % FAIR == 0:  # others have their turn, and the client's end is noticed
            await asyncio.sleep(0)

    async def receive(self) -> Any:
        """The client's next message: ``str``, ``bytes`` or what the JSON says, as the format is.

        A message that is not in the format closes the connection, with 1003 or 1007. Raises ``ClientLeft``.
        """
        assert self._reading is not None, "the WebSocket is open"
        message = self._reading.end if self._reading.over else await self.websocket.receive()
        assert message is not None
        if message["type"] == "websocket.disconnect":
            self.detach()
            raise ClientLeft(self, message.get("code", 1005), message.get("reason"))
        return self._reading.value

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            try:
                value = await self.receive()
            except ClientLeft:
                return
            yield value

    def messages(self) -> AsyncIterator[ChannelMessage]:
        """What is published to its channels, for the route to send on as it likes ::

            await connection.subscribe("chat:lobby", since=position)
            async for message in connection.messages():
                await connection.send({"offset": message.offset, "data": message.data})

        It ends with the connection. From the call on nothing of it reaches the client by itself, what a ``subscribe``
        just before has found included. Who does not take what comes is cut off, with 3008, when
        client.queue_max_size bytes wait.
        """
        self._check()
        if self._inbox is None:
            self._inbox = Inbox(self._transport, self._limit, self._overflow)
            redirect(self._session, self._inbox)
        return self._taken(self._inbox)

    async def _taken(self, inbox: Inbox) -> AsyncIterator[ChannelMessage]:
        assert self._reading is not None, "the WebSocket is open"
        while True:
            while (message := inbox.take()) is not None:
                yield message
            if self.closed:
                return
            self._reading.watch()
            await inbox.wait()

    def _check(self) -> None:
        self._session.node.check_loop()
        if self.closed:
            reason = self._session.reason or Disconnect(DisconnectCode.CONNECTION_CLOSED)
            raise ClientLeft(self, reason.code, reason.reason)

    # — the end —

    async def refresh(self, *, expires: float | datetime | None) -> None:
        """Move the end of its time (Unix seconds, or a datetime); None is never.

        One that has passed closes the connection, with 4001.
        """
        self._check()
        expire_at = unix_seconds(expires)
        if expires is not None and expire_at <= self._session.node.clock():
            self._session.disconnect(Disconnect(EXPIRED, "token expired"))
        else:
            self._session.expire(expire_at)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, after what was sent before.

        ``code`` is any that RFC 6455 lets a server send. Raises ``ValueError`` for another, and for a reason that a
        close frame has no room for.
        """
        self._session.node.check_loop()
        if code not in CLOSE_CODES:
            raise ValueError(f"code = {code} is no server's to send; your own are 4000 to 4999, for example 4001")
        if len(reason.encode(errors="replace")) > LONGEST_REASON:
            raise ValueError(f"reason must not be longer than {LONGEST_REASON} bytes, for example 'signed out'")
        farewell = Disconnect(code)
        farewell.reason = reason
        self._session.close(farewell)

    def detach(self) -> None:
        """Leave every channel. The WebSocket stays as it is, and belongs to the route alone from now on."""
        if self._left is None:
            self._left = asyncio.Event()
            self._acceptor.remove(self._session)
            self._session.node.hub.flush()
            if self._reading is not None:
                self._reading.detach()
            if self._inbox is not None:
                self._inbox.wake()
            self._session.node.begin(self._leave(self._left))  # who asks from now on does not find it

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


def _checked(since: Position | None) -> Position | None:
    """A position may be what a page has sent. Raises ``ValueError`` for what is none."""
    if since is None:
        return None
    try:
        return convert(asdict(since), Position)
    except (TypeError, ValidationError) as error:
        example = 'since=Position(offset=7, epoch="ab12"), as a message of the channel has them'
        raise ValueError(f"{since!r} is no position: {error}; for example {example}") from error

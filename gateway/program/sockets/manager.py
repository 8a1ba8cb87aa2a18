"""The tutorial's connection manager, over all nodes."""

import asyncio
from collections.abc import Awaitable, MutableMapping
from typing import Any, Protocol, Unpack
from urllib.parse import quote

from starlette.websockets import WebSocket

from gateway.program.sockets.attaching import Options, Sockets
from gateway.program.sockets.connection import ClientLeft, PlainConnection


class Host(Protocol):
    """What the manager needs of a gateway. It is asked each time, since every lifespan has a node of its own."""

    @property
    def sockets(self) -> Sockets:
        """Raises if the gateway does not run."""

    def publish(self, channel: str, data: Any, /) -> Awaitable[Any]: ...

    @property
    def managers(self) -> "MutableMapping[str, ConnectionManager]":
        """Those that there are, by channel."""


class ConnectionManager:
    """Keeps the WebSockets of a route, and broadcasts to all of them, on whichever node they are.

    What FastAPI's tutorial writes for one process; the program that uses it stays as it is ::

        manager = ConnectionManager(gateway)

    Every socket is subscribed to ``channel``, an ordinary channel: whatever else publishes there reaches them too,
    as does its history those who join, if it has the option ``replay``. What a user is sent alone goes by a channel
    whose name begins with channel.private_prefix, so that no other client can subscribe to it. A second manager needs
    another channel: ``ValueError``.
    """

    def __init__(self, gateway: Host, channel: str = "broadcast") -> None:
        self.channel = channel
        self._gateway = gateway
        self._connections: dict[WebSocket, PlainConnection] = {}
        if channel in gateway.managers:
            raise ValueError(
                f"there is a manager of the channel {channel!r} already, and the two would be one room;"
                f' give this one a channel of its own, for example ConnectionManager(app, "admins")'
            )
        gateway.managers[channel] = self

    @property
    def active_connections(self) -> list[WebSocket]:
        """The sockets of this process that are open."""
        return [websocket for websocket, connection in self._connections.items() if not connection.closed]

    async def connect(self, websocket: WebSocket, **options: Unpack[Options]) -> None:
        """Accept the WebSocket, unless it is accepted, and have it hear what is broadcast.

        Call it in the route itself: a socket that is never disconnected is forgotten when the task that has connected
        it ends. Nothing is done if it is connected. Raises ``WebSocketException`` for who may not come in, as
        `Sockets.open` does.
        """
        if websocket in self._connections:
            return
        connection = await self._gateway.sockets.open(websocket, **options)
        self._connections[websocket] = connection
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _task: self.disconnect(websocket))
        try:
            await connection.subscribe(self.channel)
            if connection.user:
                await connection.subscribe(self._channel_of(connection.user))
        except ClientLeft:
            pass  # the route learns it from its next receive, as ever
        except BaseException:
            self.disconnect(websocket)
            raise

    def disconnect(self, websocket: WebSocket) -> None:
        """Forget the socket; nothing is done if it is not known. It stays open until the route closes it or ends."""
        connection = self._connections.pop(websocket, None)
        if connection is not None:
            connection.detach()

    async def send_personal_message(self, message: Any, websocket: WebSocket) -> None:
        """Send to one socket of this process; nothing is done if it has gone."""
        connection = self._connections.get(websocket)
        if connection is not None and not connection.closed:
            await connection.send(message)

    async def send_to_user(self, message: Any, user: str | int) -> None:
        """Send to every socket that was connected as this user."""
        await self._gateway.publish(self._channel_of(str(user)), message)

    async def broadcast(self, message: Any) -> None:
        """Send to every socket. One that is slow, or dead, is nobody else's trouble, and raises nothing here."""
        await self._gateway.publish(self.channel, message)

    def _channel_of(self, user: str) -> str:
        prefix = self._gateway.sockets.node.settings.channel.private_prefix
        return f"{prefix}{self.channel}/{quote(user, safe='')}"

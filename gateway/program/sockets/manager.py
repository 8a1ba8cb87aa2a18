"""The tutorial's connection manager, over all nodes."""

import asyncio
from collections.abc import Awaitable, MutableMapping
from functools import partial
from typing import Any, Protocol, Unpack
from urllib.parse import quote, unquote

from starlette.websockets import WebSocket

from gateway.program.keywords import check_keywords
from gateway.program.sockets.attaching import Options, Sockets
from gateway.program.sockets.connection import PlainConnection


class Publishes(Protocol):
    """What can be said to channels."""

    def publish(self, channel: str, data: Any, /) -> Awaitable[Any]: ...


class Host(Publishes, Protocol):
    """What the manager needs of a gateway. It is asked each time, since every lifespan has a node of its own."""

    async def run_on(self) -> None:
        """Have it run, if nobody has seen to that."""

    @property
    def sockets(self) -> Sockets:
        """Raises if the gateway does not run."""

    def exclude(self, client: str, /) -> Publishes: ...

    @property
    def managers(self) -> "MutableMapping[str, ConnectionManager]":
        """Those that there are, by channel."""


class ConnectionManager:
    """Keeps the WebSockets of a route, and broadcasts to all of them, on whichever node they are.

    What FastAPI's tutorial writes for one process; the program that uses it stays as it is ::

        manager = ConnectionManager(gateway)

    Every socket is subscribed to ``channel``, an ordinary channel: whatever else publishes there reaches them too,
    as does its history those who join, if it has the option ``replay``. Rooms, and what a user is sent alone, go by
    channels whose names begin with channel.private_prefix, so that no other client can subscribe to them. A second
    manager needs another channel: ``ValueError``.

    What one coroutine sends to a socket by the manager and by the socket's own methods arrives in the order of the
    calls. What publishes raises ``BrokerUnavailable`` while the broker is away.
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

    # — sockets of this process —

    @property
    def active_connections(self) -> list[WebSocket]:
        """The sockets of this process that are open."""
        return [websocket for websocket, connection in self._connections.items() if not connection.closed]

    async def connect(self, websocket: WebSocket, *, room: str | int | None = None, **options: Unpack[Options]) -> None:
        """Accept the WebSocket, unless it is accepted, once it hears its room and all.

        Call it in the route itself: a socket that is never disconnected is forgotten when the task that has connected
        it ends. One that is connected only joins the room. Raises ``WebSocketException`` for who may not come in, as
        `Sockets.open` does.
        """
        check_keywords("connect()", options, ["room", *Options.__annotations__])
        if websocket in self._connections:
            if room is not None:
                await self.join(websocket, room)
            return
        await self._gateway.run_on()
        prepare = partial(self._prepare, room)
        connection = await self._gateway.sockets.open(websocket, strict=False, prepare=prepare, **options)
        self._connections[websocket] = connection
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _task: self.disconnect(websocket))

    def disconnect(self, websocket: WebSocket) -> None:
        """Forget the socket; nothing is done if it is not known. It stays open until the route closes it or ends."""
        connection = self._connections.pop(websocket, None)
        if connection is not None:
            connection.detach()

    async def send_personal_message(self, message: Any, websocket: WebSocket) -> None:
        """Send to one socket of this process; nothing is done if it has gone, or was never connected."""
        connection = self._known(websocket)
        if connection is not None and not connection.closed:
            await connection.send(message)

    # — rooms: they need not be declared, and are there while somebody is in them —

    async def join(self, websocket: WebSocket, room: str | int) -> None:
        """Have it hear another room. Raises ``ValueError`` unless it is connected."""
        connection = self._known(websocket)
        if connection is None:
            raise ValueError(f"connect it first: await manager.connect(websocket, room={room!r})")
        await connection.show(self._room(room))

    async def leave(self, websocket: WebSocket, room: str | int) -> None:
        """Have the socket hear no more of a room; nothing is done if it does not."""
        connection = self._known(websocket)
        if connection is not None:
            await connection.unsubscribe(self._room(room))

    def rooms(self, websocket: WebSocket) -> list[str]:
        """The rooms that a socket of this process is in, as they were joined."""
        connection, prefix = self._known(websocket), self._room("")
        channels = connection.channels if connection is not None else []
        return [unquote(channel.removeprefix(prefix)) for channel in channels if channel.startswith(prefix)]

    async def users(self, room: str | int) -> list[str]:
        """Who is in the room, on all nodes: each once. Sockets that are nobody's are not."""
        await self._gateway.run_on()
        members = await self._gateway.sockets.node.presence_store.members(self._room(room))
        return sorted({member.user for member in members.values()})

    # — to sockets of all nodes —

    async def broadcast(self, message: Any, *, room: str | int | None = None, exclude: WebSocket | None = None) -> None:
        """Send to every socket, or to those of a room, but for one of this process.

        One that is slow, or dead, is nobody else's trouble, and raises nothing here.
        """
        await self._gateway.run_on()
        excluded = None if exclude is None else self._known(exclude)
        publishes = self._gateway if excluded is None else self._gateway.exclude(excluded.id)
        await publishes.publish(self._room(room), message)

    async def send_to_user(self, user: str | int, message: Any) -> None:
        """Send to every socket that was connected as this user."""
        if not isinstance(user, str | int):
            raise TypeError(f"the user comes first: send_to_user(7, message), not {user!r}")
        await self._gateway.run_on()
        await self._gateway.publish(self._private(str(user)), message)

    async def _prepare(self, room: str | int | None, connection: PlainConnection) -> None:
        await connection.subscribe(self.channel)
        if room is not None:
            await connection.show(self._room(room))
        if connection.user:
            await connection.subscribe(self._private(connection.user))

    def _known(self, websocket: WebSocket) -> PlainConnection | None:
        """The connection of a socket. Raises ``TypeError`` for what is none, such as the message in its place."""
        if not isinstance(websocket, WebSocket):
            raise TypeError(f"one WebSocket is wanted, as the route has it, not {websocket!r}")
        return self._connections.get(websocket)

    def _room(self, room: str | int | None) -> str:
        """The channel of a room, or that of all. A user's has no such slash. Raises ``TypeError`` for no name."""
        if room is None:
            return self.channel
        if not isinstance(room, str | int):
            raise TypeError(f"a room is named by a str or an int, for example 'lobby', not {room!r}")
        # an Enum of str goes by its value, as it compares
        return self._private("rooms", room if isinstance(room, str) else str(room))

    def _private(self, *parts: str) -> str:
        prefix = self._gateway.sockets.node.settings.channel.private_prefix
        # quoted, so that no part of it is taken for a namespace, which would have to be declared
        return prefix + "/".join(quote(part, safe="") for part in (self.channel, *parts))

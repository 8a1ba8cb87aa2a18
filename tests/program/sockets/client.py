"""A WebSocket whose server is the test: what arrives is put in, what is sent is written down."""

import asyncio
from typing import Any
from weakref import WeakValueDictionary

from starlette.types import Message
from starlette.websockets import WebSocket

from gateway.core.node import Node
from gateway.program.operations import Operations
from gateway.program.routes.program import Program
from gateway.program.sockets import Sockets
from gateway.program.sockets.manager import ConnectionManager
from gateway.transports.base import Acceptor
from tests.session.rig import Rig


class Client:
    """One client of a route, at ``websocket``."""

    def __init__(self, *headers: tuple[bytes, bytes], accepted: bool = False) -> None:
        self.sent: list[Message] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        """What every write waits for."""
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "websocket", "path": "/ws", "headers": list(headers), "query_string": b""}
        self.websocket = WebSocket(scope, self._incoming.get, self._send)
        self._incoming.put_nowait({"type": "websocket.connect"})

    async def _send(self, message: Message) -> None:
        if self.gate is not None and message["type"] != "websocket.accept":
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(message)

    def say(self, *messages: str | bytes) -> None:
        for each in messages:
            key = "text" if isinstance(each, str) else "bytes"
            self._incoming.put_nowait({"type": "websocket.receive", key: each})

    def leave(self, code: int = 1001) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})

    @property
    def accepted(self) -> list[Message]:
        return [message for message in self.sent if message["type"] == "websocket.accept"]

    @property
    def heard(self) -> list[Any]:
        """Messages to the client."""
        frames = [message for message in self.sent if message["type"] == "websocket.send"]
        return [message.get("text", message.get("bytes")) for message in frames]

    def closing(self) -> tuple[int, str] | None:
        closes = [(each["code"], each["reason"]) for each in self.sent if each["type"] == "websocket.close"]
        assert len(closes) <= 1
        return closes[0] if closes else None


class Host(Operations):
    """What the manager needs of a gateway."""

    def __init__(self, node: Node, sockets: Sockets) -> None:
        self._node = node
        self._program = Program()
        self.sockets = sockets
        self.managers: WeakValueDictionary[str, ConnectionManager] = WeakValueDictionary()

    @property
    def node(self) -> Node:
        return self._node

    async def run_on(self) -> None:
        """It runs."""


class SocketRig(Rig):
    """A node in memory that plain WebSockets attach to."""

    def __init__(self, client: dict[str, Any], channel: dict[str, Any]) -> None:
        super().__init__(client, channel)
        self.acceptor = Acceptor(self.node, self.tokens)
        self.sockets = Sockets(self.acceptor, self.node, self.tokens)
        self.host = Host(self.node, self.sockets)

    async def assert_empty(self) -> None:
        await super().assert_empty()
        assert self.acceptor.sessions == set()

    @classmethod
    async def open(cls, *, channel: dict[str, Any] | None = None, **client: Any) -> "SocketRig":
        rig = await super().open(channel=channel, **client)
        assert isinstance(rig, SocketRig)
        return rig

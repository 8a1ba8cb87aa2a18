"""Clients over real WebSockets, and the gateway that they meet."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.auth.tokens import sign_connection, sign_subscription
from gateway.config.contradictions import find_problems
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.serve.app import create_app
from tests.serving import on_uvicorn

SECRET = "a secret of more than thirty-two bytes, as all should be"


class Client:
    """Asks, and is answered. Pushes are kept in ``pushes``."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.pushes: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self._replies: dict[int, dict[str, Any]] = {}

    async def send(self, kind: str, **request: Any) -> int:
        number = next(self._ids)
        await self.socket.send(json.dumps({"id": number, kind: request}))
        return number

    async def ask(self, kind: str, **request: Any) -> Any:
        """The result, or the error, or ``(code, reason)`` of the close."""
        return await self.reply(await self.send(kind, **request), kind)

    async def reply(self, number: int, kind: str = "") -> Any:
        while number not in self._replies:
            try:
                await self._read()
            except ConnectionClosed:
                return self.socket.close_code, self.socket.close_reason
        reply = self._replies.pop(number)
        return reply.get("error") or reply.get(kind, reply)

    async def push(self) -> dict[str, Any]:
        """The next push; its close as ``{"closed": code}``."""
        while not self.pushes:
            try:
                await self._read()
            except ConnectionClosed:
                return {"closed": self.socket.close_code}
        return self.pushes.pop(0)

    async def _read(self) -> None:
        for line in str(await asyncio.wait_for(self.socket.recv(), 10)).split("\n"):
            message = json.loads(line)
            if message.get("id"):
                self._replies[message["id"]] = message
            elif message:
                self.pushes.append(message["push"])


class Gateway:
    """A standalone gateway, as ``gateway serve`` runs it."""

    def __init__(self, app: FastAPI, port: int) -> None:
        self.app = app
        self.node: Node = app.state.node
        self.port = port

    def session(self, client: str = "") -> Any:
        """That of a client, or of the only one."""
        connections = self.node.hub.connections
        return connections[client] if client else next(iter(connections.values()))

    @asynccontextmanager
    async def client(self, **headers: str) -> AsyncIterator[Client]:
        """One that has not said anything."""
        url = f"ws://127.0.0.1:{self.port}/connection/websocket"
        async with connect(url, additional_headers=headers, ping_interval=None) as socket:
            yield Client(socket)

    @asynccontextmanager
    async def connected(self, user: str = "7", **claims: Any) -> AsyncIterator[Client]:
        async with self.client() as client:
            assert "client" in await client.ask("connect", token=token(user, **claims))
            yield client


def token(user: str, **claims: Any) -> str:
    return sign_connection(SECRET, user, **claims)


def channel_token(user: str, channel: str, **claims: Any) -> str:
    return sign_subscription(SECRET, user, channel, **claims)


def settings_of(values: dict[str, Any]) -> Settings:
    client = {"token": {"hmac_secret_key": SECRET}, **values.get("client", {})}
    settings = Settings.model_validate({**values, "client": client})
    assert not list(find_problems(settings))
    return settings


@asynccontextmanager
async def gateway_running(values: dict[str, Any]) -> AsyncIterator[Gateway]:
    settings = settings_of(values)
    app = create_app(settings)
    async with on_uvicorn(app, settings) as port:
        yield Gateway(app, port)

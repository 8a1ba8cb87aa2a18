"""Raw sockets against uvicorn with our protocol classes, and the application behind it."""

import asyncio
import base64
import os
import socket
import ssl
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.config.settings import Settings
from gateway.serve.listening import bind
from gateway.serve.server import uvicorn_config
from gateway.transports.uvicorn_dispatch import protocol_class
from tests.waiting import until

TIMEOUT = 0.3
MEGABYTES = 32 * 1024 * 1024
"""More than the kernel buffers of a connection take."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class App:
    """Does what a test wants, and remembers what it has seen. Echoes, unless told otherwise."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.received: list[Message] = []
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.http: ASGIApp = self.measure
        self.websocket: ASGIApp = self.echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        self.scopes.append(scope)
        try:
            await (self.http if scope["type"] == "http" else self.websocket)(scope, receive, send)
        finally:
            self.ended.set()

    async def measure(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the size of the body."""
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"%d" % size
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await self.echo_on(receive, send)

    async def echo_on(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            self.received.append(message)
            await send({**message, "type": "websocket.send"})
        self.received.append(message)

    async def listen(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only receive, to the end."""
        await receive()
        await send({"type": "websocket.accept"})
        while not self.received or self.received[-1]["type"] == "websocket.receive":
            self.received.append(await receive())

    async def late(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Echo, once the test says so."""
        await receive()
        await send({"type": "websocket.accept"})
        await self.go_on.wait()
        await self.echo_on(receive, send)


class Peer:
    """One raw connection."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)

    def arrived(self) -> bool:
        """Whether there is something that nobody has read."""
        return bool(self.reader._buffer)  # type: ignore[attr-defined]

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload, with the bit that tells of compression."""
        async with asyncio.timeout(10):
            first, size = await self.reader.readexactly(2)
            if size > 125:
                extended = await self.reader.readexactly(2 if size == 126 else 8)
                size = int.from_bytes(extended, "big")
            assert first & 0x80
            return first & 0x7F, await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """All until the server closes."""
        data = b""
        with suppress(ConnectionError):
            while part := await asyncio.wait_for(self.reader.read(65536), 10):
                data += part
        return data

    async def upgrade(self, path: str = "/", *headers: bytes) -> bytes:
        self.write(upgrade_request(path, *headers))
        return await self.head()

    async def echoes(self, text: bytes) -> bool:
        self.write(client_frame(text))
        return await self.frame() == (TEXT, text)

    def stop_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport

    def read_on(self) -> None:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Running:
    """The server, and connections to it."""

    def __init__(self, app: App, server: uvicorn.Server, port: int, trust: ssl.SSLContext | None) -> None:
        self.app, self.server, self.port = app, server, port
        self._trust = trust
        self._peers: list[Peer] = []
        self._stopping: asyncio.Task[None] | None = None

    async def connect(self) -> Peer:
        name = "localhost" if self._trust else None
        peer = Peer(
            *await asyncio.open_connection("127.0.0.1", self.port, limit=2**20, ssl=self._trust, server_hostname=name)
        )
        self._peers.append(peer)
        return peer

    async def websocket(self, path: str = "/", *headers: bytes) -> Peer:
        peer = await self.connect()
        assert b" 101 " in await peer.upgrade(path, *headers)
        return peer

    async def deadline_passes(self) -> None:
        """Return once a connection opened just now, and silent, has been closed."""
        assert await (await self.connect()).rest() == b""

    def connections(self) -> int:
        return len(self.server.server_state.connections)

    async def ended(self) -> None:
        """Every connection is over, and every application call."""
        state = self.server.server_state
        await until(lambda: not state.connections and not state.tasks)

    def stop(self) -> None:
        """Stop the server as uvicorn does at SIGTERM."""
        self._stopping = asyncio.create_task(self.server.shutdown())

    async def end(self) -> None:
        """Leave nothing behind, without the pauses that uvicorn makes."""
        for peer in self._peers:
            peer.writer.transport.abort()
        if self._stopping is not None:
            await self._stopping
            return
        for server in self.server.servers:
            server.close()
        for task in self.server.server_state.tasks:
            task.cancel()
        await self.ended()
        await self.server.lifespan.shutdown()


@asynccontextmanager
async def running(trust: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Running]:
    """The server that ``gateway serve`` runs, with other options of uvicorn where a test wants them."""
    app = App()
    config = uvicorn_config(Settings.model_validate({"client": {"message_timeout": TIMEOUT}}), app)
    for name, value in options.items():
        assert hasattr(config, name), name
        setattr(config, name, value)
    if ws := options.get("ws"):
        config.http = protocol_class(config.http.http, ws)  # type: ignore[union-attr]  # it is ours
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    with bind("127.0.0.1", 0) as listener:
        await server.startup([listener])
        await server.on_tick(0)
        run = Running(app, server, listener.getsockname()[1], trust)
        try:
            yield run
        finally:
            await run.end()


def upgrade_request(path: str = "/", *headers: bytes) -> bytes:
    lines = [
        b"GET " + path.encode() + b" HTTP/1.1",
        b"Host: test",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def client_frame(payload: bytes, opcode: int = TEXT, fin: bool = True) -> bytes:
    """A masked frame."""
    mask = b"\1\2\3\4"
    if len(payload) < 126:
        size = bytes([0x80 | len(payload)])
    elif len(payload) < 65536:
        size = b"\xfe" + struct.pack("!H", len(payload))
    else:
        size = b"\xff" + struct.pack("!Q", len(payload))
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")
    return bytes([fin << 7 | opcode]) + size + mask + masked


def closing(code: int, reason: bytes = b"") -> tuple[int, bytes]:
    """A close frame as `Peer.frame` reads it."""
    return CLOSE, struct.pack("!H", code) + reason


async def accept(receive: Receive, send: Send) -> None:
    """What an application does first."""
    await receive()
    await send({"type": "websocket.accept"})

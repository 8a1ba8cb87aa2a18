"""How a WebSocket begins on our class for uvicorn: requests that open one, and requests that do not."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.config.settings import Settings
from gateway.serve.server import uvicorn_config
from gateway.transports.handshake import HEAD_LIMIT
from gateway.transports.uvicorn_websocket import WebSocketProtocol, protocol_class
from tests.transports.sockets import (
    MEGABYTES,
    App,
    Running,
    client_frame,
    running,
    upgrade_request,
)
from tests.waiting import until


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b" 426 "),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
            b" 400 ",
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX\x80: 1\r\n\r\n", b" 400 "),
    ],
    ids=["no version", "bad key", "bad header"],
)
async def test_a_handshake_that_is_none_is_answered(run: Running, head: bytes, status: bytes) -> None:
    peer = await run.connect()
    peer.write(head)
    assert status in await peer.head()
    await peer.rest()
    await run.ended()
    assert run.app.scopes == []


async def test_a_refused_peer_that_never_reads_is_dropped(run: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": bytes(MEGABYTES)})

    run.app.websocket = refuse
    peer = await run.connect()
    await peer.upgrade()
    peer.stop_reading()
    await run.ended()


async def test_an_empty_subprotocol_header_means_none(run: Running) -> None:
    peer = await run.connect()
    head = await peer.upgrade("/", b"Sec-WebSocket-Protocol:")
    assert b" 101 " in head
    assert b"protocol:" not in head.lower()
    assert run.app.scopes[0]["subprotocols"] == []
    assert await peer.echoes(b"hello")


@pytest.mark.parametrize("http", [HttpToolsProtocol, H11Protocol])
async def test_any_http_class_of_uvicorn_hands_over_to_it(http: type[Any]) -> None:
    async with running(http=http) as run:
        peer = await run.websocket("/a%20b?c=d", b"Sec-WebSocket-Protocol: one, two", b"X-Name: J\xf6rg")
        assert await peer.echoes(b"hello")
        [scope] = run.app.scopes
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=d")
        assert scope["subprotocols"] == ["one", "two"]
        assert (b"x-name", b"J\xf6rg") in scope["headers"]
        assert (scope["scheme"], scope["http_version"]) == ("ws", "1.1")
        assert scope["server"] == ("127.0.0.1", run.port)
        assert scope["client"] == peer.writer.get_extra_info("sockname")
        assert scope["state"] == {}


async def test_below_a_path(run: Running) -> None:
    run.server.config.root_path = "/below"
    await run.websocket("/a%20b")
    [scope] = run.app.scopes
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/below", "/below/a b", b"/below/a%20b")


class Socket(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = b""
        self.ended = ""

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"


def unopened(app: App, timeout: float = 60) -> tuple[WebSocketProtocol, Socket]:
    """The class by itself, as nobody runs it: with no HTTP class that has read the head before."""
    config = uvicorn_config(Settings(), app)
    protocol = protocol_class(timeout, None)(config, ServerState(), {}, None)
    socket = Socket()
    protocol.connection_made(socket)
    return protocol, socket


async def test_a_head_may_come_in_parts_and_with_frames_behind_it() -> None:
    app = App()
    protocol, socket = unopened(app)
    request = upgrade_request()
    for byte in request[:-1]:
        protocol.data_received(bytes([byte]))
    assert socket.written == b""
    protocol.data_received(request[-1:] + client_frame(b"hello"))
    await until(lambda: b"hello" in socket.written)
    assert socket.written.startswith(b"HTTP/1.1 101 ")
    protocol.connection_lost(None)
    await app.ended.wait()


async def test_a_head_without_end_is_refused() -> None:
    protocol, socket = unopened(App())
    for _ in range(HEAD_LIMIT // 1000 + 1):
        protocol.data_received(b"x" * 1000)
    assert b" 431 " in socket.written
    assert socket.ended == "closed"
    refusal = socket.written
    protocol.data_received(client_frame(b"hello"))
    assert socket.written == refusal
    protocol.connection_lost(None)


async def test_a_head_that_stops_is_dropped() -> None:
    protocol, socket = unopened(App(), timeout=0.01)
    protocol.data_received(b"GET / HTTP/1.1\r\n")
    await until(lambda: socket.ended == "aborted")
    protocol.connection_lost(None)


async def test_a_head_that_has_not_come_is_not_waited_for_when_stopping() -> None:
    protocol, socket = unopened(App())
    protocol.data_received(b"GET / HTTP/1.1\r\n")
    protocol.shutdown()
    assert socket.ended == "closed"
    protocol.connection_lost(None)

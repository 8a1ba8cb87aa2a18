"""Sessions on raw connections of a real server: who shares frames, and how they end."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect

from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.messages import Payload, Publication
from gateway.serve.app import create_app
from gateway.transports.direct import DirectTransport
from tests.serving import on_fast_uvicorn, on_plain_uvicorn, on_uvicorn
from tests.transports.sockets import CLOSE, Peer, client_frame, closing, upgrade_request
from tests.waiting import until

PATH = "/connection/websocket"
CONNECT = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room"}}'


def settings(**websocket: Any) -> Settings:
    return Settings.model_validate({"client": {"insecure": True, "message_timeout": 0.3}, "websocket": websocket})


@asynccontextmanager
async def gateway(**websocket: Any) -> AsyncIterator[tuple[Node, int]]:
    configured = settings(**websocket)
    app = create_app(configured)
    async with on_uvicorn(app, configured) as port:
        yield app.state.node, port


@asynccontextmanager
async def subscriber(port: int, compression: str | None) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{port}{PATH}", compression=compression) as client:
        await client.send(CONNECT.decode())
        lines: list[str] = []
        while len(lines) < 2:
            lines += str(await client.recv()).split("\n")
        yield client


@asynccontextmanager
async def peer(port: int, query: str = "", *, path: str = PATH, status: bytes = b" 101 ") -> AsyncIterator[Peer]:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    try:
        peer.write(upgrade_request(path + query))
        assert status in await peer.head()
        yield peer
    finally:
        peer.writer.transport.abort()


async def test_only_what_is_no_websocket_of_the_gateway_reaches_the_application() -> None:
    configured = settings()
    app = create_app(configured)
    called: list[str] = []

    class Watched:
        state = app.state

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket":
                called.append(scope["path"])
            await app(scope, receive, send)

    async with on_uvicorn(Watched(), configured) as port:
        async with peer(port, "?cf_protocol=json"), peer(port):
            assert not called
        async with peer(port, status=b" 404 ", path="/elsewhere"):
            assert called == ["/elsewhere"]


async def publish(node: Node, data: str) -> None:
    await node.publish(node.channels.resolve("room"), Publication(Payload(json.dumps(data).encode())))


async def test_frames_are_compressed_for_those_who_can_read_them() -> None:
    async with gateway(compression=True, compression_min_size=100) as (node, port):
        async with (
            subscriber(port, "deflate") as first,
            subscriber(port, "deflate") as second,
            subscriber(port, None) as plain,
        ):
            wires = {session.wire for session in node.hub.connections.values()}
            assert len(wires) == 2, "one for those who share frames, one for the rest"
            for data in ("short", "x" * 1000):
                await publish(node, data)
                for client in (first, second, plain):
                    assert json.loads(await client.recv())["push"]["pub"]["data"] == data
        assert [bool(client.protocol.extensions) for client in (first, second, plain)] == [True, True, False]
        await until(lambda: not node.hub.connections)


async def test_compression_is_off_unless_wanted() -> None:
    async with gateway() as (_, port), subscriber(port, "deflate") as client:
        assert not client.protocol.extensions


async def test_the_application_call_ends_and_the_session_lives_on() -> None:
    async with gateway() as (node, port):
        before = asyncio.all_tasks()
        async with peer(port) as client:
            client.write(client_frame(CONNECT))
            while b'"subscribe"' not in (await client.frame())[1]:
                pass
            [session] = node.hub.connections.values()
            assert isinstance(session.transport, DirectTransport)
            await until(lambda: not asyncio.all_tasks() - before, what="an idle connection has no task")
        await until(lambda: not node.hub.connections)


async def test_commands_sent_with_a_farewell_are_carried_out() -> None:
    say = b'{"id":3,"publish":{"channel":"room","data":"bye"}}'
    async with gateway() as (node, port), subscriber(port, None) as listener, peer(port) as client:
        client.write(client_frame(CONNECT) + client_frame(say) + client_frame(struct.pack("!H", 1000), CLOSE))
        await client.rest()
        assert json.loads(await listener.recv())["push"]["pub"]["data"] == "bye"
        await until(lambda: node.hub.subscriptions == 1)


async def test_a_server_that_stops_sends_clients_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.transports.uvicorn_websocket.random.uniform", lambda *_: 0.0)
    async with AsyncExitStack() as clients:
        async with gateway() as (_, port):
            client = await clients.enter_async_context(peer(port))
        assert await client.frame() == closing(3001, b"shutdown")


async def test_a_client_that_reads_too_slowly_is_closed_in_the_end() -> None:
    async with gateway(write_timeout=0.2) as (node, port), peer(port) as client:
        client.write(client_frame(CONNECT))
        await until(lambda: node.hub.subscriptions)
        client.stop_reading()
        [session] = node.hub.connections.values()
        while not getattr(session.transport, "_slow"):  # noqa: B009  seen nowhere else
            await publish(node, "x" * 60_000)
            await asyncio.sleep(0)
        await until(lambda: node.metrics.disconnects[3008] == 1)
        await until(lambda: not node.hub.connections)


async def test_the_limit_of_messages_is_the_gateways_own() -> None:
    """The server was told of none."""
    configured = settings()
    app = create_app(configured)
    size = configured.client.message_size_limit
    async with on_fast_uvicorn(app, configured) as port, peer(port) as client:
        client.write(client_frame(CONNECT + b" " * (size - len(CONNECT))))
        assert b'"connect"' in (await client.frame())[1]
        client.write(client_frame(b" " * (size + 1)))
        while (frame := await client.frame())[0] != CLOSE:
            pass
        assert frame == closing(1009, b"message is too big")
        await until(lambda: not app.state.node.hub.connections)


async def test_where_there_is_no_raw_connection_asgi_does() -> None:
    configured = settings()
    app = create_app(configured)
    async with on_plain_uvicorn(app, configured) as port, subscriber(port, None):
        [session] = app.state.node.hub.connections.values()
        assert not isinstance(session.transport, DirectTransport)

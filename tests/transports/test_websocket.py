"""WebSockets over several servers: the same behaviour on all, with real sockets."""

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.errors import Disconnect
from gateway.messages import Payload, Publication
from gateway.serve.app import create_app
from gateway.transports import asgi as module
from gateway.transports.direct import DirectTransport
from tests.serving import Serve, at_a_standstill, on_uvicorn
from tests.waiting import until

PAGE = "https://example.com"
SETTINGS: dict[str, Any] = {
    "client": {
        "allowed_origins": [PAGE],
        "allow_anonymous_connect_without_token": True,
        "insecure": True,
        "ping_interval": "0s",
    },
    "channel": {"without_namespace": {"history_size": 1000, "history_ttl": "60s", "force_recovery": True}},
}
QUEUE = 4096
BIG = "x" * 10_000


class Gateway:
    """A running gateway and its clients."""

    def __init__(self, app: FastAPI, port: int) -> None:
        self.app, self.port = app, port
        self.node: Node = app.state.node

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    @asynccontextmanager
    async def client(self, channel: str = "room", **options: Any) -> AsyncIterator[ClientConnection]:
        """A connected client; with a channel, subscribed to it."""
        async with connect(self.url, compression=None, max_size=None, **options) as client:
            await client.send('{"id":1,"connect":{}}')
            assert "connect" in json.loads(await client.recv())
            if channel:
                await client.send(json.dumps({"id": 2, "subscribe": {"channel": channel}}))
                assert "subscribe" in json.loads(await client.recv())
            yield client

    async def publish(self, data: Any, channel: str = "room") -> None:
        payload = Payload(json.dumps(data).encode())
        await self.node.publish(self.node.channels.resolve(channel), Publication(payload))

    async def handshake(self, *headers: str) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer to an upgrade request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [
            "GET /connection/websocket HTTP/1.1",
            "Host: gateway",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *headers,
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.transport.abort()
        status, *rest = head.strip().split("\r\n")
        return int(status.split()[1]), {key.lower(): value for key, value in (line.split(": ", 1) for line in rest)}


def settings(**client: Any) -> dict[str, Any]:
    return {**SETTINGS, "client": {**SETTINGS["client"], **client}}


@asynccontextmanager
async def running(serve: Serve, configured: dict[str, Any]) -> AsyncIterator[Gateway]:
    validated = Settings.model_validate(configured)
    app = create_app(validated)
    async with serve(app, validated) as port:
        yield Gateway(app, port)


@pytest.fixture
async def gateway(serve: Serve) -> AsyncIterator[Gateway]:
    async with running(serve, SETTINGS) as gateway:
        yield gateway


async def messages(client: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    """All messages until the server closes, pings left out."""
    async for frame in client:
        assert isinstance(frame, str)
        for line in frame.split("\n"):
            if line != "{}":
                yield json.loads(line)


async def receive(client: ClientConnection, count: int) -> list[Any]:
    """The data of so many publications."""
    found: list[Any] = []
    async with asyncio.timeout(20):
        async for message in messages(client):
            if "push" in message:
                found.append(message["push"]["pub"]["data"])
                if len(found) == count:
                    break
    return found


async def end(client: ClientConnection) -> tuple[list[dict[str, Any]], int | None, str | None]:
    """What still came, and how the connection ended."""
    rest: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        try:
            async for message in messages(client):
                rest.append(message)  # noqa: PERF401  what came before a failure counts
        except ConnectionClosed:
            pass
    return rest, client.close_code, client.close_reason


# — the handshake —


async def test_one_publishes_and_others_hear(gateway: Gateway) -> None:
    async with gateway.client() as writer, gateway.client() as reader, gateway.client("other") as elsewhere:
        await writer.send('{"id":3,"publish":{"channel":"room","data":{"n":  1}}}')
        push = json.loads(await reader.recv())
        assert push["push"]["channel"] == "room"
        assert push["push"]["pub"]["data"] == {"n": 1}
        assert await receive(writer, 1) == [{"n": 1}]
        await gateway.publish("there", "other")
        assert await receive(elsewhere, 1) == ["there"]
    await until(lambda: not gateway.node.hub.connections)
    assert gateway.node.hub.subscriptions == 0


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, None),
        ("centrifuge-json", "centrifuge-json"),
        ("centrifuge-protobuf", "centrifuge-protobuf"),
        ("mqtt, centrifuge-json", "centrifuge-json"),
        ("centrifuge-protobuf, centrifuge-json", "centrifuge-protobuf"),
    ],
)
async def test_subprotocols(gateway: Gateway, offered: str | None, chosen: str | None) -> None:
    headers = [] if offered is None else [f"Sec-WebSocket-Protocol: {offered}"]
    status, answer = await gateway.handshake(*headers)
    assert (status, answer.get("sec-websocket-protocol")) == (101, chosen)


async def test_an_empty_subprotocol_is_none() -> None:
    """As centrifuge-python has it. Others' servers refuse it before an application hears of it."""
    async with running(on_uvicorn, SETTINGS) as gateway:
        status, answer = await gateway.handshake("Sec-WebSocket-Protocol: ")
        assert (status, answer.get("sec-websocket-protocol")) == (101, None)


async def test_pages_of_other_origins_are_refused(gateway: Gateway) -> None:
    assert (await gateway.handshake(f"Origin: {PAGE}"))[0] == 101
    assert (await gateway.handshake("Origin: https://evil.net"))[0] == 403


async def test_a_full_or_draining_node_says_try_elsewhere(serve: Serve) -> None:
    async with running(serve, settings(connection_limit=1)) as gateway:
        assert (await gateway.handshake())[0] == 101
        async with gateway.client(""):
            status, headers = await gateway.handshake()
            assert (status, headers["retry-after"]) == (503, "1")
        await until(lambda: not gateway.node.hub.connections)
        assert (await gateway.handshake())[0] == 101
        gateway.node.draining = True
        assert (await gateway.handshake())[0] == 503


async def test_a_node_takes_so_many_a_second(serve: Serve) -> None:
    with at_a_standstill():
        async with running(serve, settings(connection_rate_limit=3)) as gateway:
            answers = await asyncio.gather(*(gateway.handshake() for _ in range(8)))
            assert Counter(status for status, _ in answers) == {101: 3, 503: 5}
            for status, headers in answers:
                assert status == 101 or 1 <= int(headers["retry-after"]) <= 4
            assert gateway.node.metrics.refused_connections == {"connection_rate_limit": 5}
            assert (await gateway.handshake("Origin: https://evil.net"))[0] == 403


async def test_an_address_may_come_so_often_and_have_so_many(serve: Serve) -> None:
    """Behind a proxy here, as the test is on a machine that is trusted to be one."""

    def of(address: str) -> str:
        return f"X-Forwarded-For: 6.6.6.6, {address}"

    rates = {"address_command": {"enabled": True, "connect": "4/minute"}}
    with at_a_standstill():
        async with running(serve, settings(rate_limit=rates, address_connection_limit=2)) as gateway:
            held = [await connect(gateway.url, additional_headers={"X-Forwarded-For": "8.8.8.8"}) for _ in range(2)]
            await until(lambda: len(gateway.node.limiter._open) == 1 and sum(gateway.node.limiter._open.values()) == 2)
            status, headers = await gateway.handshake(of("8.8.8.8"))
            assert (status, headers["retry-after"]) == (429, "30")
            for client in held:
                await client.close()
            await until(lambda: gateway.node.limiter._open == {})
            assert [(await gateway.handshake(of("8.8.8.8")))[0] for _ in range(2)] == [101, 101]
            await until(lambda: gateway.node.limiter._open == {})
            status, headers = await gateway.handshake(of("8.8.8.8"))
            assert (status, headers["retry-after"]) == (429, "15")
            assert (await gateway.handshake(of("9.9.9.9")))[0] == 101
            assert gateway.node.metrics.refused_connections == {"address_connection_limit": 1, "address_rate": 1}


async def test_a_server_that_cannot_refuse_by_status_closes() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    configured = Settings.model_validate(SETTINGS)
    endpoint = create_app(configured).state.endpoints["/connection/websocket"]
    scope = {"type": "websocket", "path": "/connection/websocket", "headers": [(b"origin", b"https://evil.net")]}
    await endpoint(scope, receive, send)
    assert sent == [{"type": "websocket.close"}]


# — messages —


async def test_binary_frames_may_hold_json(gateway: Gateway) -> None:
    async with gateway.client() as client:
        await client.send(b'{"id":3,"publish":{"channel":"room","data":"\xc3\xbc"}}')
        assert await receive(client, 1) == ["ü"]


@pytest.mark.parametrize(
    "command",
    [
        b'{"id":3,"publish":{"channel":"room","data":"\xff"}}',
        b'{"id":3,"publish":{"channel":"\xff","data":1}}',
        b'{"id":3,"\xff":1}',
    ],
)
async def test_binary_frames_that_are_not_utf8_disturb_nobody(gateway: Gateway, command: bytes) -> None:
    async with gateway.client() as good, gateway.client() as bad:
        await bad.send(command)
        _, code, reason = await end(bad)
        await gateway.publish("after")
        assert await receive(good, 1) == ["after"]
        assert (code, reason) == (3501, "bad request")


async def test_the_reason_of_a_close_comes_after_what_was_sent(gateway: Gateway) -> None:
    async with gateway.client() as client:
        for n in range(50):
            await gateway.publish(n)
        [connection] = gateway.node.hub.connections.values()
        gateway.node.hub.flush()
        connection.disconnect(Disconnect(4001, "lunch"))
        rest, code, reason = await end(client)
        assert [message["push"]["pub"]["data"] for message in rest] == list(range(50))
        assert (code, reason) == (4001, "lunch")


async def test_drain_sends_everybody_elsewhere(gateway: Gateway) -> None:
    async with gateway.client() as first, gateway.client() as second, gateway.client() as third:
        await gateway.app.state.drain()
        for client in (first, second, third):
            assert await end(client) == ([], 3001, "shutdown")
        assert (await gateway.handshake())[0] == 503
    await until(lambda: not gateway.node.hub.connections)


async def test_a_message_may_be_as_large_as_the_setting_says_and_no_larger(serve: Serve) -> None:
    """Whatever the server would let through."""
    async with running(serve, settings(message_size_limit=1000)) as gateway, gateway.client() as client:
        command = json.dumps({"id": 3, "publish": {"channel": "room", "data": "ü"}}, ensure_ascii=False)
        await client.send(command + " " * (1000 - len(command.encode())))
        assert await receive(client, 1) == ["ü"]
        await client.send(command + " " * (1001 - len(command.encode())))
        await client.send(command)
        rest, code, _ = await end(client)
        assert [message for message in rest if "push" in message] == []
        assert code == 1009
        await until(lambda: not gateway.node.hub.connections)


# — clients that read slowly, or not at all —


def slow_socket(port: int) -> socket.socket:
    """Takes little that is not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    return sock


def is_behind(transport: Any) -> bool:
    """Whether frames wait for a client that reads slowly."""
    return bool(transport._slow if isinstance(transport, DirectTransport) else transport._backlog)


@asynccontextmanager
async def stalled(gateway: Gateway) -> AsyncIterator[ClientConnection]:
    """A subscriber that has stopped to read."""
    async with gateway.client(sock=slow_socket(gateway.port), close_timeout=1, max_queue=4) as client:
        client.transport.pause_reading()
        yield client


async def test_one_who_does_not_read_is_given_up_and_others_go_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.2)
    async with running(serve, settings(queue_max_size=QUEUE)) as gateway, gateway.client() as good:
        async with stalled(gateway) as client:
            sent = 0
            while gateway.node.metrics.disconnects[3008] == 0:
                assert sent < 5000, "the client is never given up"
                await gateway.publish([sent, BIG])
                assert [data[0] for data in await receive(good, 1)] == [sent]
                sent += 1
            assert len(gateway.node.hub.connections) == 1
            client.transport.abort()
        await gateway.publish("still here")
        assert await receive(good, 1) == ["still here"]


async def test_one_who_reads_on_gets_everything_in_order(serve: Serve) -> None:
    async with running(serve, settings(queue_max_size=64 * 1024 * 1024)) as gateway, stalled(gateway) as client:
        [connection] = gateway.node.hub.connections.values()
        sent = 0
        while not is_behind(connection.transport):
            assert sent < 5000, "the server takes everything"
            await gateway.publish([sent, BIG])
            await asyncio.sleep(0)
            sent += 1
        for sent in range(sent, sent + 20):  # noqa: B020
            await gateway.publish([sent, BIG])
        client.transport.resume_reading()
        received = await receive(client, sent + 1)
        assert [data[0] for data in received] == list(range(sent + 1))
        assert gateway.node.metrics.disconnects == {}


async def test_what_is_recovered_may_be_larger_than_the_limit(serve: Serve) -> None:
    async with running(serve, settings(queue_max_size=QUEUE)) as gateway:
        for n in range(100):
            await gateway.publish([n, 10 * BIG])
        async with gateway.client("", sock=slow_socket(gateway.port)) as client:
            client.transport.pause_reading()
            await client.send('{"id":2,"subscribe":{"channel":"room","recover":true}}')
            [connection] = gateway.node.hub.connections.values()
            await until(lambda: gateway.node.hub.subscriptions and not connection.outbox)
            await gateway.publish("live")
            gateway.node.hub.flush()
            await asyncio.sleep(0)
            client.transport.resume_reading()
            reply = json.loads(await client.recv())["subscribe"]
            assert [publication["data"][0] for publication in reply["publications"]] == list(range(100))
            assert await receive(client, 1) == ["live"]
            assert gateway.node.metrics.disconnects == {}


async def test_one_who_vanishes_while_written_to_disturbs_nobody(gateway: Gateway) -> None:
    async with gateway.client() as good:
        async with stalled(gateway) as client:
            for n in range(200):
                await gateway.publish([n, BIG])
            sock = client.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.transport.abort()
        assert [data[0] for data in await receive(good, 200)] == list(range(200))
        await gateway.publish("still here")
        await until(lambda: len(gateway.node.hub.connections) == 1)
        assert await receive(good, 1) == ["still here"]
    await until(lambda: not gateway.node.hub.connections)
    assert gateway.node.hub.subscriptions == 0


# — a server that keeps a connection open for ever —


class Stubborn:
    """Tells the application of nothing but the handshake."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.incoming.put_nowait({"type": "websocket.receive", "text": '{"id":1,"connect":{}}'})

    async def send(self, message: Any) -> None:
        self.sent.append(message)


@pytest.fixture
async def stubborn() -> AsyncIterator[tuple[Stubborn, "asyncio.Task[None]", Node]]:
    """Such a server with one connected client, the application's task, and the node."""
    app = create_app(Settings.model_validate(SETTINGS))
    node: Node = app.state.node
    server = Stubborn()
    scope = {"type": "websocket", "path": "/connection/websocket", "headers": []}
    async with app.router.lifespan_context(app):
        task = asyncio.create_task(app(scope, server.incoming.get, server.send))
        await until(lambda: node.hub.connections)
        yield server, task, node
    assert task.done()


async def test_the_endpoint_ends_although_the_server_does_not(
    stubborn: tuple[Stubborn, "asyncio.Task[None]", Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.0)
    server, task, node = stubborn
    [connection] = node.hub.connections.values()
    connection.disconnect(Disconnect(4001, "lunch"))
    await asyncio.wait([task], timeout=10)
    assert not task.cancelled()
    assert server.sent[-1] == {"type": "websocket.close", "code": 4001, "reason": "lunch"}
    assert not node.hub.connections


async def test_a_server_may_cancel_the_endpoint(stubborn: tuple[Stubborn, "asyncio.Task[None]", Node]) -> None:
    _, task, node = stubborn
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    assert not node.hub.connections
    assert node.metrics.disconnects == {3000: 1}

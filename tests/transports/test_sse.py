"""Event streams over several servers, as any HTTP client reads them."""

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from gateway.auth.tokens import sign_connection
from gateway.config.settings import Settings
from gateway.core.wheel import Wheel
from gateway.errors import Disconnect, DisconnectCode
from gateway.protocols.centrifuge_json_uni import CentrifugeJsonUni
from gateway.transports import asgi as module
from gateway.transports.http_stream import stream_routes
from gateway.transports.slow_consumer import WriteLimits
from gateway.transports.stream import StreamTransport, StreamWire
from gateway.transports.stream_kinds import UNI_SSE, event_frame
from tests.deploy.balancers import ROOT
from tests.integration.servers import Server
from tests.serving import Serve, at_a_standstill, on_plain_uvicorn, on_uvicorn
from tests.transports.streams import PAGE, PATH, ROOM, SECRET, Gateway, Stream, running
from tests.waiting import until

BIG = "x" * 10_000


@pytest.fixture
async def gateway(serve: Serve) -> AsyncIterator[Gateway]:
    async with running(serve) as gateway:
        yield gateway


# — opening —


async def test_one_publishes_and_others_hear(gateway: Gateway) -> None:
    async with gateway.subscriber() as first, gateway.subscriber() as second, gateway.open() as elsewhere:
        assert (await elsewhere.event())["connect"].keys() == {"client", "version", "session"}
        await gateway.publish({"n": 1})
        await gateway.publish({"n": 2})
        for stream in (first, second):
            for n in (1, 2):
                assert await stream.event() == {"channel": "room", "pub": {"data": {"n": n}}}
    await until(lambda: not gateway.acceptor.sessions)
    assert gateway.node.hub.subscriptions == 0


async def test_the_request_may_be_a_body(gateway: Gateway) -> None:
    token = sign_connection(SECRET, "ann", 60, gateway.node.clock())
    body = json.dumps({"token": token, **ROOM}, indent=1)
    async with gateway.http.stream("POST", gateway.url, content=body) as response:
        stream = Stream(response)
        assert await stream.opening() == b"\r\n"
        assert (await stream.event())["connect"]["subs"] == {"room": {}}
        assert list(gateway.node.hub.users) == ["ann"]
        await gateway.publish("hello")
        assert (await stream.event())["pub"]["data"] == "hello"


async def test_nobody_between_is_to_keep_or_change_the_stream(gateway: Gateway) -> None:
    async with gateway.open() as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["x-accel-buffering"] == "no"
        assert {"no-cache", "no-store", "no-transform"} <= set(headers["cache-control"].split(", "))
        assert "content-length" not in headers
        assert "content-encoding" not in headers
        assert "access-control-allow-origin" not in headers


async def test_line_breaks_of_publishers_end_no_line(gateway: Gateway) -> None:
    async with gateway.subscriber() as stream:
        await gateway.publish_raw(b'{"a":\r\n1,\r"b":\n"\\r\\n"}')
        assert (await stream.event())["pub"]["data"] == {"a": 1, "b": "\r\n"}


@pytest.mark.parametrize(
    ("method", "options", "status"),
    [
        ("GET", {"params": {"cf_connect": "{"}}, 400),
        ("POST", {"content": b'{"token":5}'}, 400),
        ("POST", {"content": b'"%b"' % (b"x" * 65536)}, 413),
        ("GET", {"params": {"cf_connect": " " * 32768}}, 400),
        ("HEAD", {}, 405),
        ("PUT", {}, 405),
        ("GET", {"headers": {"Origin": "https://evil.net"}}, 403),
        ("POST", {"headers": {"Origin": "https://evil.net"}, "content": "{"}, 403),
        ("OPTIONS", {"headers": {"Origin": "https://evil.net"}}, 403),
    ],
)
async def test_refusals(gateway: Gateway, method: str, options: dict[str, Any], status: int) -> None:
    response = await gateway.http.request(method, gateway.url, **options)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers
    if status == 405:
        assert {"GET", "POST", "OPTIONS"} <= set(response.headers["allow"].split(", "))
    assert not gateway.acceptor.sessions


async def test_what_is_no_connect_request_is_answered_in_words(gateway: Gateway) -> None:
    response = await gateway.http.get(gateway.url, params={"cf_connect": "{"})
    assert "connect request" in response.text


async def test_a_query_may_be_too_large() -> None:
    async with running(on_plain_uvicorn, message_size_limit=256) as gateway:
        response = await gateway.http.get(gateway.url, params={"cf_connect": " " * 257})
        assert response.status_code == 413


async def test_pages_of_known_origins_may_read(gateway: Gateway) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Headers": "x-one, x-two"}
    preflight = await gateway.http.options(gateway.url, headers={"Access-Control-Request-Method": "POST", **asked})
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert preflight.headers["access-control-max-age"] == "300"
    refused = await gateway.http.post(gateway.url, headers=asked, content="{")
    assert refused.status_code == 400
    async with gateway.open(headers=asked) as stream:
        for headers in (preflight.headers, refused.headers, stream.response.headers):
            assert headers["access-control-allow-origin"] == PAGE
            assert headers["access-control-allow-credentials"] == "true"
            assert headers["access-control-allow-headers"] == "x-one, x-two"
            assert headers["vary"] == "Origin"


async def test_a_full_or_draining_node_says_try_elsewhere(serve: Serve) -> None:
    async with running(serve, connection_limit=1) as gateway:
        async with gateway.open():
            response = await gateway.http.get(gateway.url, headers={"Origin": PAGE})
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert response.headers["access-control-allow-origin"] == PAGE
        await until(lambda: not gateway.acceptor.sessions)
        gateway.node.draining = True
        assert (await gateway.http.get(gateway.url)).status_code == 503
        preflight = await gateway.http.options(gateway.url, headers={"Origin": PAGE})
        assert preflight.status_code == 204, "what is asked then is answered in a way that the page can read"


async def test_a_node_takes_so_many_a_second(serve: Serve) -> None:
    with at_a_standstill():
        async with running(serve, connection_rate_limit=2) as gateway, gateway.open(), gateway.open():
            for method in ("GET", "POST"):
                response = await gateway.http.request(method, gateway.url, headers={"Origin": PAGE})
                assert response.status_code == 503
                assert 1 <= int(response.headers["retry-after"]) <= 3
                assert response.headers["access-control-allow-origin"] == PAGE
            preflight = await gateway.http.options(gateway.url, headers={"Origin": PAGE})
            assert preflight.status_code == 204
            assert gateway.node.metrics.refused_connections == {"connection_rate_limit": 2}


async def test_an_address_may_come_so_often(serve: Serve) -> None:
    rates = {"address_command": {"enabled": True, "connect": "2/minute"}}
    with at_a_standstill():
        async with running(serve, rate_limit=rates) as gateway, gateway.open(), gateway.open():
            response = await gateway.http.get(gateway.url)
            assert (response.status_code, response.headers["retry-after"]) == (429, "30")
            assert gateway.node.metrics.refused_connections == {"address_rate": 1}
            async with gateway.open(headers={"X-Forwarded-For": "9.9.9.9"}):
                pass


async def test_who_is_refused_need_not_send_its_request() -> None:
    """Its body would be read for nothing."""
    with at_a_standstill():
        async with running(on_plain_uvicorn, connection_rate_limit=1) as gateway, gateway.open():
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nnu" % PATH.encode())
            async with asyncio.timeout(10):
                assert b" 503 " in await reader.readline()
            writer.transport.abort()


async def test_a_drain_that_begins_while_a_request_arrives(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nnu" % PATH.encode())
    assert (await gateway.http.get(gateway.url, params={"cf_connect": "{"})).status_code == 400  # that one has begun
    await gateway.acceptor.drain()
    writer.write(b"ll")
    async with asyncio.timeout(10):
        assert b" 503 " in await reader.readline()
    writer.transport.abort()


async def test_one_who_goes_before_the_request_is_there(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nnu" % PATH.encode())
    assert (await gateway.http.get(gateway.url, params={"cf_connect": "{"})).status_code == 400
    writer.transport.abort()
    async with gateway.subscriber() as stream:
        await gateway.publish("still here")
        assert (await stream.event())["pub"]["data"] == "still here"
    assert not caplog.records


def test_the_route_is_there_when_it_is_wanted() -> None:
    assert stream_routes(lambda: pytest.fail("not yet"), Settings()) == []


# — life —


async def test_pings_go_on_without_pongs(serve: Serve) -> None:
    async with running(serve, ping_interval=0.2, pong_timeout=0.1) as gateway, gateway.open() as stream:
        told = (await stream.event())["connect"]
        assert (told["ping"], "pong" in told) == (1, False)
        for _ in range(3):
            assert await stream.event() == {}


async def test_refused_by_a_push(serve: Serve) -> None:
    async with running(serve, insecure=False) as gateway:
        token = sign_connection(SECRET, "ann", -10, gateway.node.clock())
        for request, code in (({}, 3501), ({"token": "forged"}, 3500), ({"token": token}, 3005)):
            async with gateway.open(request) as stream:
                [push] = await stream.rest()
                assert push["disconnect"]["code"] == code
        await until(lambda: not gateway.acceptor.sessions)


async def test_the_reason_of_the_end_comes_after_what_was_sent(gateway: Gateway) -> None:
    async with gateway.subscriber() as stream:
        for n in range(50):
            await gateway.publish(n)
        [session] = gateway.acceptor.sessions
        session.disconnect(Disconnect(4001, "lunch"))
        *pushes, last = await stream.rest()
        assert [push["pub"]["data"] for push in pushes] == list(range(50))
        assert last == {"disconnect": {"code": 4001, "reason": "lunch"}}
    await until(lambda: not gateway.acceptor.sessions)


async def test_the_connection_serves_other_requests_afterwards(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for _ in range(2):
        writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % PATH.encode())
        await until(lambda: gateway.node.hub.connections)
        await gateway.acceptor.drain()
        gateway.node.draining = False
        async with asyncio.timeout(10):
            assert b"3001" in await reader.readuntil(b"\r\n0\r\n\r\n")
        await until(lambda: not gateway.acceptor.sessions)
    writer.transport.abort()


async def test_drain_sends_everybody_elsewhere(gateway: Gateway) -> None:
    async with gateway.subscriber() as first, gateway.subscriber() as second:
        await gateway.acceptor.drain()
        for stream in (first, second):
            assert await stream.rest() == [{"disconnect": {"code": 3001, "reason": "shutdown"}}]
    await until(lambda: not gateway.acceptor.sessions)


async def test_a_server_of_others_that_is_asked_to_stop(tmp_path: Path) -> None:
    with Server("uvicorn", tmp_path) as server:
        arguments = ["--factory", "tests.transports.streams:application", "--port", str(server.port)]
        server.run_module("uvicorn", arguments, {**os.environ, "PYTHONPATH": str(ROOT)})
        await asyncio.to_thread(server.wait)
        async with httpx.AsyncClient(trust_env=False) as http, http.stream("GET", server.url + PATH) as response:
            stream = Stream(response)
            await stream.opening()
            await stream.event()
            server.signal(signal.SIGTERM)
            assert await stream.rest() == [{"disconnect": {"code": 3001, "reason": "shutdown"}}]
            await until(lambda: not server.alive)
        assert "ERROR" not in server.log


async def test_a_client_that_says_nothing_outlives_every_deadline_of_the_server() -> None:
    limits: dict[str, Any] = {
        "message_timeout": 0.2,
        "stale_close_delay": 0.2,
        "pong_timeout": 0.2,
        "ping_interval": 0.6,
    }
    async with running(on_uvicorn, **limits) as gateway, gateway.subscriber() as stream:
        for _ in range(2):
            assert await stream.event() == {}
        await gateway.publish("still here")
        assert (await stream.event())["pub"]["data"] == "still here"


async def watch(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


async def test_behind_middleware_that_passes_messages_on(serve: Serve) -> None:
    async with running(serve, middleware=[Middleware(BaseHTTPMiddleware, dispatch=watch)]) as gateway:
        async with gateway.subscriber() as stream:
            for n in range(200):
                await gateway.publish(n)
            gateway.node.hub.flush()
            await gateway.acceptor.drain()
            *pushes, last = await stream.rest()
            assert [push["pub"]["data"] for push in pushes] == list(range(200))
            assert last["disconnect"]["code"] == 3001
        await until(lambda: not gateway.acceptor.sessions)


# — clients that read slowly, or not at all —


@asynccontextmanager
async def stalled(gateway: Gateway) -> AsyncIterator[socket.socket]:
    """A subscriber that reads nothing."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", gateway.port))
        query = str(httpx.QueryParams(cf_connect=json.dumps(ROOM)))
        sock.send(f"GET {PATH}?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        before = gateway.node.hub.subscriptions
        await until(lambda: gateway.node.hub.subscriptions > before)
        yield sock


async def test_one_who_does_not_read_is_given_up_and_others_go_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.2)
    async with running(serve, queue_max_size=4096) as gateway, gateway.subscriber() as good:
        async with stalled(gateway):
            sent = 0
            while gateway.node.metrics.disconnects[3008] == 0:
                assert sent < 5000, "the client is never given up"
                await gateway.publish([sent, BIG])
                assert (await good.event())["pub"]["data"][0] == sent
                sent += 1
            await until(lambda: len(gateway.acceptor.sessions) == 1)
        await gateway.publish("still here")
        assert (await good.event())["pub"]["data"] == "still here"


async def test_one_who_vanishes_while_written_to_disturbs_nobody(gateway: Gateway) -> None:
    async with gateway.subscriber() as good:
        async with stalled(gateway) as sock:
            for n in range(200):
                await gateway.publish([n, BIG])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for n in range(200):
            assert (await good.event())["pub"]["data"][0] == n
        await gateway.publish("still here")
        await until(lambda: len(gateway.acceptor.sessions) == 1)
        assert (await good.event())["pub"]["data"] == "still here"
    await until(lambda: not gateway.acceptor.sessions)


# — the transport, and a server that keeps a connection open for ever —


def test_events() -> None:
    assert event_frame(b"{}") == b"data: {}\n\n"
    assert event_frame(b'{"a":1}\n{"b":\r2}') == b'data: {"a":1}\n\ndata: {"b":2}\n\n'


async def test_one_who_has_gone_is_told_nothing() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    wire = StreamWire(UNI_SSE, CentrifugeJsonUni(), direct=False)
    transport = StreamTransport(wire, send, Wheel(), WriteLimits(100, 1.0))
    transport.close(Disconnect(DisconnectCode.CONNECTION_CLOSED))
    await until(lambda: sent)
    assert sent == [{"type": "http.response.body", "body": b"", "more_body": False}]


class Stubborn:
    """Tells the application of nothing but the request."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    async def send(self, message: Any) -> None:
        self.sent.append(message)


@asynccontextmanager
async def stubborn() -> AsyncIterator[tuple[Gateway, Stubborn, "asyncio.Task[None]"]]:
    """Such a server, and the task of its one connected client."""
    given = {"client": {"insecure": True}, "uni_sse": {"enabled": True}}
    gateway = Gateway(Settings.model_validate(given))
    server = Stubborn()
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": PATH, "query_string": b"", "headers": []}
    async with gateway.lifespan(Starlette()):
        [route] = stream_routes(gateway.source, gateway.settings)

        async def call() -> None:
            await route.app(scope, server.incoming.get, server.send)

        task = asyncio.create_task(call())
        await until(lambda: gateway.node.hub.connections)
        yield gateway, server, task
        await asyncio.wait([task], timeout=10)
    assert task.done()


async def test_the_endpoint_ends_although_the_server_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.0)
    async with stubborn() as (gateway, server, task):
        [session] = gateway.acceptor.sessions
        session.disconnect(Disconnect(4001, "lunch"))
        await asyncio.wait([task], timeout=10)
        assert not task.cancelled()
        assert server.sent[-1] == {
            "type": "http.response.body",
            "body": b'data: {"disconnect":{"code":4001,"reason":"lunch"}}\n\n',
            "more_body": False,
        }
        assert not gateway.acceptor.sessions


async def test_an_endpoint_that_the_server_cancels_leaves() -> None:
    async with stubborn() as (gateway, _, task):
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
        await until(lambda: not gateway.node.hub.connections)

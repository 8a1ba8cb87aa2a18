"""Streams both ways and one way, as the bytes of HTTP: every status, every header, every end."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.auth.tokens import sign_connection
from gateway.config.settings import Settings
from gateway.errors import Disconnect, DisconnectCode
from gateway.protocols.base import StreamProtocol
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.transports import http_stream as module
from gateway.transports.cross_origin import CrossOrigin
from gateway.transports.http_stream import StreamEndpoint
from gateway.transports.stream_kinds import HTTP_STREAM, SSE, UNI_HTTP_STREAM, UNI_SSE, StreamKind
from tests.serving import Serve, on_hypercorn, on_plain_uvicorn, on_uvicorn
from tests.transports.streams import PAGE, SECRET, Gateway, running, settings
from tests.waiting import until

KINDS = [HTTP_STREAM, SSE, UNI_HTTP_STREAM, UNI_SSE]
BOTH_WAYS = [HTTP_STREAM, SSE]

COMMANDS = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room"}}'
REQUEST = '{"subs":{"room":{}}}'


def first_words(kind: StreamKind) -> str:
    return COMMANDS if kind in BOTH_WAYS else REQUEST


class Answer:
    """One response, read off the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self.status = 0
        self.headers: dict[str, str] = {}

    async def head(self) -> None:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status, self.headers = int(lines[0].split()[1]), {}
        for line in filter(None, lines[1:]):
            name, _, value = line.partition(": ")
            assert name.lower() not in self.headers, f"{name} stands there twice"
            self.headers[name.lower()] = value

    async def chunk(self) -> bytes:
        """The next of the body, empty at its end."""
        size = int(await self._reader.readline(), 16)
        data = await self._reader.readexactly(size + 2)
        return data[:-2]

    async def rest(self) -> bytes:
        """All that comes until the connection closes."""
        return await self._reader.read()

    async def messages(self, kind: StreamKind) -> list[Any]:
        """Those of the next chunk, which has each of them whole."""
        data = (await self.chunk()).decode()
        if kind.events:
            assert data.endswith("\n\n")
            return [json.loads(each.removeprefix("data: ")) for each in data.split("\n\n")[:-1]]
        assert data.endswith("\n")
        return [json.loads(each) for each in data.split("\n")[:-1]]

    async def said(self, kind: StreamKind, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            found += await self.messages(kind)
        return found


@asynccontextmanager
async def asked(gateway: Gateway, request: bytes) -> AsyncIterator[Answer]:
    async with asyncio.timeout(20):
        answer = Answer(*await asyncio.open_connection("127.0.0.1", gateway.port))
        try:
            answer.writer.write(request)
            await answer.head()
            yield answer
        finally:
            answer.writer.transport.abort()


def post(path: str, body: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def get(path: str, command: str = "", *headers: str) -> bytes:
    query = f"?cf_connect={quote(command)}" if command else ""
    return "\r\n".join([f"GET {path}{query} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def ways(kind: StreamKind, *headers: str) -> Iterator[bytes]:
    yield post(kind.path, first_words(kind), *headers)
    if "GET" in kind.methods:
        yield get(kind.path, first_words(kind), *headers)


@asynccontextmanager
async def opened(gateway: Gateway, kind: StreamKind, words: str = "") -> AsyncIterator[Answer]:
    async with asked(gateway, post(kind.path, words or first_words(kind))) as answer:
        assert answer.status == 200
        if kind.events:
            assert await answer.chunk() == b"\r\n"
        yield answer


@pytest.fixture(params=[on_uvicorn, on_plain_uvicorn, on_hypercorn], ids=lambda serve: serve.__name__)
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    async with running(request.param) as gateway:
        yield gateway


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
async def test_a_request_behind_a_stream_keeps_nobody(
    kind: StreamKind, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be answered, for the stream does not end; and that the client goes is heard all the same."""
    behind = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    async with running(on_uvicorn) as gateway:
        async with asked(gateway, post(kind.path, first_words(kind)) + behind * at_once) as answer:
            assert answer.status == 200
            await until(lambda: gateway.acceptor.sessions)
            if not at_once:
                answer.writer.write(behind)
                await answer.writer.drain()
        await until(lambda: not gateway.acceptor.sessions, what="the session has ended")
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("kind", [UNI_HTTP_STREAM, UNI_SSE], ids=lambda kind: kind.name)
async def test_elsewhere_it_ends_if_nobody_tells_that_the_client_has_gone(
    monkeypatch: pytest.MonkeyPatch, kind: StreamKind
) -> None:
    """Uvicorn's own class tells the request behind the stream alone."""
    monkeypatch.setattr(module, "LONGEST_ELSEWHERE", 1)
    async with running(on_plain_uvicorn) as gateway:
        async with asked(gateway, post(kind.path, first_words(kind)) + get("/health/live")) as answer:
            assert answer.status == 200
            await until(lambda: gateway.acceptor.sessions)
        await until(lambda: not gateway.acceptor.sessions, what="the session has ended")
        assert gateway.node.metrics.disconnects[DisconnectCode.FORCE_RECONNECT] == 1


# — opening —


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_who_speaks_http_1_0_reads_no_chunks(kind: StreamKind) -> None:
    """It knows none: what it reads is the body, until the connection closes."""
    async with running(on_uvicorn) as gateway:
        request = post(kind.path, first_words(kind)).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        async with asked(gateway, request) as answer:
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert "transfer-encoding" not in answer.headers
            await until(lambda: gateway.node.hub.subscriptions)
            await gateway.publish("a\r\nb")
            [session] = gateway.acceptor.sessions
            session.disconnect(Disconnect(DisconnectCode.FORCE_DISCONNECT))
            lines = [line.removeprefix(b"data: ") for line in (await answer.rest()).splitlines() if line]
            assert [next(iter(found.get("push", found))) for found in map(json.loads, lines)] == (
                ["id", "id", "channel", "disconnect"] if kind in BOTH_WAYS else ["connect", "channel", "disconnect"]
            )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_what_stands_at_the_beginning(gateway: Gateway, kind: StreamKind) -> None:
    for request in ways(kind):
        async with asked(gateway, request) as answer:
            assert answer.status == 200
            headers = answer.headers
            types = {True: "text/event-stream; charset=utf-8", False: "application/x-ndjson"}
            assert headers["content-type"] == types[kind.events]
            assert headers["cache-control"].startswith("private, no-cache, no-store, must-revalidate, max-age=0")
            assert (headers["pragma"], headers["expire"], headers["x-accel-buffering"]) == ("no-cache", "0", "no")
            assert (headers["connection"], headers["transfer-encoding"]) == ("keep-alive", "chunked")
            assert not headers.keys() & {"content-length", "content-encoding", "access-control-allow-origin"}
            if kind.events:
                assert await answer.chunk() == b"\r\n"
            if kind in BOTH_WAYS:
                first, second = await answer.said(kind, 2)
                assert first["id"] == 1
                assert first["connect"].keys() == {"client", "version", "session", "node"}
                assert first["connect"]["node"] == gateway.node.uid
                assert second == {"id": 2, "subscribe": {}}
            else:
                [first] = await answer.said(kind, 1)
                assert first["connect"].keys() == {"client", "version", "session", "subs"}
            assert len(first["connect"]["session"]) == 36
            assert first["connect"]["session"] != first["connect"]["client"]
            [session] = gateway.acceptor.sessions
            assert session.transport.name == kind.name
            await gateway.publish([1])
            [push] = await answer.said(kind, 1)
            assert push.get("push", push) == {"channel": "room", "pub": {"data": [1]}}
        await until(lambda: not gateway.acceptor.sessions)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(SSE.path), 400),
        (post(HTTP_STREAM.path, "x" * 65_537), 413),
        (post(SSE.path, "x" * 65_537), 413),
        (post(UNI_HTTP_STREAM.path, f'"{"x" * 65_536}"'), 413),
        (post(UNI_HTTP_STREAM.path, "{"), 400),
        (post(UNI_SSE.path, '{"token":5}'), 400),
        (get(UNI_SSE.path, "["), 400),
        (get(HTTP_STREAM.path, COMMANDS), 405),
        (get(UNI_HTTP_STREAM.path, REQUEST), 405),
        *((f"{method} {kind.path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 405) for kind in KINDS for method in ("PUT",)),
        *((f"HEAD {kind.path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 405) for kind in KINDS),
        *((post(kind.path, "", "Origin: https://evil.net"), 403) for kind in KINDS),
    ],
)
async def test_refusals(request_: bytes, status: int) -> None:
    async with running(on_uvicorn) as gateway, asked(gateway, request_) as answer:
        assert answer.status == status
        assert "access-control-allow-origin" not in answer.headers
        if status == 405:
            assert answer.headers["allow"] == ("GET, POST, OPTIONS" if b"sse" in request_ else "POST, OPTIONS")
        assert not gateway.acceptor.sessions


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_pages_of_known_origins_may_read(gateway: Gateway, kind: StreamKind) -> None:
    asking = f"Origin: {PAGE}", "Access-Control-Request-Headers: x-one, x-two"
    preflight = f"OPTIONS {kind.path} HTTP/1.1\r\nHost: a\r\n{asking[0]}\r\n{asking[1]}\r\n\r\n".encode()
    requests = [preflight, post(kind.path, "x" * 65_537, *asking), *ways(kind, *asking)]
    for request, status in zip(requests, (204, 413, 200, 200), strict=False):
        async with asked(gateway, request) as answer:
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert answer.headers["access-control-allow-headers"] == "x-one, x-two"
            assert answer.headers["vary"] == "Origin"
            if status == 204:
                assert answer.headers["access-control-allow-methods"] == ", ".join([*kind.methods, "OPTIONS"])
                assert answer.headers["access-control-max-age"] == "300"


async def test_another_protocol_is_chosen_by_the_content_type() -> None:
    """By the rest of it, one that is binary frames its messages itself."""

    class Binary(CentrifugeJson):
        name = "binary"
        binary = True

        def join(self, messages: Any) -> bytes:
            return b"".join(b"<%b>" % each for each in messages)

    gateway = Gateway(settings())
    binary: StreamProtocol = Binary()
    endpoint = StreamEndpoint(
        HTTP_STREAM,
        {"": CentrifugeJson(), "application/octet-stream": binary},
        gateway.settings.http_stream,
        gateway.settings,
    )
    app = CrossOrigin(gateway.source, HTTP_STREAM.methods, endpoint.open)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        async with gateway.lifespan(None):  # type: ignore[arg-type]
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    for serve in (on_uvicorn, on_plain_uvicorn):
        async with serve(application, gateway.settings) as gateway.port:
            for given in ("application/octet-stream", "application/json"):
                request = post(HTTP_STREAM.path, '{"id":1,"connect":{}}', f"Content-Type: {given}")
                async with asked(gateway, request) as answer:
                    told = await answer.chunk()
                    is_binary = given == "application/octet-stream"
                    assert answer.headers["content-type"] == (given if is_binary else "application/x-ndjson")
                    assert told.startswith(b"<{") is told.endswith(b"}>") is is_binary


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_there_only_when_it_is_wanted(kind: StreamKind) -> None:
    assert module.stream_routes(lambda: pytest.fail("not yet"), Settings()) == []
    some = Settings.model_validate({kind.name: {"enabled": True}})
    assert [each.path for each in module.stream_routes(lambda: pytest.fail("not yet"), some)] == [kind.path]


# — life —


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_pings(kind: StreamKind) -> None:
    async with running(on_uvicorn, ping_interval=0.4, pong_timeout=0) as gateway, opened(gateway, kind) as answer:
        first, *others = await answer.said(kind, 4 if kind in BOTH_WAYS else 3)
        told = first["connect"]
        assert (told["ping"], told.get("pong", False)) == (1, False)
        assert others[-2:] == [{}, {}]


@pytest.mark.parametrize("kind", BOTH_WAYS, ids=lambda kind: kind.name)
async def test_who_answers_no_ping(kind: StreamKind) -> None:
    async with running(on_uvicorn, ping_interval=0.4, pong_timeout=0.2) as gateway, opened(gateway, kind) as answer:
        first, _, ping, last = await answer.said(kind, 4)
        assert first["connect"]["pong"] is True
        assert (ping, last) == ({}, {"push": {"disconnect": {"code": 3012, "reason": "no pong"}}})
        assert await answer.chunk() == b""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_the_reason_of_the_end_comes_after_what_was_sent(gateway: Gateway, kind: StreamKind) -> None:
    async with opened(gateway, kind) as answer:
        await answer.said(kind, 2 if kind in BOTH_WAYS else 1)
        for n in range(50):
            await gateway.publish(n)
        [session] = gateway.acceptor.sessions
        session.disconnect(Disconnect(4001, "lunch"))
        *pushes, last = [each.get("push", each) for each in await answer.said(kind, 51)]
        assert [push["pub"]["data"] for push in pushes] == list(range(50))
        assert last == {"disconnect": {"code": 4001, "reason": "lunch"}}
        assert await answer.chunk() == b""
        await until(lambda: not gateway.acceptor.sessions)
        answer.writer.write(get(SSE.path))  # the connection is as good as ever
        await answer.head()
        assert answer.status == 400


@pytest.mark.parametrize("kind", BOTH_WAYS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "words", ["{", '{"id":1,"connect":{}}\n\n{"id":2}', '{"id":1,"subscribe":{"channel":"x"}}', "{}"]
)
async def test_what_is_no_command_ends_it(kind: StreamKind, words: str) -> None:
    async with running(on_uvicorn) as gateway, opened(gateway, kind, words) as answer:
        [last] = await answer.said(kind, 1)
        assert last["push"]["disconnect"]["code"] == DisconnectCode.BAD_REQUEST
        assert await answer.chunk() == b""


@pytest.mark.parametrize("kind", BOTH_WAYS, ids=lambda kind: kind.name)
async def test_an_error_that_answers_connect(kind: StreamKind) -> None:
    """The client is to leave. Where it does not, its stream ends without another word."""
    async with running(on_uvicorn, insecure=False) as gateway:
        token = sign_connection(SECRET, "ann", -10, gateway.node.clock())
        words = json.dumps({"id": 1, "connect": {"token": token}})
        async with opened(gateway, kind, words) as answer:
            [reply] = await answer.said(kind, 1)
            assert reply["error"]["code"] == 109
            [session] = gateway.acceptor.sessions
            session.disconnect(Disconnect(1000, "bye"))
            assert await answer.chunk() == b""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_nothing_between_the_hub_and_the_socket(kind: StreamKind) -> None:
    """On our own server a stream is written past ASGI, also behind what only looks on."""
    written: list[Message] = []

    class Watch:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def told(message: Message) -> None:
                written.append(message)
                await send(message)

            await self._app(scope, receive, told)

    for serve in (on_uvicorn, on_plain_uvicorn):
        written.clear()
        async with running(serve, middleware=[Middleware(Watch)]) as gateway:
            async with opened(gateway, kind) as answer:
                await answer.said(kind, 1)
                await gateway.publish("x")
                await gateway.acceptor.drain()
                assert await answer.said(kind, 2)
            await until(lambda: not gateway.acceptor.sessions)
        bodies = [each for each in written if each["type"] == "http.response.body"]
        assert (b"".join(each["body"] for each in bodies) == b"") is (serve is on_uvicorn)
        assert bodies[-1]["more_body"] is False


async def test_what_compresses_gets_all_of_it() -> None:
    async with running(on_uvicorn, middleware=[Middleware(GZipMiddleware)]) as gateway:
        headers = {"Accept-Encoding": "gzip"}
        async with gateway.http.stream(
            "POST", f"http://127.0.0.1:{gateway.port}{HTTP_STREAM.path}", content=COMMANDS, headers=headers
        ) as response:
            assert response.headers["content-encoding"] == "gzip"
            await until(lambda: gateway.node.hub.subscriptions)
            await gateway.acceptor.drain()
            lines = [json.loads(line) async for line in response.aiter_lines()]
            assert "connect" in lines[0]
            assert lines[-1] == {"push": {"disconnect": {"code": 3001, "reason": "shutdown"}}}


# — clients that read slowly —


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_who_reads_nothing_is_cut_off(serve: Serve, kind: StreamKind) -> None:
    async with running(serve, queue_max_size=1024) as gateway, opened(gateway, kind) as answer:
        await until(lambda: gateway.node.hub.subscriptions)
        answer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport
        while gateway.node.hub.connections:
            await gateway.publish("x" * 500_000)
            await asyncio.sleep(0)
        await until(lambda: gateway.node.metrics.disconnects[DisconnectCode.SLOW] == 1)
        assert gateway.node.metrics.refusals["slow_client"] == 1
        answer.writer.transport.abort()
        await until(lambda: not gateway.acceptor.sessions)
        assert not gateway.node.metrics.slow


async def test_who_does_not_let_its_stream_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.3)
    async with running(on_uvicorn, queue_max_size=1024) as gateway, opened(gateway, HTTP_STREAM) as answer:
        await until(lambda: gateway.node.hub.subscriptions)
        answer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport
        while gateway.node.hub.connections:
            await gateway.publish("x" * 500_000)
            await asyncio.sleep(0)
        await until(lambda: not gateway.acceptor.sessions)

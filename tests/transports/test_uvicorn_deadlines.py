"""Raw sockets against uvicorn with our protocol classes, and a small application behind them."""

import asyncio
import base64
import os
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import uvicorn

from gateway.server import bind, uvicorn_config
from gateway.settings import ClientSettings, Settings
from gateway.transports.uvicorn_deadlines import CONTROL_FRAMES, FRAGMENTS, HEAD_LIMIT, Deadline, RawTransport
from tests.waiting import until

TIMEOUT = 0.3
MEGABYTES = 32 * 1024 * 1024
"""More than the kernel buffers of a connection take."""

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


@dataclass
class App:
    """Echoes; under some paths it does what a test needs."""

    scopes: list[dict[str, Any]] = field(default_factory=list)
    received: list[Any] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
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

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await self.go_on.wait()
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"%d" % size
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/never":
            await receive()
            return
        await send({"type": "websocket.accept"})
        if scope["path"] in ("/flood", "/abort"):
            await send({"type": "websocket.send", "bytes": bytes(MEGABYTES)})
        if scope["path"] == "/abort":
            peer: RawTransport = scope["extensions"]["gateway.transport"]
            self.received.append(peer.buffered())
            peer.abort()
        if scope["path"] == "/flood" or scope["path"] == "/close":
            await send({"type": "websocket.close", "code": 3001, "reason": "shutdown"})
        if scope["path"] == "/return":
            await send({"type": "websocket.send", "bytes": bytes(MEGABYTES)})
            return
        if scope["path"] == "/slow":
            await self.go_on.wait()
        while (message := await receive())["type"] == "websocket.receive":
            self.received.append(message.get("text"))
            await send({"type": "websocket.send", "text": message["text"]})
        self.received.append(message)


class Peer:
    """One raw connection."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)

    async def frame(self) -> tuple[int, bytes]:
        opcode, size = await asyncio.wait_for(self.reader.readexactly(2), 10)
        assert size < 126
        return opcode & 15, await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """All until the server closes."""
        data = b""
        with suppress(ConnectionError):
            while part := await asyncio.wait_for(self.reader.read(65536), 10):
                data += part
        return data

    async def upgrade(self, path: str = "/echo", *headers: bytes) -> bytes:
        key = base64.b64encode(os.urandom(16))
        lines = [
            b"GET " + path.encode() + b" HTTP/1.1",
            b"Host: test",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: " + key,
            *headers,
        ]
        self.write(b"\r\n".join(lines) + b"\r\n\r\n")
        return await self.head()

    async def echoes(self, text: bytes) -> bool:
        self.write(client_frame(text))
        return await self.frame() == (TEXT, text)


class Running:
    """The server, and connections to it."""

    def __init__(self, app: App, server: uvicorn.Server, port: int) -> None:
        self.app, self.server, self.port = app, server, port
        self._peers: list[Peer] = []

    async def connect(self) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**20))
        self._peers.append(peer)
        return peer

    async def websocket(self, path: str = "/echo") -> Peer:
        peer = await self.connect()
        assert b" 101 " in await peer.upgrade(path)
        return peer

    async def deadline_passes(self) -> None:
        """Return once a connection opened just now, and silent, has been closed."""
        assert await (await self.connect()).rest() == b""

    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def close(self) -> None:
        for peer in self._peers:
            peer.writer.transport.abort()


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    app = App()
    settings = Settings(client=ClientSettings(message_timeout=TIMEOUT))
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn_config(settings, app))
        task = asyncio.create_task(server.serve([listener]))
        await until(lambda: server.started or task.done())
        run = Running(app, server, listener.getsockname()[1])
        try:
            yield run
        finally:
            run.close()
            server.should_exit = True
            await task


@pytest.fixture
async def run() -> AsyncIterator[Running]:
    async with running() as run:
        yield run


def client_frame(payload: bytes, opcode: int = TEXT, fin: bool = True) -> bytes:
    mask = b"\1\2\3\4"
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([fin << 7 | opcode]) + size + mask + masked


# — HTTP —


async def test_a_silent_connection_is_closed(run: Running) -> None:
    assert await (await run.connect()).rest() == b""


async def test_a_request_head_that_does_not_end_is_closed(run: Running) -> None:
    peer = await run.connect()
    peer.write(b"GET / HTTP/1.1\r\nHost: te")
    assert await peer.rest() == b""


@pytest.mark.parametrize(
    ("begin", "each"),
    [
        (b"GET / HTTP/1.1\r\nX: ", b"x"),
        (b"", b"\r\n"),
        (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", b"\r\n"),
    ],
    ids=["header", "blank lines", "body", "chunks", "blank lines after a request"],
)
async def test_a_trickle_does_not_extend_the_time(run: Running, begin: bytes, each: bytes) -> None:
    peer = await run.connect()
    peer.write(begin)

    def trickle() -> bool:
        with suppress(ConnectionError):
            peer.write(each)
        return run.connections() == 0

    await until(lambda: run.connections() == 1)
    await until(trickle, what="the connection is closed")


async def test_requests_in_time_are_answered_and_the_connection_stays(run: Running) -> None:
    peer = await run.connect()
    for _ in range(2):
        peer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nab")
        await until(lambda: run.app.scopes)
        peer.write(b"c")
        assert b" 200 " in await peer.head()
        assert await peer.reader.readexactly(1) == b"3"
        await run.deadline_passes()


async def test_the_time_of_the_application_is_not_the_clients(run: Running) -> None:
    peer = await run.connect()
    peer.write(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
    await until(lambda: run.app.scopes)
    await run.deadline_passes()
    run.app.go_on.set()
    assert b" 200 " in await peer.head()


async def test_a_body_that_the_application_does_not_read_yet_is_excused(run: Running) -> None:
    peer = await run.connect()
    peer.write(b"POST /slow HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n" + bytes(100_000))
    await until(lambda: run.app.scopes)
    await run.deadline_passes()
    run.app.go_on.set()
    peer.write(bytes(100_000))
    assert b" 200 " in await peer.head()
    assert await peer.reader.readexactly(6) == b"200000"


async def test_the_head_is_limited_in_size(run: Running) -> None:
    fits = await run.connect()
    fits.write(b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * (HEAD_LIMIT - 100) + b"\r\n\r\n")
    assert b" 200 " in await fits.head()
    many = await run.connect()
    many.write(b"GET / HTTP/1.1\r\n" + b"X: %b\r\n" % (b"x" * 1000) * 70 + b"\r\n")
    assert b" 400 " in await many.head()
    endless = await run.connect()
    endless.write(b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_LIMIT)
    assert b" 400 " in await endless.head()
    assert b"too large" in await endless.rest()


async def test_a_peer_that_has_not_read_its_response_cannot_outstay_the_keep_alive_time(run: Running) -> None:
    run.server.config.timeout_keep_alive = cast(int, 0.1)
    peer = await run.connect()
    peer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert (await peer.rest()).endswith(b"0")


async def test_other_upgrades_are_not_taken(run: Running) -> None:
    peer = await run.connect()
    peer.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert b" 200 " in await peer.head()
    assert run.app.scopes[0]["extensions"]["gateway.transport"].buffered() == 0


# — WebSocket —


async def test_an_idle_websocket_stays(run: Running) -> None:
    peer = await run.websocket()
    await run.deadline_passes()
    assert await peer.echoes(b"hello")


@pytest.mark.parametrize(
    "part",
    [
        b"\x81",
        client_frame(b"hello")[:3],
        client_frame(b"hello")[:-1],
        client_frame(b"hel", fin=False),
        client_frame(b"hel", fin=False) + client_frame(b"", PING),
        client_frame(b"one") + client_frame(b"two")[:-1],
    ],
    ids=["one byte", "half a header", "half a payload", "a fragment", "a fragment and a ping", "after a message"],
)
async def test_a_message_that_does_not_end_closes(run: Running, part: bytes) -> None:
    peer = await run.websocket()
    peer.write(part)
    data = await peer.rest()
    assert data.endswith(b"\x88\x11" + struct.pack("!H", 1008) + b"message timeout")
    await until(lambda: run.app.received)
    assert run.app.received[-1] == {"type": "websocket.disconnect", "code": 1008, "reason": "message timeout"}


@pytest.mark.parametrize("part", [client_frame(b"", 0, fin=False), client_frame(b"", PING)], ids=["fragments", "pings"])
async def test_neither_fragments_nor_pings_extend_the_time(run: Running, part: bytes) -> None:
    peer = await run.websocket()
    peer.write(client_frame(b"h", fin=False))

    def trickle() -> bool:
        peer.write(part)
        return run.connections() == 0

    await until(trickle, what="the connection is closed")


async def test_one_byte_at_a_time_does_not_extend_the_time(run: Running) -> None:
    peer = await run.websocket()
    data = iter(client_frame(b"x" * 60_000))

    def trickle() -> bool:
        peer.write(bytes([next(data)]))
        return run.connections() == 0

    await until(trickle, what="the connection is closed")


async def test_messages_that_follow_each_other_have_each_their_own_time(run: Running) -> None:
    """Each read ends amid a message, none of which is late."""
    peer = await run.websocket()
    data = client_frame(b"ab")
    peer.write(data[:4])

    async def deadlines_pass() -> None:
        for _ in range(3):
            await run.deadline_passes()

    watch = asyncio.create_task(deadlines_pass())
    while not watch.done():
        peer.write(data[4:] + data[:4])
        assert await peer.frame() == (TEXT, b"ab")
    await watch
    peer.write(data[4:])
    assert await peer.frame() == (TEXT, b"ab")


async def test_a_fragmented_message_in_time_arrives(run: Running) -> None:
    peer = await run.websocket()
    peer.write(client_frame(b"he", fin=False) + client_frame(b"", PING))
    assert await peer.frame() == (PONG, b"")
    peer.write(client_frame(b"llo", 0))
    assert await peer.frame() == (TEXT, b"hello")
    await run.deadline_passes()
    assert await peer.echoes(b"again")


async def test_while_the_application_does_not_read_the_client_is_excused(run: Running) -> None:
    peer = await run.websocket("/slow")
    peer.write(client_frame(b"one") + client_frame(b"two")[:-1])
    await run.deadline_passes()
    run.app.go_on.set()
    peer.write(client_frame(b"two")[-1:])
    assert [await peer.frame(), await peer.frame()] == [(TEXT, b"one"), (TEXT, b"two")]


async def test_data_ahead_of_the_handshake_is_not_waited_for_either(run: Running) -> None:
    peer = await run.connect()
    upgrading = asyncio.create_task(peer.upgrade("/never"))
    await until(lambda: run.app.scopes)
    peer.write(b"\x81")
    with pytest.raises(asyncio.IncompleteReadError):
        await upgrading


async def test_too_large_a_message_closes_1009(run: Running) -> None:
    peer = await run.websocket()
    peer.write(b"\x81\xff" + struct.pack("!Q", 65537) + bytes(4))
    opcode, payload = await peer.frame()
    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1009))


async def test_an_empty_subprotocol_header_means_none(run: Running) -> None:
    peer = await run.connect()
    head = await peer.upgrade("/echo", b"Sec-WebSocket-Protocol:")
    assert b" 101 " in head
    assert b"protocol:" not in head.lower()
    assert run.app.scopes[0]["subprotocols"] == []
    assert await peer.echoes(b"hello")


async def test_a_subprotocol_header_is_passed_on(run: Running) -> None:
    peer = await run.connect()
    assert b" 101 " in await peer.upgrade("/echo", b"Sec-WebSocket-Protocol: centrifuge-json, other")
    assert run.app.scopes[0]["subprotocols"] == ["centrifuge-json", "other"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [([b"X: 1"] * 200, b" 431 "), ([b"X: " + b"x" * 9000], b" 431 "), ([b"X\x80: 1"], b" 400 ")],
    ids=["many", "long", "malformed"],
)
async def test_a_handshake_that_cannot_be_parsed_is_answered(run: Running, headers: list[bytes], status: bytes) -> None:
    peer = await run.connect()
    assert status in await peer.upgrade("/echo", *headers)
    await peer.rest()
    assert run.app.scopes == []


async def test_a_handshake_without_key_is_refused(run: Running) -> None:
    peer = await run.connect()
    peer.write(b"GET /echo HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert b" 400 " in await peer.head()


async def test_closing_is_answered(run: Running) -> None:
    peer = await run.websocket()
    peer.write(client_frame(struct.pack("!H", 1000), CLOSE))
    assert await peer.frame() == (CLOSE, struct.pack("!H", 1000))
    assert await peer.rest() == b""


async def test_a_close_that_is_not_answered_ends(run: Running) -> None:
    peer = await run.websocket("/close")
    assert await peer.frame() == (CLOSE, struct.pack("!H", 3001) + b"shutdown")
    assert await peer.rest() == b""


async def test_a_late_message_after_our_close_ends_in_silence(run: Running) -> None:
    peer = await run.websocket("/close")
    peer.write(b"\x81")
    assert await peer.frame() == (CLOSE, struct.pack("!H", 3001) + b"shutdown")
    assert await peer.rest() == b""


@pytest.mark.parametrize("path", ["/flood", "/return"])
async def test_a_peer_that_never_reads_does_not_hold_up_the_closing(run: Running, path: str) -> None:
    peer = await run.websocket(path)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport
    await until(lambda: run.connections() == 0)
    await run.app.ended.wait()


async def test_a_peer_that_never_reads_its_echo_of_a_close_is_dropped(run: Running) -> None:
    peer = await run.websocket("/flood")
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport
    peer.write(client_frame(struct.pack("!H", 1000), CLOSE))
    await until(lambda: run.connections() == 0)


async def test_shutdown_does_not_wait_for_a_peer_that_never_reads() -> None:
    async with running() as run:
        peer = await run.websocket("/flood")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport
        await until(lambda: run.connections() == 1)
        run.server.should_exit = True
        await until(lambda: run.connections() == 0, deadline=5)


async def test_shutdown_closes_1012(run: Running) -> None:
    peer = await run.websocket()
    run.server.should_exit = True
    assert await peer.frame() == (CLOSE, struct.pack("!H", 1012))


async def test_the_application_can_drop_a_connection(run: Running) -> None:
    peer = await run.websocket("/abort")
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport
    await until(lambda: run.connections() == 0)
    assert run.app.received[0] > 0


async def test_urls_are_not_logged(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    peer = await run.connect()
    await peer.upgrade("/echo?token=secret")
    other = await run.connect()
    other.write(b"GET /?token=secret HTTP/1.1\r\nHost: test\r\n\r\n")
    await other.head()
    assert "secret" not in caplog.text


# — the deadline alone —


class FakeLoop:
    """Timers that fire when told."""

    def __init__(self) -> None:
        self.timers: list[FakeTimer] = []

    def call_later(self, _delay: float, callback: Callable[[], None]) -> "FakeTimer":
        self.timers.append(FakeTimer(callback))
        return self.timers[-1]


@dataclass
class FakeTimer:
    fire: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


def make_deadline() -> tuple[Deadline, FakeLoop, list[str]]:
    loop, expired = FakeLoop(), list[str]()
    return Deadline(cast(asyncio.AbstractEventLoop, loop), 1, lambda: expired.append("x")), loop, expired


def test_a_deadline_begun_twice_has_one_timer() -> None:
    deadline, loop, expired = make_deadline()
    deadline.begin()
    deadline.begin()
    assert len(loop.timers) == 1
    loop.timers[0].fire()
    assert expired == ["x"]


def test_an_excuse_is_good_for_one_more_time() -> None:
    deadline, loop, expired = make_deadline()
    deadline.begin(excused=True)
    loop.timers[0].fire()
    assert not expired
    loop.timers[1].fire()
    assert expired == ["x"]


def test_an_end_stops_the_timer_and_takes_the_excuse() -> None:
    deadline, loop, expired = make_deadline()
    deadline.begin(excused=True)
    deadline.end()
    deadline.end()
    assert loop.timers[0].cancelled
    deadline.begin()
    loop.timers[1].fire()
    assert expired == ["x"]


@pytest.mark.parametrize(
    ("first", "each", "count"),
    [
        (client_frame(b"", fin=False), client_frame(b"", 0, fin=False), FRAGMENTS + 1),
        (b"", client_frame(b"", 9), CONTROL_FRAMES + 1),
        (b"", client_frame(b"", 10), CONTROL_FRAMES + 1),
    ],
    ids=["fragments", "pings", "pongs"],
)
async def test_a_flood_of_tiny_frames_ends_the_connection(run: Running, first: bytes, each: bytes, count: int) -> None:
    """Each costs as much as a message, and while they are handled nobody else is."""
    peer = await run.websocket()
    peer.write(first + each * count)
    assert b"\x03\xf0too many " in await peer.rest()


async def test_pings_whose_pongs_are_not_read_end_the_connection(run: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.transports.uvicorn_deadlines.UNREAD_PONGS", -1)
    peer = await run.websocket()
    peer.write(client_frame(b"", 9))
    assert b"\x03\xf0too many pings" in await peer.rest()


async def test_what_a_client_does_wrong_is_no_error_of_the_server(
    run: Running, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await run.websocket()
    peer.write(client_frame(b"\xff"))
    assert (await peer.frame())[1][:2] == struct.pack("!H", 1007)
    assert not caplog.records

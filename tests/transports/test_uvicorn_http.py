"""HTTP on uvicorn with our protocol class: every wait for a client ends."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import pytest

from gateway.transports.handshake import HEAD_LIMIT
from gateway.transports.uvicorn_http import Deadline, HttpProtocol, protocol_class
from tests.transports.sockets import Running, running
from tests.waiting import until


@pytest.fixture
def slow(run: Running) -> Running:
    """With an application that waits for the test."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await run.app.go_on.wait()
        await run.app.measure(scope, receive, send)

    run.app.http = slow
    return run


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
        with suppress(ConnectionError, RuntimeError):  # the latter is what uvloop says of its own closed end
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


async def test_the_time_of_the_application_is_not_the_clients(slow: Running) -> None:
    peer = await slow.connect()
    peer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await until(lambda: slow.app.scopes)
    await slow.deadline_passes()
    slow.app.go_on.set()
    assert b" 200 " in await peer.head()


async def test_a_body_that_the_application_does_not_read_yet_is_excused(slow: Running) -> None:
    peer = await slow.connect()
    peer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n" + bytes(100_000))
    await until(lambda: slow.app.scopes)
    await slow.deadline_passes()
    slow.app.go_on.set()
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


async def test_the_head_of_a_response_leaves_with_its_body(slow: Running) -> None:
    began = asyncio.Event()

    async def halting(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        began.set()
        await slow.app.go_on.wait()
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await send({"type": "http.response.body", "body": b"2"})

    slow.app.http = halting
    first, second = await slow.connect(), await slow.connect()
    first.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await began.wait()
    slow.app.http = slow.app.measure
    second.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await second.head()
    assert not first.arrived()
    slow.app.go_on.set()
    assert b" 200 " in await first.head()
    assert await first.reader.readexactly(2) == b"12"
    first.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")  # the next request has a head of its own
    assert b" 200 " in await first.head()


@pytest.mark.parametrize("length", [b"0", None], ids=["no body", "a stream"])
async def test_a_head_that_announces_no_body_leaves_at_once(run: Running, length: bytes | None) -> None:
    async def halting(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", length)] if length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await run.app.go_on.wait()
        await send({"type": "http.response.body"})

    run.app.http = halting
    peer = await run.connect()
    peer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b" 200 " in await peer.head()
    run.app.go_on.set()


async def test_a_request_without_version_is_refused(run: Running) -> None:
    peer = await run.connect()
    peer.write(b"GET /\r\n\r\n")
    assert (await peer.rest()).startswith(b"HTTP/1.1 400 ")


async def test_a_body_without_length_ends_with_the_connection_for_http_1_0(run: Running) -> None:
    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"a" * 20, b"", b"0\r\n\r\n"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"end" * last})

    run.app.http = streaming
    for last in (0, 1):
        peer = await run.connect()
        peer.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head = await peer.head()
        assert b"connection: close\r\n" in head
        assert b"chunked" not in head
        assert await peer.rest() == b"a" * 20 + b"0\r\n\r\n" + b"end" * last


@pytest.mark.parametrize("named", [b"chunked", b"CHUNKED"])
async def test_chunks_that_the_application_announces_are_known(run: Running, named: bytes) -> None:
    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Transfer-Encoding", named)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"whole"})

    run.app.http = streaming
    peer = await run.connect()
    peer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert b"transfer-encoding" not in await peer.head()
    assert await peer.rest() == b"whole"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_no_body_passes_for_a_head(run: Running, version: bytes) -> None:
    """Not even where the head announces nothing, and a body that says so is one of its own accord."""
    words = b"\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n"

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-length", b"0")] if empty else [(b"Transfer-Encoding", b"CHUNKED")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if empty else words})

    run.app.http = streaming
    expected = words if version == b"1.0" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(words), words)
    for empty in (False, True):
        peer = await run.connect()
        peer.write(b"POST / HTTP/%b\r\nHost: a\r\nConnection: close\r\n" % version)
        peer.write(b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
        head = await peer.head()
        if b" 100 " in head:
            head = await peer.head()
        assert b" 200 " in head
        assert await peer.rest() == (b"" if empty else expected)


async def test_a_head_without_its_body(run: Running) -> None:
    """For HEAD, and of a program that fails in between."""
    peer = await run.connect()
    peer.write(b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b"content-length: 1\r\n" in await peer.head()

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        raise RuntimeError

    run.app.http = failing
    peer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b" 200 " in await peer.head()
    assert await peer.rest() == b""


async def test_other_upgrades_are_not_taken(run: Running) -> None:
    peer = await run.connect()
    peer.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert b" 200 " in await peer.head()
    assert run.app.scopes[0]["type"] == "http"


async def test_urls_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with running() as run:
        peer = await run.connect()
        peer.write(b"GET /?token=secret HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b" 200 " in await peer.head()
    assert "secret" not in caplog.text


async def test_a_websocket_has_no_deadline_of_http(run: Running) -> None:
    peer = await run.websocket()
    await run.deadline_passes()
    assert await peer.echoes(b"hello")


def test_the_class_as_it_stands_has_a_deadline() -> None:
    assert HttpProtocol.timeout > 0
    assert protocol_class(7).timeout == 7


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

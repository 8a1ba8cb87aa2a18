"""What an ordinary ASGI application sees of a WebSocket on our class."""

import asyncio
import struct
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.asyncio.client import connect

from gateway.transports.raw import QUEUED
from gateway.transports.uvicorn_websocket import CompressingWebSocketProtocol, protocol_class
from tests.transports.sockets import BINARY, CLOSE, MEGABYTES, PING, PONG, TEXT, Running, client_frame, closing, running
from tests.waiting import until


def saying(*messages: Message) -> ASGIApp:
    """An application that sends these."""

    async def say(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(message)

    return say


ACCEPT = {"type": "websocket.accept"}


def text(content: str) -> Message:
    return {"type": "websocket.send", "text": content}


def denial(status: int, *headers: list[bytes]) -> Message:
    return {"type": "websocket.http.response.start", "status": status, "headers": headers}


def body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "websocket.http.response.body", "body": content, "more_body": more}


# — the handshake —


async def test_accepts_with_headers_and_a_subprotocol(run: Running) -> None:
    run.app.websocket = saying({**ACCEPT, "subprotocol": "two", "headers": [[b"x-name", b"J\xf6rg"]]}, text("hello"))
    peer = await run.connect()
    head = await peer.upgrade("/", b"Sec-WebSocket-Protocol: one, two")
    assert b"HTTP/1.1 101 Switching Protocols\r\n" in head
    assert b"Sec-WebSocket-Protocol: two\r\n" in head
    assert b"x-name: J\xf6rg\r\n" in head
    assert b"date: " in head
    assert await peer.frame() == (TEXT, b"hello")


@pytest.mark.parametrize(
    ("messages", "status", "field", "content"),
    [
        ([{"type": "websocket.close"}], b"403 Forbidden", b"content-length: 0", b""),
        ([denial(401, [b"www-authenticate", b"Bearer"]), body(b"")], b"401 ", b"www-authenticate: Bearer", b""),
        ([denial(404), body(b"none", more=True), body(b" here")], b"404 ", b"content-length: 9", b"none here"),
        ([denial(299), body(b"")], b"299 ", b"content-length: 0", b""),
    ],
    ids=["close", "no body", "body in parts", "unknown status"],
)
async def test_refusals(run: Running, messages: list[Message], status: bytes, field: bytes, content: bytes) -> None:
    after: list[Message] = []

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await saying(*messages)(scope, receive, send)
        after.append(await receive())

    run.app.websocket = refuse
    peer = await run.connect()
    head = await peer.upgrade()
    assert head.startswith(b"HTTP/1.1 " + status)
    assert field + b"\r\n" in head
    assert b"connection: close\r\n" in head
    assert await peer.rest() == content
    await run.ended()
    assert after == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("app", "logged"),
    [
        (fail, "ZeroDivisionError"),
        (saying(), "without completing handshake"),
        (saying(denial(404)), "without completing handshake"),
        (saying({**ACCEPT, "headers": [(b"x", b"a\r\nb: c")]}), "cannot be sent"),
        (saying(text("hello")), "Expected ASGI message 'websocket.accept' or"),
        (saying({"type": "websocket.http.response.body"}), "Expected ASGI message 'websocket.accept' or"),
        (saying(denial(404), ACCEPT), "Expected ASGI message 'websocket.http.response.body'"),
        (saying(denial(101)), "cannot be refused with status 101"),
    ],
    ids=["error", "return", "half a refusal", "header", "send", "body", "accept a refusal", "status"],
)
async def test_an_application_that_fails_before_it_has_accepted(
    run: Running, caplog: pytest.LogCaptureFixture, app: ASGIApp, logged: str
) -> None:
    run.app.websocket = app
    peer = await run.connect()
    assert b" 500 " in await peer.upgrade()
    assert await peer.rest() == b"Internal Server Error"
    assert logged in caplog.text


async def test_a_client_that_leaves_before_it_is_accepted_or_refused(
    run: Running, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = []

    async def hesitate(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/refuse":
            await send(denial(403))
            await send(body(b"half", more=True))
        assert await receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        try:
            await send(body(b"the rest") if scope["path"] == "/refuse" else ACCEPT)
        except OSError as error:
            failures.append(error)
            raise

    run.app.websocket = hesitate
    caplog.set_level("WARNING")
    for path in ("/accept", "/refuse"):
        peer = await run.connect()
        upgrading = asyncio.create_task(peer.upgrade(path))
        await until(lambda: run.app.scopes)
        peer.reset()
        await run.ended()
        await asyncio.gather(upgrading, return_exceptions=True)
        run.app.scopes.clear()
    assert len(failures) == 2
    assert not caplog.records


# — the end —


@pytest.mark.parametrize(
    ("app", "end"),
    [
        (saying(ACCEPT), closing(1000)),
        (saying(ACCEPT, {"type": "websocket.close"}), closing(1000)),
        (saying(ACCEPT, {"type": "websocket.close", "code": 4001, "reason": "lunch"}), closing(4001, b"lunch")),
        (saying(ACCEPT, {"type": "websocket.close", "code": 4001, "reason": None}), closing(4001)),
        (saying(ACCEPT, {"type": "websocket.close", "reason": "ü" * 100}), closing(1000, "ü".encode() * 61)),
    ],
    ids=["return", "close", "code", "no reason", "long reason"],
)
async def test_closes(run: Running, caplog: pytest.LogCaptureFixture, app: ASGIApp, end: tuple[int, bytes]) -> None:
    caplog.set_level("WARNING")
    run.app.websocket = app
    peer = await run.websocket()
    assert await peer.frame() == end
    peer.write(client_frame(end[1][:2], CLOSE))
    assert await peer.rest() == b""
    await run.ended()
    assert not caplog.records


@pytest.mark.parametrize(
    ("after", "logged"),
    [
        (ACCEPT, "Unexpected ASGI message 'websocket.accept' on a connection that is open"),
        (body(b""), "Unexpected ASGI message 'websocket.http.response.body'"),
        ({"type": "websocket.send"}, "KeyError"),
        (text("\ud800"), "UnicodeEncodeError"),
    ],
)
async def test_an_application_that_fails_later_closes_1011(
    run: Running, caplog: pytest.LogCaptureFixture, after: Message, logged: str
) -> None:
    run.app.websocket = saying(ACCEPT, text("fine"), after)
    peer = await run.websocket()
    assert await peer.frame() == (TEXT, b"fine")
    assert await peer.frame() == closing(1011)
    assert logged in caplog.text


async def test_an_application_that_is_cancelled_closes_1012(run: Running) -> None:
    run.app.websocket = run.app.late
    peer = await run.websocket()
    [task] = run.server.server_state.tasks
    task.cancel()
    assert await peer.frame() == closing(1012)


async def test_after_the_end_sending_fails_and_receiving_repeats_itself(run: Running) -> None:
    ended: list[Any] = []

    async def insist(scope: Scope, receive: Receive, send: Send) -> None:
        await saying(ACCEPT)(scope, receive, send)
        await run.app.go_on.wait()
        ended.extend([(await receive())["text"], await receive(), await receive()])
        for message in (text("hello"), {"type": "websocket.close"}):
            with pytest.raises(OSError):  # noqa: PT011  it says all by its class
                await send(message)
        ended.append(await receive())

    run.app.websocket = insist
    peer = await run.websocket()
    peer.write(client_frame(b"last words") + client_frame(struct.pack("!H", 4001) + b"lunch", CLOSE))
    await peer.rest()
    run.app.go_on.set()
    await run.ended()
    assert ended == ["last words"] + [{"type": "websocket.disconnect", "code": 4001, "reason": "lunch"}] * 3


async def test_after_its_own_close_the_application_hears_of_it(run: Running) -> None:
    ended: list[Any] = []

    async def close(scope: Scope, receive: Receive, send: Send) -> None:
        await saying(ACCEPT, {"type": "websocket.close", "code": 4001, "reason": "lunch"})(scope, receive, send)
        await run.app.go_on.wait()
        ended.append(await receive())
        with pytest.raises(OSError):  # noqa: PT011
            await send(text("hello"))

    run.app.websocket = close
    peer = await run.websocket()
    peer.write(client_frame(b"too late"))
    assert await peer.frame() == closing(4001, b"lunch")
    peer.write(client_frame(struct.pack("!H", 1000), CLOSE))
    await peer.rest()
    run.app.go_on.set()
    await run.ended()
    assert ended == [{"type": "websocket.disconnect", "code": 4001, "reason": "lunch"}]


# — messages —


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 5_000_000])
@pytest.mark.parametrize("compressing", [False, True])
async def test_text_and_bytes_of_every_size(size: int, compressing: bool) -> None:
    options: dict[str, Any] = {"ws": CompressingWebSocketProtocol} if compressing else {}
    async with running(ws_max_size=10_000_000, **options) as run:
        async with connect(f"ws://127.0.0.1:{run.port}", max_size=None) as client:
            assert bool(client.protocol.extensions) is compressing
            for message in ("ü" * (size // 2) + "x" * (size % 2), b"\xff" * size, "between"):
                await client.send(message)
                assert await client.recv() == message
        assert [sorted(message) for message in run.app.received[:2]] == [["text", "type"], ["bytes", "type"]]


async def test_compresses_only_what_becomes_smaller() -> None:
    async with running(ws=CompressingWebSocketProtocol) as run:
        peer = await run.connect()
        assert b"permessage-deflate" in await peer.upgrade("/", b"Sec-WebSocket-Extensions: permessage-deflate")
        peer.write(client_frame(b"x" * 1000) + client_frame(b"short") + client_frame(b"x" * 1000, BINARY))
        first, payload = await peer.frame()
        assert first == 0x40 | TEXT
        assert len(payload) < 100
        assert await peer.frame() == (TEXT, b"short")
        assert (await peer.frame())[0] == 0x40 | BINARY
        plain = await run.websocket()
        assert await plain.echoes(b"x" * 1000)


async def test_a_receive_may_be_cancelled_and_loses_nothing(run: Running) -> None:
    received: list[Any] = []

    async def impatient(scope: Scope, receive: Receive, send: Send) -> None:
        await saying(ACCEPT)(scope, receive, send)
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await send(text("now"))
        received.append((await receive())["text"])

    run.app.websocket = impatient
    peer = await run.websocket()
    assert await peer.frame() == (TEXT, b"now")
    peer.write(client_frame(b"hello"))
    await run.ended()
    assert received == ["hello"]


async def test_two_may_receive(run: Running) -> None:
    received: list[Any] = []

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        await saying(ACCEPT)(scope, receive, send)
        received.extend(await asyncio.gather(receive(), receive()))

    run.app.websocket = both
    peer = await run.websocket()
    peer.write(client_frame(b"one"))
    await until(lambda: len(run.app.scopes) == 1)
    peer.write(client_frame(b"two"))
    await run.ended()
    assert [message["text"] for message in received] == ["one", "two"]


# — slow clients, slow applications —


async def test_sending_waits_for_a_client_that_reads_slowly() -> None:
    sent: list[str] = []

    async def say(send: Send, name: str) -> None:
        for number in range(2):
            await send(text(f"{name}{number}" + "x" * MEGABYTES))
            sent.append(name)

    async def two_speak(scope: Scope, receive: Receive, send: Send) -> None:
        await saying(ACCEPT)(scope, receive, send)
        await asyncio.gather(say(send, "a"), say(send, "b"))

    async with running(ws=protocol_class(60, None)) as run:  # it takes its time to read what is left
        run.app.websocket = two_speak
        async with connect(f"ws://127.0.0.1:{run.port}", max_size=None, max_queue=1, compression=None) as client:
            client.transport.pause_reading()
            await until(lambda: sent)
            await run.deadline_passes()
            assert len(sent) == 1, "the second waits for the first to be read"
            client.transport.resume_reading()
            names = [message[:2] async for message in client]
    assert sorted(names) == ["a0", "a1", "b0", "b1"]
    assert [name for name in names if "a" in name] == ["a0", "a1"]


async def test_sending_fails_when_the_client_goes_meanwhile(run: Running) -> None:
    failed: list[OSError] = []

    async def say(scope: Scope, receive: Receive, send: Send) -> None:
        await saying(ACCEPT)(scope, receive, send)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(MEGABYTES)})
                run.app.received.append({})
        except OSError as error:
            failed.append(error)

    run.app.websocket = say
    peer = await run.websocket()
    peer.stop_reading()
    await until(lambda: run.app.received)
    peer.reset()
    await run.ended()
    assert len(failed) == 1


@pytest.mark.parametrize("message", [b"x" * 10_000, b""], ids=["long", "empty"])
async def test_the_server_stops_reading_for_an_application_that_does_not(run: Running, message: bytes) -> None:
    run.app.websocket = run.app.late
    peer = await run.websocket()
    frames = client_frame(message) * (MEGABYTES // (len(message) + 6))
    writing = asyncio.create_task(write_all(peer.writer, frames))
    await run.deadline_passes()
    assert not writing.done()
    [connection] = run.server.server_state.connections
    queue = getattr(connection, "_receiver")._queue  # noqa: B009  how much memory it takes is seen nowhere else
    assert len(queue) < (QUEUED + 2**20) / 6
    writing.cancel()


async def write_all(writer: asyncio.StreamWriter, data: bytes) -> None:
    for start in range(0, len(data), 65536):
        writer.write(data[start : start + 65536])
        await writer.drain()


# — pings —


async def test_pings_a_client_that_answers(run: Running) -> None:
    run.server.config.ws_ping_interval = run.server.config.ws_ping_timeout = 0.05
    peer = await run.websocket()
    for _ in range(4):
        opcode, payload = await peer.frame()
        assert (opcode, len(payload)) == (PING, 4)
        peer.write(client_frame(b"unasked", PONG) + client_frame(payload, PONG))
    run.app.websocket = saying(ACCEPT)
    assert await (await run.websocket()).frame() == closing(1000)


async def test_a_client_that_answers_no_ping_is_closed(run: Running) -> None:
    run.server.config.ws_ping_interval = run.server.config.ws_ping_timeout = 0.05
    run.app.websocket = run.app.listen
    peer = await run.websocket()
    assert (await peer.frame())[0] == PING
    assert await peer.frame() == closing(1011, b"keepalive ping timeout")
    await until(lambda: run.app.received, what="the application is told at once")
    assert run.app.received == [{"type": "websocket.disconnect", "code": 1011, "reason": "keepalive ping timeout"}]
    assert await peer.rest() == b""


async def test_without_a_timeout_pings_go_on_unanswered(run: Running) -> None:
    run.server.config.ws_ping_interval, run.server.config.ws_ping_timeout = 0.02, None
    peer = await run.websocket()
    for _ in range(4):
        assert (await peer.frame())[0] == PING


async def test_a_pong_that_we_do_not_read_is_not_missed(run: Running) -> None:
    run.server.config.ws_ping_interval = run.server.config.ws_ping_timeout = 0.25
    run.app.websocket = run.app.late
    peer = await run.websocket()
    message = b"x" * 50_000
    peer.write(client_frame(message) * 3)
    opcode, ping = await peer.frame()
    assert opcode == PING
    await run.deadline_passes()
    peer.write(client_frame(ping, PONG))
    run.app.go_on.set()
    for _ in range(3):
        assert await peer.frame() == (TEXT, message)
    opcode, ping = await peer.frame()
    assert opcode == PING


async def test_nothing_follows_the_close_frame_of_an_application_that_returned(run: Running) -> None:
    run.server.config.ws_ping_interval, run.server.config.ws_ping_timeout = 0.02, None
    run.app.websocket = saying(ACCEPT)
    peer = await run.websocket()
    assert await peer.frame() == closing(1000)
    assert await peer.rest() == b""

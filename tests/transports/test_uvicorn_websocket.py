"""Our WebSocket class for uvicorn against peers that are slow, wrong, hostile or gone."""

import asyncio
import struct
from collections.abc import Callable

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.transports.frames import FRAGMENTS
from gateway.transports.raw import QUEUED, RawConnection, raw_connection
from gateway.transports.uvicorn_websocket import CONTROL_FRAMES, peer_of
from tests.transports.sockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MEGABYTES,
    PING,
    PONG,
    TEXT,
    Peer,
    Running,
    accept,
    client_frame,
    closing,
    running,
    upgrade_request,
)
from tests.waiting import until


async def close(scope: Scope, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await send({"type": "websocket.close", "code": 3001, "reason": "shutdown"})
    await receive()


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Write more than the kernel takes, and return."""
    await accept(receive, send)
    await send({"type": "websocket.send", "bytes": bytes(MEGABYTES)})


async def flood_and_close(scope: Scope, receive: Receive, send: Send) -> None:
    await flood(scope, receive, send)
    await send({"type": "websocket.close", "code": 3001, "reason": "shutdown"})


async def never_accept(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await receive()


async def trickle(run: Running, peer: Peer, part: Callable[[], bytes]) -> None:
    """Write bit by bit, until the server has had enough."""

    def write() -> bool:
        peer.write(part())
        return run.connections() == 0

    await until(write, what="the connection is closed")


# — messages that do not end —


async def test_an_idle_websocket_stays(run: Running) -> None:
    peer = await run.websocket()
    await run.deadline_passes()
    assert await peer.echoes(b"hello")


async def test_a_pong_unasked_is_no_message(run: Running) -> None:
    peer = await run.websocket()
    peer.write(client_frame(b"", PONG))
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


@pytest.mark.parametrize(
    "part", [client_frame(b"", CONTINUATION, fin=False), client_frame(b"", PING)], ids=["fragments", "pings"]
)
async def test_neither_fragments_nor_pings_extend_the_time(run: Running, part: bytes) -> None:
    peer = await run.websocket()
    peer.write(client_frame(b"h", fin=False))
    await trickle(run, peer, lambda: part)


async def test_one_byte_at_a_time_does_not_extend_the_time(run: Running) -> None:
    peer = await run.websocket()
    data = iter(client_frame(b"x" * 60_000))
    await trickle(run, peer, lambda: bytes([next(data)]))


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
    peer.write(client_frame(b"llo", CONTINUATION))
    assert await peer.frame() == (TEXT, b"hello")
    await run.deadline_passes()
    assert await peer.echoes(b"again")


async def test_while_the_application_does_not_read_the_client_is_excused(run: Running) -> None:
    run.app.websocket = run.app.late
    peer = await run.websocket()
    message = b"x" * 60_000
    peer.write(client_frame(message) * 2 + client_frame(message)[:-1])
    await run.deadline_passes()
    run.app.go_on.set()
    assert [await peer.frame(), await peer.frame()] == [(TEXT, message)] * 2
    peer.write(client_frame(message)[-1:])
    assert await peer.frame() == (TEXT, message)


async def test_once_it_reads_again_the_time_counts(run: Running) -> None:
    run.app.websocket = run.app.late
    peer = await run.websocket()
    message = b"x" * 60_000
    peer.write(client_frame(message) * 2 + client_frame(message)[:-1])
    await run.deadline_passes()
    run.app.go_on.set()
    assert [await peer.frame(), await peer.frame()] == [(TEXT, message)] * 2
    assert await peer.frame() == closing(1008, b"message timeout")


async def test_data_ahead_of_the_handshake_is_not_waited_for_either(run: Running) -> None:
    run.app.websocket = never_accept
    peer = await run.connect()
    upgrading = asyncio.create_task(peer.upgrade())
    await until(lambda: run.app.scopes)
    peer.write(b"\x81")
    with pytest.raises(asyncio.IncompleteReadError):
        await upgrading
    await run.ended()


# — frames that must not be —


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (b"\x81\xff" + struct.pack("!Q", 65537) + bytes(4), 1009, b"message is too big"),
        (client_frame(b"\xff"), 1007, b"text is not UTF-8"),
        (b"\x81\x00", 1002, b"frame is not masked"),
        (client_frame(b"", PING) + b"\x81\x00", 1002, b"frame is not masked"),
        (client_frame(b"\x03", CLOSE), 1002, b"invalid close code"),
    ],
    ids=["too big", "not UTF-8", "unmasked", "after a ping", "bad close"],
)
async def test_a_violation_is_named_and_ends_the_connection(
    run: Running, caplog: pytest.LogCaptureFixture, sent: bytes, code: int, reason: bytes
) -> None:
    caplog.set_level("WARNING")
    run.app.websocket = run.app.listen
    peer = await run.websocket()
    peer.write(client_frame(b"before") + sent + client_frame(b"after"))
    rest = await peer.rest()
    assert struct.pack("!H", code) + reason in rest
    await run.ended()
    before, end = run.app.received
    assert before["text"] == "before"
    assert end == {"type": "websocket.disconnect", "code": code, "reason": reason.decode()}
    assert not caplog.records, "what a client does wrong is no error of the server"


@pytest.mark.parametrize(
    ("first", "each", "count"),
    [
        (client_frame(b"", fin=False), client_frame(b"", CONTINUATION, fin=False), FRAGMENTS + 1),
        (b"", client_frame(b"", PING), CONTROL_FRAMES + 1),
        (b"", client_frame(b"", PONG), CONTROL_FRAMES + 1),
    ],
    ids=["fragments", "pings", "pongs"],
)
async def test_a_flood_of_tiny_frames_ends_the_connection(run: Running, first: bytes, each: bytes, count: int) -> None:
    """Each costs as much as a message, and while they are handled nobody else is."""
    peer = await run.websocket()
    peer.write(first + each * count)
    assert b"\x03\xf0too many " in await peer.rest()


async def test_who_sends_before_it_is_answered_is_not_read_any_further() -> None:
    """A message may be as large as the server's own limit, which is no bound for somebody whom nobody has let in."""
    async with running(ws_max_size=16_777_216) as run:
        await send_before_the_answer(run)


async def send_before_the_answer(run: Running) -> None:
    async def hesitant(scope: Scope, receive: Receive, send: Send) -> None:
        await run.app.go_on.wait()
        await run.app.echo(scope, receive, send)

    run.app.websocket = hesitant
    peer = await run.connect()
    payload = bytes(10_000_000)
    peer.write(upgrade_request() + client_frame(payload, BINARY))
    await until(run.connections)
    await until(lambda: getattr(next(iter(run.server.server_state.connections)), "_held", False))
    [connection] = run.server.server_state.connections
    assert QUEUED < getattr(connection, "_parser").kept <= QUEUED + 262_144  # noqa: B009  a bound, and one read
    run.app.go_on.set()
    assert b" 101 " in await peer.head()
    assert await peer.frame() == (BINARY, payload)


async def test_what_follows_a_violation_is_thrown_away(run: Running) -> None:
    """To close with unread data would be a reset, which can overtake the close frame."""
    peer = await run.websocket()
    peer.write(b"\x81\x00")
    assert await peer.frame() == closing(1002, b"frame is not masked")
    for _ in range(100):
        peer.write(client_frame(b"x" * 1000))
        await peer.writer.drain()
    assert await peer.rest() == b""
    await run.ended()
    assert [message["type"] for message in run.app.received] == ["websocket.disconnect"]


# — closing —


async def test_closing_is_answered(run: Running) -> None:
    peer = await run.websocket()
    peer.write(client_frame(struct.pack("!H", 4001) + b"lunch", CLOSE))
    assert await peer.frame() == closing(4001)
    assert await peer.rest() == b""
    await run.ended()
    assert run.app.received == [{"type": "websocket.disconnect", "code": 4001, "reason": "lunch"}]


async def test_closing_without_a_code_is_answered_without_one(run: Running) -> None:
    peer = await run.websocket()
    peer.write(client_frame(b"", CLOSE))
    assert await peer.frame() == (CLOSE, b"")
    await run.ended()
    assert run.app.received == [{"type": "websocket.disconnect", "code": 1005, "reason": ""}]


async def test_our_close_is_answered_and_ends(run: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    run.app.websocket = close
    peer = await run.websocket()
    assert await peer.frame() == closing(3001, b"shutdown")
    peer.write(client_frame(b"late") + client_frame(b"", PING) + client_frame(struct.pack("!H", 3001), CLOSE))
    assert await peer.rest() == b"", "nothing follows a close frame"


@pytest.mark.parametrize("late", [b"", b"\x81", client_frame(b"late")], ids=["nothing", "half", "a message"])
async def test_a_close_that_is_not_answered_ends(run: Running, late: bytes) -> None:
    run.app.websocket = close
    peer = await run.websocket()
    peer.write(late)
    assert await peer.frame() == closing(3001, b"shutdown")
    assert await peer.rest() == b""
    await run.ended()


@pytest.mark.parametrize("app", [flood, flood_and_close])
@pytest.mark.parametrize("sent", [b"", client_frame(struct.pack("!H", 1000), CLOSE)], ids=["silent", "closing"])
async def test_a_peer_that_never_reads_does_not_hold_up_the_closing(run: Running, app: ASGIApp, sent: bytes) -> None:
    run.app.websocket = app
    peer = await run.websocket()
    peer.stop_reading()
    peer.write(sent)
    await run.ended()


async def test_half_a_connection_is_none(run: Running) -> None:
    peer = await run.websocket()
    peer.write(client_frame(b"last words"))
    peer.writer.write_eof()
    assert (await peer.rest()).endswith(b"last words")
    await run.ended()
    assert run.app.received[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


async def test_half_a_connection_that_never_reads_ends(run: Running) -> None:
    run.app.websocket = flood
    peer = await run.websocket()
    peer.stop_reading()
    peer.writer.write_eof()
    await run.ended()


async def test_a_peer_may_vanish(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    peer = await run.websocket()
    peer.reset()
    await run.ended()
    assert run.app.received == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]
    assert not caplog.records


async def test_the_application_can_drop_a_connection(run: Running) -> None:
    waited: list[int] = []

    async def drop(scope: Scope, receive: Receive, send: Send) -> None:
        await flood(scope, receive, send)
        connection: RawConnection = raw_connection(scope)
        waited.append(connection.waiting())
        connection.abort()

    run.app.websocket = drop
    peer = await run.websocket()
    peer.stop_reading()
    await run.ended()
    assert waited[0] > 0


# — what is logged —


async def test_urls_are_logged_without_their_query(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    peer = await run.websocket("/news?token=secret")
    assert await peer.echoes(b"hello")
    assert "secret" not in caplog.text
    assert '"WebSocket /news" [accepted]' in caplog.text


async def test_a_url_cannot_forge_a_line_of_the_log(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await run.websocket("/x%0aERROR%20all%20is%20lost")
    assert run.app.scopes[0]["path"] == "/x\nERROR all is lost"
    assert "\nERROR" not in caplog.text
    assert "/x%0AERROR%20all" in caplog.text


@pytest.mark.parametrize(
    ("told", "client"),
    [(("10.0.0.1", 5), ("10.0.0.1", 5)), (("::1", 5, 0, 0), ("::1", 5)), ("", None), (None, None)],
    ids=["IPv4", "IPv6", "Unix socket", "gone"],
)
def test_where_a_client_is_as_its_transport_tells_it(told: object, client: object) -> None:
    assert peer_of(asyncio.BaseTransport({"peername": told})) == client

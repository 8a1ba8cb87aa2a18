"""Attaching to a connection below ASGI: nothing lost, nothing reordered, nothing told twice."""

import asyncio
import socket
import struct

import pytest
from starlette.types import Receive, Scope, Send

from gateway.transports.frames import TEXT, TOO_BIG, frame
from gateway.transports.raw import QUEUED, RawConnection, raw_connection
from gateway.transports.sipping import SIP
from gateway.transports.uvicorn_websocket import CompressingWebSocketProtocol
from tests.transports.sockets import BINARY, CLOSE, MEGABYTES, PING, PONG, Peer, Running, client_frame, closing, running
from tests.waiting import until


class Recorder:
    """A receiver that writes down what it hears, and echoes."""

    def __init__(self, connection: RawConnection) -> None:
        self.connection = connection
        self.messages: list[bytes] = []
        self.events: list[object] = []
        self.pongs: list[bytes] = []
        self.reads: list[int] = []
        """Bytes of each take."""

    def take(self, messages: list[tuple[int, bytes]]) -> None:
        assert self.losses == [], "nothing comes after the end"
        self.reads.append(sum(len(payload) for _, payload in messages))
        for opcode, payload in messages:
            self.messages.append(payload)
            self.connection.write(frame(opcode, payload))
            if payload == b"close":
                self.connection.close(3001, "shutdown")

    def pause(self) -> None:
        self.events.append("pause")

    def resume(self) -> None:
        self.events.append("resume")

    def hear_pong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def drain(self) -> None:
        self.events.append("drain")
        self.connection.close(3001, "shutdown")

    def breach(self, code: int, reason: str) -> None:
        """It is lost next."""

    def lose(self, code: int, reason: str) -> None:
        self.events.append((code, reason))

    @property
    def losses(self) -> list[object]:
        return [event for event in self.events if isinstance(event, tuple)]


class Attaching:
    """An application that accepts, waits for the test, attaches a receiver and returns."""

    def __init__(self, run: Running) -> None:
        self.run = run
        self.recorders: list[Recorder] = []
        self.first: bytes | None = None
        """What to write before it attaches."""
        self.limit = MEGABYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if self.first is not None:
            await send({"type": "websocket.send", "bytes": self.first})
        await self.run.app.go_on.wait()
        connection = raw_connection(scope)
        recorder = Recorder(connection)
        self.recorders.append(recorder)
        connection.attach(recorder, self.limit)

    async def attach(self) -> Recorder:
        """Let it go on."""
        self.run.app.go_on.set()
        await until(lambda: self.recorders and not self.run.server.server_state.tasks)
        return self.recorders[-1]


@pytest.fixture
def app(run: Running) -> Attaching:
    run.app.websocket = app = Attaching(run)
    return app


@pytest.fixture
async def peer(run: Running, app: Attaching) -> Peer:
    return await run.websocket()


async def arrived(run: Running, count: int) -> None:
    """So many messages wait for the application."""
    [connection] = run.server.server_state.connections
    queue = getattr(connection, "_receiver")._queue  # noqa: B009  that they have come is seen nowhere else
    await until(lambda: len(queue) >= count)


async def test_the_connection_outlives_the_application(run: Running, app: Attaching, peer: Peer) -> None:
    recorder = await app.attach()
    await run.deadline_passes()
    assert await peer.echoes(b"hello")
    peer.write(client_frame(b"", PING))
    assert await peer.frame() == (PONG, b"")
    peer.write(client_frame(b"\xff", BINARY) + client_frame(b"here", PONG))
    assert await peer.frame() == (BINARY, b"\xff")
    assert recorder.pongs == [b"here"]
    peer.write(client_frame(struct.pack("!H", 4001) + b"lunch", CLOSE))
    assert await peer.frame() == closing(4001)
    await run.ended()
    assert recorder.messages == [b"hello", b"\xff"]
    assert recorder.events == [(4001, "lunch")]


async def test_what_came_before_is_not_lost(run: Running, app: Attaching, peer: Peer) -> None:
    before = [client_frame(b"%d" % number, TEXT if number % 2 else BINARY) for number in range(100)]
    peer.write(b"".join(before))
    await arrived(run, 100)
    peer.write(client_frame("hälfte".encode())[:-1])
    recorder = await app.attach()
    peer.write(client_frame("hälfte".encode())[-1:] + client_frame(b"last"))
    await until(lambda: len(recorder.messages) == 102)
    assert recorder.messages == [b"%d" % number for number in range(100)] + ["hälfte".encode(), b"last"]
    assert await peer.frame() == (BINARY, b"0")
    assert await peer.frame() == (TEXT, b"1")


async def test_messages_are_limited_from_then_on(run: Running, app: Attaching, peer: Peer) -> None:
    app.limit = 1000
    recorder = await app.attach()
    assert await peer.echoes(b"x" * 1000)
    peer.write(client_frame(b"x" * 1001)[:14])
    assert await peer.frame() == closing(TOO_BIG, b"message is too big")
    await run.ended()
    assert recorder.losses == [(TOO_BIG, "message is too big")]


@pytest.mark.parametrize("end", [-2, None], ids=["part of it", "all of it"])
async def test_what_came_before_is_limited_too(run: Running, app: Attaching, peer: Peer, end: int | None) -> None:
    app.limit = 1000
    peer.write(client_frame(b"fits") + client_frame(b"x" * 1001)[:end] + (b"" if end else client_frame(b"late")))
    await arrived(run, 1 if end else 3)
    recorder = await app.attach()
    peer.write(client_frame(b"x")[:1])
    assert await peer.frame() == (TEXT, b"fits")
    assert await peer.frame() == closing(TOO_BIG, b"message is too big")
    await run.ended()
    assert recorder.messages == [b"fits"]
    assert recorder.losses == [(TOO_BIG, "message is too big")]


async def test_the_servers_own_limit_stays_if_it_is_lower(run: Running, app: Attaching, peer: Peer) -> None:
    await app.attach()
    peer.write(client_frame(b"x" * 65537)[:14])
    assert await peer.frame() == closing(TOO_BIG, b"message is too big")


async def test_who_is_closed_over_what_came_before_too_much(run: Running, app: Attaching, peer: Peer) -> None:
    app.limit = 1000
    peer.write(client_frame(b"close") + client_frame(b"x" * 1001))
    await arrived(run, 2)
    recorder = await app.attach()
    assert await peer.frame() == (TEXT, b"close")
    assert await peer.frame() == closing(3001, b"shutdown")
    peer.write(client_frame(struct.pack("!H", 3001), CLOSE))
    await run.ended()
    assert recorder.losses == [(3001, "")]


async def test_who_left_after_too_much_is_lost_once(run: Running, app: Attaching, peer: Peer) -> None:
    app.limit = 1000
    peer.write(client_frame(b"x" * 1001) + client_frame(struct.pack("!H", 1000), CLOSE))
    assert await peer.frame() == closing(1000)
    await until(lambda: not run.connections())
    recorder = await app.attach()
    assert recorder.messages == []
    assert recorder.losses == [(1000, "")]


async def test_a_connection_that_was_held_is_read_again(run: Running, app: Attaching, peer: Peer) -> None:
    message = b"x" * 50_000
    peer.write(client_frame(message) * 3)
    await arrived(run, 2)
    recorder = await app.attach()
    await until(lambda: len(recorder.messages) == 3)
    for _ in range(3):
        await peer.frame()
    assert await peer.echoes(b"and on")


async def test_who_left_before_is_lost_with_its_last_words(run: Running, app: Attaching, peer: Peer) -> None:
    peer.write(client_frame(b"bye") + client_frame(struct.pack("!H", 4001) + b"lunch", CLOSE))
    assert await peer.frame() == closing(4001)
    assert await peer.rest() == b""
    await until(lambda: not run.connections())
    recorder = await app.attach()
    assert recorder.messages == [b"bye"]
    assert recorder.events == [(4001, "lunch")]


async def test_who_is_just_leaving_is_lost_once(run: Running, app: Attaching, peer: Peer) -> None:
    peer.stop_reading()
    [connection] = run.server.server_state.connections
    getattr(connection, "write")(bytes(MEGABYTES))  # noqa: B009  so that closing takes its time
    peer.write(client_frame(struct.pack("!H", 1000), CLOSE))
    await until(lambda: getattr(connection, "state").name == "CLOSING")  # noqa: B009
    recorder = await app.attach()
    await run.ended()
    assert recorder.losses == [(1000, "")]


async def test_a_slow_client_is_known_as_slow(run: Running, app: Attaching) -> None:
    app.first = bytes(MEGABYTES)
    peer = await run.websocket()
    peer.stop_reading()
    recorder = await app.attach()
    assert recorder.events == ["pause"]
    assert recorder.connection.waiting() > 0
    peer.read_on()
    assert await peer.frame() == (BINARY, app.first)
    await until(lambda: recorder.events == ["pause", "resume"])
    assert recorder.connection.waiting() == 0
    peer.stop_reading()
    recorder.connection.write(frame(BINARY, bytes(MEGABYTES)))
    await until(lambda: recorder.events == ["pause", "resume", "pause"])
    recorder.connection.abort()
    await run.ended()
    assert recorder.losses == [(1006, "")]


async def test_little_is_read_if_so_wished(run: Running, app: Attaching, peer: Peer) -> None:
    recorder = await app.attach()
    recorder.connection.sip()
    recorder.connection.sip()
    sent = [b"%04d" % number * 250 for number in range(500)]
    peer.write(b"".join(client_frame(each) for each in sent))
    await until(lambda: sum(recorder.reads) > QUEUED - SIP and getattr(recorder.connection, "_held"))  # noqa: B009
    assert max(recorder.reads) < SIP + 1000
    assert sum(recorder.reads) < QUEUED + SIP
    recorder.connection.go_on()
    await until(lambda: len(recorder.messages) == 500)
    assert recorder.messages == sent
    assert max(recorder.reads) > SIP + 1000
    for each in sent:
        assert (await peer.frame())[1] == each
    recorder.connection.sip()
    peer.write(client_frame(struct.pack("!H", 1000), CLOSE))
    await run.ended()
    assert recorder.losses == [(1000, "")]
    recorder.connection.go_on()
    recorder.connection.sip()


async def test_reading_is_held_and_little_at_the_same_time(run: Running, app: Attaching, peer: Peer) -> None:
    recorder = await app.attach()
    recorder.connection.hold()
    recorder.connection.sip()
    peer.write(client_frame(b"hello"))
    await run.deadline_passes()
    assert recorder.messages == []
    recorder.connection.go_on()
    assert await peer.frame() == (TEXT, b"hello")


async def test_what_happens_is_told_while_little_is_read(run: Running, app: Attaching) -> None:
    peer = await run.websocket()
    peer.stop_reading()
    recorder = await app.attach()
    recorder.connection.sip()
    recorder.connection.write(frame(BINARY, bytes(MEGABYTES)))
    await until(lambda: recorder.events == ["pause"])
    peer.read_on()
    assert await peer.frame() == (BINARY, bytes(MEGABYTES))
    await until(lambda: recorder.events == ["pause", "resume"])
    peer.writer.write_eof()
    await run.ended()
    assert recorder.losses == [(1006, "")]


async def test_the_kernel_gives_up_no_slow_reader(run: Running, app: Attaching) -> None:
    peer = await run.websocket()
    peer.stop_reading()
    recorder = await app.attach()
    sock = getattr(recorder.connection, "transport").get_extra_info("socket")  # noqa: B009
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0
    recorder.connection.write(frame(BINARY, bytes(MEGABYTES)))
    await until(lambda: recorder.events == ["pause"])
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
    recorder.connection.abort()


async def test_pings_of_one_who_reads_slowly_are_answered_once(run: Running, app: Attaching) -> None:
    """They are no offence, as they once were, and their pongs do not pile up: RFC 6455 asks for the latest."""
    app.first = bytes(MEGABYTES)
    peer = await run.websocket()
    peer.stop_reading()
    recorder = await app.attach()
    waiting = recorder.connection.waiting()
    for number in range(200):
        peer.write(client_frame(b"%d" % number, PING))
    peer.write(client_frame(b"and a message"))
    await until(lambda: recorder.messages)
    assert recorder.connection.waiting() <= waiting + 100
    peer.read_on()
    assert await peer.frame() == (BINARY, app.first)
    answers = {await peer.frame(), await peer.frame()}
    assert answers == {(PONG, b"199"), (TEXT, b"and a message")}
    recorder.connection.abort()
    await run.ended()


async def test_unread_is_what_the_peer_has_not_taken(run: Running, app: Attaching) -> None:
    peer = await run.websocket()
    recorder = await app.attach()
    connection = recorder.connection
    await until(lambda: not connection.unread())
    peer.stop_reading()
    connection.write(frame(BINARY, bytes(MEGABYTES)))
    assert connection.unread() > connection.waiting() > 0
    before = connection.unread()
    peer.read_on()
    await peer.frame()
    await until(lambda: not connection.unread())
    assert before > 0
    connection.abort()
    await run.ended()
    assert connection.unread() == 0


async def test_held_reading_goes_on(run: Running, app: Attaching, peer: Peer) -> None:
    recorder = await app.attach()
    recorder.connection.hold()
    recorder.connection.hold()
    peer.write(client_frame(b"hello"))
    await run.deadline_passes()
    assert recorder.messages == []
    recorder.connection.go_on()
    recorder.connection.go_on()
    await until(lambda: recorder.messages == [b"hello"])


async def test_half_a_message_is_excused_while_we_do_not_read(run: Running, app: Attaching, peer: Peer) -> None:
    recorder = await app.attach()
    peer.write(client_frame(b"whole") + client_frame(b"half")[:-1])
    assert await peer.frame() == (TEXT, b"whole")
    recorder.connection.hold()
    await run.deadline_passes()
    recorder.connection.go_on()
    peer.write(client_frame(b"half")[-1:])
    assert await peer.frame() == (TEXT, b"half")


async def test_half_a_message_is_waited_for_again_when_we_read_again(run: Running, app: Attaching, peer: Peer) -> None:
    recorder = await app.attach()
    peer.write(client_frame(b"whole") + client_frame(b"half")[:-1])
    assert await peer.frame() == (TEXT, b"whole")
    recorder.connection.hold()
    recorder.connection.go_on()
    assert await peer.frame() == closing(1008, b"message timeout")
    assert recorder.events == [(1008, "message timeout")]


async def test_closing_ends_although_the_peer_does_not_answer(run: Running, app: Attaching, peer: Peer) -> None:
    recorder = await app.attach()
    recorder.connection.hold()
    recorder.connection.close(3001, "shutdown")
    recorder.connection.close(4001, "too late")
    peer.write(client_frame(b"too late"))
    assert await peer.frame() == closing(3001, b"shutdown")
    assert await peer.rest() == b""
    assert recorder.events == [(1006, "")]
    assert recorder.messages == []


async def test_closing_ends_with_the_answer_of_the_peer(run: Running, app: Attaching, peer: Peer) -> None:
    recorder = await app.attach()
    recorder.connection.hold()
    recorder.connection.close(3001, "shutdown")
    assert await peer.frame() == closing(3001, b"shutdown")
    peer.write(client_frame(struct.pack("!H", 3001), CLOSE))
    await run.ended()
    assert recorder.events == [(3001, "")]


async def test_a_violation_ends_in_its_code(run: Running, app: Attaching, peer: Peer) -> None:
    recorder = await app.attach()
    peer.write(client_frame(b"fine") + b"\x81\x00")
    await peer.rest()
    await run.ended()
    assert recorder.messages == [b"fine"]
    assert recorder.events == [(1002, "frame is not masked")]


async def test_stopping_drains_whoever_has_the_connection(
    run: Running, app: Attaching, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon: list[float] = []

    def uniform(_least: float, _most: float) -> float:
        soon.append(0.1)
        return 0.1

    monkeypatch.setattr("gateway.transports.uvicorn_websocket.random.uniform", uniform)
    run.stop()
    await until(lambda: soon)
    recorder = await app.attach()
    assert await peer.frame() == closing(3001, b"shutdown")
    peer.write(client_frame(struct.pack("!H", 3001), CLOSE))
    await run.ended()
    assert recorder.events == ["drain", (3001, "")]


async def test_others_of_the_application_hear_that_the_connection_is_no_longer_theirs(run: Running) -> None:
    heard: list[object] = []

    async def hand_over_amid(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(MEGABYTES)})
        receiving = asyncio.ensure_future(receive())
        sending = asyncio.ensure_future(send({"type": "websocket.send", "text": "late"}))
        await asyncio.sleep(0)
        connection = raw_connection(scope)
        connection.attach(Recorder(connection), MEGABYTES)
        with pytest.raises(RuntimeError, match="handed over before"):
            connection.attach(Recorder(connection), MEGABYTES)
        heard.extend(await asyncio.gather(receiving, sending, return_exceptions=True))

    run.app.websocket = hand_over_amid
    peer = await run.websocket()
    peer.stop_reading()
    await until(lambda: heard)
    assert heard[0] == {"type": "websocket.disconnect", "code": 1000, "reason": "handed over"}
    assert isinstance(heard[1], OSError)


async def test_pings_of_the_server_end_with_the_handing_over(run: Running, app: Attaching) -> None:
    run.server.config.ws_ping_interval = run.server.config.ws_ping_timeout = 0.02
    peer = await run.websocket()
    assert (await peer.frame())[0] == PING
    await app.attach()
    await run.deadline_passes()
    peer.write(client_frame(b"hello"))
    while (received := await peer.frame())[0] == PING:
        pass
    assert received == (TEXT, b"hello")


async def test_says_how_messages_may_be_compressed() -> None:
    async with running(ws=CompressingWebSocketProtocol) as run:
        run.app.websocket = app = Attaching(run)
        run.app.go_on.set()
        await run.websocket()
        await run.websocket("/", b"Sec-WebSocket-Extensions: permessage-deflate")
        await until(lambda: len(app.recorders) == 2)
        plain, compressed = (recorder.connection.compression for recorder in app.recorders)
        assert plain is None
        assert compressed is not None


def test_other_servers_offer_nothing() -> None:
    assert raw_connection({}) is None
    assert raw_connection({"extensions": None}) is None
    assert raw_connection({"extensions": {}}) is None
